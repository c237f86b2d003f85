"""Time, handed to whoever needs it.

A moment on the wall (`now`, seconds since 1970, what HTTP dates speak of) and a moment for measuring waits
(`monotonic`) are different things. The monotonic clock here starts at a large arbitrary value, so that
mixing the two fails loudly rather than nearly working.
"""

import time
from typing import Protocol

_OFFSET = 1_000_000_000_000.0
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """Seconds since the epoch, by the wall clock. May jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment. Never goes back."""
        ...

    def boottime(self) -> float:
        """The same, of a clock that does not stand still while the machine sleeps (where there is one: Linux)."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic() + _OFFSET

    def boottime(self) -> float:
        return time.clock_gettime(_BOOTTIME)
