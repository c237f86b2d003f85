import asyncio
import contextlib
import errno
import gc
import os
import random
import threading
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import pytest

from banish.errors import StoreError
from banish.store import files as files_module
from banish.store import readers
from banish.store.bodies import Body, BodyLimits
from banish.store.checksums import CHUNK_BYTES
from banish.store.files import BodyFiles, Damage, StoredFile
from banish.store.readers import READ_BYTES, FileReader
from banish.store.spool import SpoolBudget
from banish.tables import Accounts, Metric

WHOLE = random.Random(1).randbytes(2 * CHUNK_BYTES + 77)
LIMITS = BodyLimits(memory_bytes_max=1000)


class Kept:
    """Files in a directory, the spool beside them, and their books."""

    def __init__(self, directory: Path) -> None:
        self.accounts = Accounts()
        self.directory = directory / "bodies"
        (directory / "spool").mkdir()
        self.spool = SpoolBudget(directory / "spool", 1 << 30, accounts=self.accounts)
        self.files = BodyFiles(self.directory, accounts=self.accounts)

    def close(self) -> None:
        self.files.close()
        self.spool.close()

    def count(self, metric: Metric, label: str = "") -> float:
        figures = {row.name: samples for row, samples in self.accounts.collect()}
        return figures[metric.name].get((label,) if label else (), 0)

    def keep(self, data: bytes = WHOLE, serial: int = 1) -> StoredFile:
        return self.files.keep(1, serial, Body.complete(data))

    async def spooled(self, data: bytes = WHOLE) -> Body:
        """A whole body in the spool."""
        body = Body.filling(self.spool, kept=True, limits=LIMITS)
        for at in range(0, len(data), 100_000):
            body.write(data[at : at + 100_000])
            await body.drain()
        body.finish()
        await body.drain()
        assert body.settled
        assert body.data is None
        return body

    def all_files(self) -> list[Path]:
        return [path for path in self.directory.rglob("*") if path.is_file()]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    kept.close()


def run(play: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(play, 20))


def path_of(file: StoredFile) -> Path:
    return file.files.path(file.gen, file.serial)


def content(file: StoredFile) -> bytes:
    return b"".join(file.pieces())


async def read_all(reader: readers.BodyReader, n_max: int = READ_BYTES) -> bytes:
    got = b""
    while chunk := await reader.read(n_max):
        assert len(chunk) <= n_max
        got += chunk
    return got


async def send_all(reader: FileReader) -> None:
    while (span := await reader.span()) is not None:
        reader.sent(span.size)


