"""What zenoh is told: whom to dial, whom to let in, for what.

    topology   an edge of it    sessions                                dials
    mesh       every edge       1, mode peer                            members with a lower id, and all if it does
                                                                        not listen itself
    relay      a relay          1, mode router                          relays with a lower id
               any other        2, mode client, each to another relay   its relay, and the others if that one fails

Keys are made of edge ids, and links are admitted by the common name of the neighbour's certificate, which is the id:

    purge/E       E's records          put by E alone; through a relay, whatever it passes on: the signature binds
    digest/E      E's digests          the same
    ack/T/E       E's acks to T        the same
    sync/E/log    what E is asked      queries by any member
    sync/E/counts

Not here: sessions (`zenoh_sessions.py`), certificates (`authority.py`). The figures were measured with zenoh 1.10.2.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from banish.errors import ConfigError
from banish.mesh.authority import Certified, check
from banish.mesh.endpoints import ENDPOINTS_MAX, Endpoint, bind, parse_endpoint
from banish.mesh.members import Member
from banish.mesh.messages import MESSAGE_BYTES_MAX

RELAYS_MAX = 8
"""Relays of one mesh. More of them can send a message in circles while their views of it differ (measured)."""

CLIENT_SESSIONS = 2
"""Of an edge that is no relay: what one relay loses when it stops comes by the other."""

PART_BYTES_MAX = 2 * MESSAGE_BYTES_MAX
"""Of one message on the wire: ours, and room for a header. zenoh's default of 1 GiB is a hole in memory."""

SESSIONS_MAX = 5000
"""Links of one edge."""

LEASE_MS = 5000
"""A link over which nothing comes is closed: four keep-alives in it."""

LEASE_LARGE_MS = 10_000
"""The same where more than `LARGE` edges may share little CPU: shorter ones flapped (measured)."""

LARGE = 60

_ID = re.compile("[0-9a-f]{16}")

WAIT_BEFORE_DROP_US = 50_000
"""How long one put waits for a peer that does not read. With the default, 1 ms, bursts of 5000 lost some (measured)."""

WAIT_BEFORE_CLOSE_US = 500_000
"""How long a query or reply waits for such a peer. Then the link is closed."""


class Topology(StrEnum):
    """How the edges of a mesh are linked."""

    MESH = "mesh"
    """Each with each: up to about fifty."""
    RELAY = "relay"
    """Through two to eight of them, which are linked each with each: hundreds."""


