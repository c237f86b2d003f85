"""Checking a store that no edge is using: whether every row leads where it should and every body is what it was.

    meta     ──▶ which generations there are, and what is said to be in them
    objects  ──▶ each row can be read; what leads to each response is there; its body is whole
    queues, tags, small, files ──▶ each leads to a response, and back

An edge finds all of this out by itself when it comes upon it, and takes damage for a miss; a check comes upon
everything at once. A repair takes away what is damaged, or leads nowhere, puts back what is missing of rows that
follow from others, and counts anew. An index that cannot be opened is emptied: what RocksDB would save of it may
include what was purged (`rocks.py`, `repair`).

Not here: whether the store may be believed beside the log of purges (`edge/datadir.py`); the command (`cli/`).
Units: bytes. Invariant: without `repair` nothing is changed.
"""

import shutil
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

import msgspec

from banish.errors import IndexDamaged, StoreError
from banish.store.edits import Edit, Place, pointers, weight
from banish.store.files import BodyFiles
from banish.store.generations import Generation, Generations
from banish.store.index import Batch, Family, Index, Row
from banish.store.rocks import open_index
from banish.store.rows import (
    ALL_ROWS,
    META_RESERVED,
    BodyAt,
    StoredRow,
    decode_meta,
    decode_pointer,
    decode_row,
    decode_small,
    encode_pointer,
    generation_of,
    read_small_key,
    small_key,
)
from banish.tables import Accounts

SLICE = 256
"""Rows read, and changed, at a time."""

EXAMPLES_MAX = 20
"""Faults of a kind that are told one by one; the others are counted."""

Progress = Callable[[str, int, int], None]
"""Told what is being looked at, how much of it was, and how much there is, as far as that is known (else 0)."""


class Fault(StrEnum):
    """What can be wrong."""

    INDEX = "index"
    """The index cannot be opened, or does not say what is in it."""

    ROW = "row"
    """What is stored under a URL cannot be read."""

    FENCE = "fence"
    """A response seems to come from a purge index that was never reserved: purges would miss it."""

    BODY = "body"
    """A body is missing or is not what was written."""

    MISSING = "missing"
    """A row that should lead to a response is not there: a purge or eviction would miss it."""

    DANGLING = "dangling"
    """A row leads to no response."""

    ORPHAN = "orphan"
    """No response has this file."""

    COUNT = "count"
    """A site's figures are not those of what it has."""


