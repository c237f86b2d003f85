"""What this edge holds of the records of all edges, as its log tells it: at start, and while entries go their way.

    at start     the note that was written before old entries were deleted, and all entries there are
    on the way   in effect ──▶ on the disk ──▶ swept, each entry; told in the order of apply indexes

Of its own streams an edge holds whatever it has ever issued: a log that never had a note lacks only what is old.

Not here: the core that is told (`mesh/replica.py`); stamps (`recovery.py`).
Units: apply indexes. Bounds: what is on its way to the disk is bounded by the log; `UNSWEPT_MAX` entries unswept.
Invariant: nothing is told to be on the disk, or swept, that would not be found so after a crash.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec
import structlog

from banish.mesh.frontier import Frontier, Marks, Stream, load
from banish.mesh.members import Member, Members
from banish.purge.positions import Position
from banish.purge.records import Join, Record, RecordKind, understood
from banish.purge.stamps import Mode
from banish.store.log import PurgeLog

UNSWEPT_MAX = 1_000_000
"""Entries not swept yet that are remembered: as many as there are stamps. What comes beyond them, and behind them in
its stream, is told to be swept by the next start."""

log = structlog.get_logger(__name__)


def frontier_of(purge_log: PurgeLog, edge: str) -> Frontier:
    """What a log holds; `edge` is the one whose log it is. Blocks. Raises LogDamaged."""
    try:
        found = load(purge_log.frontier) if purge_log.frontier else Frontier()
    except (msgspec.DecodeError, ValueError) as error:
        log.error("the note of what is held cannot be read: it is asked for again", error=str(error))
        found = Frontier()
    noted = bool(purge_log.frontier)
    for stream, first, last in purge_log.runs():
        if Position(*stream, first).here_only:
            continue
        if stream[0] == edge and not noted and found.mark(stream) == 0:
            found.advance(stream, first - 1)
        _hold(found, stream, first, last)
    return found


def _hold(frontier: Frontier, stream: Stream, first: int, last: int) -> None:
    if first <= frontier.mark(stream) + 1:
        frontier.advance(stream, last)
        return
    for seq in range(first, last + 1):
        frontier.add(Position(*stream, seq))


def members_of(purge_log: PurgeLog, kept: Members) -> Members:
    """The members that were kept, less and more what the log says. Blocks. Raises LogDamaged."""
    for entry in purge_log.above(0, kinds=(RecordKind.JOIN, RecordKind.FORGET)):
        record, _ = understood(entry.record)
        member = member_of(record)
        if member is not None:
            kept.join(member)
        elif record.kind is RecordKind.FORGET and record.about:
            kept.forget(record.about)
    return kept


def member_of(record: Record) -> Member | None:
    """Whom a record makes a member; None: nobody."""
    if not isinstance(record, Join):
        return None
    try:
        return msgspec.msgpack.decode(record.member, type=Member)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.error("a record does not say who joins", id=record.position.text, error=str(error))
        return None


class _Going(NamedTuple):
    at: int
    """Its apply index."""
    position: Position


class Trail:
    """Entries in effect, on their way."""

    def __init__(self) -> None:
        self._unwritten: deque[_Going] = deque()
        self._unswept: dict[bool, deque[_Going]] = {False: deque(), True: deque()}  # soft ones are swept apart

    def begin(self, unswept: Iterable[tuple[int, Position]], frontier: Frontier) -> Marks:
        """Take up what a start has found above the floor; up to where each stream is swept."""
        swept = dict(frontier.marks)
        for index, position in unswept:
            if not position.here_only:
                self._unswept[False].append(_Going(index, position))
                stream = position.edge, position.epoch
                swept[stream] = min(swept.get(stream, 0), position.seq - 1)
        return swept

    def add(self, index: int, record: Record) -> None:
        """An entry is in effect, and waits for the log."""
        going = _Going(index, record.position)
        self._unwritten.append(going)
        unswept = self._unswept[record.mode is Mode.SOFT and record.kind is RecordKind.PURGE]
        if len(unswept) < UNSWEPT_MAX:
            unswept.append(going)

    def written(self, committed: int) -> Iterator[Position]:
        """Those that are on the disk by now, each once. `committed`: all up to this apply index are."""
        while self._unwritten and self._unwritten[0].at <= committed:
            yield self._unwritten.popleft().position

    def swept(self, has_swept: Callable[[int], bool], committed: int) -> Iterator[Position]:
        """The same of those that are swept, and on the disk."""
        for unswept in self._unswept.values():
            while unswept and unswept[0].at <= committed and has_swept(unswept[0].at):
                yield unswept.popleft().position
