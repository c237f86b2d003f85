"""What zenoh is told: whom to dial, whom to let in, for what.

    topology   an edge    sessions                                dials
    mesh       every one  1, mode peer                            members with a lower id; all, if it does not listen,
                                                                  or nobody comes
    relay      a relay    1, mode router                          nobody
               every one  1 for each relay but itself, mode client   that relay

A relay passes on what its clients publish, to its clients, and to nobody else: relays are no clients of each other's
routers, so a message cannot go in circles, and it comes by every relay once. Whatever one relay loses comes by another
(docs/adr/0015).

Keys are made of edge ids, and links are admitted by the common name of the neighbour's certificate, which is the id:

    purge/E       E's records          put by E alone; through a relay, whatever it passes on: the signature binds
    digest/E      E's digests          the same
    ack/T/E       E's acks to T        the same
    sync/E/log    what E is asked      queries by any member
    sync/E/counts
    sync/E/hello

An edge that was forgotten may say one thing, its digest, and hear one, the acks to it: so it learns what has become of
it (PURGE rule 25), and nothing else.

Not here: sessions (`zenoh_sessions.py`), certificates (`authority.py`). The figures were measured with zenoh 1.10.2.
"""

import contextlib
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

RELAYS_MAX = 4
"""Relays of one mesh: every message comes by each of them."""

PART_BYTES_MAX = 2 * MESSAGE_BYTES_MAX
"""Of one message on the wire: ours, and room for a header. zenoh's default of 1 GiB is a hole in memory."""

FORGOTTEN_MAX = 256
"""Edges that were forgotten, and are let in to be told so."""

SESSIONS_MAX = 5000
"""Links of one edge."""

DIAL_MS = 1000
"""How long a client tries at once to reach its relay. The others come back from an opening at once, and dial behind."""

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
    """Each with two to four of them, which pass on what it says: hundreds."""


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
    forgotten: tuple[str, ...] = ()
    """Ids of edges that belong no more."""
    dials_all: bool = False
    """Whether it dials those, too, who ought to dial it. Who is linked already turns a second link away."""

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

    def sessions(self) -> list["Session"]:
        """What is to be opened."""
        if self.topology is Topology.MESH:
            every = self.dials_all or not self.me.endpoints
            dialled = tuple(one for one in self.others if every or one.edge < self.me.edge)
            return [Session(self, "peer", dialled, self.others)]
        routing = [Session(self, "router", (), self.others)] if self.me in self.relays else []
        return [*routing, *(Session(self, "client", (one,), (one,)) for one in self.relays if one != self.me)]

    @property
    def listening(self) -> tuple[str, ...]:
        """Where this edge listens, if it does."""
        if self.listen:
            return self.listen
        return tuple(dict.fromkeys(bind(parse_endpoint(text)).text for text in self.me.endpoints))


@dataclass(frozen=True, slots=True)
class Session:
    """One session of an edge."""

    wiring: Wiring
    mode: str
    """`peer`, `router` or `client`."""
    dials: tuple[Member, ...]
    near: tuple[Member, ...]
    """Who may be at the other end of a link."""

    def config(self, zid: str) -> dict[str, Any]:
        """What zenoh is told: paths and values."""
        wiring = self.wiring
        told = {
            "id": zid,
            "mode": self.mode,
            "listen/endpoints": [] if self.mode == "client" else wiring.listening,
            "connect/endpoints": [text for member in self.dials for text in wiring.dialled(member)],
            "connect/timeout_ms": DIAL_MS if self.mode == "client" else -1,
            "transport/link/protocols": ["tcp" if wiring.credentials is None else "tls"],
            "transport/link/tx/lease": LEASE_LARGE_MS if len(self.near) > LARGE else LEASE_MS,
            **_ALWAYS,
        }
        if wiring.credentials is not None:
            told["transport/link/tls"] = _tls(wiring.credentials)
            told["access_control"] = self.access_control()
        return told

    def access_control(self) -> dict[str, Any]:
        """Who may send what over its links: nothing, unless it says so here."""
        me, everything = self.wiring.me.edge, ["purge/**", "digest/**", "ack/**"]
        grants = [
            _Grant("members", self.near, "say", ["put"], ["egress"], everything),
            _Grant("members", self.near, "listen", ["declare_subscriber"], ["ingress", "egress"], everything),
            _Grant("members", self.near, "ask", _ASKING, ["ingress", "egress"], ["sync/**"]),
        ]
        if self.mode == "client":  # the relay says what others have said to it: the signature binds
            heard = ["purge/**", "digest/**", f"ack/{me}/**"]
            grants.append(_Grant("relay", self.near, "relay", ["put"], ["ingress"], heard))
            return _as_rules(grants)
        to = "*" if self.mode == "router" else me
        for one in self.near:
            said = [f"purge/{one.edge}", f"digest/{one.edge}", f"ack/{to}/{one.edge}"]
            grants.append(_Grant(one.edge, (one,), "say", ["put"], ["ingress"], said))
        for edge in self.wiring.forgotten[:FORGOTTEN_MAX]:
            grants += _to_be_told(edge)
        return _as_rules(grants)


