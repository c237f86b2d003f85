"""Recovery: what the log says, done again at start, under the same apply indexes and in the same order.

    schedules   from the whole log: those neither cancelled nor carried out wait on
    undos       from the whole log: each takes back its purge when that comes up, or when it arrives at last
    stamps      from every entry above the store's floor: all below it is swept (PURGE rule 3)
    progress    purges not swept yet are swept anew, and their counts begin anew
    marks       a mark is set behind the entry that it names, so a crash may have lost it: it is set again

Records of other edges are entries like any other.

Not here: whether what is stored may be believed at all (`datadir.py`); what is held of other edges' records
(`meshing.py`).
Invariant: a record that cannot be read is widened to everything of its sites, never left out (rule 7).
"""

from collections.abc import Iterable

from banish.clock import Clock
from banish.edge.consequences import Consequences
from banish.edge.history import read_record
from banish.edge.issuing import Batch, Issuer
from banish.errors import ClientError
from banish.purge.positions import parse_position
from banish.purge.records import RecordKind
from banish.store.ledger import Entry
from banish.store.log import PurgeLog

_WAITING = (RecordKind.SCHEDULE, RecordKind.CANCEL, RecordKind.UNDO)


def recover(purge_log: PurgeLog, floor: int, issuer: Issuer, consequences: Consequences, *, clock: Clock) -> None:
    """Rebuild what was in memory. Blocks. Raises LogDamaged."""
    now, moment = clock.now(), clock.monotonic()
    for entry in _to_wait(purge_log, floor):
        consequences.follow(entry.index, read_record(entry), Batch(), applied_at=moment, now=moment)
    for entry in purge_log.above(floor):
        applied_at = moment - max(0.0, now - entry.at)
        record = read_record(entry)
        batch = issuer.canonical(record.targets if record.kind.purges else (), record.sites, record.mode)
        issuer.remember(entry.index, entry.position)
        issuer.apply(batch, applied_at, index=entry.index)
        if record.kind not in _WAITING:
            consequences.follow(entry.index, record, batch, applied_at=applied_at, now=moment)


def _to_wait(purge_log: PurgeLog, floor: int) -> Iterable[Entry]:
    """Schedules that are neither carried out nor cancelled, and whatever takes back what is not below the floor."""
    for entry in list(purge_log.above(0, kinds=_WAITING)):
        if entry.kind is RecordKind.SCHEDULE:
            done = bool(entry.undone_by)
        else:
            other = _named(purge_log, read_record(entry).about)
            done = other is not None and (
                other.index <= floor if entry.kind is RecordKind.UNDO else other.undone_by > 0
            )
        if not done:
            yield entry


def _named(purge_log: PurgeLog, id: str) -> Entry | None:  # noqa: A002
    try:
        return purge_log.find_now(parse_position(id))
    except ClientError:
        return None
