"""A clock to turn by hand, for whatever takes a `banish.clock.Clock`.

Units: seconds. Invariant: the two readings move together, and only by `advance`.
"""

_NOW = 1_700_000_000.0
_MONOTONIC = 1_000_000_000_000.0


class FakeClock:
    """Stands still until told otherwise."""

    def __init__(self, now: float = _NOW) -> None:
        self._now = now
        self._monotonic = _MONOTONIC

    def __repr__(self) -> str:
        return f"<FakeClock at {self._now}>"

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since an arbitrary, large moment."""
        return self._monotonic

    def boottime(self) -> float:
        """The same: it never sleeps."""
        return self._monotonic

    def advance(self, by_s: float) -> None:
        """Let time pass."""
        if by_s < 0:
            raise ValueError("time does not go back; make another clock")
        self._now += by_s
        self._monotonic += by_s
