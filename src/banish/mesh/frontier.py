"""Frontiers: what an edge holds of each stream of records, and what it misses.

    stream   all records that one edge issued in one epoch, numbered from 1 on: (edge id, epoch)
    mark     every number up to it is held
    above    numbers held above a gap: in effect already (PURGE rule 20), only the mark waits

        1 2 3 4 5 . . 8 . 10
                └ mark    └──── above = {8, 10}, missing = (6, 7) and (9, 9)

    fold     the streams of an edge's ended epochs, up to its N-th, once everybody holds them whole (PURGE rule 1):
             they are told of as one stream, (edge id, `N-`), whose mark is the last number of the N-th epoch, so
             that what is told does not grow with every restart
    open     an epoch that a fold does not speak of, whatever its number: an edge whose disk was restored counts its
             starts anew (PURGE rule 1). It is told of beside the fold, and never folds

Not here: asking for what is missing (`gaps.py`); when a record counts as held (`replica.py`); when to fold
(`folding.py`).
Invariants: a folded stream is held whole, whatever comes of it later. A mark never goes back.
`above` holds numbers beyond `mark + 1` alone, `ABOVE_MAX` of a stream at most.
"""

from collections.abc import Iterator, Mapping

import msgspec

from banish.purge.positions import SEQUENCE_MAX, Position

Stream = tuple[str, str]
"""(edge id, epoch)"""

Marks = Mapping[Stream, int]
"""Of each stream, the number up to which everything is held."""

ABOVE_MAX = 100_000
"""Numbers held above gaps of one stream. What comes beyond them is not taken: it is asked for again once the gap is
closed."""


def start_of(stream: Stream) -> int:
    """Which of its edge's starts began this epoch, counted from 1; of a fold: the last that is folded."""
    try:
        return int(stream[1].partition("-")[0])
    except ValueError:
        return 0


def fold_of(edge: str, start: int) -> Stream:
    """What stands for all epochs of an edge up to its `start`-th."""
    return edge, f"{start}-"


def is_fold(stream: Stream) -> bool:
    """Whether this stands for the ended epochs of its edge."""
    return stream[1].endswith("-")


