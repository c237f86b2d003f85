"""Prints: hashes of the last records that came into effect here, to tell a fork from a duplicate (PURGE rule 8).

Bounds: `PRINTS_MAX` records, `FORKS_MAX` forks.
An older record of the same position but with other bytes passes for a duplicate.
"""

from banish.mesh.frontier import Stream
from banish.purge.positions import Position
from banish.purge.records import digest

PRINTS_MAX = 8192
FORKS_MAX = 1024


class Prints:
    """(stream, number) → hash of the record there."""

    __slots__ = ("_forks", "_prints")

    def __init__(self) -> None:
        self._prints: dict[tuple[str, str, int], bytes] = {}
        self._forks: dict[bytes, None] = {}

    def note(self, position: Position, data: bytes) -> None:
        """This record is in effect at this position."""
        self._prints[position.edge, position.epoch, position.seq] = digest(data)
        if len(self._prints) > PRINTS_MAX:
            del self._prints[next(iter(self._prints))]

    def differs(self, position: Position, data: bytes) -> bool:
        """Whether another record is known to be in effect there."""
        known = self._prints.get((position.edge, position.epoch, position.seq))
        if known is None:
            return False
        found = digest(data)
        return found != known and found not in self._forks

    def forked(self, data: bytes) -> None:
        """This one is in effect too, beside another at its position."""
        self._forks[digest(data)] = None
        if len(self._forks) > FORKS_MAX:
            del self._forks[next(iter(self._forks))]

    def breaks(self, stream: Stream, seq: int, previous: bytes) -> bool:
        """Whether what is said to come before a number is known to be something else."""
        known = self._prints.get((*stream, seq - 1))
        return known is not None and known != previous
