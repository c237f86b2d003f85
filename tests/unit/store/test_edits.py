import msgspec

from banish.store.edits import STALE_KEPT_S, Edit, Place, pointers, superseded, useless_at, weight
from banish.store.generations import Generations
from banish.store.index import Batch, Family
from banish.store.rows import BodyAt, StoredRow, object_key
from banish.testing.index import MemoryIndex
from tests.stored import key_of, stored_response


def row_of(serial: int = 1, *, tags: tuple[str, ...] = (), at: float = 1e9, vary: str = "", size: int = 5) -> StoredRow:
    record = stored_response(tags=tags, received_at=at, vary=("x",) * bool(vary), selecting=(vary,) * bool(vary))
    return StoredRow(record.meta, serial, 0, size, BodyAt.SMALL)


class Bench:
    """An index with one generation, and edits of the one URL in it."""

    def __init__(self) -> None:
        self.index = MemoryIndex()
        self.generations = Generations(self.index)
        batch = Batch()
        generation = self.generations.opening(batch, "shop#0123456789ab", 0)
        self.index.write(batch)
        self.generations.enter(generation)
        self.place = Place(generation, object_key(generation.gen, key_of("a")))

    def edit(self) -> Edit:
        return Edit(self.index, self.generations)

    def write(self, edit: Edit) -> None:
        self.index.write(edit.finished())

    def count(self, family: Family) -> int:
        return len(self.index.scan(family, b"", b"\xff" * 32, 100))

    def counted(self) -> tuple[int, int]:
        (generation,) = Generations(self.index)
        return generation.count, generation.bytes


def test_a_response_comes_and_goes_with_all_its_rows_and_figures() -> None:
    bench, row = Bench(), row_of(tags=("t", "u"))
    edit = bench.edit()
    edit.put(bench.place, row, b"hello")
    assert edit.gained == weight(row)
    bench.write(edit)
    assert bench.counted() == (1, weight(row))
    assert [bench.count(family) for family in Family] == [1, 2, 1, 1, 1, 2]
    edit = bench.edit()
    edit.drop(bench.place, row)
    edit.drop(bench.place, row)
    bench.write(edit)
    assert bench.counted() == (0, 0)
    assert [bench.count(family) for family in Family] == [0, 0, 0, 0, 0, 2]


def test_an_edit_sees_its_own_changes() -> None:
    bench = Bench()
    edit = bench.edit()
    assert edit.variants(bench.place) == ()
    edit.put(bench.place, row_of(1, at=1.0), b"hello")
    edit.put(bench.place, row_of(2, at=2.0), b"hello")
    assert [row.serial for row in edit.variants(bench.place)] == [2, 1]
    edit.drop(bench.place, row_of(1, at=1.0))
    assert [row.serial for row in edit.variants(bench.place)] == [2]


def test_a_batch_that_was_not_written_is_counted_out_again() -> None:
    bench = Bench()
    edit = bench.edit()
    edit.put(bench.place, row_of(), b"hello")
    edit.finished()
    edit.taken_back()
    assert (bench.generations.count, bench.generations.bytes) == (0, 0)


def test_exchanging_changes_the_rows_that_differ_alone() -> None:
    bench, row = Bench(), row_of(tags=("t", "u"))
    edit = bench.edit()
    edit.put(bench.place, row, b"hello")
    bench.write(edit)
    new = msgspec.structs.replace(row, meta=msgspec.structs.replace(row.meta, tags=("u", "v")))
    edit = bench.edit()
    edit.swap(bench.place, row, new)
    assert {(change.family, change.value is None) for change in edit.changed} == {
        (Family.TAGS, True),
        (Family.TAGS, False),
    }
    assert len(edit.changed) == 2
    bench.write(edit)
    assert bench.counted() == (1, weight(new))


def test_every_row_that_leads_to_a_response_follows_from_it() -> None:
    row = row_of(tags=("t",))
    families = [family for family, _ in pointers(7, row)]
    assert families == [Family.TAGS, Family.EXPIRY, Family.ORDER]
    assert pointers(7, row) == pointers(7, msgspec.structs.replace(row, soft_at=3))


def test_a_response_is_of_use_past_its_freshness_for_the_longest_of_its_windows() -> None:
    meta = row_of().meta
    assert useless_at(meta) == meta.received_at + 600 + STALE_KEPT_S
    week = msgspec.structs.replace(meta.directives, stale_if_error=7 * 86400)
    assert useless_at(msgspec.structs.replace(meta, directives=week)) == meta.received_at + 600 + 7 * 86400


def test_what_a_newer_response_stands_in_front_of() -> None:
    plain, first, second = row_of(1, at=5.0), row_of(2, at=5.0, vary="1"), row_of(3, at=5.0, vary="2")
    rows = [plain, first, second]
    assert superseded(rows, row_of(at=9.0).meta) == rows  # a request may select it and any of them
    assert superseded(rows, row_of(at=9.0, vary="1").meta) == [plain, first]
    assert superseded(rows, row_of(at=1.0).meta) == [plain]  # the others are newer