class TestKeeping:
    @pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, len(WHOLE)])
    def test_a_body_in_memory_is_written(self, kept: Kept, size: int) -> None:
        file = kept.keep(WHOLE[:size])
        assert content(file) == WHOLE[:size]
        assert file.size == size
        assert kept.count(files_module.KEPT, "written") == 1

    def test_the_file_has_the_name_that_the_header_draws(self, kept: Kept) -> None:
        file = kept.files.keep(3, 0x1E02A, Body.complete(b"hello"))
        assert path_of(file) == kept.directory / "00000003" / "2a" / "000000000001e02a"
        assert path_of(file).read_bytes() == b"hello"
        assert kept.all_files() == [path_of(file)]

    def test_a_spooled_body_only_gets_a_name(self, kept: Kept) -> None:
        async def play() -> None:
            body = await kept.spooled()
            with mock.patch.object(os, "pread", side_effect=AssertionError("nothing is read")):
                file = await asyncio.to_thread(kept.files.keep, 1, 1, body)
            assert kept.count(files_module.KEPT, "linked") == 1
            assert content(file) == WHOLE
            assert path_of(file).stat().st_mode & 0o777 == 0o600
            del body
            kept.spool.close()
            assert kept.spool.used_bytes == 0
            assert content(kept.files.file(1, 1, file.size, file.checksums)) == WHOLE

        run(play())

    def test_the_readers_it_had_in_the_spool_go_on(self, kept: Kept) -> None:
        async def play() -> None:
            body = await kept.spooled()
            reader = body.reader()
            first = await reader.read()
            await asyncio.to_thread(kept.files.keep, 1, 1, body)
            await asyncio.to_thread(kept.files.unlink, 1, 1)
            del body
            assert first + await read_all(reader) == WHOLE

        run(play())

    @pytest.mark.parametrize("why", [errno.EXDEV, errno.ENOENT, errno.EPERM, errno.EOPNOTSUPP])
    def test_where_files_cannot_be_linked_they_are_copied(self, kept: Kept, why: int) -> None:
        async def play() -> None:
            body = await kept.spooled()
            with mock.patch.object(os, "link", side_effect=OSError(why, "no")):
                file = await asyncio.to_thread(kept.files.keep, 1, 1, body)
            assert kept.count(files_module.KEPT, "copied") == 1
            assert content(file) == WHOLE
            assert kept.all_files() == [path_of(file)]

        run(play())

    def test_a_file_that_really_was_deleted_is_copied(self, kept: Kept) -> None:
        async def play() -> None:
            with no_unnamed_files():
                body = await kept.spooled()
            file = await asyncio.to_thread(kept.files.keep, 1, 1, body)
            assert kept.count(files_module.KEPT, "copied") == 1
            assert content(file) == WHOLE

        run(play())

    def test_the_same_body_under_another_serial_is_linked_and_each_goes_by_itself(self, kept: Kept) -> None:
        first = kept.keep()
        second = kept.files.keep(1, 2, Body.stored(first))
        assert second.checksums == first.checksums
        assert path_of(second).samefile(path_of(first))
        kept.files.unlink(1, 1)
        assert content(second) == WHOLE

    def test_a_name_is_never_used_again(self, kept: Kept) -> None:
        async def play() -> None:
            kept.keep(b"old")
            with pytest.raises(StoreError):
                await asyncio.to_thread(kept.files.keep, 1, 1, await kept.spooled())
            assert kept.files.path(1, 1).read_bytes() == b"old"

        run(play())

    @pytest.mark.parametrize("why", [errno.ENOSPC, errno.EIO])
    def test_a_disk_that_takes_no_more_leaves_nothing_behind(self, kept: Kept, why: int) -> None:
        async def play() -> None:
            body = await kept.spooled()
            with (
                mock.patch.object(os, "link", side_effect=OSError(why, "no")),
                writes_that_fail(why, after=CHUNK_BYTES),
            ):
                for attempt in (body, Body.complete(WHOLE)):
                    with pytest.raises(StoreError):
                        await asyncio.to_thread(kept.files.keep, 1, 1, attempt)
            assert kept.all_files() == []
            assert kept.count(files_module.FAILED, "keep") == 2
            assert await read_all(body.reader()) == WHOLE  # it is still where it was

        run(play())

    def test_a_directory_that_cannot_be_made_is_said(self, kept: Kept) -> None:
        kept.directory.write_text("in the way")
        with pytest.raises(StoreError):
            kept.keep()

    def test_writes_that_take_a_part_are_finished(self, kept: Kept) -> None:
        with writes_of_at_most(100_000):
            assert content(kept.keep()) == WHOLE


