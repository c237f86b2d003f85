"""What follows from a record beside its stamps, whoever has issued it and in whatever order records come.

    purge       followed until it is swept; a soft one can be undone for a while; a schedule that it carries out is done
    undo        its purge is taken back, now or when it comes
    schedule    waits for its moment, unless it was cancelled or carried out before it came
    cancel      its schedule is off, now or when it comes

Records of other edges come above gaps and by several ways, so that which speaks of another may be here before it
(PURGE rule 20: every kind commutes). What is early is remembered. An undo or a cancel counts only if its edge has
issued the other too (rules 14 and 15).

Not here: stamps, positions, the log (`issuing.py`); who may ask for what (`purging.py`).
Units: apply indexes; seconds; moments by the monotonic clock.
Invariant: the same records, in any order, leave the same behind, but for what a bound below has let go of.
"""

from collections import OrderedDict

import structlog

from banish.edge.issuing import Batch, Issuer
from banish.edge.progress import Progress
from banish.edge.schedules import Schedules
from banish.edge.undoing import Undoable
from banish.purge.records import Record, RecordKind
from banish.store.log import PurgeLog
from banish.tables import Accounts, Metric

EARLY_MAX = 10_000
"""Records remembered that speak of one that is not here yet. Past it the oldest is let go: then a purge is not undone,
a schedule is carried out twice. Neither does harm."""

UNDO_DELAY_S = 0.5
"""How much longer a purge of another edge can be undone than its own edge lets it be: the undo travels too. Less than
the store keeps soft stamps beyond their window (`UNDO_SLACK_S`)."""

RECORDS_EARLY = Metric("banish_records_early", "gauge", "Records here that speak of one that has not come yet.")
RECORDS_EARLY_LOST = Metric("banish_records_early_lost_total", "counter", "Early records let go of: too many were.")
RECORDS_IDLE = Metric(
    "banish_records_without_effect_total",
    "counter",
    "Undos and cancels disregarded, since another edge had issued what they were about.",
)

log = structlog.get_logger(__name__)


class Early:
    """Records that speak of one that is not here: the id of that one → their apply index."""

    def __init__(self, accounts: Accounts) -> None:
        self._indexes: OrderedDict[str, int] = OrderedDict()
        self._lost = accounts.tally(RECORDS_EARLY_LOST)
        accounts.read(RECORDS_EARLY, lambda: [((), len(self._indexes))])

    def add(self, about: str, index: int) -> None:
        """The entry `index` speaks of a record that is not here yet."""
        self._indexes.setdefault(about, index)
        if len(self._indexes) > EARLY_MAX:
            self._lost.add()
            self._indexes.popitem(last=False)

    def take(self, id: str) -> int:  # noqa: A002
        """Which entry spoke of this record before it came; 0: none did."""
        return self._indexes.pop(id, 0)


class Consequences:
    """What follows from the entries of one edge's log. Belongs to the event loop."""

    def __init__(
        self,
        *,
        issuer: Issuer,
        log: PurgeLog,
        progress: Progress,
        schedules: Schedules,
        undoable: Undoable,
        edge: str,
        undo_window_s: float,
        accounts: Accounts,
    ) -> None:
        self.early = Early(accounts)
        self._issuer = issuer
        self._log = log
        self._progress = progress
        self._schedules = schedules
        self._undoable = undoable
        self._edge = edge
        self._undo_window_s = undo_window_s
        self._idle = accounts.tally(RECORDS_IDLE)

    def follow(self, index: int, record: Record, batch: Batch, *, applied_at: float, now: float) -> None:
        """A record is in effect under this apply index since `applied_at`. To be called in that very step."""
        match record.kind:
            case RecordKind.PURGE:
                self._purged(index, record, batch, applied_at, now)
            case RecordKind.UNDO:
                self._undo(index, record)
            case RecordKind.SCHEDULE:
                self._scheduled(index, record)
            case RecordKind.CANCEL:
                self._cancel(index, record)

    def _purged(self, index: int, record: Record, batch: Batch, applied_at: float, now: float) -> None:
        self._progress.begin(index, batch.canonical, batch.widened, soft=bool(batch.soft))
        if record.about:
            self._carried_out(record.about, index)
        if not batch.soft:
            return
        undo = self.early.take(record.position.text)
        if undo and not batch.hard:
            self._take_back(index, undo)
            return
        delay_s = 0.0 if record.position.edge == self._edge else UNDO_DELAY_S
        until = now if batch.hard else applied_at + self._undo_window_s + delay_s
        self._undoable.add(index, until, now, id=record.position.text)

    def _carried_out(self, schedule: str, by: int) -> None:
        index = self._schedules.find(schedule)
        if index:
            self._schedules.take(index)
            self._link(index, by)
        else:
            self.early.add(schedule, by)

    def _scheduled(self, index: int, record: Record) -> None:
        by = self.early.take(record.position.text)
        if by:
            self._link(index, by)
        elif record.due is not None:
            self._schedules.add(index, record)

    def _undo(self, index: int, record: Record) -> None:
        if not self._may(record):
            return
        undone = self._undoable.find(record.about)
        if undone:
            self._undoable.take(undone)
            self._take_back(undone, index)
        else:
            self.early.add(record.about, index)

    def _cancel(self, index: int, record: Record) -> None:
        if self._may(record):
            self._carried_out(record.about, index)

    def _may(self, record: Record) -> bool:
        if record.about.startswith(f"{record.position.edge}."):
            return True
        self._idle.add()
        log.warning("a record takes back what another edge has issued: disregarded", id=record.position.text)
        return False

    def _take_back(self, index: int, undo: int) -> None:
        self._issuer.take_back(index)
        self._progress.drop(index)
        self._link(index, undo)

    def _link(self, index: int, by: int) -> None:
        """The entry `by` undoes, cancels or carries out the entry `index`."""
        self._log.mark_undone(index, by)  # behind it in the log: no entry is ever marked by one that is not there
        self._progress.follow(index, by)
        self._progress.changed(index)
