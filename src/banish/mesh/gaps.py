"""Gaps: what is known to exist and is not in effect here, and since when that is known.

    in effect   1 2 3 4 5 . . 8              learnt at 10.0 s that 8 exists, at 12.5 s that 11 does
    known to exist          8 . . 11         missing: 6, 7 since 10.0 s; 9 to 11 since 12.5 s

Not here: asking (`asks.py`); what is held durably, which follows (`replica.py`).
Units: seconds of the clock handed in.
Invariant: a number is missing here since the first moment at which anything said that it exists, at the latest; of an
edge that is heard, since it last proved that it did not exist yet.
Bounds: `TIMES_MAX` moments of one stream; past them later ones count as early as the last.
"""

from collections.abc import Iterator
from math import inf

from banish.mesh.frontier import Frontier, Gap, Stream, start_of

HEARSAY_S = 0.25
"""How long what only a third edge says it holds may be on its way to us, before it is asked for. What the issuer itself
has said, or shows by going on, is asked for at once."""

TIMES_MAX = 256

GRAIN_S = 0.05
"""Numbers learnt of within this count as learnt of at once."""


class Missing:
    """What is missing of one stream."""

    __slots__ = ("ask_at", "known", "nobody_since")

    def __init__(self, ask_at: float) -> None:
        self.ask_at = ask_at
        """Not to be asked for before."""
        self.nobody_since = inf
        """Since when all who count are there and nobody says that it holds the first."""
        self.known: list[tuple[int, float]] = []
        """(number, since when numbers up to it exist, for all that is known here), both ascending."""


class Gaps:
    """What is missing of every stream."""

    __slots__ = ("_received", "fresh", "streams")

    def __init__(self, received: Frontier) -> None:
        self._received = received
        self.streams: dict[Stream, Missing] = {}
        self.fresh = False
        """Something was learnt of since this was last put down."""

    def learn(self, stream: Stream, upto: int, now: float, since: float, *, hearsay: bool = False) -> bool:
        """Numbers up to `upto` exist, `since` then for all that is known; whether any of them is missing."""
        if upto <= self._received.mark(stream):
            return False
        self.fresh = True
        missing = self.streams.get(stream)
        if missing is None:
            missing = self.streams[stream] = Missing(now + HEARSAY_S if hearsay else now)
        elif not hearsay and upto >= missing.known[0][0]:
            missing.ask_at = min(missing.ask_at, now)
        known = missing.known
        if known and upto <= known[-1][0]:
            return not hearsay
        if known and (since - known[-1][1] < GRAIN_S or len(known) >= TIMES_MAX):
            known[-1] = upto, known[-1][1]
        else:
            known.append((upto, since))
        return True

    def settle(self, stream: Stream) -> None:
        """More of it is in effect: see what is still missing."""
        missing = self.streams.get(stream)
        if missing is None:
            return
        mark = self._received.mark(stream)
        passed = 0
        for upto, _ in missing.known:
            if upto > mark:
                break
            passed += 1
        if passed == len(missing.known):
            del self.streams[stream]
        elif passed:
            del missing.known[:passed]

    def settle_all(self) -> None:
        """The same, of every stream."""
        for stream in list(self.streams):
            self.settle(stream)

    def unlearn(self, stream: Stream, upto: int) -> None:
        """Nobody whose word counts says that numbers beyond this exist."""
        missing = self.streams.get(stream)
        if missing is not None:
            missing.known = [(min(number, upto), at) for number, at in missing.known]
            self.settle(stream)

    def known(self, stream: Stream) -> int:
        """Up to which number it is known to exist, if any of that is missing; else 0."""
        missing = self.streams.get(stream)
        return missing.known[-1][0] if missing is not None else 0

    def any_up_to(self, stream: Stream) -> bool:
        """Whether anything is missing of this epoch of its edge, or of one before it."""
        start = start_of(stream)
        return any(other[0] == stream[0] and start_of(other) <= start for other in self.streams)

    def since(self, stream: Stream) -> float:
        """When it was learnt that the lowest missing number exists; infinite if none is missing."""
        missing = self.streams.get(stream)
        return missing.known[0][1] if missing is not None else inf

    @property
    def oldest(self) -> float:
        """The same of all streams."""
        return min((missing.known[0][1] for missing in self.streams.values()), default=inf)

    def of(self, stream: Stream) -> Iterator[Gap]:
        """What is missing of one stream, in order."""
        missing = self.streams.get(stream)
        return self._received.gaps(stream, missing.known[-1][0]) if missing is not None else iter(())
