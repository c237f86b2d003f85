"""Doubles: another process that lives under this edge's id (PURGE rule 1: a copied data directory).

Others echo the last digest that they have heard under this id. Right after a start they may still echo what the epoch
before has said, and some of that may even still be on its way. So another epoch counts as alive only if somebody who
has heard of ours goes back to it (which nobody does without proof that it lives, `Replica._is_news`), and if its
digests go on: a higher number, `ALIVE_PERIODS` after the first that was seen of it.

The newcomer of the two gives way: the one that has said less; if both began at about the same time, the later epoch.

Not here: what then happens (`replica.py`).
"""

from dataclasses import dataclass
from enum import Enum

from banish.mesh.frontier import start_of
from banish.mesh.messages import Echo

ALIVE_PERIODS = 1.5
"""Longer than anything is on its way."""

TOGETHER = 5
"""Digests by which two may differ that began at about the same time."""

EPOCHS_MAX = 8
"""Other epochs watched at a time."""


class Finding(Enum):
    """What is to be done."""

    NOTHING = 0
    YIELD = 1
    WARN = 2


@dataclass(slots=True)
class _Seen:
    number: int
    at: float


class Doubles:
    """Watches for other epochs of one edge."""

    __slots__ = ("_alive_s", "_edge", "_epoch", "_known_to", "_seen")

    def __init__(self, edge: str, epoch: str, period_s: float) -> None:
        self._edge = edge
        self._epoch = epoch
        self._alive_s = ALIVE_PERIODS * period_s
        self._seen: dict[str, _Seen] = {}
        self._known_to: set[str] = set()

    def own(self, by: str) -> None:
        """Our own epoch was heard by this edge."""
        self._known_to.add(by)

    def seen(self, echo: Echo, by: str, own_number: int, now: float) -> Finding:
        """A digest of this id was heard by an edge, in an epoch that is not ours."""
        if by not in self._known_to:
            return Finding.NOTHING
        first = self._seen.get(echo.epoch)
        if first is None:
            if len(self._seen) < EPOCHS_MAX:
                self._seen[echo.epoch] = _Seen(echo.number, now)
            return Finding.NOTHING
        if echo.number <= first.number or now - first.at < self._alive_s:
            return Finding.NOTHING
        return Finding.YIELD if self._newer(echo, own_number) else Finding.WARN

    def _newer(self, echo: Echo, own_number: int) -> bool:
        """Whether we are the newcomer."""
        if abs(echo.number - own_number) > TOGETHER:
            return own_number < echo.number
        return (start_of((self._edge, self._epoch)), self._epoch) > (start_of((self._edge, echo.epoch)), echo.epoch)
