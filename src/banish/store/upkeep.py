"""Upkeep of the disk: making room, deleting what is of no more use, clearing up after dropped generations.

All of it goes along a queue of rows, a slice at a time, and what it meets that leads nowhere it takes away:

    order    ──▶ the hand of SIEVE (`sieve.py`): not asked for lately, while the disk is over its budget
    expiry   ──▶ from the earliest on, while their moment is past
    both     ──▶ from end to end, after a generation was dropped: their rows are not in its range

Not here: what purges delete (`disksweep.py`); when to do it (`disk.py`).
Units: bytes; seconds since the epoch; slices are numbers of rows.
Invariant: a generation is forgotten only when no row of a queue and no file is left of it.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from enum import Enum
from itertools import islice

from banish.errors import IndexDamaged, StoreError
from banish.store.edits import Edit, Place
from banish.store.index import Batch, Family
from banish.store.rows import (
    META_HAND,
    StoredRow,
    decode_meta,
    decode_pointer,
    encode_meta,
    expired_range,
    gen_range,
    generation_of,
    order_key,
    read_expiry_key,
    read_order_key,
    small_key,
)
from banish.store.shelf import Shelf
from banish.store.sieve import Sieve
from banish.tables import Accounts, Metric

SLICE = 32
"""Rows of a queue looked at in one step: about a millisecond's work if all of them go."""

CLEAR_SLICE = 512
"""Rows looked at in one step of clearing: most of them stay, and cost nothing but reading."""

ORPHANS_AT_ONCE = 256
"""Names of files looked up in one read."""

DISK_REMOVED = Metric(
    "banish_disk_removed_total", "counter", "Stored responses deleted from disk, by reason.", ("reason",)
)
DISK_DANGLING = Metric(
    "banish_disk_dangling_total",
    "counter",
    "Rows and files on disk that led to nothing stored, taken away, by kind.",
    ("kind",),
)

ORDER_KEY_BYTES = len(order_key(0))

_END = b"\xff" * 24
"""Past all keys of the queues."""


class Step(Enum):
    """What one step of work behind the requests came to."""

    WORKED = "worked"
    STUCK = "stuck"
    """The disk has failed or does not keep up, or something is awaited: try again later."""
    IDLE = "idle"
    """Nothing is left to do."""


