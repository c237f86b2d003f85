"""RocksDB's traps: that the way round each of them holds."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from banish.errors import IndexBusy, IndexDamaged, IndexFailed
from banish.store import rocks
from banish.store.index import Batch, Family
from banish.store.rocks import RocksIndex, open_index, repair

ROWS = 2000
ALL = (b"", b"\xff")


def key(n: int) -> bytes:
    return b"%06d" % n


def filled(path: Path, *, family: Family = Family.OBJECTS, size: int = 100) -> None:
    """An index with `ROWS` rows in one file."""
    index = open_index(path)
    write(index, range(ROWS), family=family, size=size)
    index.reclaim(family, *ALL)
    index.close()


def write(index: RocksIndex, numbers: range, *, family: Family = Family.OBJECTS, size: int = 100) -> None:
    batch = Batch()
    for n in numbers:
        batch.put(family, key(n), os.urandom(size))
    index.write(batch)


def largest(path: Path, pattern: str) -> Path:
    return max(path.glob(pattern), key=lambda file: file.stat().st_size)


def manifest(path: Path) -> Path:
    return path / (path / "CURRENT").read_text().strip()


def overwrite(file: Path, *, at: float, count: int = 64) -> None:
    with file.open("r+b") as stream:
        stream.seek(int(file.stat().st_size * at))
        stream.write(os.urandom(count))


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file may become larger than this: what a full disk is to a writer (EFBIG instead of ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestDamage:
    def test_a_scan_that_meets_a_damaged_block_fails_and_does_not_end_early(self, ram_path: Path) -> None:
        filled(ram_path)
        overwrite(largest(ram_path, "*.sst"), at=0.5)
        index = open_index(ram_path)
        with pytest.raises(IndexDamaged, match="checksum"):
            index.scan(Family.OBJECTS, *ALL, ROWS)
        assert len(index.scan(Family.OBJECTS, *ALL, 100)) == 100
        index.close()

    def test_reading_a_damaged_block_is_damage_and_the_rest_is_there(self, ram_path: Path) -> None:
        filled(ram_path)
        overwrite(largest(ram_path, "*.sst"), at=0.5)
        index = open_index(ram_path)
        kinds: dict[type[object], int] = {}
        for n in range(ROWS):
            try:
                found: object = index.get(Family.OBJECTS, key(n))
            except IndexDamaged as error:
                found = error
            kinds[type(found)] = kinds.get(type(found), 0) + 1
        assert set(kinds) == {bytes, IndexDamaged}
        assert kinds[bytes] > ROWS * 0.9
        with pytest.raises(IndexDamaged):
            index.get_many(Family.OBJECTS, [key(n) for n in range(ROWS)])
        index.close()

    def test_a_damaged_blob_is_damage(self, ram_path: Path) -> None:
        filled(ram_path, family=Family.SMALL, size=2048)
        overwrite(largest(ram_path, "*.blob"), at=0.0001)
        index = open_index(ram_path)
        with pytest.raises(IndexDamaged):
            index.get_many(Family.SMALL, [key(0)])
        assert index.get_many(Family.SMALL, [key(ROWS - 1)]) != [None]
        index.close()

    def test_a_blob_file_that_is_missing_is_damage(self, ram_path: Path) -> None:
        filled(ram_path, family=Family.SMALL, size=2048)
        for blobs in ram_path.glob("*.blob"):
            blobs.unlink()
        index = open_index(ram_path)
        with pytest.raises(IndexDamaged):
            index.get(Family.SMALL, key(0))
        index.close()

    @pytest.mark.parametrize("harm", ["missing table", "cut table", "damaged manifest"])
    def test_what_cannot_be_opened_is_damaged_until_it_is_repaired(self, ram_path: Path, harm: str) -> None:
        filled(ram_path)
        if harm == "missing table":
            largest(ram_path, "*.sst").unlink()
        elif harm == "cut table":
            os.truncate(largest(ram_path, "*.sst"), 1000)
        else:
            overwrite(manifest(ram_path), at=0.7)
        with pytest.raises(IndexDamaged):
            open_index(ram_path)
        repair(ram_path)
        index = open_index(ram_path)
        write(index, range(3))
        assert len(index.scan(Family.OBJECTS, *ALL, ROWS)) == (ROWS if harm == "damaged manifest" else 3)
        index.close()

    def test_repair_leaves_no_row_without_its_body(self, ram_path: Path) -> None:
        filled(ram_path, family=Family.SMALL, size=2048)
        overwrite(manifest(ram_path), at=0.7)
        repair(ram_path)
        index = open_index(ram_path)
        assert index.scan(Family.SMALL, *ALL, ROWS) == []
        assert index.get(Family.SMALL, key(1)) is None
        index.close()
        assert not (ram_path / "lost").exists()


class TestAFullDisk:
    def fail_to_write(self, index: RocksIndex, path: Path) -> IndexFailed:
        write(index, range(10))
        with files_end_at(largest(path, "*.log").stat().st_size + 500), pytest.raises(IndexFailed) as failure:
            write(index, range(10, 100))
        return failure.value

    def test_a_failed_write_ends_writing_and_leaves_reading(self, ram_path: Path) -> None:
        index = open_index(ram_path)
        assert not isinstance(self.fail_to_write(index, ram_path), IndexBusy)
        with pytest.raises(IndexFailed):
            write(index, range(100, 101))
        with pytest.raises(IndexFailed):
            index.sync()
        assert len(index.scan(Family.OBJECTS, *ALL, 1000)) == 10
        index.close()

    def test_opened_anew_it_has_all_but_what_had_failed_and_can_be_written(self, ram_path: Path) -> None:
        index = open_index(ram_path)
        failure = self.fail_to_write(index, ram_path)
        index.close()
        index = open_index(ram_path)
        assert failure.__cause__ is not None  # still held, with whatever it holds
        assert len(index.scan(Family.OBJECTS, *ALL, 1000)) == 10
        write(index, range(10, 20))
        index.sync()
        assert len(index.scan(Family.OBJECTS, *ALL, 1000)) == 20
        index.close()

    def test_a_disk_without_room_is_not_worth_the_try(self, ram_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        filled(ram_path)
        monkeypatch.setattr(rocks, "ROOM_BYTES_MIN", 1 << 60)
        with pytest.raises(IndexFailed, match="No space left"):
            open_index(ram_path)


class TestADiskThatDoesNotKeepUp:
    @pytest.fixture
    def index(self, ram_path: Path, monkeypatch: pytest.MonkeyPatch) -> RocksIndex:
        monkeypatch.setattr(rocks, "WRITE_BUFFER_BYTES", 64 << 10)
        return open_index(ram_path)

    def until_refused(self, index: RocksIndex, written: list[bytes]) -> None:
        for n in range(10_000):
            write(index, range(n, n + 1), size=64 << 10)
            written.append(key(n))

    def test_is_told_at_once_and_nothing_is_written(self, index: RocksIndex, ram_path: Path) -> None:
        written: list[bytes] = []
        with pytest.raises(IndexBusy):
            self.until_refused(index, written)
        index.sync()
        index.close()
        index = open_index(ram_path)
        assert [row[0] for row in index.scan(Family.OBJECTS, *ALL, 10_000)] == written
        write(index, range(10_000, 10_001))
        index.close()

    def test_has_failed_if_that_will_not_change(self, index: RocksIndex, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rocks, "_property", lambda handle, name: int(name == "background-errors"))
        with pytest.raises(IndexFailed) as failure:
            self.until_refused(index, [])
        assert not isinstance(failure.value, IndexBusy)
        index.close()


class TestTheLock:
    def test_it_is_let_go_of_whatever_errors_are_still_held(self, ram_path: Path) -> None:
        filled(ram_path)
        overwrite(largest(ram_path, "*.sst"), at=0.5)
        index = open_index(ram_path)
        held = []
        calls: list[Callable[[], object]] = [
            lambda: index.scan(Family.OBJECTS, *ALL, ROWS),
            lambda: index.get_many(Family.OBJECTS, [key(n) for n in range(ROWS)]),
        ]
        for call in calls:
            with pytest.raises(IndexDamaged) as failure:
                call()
            held.append(failure.value)
        index.close()
        open_index(ram_path).close()
        assert len(held) == 2

    def test_a_second_opening_is_refused(self, ram_path: Path) -> None:
        index = open_index(ram_path)
        with pytest.raises(IndexFailed, match="lock"):
            open_index(ram_path)
        write(index, range(1))
        index.close()


WRITER = """
import sys
from pathlib import Path
from banish.store.index import Batch, Family
from banish.store.rocks import open_index