class Credentials(NamedTuple):
    """The files that an edge shows who it is with. Read anew at each opening."""

    authority: Path
    certificate: Path
    key: Path

    def check(self, me: Member, now: float) -> float:
        """Until when this edge can use them. Raises ConfigError."""
        try:
            certified = Certified(self.certificate.read_bytes(), self.key.read_bytes())
            return check(certified, self.authority.read_bytes(), me.edge, me.endpoints, now)
        except OSError as error:
            raise ConfigError(f"a certificate of the mesh cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Wiring:
    """All that decides how an edge is linked.

    Raises ConfigError if this edge cannot be so. What is told of others cannot do that: an endpoint of theirs that
    cannot be used is not dialled.
    """

    me: Member
    members: tuple[Member, ...]
    """This edge may be among them."""
    topology: Topology = Topology.MESH
    credentials: Credentials | None = None
    """None: in the clear, on this machine alone."""
    listen: tuple[str, ...] = ()
    """Where to listen, if not as the endpoints say: every address of the machine, those of loopback excepted."""
    reach: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of members → where this edge reaches them, if not where they say: another side of a NAT, a private way."""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.me.edge):
            raise ConfigError(f'"{self.me.edge}" is no id of an edge')
        for text in (*self.me.endpoints, *self.listen):
            endpoint = parse_endpoint(text)
            if fault := self._fault(endpoint):
                raise ConfigError(f"{text} {fault}")
        if self.topology is Topology.RELAY and not self.relays:
            raise ConfigError("topology relay: none of the members is a relay; invite one with --relay")

    def _fault(self, endpoint: Endpoint) -> str:
        """Why it cannot be used here; empty if it can."""
        if endpoint.protocol == "tls":
            return (
                "needs certificates, and there are none: banish mesh init makes them"
                if self.credentials is None
                else ""
            )
        if not endpoint.loopback:
            return "is in the clear, and not on loopback: use tls/, and banish mesh init"
        return "" if self.credentials is None else "is in the clear, and this mesh has certificates: use tls/"

    def dialled(self, member: Member) -> list[str]:
        """Where a member can be dialled."""
        found = []
        for text in self.reach.get(member.name, member.endpoints)[:ENDPOINTS_MAX]:
            with contextlib.suppress(ConfigError):
                if not self._fault(endpoint := parse_endpoint(text)):
                    found.append(endpoint.text)
        return found

    @property
    def relays(self) -> tuple[Member, ...]:
        """Those that pass on what others publish; none in topology `mesh`."""
        if self.topology is not Topology.RELAY:
            return ()
        return tuple(member for member in self.everybody if member.relay)[:RELAYS_MAX]

    @property
    def everybody(self) -> tuple[Member, ...]:
        """All members, this edge among them, by id."""
        return tuple(sorted({member.edge: member for member in (*self.members, self.me)}.values(), key=_by_id))

    @property
    def ids(self) -> frozenset[str]:
        """Of all members."""
        return frozenset(member.edge for member in self.everybody)

    @property
    def others(self) -> tuple[Member, ...]:
        """All other members, by id."""
        return tuple(member for member in self.everybody if member.edge != self.me.edge)

    @property
    def linkable(self) -> tuple[Member, ...]:
        """Those with whom there may be a link: all, or relays and, for a relay, those that it serves."""
        if self.topology is Topology.MESH or self.me in self.relays:
            return self.others
        return self.relays

    def sessions(self, zids: Iterable[str]) -> list[dict[str, Any]]:
        """The configuration of each session to be opened: paths and values. Each takes one of `zids`."""
        return [{"id": zid, **how, **self._common()} for zid, how in zip(zids, self._linked(), strict=False)]

    def _linked(self) -> list[dict[str, Any]]:
        """Mode, and whom to listen to and dial, of each session."""
        if self.topology is Topology.MESH:
            dialled = [one for one in self.others if one.edge < self.me.edge or not self.me.endpoints]
            return [self._session("peer", dialled)]
        if self.me in self.relays:
            return [self._session("router", [one for one in self.relays if one.edge < self.me.edge])]
        near = sorted(self.relays, key=lambda relay: _distance(self.me.edge, relay.edge))
        turns = range(min(CLIENT_SESSIONS, len(near)))
        return [self._session("client", near[turn:] + near[:turn]) for turn in turns]

    def _session(self, mode: str, dial: Iterable[Member]) -> dict[str, Any]:
        return {
            "mode": mode,
            "listen/endpoints": [] if mode == "client" else self._listening(),
            "connect/endpoints": [text for member in dial for text in self.dialled(member)],
        }

    def _listening(self) -> list[str]:
        if self.listen:
            return list(self.listen)
        return list(dict.fromkeys(bind(parse_endpoint(text)).text for text in self.me.endpoints))

    def _common(self) -> dict[str, Any]:
        large = len(self.everybody) > LARGE and self.topology is Topology.MESH
        told: dict[str, Any] = {
            "connect/timeout_ms": -1,
            "connect/exit_on_failure": False,
            "connect/retry": {"period_init_ms": 300, "period_max_ms": 4000, "period_increase_factor": 2},
            "scouting/multicast/enabled": False,
            "scouting/gossip/enabled": self.me in self.relays,
            "routing/interests/timeout": 60_000,
            "adminspace/enabled": False,
            "timestamping/enabled": False,
            "transport/shared_memory/enabled": False,
            "transport/unicast/max_sessions": SESSIONS_MAX,
            "transport/unicast/accept_pending": 1000,
            "transport/unicast/open_timeout": 4000,
            "transport/unicast/accept_timeout": 4000,
            "transport/unicast/compression/enabled": False,
            "transport/link/protocols": ["tcp" if self.credentials is None else "tls"],
            "transport/link/tx/lease": LEASE_LARGE_MS if large else LEASE_MS,
            "transport/link/tx/keep_alive": 4,
            "transport/link/tx/queue/size/real_time": 16,
            "transport/link/tx/queue/congestion_control/drop/wait_before_drop": WAIT_BEFORE_DROP_US,
            "transport/link/tx/queue/congestion_control/block/wait_before_close": WAIT_BEFORE_CLOSE_US,
            "transport/link/rx/max_message_size": PART_BYTES_MAX,
        }
        if self.credentials is not None:
            told["transport/link/tls"] = _tls(self.credentials)
            told["access_control"] = access_control(self.me, self.everybody, self.relays)
        return told


def _by_id(member: Member) -> str:
    return member.edge


def _distance(edge: str, relay: str) -> bytes:
    """Rendezvous: clients spread over the relays, and keep theirs when another joins or goes."""
    return hashlib.blake2b(f"{edge} {relay}".encode(), digest_size=8).digest()


def _tls(credentials: Credentials) -> dict[str, Any]:
    certificate, key = str(credentials.certificate.resolve()), str(credentials.key.resolve())
    return {
        "root_ca_certificate": str(credentials.authority.resolve()),
        "enable_mtls": True,
        "verify_name_on_connect": True,
        "close_link_on_expiration": True,
        "listen_certificate": certificate,
        "listen_private_key": key,
        "connect_certificate": certificate,
        "connect_private_key": key,
    }


def access_control(me: Member, everybody: Sequence[Member], relays: Sequence[Member]) -> dict[str, Any]:
    """Who may send what over a link with this edge: nothing, unless it says so here."""
    to = "*" if me in relays else me.edge
    rules: list[dict[str, Any]] = [
        _rule("subscribe", ["declare_subscriber"], ["ingress", "egress"], ["purge/**", "digest/**", "ack/**"]),
        _rule("out", ["put"], ["egress"], ["purge/**", "digest/**", "ack/**"]),
        _rule("sync", ["query", "reply", "declare_queryable"], ["ingress", "egress"], ["sync/**"]),
        _rule("relayed", ["put"], ["ingress"], ["purge/**", "digest/**", f"ack/{to}/**"]),
    ]
    subjects: list[dict[str, Any]] = [{"id": "members", "cert_common_names": [one.edge for one in everybody]}]
    policies: list[dict[str, Any]] = [{"rules": ["subscribe", "out", "sync"], "subjects": ["members"]}]
    if relays:
        subjects.append({"id": "relays", "cert_common_names": [one.edge for one in relays]})
        policies.append({"rules": ["relayed"], "subjects": ["relays"]})
    for one in everybody:
        if one not in relays and one != me:
            name = f"of-{one.edge}"
            keys = [f"purge/{one.edge}", f"digest/{one.edge}", f"ack/{to}/{one.edge}"]
            rules.append(_rule(name, ["put"], ["ingress"], keys))
            subjects.append({"id": name, "cert_common_names": [one.edge]})
            policies.append({"rules": [name], "subjects": [name]})
    return {
        "enabled": True,
        "default_permission": "deny",
        "rules": rules,
        "subjects": subjects,
        "policies": policies,
    }


def _rule(name: str, messages: list[str], flows: list[str], keys: list[str]) -> dict[str, Any]:
    return {"id": name, "messages": messages, "flows": flows, "permission": "allow", "key_exprs": keys}


def as_json(told: Mapping[str, Any]) -> dict[str, str]:
    """The values as zenoh takes them."""
    return {path: json.dumps(value) for path, value in told.items()}
