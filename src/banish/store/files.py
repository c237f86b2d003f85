"""Large bodies in files: one file each, under a name that is never used again.

    bodies/<generation>/<last byte of serial>/<serial>        hexadecimal: 00000003/2a/000000000001e02a
    bodies/<generation>/<last byte of serial>/<serial>.part   being written

A file becomes part of the store when the index names it; one that the index does not know is deleted, never read. The
index keeps its size and its checksums, so nothing is synced here: what a power cut takes is found out when it is read.

Every chunk is verified before the first byte of it is given out, once for each start of the edge. Damage makes the
body a miss from then on (`StoredFile.damaged`), and the response under way breaks off.

Not here: which bodies are kept (`disk.py`), who reads them (`readers.py`), files on their way in (`spool.py`).
Source: PURGE rule 19.
Units: bytes and offsets into the body. Invariant: a file under its final name is whole, and never changes.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from threading import Lock, local
from typing import ParamSpec, Protocol, TypeVar
from weakref import WeakSet, ref

from banish.errors import StoreError
from banish.store.checksums import CHUNK_BYTES, Checksums, chunk_holds, chunk_span, chunks_of
from banish.store.diskthreads import DiskThreads
from banish.tables import Accounts, Metric

READ_THREADS = 4
"""Threads that read: as many slow seeks at once as a disk takes well, and a bound on blocked calls."""

FILE_BYTES = 250
"""What a stored file costs in memory beside its checksums (CPython 3.11, measured)."""

PART = ".part"

KEPT = Metric("banish_body_files_kept_total", "counter", "Bodies put into files of their own, by how.", ("how",))
FAILED = Metric(
    "banish_body_file_errors_total",
    "counter",
    "Calls to the disk that failed for reasons other than damage, by what they were to do.",
    ("to",),
)
DAMAGED = Metric(
    "banish_body_files_damaged_total",
    "counter",
    "Stored bodies found to be damaged when they were read, by what is wrong. Removed while a reader was about to "
    "open it counts as missing.",
    ("damage",),
)
GIVEN = Metric(
    "banish_body_file_bytes_total",
    "counter",
    "Bytes given out of stored bodies in files: read into memory, or sent by the kernel (sendfile).",
    ("way",),
)
SHORT_READS = Metric(
    "banish_body_short_reads_total",
    "counter",
    "Reads of stored bodies made small and without read-ahead, because as many large ones were held as may be.",
)

_TRANSIENT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})
"""Errors that say nothing about the file."""

_DIGITS = frozenset("0123456789abcdef")

P = ParamSpec("P")
T = TypeVar("T")


class Damage(StrEnum):
    """What is wrong with a body's file."""

    MISSING = "missing"
    SHORT = "short"
    CHECKSUM = "checksum"
    UNREADABLE = "unreadable"
    """The disk gave an error."""


class OnDisk(Protocol):
    """Bytes that are in a file already, which can be given one more name."""

    @property
    def checksums(self) -> bytes: ...

    def link(self, path: Path) -> None: ...

    def pieces(self) -> Iterator[bytes]: ...


class Content(Protocol):
    """Where the bytes of a whole body are: in `data` or, if that is None, on disk. `Body` is one."""

    data: bytes | None

    @property
    def on_disk(self) -> OnDisk | None: ...

    @property
    def size(self) -> int: ...


