"""Reading from disk: rows and small bodies on a thread, and a look back at the end.

    begin ──▶ thread: row of the URL, bodies of its variants ──▶ end: changed meanwhile? ─┬─ no ──▶ records
      floor now = what the rows are clean up to                                          └─ yes ─▶ again

What cannot be read as it was written is deleted, and so a miss. Records are not matched here against the purges:
who takes them does that, in the step in which it takes them (`memory.py`, `promote`).

Not here: layouts (`rows.py`); bodies in files, which are read when they are wanted (`files.py`).
Source: PURGE rule 5.
Invariant: `clean_at` of a record loaded is the floor when its read began, or its fence: a row that is there was
matched when it was written, and all purges up to the floor have been looked for since.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from banish.caching.stored import Metadata
from banish.errors import IndexDamaged, StoreError
from banish.purge.names import Names, names_of
from banish.purge.stamps import PurgeTable
from banish.purge.targets import Target, matches
from banish.store.bodies import Body
from banish.store.diskthreads import DiskThreads
from banish.store.edits import Place
from banish.store.index import Family, Index, Row
from banish.store.ranges import ranges
from banish.store.records import StoredResponse
from banish.store.rows import BodyAt, StoredRow, decode_pointer, decode_row, decode_small, read_tag_key, small_key
from banish.store.shelf import Shelf
from banish.tables import Accounts, Metric

READ_THREADS = 4
"""Threads that read rows: as many slow seeks at once, and a bound on blocked calls."""

READS_MAX = 3
"""Times a URL is read that changes while it is being read; then it is a miss."""

SURVEY_SLICE = 64
"""Rows looked at between two breaths of a survey."""

DISK_LOADS = Metric(
    "banish_disk_loads_total",
    "counter",
    "Look-ups on disk, by outcome: hit, miss, again (the URL changed meanwhile), restless (once too often), failed.",
    ("outcome",),
)


class Matched(NamedTuple):
    """A response on disk that a survey found."""

    names: Names
    key: str
    size: int
    """Bytes of its body."""
    serial: int


class _Found(NamedTuple):
    """What a thread has read of one URL."""

    rows: list[tuple[StoredRow, bytes | None]]
    """Each variant, with its body if that is small."""
    damaged: list[StoredRow]
    """Those whose small body is not what was written."""
    scrap: bool = False
    """The row itself is not what was written."""


class DiskReads:
    """Look-ups on one shelf. `hidden` says of a cache key that what is there is to be deleted."""

    def __init__(self, shelf: Shelf, table: PurgeTable, hidden: Callable[[str], bool], accounts: Accounts) -> None:
        self._shelf = shelf
        self._table = table
        self._hidden = hidden
        self._threads = DiskThreads(READ_THREADS, "banish-rows")
        self._loads = accounts.tally(DISK_LOADS)

    def may_have(self, key: str) -> bool:
        """Whether anything may be stored under this key; False is certain."""
        place = self._shelf.place(key)
        return place is not None and not self._hidden(key) and self._shelf.may_hold(place)

    async def load(self, key: str) -> list[StoredResponse]:
        """All variants stored under a key, newest first, clean up to their `clean_at`."""
        for _ in range(READS_MAX):
            place = self._shelf.place(key)
            if place is None or not self.may_have(key):
                break
            floor, reading = self._table.floor, self._shelf.begin(place)
            try:
                found = await asyncio.wrap_future(self._threads.submit(_read, self._shelf.index, place))
            except StoreError:
                self._loads.add("failed")
                return []
            finally:
                as_read = self._shelf.end(reading)
            if as_read:
                return self._records(place, found, floor)
            self._loads.add("again")
        else:
            self._loads.add("restless")
            return []
        self._loads.add("miss")
        return []

    def load_at_once(self, key: str) -> list[StoredResponse]:
        """The same, while everything else waits: no purge can be forgotten meanwhile. For what is restless only."""
        place = self._shelf.place(key)
        if place is None or not self.may_have(key):
            self._loads.add("miss")
            return []
        try:
            found = _read(self._shelf.index, place)
        except StoreError:
            self._loads.add("failed")
            return []
        return self._records(place, found, self._table.floor)

    def peek(self, key: str) -> list[Metadata]:
        """What is known of the variants stored under a key. Reads at once: for a few keys only."""
        place = self._shelf.place(key)
        if place is None or not self.may_have(key):
            return []
        with contextlib.suppress(StoreError):
            return [row.meta for row in self._shelf.edit().variants(place)]
        return []

    def survey(self, target: Target) -> Iterator[list[Matched]]:
        """What a purge of `target` would match, a slice at a time; empty slices too, so that others get their turn."""
        for generation in self._shelf.generations.of_site(target.site):
            for family, span in ranges(generation.gen, target, self._table.index + 1):
                start = span.start
                while rows := self._rows(family, start, span.end):
                    yield self._matched(target, family, rows)
                    start = rows[-1][0] + b"\0"

    def close(self) -> None:
        """Stop the threads, once what they do is done."""
        self._threads.stop()

    def _records(self, place: Place, found: _Found, floor: int) -> list[StoredResponse]:
        if found.scrap or found.damaged:
            self._delete(place, found)
        self._loads.add("hit" if found.rows else "miss")
        return [self._record(place, row, small, floor) for row, small in found.rows]

    def _record(self, place: Place, row: StoredRow, small: bytes | None, floor: int) -> StoredResponse:
        if small is not None:
            body = Body(small, row.trailers)
        else:
            file = self._shelf.files.file(place.generation.gen, row.serial, row.size, row.checksums)
            body = Body.stored(file, row.trailers)
        clean_at = max(row.fence, floor)
        return StoredResponse(row.meta, body, row.fence, clean_at, soft_at=row.soft_at, serial=row.serial)

    def _delete(self, place: Place, found: _Found) -> None:
        self._shelf.damages.add(n=found.scrap + len(found.damaged))
        edit = self._shelf.edit()
        if found.scrap:
            edit.scrap(place)
        with contextlib.suppress(StoreError):  # then it will be met again
            for row in found.damaged:
                edit.drop(place, row)
            self._shelf.commit(edit)

    def _rows(self, family: Family, start: bytes, end: bytes) -> list[Row]:
        try:
            return self._shelf.index.scan(family, start, end, SURVEY_SLICE)
        except StoreError:
            return []

    def _matched(self, target: Target, family: Family, rows: list[Row]) -> list[Matched]:
        found: list[Matched] = []
        edit = self._shelf.edit()
        for key, value in rows:
            with contextlib.suppress(StoreError):
                at, serial = (key, None) if family is Family.OBJECTS else (decode_pointer(value), read_tag_key(key)[3])
                place = self._shelf.place_at(at)
                if place is None:
                    continue
                variants = edit.variants(place) if serial else edit.know(place, value)
                found += [self._one(row) for row in variants if serial in (None, row.serial) and self._hit(target, row)]
        return found

    def _hit(self, target: Target, row: StoredRow) -> bool:
        names = names_of(row.meta)
        live = not self._table.verdict(names, max(row.fence, self._table.floor)).dead
        return live and matches(target, names)

    def _one(self, row: StoredRow) -> Matched:
        return Matched(names_of(row.meta), row.meta.key, row.size, row.serial)


def _read(index: Index, place: Place) -> _Found:
    """On a thread: everything of one URL that is in the index."""
    try:
        value = index.get_many(Family.OBJECTS, [place.key])[0]
        rows = () if value is None else decode_row(place.key, value, place.generation.key_name)
    except IndexDamaged:
        return _Found([], [], scrap=True)
    small = [row for row in rows if row.body_at is BodyAt.SMALL]
    keys = [small_key(place.generation.gen, row.serial) for row in small]
    bodies = dict(zip([row.serial for row in small], _bodies(index, keys), strict=True))
    damaged = [row for row in small if (body := bodies[row.serial]) is None or len(body) != row.size]
    gone = {row.serial for row in damaged}
    return _Found([(row, bodies.get(row.serial)) for row in rows if row.serial not in gone], damaged)


def _bodies(index: Index, keys: Sequence[bytes]) -> list[bytes | None]:
    """The small bodies under these keys; None for what is missing or damaged."""
    try:
        values = index.get_many(Family.SMALL, keys)
    except IndexDamaged:
        if len(keys) == 1:
            return [None]
        return [_bodies(index, [key])[0] for key in keys]
    return [_body(key, value) for key, value in zip(keys, values, strict=True)]


def _body(key: bytes, value: bytes | None) -> bytes | None:
    with contextlib.suppress(IndexDamaged):
        return None if value is None else decode_small(key, value)
    return None
