"""Members: the edges that belong together, as `join` and `forget` records have it.

An edge id is never used twice, so a `forget` wins over any `join`, in whatever order the two arrive: the lists of all
edges converge (PURGE rule 25). Members trust each other: a record signed by any of them may purge any site.

Not here: the records themselves (`purge/records.py`); who is heard (`replica.py`); certificates (`authority.py`).
Invariant: two edges that hold the same records have the same `version`.
"""

import hashlib
from collections.abc import Iterable, Iterator

import msgspec

MEMBERS_MAX = 1000
"""Edges in one mesh, forgotten ones not counted. A join past it is refused where it is asked for."""


class Member(msgspec.Struct, frozen=True, array_like=True):
    """One edge of the mesh."""

    edge: str
    """Its id: 16 hexadecimal digits. The common name of its certificate."""
    name: str
    """What people call it. Unique in the mesh."""
    key: bytes
    """The 32 bytes of its public Ed25519 key: what its records and digests are signed with."""
    endpoints: tuple[str, ...] = ()
    """Where it listens for others: `tls/host:port`, `tcp/127.0.0.1:port`. None: it only dials."""
    relay: bool = False
    """Whether it passes on what others publish (topology `relay`)."""
    revision: int = 0
    """Of what is told of it here: of two, the higher holds, in whatever order they arrive."""


class Members:
    """Who belongs to the mesh, this edge among them."""

    def __init__(self, members: Iterable[Member] = (), forgotten: Iterable[str] = ()) -> None:
        self._forgotten = set(forgotten)
        self._members: dict[str, Member] = {}
        self._former: dict[str, Member] = {}
        for member in members:
            kept = self._former if member.edge in self._forgotten else self._members
            kept[member.edge] = member
        self._version = ""

    def __iter__(self) -> Iterator[Member]:
        return iter(sorted(self._members.values(), key=lambda member: member.edge))

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, edge: object) -> bool:
        return edge in self._members

    def get(self, edge: str) -> Member | None:
        """The member of this id; None if there is none (any more)."""
        return self._members.get(edge)

    def named(self, name: str) -> Member | None:
        """The member of this name."""
        return next((member for member in self._members.values() if member.name == name), None)

    def key(self, edge: str) -> bytes | None:
        """Its public key, of one that was forgotten too: others still pass on what it issued while it belonged."""
        member = self._members.get(edge) or self._former.get(edge)
        return None if member is None else member.key

    def is_forgotten(self, edge: str) -> bool:
        """Whether this id belonged once, and must not come back."""
        return edge in self._forgotten

    @property
    def forgotten(self) -> frozenset[str]:
        """Ids that must not come back."""
        return frozenset(self._forgotten)

    @property
    def former(self) -> tuple[Member, ...]:
        """Those of them of whom more is known than the id, by id."""
        return tuple(self._former[edge] for edge in sorted(self._former))

    @property
    def version(self) -> str:
        """16 hexadecimal digits that name this very list."""
        if not self._version:
            told = msgspec.msgpack.encode([list(self), sorted(self._forgotten)])
            self._version = hashlib.blake2b(told, digest_size=8).hexdigest()
        return self._version

    def join(self, member: Member) -> bool:
        """It belongs; whether that changes anything. The same lists come of the same joins in any order."""
        if self.knows(member):
            return False
        if member.edge in self._forgotten:
            self._former[member.edge] = member
            return False
        self._members[member.edge] = member
        self._version = ""
        return True

    def knows(self, member: Member) -> bool:
        """Whether it would tell nothing new, of a former one too."""
        known = self._former.get(member.edge) or self._members.get(member.edge)
        return known is not None and (member.edge in self._forgotten or _weight(member) <= _weight(known))

    def forget(self, edge: str) -> bool:
        """It belongs no more, and never again under this id; whether that changes anything."""
        if edge in self._forgotten:
            return False
        self._forgotten.add(edge)
        member = self._members.pop(edge, None)
        if member is not None:
            self._former[edge] = member
        self._version = ""
        return True


def _weight(member: Member) -> tuple[int, bytes]:
    return member.revision, msgspec.msgpack.encode(member)
