"""Complaints: warnings about what may go wrong with every request, so that a bad minute is a few lines in the log.

Each kind of complaint is made once in `EVERY_S`; the next one says how many were not made in between.
"""

from typing import Any

from structlog.typing import FilteringBoundLogger

from banish.clock import Clock

EVERY_S = 1.0
"""A complaint of one kind is made this often at most."""
KINDS_MAX = 1000
"""Kinds remembered; past it all are forgotten, and may be made again at once."""


class Complaints:
    """What was complained of lately. `log` is where complaints go."""

    def __init__(self, log: FilteringBoundLogger, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._kinds: dict[tuple[str, ...], _Kind] = {}

    def make(self, what: str, *kind: str, **details: Any) -> None:
        """Warn of `what`, unless a complaint of this kind was made a moment ago."""
        now = self._clock.monotonic()
        if len(self._kinds) >= KINDS_MAX:
            self._kinds.clear()
        known = self._kinds.setdefault((what, *kind), _Kind())
        if now < known.quiet_until:
            known.unsaid += 1
            return
        self._log.warning(what, unsaid=known.unsaid, **details)
        known.quiet_until, known.unsaid = now + EVERY_S, 0


class _Kind:
    __slots__ = ("quiet_until", "unsaid")

    def __init__(self) -> None:
        self.quiet_until = 0.0
        self.unsaid = 0
