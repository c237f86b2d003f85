"""The table of stamps: which targets were purged, and when, counted in purges applied here.

Purging a target writes one number, the *apply index*, against it; nothing stored is touched. A stored
response is usable while no target that hits it carries a stamp newer than its *fence*, the apply index at which
its fetch began. So a purge costs O(its targets) whatever is stored, a check costs O(the response's own names)
whatever was purged, and a response fetched before a purge cannot come into use after it, however late its last byte
arrives.

    fence                      index at arrival             index now
      │ (since)                      │ (upto)                   │
    ──┼──────────────────────────────┼──────────────────────────┼──▶ purges applied here
      └── a hard stamp here: may not ┘                          │
      │   answer that request                                   │
      └── a hard stamp here: may not be stored ─────────────────┘

Not here: how stamps are kept and found (`marks.py`); what a target hits (`targets.py`); deleting what matches
(`store/`); deciding what to purge (`caching/invalidation.py`).
Units: an apply index counts purges since the edge was first started. It is compared with nothing but itself.
Invariants: `floor <= index`, and neither goes back. A stamp is forgotten only when the floor has passed it,
and who asks from below the floor is told UNKNOWN, never CLEAN. Past a bound a target is widened and never dropped:
an answer may be stricter than the truth, never milder.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec

from banish.purge.marks import Marks
from banish.purge.names import Names
from banish.purge.targets import Kind, Target, compiled, everything_target, wider
from banish.tables import Accounts, Metric

STAMPS_MAX = 1_000_000
"""Stamps held at a time, of both modes: about 200 bytes each, target and all. One more, and everything on every site
is purged in their place."""

PATTERNS_MAX = 1000
"""Different live patterns, of both modes: a check after a purge by pattern tries each newer one, 1 µs apiece."""

VARIANT_PREDICATES_MAX = 64
"""Single variants of one place that may carry a stamp; one more purges the whole place. As many as are stored."""

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
    "Stamps held: targets of purges whose matches may not all have been swept from memory and disk yet.",
    ("mode",),
)
PURGE_PATTERNS = Metric("banish_purge_patterns", "gauge", "Different patterns among the stamps.", ("mode",))
PURGES_WIDENED = Metric(
    "banish_purges_widened_total",
    "counter",
    "Targets that could not be held as asked and were applied as a wider one, by what was full or wrong.",
    ("reason",),
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


class Finding(msgspec.Struct, frozen=True, gc=False):
    """A verdict, and the purge that decided it: the oldest that matched, if any did."""

    verdict: Verdict
    index: int = 0
    target: Target | None = None


class Reason(StrEnum):
    """Why a target was widened."""

    STAMPS = "stamps"
    """The table is full."""

    PATTERNS = "patterns"
    """There are too many patterns."""

    VARIANTS = "variants"
    """There are too many single variants of one place."""

    PATTERN = "pattern"
    """The pattern cannot be compiled here."""


class Widening(NamedTuple):
    """A target that was applied as a wider one."""

    asked: Target
    applied: Target
    reason: Reason


_CLEAN = Finding(Verdict.CLEAN)
_UNKNOWN = Finding(Verdict.UNKNOWN)


class PurgeTable:
    """Target → the apply indexes of its hard and of its soft purges.

    One per edge. Single-threaded: a caller that asks for a verdict and acts on it without awaiting in between
    is in one critical section with every purge.
    """

    __slots__ = (
        "_exact_from",
        "_hard",
        "_last",
        "_patterns_max",
        "_soft",
        "_stamps_max",
        "_variants_max",
        "applied",
        "floor",
        "index",
        "undone",
        "widened",
        "widenings",
    )

    def __init__(
        self,
        accounts: Accounts | None = None,
        *,
        stamps_max: int = STAMPS_MAX,
        patterns_max: int = PATTERNS_MAX,
        variants_max: int = VARIANT_PREDICATES_MAX,
    ) -> None:
        self.index = 0
        """The newest purge applied here, or the newest that may have been before this start."""

        self.floor = 0
        """Every purge up to here is swept."""

        self.undone: set[int] = set()
        """Soft purges above the floor that were taken back: what they made stale is to be judged anew."""

        self.widenings: tuple[Widening, ...] = ()
        """Targets of the last purge that were applied wider than asked."""

        self.applied = dict.fromkeys(Mode, 0)
        self.widened = dict.fromkeys(Reason, 0)
        self._stamps_max = stamps_max
        self._patterns_max = patterns_max
        self._variants_max = variants_max
        self._last = 0
        self._exact_from = 0
        self._hard = Marks()
        self._soft = Marks()
        if accounts is not None:
            accounts.read(PURGES_APPLIED, lambda: [((mode.value,), n) for mode, n in self.applied.items()])
            accounts.read(PURGE_STAMPS, lambda: [(("hard",), len(self._hard)), (("soft",), len(self._soft))])
            accounts.read(PURGE_PATTERNS, lambda: [(("hard",), self._hard.patterns), (("soft",), self._soft.patterns)])
            accounts.read(PURGES_WIDENED, lambda: [((reason.value,), n) for reason, n in self.widened.items()])

    def __len__(self) -> int:
        """Stamps held."""
        return len(self._hard) + len(self._soft)

    def __repr__(self) -> str:
        return f"<PurgeTable index={self.index} floor={self.floor} stamps={len(self)}>"

    def begin(self, index: int, floor: int) -> None:
        """Take up where the last start ended: nothing above `index` was applied, all up to `floor` is swept.

        To be called first of all. Then the stamps between the two are applied again, each under its index.
        """
        assert not self._last, "purges have been applied already"
        assert 0 <= floor <= index
        self.index, self.floor = index, floor

    def apply(self, hard: Iterable[Target] = (), soft: Iterable[Target] = (), *, index: int | None = None) -> int:
        """Purge all of these as one batch; its apply index. In effect when this returns.

        `index` is for purges applied before this start: they come again in their order, above the floor.
        """
        again = index is not None
        if index is None:
            index = self.index + 1
        assert index > max(self._last, self.floor), "purges are applied in their order, and once"
        self._last = index
        self.index = max(self.index, index)
        self.widenings = ()
        for mode, marks, targets in ((Mode.HARD, self._hard, hard), (Mode.SOFT, self._soft, soft)):
            targets = tuple(targets)
            self.applied[mode] += bool(targets) and not again
            for target in targets:
                if target.headers or target.kind is Kind.PATTERN:
                    target = self._held(target, marks)
                marks.stamp(target, index)
        if len(self) > self._stamps_max:
            self._widen_all(index)
        return index

    def stamped(self, index: int) -> tuple[tuple[Target, ...], tuple[Target, ...]]:
        """The targets that carry the stamps of one purge, hard and soft, as they were applied."""
        return self._hard.of(index), self._soft.of(index)

    def newer(self, since: int, count_max: int) -> list[Target] | None:
        """The targets stamped after `since`, of both modes; None if there are more than `count_max` of one, or if those
        of that time may be forgotten.
        """
        hard, soft = self._hard.newer(since, count_max), self._soft.newer(since, count_max)
        return None if since < self.floor or hard is None or soft is None else hard + soft

    def verdict(self, names: Names, since: int, upto: int | None = None) -> Verdict:
        """What `finding` finds."""
        return self.finding(names, since, upto).verdict

    def finding(self, names: Names, since: int, upto: int | None = None) -> Finding:
        """Whether a purge in (since, upto] hits a response with these names; `upto` is the present if not given.

        Hard outweighs soft, whichever came first. An empty span is CLEAN: a fetch begun at or after a request's
        arrival may always answer it.
        """
        if upto is None:
            upto = self.index
        if since >= upto:
            return _CLEAN
        if since < self.floor:
            return _UNKNOWN
        if since < self._exact_from:
            return Finding(Verdict.HARD, self._exact_from, everything_target())
        found = self._hard.oldest(names, since, upto)
        if found is not None:
            return Finding(Verdict.HARD, *found)
        found = self._soft.oldest(names, since, upto)
        return _CLEAN if found is None else Finding(Verdict.SOFT, *found)

    def undo(self, index: int) -> bool:
        """Take back the soft stamps of one purge; False if it has none here (any more)."""
        if not self._soft.take_back(index):
            return False
        self.undone.add(index)
        return True

    def prune(self, floor: int) -> int:
        """Forget stamps up to `floor`, oldest first and at most `PRUNE_BATCH` of each mode; how many went.

        To be called once nothing stored can match them any more. The floor itself moves at once. Call again
        while the result is not 0 to get rid of the rest.
        """
        assert floor <= self.index, "a floor above the index would forget purges yet to come"
        self.floor = max(self.floor, floor)
        if self.undone:
            self.undone = {index for index in self.undone if index > self.floor}
        return self._hard.prune(self.floor, PRUNE_BATCH) + self._soft.prune(self.floor, PRUNE_BATCH)

    def _held(self, target: Target, marks: Marks) -> Target:
        """The target, or the next wider one if it cannot be held."""
        reason = self._unheld(target, marks)
        return target if reason is None else self._widen(target, wider(target), reason)

    def _unheld(self, target: Target, marks: Marks) -> Reason | None:
        """Why the target cannot be held, if so."""
        if marks.holds(target):
            return None
        if target.kind is not Kind.PATTERN:
            full = marks.variants(target.site, target.value) >= self._variants_max
            return Reason.VARIANTS if full else None
        if self._hard.patterns + self._soft.patterns >= self._patterns_max:
            return Reason.PATTERNS
        try:
            compiled(target.value, target.regex)
        except ValueError:
            return Reason.PATTERN
        return None

    def _widen_all(self, index: int) -> None:
        """Purge everything fetched so far in place of all stamps. From now on, no more is known of the past."""
        self._hard, self._soft = Marks(), Marks()
        everything = everything_target()
        self._hard.stamp(everything, index)
        self._exact_from = index
        self._widen(everything, everything, Reason.STAMPS)

    def _widen(self, asked: Target, applied: Target, reason: Reason) -> Target:
        self.widened[reason] += 1
        self.widenings += (Widening(asked, applied, reason),)
        return applied