index = open_index(Path(sys.argv[1]))
for n in range(1000):
    batch = Batch()
    batch.put(Family.OBJECTS, b"%06d" % n, b"x" * 1000)
    batch.put(Family.META, b"at", b"%d" % n)
    if n >= 10:
        batch.delete(Family.OBJECTS, b"%06d" % (n - 10))
    index.write(batch)
    if n == 500:
        index.sync()
print("written", flush=True)
sys.stdin.read()
"""


def killed_while_open(path: Path) -> None:
    """Have a process write a thousand batches, each of which moves a window of ten rows, and kill it."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.kill()


def window(path: Path) -> int:
    """The last batch that is there, if all rows are as they were behind it."""
    index = open_index(path)
    at = int(index.get(Family.META, b"at") or b"-1")
    rows = [key for key, _ in index.scan(Family.OBJECTS, *ALL, 1000)]
    index.close()
    assert rows == [key(n) for n in range(max(0, at - 9), at + 1)]
    return at


class TestCrashes:
    def test_kill_9_loses_nothing_that_was_written(self, ram_path: Path) -> None:
        killed_while_open(ram_path)
        assert window(ram_path) == 999

    @pytest.mark.parametrize("harm", ["cut", "damaged"])
    def test_a_log_that_has_lost_what_was_synced_is_damaged(self, ram_path: Path, harm: str) -> None:
        killed_while_open(ram_path)
        log = largest(ram_path, "*.log")
        if harm == "cut":
            os.truncate(log, log.stat().st_size // 4)
        else:
            overwrite(log, at=0.25)
        with pytest.raises(IndexDamaged, match="synced"):
            open_index(ram_path)

    def test_a_manifest_that_tells_of_an_earlier_time_is_damaged(self, ram_path: Path) -> None:
        index = open_index(ram_path)
        earlier = manifest(ram_path).stat().st_size
        write(index, range(ROWS))
        index.sync()
        index.reclaim(Family.OBJECTS, *ALL)  # from the log into a file
        index.close()
        os.truncate(manifest(ram_path), earlier)
        with pytest.raises(IndexDamaged, match="synced"):
            open_index(ram_path)

    @pytest.mark.parametrize("harm", ["cut", "torn", "damaged"])
    def test_a_log_that_ends_or_breaks_anywhere_gives_the_rows_behind_some_batch(
        self, ram_path: Path, harm: str
    ) -> None:
        killed_while_open(ram_path)
        log = largest(ram_path, "*.log")
        size = log.stat().st_size
        if harm == "cut":
            os.truncate(log, size * 3 // 4)
        elif harm == "torn":
            with log.open("ab") as stream:
                stream.write(bytes(5000) + os.urandom(500))
        else:
            overwrite(log, at=0.75)
        at = window(ram_path)
        assert at == 999 if harm == "torn" else 500 < at < 999