class TestNames:
    def test_every_file_is_found_those_half_written_too(self, kept: Kept) -> None:
        made = {(1, 1), (1, 0x2FF), (2, 7)}
        for gen, serial in made:
            kept.files.keep(gen, serial, Body.complete(b"x"))
        part = kept.files.path(1, 9).with_suffix(files_module.PART)
        part.parent.mkdir(parents=True)
        part.write_bytes(b"ha")
        assert set(kept.files.names()) == {*made, (1, 9)}
        assert kept.files.generations() == [1, 2]
        for gen, serial in list(kept.files.names()):
            kept.files.unlink(gen, serial)
        assert kept.all_files() == []

    def test_what_is_not_ours_is_left_alone(self, kept: Kept) -> None:
        (kept.directory / "lost+found").mkdir(parents=True)
        (kept.directory / "0000000g").mkdir()
        (kept.directory / "00000001" / "aa").mkdir(parents=True)
        (kept.directory / "00000001" / "aa" / "notes.txt").write_text("mine")
        (kept.directory / "00000001" / "README").write_text("mine")
        assert list(kept.files.names()) == []

    def test_where_nothing_was_ever_kept_there_are_none(self, kept: Kept) -> None:
        assert list(kept.files.names()) == []
        assert kept.files.generations() == []
        kept.files.unlink(1, 1)
        kept.files.drop_generation(1)

    def test_a_generation_goes_as_a_whole(self, kept: Kept) -> None:
        kept.keep(serial=1)
        kept.keep(serial=2)
        kept.files.keep(2, 3, Body.complete(b"x"))
        kept.files.drop_generation(1)
        assert list(kept.files.names()) == [(2, 3)]

    def test_a_disk_that_does_not_let_go_is_said(self, kept: Kept) -> None:
        kept.keep()
        with mock.patch.object(os, "unlink", side_effect=OSError(errno.EIO, "no")):
            with pytest.raises(StoreError):
                kept.files.unlink(1, 1)
            with pytest.raises(StoreError):
                kept.files.drop_generation(1)
        assert kept.count(files_module.FAILED, "unlink") == 1
        assert kept.count(files_module.FAILED, "drop") == 1


class TestBody:
    def test_a_stored_body_is_whole_and_weighs_next_to_nothing(self, kept: Kept) -> None:
        body = Body.stored(kept.keep())
        assert (body.state, body.size, body.data, body.spool_bytes) == ("whole", len(WHOLE), None, 0)
        assert body.kept
        assert body.settled
        assert body.accepts_readers
        assert body.memory_bytes < 300
        assert not gc.is_tracked(body)
        assert str(len(WHOLE)) in repr(body)

    def test_what_a_file_costs_in_memory_is_what_it_says(self, kept: Kept) -> None:
        checksums = kept.keep().checksums
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        many = [
            Body.stored(kept.files.file(1, at + 1000, len(WHOLE), bytes(bytearray(checksums)))) for at in range(2000)
        ]
        each = (tracemalloc.get_traced_memory()[0] - before) / 2000
        tracemalloc.stop()
        assert each == pytest.approx(many[0].memory_bytes + 8 + 88, rel=0.1)  # the body's handle is the record's