def folded_mark(stream: Stream, folds: Mapping[str, int], marks: Marks) -> int:
    """Up to which number a stream is held by whoever has these folds, and no mark of the stream itself."""
    fold = folds.get(stream[0])
    if fold is None or start_of(stream) > fold:
        return 0
    return SEQUENCE_MAX if start_of(stream) < fold else marks.get(fold_of(stream[0], fold), 0)


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Numbers of one stream that are missing, both ends among them."""

    stream: Stream
    first: int
    last: int


class Frontier:
    """What is held of every stream."""

    __slots__ = ("_above", "_folds", "_marks", "_open", "_own")

    def __init__(self, marks: Marks | None = None) -> None:
        self._marks: dict[Stream, int] = {}
        self._above: dict[Stream, set[int]] = {}
        self._folds: dict[str, int] = {}
        self._open: set[Stream] = set()
        self._own: Stream | None = None
        self.take(marks or {})

    @property
    def marks(self) -> Marks:
        """The marks of all streams of which anything is held; folds are among them, folded streams are not."""
        return self._marks

    @property
    def folds(self) -> Mapping[str, int]:
        """Of each edge that has ended epochs that are folded: the last such start."""
        return self._folds

    def is_folded(self, stream: Stream) -> bool:
        """Whether the stream has ended, and everybody holds it whole."""
        fold = self._folds.get(stream[0])
        return fold is not None and start_of(stream) <= fold and stream not in self._open and stream != self._own

    def open(self, stream: Stream) -> None:
        """This epoch is alive, or is told of by name beside a fold: no fold speaks of it, now or later."""
        self._open.add(stream)

    def issue(self, stream: Stream) -> None:
        """This edge itself issues this epoch now: no fold speaks of it as long as it does."""
        self._own = stream

    def mark(self, stream: Stream) -> int:
        """Every number of the stream up to here is held; 0: none is."""
        mark = self._marks.get(stream, 0)
        if mark or not self._folds or stream in self._open or stream == self._own:
            return mark
        return folded_mark(stream, self._folds, self._marks)

    def has(self, position: Position) -> bool:
        """Whether the record at this position is held."""
        stream = position.edge, position.epoch
        return position.seq <= self.mark(stream) or position.seq in self._above.get(stream, ())

    def add(self, position: Position) -> bool:
        """Hold it; False if it was held, or cannot be for want of room above a gap (`has` tells which)."""
        stream = position.edge, position.epoch
        mark = self.mark(stream)
        above = self._above.get(stream)
        if position.seq <= mark or (above is not None and position.seq in above):
            return False
        if position.seq > mark + 1:
            if above is None:
                above = self._above[stream] = set()
            if len(above) >= ABOVE_MAX:
                return False
            above.add(position.seq)
            self._marks.setdefault(stream, 0)
            return True
        self._raise(stream, position.seq)
        return True

    def take(self, marks: Marks) -> None:
        """Hold all that another frontier does, as its marks tell. What stands there beside a fold is open."""
        folds = {stream[0]: start_of(stream) for stream in marks if is_fold(stream)}
        for stream, mark in marks.items():
            if is_fold(stream):
                self.fold(stream[0], start_of(stream), mark)
            elif start_of(stream) <= folds.get(stream[0], 0):
                self.open(stream)
        for stream, mark in marks.items():
            self.advance(stream, mark)

    def advance(self, stream: Stream, upto: int) -> None:
        """Count all numbers up to `upto` as held: adopted, or given up and covered by something wider."""
        if is_fold(stream):
            self.fold(stream[0], start_of(stream), upto)
        elif upto > self.mark(stream):
            self._raise(stream, upto)

    def fold(self, edge: str, start: int, end: int = 0) -> None:
        """Say no more of the epochs of an edge up to its `start`-th: they have ended, and everybody holds them.
        `end`: the last number of that epoch, if it is not held here.
        """
        before = self._folds.get(edge, 0)
        if start < before:
            return
        end = max(end, self._marks.pop(fold_of(edge, start), 0))
        folded = [s for s in self._marks if s[0] == edge and start_of(s) <= start and not is_fold(s)]
        for stream in folded:
            if stream in self._open or stream == self._own:
                continue
            mark = self._marks.pop(stream)
            if start_of(stream) == start:
                end = max(end, mark)
            self._above.pop(stream, None)
        self._marks.pop(fold_of(edge, before), None)
        self._folds[edge] = start
        self._marks[fold_of(edge, start)] = max(end, 1)

    def _raise(self, stream: Stream, mark: int) -> None:
        above = self._above.get(stream)
        if above is not None:
            passed = range(self._marks.get(stream, 0) + 1, mark + 1)
            above.difference_update(passed if len(passed) < len(above) else [seq for seq in above if seq in passed])
            while mark + 1 in above:
                mark += 1
                above.discard(mark)
            if not above:
                del self._above[stream]
        self._marks[stream] = mark

    def gaps(self, stream: Stream, upto: int) -> Iterator[Gap]:
        """What is missing of a stream of which numbers up to `upto` are known to exist, in order."""
        first = self.mark(stream) + 1
        for seq in sorted(self._above.get(stream, ())):
            if first > upto:
                return
            if seq > first:
                yield Gap(stream, first, min(seq - 1, upto))
            first = seq + 1
        if first <= upto:
            yield Gap(stream, first, upto)

    def highest(self, stream: Stream) -> int:
        """The highest number held of a stream, above gaps too; 0: none."""
        return max(self._above.get(stream, ()), default=self.mark(stream))

    def above(self) -> Mapping[Stream, set[int]]:
        """What is held above gaps."""
        return self._above

    def copy(self) -> "Frontier":
        """Another one that holds the same."""
        copy = Frontier()
        copy._marks = dict(self._marks)
        copy._above = {stream: set(above) for stream, above in self._above.items()}
        copy._folds = dict(self._folds)
        copy._open = set(self._open)
        return copy

    def covers(self, other: Marks) -> bool:
        """Whether everything up to these marks is held."""
        return all(
            self._folds.get(stream[0], 0) >= start_of(stream) if is_fold(stream) else self.mark(stream) >= mark
            for stream, mark in other.items()
        )

    def __repr__(self) -> str:
        gaps = f" gaps={len(self._above)}" if self._above else ""
        return f"<Frontier streams={len(self._marks)}{gaps}>"


# --- as it is kept and sent


class _Kept(msgspec.Struct, array_like=True):
    stream: Stream
    mark: int
    above: tuple[int, ...] = ()


def dump(frontier: Frontier) -> bytes:
    """A frontier as bytes (MessagePack), to be kept."""
    rows = [
        _Kept(stream, mark, tuple(sorted(frontier.above().get(stream, ())))) for stream, mark in frontier.marks.items()
    ]
    return msgspec.msgpack.encode(rows)


def load(data: bytes) -> Frontier:
    """The frontier that `dump` made these bytes of. Raises msgspec.DecodeError."""
    frontier = Frontier()
    rows = msgspec.msgpack.decode(data, type=list[_Kept])
    frontier.take({row.stream: row.mark for row in rows})
    for row in rows:
        for seq in row.above:
            frontier.add(Position(*row.stream, seq))
    return frontier
