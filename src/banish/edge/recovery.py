"""Recovery: what the log says, done again at start, under the same apply indexes and in the same order.

    schedules   from the whole log: those neither cancelled nor carried out wait on
    stamps      from every entry above the store's floor: all below it is swept (PURGE rule 3)
    undos       take back what they took back; soft purges within their window can still be undone
    progress    purges not swept yet are swept anew, and their counts begin anew
    marks       a mark is set behind the entry that it names, so a crash may have lost it: it is set again

Not here: whether what is stored may be believed at all (`datadir.py`).
Invariant: a record that cannot be read is widened to everything of its sites, never left out (rule 7).
"""

from typing import NamedTuple

from banish.clock import Clock
from banish.edge.history import read_record
from banish.edge.issuing import Issuer
from banish.edge.progress import Progress
from banish.edge.schedules import Schedules
from banish.edge.undoing import Undoable
from banish.purge.records import Record, RecordKind
from banish.store.log import PurgeLog

_EFFECTIVE = (RecordKind.PURGE, RecordKind.INVALIDATION)


class Parts(NamedTuple):
    """What is rebuilt."""

    issuer: Issuer
    progress: Progress
    schedules: Schedules
    undoable: Undoable


def recover(purge_log: PurgeLog, floor: int, parts: Parts, *, clock: Clock, undo_window_s: float) -> None:
    """Rebuild `parts`. Blocks. Raises LogDamaged."""
    waiting = _schedules(purge_log)
    soft: dict[str, tuple[int, float]] = {}
    now, moment = clock.now(), clock.monotonic()
    for entry in purge_log.above(floor):
        applied_at = moment - max(0.0, now - entry.at)
        record = read_record(entry)
        batch = parts.issuer.canonical(record.targets if record.kind in _EFFECTIVE else (), record.sites, record.mode)
        parts.issuer.remember(entry.index, entry.position)
        parts.issuer.apply(batch, applied_at, index=entry.index)
        if record.kind is RecordKind.PURGE:
            parts.progress.begin(entry.index, batch.canonical, batch.widened, soft=bool(batch.soft))
            if record.about in waiting:
                purge_log.mark_undone(waiting.pop(record.about)[0], entry.index)
            if batch.soft:
                soft[entry.position.text] = (entry.index, moment if batch.hard else applied_at + undo_window_s)
        elif record.kind is RecordKind.UNDO and record.about in soft:
            index, _ = soft.pop(record.about)
            parts.issuer.take_back(index)
            parts.progress.drop(index)
            purge_log.mark_undone(index, entry.index)
    for index, until in soft.values():
        parts.undoable.add(index, until, moment)
    for index, record in waiting.values():
        parts.schedules.add(index, record)


def _schedules(purge_log: PurgeLog) -> dict[str, tuple[int, Record]]:
    """Those that are neither cancelled nor marked as carried out."""
    waiting: dict[str, tuple[int, Record]] = {}
    for entry in purge_log.above(0, kinds=(RecordKind.SCHEDULE, RecordKind.CANCEL)):
        record = read_record(entry)
        if record.kind is RecordKind.CANCEL:
            if record.about in waiting:
                purge_log.mark_undone(waiting.pop(record.about)[0], entry.index)
        elif not entry.undone_by and record.due is not None:
            waiting[entry.position.text] = (entry.index, record)
    return waiting
