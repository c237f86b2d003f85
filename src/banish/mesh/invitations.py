"""Invitations: all that a new edge needs to belong to a mesh, in one file; and renewals, a new certificate for one.

    invitation   an id, a signing key, a certificate with its key, the authority's certificate, the members; until when
    renewal      a certificate with its key, for an edge that belongs already; where it listens from now on

Both are secrets, to be carried from one machine to the other like a key, and used once. An invitation used on two
machines makes two edges with one id: they find that out at contact (`replica.py`), and both say so. One that falls into
wrong hands is taken back by `banish mesh forget`.

Not here: files (`directory.py`); records that make an edge a member (`purge/records.py`); how certificates are made
(`authority.py`).
Format: JSON, `format` 1. Units: seconds since 1970. Pure but for the keys that are drawn.
"""

import re
import secrets
from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta

from banish.errors import ClientError, ConfigError, LimitExceeded
from banish.mesh.authority import Authority, Certified
from banish.mesh.endpoints import ENDPOINTS_MAX, parse_endpoint
from banish.mesh.members import MEMBERS_MAX, Member, Members
from banish.mesh.zenoh_config import RELAYS_MAX, Topology

FORMAT = 1

USABLE_S = 7 * 86400.0
"""How long an invitation may be used: its list of members grows old, and it is a secret that lies about."""

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
"""Of an edge: as in host names, so that it can stand in a certificate, a metric and a file name."""