class TestReading:
    SPANS: ClassVar = [
        (0, None),
        (0, 1),
        (5, 5),
        (CHUNK_BYTES - 1, CHUNK_BYTES + 1),
        (CHUNK_BYTES, 2 * CHUNK_BYTES),
        (2 * CHUNK_BYTES + 70, None),
        (10, len(WHOLE) + 99),
        (len(WHOLE) + 5, None),
    ]

    @pytest.mark.parametrize(("start", "end"), SPANS)
    @pytest.mark.parametrize("n_max", [READ_BYTES, 333_333, 10 * CHUNK_BYTES])
    def test_a_reader_reads_its_range(self, kept: Kept, start: int, end: int | None, n_max: int) -> None:
        async def play() -> None:
            body = Body.stored(kept.keep())
            with body.reader(start, end) as reader:
                assert await read_all(reader, n_max) == WHOLE[start:end]
                assert await reader.read() == b""
            assert kept.count(files_module.GIVEN, "read") == len(WHOLE[start:end])

        run(play())

    @pytest.mark.parametrize(("start", "end"), SPANS)
    def test_the_kernel_is_given_the_same_range(self, kept: Kept, start: int, end: int | None) -> None:
        async def play() -> None:
            got = b""
            with Body.stored(kept.keep()).reader(start, end) as reader:
                assert isinstance(reader, FileReader)
                while (span := await reader.span()) is not None:
                    assert span.offset // CHUNK_BYTES == (span.offset + span.size - 1) // CHUNK_BYTES
                    part = os.pread(span.descriptor, min(span.size, 700_001), span.offset)
                    reader.sent(len(part))
                    got += part
            assert got == WHOLE[start:end]
            assert kept.count(files_module.GIVEN, "sendfile") == len(got)
            assert kept.count(files_module.GIVEN, "read") == 0

        run(play())

    def test_one_may_go_over_from_the_kernel_to_reading(self, kept: Kept) -> None:
        async def play() -> None:
            with Body.stored(kept.keep()).reader() as reader:
                assert isinstance(reader, FileReader)
                await reader.span()
                reader.sent(1000)
                assert await read_all(reader) == WHOLE[1000:]

        run(play())

    def test_reads_are_whole_chunks_and_the_next_is_under_way(self, kept: Kept) -> None:
        async def play() -> None:
            with spy_on_reads() as asked, Body.stored(kept.keep()).reader() as reader:
                await reader.read()
                await asyncio.to_thread(asked.wait_for, 2)
                assert asked.spans == [(0, CHUNK_BYTES), (CHUNK_BYTES, CHUNK_BYTES)]
                await read_all(reader)
            assert [size for _, size in asked.spans] == [CHUNK_BYTES, CHUNK_BYTES, 77]

        run(play())

    def test_a_part_of_a_verified_chunk_is_read_alone(self, kept: Kept) -> None:
        async def play() -> None:
            body = Body.stored(kept.keep())
            await read_all(body.reader())
            with spy_on_reads() as asked:
                assert await read_all(body.reader(7, 17)) == WHOLE[7:17]
            assert asked.spans == [(7, 10)]

        run(play())

    def test_memory_for_runs_is_bounded_and_readers_get_theirs_all_the_same(
        self, kept: Kept, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(readers, "HELD_RUNS_MAX", 4)

        async def play() -> None:
            body = Body.stored(kept.keep())
            many = [body.reader() for _ in range(10)]
            for reader in many:
                await reader.read(10)
            assert len(kept.files.runs) <= 4
            assert kept.count(files_module.SHORT_READS) > 0
            bodies = await asyncio.gather(*(read_all(reader) for reader in many))
            assert all(got == WHOLE[10:] for got in bodies)
            del many, reader
            async with asyncio.timeout(10):
                while kept.files.runs:  # noqa: ASYNC110 (a thread lets go of what it read ahead in its own time)
                    await asyncio.sleep(0.001)

        run(play())

    def test_a_reader_that_is_ready_gives_what_is_little_at_once(self, kept: Kept) -> None:
        async def play() -> None:
            body = Body.stored(kept.keep())
            little, much = body.reader(5, 105), body.reader()
            await little.ready()
            await much.ready()
            assert len(kept.files.runs) == 1
            assert little.read_nowait() == WHOLE[5:105]
            assert much.read_nowait() is None  # the kernel may send it
            await body.reader(7, 7).ready()

        run(play())

    def test_a_closed_reader_is_at_its_end(self, kept: Kept) -> None:
        async def play() -> None:
            reader = Body.stored(kept.keep()).reader()
            await reader.read()
            reader.close()
            reader.close()
            assert await reader.read() == b""
            assert isinstance(reader, FileReader)
            assert await reader.span() is None
            kept.files.close()  # what was read ahead is done, or dropped
            assert len(kept.files.runs) == 0

        run(play())

    def test_a_reader_may_leave_while_it_waits(self, kept: Kept) -> None:
        async def play() -> None:
            gate = threading.Event()
            with reads_that_wait(gate):
                reader = Body.stored(kept.keep()).reader()
                waiting = asyncio.ensure_future(reader.read())
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                reader.close()
                gate.set()
            del reader

        run(play())

    def test_a_file_is_open_while_someone_reads_it_and_no_longer(self, kept: Kept) -> None:
        async def play() -> None:
            body = Body.stored(kept.keep())
            assert opened(kept) == 0
            first, second = body.reader(), body.reader()
            await first.read()
            await second.read()
            assert opened(kept) == 1
            await read_all(first)
            assert opened(kept) == 1
            second.close()

        run(play())
        kept.files.close()
        assert opened(kept) == 0

    def test_a_file_deleted_under_a_reader_is_read_to_its_end(self, kept: Kept) -> None:
        async def play() -> None:
            reader = Body.stored(kept.keep()).reader()
            first = await reader.read()
            kept.files.unlink(1, 1)
            assert first + await read_all(reader) == WHOLE

        run(play())


def cut_off(path: Path) -> None:
    os.truncate(path, CHUNK_BYTES + 5)


def flipped(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(CHUNK_BYTES + 5)
        file.write(bytes([WHOLE[CHUNK_BYTES + 5] ^ 0x40]))


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


class TestDamage:
    @pytest.mark.parametrize(("hurt", "damage"), [(cut_off, Damage.SHORT), (flipped, Damage.CHECKSUM)])
    @pytest.mark.parametrize("by_kernel", [False, True])
    def test_no_byte_of_a_damaged_chunk_is_given(
        self, kept: Kept, hurt: Callable[[Path], None], damage: Damage, by_kernel: bool
    ) -> None:
        async def play() -> None:
            file = kept.keep()
            body = Body.stored(file)
            hurt(path_of(file))
            reader = body.reader()
            assert isinstance(reader, FileReader)
            with pytest.raises(StoreError):
                await (send_all(reader) if by_kernel else read_all(reader))
            assert reader.offset == CHUNK_BYTES
            assert file.damaged is damage
            assert body.damaged
            assert not body.accepts_readers
            assert "damaged" in repr(file)
            assert kept.count(files_module.DAMAGED, damage) == 1
            with pytest.raises(StoreError):
                file.verify()
            assert kept.count(files_module.DAMAGED, damage) == 1  # counted once

        run(play())

    def test_a_missing_file_is_found_out_before_anything_is_promised(self, kept: Kept) -> None:
        async def play() -> None:
            body = Body.stored(kept.files.file(1, 5, 100, b"1234"))
            assert body.accepts_readers  # nobody has looked
            with pytest.raises(StoreError):
                await body.reader().ready()
            assert body.file is not None
            assert body.file.damaged is Damage.MISSING
            assert not body.accepts_readers

        run(play())

    @pytest.mark.parametrize("read", [StoredFile.verify, content])
    def test_an_error_of_the_disk_is_damage(self, kept: Kept, read: Callable[[StoredFile], object]) -> None:
        file = kept.keep()
        fails = mock.Mock(side_effect=OSError(errno.EIO, "no"))
        with mock.patch.multiple(os, pread=fails, preadv=fails), pytest.raises(StoreError):
            read(file)
        assert file.damaged is Damage.UNREADABLE

    @pytest.mark.parametrize("call", ["works", "does not", "is missing"])
    def test_what_was_cut_off_since_it_was_verified_is_found_out(
        self, kept: Kept, call: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = kept.keep()
        file.verify()
        if call == "does not":
            monkeypatch.setattr(os, "sendfile", mock.Mock(side_effect=OSError(errno.EINVAL, "no")))
        elif call == "is missing":
            monkeypatch.delattr(os, "sendfile")
        descriptor = file.open()
        file.touch(descriptor, CHUNK_BYTES, CHUNK_BYTES + 100)
        cut_off(path_of(file))
        file.touch(descriptor, CHUNK_BYTES, CHUNK_BYTES + 5)
        with pytest.raises(StoreError):
            file.touch(descriptor, CHUNK_BYTES, CHUNK_BYTES + 100)
        assert file.damaged is Damage.SHORT

    def test_too_many_open_files_say_nothing_about_this_one(self, kept: Kept) -> None:
        file = kept.keep()
        with mock.patch.object(os, "open", side_effect=OSError(errno.EMFILE, "no")), pytest.raises(StoreError):
            file.verify()
        assert file.damaged is None
        assert kept.count(files_module.FAILED, "read") == 1
        file.verify()

    @pytest.mark.parametrize("checksums", [b"", b"1234", b"12345678901234567890"])
    def test_checksums_that_are_of_something_else_are_damage(self, kept: Kept, checksums: bytes) -> None:
        kept.keep()
        with pytest.raises(StoreError):
            kept.files.file(1, 1, len(WHOLE), checksums).verify()

    def test_what_was_added_to_a_file_is_not_part_of_the_body(self, kept: Kept) -> None:
        file = kept.keep()
        grown(path_of(file))
        assert content(file) == WHOLE

    @pytest.mark.parametrize("by_kernel", [False, True])
    def test_a_fault_of_our_own_is_never_taken_for_the_end(self, kept: Kept, by_kernel: bool) -> None:
        async def play() -> None:
            reader = Body.stored(kept.keep()).reader()
            assert isinstance(reader, FileReader)
            with spy_on_reads() as asked:
                await (reader.span() if by_kernel else reader.read(CHUNK_BYTES))
                await asyncio.to_thread(asked.wait_for, 2)  # the next one is done by the time it is wanted
            if by_kernel:
                reader.sent(CHUNK_BYTES)
            fault = mock.Mock(side_effect=MemoryError)
            with mock.patch.multiple(StoredFile, read=fault, touch=fault), pytest.raises(MemoryError):
                await (send_all(reader) if by_kernel else read_all(reader))

        run(play())

    def test_an_error_met_by_a_reader_keeps_nothing_alive(self, kept: Kept) -> None:
        async def play() -> None:
            file = kept.keep()
            flipped(path_of(file))
            with pytest.raises(StoreError):
                await read_all(Body.stored(file).reader())

        gc.collect()
        gc.disable()
        try:
            run(play())
            kept.files.close()
            assert opened(kept) == 0
        finally:
            gc.enable()


# --- the disk's behaviour


@contextlib.contextmanager
def no_unnamed_files() -> Iterator[None]:
    """A file system that makes none: they are made with a name, which is deleted."""
    real = os.open

    def open_named(path: Any, flags: int, *mode: int, **others: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no")
        return real(path, flags, *mode, **others)

    with mock.patch.object(os, "open", open_named):
        yield


def opened(kept: Kept) -> int:
    """Descriptors of this process for files of bodies."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith(str(kept.directory))
        except OSError:
            continue
    return found


@contextlib.contextmanager
def writes_that_fail(why: int, *, after: int) -> Iterator[None]:
    """The disk takes so many bytes in all, then no more."""
    real, left = os.write, after

    def write(descriptor: int, data: memoryview) -> int:
        nonlocal left
        if left <= 0:
            raise OSError(why, "no")
        written = real(descriptor, data[:left])
        left -= written
        return written

    with mock.patch.object(os, "write", write):
        yield


@contextlib.contextmanager
def writes_of_at_most(n_max: int) -> Iterator[None]:
    real = os.write
    with mock.patch.object(os, "write", lambda descriptor, data: real(descriptor, data[:n_max])):
        yield


class Reads:
    """What was read, as (offset, size), in order."""

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []
        self._more = threading.Condition()

    def add(self, offset: int, size: int) -> None:
        with self._more:
            self.spans.append((offset, size))
            self._more.notify_all()

    def wait_for(self, count: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: len(self.spans) >= count, 20)


@contextlib.contextmanager
def spy_on_reads() -> Iterator[Reads]:
    real, real_into, reads = os.pread, os.preadv, Reads()

    def read(descriptor: int, size: int, offset: int) -> bytes:
        data = real(descriptor, size, offset)
        reads.add(offset, size)
        return data

    def read_into(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        n = real_into(descriptor, buffers, offset)
        reads.add(offset, n)
        return n

    with mock.patch.multiple(os, pread=read, preadv=read_into):
        yield reads


@contextlib.contextmanager
def reads_that_wait(gate: threading.Event) -> Iterator[None]:
    real = os.pread

    def read(descriptor: int, size: int, offset: int) -> bytes:
        gate.wait(20)
        return real(descriptor, size, offset)

    with mock.patch.object(os, "pread", read):
        yield