_ASKING = ["query", "reply", "declare_queryable"]

_ALWAYS: dict[str, Any] = {
    "connect/exit_on_failure": False,
    "connect/retry": {"period_init_ms": 300, "period_max_ms": 4000, "period_increase_factor": 2},
    "open/return_conditions/connect_scouted": False,
    "scouting/multicast/enabled": False,
    "scouting/gossip/enabled": False,
    "routing/interests/timeout": 60_000,
    "adminspace/enabled": False,
    "timestamping/enabled": False,
    "transport/shared_memory/enabled": False,
    "transport/unicast/max_sessions": SESSIONS_MAX,
    "transport/unicast/accept_pending": 1000,
    "transport/unicast/open_timeout": 4000,
    "transport/unicast/accept_timeout": 4000,
    "transport/unicast/compression/enabled": False,
    "transport/link/tx/keep_alive": 4,
    "transport/link/tx/queue/size/real_time": 16,
    "transport/link/tx/queue/congestion_control/drop/wait_before_drop": WAIT_BEFORE_DROP_US,
    "transport/link/tx/queue/congestion_control/block/wait_before_close": WAIT_BEFORE_CLOSE_US,
    "transport/link/rx/max_message_size": PART_BYTES_MAX,
}


def _by_id(member: Member) -> str:
    return member.edge


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


class _Grant(NamedTuple):
    """What is allowed to whoever is at the other end of a link."""

    subject: str
    holders: Sequence[Member | str]
    what: str
    messages: list[str]
    flows: list[str]
    keys: list[str]


def _to_be_told(edge: str) -> list[_Grant]:
    """What an edge that was forgotten may still do."""
    acks = f"ack/{edge}/*"
    said = ["put", "declare_subscriber"]
    return [
        _Grant(edge, (edge,), "say", said, ["ingress"], [f"digest/{edge}", acks]),
        _Grant(edge, (edge,), "listen", ["declare_subscriber"], ["egress"], ["digest/*"]),
        _Grant(edge, (edge,), "hear", ["put"], ["egress"], [acks]),
    ]


def _as_rules(grants: Iterable[_Grant]) -> dict[str, Any]:
    """Grants as zenoh takes them: rules, subjects, and which of them belong together."""
    rules: list[dict[str, Any]] = []
    subjects: dict[str, list[str]] = {}
    policies: dict[str, list[str]] = {}
    for grant in grants:
        rule = f"{grant.subject}-{grant.what}"
        told = {"messages": grant.messages, "flows": grant.flows, "key_exprs": grant.keys}
        rules.append({"id": rule, "permission": "allow", **told})
        subjects[grant.subject] = [one if isinstance(one, str) else one.edge for one in grant.holders]
        policies.setdefault(grant.subject, []).append(rule)
    held = {subject: names for subject, names in subjects.items() if names}  # zenoh takes a list of none for all
    return {
        "enabled": True,
        "default_permission": "deny",
        "rules": rules,
        "subjects": [{"id": subject, "cert_common_names": names} for subject, names in held.items()],
        "policies": [{"rules": policies[subject], "subjects": [subject]} for subject in held],
    }


def as_json(told: Mapping[str, Any]) -> dict[str, str]:
    """The values as zenoh takes them."""
    return {path: json.dumps(value) for path, value in told.items()}
