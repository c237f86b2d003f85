"""Purges for later: which are waiting, and which are due.

    schedule record logged ──▶ waiting ──┬─ due by the clock ──▶ an ordinary purge is issued in its name
                                         └─ cancelled, or carried out by another edge ──▶ gone

Whoever issued a schedule carries it out; any other holder only some time after it was due (`again`), in case the issuer
does not.

Not here: logging and issuing (`purging.py`); what comes before the schedule that it is about (`consequences.py`).
Source: PURGE rule 15.
Units: moments are seconds since 1970, since people name them; the clock may jump, and then they are due early or
late by as much.
"""

import heapq

from banish.errors import LimitExceeded
from banish.purge.records import Record
from banish.tables import Accounts, Metric

SCHEDULES_MAX = 10_000
"""Purges that wait for their moment. Past it 503."""

SCHEDULES = Metric("banish_purge_schedules", "gauge", "Purges that wait for the moment they were scheduled for.")


class Schedules:
    """The schedules of one edge that are neither carried out nor cancelled, by apply index."""

    def __init__(self, accounts: Accounts) -> None:
        self._waiting: dict[int, Record] = {}
        self._indexes: dict[str, int] = {}
        self._due: list[tuple[float, int]] = []  # a heap, those that are gone among them
        accounts.read(SCHEDULES, lambda: [((), len(self._waiting))])

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, index: object) -> bool:
        return index in self._waiting

    def check_room(self) -> None:
        """Raises LimitExceeded if no schedule more may wait."""
        if len(self._waiting) >= SCHEDULES_MAX:
            raise LimitExceeded(503, "SCHEDULES_MAX", f"{SCHEDULES_MAX} purges wait for their moment already")

    def add(self, index: int, record: Record) -> None:
        """A schedule was logged."""
        assert record.due is not None
        self._waiting[index] = record
        self._indexes[record.position.text] = index
        heapq.heappush(self._due, (record.due if record.due == record.due else 0.0, index))  # what is no number is due

    def find(self, id: str) -> int:  # noqa: A002
        """The apply index of the schedule of this id, if it waits; else 0."""
        return self._indexes.get(id, 0)

    def again(self, index: int, due: float) -> None:
        """A schedule that is due is to be due again then."""
        self._due = [place for place in self._due if place[1] != index]
        self._due.append((due, index))
        heapq.heapify(self._due)

    def take(self, index: int) -> Record | None:
        """Take a schedule out; None if it waits no more."""
        record = self._waiting.pop(index, None)
        if record is not None:
            self._indexes.pop(record.position.text, None)
        if len(self._due) > 2 * len(self._waiting) + 16:
            self._due = [place for place in self._due if place[1] in self._waiting]
            heapq.heapify(self._due)
        return record

    def due(self, now: float) -> list[tuple[int, Record]]:
        """Those whose moment has come, earliest first. They stay until they are taken."""
        waiting = [place for place in self._due if place[0] <= now and place[1] in self._waiting]
        return [(index, self._waiting[index]) for _, index in sorted(waiting)]

    def waiting(self) -> list[tuple[int, Record]]:
        """All that wait."""
        return list(self._waiting.items())

    def next_due(self) -> float | None:
        """When the next is due; None if none waits."""
        while self._due and self._due[0][1] not in self._waiting:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def oldest(self) -> int | None:
        """The least apply index that waits: the log may not be cut there."""
        return min(self._waiting, default=None)
