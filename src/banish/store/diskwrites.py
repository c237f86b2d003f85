"""Writing to disk: who is let in, what goes for it, and what is owed.

A response that is put takes the place of its variant, and of what might answer instead of it though it is older: so
those go even if it is not let in itself. What should be deleted while the disk cannot be written is *owed*: it is
hidden until it is deleted.

Not here: purges (`disksweep.py`); eviction (`upkeep.py`); bodies on their way (`writebehind.py`).
Source: PURGE rules 5, 10, 16.
Units: bytes; apply indexes.
Invariants: what is written was matched in the same step, and is marked as a sweep would have marked it; what is on
disk is never older than what the origin was last heard to say of its URL, as far as it was stored at all.
"""

import contextlib
from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

from banish.errors import StoreError
from banish.purge.stamps import PurgeTable, Verdict
from banish.store.bodies import Body
from banish.store.disksweep import DiskSweep
from banish.store.edits import Edit, Place, same_variant, superseded, weight
from banish.store.files import StoredFile
from banish.store.memory import VARIANTS_MAX
from banish.store.records import StoredResponse
from banish.store.rows import SMALL_BODY_BYTES, BodyAt, StoredRow, split_key_name
from banish.store.shelf import Shelf
from banish.store.sieve import Door
from banish.store.upkeep import Step, Upkeep
from banish.store.writebehind import Write, WriteBehind
from banish.tables import Accounts, Metric

ROOM_SHARE = 0.98
"""The disk counts as full from this share of its budget on: then only what is asked for again is let in."""

EVICT_TO_SHARE = 0.99
"""The sweep makes room down to this, so that few puts have to."""

EVICT_ROWS = 32
"""Responses that one put may look at to make room for itself: a millisecond's work. The sweep does the rest."""

OWED_MAX = 10_000
"""Keys remembered that are to be deleted. Past it, everything on disk is to be deleted."""

DISK_PUTS = Metric("banish_disk_puts_total", "counter", "Responses offered to the disk, by outcome.", ("outcome",))
DISK_OWED = Metric(
    "banish_disk_owed", "gauge", "Keys whose responses on disk are to be deleted once it can be written."
)


class DiskOutcome(StrEnum):
    """What became of a response offered to the disk."""

    STORED = "stored"
    WRITING = "writing"
    """Its body is on its way to a file."""

    PURGED = "purged"
    """A purge matched it meanwhile, or is too long ago to tell."""

    STRANGER = "stranger"
    """The disk is full, and nobody has asked for it twice."""

    TOO_LARGE = "too_large"
    FULL = "full"
    """No room could be made fast enough."""

    BUSY = "busy"
    """Too many bodies wait for the disk."""

    GONE = "gone"
    """Replaced, removed or its site renewed while its body was on its way."""

    NO_SITE = "no_site"
    """Its site, or the site's key rules, are not in force any more."""

    FAILED = "failed"
    """The disk has failed."""


