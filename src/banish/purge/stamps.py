"""The table of stamps: which targets were purged, and when, counted in purges applied here.

Purging a target writes one number, the *apply index*, against it; nothing stored is touched. A stored
response is usable while none of its targets carries a stamp newer than its *fence*, the apply index at which
its fetch began. So a purge costs O(its targets) whatever is stored, and a response fetched before a purge
cannot come into use after it, however late its last byte arrives.

    fence                      index at arrival             index now
      │ (since)                      │ (upto)                   │
    ──┼──────────────────────────────┼──────────────────────────┼──▶ purges applied here
      └── a hard stamp here: may not ┘                          │
      │   answer that request                                   │
      └── a hard stamp here: may not be stored ─────────────────┘

Not here: deleting what matches (`store/memory.py`); deciding what to purge (`caching/invalidation.py`).
Units: an apply index counts purges since this table was made, from 0. It is compared with nothing but itself.
Invariants: `floor <= index`, and neither goes back. A stamp is forgotten only when the floor has passed it,
and who asks from below the floor is told UNKNOWN, never CLEAN. A table past its bound widens (purges
everything older) and never drops. An answer may be stricter than the truth, never milder.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from enum import StrEnum

from banish.purge.targets import Target
from banish.tables import Accounts, Metric

STAMPS_MAX = 1_000_000
"""Targets that may carry a stamp of one mode at a time: about 140 bytes each beside the target itself."""

PRUNE_BATCH = 2048
"""Stamps forgotten by one call of `prune`: about a millisecond's worth."""

PURGES_APPLIED = Metric(
    "banish_purges_applied_total",
    "counter",
    "Purges applied on this edge, by mode; invalidations by unsafe requests and cache groups included.",
    ("mode",),
)
PURGE_STAMPS = Metric(
    "banish_purge_stamps",
    "gauge",
    "Targets that carry a stamp: purges whose matches may not all have been swept from memory yet.",
    ("mode",),
)
PURGES_WIDENED = Metric(
    "banish_purges_widened_total",
    "counter",
    "Times the table of stamps was full and everything fetched before was made unusable instead.",
)


class Mode(StrEnum):
    """What a purge does to what it matches."""

    HARD = "hard"
    """Unusable from now on."""

    SOFT = "soft"
    """Stale from now on: may be revalidated, or served under stale-while-revalidate and stale-if-error."""


class Verdict(StrEnum):
    """What the table knows about a response since some apply index."""

    CLEAN = "clean"
    """No purge matched it."""

    SOFT = "soft"
    """A soft purge matched it."""

    HARD = "hard"
    """A hard purge matched it, or may have (see `PurgeTable.verdict`)."""

    UNKNOWN = "unknown"
    """The stamps of that time are forgotten: whoever was in flight so long must not be stored."""

    @property
    def dead(self) -> bool:
        """Whether the response must not be used, not even as something stale."""
        return self is Verdict.HARD or self is Verdict.UNKNOWN


class PurgeTable:
    """Target → the apply index of its newest hard and soft purge.

    One per edge. Single-threaded: a caller that asks for a verdict and acts on it without awaiting in between
    is in one critical section with every purge.
    """

    __slots__ = ("_hard", "_soft", "_stamps_max", "_widened_at", "applied", "floor", "index", "widened")

    def __init__(self, accounts: Accounts | None = None, *, stamps_max: int = STAMPS_MAX) -> None:
        self.index = 0
        self.floor = 0
        self.applied = dict.fromkeys(Mode, 0)
        self.widened = 0
        self._stamps_max = stamps_max
        self._widened_at = 0
        self._hard = _Marks()
        self._soft = _Marks()
        if accounts is not None:
            accounts.read(PURGES_APPLIED, lambda: [((mode.value,), n) for mode, n in self.applied.items()])
            accounts.read(PURGE_STAMPS, lambda: [(("hard",), len(self._hard)), (("soft",), len(self._soft))])
            accounts.read(PURGES_WIDENED, lambda: [((), self.widened)])

    def __len__(self) -> int:
        """Stamps held."""
        return len(self._hard) + len(self._soft)

    def __repr__(self) -> str:
        return f"<PurgeTable index={self.index} floor={self.floor} stamps={len(self)}>"

    def apply(self, targets: Iterable[Target], mode: Mode = Mode.HARD) -> int:
        """Purge all of `targets` as one batch; its apply index. In effect when this returns."""
        self.index += 1
        self.applied[mode] += 1
        marks = self._hard if mode is Mode.HARD else self._soft
        for target in targets:
            marks.stamp(target, self.index)
        if len(marks) > self._stamps_max:
            self._widen()
        return self.index

    def verdict(self, targets: Sequence[Target], since: int, upto: int | None = None) -> Verdict:
        """Whether any of `targets` was purged in (since, upto]; `upto` is the present if not given.

        Of a target's stamps the first and the last two are kept. When these lie around the span asked about,
        another may lie inside, and the answer is as if it did: that costs a fetch, never truth.
        An empty span is CLEAN: a fetch begun at or after a request's arrival may always answer it.
        """
        if upto is None:
            upto = self.index
        if since >= upto:
            return Verdict.CLEAN
        if since < self.floor:
            return Verdict.UNKNOWN
        if since < self._widened_at:
            return Verdict.HARD
        for target in targets:
            if self._hard.within(target, since, upto):
                return Verdict.HARD
        for target in targets:
            if self._soft.within(target, since, upto):
                return Verdict.SOFT
        return Verdict.CLEAN

    def prune(self, floor: int) -> int:
        """Forget stamps up to `floor`, oldest first and at most `PRUNE_BATCH` of each mode; how many went.

        To be called once nothing stored can match them any more. The floor itself moves at once. Call again
        while the result is not 0 to get rid of the rest.
        """
        assert floor <= self.index, "a floor above the index would forget purges yet to come"
        self.floor = max(self.floor, floor)
        return self._hard.prune(self.floor, PRUNE_BATCH) + self._soft.prune(self.floor, PRUNE_BATCH)

    def _widen(self) -> None:
        """Purge everything fetched so far: what cannot be held is widened, never dropped."""
        self.widened += 1
        self._widened_at = self.index
        self._hard = _Marks()
        self._soft = _Marks()


class _Marks:
    """The stamps of one mode. `newest` is in the order of its values, so the oldest go first."""

    __slots__ = ("newest", "older")

    def __init__(self) -> None:
        self.newest: OrderedDict[Target, int] = OrderedDict()
        self.older: dict[Target, tuple[int, int]] = {}  # (first, last but one) of targets stamped again

    def __len__(self) -> int:
        return len(self.newest)

    def stamp(self, target: Target, index: int) -> None:
        before = self.newest.get(target)
        if before is not None:
            first, _ = self.older.get(target, (before, before))
            self.older[target] = (first, before)
            self.newest.move_to_end(target)
        self.newest[target] = index

    def within(self, target: Target, since: int, upto: int) -> bool:
        newest = self.newest.get(target)
        if newest is None or newest <= since:
            return False
        if newest <= upto:
            return True
        first, previous = self.older.get(target, (newest, newest))
        return previous > since and first <= upto

    def prune(self, floor: int, count_max: int) -> int:
        pruned = 0
        while pruned < count_max and self.newest:
            target = next(iter(self.newest))
            if self.newest[target] > floor:
                break
            del self.newest[target]
            self.older.pop(target, None)
            pruned += 1
        return pruned
