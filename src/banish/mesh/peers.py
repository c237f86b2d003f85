"""Peers: what this edge knows of each other member, by its digests and acks.

    epoch, number    its last digest, and when it came
    far              how far it is with each stream: confirmed in its present epoch, nothing before (PURGE rule 29)
    acks             when it confirmed what of our own stream: how long a purge took to get there and back

What a peer's whole digest says is kept as it came; what it says later is kept beside it. So a digest costs what has
changed, and not what there is.

Not here: leases (`heard.py`); whom to ask (`asks.py`).
Bounds: `ACKS_KEPT` of each peer; streams are bounded by members and by the epochs that have not folded.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from math import inf

from banish.mesh.frontier import Stream, is_fold, start_of
from banish.mesh.messages import Far
from banish.purge.positions import SEQUENCE_MAX

ACKS_KEPT = 2048
"""Of one peer: moments at which it confirmed more of our stream. Older purges have receipts without a lag."""

LAG_WEIGHT = 0.2
"""Of a new lag in the smoothed one."""

_NOTHING = Far(0, 0)
_ALL = Far(SEQUENCE_MAX, SEQUENCE_MAX)
_NO_MARKS: dict[Stream, Far] = {}


class Peer:
    """One other member, as it is known here."""

    __slots__ = (
        "_ack_at",
        "_ack_marks",
        "_folds",
        "_later",
        "_whole",
        "avoid_until",
        "began_at",
        "claims",
        "clean",
        "digest_at",
        "edge",
        "epoch",
        "failures",
        "gone",
        "issued",
        "lag_s",
        "last",
        "linked",
        "linked_at",
        "list_differs_since",
        "missing",
        "number",
        "relink_after_s",
        "relink_at",
        "whole_at",
    )

    def __init__(self, edge: str) -> None:
        self.edge = edge
        self.linked = False
        self.linked_at = -inf
        self.gone = ""
        """The epoch that it ended by saying goodbye, if it was not heard since."""
        self.last = 0
        """The last number that it issued in that epoch."""
        self.clean: Mapping[Stream, int] = _NO_CLEAN
        """What was in effect here when it came to the mesh: it began empty, later than all of this."""
        self.lag_s: float | None = None
        self.failures = 0
        """Pulls in a row that it did not answer."""
        self.avoid_until = -inf
        self.relink_at = -inf
        self.relink_after_s = 0.0
        self.digest_at = -inf
        self._ack_marks = [0]
        self._ack_at = [-inf]
        self.began("", -inf)

    def began(self, epoch: str, now: float) -> None:
        """It runs in another epoch: it has confirmed nothing yet."""
        self.epoch = epoch
        self.began_at = now
        self.number = 0
        self.issued = 0
        self.whole_at = -inf
        self.missing: tuple[str, ...] = ()
        """Edges of whose records some are missing there."""
        self.list_differs_since = inf
        self.claims: Mapping[Stream, int] = _NO_CLEAN
        """Up to where it has said, beside its digests, that purges are in effect there: it can be asked for them."""
        self._whole = _NO_MARKS
        self._later: dict[Stream, Far] = {}
        self._folds: dict[str, tuple[int, int]] = {}

    def published(self, epoch: str, seq: int, now: float) -> None:
        """It published this: so it is durable there."""
        if epoch != self.epoch and start_of(("", epoch)) > start_of(("", self.epoch)):
            self.began(epoch, now)
        if epoch == self.epoch:
            self.issued = max(self.issued, seq)

    def far(self, stream: Stream) -> Far:
        """How far it has said that it is."""
        far = self._later.get(stream) or self._whole.get(stream)
        if self.issued and stream[1] == self.epoch and stream[0] == self.edge:
            return far if far is not None and far.held >= self.issued else Far(self.issued, far.swept if far else 0)
        if far is None:
            return self._folded(stream) if self._folds else _NOTHING
        return far

    def told(self, stream: Stream) -> Far:
        """The same, less what a fold says: it vouches for what everybody held when it was made, and no more."""
        return self._later.get(stream) or self._whole.get(stream) or _NOTHING

    def folds(self, stream: Stream) -> bool:
        """Whether it has folded epochs of this number."""
        fold = self._folds.get(stream[0])
        return fold is not None and start_of(stream) <= fold[0] and not is_fold(stream)

    def _folded(self, stream: Stream) -> Far:
        fold = self._folds.get(stream[0])
        if fold is None or start_of(stream) > fold[0]:
            return _NOTHING
        return _ALL if start_of(stream) < fold[0] else Far(fold[1], fold[1])

    def held(self, stream: Stream) -> int:
        """Every number up to here it holds durably, as far as it has said."""
        return self.far(stream).held

    @property
    def whole_seen(self) -> bool:
        """Whether it has said all there is, in its present epoch."""
        return self.whole_at > -inf

    def take_whole(self, marks: dict[Stream, Far], now: float) -> None:
        """It has said all there is. What an ack has said meanwhile stays."""
        later = self._later
        self._later = {}
        self._whole = marks
        self._folds = {stream[0]: (start_of(stream), far.held) for stream, far in marks.items() if is_fold(stream)}
        self._later = {stream: far for stream, far in later.items() if _beyond(far, self.far(stream))}
        self.whole_at = now

    def take(self, marks: dict[Stream, Far]) -> None:
        """It has said what changed, or confirmed something."""
        for stream, far in marks.items():
            before = self._later.get(stream) or self._whole.get(stream)
            if _beyond(far, before):
                self._later[stream] = far if before is None else _further(far, before)
            if is_fold(stream):
                self._folds[stream[0]] = max(self._folds.get(stream[0], (0, 0)), (start_of(stream), far.held))

    def correct(self, stream: Stream, held: int) -> None:
        """It holds less than it had said."""
        if stream in self.claims:
            self.claims = {claimed: mark for claimed, mark in self.claims.items() if claimed != stream}
        if self.held(stream) > held:
            self._later[stream] = Far(held, min(held, self.far(stream).swept))
            if stream in self._whole:
                self._whole = {**self._whole, stream: self._later[stream]}

    def confirmed(self, mark: int, now: float) -> bool:
        """It holds all of our present stream up to `mark`; whether that is more than before."""
        if mark <= self._ack_marks[-1]:
            return False
        self._ack_marks.append(mark)
        self._ack_at.append(now)
        if len(self._ack_marks) > ACKS_KEPT:
            del self._ack_marks[: ACKS_KEPT // 2]
            del self._ack_at[: ACKS_KEPT // 2]
        return True

    def confirmed_at(self, seq: int) -> float | None:
        """When it confirmed this number of our present stream, if that is remembered."""
        at = bisect_left(self._ack_marks, seq)
        return self._ack_at[at] if 0 < at < len(self._ack_marks) else None

    def measured(self, lag_s: float) -> None:
        """From a publishing to its ack."""
        self.lag_s = lag_s if self.lag_s is None else self.lag_s + LAG_WEIGHT * (lag_s - self.lag_s)

    def marks(self) -> Iterator[tuple[Stream, Far]]:
        """All that it has said."""
        yield from self._later.items()
        for stream, far in self._whole.items():
            if stream not in self._later:
                yield stream, far


_NO_CLEAN: Mapping[Stream, int] = {}


def _beyond(far: Far, before: Far | None) -> bool:
    return before is None or far.held > before.held or far.swept > before.swept


def _further(far: Far, before: Far) -> Far:
    return Far(max(far.held, before.held), max(far.swept, before.swept))
