"""Generations: each site's part of the disk under one number, so that all of it can go in one step.

    "shop#1f3a"  ──▶  generation 7   opened at apply index 120, 3 214 responses, 81 MB
    "blog#90c2"  ──▶  generation 3   …
    dropped: 5                       its rows are gone; its files and places in the queues are being cleared away

A site's name comes with a digest of its key rules, so what was stored under other rules lies in another
generation. A hard purge of everything opens a new one (PURGE rule 16): the old one's rows are deleted as ranges in
the same batch, and what those ranges do not reach is cleared away behind. Numbers are never given twice.

Not here: the rows within a generation (`edits.py`); clearing away (`upkeep.py`).
Units: bytes; apply indexes.
Invariants: a number is in force for one name at most; counts are those of the batches written.
"""

from collections.abc import Iterable, Iterator

import msgspec

from banish.caching.keys import split_key
from banish.errors import IndexBusy
from banish.store.index import Batch, Family, Index, Range
from banish.store.rows import (
    META_GENERATION,
    META_SERIAL,
    SITES_RANGE,
    SiteRow,
    decode_meta,
    encode_meta,
    gen_range,
    key_name_of,
    site_key,
    split_key_name,
    successor,
)

SERIALS_BLOCK = 1 << 20
"""Serial numbers reserved at a time; after a stop, what is left of them is never used."""

SCAN_ROWS = 1024
"""Rows of `meta` read at a time."""

_DROPPED = b"dropped/"


class Generation(msgspec.Struct, eq=False):
    """One site's part of the disk, as far as it is counted."""

    key_name: str
    gen: int
    opened_at: int
    """The apply index at which it was opened: nothing fetched before is in it."""
    bytes: int = 0
    count: int = 0

    @property
    def site(self) -> str:
        """The name of the site."""
        return split_key(f"{self.key_name} ").site


class Generations:
    """The generations in force, by name and by number, and those dropped. Read from `index`: raises StoreError.

    `taken` are numbers that must not be given again, whatever the index knows: of files, of an index before.
    """

    def __init__(self, index: Index, taken: Iterable[int] = ()) -> None:
        self._by_name: dict[str, Generation] = {}
        self._by_gen: dict[int, Generation] = {}
        self.bytes = 0
        self.count = 0
        self.dropped: set[int] = set()
        """Numbers whose files and places in the queues may not all be cleared away."""

        for key, value in _rows(index, SITES_RANGE):
            row = decode_meta(value, SiteRow)
            self.enter(Generation(key_name_of(key), row.gen, row.opened_at, row.bytes, row.count))
        for key, _ in _rows(index, Range(_DROPPED, successor(_DROPPED))):
            self.dropped.add(int.from_bytes(key.removeprefix(_DROPPED), "big"))
        known = index.get(Family.META, META_GENERATION)
        used = {*self._by_gen, *self.dropped, *taken}
        self._next = max([decode_meta(known, int) if known else 1, *(gen + 1 for gen in used)])

    def __iter__(self) -> Iterator[Generation]:
        return iter(list(self._by_gen.values()))

    @property
    def newest(self) -> int:
        """The last number given."""
        return self._next - 1

    def named(self, cache_key: str) -> Generation | None:
        """The generation in which a cache key lies, if there is one."""
        return self._by_name.get(split_key_name(cache_key)[0])

    def numbered(self, gen: int) -> Generation | None:
        """The generation of that number, if it is in force."""
        return self._by_gen.get(gen)

    def of_site(self, site: str) -> list[Generation]:
        """Those of one site, under whatever rules; of every site if the name is empty."""
        return [generation for generation in self if not site or generation.site == site]

    def opening(self, batch: Batch, key_name: str, at: int) -> Generation:
        """Put a new generation in a batch, opened at apply index `at`. `enter` it once that is written."""
        generation = Generation(key_name, self._next, at)
        self._next += 1
        batch.put(Family.META, META_GENERATION, encode_meta(self._next))
        self.save(batch, generation)
        return generation

    def closing(self, batch: Batch, old: Generation) -> None:
        """Put the end of a generation in a batch. It has to `leave` once that is written."""
        for family in (Family.OBJECTS, Family.TAGS, Family.SMALL):
            batch.delete_range(family, *gen_range(old.gen))
        batch.put(Family.META, _dropped_key(old.gen), encode_meta(0))
        batch.delete(Family.META, site_key(old.key_name))

    def enter(self, generation: Generation) -> None:
        """This generation is in force."""
        self._by_name[generation.key_name] = generation
        self._by_gen[generation.gen] = generation
        self.count += generation.count
        self.bytes += generation.bytes

    def leave(self, old: Generation) -> None:
        """This generation is dropped."""
        self.dropped.add(old.gen)
        self.count -= old.count
        self.bytes -= old.bytes
        del self._by_gen[old.gen]
        if self._by_name.get(old.key_name) is old:
            del self._by_name[old.key_name]

    def forgetting(self, batch: Batch, gen: int) -> None:
        """Put in a batch that all of a dropped generation is cleared away."""
        batch.delete(Family.META, _dropped_key(gen))

    def add(self, generation: Generation, count: int, n_bytes: int) -> None:
        """Count responses and their bytes in, or out. `save` puts that in a batch."""
        generation.count += count
        generation.bytes += n_bytes
        self.count += count
        self.bytes += n_bytes

    def save(self, batch: Batch, generation: Generation) -> None:
        """Put a generation's figures in a batch."""
        row = SiteRow(generation.gen, generation.bytes, generation.count, generation.opened_at)
        batch.put(Family.META, site_key(generation.key_name), encode_meta(row))


class Serials:
    """Names of what is stored, never given twice. They are reserved in blocks, half a block before they are needed,
    so that the reservation is synced long before. Raises StoreError where a block cannot be reserved.
    """

    def __init__(self, index: Index, at_least: int = 1) -> None:
        known = index.get(Family.META, META_SERIAL)
        self.first = max(at_least, decode_meta(known, int) if known else 1)
        """The first that this start may give: what is named below was stored before it."""

        self._next = self._reserved = self.first
        self._reserve(index)

    def take(self, index: Index) -> int:
        """The next one."""
        left = self._reserved - self._next
        if left <= SERIALS_BLOCK // 2:
            try:
                self._reserve(index)
            except IndexBusy:
                if not left:
                    raise
        self._next += 1
        return self._next - 1

    @property
    def next(self) -> int:
        """The one to be given next."""
        return self._next

    def _reserve(self, index: Index) -> None:
        batch = Batch()
        batch.put(Family.META, META_SERIAL, encode_meta(self._reserved + SERIALS_BLOCK))
        index.write(batch)
        self._reserved += SERIALS_BLOCK


def _rows(index: Index, span: Range) -> Iterator[tuple[bytes, bytes]]:
    start = span.start
    while rows := index.scan(Family.META, start, span.end, SCAN_ROWS):
        yield from rows
        start = rows[-1][0] + b"\0"


def _dropped_key(gen: int) -> bytes:
    return _DROPPED + gen.to_bytes(4, "big")
