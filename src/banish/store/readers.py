"""Readers of bodies: each has its own offset, and gets exactly the bytes of its range.

    MemoryReader   of a body in memory, or one that is being filled or lies in the spool (`fill.py`)
    FileReader     of a stored body in a file of its own (`files.py`)

A file is read in runs: up to a chunk at a time, whole if it is not verified yet, the next one under way while this
one is given out. Memory for that is bounded for all readers together; past the bound runs are short. Who can have the
kernel send the bytes asks for `span` instead: then nothing is held, and the file has been read only to verify it and
to have it in the page cache, so that the event loop does not wait for the disk.

    chunks     0 ───────────── 1 MiB ───────────── 2 MiB ─── size
    runs             [ held    )[ read ahead       )                 offset
                     ▲ offset

Not here: the handle (`bodies.py`).
Units: bytes and offsets into the body.
Invariant: a reader is read by one task at a time, and never holds the body it reads.
"""

import asyncio
from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import NamedTuple, Self

from banish.errors import StoreError
from banish.store.checksums import CHUNK_BYTES
from banish.store.files import Damage, Descriptor, StoredFile
from banish.store.fill import Fill

READ_BYTES = 65536
"""What one read returns at most unless told otherwise: a socket's send buffer takes about this much."""

HELD_RUNS_MAX = 32
"""Runs of up to a chunk that all readers together may hold, or have under way, in memory."""


class BodyReader(ABC):
    """One reader's place in a body. Reads are made one at a time."""

    __slots__ = ("_end", "offset")

    def __init__(self, start: int, end: int | None) -> None:
        self.offset = start
        self._end = end

    async def ready(self) -> None:
        """Find out whether the first bytes are sound, before anything is promised. Raises StoreError if not."""
        return

    @abstractmethod
    async def read(self, n_max: int = READ_BYTES) -> bytes:
        """The next bytes, at least one and at most `n_max`; b"" at the end.

        Raises the writer's error where it failed; `LimitExceeded` if this reader fell too far behind a body
        that is not kept; `StoreError` if what is on disk cannot be read back.
        """

    @abstractmethod
    def read_nowait(self, n_max: int = READ_BYTES) -> bytes | None:
        """As `read`, if that needs no waiting; else None."""

    @abstractmethod
    def close(self) -> None:
        """Leave. A closed reader is at its end. Closing twice is fine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wanted(self, n_max: int) -> int:
        return n_max if self._end is None else min(n_max, self._end - self.offset)


class MemoryReader(BodyReader):
    """A reader of bytes in memory, or of what a writer is still filling."""

    __slots__ = ("_data", "_fill", "_waiter")

    def __init__(self, fill: Fill | None, data: bytes, start: int, end: int | None) -> None:
        super().__init__(start, end)
        self._fill = fill
        self._data = data
        self._waiter: asyncio.Future[None] | None = None

    async def read(self, n_max: int = READ_BYTES) -> bytes:
        while True:
            chunk = self.read_nowait(n_max)
            if chunk is not None:
                return chunk
            assert self._fill is not None, "bytes in memory need no waiting"
            if self.offset < self._fill.size:
                chunk = await self._fill.read_spooled(self, self._wanted(n_max))
                self._advance(len(chunk))
                return chunk
            await self._wait()

    def read_nowait(self, n_max: int = READ_BYTES) -> bytes | None:
        wanted = self._wanted(n_max)
        if wanted <= 0:
            return b""
        if self._fill is None:
            chunk: bytes | None = self._data[self.offset : self.offset + wanted]
        else:
            chunk = self._fill.peek(self.offset, wanted)
        if chunk is not None:
            self._advance(len(chunk))
        return chunk

    def close(self) -> None:
        self._end = 0
        if self._fill is not None:
            self._fill.leave(self)
        self.wake()

    def wake(self) -> None:
        """Have a waiting read look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _advance(self, n_bytes: int) -> None:
        self.offset += n_bytes
        if n_bytes == 0 or (self._end is not None and self.offset >= self._end):
            self.close()  # who has had its range must not hold the writer back
        elif self._fill is not None:
            self._fill.advanced()

    async def _wait(self) -> None:
        assert self._waiter is None, "a reader reads one thing at a time"
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Span(NamedTuple):
    """Bytes of a file that are verified and in the page cache."""

    descriptor: int
    offset: int
    size: int