class DiskWrites:
    """Changes to what one shelf holds. `settled` is told of each record whose body is in a file now."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        table: PurgeTable,
        sweep: DiskSweep,
        upkeep: Upkeep,
        settled: Callable[[StoredResponse, Body, int], object],
        budget_bytes: int,
        accounts: Accounts,
    ) -> None:
        self.key_names: frozenset[str] | None = None
        """The sites and rules in force; None while that is not known."""

        self.budget_bytes = budget_bytes
        self._shelf = shelf
        self._table = table
        self._sweep = sweep
        self._upkeep = upkeep
        self._settled = settled
        self._door = Door()
        self._owed: set[str] = set()
        self._owed_all = False
        self.behind = WriteBehind(shelf, room=self._has_room, written=self._written, accounts=accounts)
        self._puts = accounts.tally(DISK_PUTS)
        accounts.read(DISK_OWED, lambda: [((), len(self._owed))])

    # What may be asked

    @property
    def used_bytes(self) -> int:
        """Bytes in use, and of files on their way."""
        return self._shelf.generations.bytes + self.behind.reserved_bytes

    def hidden(self, key: str) -> bool:
        """Whether what is under this key is to be deleted."""
        return self._owed_all or key in self._owed

    # Changes

    def put(self, record: StoredResponse) -> DiskOutcome:
        """Store a response, if it is let in; nothing older is found in its stead, whatever becomes of it."""
        outcome = self._guarded(record.meta.key, lambda: self._put(record))
        self._puts.add(outcome.value)
        return outcome

    def replace(self, old: StoredResponse, new: StoredResponse) -> DiskOutcome:
        """Store `new`, which has the body of `old`, where `old` is (after a 304 or a HEAD)."""
        outcome = self._guarded(new.meta.key, lambda: self._replace(old, new))
        self._puts.add(outcome.value)
        return outcome

    def remove(self, record: StoredResponse) -> None:
        """Delete this very response, if it is there."""
        write = self.behind.of(record)
        if write is not None:
            self.behind.cancel(record.variant)
        if record.serial:
            self._guarded(record.meta.key, lambda: self._remove(record))

    def settle_owed(self) -> Step:
        """Delete some of what is owed."""
        try:
            if self._owed_all:
                self._shelf.drop(self._shelf.generations, renewed_at=self._table.index)
                self._owed_all = False
                self._owed.clear()
                return Step.WORKED
            if not self._owed:
                return Step.IDLE
            key = next(iter(self._owed))
            place = self._shelf.place(key)
            if place is not None:
                edit = self._shelf.edit()
                self._drop(edit, place, edit.variants(place))
                self._shelf.commit(edit)
            self._owed.discard(key)
        except StoreError:
            return Step.STUCK
        return Step.WORKED

    def make_room(self) -> Step:
        """Evict a little if the disk is too full, or if a body waits for room; then begin what there is room for."""
        taken = self.behind.reserved_bytes + self.behind.waiting_bytes
        try:
            seen = self._upkeep.evict(int(self.budget_bytes * EVICT_TO_SHARE) - taken, EVICT_ROWS)
        except StoreError:
            self._shelf.count_failure("evict")
            return Step.STUCK
        self.behind.advance()
        return Step.WORKED if seen else Step.IDLE

    def drop_strangers(self) -> None:
        """Drop the generations of sites and rules that are not in force."""
        if self.key_names is not None:
            strange = [old for old in self._shelf.generations if old.key_name not in self.key_names]
            with contextlib.suppress(StoreError):  # then nothing is found there all the same
                self._shelf.drop(strange)

    # Ours

    def _guarded(self, key: str, change: Callable[[], DiskOutcome]) -> DiskOutcome:
        """Make a change; if that fails, what is under the key is owed."""
        if not self._shelf.failed:
            with contextlib.suppress(StoreError):  # counted where it was met
                return change()
        self._owe(key)
        return DiskOutcome.FAILED

    def _owe(self, key: str) -> None:
        """Have all that is under a key deleted, and what is on its way there come to nothing."""
        self.behind.cancel_key(key)
        place = self._shelf.place(key)
        if place is not None:
            self._shelf.stale(place)
        if len(self._owed) < OWED_MAX:
            self._owed.add(key)
        else:
            self._owed_all = True

    def _put(self, record: StoredResponse) -> DiskOutcome:
        if self.behind.of(record) is not None:
            return DiskOutcome.WRITING
        if self._table.verdict(record.names, record.clean_at).dead:
            return DiskOutcome.PURGED
        place = self._place(record)
        if place is None:
            return DiskOutcome.NO_SITE
        data = record.body.data
        small = data if data is not None and len(data) <= SMALL_BODY_BYTES else None
        row = self._row(record, 0, BodyAt.FILE if small is None else BodyAt.SMALL, b"")
        outcome = self._let_in(record, place, weight(row))
        edit = self._shelf.edit()
        rows = edit.variants(place)
        if record.serial and any(row.serial == record.serial for row in rows):
            return DiskOutcome.STORED
        row = msgspec.structs.replace(row, serial=self._shelf.serial())
        if self.hidden(record.meta.key):
            self._drop(edit, place, rows)
        elif outcome is DiskOutcome.STORED and small is not None:
            self._drop(edit, place, [old for old in rows if same_variant(old, record.meta)])
        else:
            self._drop(edit, place, superseded(rows, record.meta))
        if outcome is DiskOutcome.STORED and small is not None:
            edit.put(place, row, small)
            self._drop(edit, place, edit.variants(place)[VARIANTS_MAX:])
        self._shelf.commit(edit)
        self._owed.discard(record.meta.key)
        if outcome is not DiskOutcome.STORED:
            self.behind.cancel_superseded(record.meta)
            return outcome
        if small is None:
            write = Write(record, place.generation, row.serial, self._table.index)
            return DiskOutcome.WRITING if self.behind.queue(write) else DiskOutcome.BUSY
        self.behind.cancel(record.variant)
        record.serial = row.serial
        return outcome

    def _replace(self, old: StoredResponse, new: StoredResponse) -> DiskOutcome:
        write = self.behind.of(old)
        if write is not None:
            self.behind.exchange(write, new, self._table.index)
            return DiskOutcome.WRITING
        place = self._place(new)
        edit = self._shelf.edit()
        rows = edit.variants(place) if place is not None else ()
        row = next((row for row in rows if old.serial and row.serial == old.serial), None)
        if place is None or row is None or row.size != new.body.size or self.hidden(new.meta.key):
            new.serial = 0  # what may be there under this number, if it can be read this time, is not the new one
            return self._put(new)
        if self._table.verdict(new.names, new.clean_at).dead:
            edit.drop(place, row)
            self._shelf.commit(edit)
            return DiskOutcome.PURGED
        self._drop(edit, place, [other for other in rows if other is not row and same_variant(other, new.meta)])
        self._sweep.outrun(row)
        edit.swap(place, row, self._row(new, row.serial, row.body_at, row.checksums))
        self._shelf.commit(edit)
        new.serial = row.serial
        return DiskOutcome.STORED

    def _remove(self, record: StoredResponse) -> DiskOutcome:
        place = self._shelf.place(record.meta.key)
        if place is not None:
            edit = self._shelf.edit()
            self._drop(edit, place, [row for row in edit.variants(place) if row.serial == record.serial])
            self._shelf.commit(edit)
        return DiskOutcome.GONE

    def _written(self, write: Write, file: StoredFile) -> None:
        """The body of a write is in its file: its row follows, if it still may."""
        record = write.record
        outcome = self._guarded(record.meta.key, lambda: self._write_row(write, file))
        self._puts.add(outcome.value)
        if outcome is DiskOutcome.STORED:
            record.serial = write.serial
            self._settled(record, Body.stored(file, record.body.trailers), write.serial)
        else:
            self.behind.delete(write)

    def _write_row(self, write: Write, file: StoredFile) -> DiskOutcome:
        record, generation = write.record, write.generation
        if self._shelf.generations.numbered(generation.gen) is not generation:
            return DiskOutcome.GONE
        if self._table.verdict(record.names, write.base).dead:
            return DiskOutcome.PURGED
        place = self._shelf.place(record.meta.key)
        assert place is not None, "its generation is in force"
        edit = self._shelf.edit()
        rows = edit.variants(place)
        self._drop(edit, place, [row for row in rows if self.hidden(record.meta.key) or same_variant(row, record.meta)])
        edit.put(place, self._row(record, write.serial, BodyAt.FILE, file.checksums), None)
        self._drop(edit, place, edit.variants(place)[VARIANTS_MAX:])
        self._shelf.commit(edit)
        self._owed.discard(record.meta.key)
        return DiskOutcome.STORED

    def _place(self, record: StoredResponse) -> Place | None:
        """Where the record belongs; its site's generation is opened if need be, unless the site is not in force."""
        key = record.meta.key
        if self.key_names is not None and split_key_name(key)[0] not in self.key_names:
            return None
        if self._shelf.generations.named(key) is None:
            self._shelf.open(key, self._table.index)
        return self._shelf.place(key)

    def _row(self, record: StoredResponse, serial: int, body_at: BodyAt, checksums: bytes) -> StoredRow:
        return StoredRow(
            record.meta,
            serial,
            record.fence,
            record.body.size,
            body_at,
            self._mark(record),
            checksums,
            record.body.trailers,
        )

    def _mark(self, record: StoredResponse) -> int:
        """The oldest soft purge that matches and can no longer be taken back, 0 if none: what a sweep would note."""
        if 0 < record.soft_at <= self._table.floor:
            return record.soft_at
        since = max(record.fence, self._table.floor)
        finding = self._table.finding(record.names, since, self._sweep.final)
        return finding.index if finding.verdict is Verdict.SOFT else 0

    # Room

    def _let_in(self, record: StoredResponse, place: Place, n_bytes: int) -> DiskOutcome:
        """STORED if there is room for so many bytes more, or room was made for one who is worth it."""
        if n_bytes > self.budget_bytes:
            return DiskOutcome.TOO_LARGE
        if self.used_bytes + n_bytes <= self.budget_bytes * ROOM_SHARE:
            return DiskOutcome.STORED
        known = record.hits or any(same_variant(row, record.meta) for row in self._shelf.edit().variants(place))
        if not (self._door.knows(record.meta.key) or known):
            return DiskOutcome.STRANGER
        if n_bytes > SMALL_BODY_BYTES * 2:  # waits until there is room
            return DiskOutcome.STORED
        if not self._has_room(n_bytes):
            self._upkeep.evict(self.budget_bytes - self.behind.reserved_bytes - n_bytes, EVICT_ROWS)
        return DiskOutcome.STORED if self._has_room(n_bytes) else DiskOutcome.FULL

    def _has_room(self, n_bytes: int) -> bool:
        return self.used_bytes + n_bytes <= self.budget_bytes

    def _drop(self, edit: Edit, place: Place, rows: Iterable[StoredRow]) -> None:
        for row in rows:
            edit.drop(place, row)
            self._sweep.outrun(row)
            self._upkeep.removed.add("replaced")
