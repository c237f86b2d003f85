"""The mesh of a race with the real core in it: what edges know of each other comes of records, digests, acks and pulls.

They wait in the post until a step delivers one, or loses it (`tests/unit/mesh/hands.py`). What is applied is applied to
the edge's stamps at once.

Not here: the core (`mesh/replica.py`); the mesh that hears what it is told (`tests/tiering.py`).
"""

import random
from collections.abc import Iterable, Sequence

from banish.mesh.frontier import Marks
from banish.mesh.replica import Apply, AskFor, CoverAll, Effect
from banish.purge.positions import Position
from banish.purge.records import read_header
from banish.purge.targets import Target, everything_target
from tests.byhand import ByHand
from tests.tiering import FakeMesh, FakeTier
from tests.unit.mesh.hands import Hand, Table, edge_id, key_of, signed_with

ROUNDS_MAX = 40
"""Rounds of digests until everybody has everything."""


class CoreTable(Table):
    """Edges around a table, of which each has stamps."""

    def __init__(self, mesh: "CoreMesh", *names: str) -> None:
        super().__init__(*names)
        self.mesh = mesh

    def do(self, name: str, effects: Iterable[Effect]) -> None:
        effects = list(effects)
        for effect in effects:
            if isinstance(effect, Apply):
                for data in effect.records:
                    self.mesh.applied(name, read_header(data).position)
            elif isinstance(effect, CoverAll):
                self.mesh.tiers[name].byhand.stamps.apply([everything_target()])
        super().do(name, effects)


class CoreTier(FakeTier):
    """One edge's part."""

    mesh: "CoreMesh"

    @property
    def hand(self) -> Hand:
        return self.mesh.table[self.name]

    def sign(self, payload: bytes) -> bytes:
        return signed_with(key_of(self.edge))(payload)

    def verify(self, edge: str, signature: bytes, payload: bytes) -> bool:
        return signed_with(key_of(edge))(payload) == signature

    def named(self, name: str) -> str | None:
        return edge_id(name) if name in self.mesh.table.hands else None

    def has_member(self, edge: str) -> bool:
        return edge in self.hand.members

    def epoch_of(self, edge: str) -> str:
        peer = self.hand.replica.peer(edge)
        return "" if peer is None else peer.epoch

    def unconfirmed(self, edge: str) -> Marks:
        return self.hand.replica.unconfirmed(edge)

    def covers(self, marks: Marks) -> bool:
        return self.hand.replica.received.covers(marks)

    async def catch_up(self, marks: Marks, by: str, timeout_s: float) -> bool:
        table = self.mesh.table
        table.do(self.name, self.hand.replica.wanted(marks, by, table.now))
        return await super().catch_up(marks, by, timeout_s)

    def pull(self, share: float) -> None:
        """What this edge has asked others for is answered, or lost."""
        table = self.mesh.table
        for entry in [entry for entry in table.post if entry[0] == self.name and isinstance(entry[2], AskFor)]:
            table.post.remove(entry)
            table.hand_over(*entry, lost=self.mesh.random.random() >= share)

    def issue(self, hard: Sequence[Target], soft: Sequence[Target]) -> Position:
        position = Position(self.edge, self.hand.epoch, self.hand.sequence + 1)
        self.mesh.log[position] = (tuple(hard), tuple(soft))
        self.take(position)
        issued = self.mesh.table.purge(self.name)
        assert issued == position
        return position

    def take(self, position: Position) -> None:
        if position not in self.indexes:
            index = self.byhand.stamps.apply(*self.mesh.log[position])
            self.indexes[position], self.positions[index] = index, position

    def restart(self) -> None:
        self.mesh.table.restart(self.name)
        self.epoch = self.hand.epoch


class CoreMesh(FakeMesh):
    """All edges."""

    tier_class = CoreTier

    def __init__(self, names: Sequence[str], chance: random.Random) -> None:
        super().__init__()
        self.random = chance
        self.table = CoreTable(self, *names)
        self.begun = False

    def add(self, name: str, edge: ByHand) -> FakeTier:
        tier = super().add(name, edge)
        tier.epoch = self.table[name].epoch
        return tier

    def applied(self, name: str, position: Position) -> None:
        """A record of another edge is in effect at one."""
        if position in self.log and name in self.tiers:
            self.tiers[name].take(position)

    def step(self) -> None:
        """Something in the post arrives, or is lost."""
        if self.table.post:
            entry = self.table.post.pop(self.random.randrange(len(self.table.post)))
            self.table.hand_over(*entry, lost=self.random.random() < 0.3)

    def tell(self, name: str) -> None:
        """An edge does what is due."""
        hand = self.table[name]
        self.table.now = max(self.table.now, hand.replica.next_tick)
        self.table.do(name, hand.replica.tick(self.table.now))

    def spread(self) -> None:
        if not self.begun:
            self.begun = True
            self.table.start()
        self.table.deliver()
        for _ in range(ROUNDS_MAX):
            if all(position in tier.indexes for tier in self.tiers.values() for position in self.log):
                return
            self.table.wait(1.0)
        raise AssertionError("the core does not bring every purge to every edge")