class FileReader(BodyReader):
    """A reader of a stored body in a file."""

    __slots__ = ("_ahead", "_descriptor", "_file", "_run")

    _end: int

    def __init__(self, file: StoredFile, start: int, end: int | None) -> None:
        super().__init__(start, file.size if end is None else min(end, file.size))
        self._file = file
        self._descriptor: Descriptor | None = None
        """Held from the first read to the last: the file may lose its name meanwhile."""
        self._run: _Run | None = None
        self._ahead: _Run | None = None

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return max(0, self._end - self.offset)

    async def ready(self) -> None:
        if self.left:
            await self._load(held=self.left <= READ_BYTES)

    async def read(self, n_max: int = READ_BYTES) -> bytes:
        while (chunk := self.read_nowait(n_max)) is None:
            await self._load(held=True)
        return chunk

    def read_nowait(self, n_max: int = READ_BYTES) -> bytes | None:
        wanted, run = self._wanted(n_max), self._run
        if wanted <= 0:
            return b""
        if run is None or not run.held or self.offset not in run:
            return None
        chunk = run.data[self.offset - run.start :][:wanted]
        self._advance(len(chunk), "read")
        return chunk

    async def span(self) -> Span | None:
        """The next bytes for the kernel to send, all those up to the end of a chunk; None at the end.

        The descriptor is good until this reader is closed. Raises StoreError.
        """
        if not self.left:
            return None
        run = await self._load(held=False)
        if self._descriptor is None:  # closed meanwhile
            return None
        return Span(self._descriptor.number, self.offset, run.end - self.offset)

    def sent(self, n_bytes: int) -> None:
        """The kernel has taken so many bytes of the span. Raises StoreError if that is none: the file was cut off."""
        if n_bytes == 0:
            raise self._file.hurt(Damage.SHORT)
        self._advance(n_bytes, "sendfile")

    def failed(self) -> StoreError:
        """The kernel could not read the file; the error to raise."""
        return self._file.hurt(Damage.UNREADABLE)

    def close(self) -> None:
        self._end = 0
        if self._ahead is not None:
            self._ahead.job.cancel()
        self._run = self._ahead = self._descriptor = None

    def _advance(self, n_bytes: int, way: str) -> None:
        self.offset += n_bytes
        self._file.files.given.add(way, n=n_bytes)
        if self.offset >= self._end:
            self.close()

    async def _load(self, *, held: bool) -> "_Run":
        """The run that holds this reader's offset; the one behind it is under way."""
        run = next((run for run in (self._run, self._ahead) if run and run.held == held and self.offset in run), None)
        if run is None:
            run = self._begin(self.offset, held)
        self._run = self._ahead = None
        if run.job.done():
            run.job.result()
        else:
            await asyncio.wrap_future(run.job)
        if run.failure is not None:
            raise StoreError(run.failure)
        if self._end:  # else it was closed meanwhile
            self._run, self._descriptor = run, run.descriptor
            if run.large and run.end < self._end:
                self._ahead = self._begin(run.end, held)
        return run

    def _begin(self, start: int, held: bool) -> "_Run":
        """Start to read the run that begins here and ends with its chunk, or sooner where memory is short."""
        end = min((start // CHUNK_BYTES + 1) * CHUNK_BYTES, self._end)
        files = self._file.files
        large = not held or len(files.runs) < HELD_RUNS_MAX
        if not large:
            files.short_reads.add()
            end = min(end, start + READ_BYTES)
        run = _Run(self._file, self._descriptor, start, end, held=held, large=large)
        if held and large:
            files.runs.add(run)
        run.job = files.submit(run.fill)
        return run


class _Run:
    """Bytes of a file, within one chunk, that a thread reads: held in memory, or only seen to be sound."""

    __slots__ = (
        "__weakref__", "_file", "data", "descriptor", "end", "failure", "held", "job", "large", "start",
    )  # fmt: skip

    job: Future[None]

    def __init__(
        self, file: StoredFile, descriptor: Descriptor | None, start: int, end: int, *, held: bool, large: bool
    ) -> None:
        self.start = start
        self.end = end
        self.held = held
        self.large = large
        self.data = b""
        self.descriptor = descriptor
        self.failure: str | None = None
        """What went wrong, in words: an error would hold on to the frames it has passed."""
        self._file = file

    def __contains__(self, offset: int) -> bool:
        return self.start <= offset < self.end

    def fill(self) -> None:
        """Read. On a thread."""
        try:
            self.descriptor = self.descriptor or self._file.open()
            if self.held:
                self.data = self._file.read(self.descriptor, self.start, self.end)
            else:
                self._file.touch(self.descriptor, self.start, self.end)
        except StoreError as error:
            self.failure = str(error)
