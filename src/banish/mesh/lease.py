"""The lease: until when this edge knows that it has missed no purge.

    heard of every member ──▶ renewed ──▶ … past: what a site's `on_partition` says now holds

It is compared with the clocks at each hit and not by a timer: a process that was stopped, or a machine that slept,
finds out at the first request. Two clocks are asked, one that goes on while the machine sleeps (CLOCK_BOOTTIME) and
the wall clock, which a suspended virtual machine catches up with; past on either is past (PURGE rule 22).

Not here: who is heard (`replica.py`); what follows from silence (`proxy/pipeline.py`).
Units: seconds of `boottime`. Invariant: without a mesh it is never past.
"""

import math
import time
from collections.abc import Callable

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime() -> float:
    """Seconds since an arbitrary moment. Never goes back, nor stands still while the machine sleeps (on Linux)."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """One edge's lease. `on_change` is told when it is found to be past, and when it is found to be no more."""

    __slots__ = ("_boottime", "_is_past", "_until", "_until_wall", "_wall", "on_change")

    def __init__(self, boottime: Callable[[], float] = boottime, wall: Callable[[], float] = time.time) -> None:
        self._boottime = boottime
        self._wall = wall
        self._until = self._until_wall = math.inf
        self._is_past = False
        self.on_change: Callable[[bool], None] = lambda past: None

    def __repr__(self) -> str:
        return f"<Lease {'past' if self._is_past else 'holds'}>"

    @property
    def until(self) -> float:
        """The moment at which it is past, by `boottime`; infinite without a mesh."""
        return self._until

    def renew(self, until: float) -> None:
        """It holds until this moment, which may also be over, or before the one said last."""
        self._until = until
        self._until_wall = math.inf if until == math.inf else self._wall() + until - self._boottime()
        self.past()

    def past(self) -> bool:
        """Whether this edge may be missing purges, now."""
        past = self._until != math.inf and (self._boottime() >= self._until or self._wall() >= self._until_wall)
        if past is not self._is_past:
            self._is_past = past
            self.on_change(past)
        return past
