"""The tail: the last record that this edge published, said again to those who may have lost it.

A lost record shows at once where another follows it. Where none does, only the issuer's next digest would tell, up to a
period later. So as long as some who are heard have not acked the last one, it is published again: after what acks
usually take, and twice as long each time. Whoever has it drops it as a duplicate.

Not here: gaps below it, which it makes known where it arrives (`gaps.py`).
Bounds: `TIMES_MAX` times, records up to `BYTES_MAX` (of larger ones a digest is sent instead), the last one alone.
"""

from math import inf

TIMES_MAX = 3
BYTES_MAX = 16_384

WAIT_S = 0.35
"""What acks take at most, as long as nothing is known of it: round the world and back."""
WAIT_LEAST_S = 0.05
WAIT_MAX_S = 1.0
WAIT_LAGS = 1.25
"""How many times the slowest usual lag."""


class Tail:
    """The last record of ours, as long as it may have to be said again."""

    __slots__ = ("_wait_s", "due", "record", "seq", "times")

    def __init__(self) -> None:
        self.seq = 0
        self.record = b""
        self.times = 0
        self.due = inf
        """When to look who has acked."""
        self._wait_s = WAIT_S

    def lags(self, slowest_s: float | None) -> None:
        """What the slowest of those who are heard usually takes."""
        self._wait_s = WAIT_S if slowest_s is None else min(max(WAIT_LAGS * slowest_s, WAIT_LEAST_S), WAIT_MAX_S)

    def published(self, seq: int, record: bytes, now: float) -> None:
        """This is the last one now."""
        self.seq, self.record, self.times = seq, record, 0
        self.due = now + self._wait_s

    def again(self, now: float) -> None:
        """It is said again."""
        self.times += 1
        self.due = now + self._wait_s * 2**self.times if self.times < TIMES_MAX else inf

    def done(self) -> None:
        """All have it, or it is given up."""
        self.due = inf