class Upkeep:
    """The chores of one disk. Each takes a step that may be taken again if the disk fails in it."""

    def __init__(self, shelf: Shelf, accounts: Accounts) -> None:
        self._shelf = shelf
        known = shelf.index.get(Family.META, META_HAND)
        self.sieve = Sieve(decode_meta(known, int) if known else 0)
        self.removed = accounts.tally(DISK_REMOVED)
        self._dangling = accounts.tally(DISK_DANGLING)
        self._clearing: Iterator[Step] | None = None

    # Making room

    def evict(self, to_bytes: int, rows_max: int) -> int:
        """Delete by SIEVE until no more than `to_bytes` are in use, looking at so many responses at most; how many
        it looked at."""
        shelf, seen = self._shelf, 0
        used = shelf.generations.bytes
        if used <= to_bytes:
            return 0
        edit = shelf.edit()
        rows = shelf.index.scan(Family.ORDER, order_key(self.sieve.hand), _END, rows_max)
        for key, value in rows:
            if used + edit.gained <= to_bytes:
                break
            seen += 1
            serial = _serial(key)
            if serial is None or not self.sieve.passes(serial):
                self._delete(edit, Family.ORDER, key, value, serial, "evicted")
        if seen == len(rows) < rows_max:
            self.sieve.turn()
        edit.changed.put(Family.META, META_HAND, encode_meta(self.sieve.hand))
        shelf.commit(edit)
        return seen

    # What is of no more use

    def expire(self, now: float) -> Step:
        """Delete some of what is of no more use at `now`."""
        shelf = self._shelf
        try:
            rows = shelf.index.scan(Family.EXPIRY, *expired_range(now), SLICE)
            if not rows:
                return Step.IDLE
            edit = shelf.edit()
            for key, value in rows:
                self._delete(edit, Family.EXPIRY, key, value, _serial(key), "expired")
            shelf.commit(edit)
        except StoreError:
            shelf.count_failure("expire")
            return Step.STUCK
        return Step.WORKED

    # After dropped generations

    def clear(self) -> Step:
        """Take one step of clearing up after dropped generations."""
        if self._clearing is None:
            if not self._shelf.generations.dropped:
                return Step.IDLE
            self._clearing = self._clear(set(self._shelf.generations.dropped))
        try:
            return next(self._clearing)
        except StopIteration:
            self._clearing = None
            return Step.WORKED
        except StoreError:
            self._clearing = None  # begun anew, later
            self._shelf.count_failure("clear")
            return Step.STUCK

    def restart(self) -> None:
        """The index was opened again: what was under way begins anew."""
        self._clearing = None

    def _clear(self, dropped: set[int]) -> Iterator[Step]:
        shelf = self._shelf
        files = [shelf.behind("unlink", shelf.files.drop_generation, gen) for gen in sorted(dropped)]
        for gen in sorted(dropped):
            for family in (Family.OBJECTS, Family.TAGS, Family.SMALL):
                shelf.behind("reclaim", shelf.index.reclaim, family, *gen_range(gen))
        for family in (Family.ORDER, Family.EXPIRY):
            start = b""
            while rows := shelf.index.scan(family, start, _END, CLEAR_SLICE):
                batch = Batch()
                for key, value in rows:
                    if _generation(value) in dropped:
                        batch.delete(family, key)
                shelf.write(batch)
                start = rows[-1][0] + b"\0"
                yield Step.WORKED
        while not all(done.done() for done in files):
            yield Step.STUCK
        cleared = [gen for gen, done in zip(sorted(dropped), files, strict=True) if _succeeded(done)]
        batch = Batch()
        for gen in cleared:
            shelf.generations.forgetting(batch, gen)
        shelf.write(batch)
        shelf.generations.dropped.difference_update(cleared)

    def orphans(self) -> None:
        """Delete files from before this start that nothing leads to. Blocks: on a thread, once."""
        shelf = self._shelf
        live, first = {generation.gen for generation in shelf.generations}, shelf.serials.first
        newest = shelf.generations.newest
        for gen in shelf.files.generations():
            if gen not in live and gen <= newest:
                shelf.files.drop_generation(gen)
        old = ((gen, serial) for gen, serial in shelf.files.names() if gen in live and serial < first)
        while names := list(islice(old, ORPHANS_AT_ONCE)):
            rows = shelf.index.get_many(Family.ORDER, [order_key(serial) for _, serial in names])
            for (gen, serial), row in zip(names, rows, strict=True):
                if row is None or _generation(row) != gen:
                    shelf.files.unlink(gen, serial)

    # Ours

    def _delete(self, edit: Edit, family: Family, key: bytes, value: bytes, serial: int | None, reason: str) -> None:
        """Delete the response to which a row of a queue leads; else the row, and what may be left of a body."""
        if serial in edit.gone:  # with a newer one, in this very edit
            return
        shelf = self._shelf
        place = self._place(value)
        row = None if place is None else _find(edit.variants(place), serial)
        if place is not None and row is not None:
            for gone in (row, *_elders(edit.variants(place), row)):
                edit.drop(place, gone)
                self.removed.add(reason)
            return
        self._dangling.add(family.value)
        edit.changed.delete(family, key)
        if place is not None and serial is not None:
            if family is Family.ORDER:
                edit.miss(place)
            gen = place.generation.gen
            edit.changed.delete(Family.SMALL, small_key(gen, serial))
            shelf.behind("unlink", shelf.files.unlink, gen, serial)

    def _place(self, value: bytes) -> Place | None:
        gen = _generation(value)
        generation = None if gen is None else self._shelf.generations.numbered(gen)
        return None if generation is None else Place(generation, decode_pointer(value))


def _elders(rows: tuple[StoredRow, ...], row: StoredRow) -> list[StoredRow]:
    """What stands behind a response and could answer in its stead: it must not outlive what is newer."""
    behind = rows[rows.index(row) + 1 :]
    return [elder for elder in behind if elder.meta.vary != row.meta.vary]


def _find(rows: tuple[StoredRow, ...], serial: int | None) -> StoredRow | None:
    return next((row for row in rows if row.serial == serial), None)


def _serial(key: bytes) -> int | None:
    """The serial in a key of either queue; None if it cannot be read."""
    try:
        return read_order_key(key) if len(key) == ORDER_KEY_BYTES else read_expiry_key(key)[2]
    except IndexDamaged:
        return None


def _generation(value: bytes) -> int | None:
    """The generation to which a row of a queue leads; None if it cannot be read."""
    try:
        return generation_of(decode_pointer(value))
    except IndexDamaged:
        return None


def _succeeded(done: "Future[object]") -> bool:
    return not done.cancelled() and done.exception() is None