class BodyFiles:
    """The files below one directory. Not safe to call from the event loop, except where it says so.

    What a body needs to be read runs on threads of its own, so that keeping and deleting cannot hold readers up: call
    `keep`, `unlink` and the like on another thread than those of `submit`.
    """

    def __init__(self, directory: Path, *, accounts: Accounts, threads: int = READ_THREADS) -> None:
        self.directory = directory
        self._threads = DiskThreads(threads, "banish-body")
        self._nowhere: Descriptor | None = None
        self._counting = Lock()  # tallies are added to from several threads
        self._kept = accounts.tally(KEPT)
        self._failed = accounts.tally(FAILED)
        self._damaged = accounts.tally(DAMAGED)
        self.given = accounts.tally(GIVEN)
        self.short_reads = accounts.tally(SHORT_READS)
        self.runs: WeakSet[object] = WeakSet()
        """The large reads that readers hold in memory: nothing has to be given back."""

    def __repr__(self) -> str:
        return f"<BodyFiles {self.directory}>"

    # What the index asks for

    def keep(self, gen: int, serial: int, body: Content) -> "StoredFile":
        """Put a whole body into a file. Raises StoreError if the disk fails, and leaves nothing behind.

        A spooled body's file only gets its name. No other call may be given the same `gen` and `serial`, ever.
        """
        path = self.path(gen, serial)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            how, checksums = self._put(path, body)
        except OSError as error:
            with suppress(OSError):
                path.with_suffix(PART).unlink(missing_ok=True)
            self.count_failure("keep")
            raise StoreError(f"cannot keep a body: {error}") from error
        with self._counting:
            self._kept.add(how)
        return StoredFile(self, gen, serial, body.size, checksums)

    def file(self, gen: int, serial: int, size: int, checksums: bytes) -> "StoredFile":
        """The file that the index names. Touches no disk: whether it is there shows when it is read."""
        return StoredFile(self, gen, serial, size, checksums)

    def unlink(self, gen: int, serial: int) -> None:
        """Delete a file; whoever reads it may go on. Fine if it is gone. Raises StoreError."""
        path = self.path(gen, serial)
        try:
            path.unlink(missing_ok=True)
            path.with_suffix(PART).unlink(missing_ok=True)
        except OSError as error:
            self.count_failure("unlink")
            raise StoreError(f"cannot delete a body's file: {error}") from error

    def drop_generation(self, gen: int) -> None:
        """Delete all files of a generation. Fine if it is gone. Raises StoreError if any stays."""
        try:
            shutil.rmtree(self.directory / f"{gen:08x}")
        except FileNotFoundError:
            pass
        except OSError as error:
            self.count_failure("drop")
            raise StoreError(f"cannot delete a generation of bodies: {error}") from error

    def generations(self) -> list[int]:
        """The generations of which there are files, or were."""
        return sorted(_hexadecimal(_names(self.directory), 8))

    def names(self) -> Iterator[tuple[int, int]]:
        """Generation and serial of each file there is, those half written among them: to find the ones without a row
        in the index. Those being kept meanwhile may be among them, so only serials from before the start may go."""
        for gen in self.generations():
            home = self.directory / f"{gen:08x}"
            for tail in _hexadecimal(_names(home), 2):
                files = (name.removesuffix(PART) for name in _names(home / f"{tail:02x}"))
                for serial in _hexadecimal(files, 16):
                    yield gen, serial

    def close(self) -> None:
        """Stop the threads, once what they do is done."""
        self._nowhere = None
        self._threads.stop()

    # What readers ask for

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run `call`, which reads, on a thread. From the event loop."""
        return self._threads.submit(call, *args, **kwargs)

    def open(self, gen: int, serial: int) -> "Descriptor":
        """Open a file to read it. Raises OSError."""
        return Descriptor(os.open(self.path(gen, serial), os.O_RDONLY | os.O_CLOEXEC), self._threads)

    def nowhere(self) -> "Descriptor":
        """/dev/null. Raises OSError."""
        if self._nowhere is None:
            self._nowhere = Descriptor(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), self._threads)
        return self._nowhere

    def count_damage(self, damage: Damage) -> None:
        """A file was found to be damaged."""
        with self._counting:
            self._damaged.add(damage.value)

    def count_failure(self, to: str) -> None:
        """The disk failed, though no file is known to be damaged."""
        with self._counting:
            self._failed.add(to)

    # How a file comes about

    def path(self, gen: int, serial: int) -> Path:
        """Where a file is, or would be."""
        return self.directory / f"{gen:08x}" / f"{serial & 0xFF:02x}" / f"{serial:016x}"

    def _put(self, path: Path, body: Content) -> tuple[str, bytes]:
        """Make the file; how that was done, and its checksums."""
        if body.data is not None:
            checksums = Checksums()
            checksums.add(body.data)
            _write(path, [body.data])
            return "written", checksums.so_far()
        assert body.on_disk is not None, "the bytes of a whole body are somewhere"
        try:
            body.on_disk.link(path)
        except FileExistsError:  # a name is never used again
            raise
        except OSError:  # another file system, or one without links
            _write(path, body.on_disk.pieces())
            return "copied", body.on_disk.checksums
        return "linked", body.on_disk.checksums


class StoredFile:
    """One body in a file, as the index knows it. Opened when read, closed when the last who reads it lets go.

    `damaged` says what was found to be wrong, if anything. May be asked from any thread; calls that read block.
    """

    __slots__ = ("_files", "_opened", "_verified", "checksums", "damaged", "gen", "serial", "size")

    def __init__(self, files: BodyFiles, gen: int, serial: int, size: int, checksums: bytes) -> None:
        self.gen = gen
        self.serial = serial
        self.size = size
        self.checksums = checksums
        self.damaged: Damage | None = None
        self._files = files
        self._verified = bytearray(chunks_of(size))
        """A byte for each chunk, so that threads can write them without a lock."""
        self._opened: ref[Descriptor] | None = None

    def __repr__(self) -> str:
        return f"<StoredFile {self.gen:x}/{self.serial:x} {self.size} bytes{', damaged' * bool(self.damaged)}>"

    @property
    def files(self) -> BodyFiles:
        """Those it belongs to."""
        return self._files

    @property
    def memory_bytes(self) -> int:
        """What knowing of it costs in memory, open or not."""
        return FILE_BYTES + len(self.checksums) + len(self._verified)

    def open(self) -> "Descriptor":
        """Its descriptor, shared by all but those who open it at the same moment. Raises StoreError."""
        descriptor = self._opened() if self._opened is not None else None
        if descriptor is None:
            try:
                descriptor = self._files.open(self.gen, self.serial)
            except OSError as error:
                raise self._unreadable(error) from error
            self._opened = ref(descriptor)
        return descriptor

    def read(self, descriptor: "Descriptor", start: int, end: int) -> bytes:
        """The bytes [start, end), which lie within one chunk, verified. Raises StoreError."""
        chunk = start // CHUNK_BYTES
        first, last = chunk_span(chunk, self.size)
        assert start < end <= last, "a read ends with its chunk"
        if self._verified[chunk]:
            return self._read_exactly(descriptor, start, end)
        data = self._read_exactly(descriptor, first, last)
        self._check(chunk, data)
        return data if end - start == last - first else data[start - first : end - first]

    def touch(self, descriptor: "Descriptor", start: int, end: int) -> None:
        """Have the bytes [start, end), within one chunk, verified and in the page cache. Raises StoreError."""
        chunk = start // CHUNK_BYTES
        first, last = chunk_span(chunk, self.size)
        assert start < end <= last, "a read ends with its chunk"
        if not self._verified[chunk]:
            with _scratch.view()[: last - first] as data:
                self._read_into(descriptor, data, first)
                self._check(chunk, data)
        elif not self._sent_nowhere(descriptor, start, end):
            with _scratch.view()[: end - start] as data:
                self._read_into(descriptor, data, start)

    def verify(self) -> None:
        """Read it through. Raises StoreError if it is damaged."""
        descriptor = self.open()
        for chunk in range(chunks_of(self.size)):
            self.touch(descriptor, *chunk_span(chunk, self.size))

    def pieces(self) -> Iterator[bytes]:
        """All of it, a chunk at a time, verified. Raises StoreError."""
        descriptor = self.open()
        for chunk in range(chunks_of(self.size)):
            yield self.read(descriptor, *chunk_span(chunk, self.size))

    def link(self, path: Path) -> None:
        """Give the same bytes one more name. Raises OSError."""
        os.link(self._files.path(self.gen, self.serial), path)

    def hurt(self, damage: Damage) -> StoreError:
        """Note that it is damaged; the error to raise."""
        if self.damaged is None:
            self.damaged = damage
            self._files.count_damage(damage)
        return StoreError(f"a stored body is damaged: {damage.value}")

    def _check(self, chunk: int, data: bytes | memoryview) -> None:
        """These are the bytes of a chunk, unless it was verified before."""
        if self._verified[chunk]:
            return
        if not chunk_holds(data, chunk, self.checksums):
            raise self.hurt(Damage.CHECKSUM)
        self._verified[chunk] = 1

    def _read_exactly(self, descriptor: "Descriptor", start: int, end: int) -> bytes:
        try:
            data = os.pread(descriptor.number, end - start, start)
        except OSError as error:
            raise self._unreadable(error) from error
        if len(data) < end - start:  # a regular file is read short only at its end
            raise self.hurt(Damage.SHORT)
        return data

    def _sent_nowhere(self, descriptor: "Descriptor", start: int, end: int) -> bool:
        """Have the kernel send these bytes to /dev/null: they come into the page cache, and nothing is copied. False if
        that cannot be done, or there are fewer: reading tells why."""
        if not hasattr(os, "sendfile"):
            return False
        try:
            nowhere = self._files.nowhere()
            while start < end and (n := os.sendfile(nowhere.number, descriptor.number, start, end - start)):
                start += n
        except OSError:
            return False
        return start == end

    def _read_into(self, descriptor: "Descriptor", data: memoryview, start: int) -> None:
        try:
            n = os.preadv(descriptor.number, [data], start)
        except OSError as error:
            raise self._unreadable(error) from error
        if n < len(data):
            raise self.hurt(Damage.SHORT)

    def _unreadable(self, error: OSError) -> StoreError:
        if error.errno in _TRANSIENT:
            self._files.count_failure("read")
            return StoreError(f"cannot read a stored body now: {error}")
        return self.hurt(Damage.MISSING if error.errno == errno.ENOENT else Damage.UNREADABLE)


class _Scratch(local):
    """A buffer of each thread's own, made at its first use: 1 MiB of new memory costs more than reading into it."""

    _buffer: bytearray | None = None

    def view(self) -> memoryview:
        self._buffer = self._buffer or bytearray(CHUNK_BYTES)
        return memoryview(self._buffer)


_scratch = _Scratch()


class Descriptor:
    """An open file. Closed, soon, when the last holder lets go of it."""

    __slots__ = ("__weakref__", "_threads", "number")

    def __init__(self, number: int, threads: DiskThreads) -> None:
        self.number = number
        self._threads = threads

    def __del__(self) -> None:
        self._threads.close_file(self.number)


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a new file, under another name until it is whole."""
    part = path.with_suffix(PART)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)
    part.rename(path)


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _hexadecimal(names: Iterable[str], digits: int) -> list[int]:
    """What those names say that are numbers of so many hexadecimal digits; others are not ours."""
    return sorted(int(name, 16) for name in names if len(name) == digits and set(name) <= _DIGITS)
