"""What survives of a simulated edge: its log, what it holds, who belongs, and a warm store.

Not here: what waits to be written, which a crash loses (`process.py`).
"""

import copy
from dataclasses import dataclass, field

from banish.mesh.frontier import Frontier, Stream
from banish.mesh.members import Member, Members
from banish.purge.names import Names
from banish.purge.positions import Position
from banish.purge.records import read_header


@dataclass(frozen=True)
class Stored:
    """One stored response."""

    names: Names
    fence: int
    fetched_at: float
    """When its fetch began, in simulated time: what was purged later makes it stale."""


@dataclass
class Disk:
    """One data directory."""

    edge: str
    key: bytes
    starts: int = 0
    index: int = 0
    """Apply indexes up to here may have been in use."""
    floor: int = 0
    log: dict[Position, tuple[int, bytes]] = field(default_factory=dict)
    """(apply index, record), in the order in which they were logged."""
    covers: list[int] = field(default_factory=list)
    """Apply indexes of purges of everything that stand for records that are nowhere any more."""
    frontier: Frontier = field(default_factory=Frontier)
    """What is logged, was, or is covered; ended epochs folded as the core does."""
    truth: Frontier = field(default_factory=Frontier)
    """The same with nothing folded: what the judge goes by."""
    trimmed: dict[Stream, int] = field(default_factory=dict)
    joined: dict[str, Member] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    store: dict[str, Stored] = field(default_factory=dict)
    last: Position | None = None
    """Its own last record."""
    born: float = 0.0
    """When it came to the mesh, in simulated time: with an empty store, so that nothing of before matters to it."""
    restored: bool = False
    """Whether it ever was an older copy: what it held in between is gone."""

    def members(self) -> Members:
        """Who belongs, as far as this disk knows."""
        return Members(self.joined.values(), self.forgotten)

    def copied(self) -> "Disk":
        """A copy of it, as it is now."""
        kept = copy.copy(self)
        kept.log, kept.covers = dict(self.log), list(self.covers)
        kept.frontier, kept.truth = self.frontier.copy(), self.truth.copy()
        kept.trimmed, kept.joined = dict(self.trimmed), dict(self.joined)
        kept.forgotten, kept.store = set(self.forgotten), {}
        return kept

    def trim(self, keep: int) -> int:
        """Cut the log down to its newest entries, never above the floor; how many went."""
        gone = 0
        for position, (index, _) in list(self.log.items()):
            if len(self.log) <= keep or index > self.floor:
                break
            del self.log[position]
            stream = position.edge, position.epoch
            self.trimmed[stream] = max(self.trimmed.get(stream, 0), position.seq)
            gone += 1
        return gone

    def run(self, stream: Stream, first: int, last: int, most: int) -> tuple[tuple[bytes, ...], int]:
        """What its log has of one stream from the first on, and the lowest number that it has."""
        have = [position.seq for position in self.log if (position.edge, position.epoch) == stream]
        records: list[bytes] = []
        for seq in range(first, min(last, first + most - 1) + 1):
            entry = self.log.get(Position(*stream, seq))
            if entry is None:
                break
            records.append(entry[1])
        return tuple(records), min(have, default=0)

    def own_tail(self) -> bytes:
        """The last record of its own that it has, for the next start to name."""
        entry = None if self.last is None else self.log.get(self.last)
        return b"" if entry is None else entry[1]


def stream_of(data: bytes) -> Stream:
    """The stream that a record belongs to."""
    position = read_header(data).position
    return position.edge, position.epoch
