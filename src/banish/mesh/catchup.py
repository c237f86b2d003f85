"""Catching up: what has to be in effect here before a start counts as done (PURGE rule 23).

Each member's first whole digest says how far it is; all of that, of all who answer within `Settings.catchup_wait_s`,
is the target. What nobody who can be reached can give is not waited for any longer than that.

Not here: asking for it (`asks.py`); the stages (`life.py`).
"""

from collections.abc import Callable, Iterable

from banish.mesh.frontier import Frontier, Stream
from banish.mesh.messages import Far


class CatchUp:
    """The target of one start."""

    __slots__ = ("_answered", "_target", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        """The end of the wait for answers."""
        self._answered: set[str] = set()
        self._target: dict[Stream, int] = {}

    def answered(self, edge: str, marks: dict[Stream, Far], received: Frontier) -> bool:
        """A member says how far it is; False if it has said so before."""
        if edge in self._answered:
            return False
        self._answered.add(edge)
        for stream, far in marks.items():
            if far.held > max(received.mark(stream), self._target.get(stream, 0)):
                self._target[stream] = far.held
        return True

    def reached(
        self, received: Frontier, members: Iterable[str], can_be_had: Callable[[Stream, int], bool], now: float
    ) -> bool:
        """Whether it is done."""
        in_time = now < self.until
        if in_time and not self._answered.issuperset(members):
            return False
        for stream in list(self._target):
            first = received.mark(stream) + 1
            if first > self._target[stream]:
                del self._target[stream]
            elif in_time or can_be_had(stream, first):
                return False
        return True
