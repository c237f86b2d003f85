"""The sweeper: finds what purges have killed, lets it be deleted, then lets the purges be forgotten.

A purge makes what it matches unusable at once and deletes nothing. Passes over the store follow behind, a
time-budgeted slice at a time. A pass has a goal, the apply index when it began: once every record was checked
up to there, no stamp up to the goal can match anything stored, and the table's floor may pass it. It waits a
while all the same: a fetch that began below the floor may not be stored, and an ordinary fetch should not be
so punished.

Not here: what a check does (`memory.py`); when to sweep and for how long (`edge/`).
Invariant: the floor moves to a goal only after a pass that began at that goal has ended.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from banish.purge.stamps import PurgeTable
from banish.tables import Accounts, Metric

STAMP_AGE_MIN_S = 60.0
"""How long stamps outlive the pass that swept them: longer than almost all fetches take."""

GOALS_MAX = 64
"""Ended passes whose goals wait for their age. Past it the newest two become one, with the later time."""

CLOCK_EVERY = 16
"""URLs checked between two looks at the clock: about 30 µs of work."""

SWEEPS = Metric("banish_store_sweeps_total", "counter", "Passes over the memory store that checked every record.")
SWEEPS_YIELDED = Metric(
    "banish_store_sweep_yields_total",
    "counter",
    "Times a pass ran out of its time budget and gave way to requests.",
)


class SweepProgress(NamedTuple):
    """What one call of `sweep` did."""

    examined: int
    """URLs looked at."""

    deleted: int
    """Stored responses deleted because a hard purge matched them."""

    idle: bool
    """Nothing is left to look at until the next purge; stamps may still be waiting for their age."""


class Sweeper:
    """Passes over a store that is cut in slices. `keys` lists one slice; `check` looks at one URL's records
    and says how many it deleted."""

    def __init__(
        self,
        table: PurgeTable,
        slices: int,
        *,
        keys: Callable[[int], list[str]],
        check: Callable[[str], int],
        accounts: Accounts,
        stamp_age_min_s: float = STAMP_AGE_MIN_S,
    ) -> None:
        self._table = table
        self._slices = slices
        self._keys = keys
        self._check = check
        self._stamp_age_min_s = stamp_age_min_s
        self._goal = 0  # of the pass under way, or of the last
        self._slice = slices  # the next to list; `slices` between passes
        self._todo: list[str] = []
        self._ended: deque[tuple[float, int]] = deque()  # (moment, goal), oldest first
        self._sweeps = accounts.tally(SWEEPS)
        self._yields = accounts.tally(SWEEPS_YIELDED)

    def sweep(self, budget_s: float, monotonic: Callable[[], float]) -> SweepProgress:
        """Work for about `budget_s`: check records, then forget stamps that are old enough."""
        began = monotonic()
        examined = deleted = 0
        while (keys := self._next_keys(monotonic)) is not None:
            deleted += sum(map(self._check, keys))
            examined += len(keys)
            if monotonic() - began >= budget_s:
                self._yields.add()
                return SweepProgress(examined, deleted, idle=False)
        while self._prune(monotonic()) and monotonic() - began < budget_s:
            pass
        return SweepProgress(examined, deleted, idle=True)

    def _next_keys(self, monotonic: Callable[[], float]) -> list[str] | None:
        """The next few URLs to check, perhaps none; None if there is nothing to do."""
        if not self._todo and self._slice == self._slices:
            if self._goal == self._table.index:
                return None
            self._goal = self._table.index
            self._slice = 0
        while not self._todo and self._slice < self._slices:
            self._todo = self._keys(self._slice)
            self._slice += 1
        keys, self._todo = self._todo[-CLOCK_EVERY:], self._todo[:-CLOCK_EVERY]
        if not self._todo and self._slice == self._slices:
            self._end_pass(monotonic())
        return keys

    def _end_pass(self, now: float) -> None:
        self._sweeps.add()
        if len(self._ended) == GOALS_MAX:
            self._ended.pop()
        self._ended.append((now, self._goal))

    def _prune(self, now: float) -> int:
        """Forget some stamps of passes that ended long enough ago; how many."""
        floor = self._table.floor
        while self._ended and now - self._ended[0][0] >= self._stamp_age_min_s:
            _, floor = self._ended.popleft()
        return self._table.prune(floor)
