"""The contract of an index, held by RocksDB's and by its twin in memory."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from banish.errors import IndexBusy, IndexDamaged, IndexFailed
from banish.store.index import Batch, Family, Index
from banish.store.rocks import open_index
from banish.testing.index import Call, MemoryIndex, busy, damage, disk_error, disk_full

Reopen = Callable[[Index], Index]


@pytest.fixture(params=["rocks", "memory"])
def both(request: pytest.FixtureRequest, ram_path: Path) -> Iterator[tuple[Index, Reopen]]:
    """An empty index, and what closes it and opens it anew."""
    opened: list[Index] = []

    def reopen(index: Index) -> Index:
        if isinstance(index, MemoryIndex):
            return index.reopened()
        index.close()
        opened.append(open_index(ram_path))
        return opened[-1]

    opened.append(open_index(ram_path) if request.param == "rocks" else MemoryIndex())
    yield opened[0], reopen
    for index in opened:
        index.close()


@pytest.fixture
def index(both: tuple[Index, Reopen]) -> Index:
    return both[0]


def put(index: Index, *keys: bytes, family: Family = Family.OBJECTS, value: bytes = b"v") -> None:
    batch = Batch()
    for key in keys:
        batch.put(family, key, value)
    index.write(batch)


def keys_of(index: Index, family: Family = Family.OBJECTS) -> list[bytes]:
    return [key for key, _ in index.scan(family, b"", b"\xff" * 16, 1000)]


class TestReading:
    def test_what_was_put_is_there_and_nothing_else(self, index: Index) -> None:
        put(index, b"a", value=b"1")
        assert (index.get(Family.OBJECTS, b"a"), index.get(Family.OBJECTS, b"b")) == (b"1", None)

    def test_an_empty_value_is_a_row(self, index: Index) -> None:
        put(index, b"a", value=b"")
        assert index.get(Family.OBJECTS, b"a") == b""
        assert index.may_hold(Family.OBJECTS, b"a")

    def test_families_share_no_keys(self, index: Index) -> None:
        put(index, b"a", family=Family.TAGS)
        assert index.get(Family.OBJECTS, b"a") is None
        assert [keys_of(index, family) for family in Family].count([b"a"]) == 1

    def test_many_are_read_in_the_order_asked_for(self, index: Index) -> None:
        put(index, b"a", value=b"1")
        put(index, b"b", value=b"2")
        assert index.get_many(Family.OBJECTS, [b"b", b"x", b"a", b"b"]) == [b"2", None, b"1", b"2"]
        assert index.get_many(Family.OBJECTS, []) == []

    def test_what_is_there_may_be_there(self, index: Index) -> None:
        keys = [b"%d" % n for n in range(1000)]
        put(index, *keys)
        assert all(index.may_hold(Family.OBJECTS, key) for key in keys)

    def test_most_of_what_is_not_there_is_known_not_to_be(self, index: Index) -> None:
        put(index, *[b"%d" % n for n in range(1000)])
        index.reclaim(Family.OBJECTS, b"", b"\xff")
        assert sum(index.may_hold(Family.OBJECTS, b"x%d" % n) for n in range(1000)) < 100

    def test_a_range_has_its_start_and_not_its_end(self, index: Index) -> None:
        put(index, b"a", b"b", b"c", b"c\0", b"d")
        assert [key for key, _ in index.scan(Family.OBJECTS, b"b", b"d", 10)] == [b"b", b"c", b"c\0"]

    def test_rows_lie_in_the_order_of_their_bytes(self, index: Index) -> None:
        keys = [b"\xff", b"\x80", b"a", b"\0", b"a\0", b"", b"\xff\xff"]
        put(index, *keys)
        assert keys_of(index) == sorted(keys)

    def test_a_scan_goes_on_behind_the_last_key(self, index: Index) -> None:
        put(index, *[b"%02d" % n for n in range(25)])
        start, seen, lengths = b"", list[bytes](), list[int]()
        while rows := index.scan(Family.OBJECTS, start, b"\xff", 10):
            seen += [key for key, _ in rows]
            lengths.append(len(rows))
            start = rows[-1][0] + b"\0"
        assert lengths == [10, 10, 5]
        assert seen == [b"%02d" % n for n in range(25)]

    def test_an_empty_range_holds_nothing(self, index: Index) -> None:
        put(index, b"a", b"b")
        assert index.scan(Family.OBJECTS, b"b", b"a", 10) == []
        assert index.scan(Family.OBJECTS, b"a", b"a", 10) == []
        assert index.scan(Family.OBJECTS, b"a", b"z", 0) == []


class TestWriting:
    def test_a_batch_goes_over_families_in_its_order(self, index: Index) -> None:
        put(index, b"a", b"b", b"c")
        batch = Batch()
        batch.put(Family.TAGS, b"t", b"1")
        batch.delete_range(Family.OBJECTS, b"a", b"c")
        batch.put(Family.OBJECTS, b"b", b"after the range")
        batch.delete(Family.OBJECTS, b"c")
        batch.delete(Family.OBJECTS, b"never there")
        assert len(batch) == 5
        index.write(batch)
        assert index.scan(Family.OBJECTS, b"", b"\xff", 10) == [(b"b", b"after the range")]
        assert index.get(Family.TAGS, b"t") == b"1"

    def test_a_put_before_a_delete_of_its_range_is_gone(self, index: Index) -> None:
        batch = Batch()
        batch.put(Family.OBJECTS, b"b", b"")
        batch.delete_range(Family.OBJECTS, b"a", b"c")
        index.write(batch)
        assert keys_of(index) == []

    def test_a_range_the_wrong_way_round_deletes_nothing_and_harms_nothing(self, index: Index) -> None:
        put(index, b"a", b"b", b"c")
        batch = Batch()
        batch.delete_range(Family.OBJECTS, b"c", b"a")
        batch.delete_range(Family.OBJECTS, b"b", b"b")
        index.write(batch)
        put(index, b"d")
        assert keys_of(index) == [b"a", b"b", b"c", b"d"]

    def test_the_last_put_of_a_key_counts(self, index: Index) -> None:
        put(index, b"a", value=b"1")
        put(index, b"a", value=b"2")
        assert index.get(Family.OBJECTS, b"a") == b"2"

    def test_an_empty_batch_changes_nothing(self, index: Index) -> None:
        index.write(Batch())
        assert keys_of(index) == []

    def test_a_batch_may_be_written_again(self, index: Index) -> None:
        batch = Batch()
        batch.put(Family.OBJECTS, b"a", b"1")
        index.write(batch)
        put(index, b"a", value=b"2")
        index.write(batch)
        assert index.get(Family.OBJECTS, b"a") == b"1"

    @pytest.mark.parametrize("size", [1, 1023, 1024, 32 * 1024, 1 << 20])
    def test_values_of_any_size_are_kept(self, both: tuple[Index, Reopen], size: int) -> None:
        index, reopen = both
        body = bytes(range(256)) * (size // 256 + 1)
        put(index, b"k", family=Family.SMALL, value=body[:size])
        index.reclaim(Family.SMALL, b"", b"\xff")
        assert reopen(index).get(Family.SMALL, b"k") == body[:size]

    def test_reclaiming_a_range_changes_no_row(self, index: Index) -> None:
        put(index, b"a", b"b", b"c")
        batch = Batch()
        batch.delete(Family.OBJECTS, b"b")
        index.write(batch)
        index.reclaim(Family.OBJECTS, b"a", b"c")
        assert keys_of(index) == [b"a", b"c"]


class TestClosing:
    def test_what_was_written_is_there_when_it_is_opened_again(self, both: tuple[Index, Reopen]) -> None:
        index, reopen = both
        put(index, b"a", b"b")
        again = reopen(index)
        assert keys_of(again) == [b"a", b"b"]
        put(again, b"c")
        again.sync()
        assert keys_of(reopen(again)) == [b"a", b"b", b"c"]

    def test_after_closing_every_call_fails(self, index: Index) -> None:
        put(index, b"a")
        index.close()
        index.close()
        calls: list[Callable[[], object]] = [
            lambda: index.get(Family.OBJECTS, b"a"),
            lambda: index.get_many(Family.OBJECTS, [b"a"]),
            lambda: index.may_hold(Family.OBJECTS, b"a"),
            lambda: index.scan(Family.OBJECTS, b"", b"\xff", 1),
            lambda: put(index, b"b"),
            index.sync,
            lambda: index.reclaim(Family.OBJECTS, b"", b"\xff"),
            index.figures,
        ]
        for call in calls:
            with pytest.raises(IndexFailed, match="closed"):
                call()

    def test_closing_waits_for_who_reads_on_a_thread(self, both: tuple[Index, Reopen]) -> None:
        index, reopen = both
        keys = [b"%06d" % n for n in range(5000)]
        put(index, *keys)
        begun, found = threading.Event(), []

        def read() -> None:
            begun.set()
            try:
                while True:
                    found.append(index.get_many(Family.OBJECTS, keys).count(None))
            except IndexFailed:
                pass

        reader = threading.Thread(target=read)
        reader.start()
        begun.wait()
        again = reopen(index)
        reader.join()
        assert not any(found)
        assert again.get(Family.OBJECTS, keys[0]) == b"v"

    def test_all_calls_may_come_from_several_threads_at_once(self, index: Index) -> None:
        put(index, *[b"%03d" % n for n in range(100)])
        failures: list[BaseException] = []

        def each() -> None:
            try:
                for n in range(20):
                    put(index, b"%03d" % n)
                    index.get(Family.OBJECTS, b"001")
                    index.get_many(Family.OBJECTS, [b"001", b"002"])
                    index.may_hold(Family.OBJECTS, b"001")
                    index.scan(Family.OBJECTS, b"", b"\xff", 10)
                    index.figures()
                    index.sync()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=each) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(keys_of(index)) == 100

    def test_figures_name_what_it_takes_on_disk(self, index: Index) -> None:
        put(index, b"a", value=bytes(range(256)) * 400)
        index.reclaim(Family.OBJECTS, b"", b"\xff")
        assert index.figures()["disk_bytes"] > 0


class TestTheTwin:
    """What only the twin can be told to do, as the tests of RocksDB (`test_rocks.py`) have it happen."""

    @pytest.mark.parametrize("call", [Call.WRITE, Call.SYNC])
    def test_after_a_failed_write_or_sync_nothing_is_written_until_it_is_opened_anew(self, call: Call) -> None:
        index = MemoryIndex()
        put(index, b"a")
        index.fail(call, disk_full())
        with pytest.raises(IndexFailed, match="No space left"):
            put(index, b"b") if call is Call.WRITE else index.sync()
        with pytest.raises(IndexFailed):
            put(index, b"c")
        with pytest.raises(IndexFailed):
            index.sync()
        assert keys_of(index) == [b"a"]
        again = index.reopened()
        put(again, b"c")
        again.sync()
        assert keys_of(again) == [b"a", b"c"]

    def test_the_call_that_fails_can_be_chosen(self) -> None:
        index = MemoryIndex()
        index.fail(Call.READ, damage(), after=1)
        index.fail(Call.READ, disk_error(), after=2)
        assert index.get(Family.OBJECTS, b"a") is None
        with pytest.raises(IndexDamaged):
            index.scan(Family.OBJECTS, b"", b"z", 1)
        with pytest.raises(IndexFailed):
            index.get_many(Family.OBJECTS, [b"a"])
        assert index.get(Family.OBJECTS, b"a") is None

    def test_a_busy_disk_refuses_one_write_and_harms_nothing(self) -> None:
        index = MemoryIndex()
        index.fail(Call.WRITE, busy())
        with pytest.raises(IndexBusy):
            put(index, b"a")
        put(index, b"b")
        assert keys_of(index) == [b"b"]

    def test_a_loss_of_power_takes_what_was_not_synced(self) -> None:
        index = MemoryIndex()
        put(index, b"a", b"b")
        index.sync()
        batch = Batch()
        batch.delete(Family.OBJECTS, b"a")
        batch.put(Family.OBJECTS, b"c", b"")
        index.write(batch)
        index.cut_back()
        assert keys_of(index) == [b"a", b"b"]
        put(index, b"d")
        again = index.reopened()
        again.cut_back()
        assert keys_of(again) == [b"a", b"b"]
