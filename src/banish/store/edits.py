"""Edits: changes to what is stored on disk, so that every row that goes together changes in one batch.

    one response   objects   its place among the variants of its URL
                   tags      a row for each tag and cache group
                   expiry    when it is of no more use
                   order     its place in eviction's queue
                   small     its body, if it is small; else a file, let go of once the batch is written
    its site       meta      bytes and responses, counted along

An edit reads the rows of a URL, takes changes, and becomes a batch. It may be about many URLs. Nothing may be
awaited between its making and `Shelf.commit`: two edits of one URL would lose each other's changes.

Not here: layouts (`rows.py`); which changes are wanted (`disk.py`, `disksweep.py`).
Units: bytes; seconds since the epoch.
Invariant: what a response has of rows follows from its StoredRow alone, so they go as they came.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from banish.caching.stored import Metadata
from banish.errors import IndexDamaged
from banish.purge.names import names_of
from banish.store.generations import Generation, Generations
from banish.store.index import Batch, Family, Index
from banish.store.rows import (
    BodyAt,
    StoredRow,
    decode_row,
    encode_pointer,
    encode_row,
    encode_small,
    expiry_key,
    group_name,
    order_key,
    small_key,
    tag_key,
    tag_name,
)

STALE_KEPT_S = 86400.0
"""How long a stale response is kept at least: it may be validated, or stand in for an origin that cannot be
reached. The default of `stale_when_unreachable_s`."""

RESPONSE_BYTES = 320
"""What a response takes on disk beside its texts and body: keys of six rows, numbers, checksums."""

LINE_BYTES = 6
"""What a text takes beside itself, in rows."""


class Place(NamedTuple):
    """Where the responses of one URL are: their generation, and the key of their row."""

    generation: Generation
    key: bytes


class Dropped(NamedTuple):
    """A response whose body was in a file, to which nothing leads any more."""

    cache_key: str
    gen: int
    serial: int


class Edit:
    """Changes to some URLs that come about together."""

    __slots__ = ("_counted", "_index", "_known", "changed", "damaged", "dropped", "generations", "gone", "touched")

    def __init__(self, index: Index, generations: Generations) -> None:
        self.generations = generations
        self.changed = Batch()
        """Rows of other families, as changes are taken; `finished` adds those of the objects."""

        self.dropped: list[Dropped] = []
        """Whose files are to be deleted once the batch is written."""

        self.damaged = 0
        """Rows found that cannot be read; they are taken for empty."""

        self.gone: set[int] = set()
        """Serials of those deleted: what led to them leads nowhere because of this edit."""

        self.touched: dict[bytes, Place] = {}
        self._index = index
        self._known: dict[bytes, tuple[StoredRow, ...]] = {}
        self._counted: dict[int, tuple[Generation, int, int]] = {}

    @property
    def gained(self) -> int:
        """How many bytes more will be in use; negative if less."""
        return sum([n_bytes for _, _, n_bytes in self._counted.values()])

    def __len__(self) -> int:
        """Changes so far."""
        return len(self.changed) + len(self.touched)

    def variants(self, place: Place) -> tuple[StoredRow, ...]:
        """What is stored there, newest first, as this edit leaves it. Raises IndexFailed."""
        known = self._known.get(place.key)
        if known is not None:
            return known
        try:
            value = self._index.get(Family.OBJECTS, place.key)
        except IndexDamaged:
            value = b""
        return () if value is None else self.know(place, value)

    def know(self, place: Place, value: bytes) -> tuple[StoredRow, ...]:
        """As `variants`, from a row read just now."""
        if place.key not in self._known:
            try:
                self._known[place.key] = decode_row(place.key, value, place.generation.key_name)
            except IndexDamaged:
                self.damaged += 1
                self.scrap(place)
        return self._known[place.key]

    def put(self, place: Place, row: StoredRow, body: bytes | None) -> None:
        """Store a response. `body` is that of a small one; a file's is there already."""
        self._set(place, _newest_first([row, *self.variants(place)]))
        self._derive((), _derived(place, row), place)
        if body is not None:
            key = small_key(place.generation.gen, row.serial)
            self.changed.put(Family.SMALL, key, encode_small(key, body))
        self._count(place, 1, weight(row))

    def swap(self, place: Place, old: StoredRow, new: StoredRow) -> None:
        """Put other metadata, fence or marks in the place of `old`; serial and body stay."""
        assert (old.serial, old.size, old.body_at) == (new.serial, new.size, new.body_at)
        rows = [new if row.serial == old.serial else row for row in self.variants(place)]
        self._set(place, _newest_first(rows))
        self._derive(_derived(place, old), _derived(place, new), place)
        self._count(place, 0, weight(new) - weight(old))

    def drop(self, place: Place, row: StoredRow) -> None:
        """Delete a response and its body. Nothing happens if this edit has deleted it already."""
        others = [other for other in self.variants(place) if other.serial != row.serial]
        if len(others) == len(self.variants(place)):
            return
        self.gone.add(row.serial)
        self._set(place, others)
        self._derive(_derived(place, row), (), place)
        if row.body_at is BodyAt.SMALL:
            self.changed.delete(Family.SMALL, small_key(place.generation.gen, row.serial))
        else:
            self.dropped.append(Dropped(row.meta.key, place.generation.gen, row.serial))
        self._count(place, -1, -weight(row))

    def scrap(self, place: Place) -> None:
        """Delete a row that cannot be read, with all it may say. What else belonged to it is cleared away when
        somebody comes upon it."""
        self._known[place.key] = ()
        self.touched[place.key] = place

    def miss(self, place: Place) -> None:
        """A response turns out to have been in a row that was scrapped unread: count out an average one."""
        generation = place.generation
        if generation.count:
            self._count(place, -1, -(generation.bytes // generation.count))

    def finished(self) -> Batch:
        """All of it as one batch, about to be written: it is counted now. To be called once."""
        batch = self.changed
        for key in self.touched:
            rows = self._known[key]
            if rows:
                batch.put(Family.OBJECTS, key, encode_row(key, rows))
            else:
                batch.delete(Family.OBJECTS, key)
        for generation, count, n_bytes in self._counted.values():
            self.generations.add(generation, count, n_bytes)
            self.generations.save(batch, generation)
        return batch

    def taken_back(self) -> None:
        """The batch was not written: count it out again."""
        for generation, count, n_bytes in self._counted.values():
            self.generations.add(generation, -count, -n_bytes)

    def _count(self, place: Place, count: int, n_bytes: int) -> None:
        generation, counted, counted_bytes = self._counted.get(place.generation.gen, (place.generation, 0, 0))
        self._counted[generation.gen] = (generation, counted + count, counted_bytes + n_bytes)

    def _set(self, place: Place, rows: list[StoredRow]) -> None:
        self._known[place.key] = tuple(rows)
        self.touched[place.key] = place

    def _derive(self, before: Iterable[tuple[Family, bytes]], after: Iterable[tuple[Family, bytes]], to: Place) -> None:
        """Exchange the rows that lead to a response."""
        gone, come = dict.fromkeys(before), dict.fromkeys(after)
        for family, key in gone.keys() - come.keys():
            self.changed.delete(family, key)
        for family, key in come.keys() - gone.keys():
            self.changed.put(family, key, encode_pointer(to.key))


def _newest_first(rows: list[StoredRow]) -> list[StoredRow]:
    return sorted(rows, key=lambda row: -row.meta.received_at)


def pointers(gen: int, row: StoredRow) -> list[tuple[Family, bytes]]:
    """Family and key of every row that leads to a response."""
    meta, serial = row.meta, row.serial
    origin = names_of(meta).origin
    names = [tag_name(tag) for tag in meta.tags] + [group_name(origin, group) for group in meta.groups]
    return [
        *[(Family.TAGS, tag_key(gen, name, row.fence, serial)) for name in names],
        (Family.EXPIRY, expiry_key(useless_at(meta), gen, serial)),
        (Family.ORDER, order_key(serial)),
    ]


def _derived(place: Place, row: StoredRow) -> list[tuple[Family, bytes]]:
    return pointers(place.generation.gen, row)


def useless_at(meta: Metadata) -> float:
    """The moment from which on a response is good for nothing, whatever happens."""
    directives = meta.directives
    windows = (directives.stale_while_revalidate, directives.stale_if_error)
    kept_s = max(STALE_KEPT_S, *[float(window) for window in windows if window is not None], 0.0)
    return meta.received_at - meta.initial_age + meta.lifetime + kept_s


def weight(row: StoredRow) -> int:
    """Bytes that a response takes on disk, about: what budgets are counted in."""
    meta = row.meta
    named = sum([len(name) + LINE_BYTES + 2 * len(meta.key) for name in (*meta.tags, *meta.groups)])
    lines = sum(
        [len(name) + len(value) + LINE_BYTES for fields in (meta.fields, row.trailers) for name, value in fields]
    )
    return RESPONSE_BYTES + 4 * len(meta.key) + named + lines + len(row.checksums) + row.size


def marked(row: StoredRow, soft_at: int) -> StoredRow:
    """The same response, made stale by a purge."""
    return msgspec.structs.replace(row, soft_at=soft_at)


def superseded(rows: Iterable[StoredRow], meta: Metadata) -> list[StoredRow]:
    """Those that must not answer once a response with this metadata was received, unless it is there too: the same
    variant, and what is older and selected by other fields, since a request may select both (RFC 9111 section 4: the
    most recent one is used)."""
    return [row for row in rows if same_variant(row, meta) or _elder_rival(row, meta)]


def same_variant(row: StoredRow, meta: Metadata) -> bool:
    """Whether both are selected by the same values of the same fields."""
    return (row.meta.vary, row.meta.selecting) == (meta.vary, meta.selecting)


def _elder_rival(row: StoredRow, meta: Metadata) -> bool:
    return row.meta.vary != meta.vary and row.meta.received_at <= meta.received_at
