"""The floor: when purges may be forgotten.

A stamp has done its work once no tier holds anything that it matches. It is kept a while all the same: a fetch
that began below the floor may not be stored, and an ordinary fetch should not be so punished; and a soft purge
can be taken back until its undo window is over. Stamps go in the order of their apply indexes, so the first that
must wait holds all later ones.

    purges applied here   ──┬───────────┬────────────┬───────────┬──▶
                          floor        due         swept       index
                            │           └ all up to here have waited long enough
                            └ min(due, swept) as of the last `advance`; durable before any stamp goes

Not here: what sweeping is (`sweeper.py`, `disksweep.py`); the stamps (`purge/stamps.py`).
Source: PURGE.md rules 3 and 14.
Units: apply indexes; seconds by one clock of the caller's choice.
Invariants: the floor never goes back, never passes what a tier has not swept, and is durable before a stamp goes.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from banish.errors import StoreError
from banish.purge.stamps import PurgeTable
from banish.tables import Accounts, Metric

WAITS_MAX = 1024
"""Waits remembered. Past it, as when `advance` is not called, the newest takes in all that come: stamps stay
longer, none goes too soon."""

WAITS_SHARED = 512
"""Purges whose waits end within this fraction of the longest share one, so that the bound is not met by itself."""

FLOOR = Metric("banish_purge_floor", "gauge", "Purges up to this apply index are swept everywhere and forgotten.")
FLOOR_MERGED = Metric(
    "banish_purge_floor_waits_merged_total",
    "counter",
    "Times too many purges waited to be forgotten and the newest were made to wait together.",
)
FLOOR_FAILED = Metric(
    "banish_purge_floor_failures_total", "counter", "Times the floor could not be made durable and stayed."
)


class Swept(Protocol):
    """A tier of the store."""

    @property
    def swept(self) -> int:
        """Every purge up to this apply index has been looked for in the whole tier. May go back on an undo."""
        ...


class _Wait(msgspec.Struct, gc=False):
    """Purges up to `index` have waited long enough at `until`; those that share this wait since `since`."""

    index: int
    since: float
    until: float


class Floor:
    """The prune floor of one edge.

    `persist` makes a floor durable, or raises StoreError: then nothing is forgotten.
    """

    def __init__(
        self,
        table: PurgeTable,
        tiers: Sequence[Swept],
        *,
        persist: Callable[[int], None],
        stamp_min_age_s: float,
        undo_window_s: float,
        accounts: Accounts,
    ) -> None:
        self._table = table
        self._tiers = tiers
        self._persist = persist
        self._hard_s = stamp_min_age_s
        self._soft_s = max(stamp_min_age_s, undo_window_s)
        self._waits: deque[_Wait] = deque()  # by index and, since each waits for those before it, by time
        self._due = table.floor
        self._merged = accounts.tally(FLOOR_MERGED)
        self._failed = accounts.tally(FLOOR_FAILED)
        accounts.read(FLOOR, lambda: [((), table.floor)])

    def __repr__(self) -> str:
        return f"<Floor {self._table.floor}, due {self._due}, {len(self._waits)} waits>"

    def applied(self, index: int, now: float, *, soft: bool) -> None:
        """A purge was applied at `now`, `soft` if any of it can be taken back. In the order of indexes."""
        until = now + (self._soft_s if soft else self._hard_s)
        last = self._waits[-1] if self._waits else None
        if last is None or (until - last.since >= self._soft_s / WAITS_SHARED and len(self._waits) < WAITS_MAX):
            until = until if last is None else max(until, last.until)
            self._waits.append(_Wait(index, until, until))
            return
        if len(self._waits) == WAITS_MAX:
            self._merged.add()
        last.index, last.until = index, max(until, last.until)

    def due(self, now: float) -> int:
        """The apply index up to which every purge has waited long enough, swept or not."""
        while self._waits and self._waits[0].until <= now:
            self._due = self._waits.popleft().index
        return self._due

    def advance(self, now: float) -> int:
        """Move the floor as far as it may go and forget some stamps below it; how many.

        Call again while the result is not 0. A floor that cannot be made durable stays where it is.
        """
        floor = min(self.due(now), *[tier.swept for tier in self._tiers])
        if floor > self._table.floor:
            try:
                self._persist(floor)
            except StoreError:
                self._failed.add()
                return 0
        return self._table.prune(max(floor, self._table.floor))
