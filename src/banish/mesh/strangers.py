"""Strangers: records of edges that are no members, or not yet.

The record that makes an edge a member may arrive after the first that it issues itself. So what is signed by nobody
known waits a while for that, in a small space; past it the oldest goes, and comes again by a pull once it counts.

Bounds: `ASIDE_MAX` records, `ASIDE_BYTES_MAX` together, `ASIDE_S`.
"""

from collections import OrderedDict

ASIDE_MAX = 256
ASIDE_BYTES_MAX = 1_048_576
ASIDE_S = 10.0
"""How long an edge may speak before it is known. Past it that is an alarm."""

TOLD_S = 1.0
"""Between two answers to an edge that was forgotten."""
TOLD_MAX = 1000

ALARM_EVERY_S = 60.0
"""Between two alarms."""


class Strangers:
    """What came of whom nothing is known."""

    __slots__ = ("_bytes", "_first", "_records", "_told", "_told_at")

    def __init__(self) -> None:
        self._records: OrderedDict[bytes, str] = OrderedDict()
        self._bytes = 0
        self._first: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._told_at = float("-inf")

    def spoke(self, edge: str, now: float, record: bytes | None = None) -> bool:
        """An edge that is no member has said something; whether that is an alarm by now."""
        if record is not None and record not in self._records and len(record) <= ASIDE_BYTES_MAX:
            self._records[record] = edge
            self._bytes += len(record)
            while len(self._records) > ASIDE_MAX or self._bytes > ASIDE_BYTES_MAX:
                self._bytes -= len(self._records.popitem(last=False)[0])
        if edge not in self._first and len(self._first) < ASIDE_MAX:
            self._first[edge] = now
        first = self._first.get(edge, now)
        return now - first >= ASIDE_S and self.alarming(now)

    def alarming(self, now: float) -> bool:
        """Whether there was no alarm of late; from now on there was one."""
        if now - self._told_at < ALARM_EVERY_S:
            return False
        self._told_at = now
        return True

    def known(self, edge: str) -> list[bytes]:
        """It is a member now: what waited for that."""
        self._first.pop(edge, None)
        records = [record for record, of in self._records.items() if of == edge]
        for record in records:
            del self._records[record]
            self._bytes -= len(record)
        return records

    def to_be_told(self, edge: str, now: float) -> bool:
        """Whether an edge that was forgotten is to be told so, now."""
        if now - self._told.get(edge, float("-inf")) < TOLD_S:
            return False
        if len(self._told) >= TOLD_MAX:
            self._told.clear()
        self._told[edge] = now
        return True
