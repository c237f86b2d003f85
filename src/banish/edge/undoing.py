"""Soft purges that can still be taken back: until when each, and what follows.

    applied ──▶ undoable ──┬─ its window is over ──▶ released to be swept
                           └─ taken back

Not here: taking back (`issuing.py`); the sweep (`store/`).
Source: PURGE rule 14.
Units: seconds; moments by the monotonic clock.
"""

from collections.abc import Callable

from banish.tables import Accounts, Metric

UNDOABLE_MAX = 100_000
"""Soft purges that can be undone at once. Past it the oldest no longer can."""

PURGES_UNDOABLE = Metric("banish_purges_undoable", "gauge", "Soft purges that can still be undone.")
PURGES_UNDO_LOST = Metric(
    "banish_purges_undo_lost_total", "counter", "Soft purges that can be undone no more because too many could be."
)


class Undoable:
    """The soft purges of one edge that can be taken back, by apply index. `release` is told of each that no longer
    can.
    """

    def __init__(self, release: Callable[[int], None], accounts: Accounts) -> None:
        self._release = release
        self._until: dict[int, tuple[float, str]] = {}  # oldest first; each with its id
        self._indexes: dict[str, int] = {}
        self._lost = accounts.tally(PURGES_UNDO_LOST)
        accounts.read(PURGES_UNDOABLE, lambda: [((), len(self._until))])

    def __contains__(self, index: object) -> bool:
        return index in self._until

    def add(self, index: int, until: float, now: float, *, id: str) -> None:  # noqa: A002
        """A soft purge can be taken back until then; not at all if that is past."""
        if until <= now:
            self._release(index)
            return
        self._until[index] = until, id
        self._indexes[id] = index
        if len(self._until) > UNDOABLE_MAX:
            self._lost.add()
            self._let_go(next(iter(self._until)))

    def find(self, id: str) -> int:  # noqa: A002
        """The apply index of the purge of this id, if it can be taken back; else 0."""
        return self._indexes.get(id, 0)

    def take(self, index: int) -> None:
        """It was taken back."""
        found = self._until.pop(index, None)
        if found is not None:
            del self._indexes[found[1]]

    def expire(self, now: float) -> None:
        """Release those whose window is over."""
        while self._until:
            index, (until, _) = next(iter(self._until.items()))
            if until > now:
                return
            self._let_go(index)

    def _let_go(self, index: int) -> None:
        self.take(index)
        self._release(index)