class Report(msgspec.Struct):
    """What a check has found."""

    responses: int = 0
    """Stored and sound."""
    bytes: int = 0
    """Of all of them on disk, as budgets count them."""
    faults: dict[Fault, int] = {}
    examples: dict[Fault, list[str]] = {}
    """Where, for the first few of each kind."""
    repaired: int = 0
    """Faults that are no more."""
    emptied: bool = False
    """The repair was to begin anew."""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong, or nothing is any more."""
        return sum(self.faults.values()) == self.repaired

    def note(self, fault: Fault, where: str, *, repaired: bool) -> None:
        """Count a fault."""
        self.faults[fault] = self.faults.get(fault, 0) + 1
        self.repaired += repaired
        examples = self.examples.setdefault(fault, [])
        if len(examples) < EXAMPLES_MAX:
            examples.append(where)


def check_store(data_dir: Path, *, repair: bool, progress: Progress = lambda what, done, of: None) -> Report:
    """Check what the edge with this data directory has on disk. The edge must not be running.

    Raises StoreError if that cannot be done: an edge is running, or the disk does not let us.
    """
    path, accounts = data_dir / "index", Accounts()
    if not path.exists():
        return Report()
    files = BodyFiles(data_dir / "bodies", accounts=accounts)
    report = Report()
    try:
        index: Index = open_index(path)
    except IndexDamaged as error:
        report.note(Fault.INDEX, str(error), repaired=repair)
        if repair:
            report.emptied = True
            shutil.rmtree(path)
            for gen in files.generations():
                files.drop_generation(gen)
        return report
    try:
        check_index(index, files, report, repair=repair, progress=progress)
    finally:
        index.close()
        files.close()
    return report


def check_index(
    index: Index,
    files: BodyFiles,
    report: Report,
    *,
    repair: bool,
    progress: Progress = lambda what, done, of: None,
) -> None:
    """Check an open index and its files. Raises IndexFailed."""
    try:
        generations = Generations(index)
        reserved = index.get(Family.META, META_RESERVED)
        fences_upto = decode_meta(reserved, int) if reserved is not None else None
    except IndexDamaged as error:
        report.note(Fault.INDEX, str(error), repaired=repair)
        if repair:
            _empty(index, files)
            report.emptied = True
        return
    _Check(index, files, generations, fences_upto, report, repair=repair, progress=progress).run()


class _Check:
    """One check, from end to end."""

    def __init__(
        self,
        index: Index,
        files: BodyFiles,
        generations: Generations,
        fences_upto: int | None,
        report: Report,
        *,
        repair: bool,
        progress: Progress,
    ) -> None:
        self._index = index
        self._files = files
        self._generations = generations
        self._fences_upto = fences_upto
        self._report = report
        self._repair = repair
        self._progress = progress
        self._known: dict[int, tuple[int, BodyAt]] = {}  # by serial: generation, and where the body is
        self._found: dict[int, tuple[int, int]] = {}  # by generation: responses and bytes

    def run(self) -> None:
        self._objects()
        for family in (Family.TAGS, Family.EXPIRY, Family.ORDER):
            self._pointers(family)
        self._small()
        self._orphans()
        self._counts()
        if self._repair:
            self._index.sync()

    # What is stored

    def _objects(self) -> None:
        for done, rows in self._slices(Family.OBJECTS):
            edit = Edit(self._index, self._generations)
            for key, value in rows:
                generation = self._generations.numbered(generation_of(key)) if len(key) >= 4 else None
                if generation is None:
                    self._dangling(edit.changed, Family.OBJECTS, key)
                else:
                    self._object(edit, Place(generation, key), value)
            if self._repair:
                self._index.write(edit.finished())
            self._progress("responses", done, self._generations.count)

    def _object(self, edit: Edit, place: Place, value: bytes) -> None:
        try:
            rows = decode_row(place.key, value, place.generation.key_name)
        except IndexDamaged as error:
            self._note(Fault.ROW, str(error))
            edit.scrap(place)
            return
        edit.know(place, value)
        for row in rows:
            fault = self._fault(place, row)
            if fault is None:
                self._sound(edit, place, row)
            else:
                self._note(fault, row.meta.key)
                edit.drop(place, row)

    def _fault(self, place: Place, row: StoredRow) -> Fault | None:
        """What is wrong with a response that nothing but deleting helps against."""
        if self._fences_upto is not None and row.fence > self._fences_upto:
            return Fault.FENCE
        if row.serial in self._known:
            return Fault.ROW  # two of one name
        return None if self._body_holds(place.generation.gen, row) else Fault.BODY

    def _body_holds(self, gen: int, row: StoredRow) -> bool:
        try:
            if row.body_at is BodyAt.FILE:
                self._files.file(gen, row.serial, row.size, row.checksums).verify()
                return True
            key = small_key(gen, row.serial)
            value = self._index.get(Family.SMALL, key)
            return value is not None and len(decode_small(key, value)) == row.size
        except StoreError:
            return False

    def _sound(self, edit: Edit, place: Place, row: StoredRow) -> None:
        gen = place.generation.gen
        self._known[row.serial] = (gen, row.body_at)
        count, n_bytes = self._found.get(gen, (0, 0))
        self._found[gen] = (count + 1, n_bytes + weight(row))
        self._report.responses += 1
        self._report.bytes += weight(row)
        for family, key in pointers(gen, row):
            if self._index.get(family, key) != encode_pointer(place.key):
                self._note(Fault.MISSING, f"{family.value} of {row.meta.key}")
                edit.changed.put(family, key, encode_pointer(place.key))

    # What leads to it

    def _pointers(self, family: Family) -> None:
        for done, rows in self._slices(family):
            batch = Batch()
            for key, value in rows:
                if not self._leads(family, key, value):
                    self._dangling(batch, family, key)
            self._write(batch)
            self._progress(family.value, done, 0)

    def _leads(self, family: Family, key: bytes, value: bytes) -> bool:
        """Whether a row leads to a response that has it; or to a dropped generation, which is being cleared away."""
        try:
            at = decode_pointer(value)
            gen = generation_of(at)
            generation = self._generations.numbered(gen)
            if generation is None:
                return gen in self._generations.dropped
            found = self._index.get(Family.OBJECTS, at)
            rows = () if found is None else decode_row(at, found, generation.key_name)
        except IndexDamaged:
            return False
        return any((family, key) in pointers(gen, row) for row in rows)

    def _small(self) -> None:
        for done, rows in self._slices(Family.SMALL):
            batch = Batch()
            for key, _ in rows:
                if not _is_small_key(key) or self._known.get(read_small_key(key)[1]) != (
                    read_small_key(key)[0],
                    BodyAt.SMALL,
                ):
                    self._dangling(batch, Family.SMALL, key)
            self._write(batch)
            self._progress("small bodies", done, len(self._known))

    def _orphans(self) -> None:
        for gen, serial in self._files.names():
            if self._known.get(serial) == (gen, BodyAt.FILE) or gen in self._generations.dropped:
                continue
            self._note(Fault.ORPHAN, f"{gen:08x}/{serial:016x}")
            if self._repair:
                self._files.unlink(gen, serial)

    def _counts(self) -> None:
        batch = Batch()
        for generation in self._generations:
            found = self._found.get(generation.gen, (0, 0))
            if not self._repair and self._report.faults:
                return  # figures follow from the rest
            if (generation.count, generation.bytes) != found:
                self._note(Fault.COUNT, _told(generation, found))
                generation.count, generation.bytes = found
                self._generations.save(batch, generation)
        self._write(batch)

    # Ours

    def _slices(self, family: Family) -> Iterator[tuple[int, list[Row]]]:
        """All rows of a family, some at a time, with how many that makes so far."""
        start, done = ALL_ROWS.start, 0
        while rows := self._index.scan(family, start, _END, SLICE):
            done += len(rows)
            yield done, rows
            start = rows[-1][0] + b"\0"

    def _dangling(self, batch: Batch, family: Family, key: bytes) -> None:
        self._note(Fault.DANGLING, f"{family.value} {key[:80]!r}")
        batch.delete(family, key)

    def _note(self, fault: Fault, where: str) -> None:
        self._report.note(fault, where, repaired=self._repair)

    def _write(self, batch: Batch) -> None:
        if self._repair and batch:
            self._index.write(batch)


_END = b"\xff" * 64


def _is_small_key(key: bytes) -> bool:
    return len(key) == len(small_key(0, 0))


def _told(generation: Generation, found: tuple[int, int]) -> str:
    return (
        f"{generation.key_name}: {generation.count} responses of {generation.bytes} bytes said, "
        f"{found[0]} of {found[1]} found"
    )


def _empty(index: Index, files: BodyFiles) -> None:
    """Take everything away, what the store knows of itself too: then the edge begins anew."""
    batch = Batch()
    for family in Family:
        batch.delete_range(family, b"", _END)
    index.write(batch)
    index.sync()
    for gen in files.generations():
        files.drop_generation(gen)