class KeptMember(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member, as it stands in a file."""

    edge: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    name: str
    key: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """The public one, in hex."""
    endpoints: tuple[str, ...] = ()
    relay: bool = False
    revision: int = 0

    @property
    def member(self) -> Member:
        """As it is used."""
        return Member(self.edge, self.name, bytes.fromhex(self.key), self.endpoints, self.relay, self.revision)


def kept(member: Member) -> KeptMember:
    """As it stands in a file."""
    return KeptMember(member.edge, member.name, member.key.hex(), member.endpoints, member.relay, member.revision)


class Invitation(msgspec.Struct, frozen=True, tag="invitation", tag_field="banish_mesh"):
    """For an edge that is to be."""

    format: int
    name: str
    edge: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    key: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """The secret Ed25519 key, in hex."""
    until: float
    topology: Topology
    members: tuple[KeptMember, ...]
    """The new one among them."""
    forgotten: tuple[str, ...] = ()
    authority: str = ""
    """PEM. Empty: a mesh on one machine, in the clear."""
    certificate: str = ""
    certificate_key: str = ""

    @property
    def me(self) -> Member:
        """The edge that is invited. Raises ConfigError."""
        found = next((one for one in self.members if one.edge == self.edge), None)
        if found is None:
            raise ConfigError("the invitation is damaged: the edge that it is for is not among its members")
        return found.member


class Renewal(msgspec.Struct, frozen=True, tag="renewal", tag_field="banish_mesh"):
    """For an edge that is."""

    format: int
    name: str
    edge: str
    endpoints: tuple[str, ...]
    authority: str
    certificate: str
    certificate_key: str


Paper = TypeVar("Paper", Invitation, Renewal)


def invitation(
    authority: Authority | None,
    members: Members,
    name: str,
    endpoints: Sequence[str],
    *,
    relay: bool,
    topology: Topology,
    now: float,
) -> tuple[Invitation, Member]:
    """An invitation, and the member that it makes. Nothing is changed by it.

    Raises ClientError: the name is taken or none, an endpoint cannot be used, the mesh is full.
    """
    _check_name(name, members)
    _check_endpoints(endpoints, secured=authority is not None)
    _check_relay(members, endpoints, relay=relay, topology=topology)
    if len(members) >= MEMBERS_MAX:
        raise LimitExceeded(409, "MEMBERS_MAX", f"a mesh has up to {MEMBERS_MAX} edges; forget one that is gone")
    key = Ed25519PrivateKey.generate()
    edge = secrets.token_hex(8)
    member = Member(edge, name, key.public_key().public_bytes_raw(), tuple(endpoints), relay)
    certified = authority.certify(edge, name, endpoints, now) if authority is not None else Certified(b"", b"")
    invited = Invitation(
        FORMAT,
        name,
        edge,
        key.private_bytes_raw().hex(),
        now + USABLE_S,
        topology,
        tuple(kept(one) for one in (*members, member)),
        tuple(sorted(members.forgotten)),
        authority.certificate.decode() if authority is not None else "",
        certified.certificate.decode(),
        certified.key.decode(),
    )
    return invited, member


def renewal(
    authority: Authority, members: Members, name: str, endpoints: Sequence[str] | None, now: float
) -> tuple[Renewal, Member | None]:
    """A new certificate for a member; and the member as it is to be known, if it listens elsewhere from now on.

    Raises ClientError: there is no such member, or an endpoint cannot be used.
    """
    member = members.named(name)
    if member is None:
        raise ClientError(404, f'no edge of this mesh is called "{name}"', close=False)
    moved = None
    if endpoints is not None and tuple(endpoints) != member.endpoints:
        _check_endpoints(endpoints, secured=True)
        moved = msgspec.structs.replace(member, endpoints=tuple(endpoints), revision=member.revision + 1)
    at = moved or member
    certified = authority.certify(at.edge, at.name, at.endpoints, now)
    renewed = Renewal(
        FORMAT,
        at.name,
        at.edge,
        at.endpoints,
        authority.certificate.decode(),
        certified.certificate.decode(),
        certified.key.decode(),
    )
    return renewed, moved


def check_name(name: str) -> None:
    """Whether an edge may be called so. Raises ClientError."""
    if not NAME.fullmatch(name):
        what = "up to 64 lower-case letters, digits, dots, dashes and underscores, with a letter or digit at each end"
        raise ClientError(400, f'"{name}" is no name for an edge; take {what}', close=False)


def _check_name(name: str, members: Members) -> None:
    check_name(name)
    if members.named(name) is not None:
        raise ClientError(409, f'an edge of this mesh is called "{name}" already', close=False)


def _check_endpoints(endpoints: Sequence[str], *, secured: bool) -> None:
    if len(endpoints) > ENDPOINTS_MAX:
        raise LimitExceeded(400, "ENDPOINTS_MAX", f"an edge listens on up to {ENDPOINTS_MAX} endpoints")
    for text in endpoints:
        try:
            endpoint = parse_endpoint(text)
        except ConfigError as error:
            raise ClientError(400, str(error), close=False) from error
        if (endpoint.protocol == "tls") != secured:
            what = (
                "has certificates: use tls/" if secured else "is in the clear, on one machine: use tcp/127.0.0.1:PORT"
            )
            raise ClientError(400, f'"{text}" cannot be used: this mesh {what}', close=False)
        if endpoint.protocol == "tcp" and not endpoint.loopback:
            raise ClientError(400, f'"{text}" is in the clear, and not on loopback', close=False)


def _check_relay(members: Members, endpoints: Sequence[str], *, relay: bool, topology: Topology) -> None:
    relays = sum(member.relay for member in members)
    if relay and topology is not Topology.RELAY:
        raise ClientError(409, "this mesh has no relays: each edge is linked with each", close=False)
    if relay and relays >= RELAYS_MAX:
        raise LimitExceeded(409, "RELAYS_MAX", f"a mesh has up to {RELAYS_MAX} relays")
    if relay and not endpoints:
        raise ClientError(400, "a relay has to listen: say where", close=False)


def encode(paper: Invitation | Renewal) -> bytes:
    """The bytes of the file."""
    return msgspec.json.format(msgspec.json.encode(paper), indent=1) + b"\n"


def decode(data: bytes, kind: type[Paper]) -> Paper:
    """What a file holds. Raises ConfigError."""
    what = kind.__name__.lower()
    try:
        paper = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"this is no {what}, or it is damaged: {error}") from error
    if paper.format > FORMAT:
        raise ConfigError(f"the {what} was written by a later release (format {paper.format}, here {FORMAT})")
    return paper
