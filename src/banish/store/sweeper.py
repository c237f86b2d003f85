"""The sweeper: finds in memory what purges have killed, so that the purges can be forgotten.

A purge makes what it matches unusable at once and deletes nothing. Passes over the store follow behind, a
time-budgeted slice at a time. A pass has a goal, the apply index when it began: once every record was checked
up to there, `swept` is that goal, and no stamp up to it can match anything in memory any more.

Between two passes the sweeper rests, for many times as long as the first took: purges that come without end take
a bounded share of the time, however much is stored, and those that come meanwhile share a pass.

An undo makes a pass wanted again: what the purge had marked is to be looked at before the purge is forgotten.

Not here: what a check does (`memory.py`); when stamps go (`floor.py`); when to sweep and for how long (`edge/`).
Invariant: `swept` rises to a goal only when a pass that began at that goal has ended, with no undo meanwhile.
"""

from collections.abc import Callable
from typing import NamedTuple

from banish.purge.stamps import PurgeTable
from banish.tables import Accounts, Metric

CLOCK_EVERY = 16
"""URLs checked between two looks at the clock: about 30 µs of work."""

REST_TIMES = 199.0
"""How much longer than its work took a pass rests before the next: a two-hundredth of the time goes into sweeping."""

REST_S_MAX = 10.0
"""Longer it does not rest, however much is stored: what it makes forgettable is kept for a minute anyway."""

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
    """Nothing is left to look at until the next purge."""


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
    ) -> None:
        self.swept = 0
        """Every purge up to this apply index has been looked for in the whole store."""

        self._table = table
        self._slices = slices
        self._keys = keys
        self._check = check
        self._goal = 0  # of the pass under way, or of the last
        self._slice = slices  # the next to list; `slices` between passes
        self._todo: list[str] = []
        self._worked_s = 0.0  # in the pass under way
        self._rest_until = float("-inf")
        self._again = False  # a purge was taken back since the pass began
        self._sweeps = accounts.tally(SWEEPS)
        self._yields = accounts.tally(SWEEPS_YIELDED)

    def sweep(self, budget_s: float, monotonic: Callable[[], float]) -> SweepProgress:
        """Check records for about `budget_s`; none while it rests, and then it is not idle."""
        began = now = monotonic()
        examined = deleted = 0
        while (self._passing or now >= self._rest_until) and (keys := self._next_keys()) is not None:
            deleted += sum(map(self._check, keys))
            examined += len(keys)
            before, now = now, monotonic()
            self._worked_s += now - before
            if not self._passing:
                self._end_pass(now)
            if now - began >= budget_s:
                self._yields.add()
                return SweepProgress(examined, deleted, idle=False)
        return SweepProgress(examined, deleted, idle=not (self._passing or self._wanted))

    def again(self, index: int) -> None:
        """The purge with this apply index was taken back: look at everything once more before it is forgotten."""
        self.swept = min(self.swept, index - 1)
        self._again = True

    @property
    def _passing(self) -> bool:
        """Whether a pass is under way."""
        return bool(self._todo) or self._slice < self._slices

    @property
    def _wanted(self) -> bool:
        """Whether there is something that the last pass has not looked for."""
        return self._goal != self._table.index or self._again

    def _next_keys(self) -> list[str] | None:
        """The next few URLs to check, perhaps none; None if there is nothing to do."""
        if not self._passing:
            if not self._wanted:
                return None
            self._goal, self._again = self._table.index, False
            self._slice = 0
        while not self._todo and self._slice < self._slices:
            self._todo = self._keys(self._slice)
            self._slice += 1
        keys, self._todo = self._todo[-CLOCK_EVERY:], self._todo[:-CLOCK_EVERY]
        return keys

    def _end_pass(self, now: float) -> None:
        self._sweeps.add()
        self._rest_until, self._worked_s = now + min(REST_TIMES * self._worked_s, REST_S_MAX), 0.0
        if not self._again:
            self.swept = self._goal
