"""What moves the bytes of a body that is being written, or that lies in a spool file.

                 finish                                    kept and in memory → the body drops its fill
    FILLING ───────────────▶ WHOLE
       │ ──── fail ────────▶ FAILED       readers still get the bytes so far, then the error
       └ last reader left ─▶ ABANDONED    and not kept: bytes are dropped, the call-back is called

Three regions, by offset: [0, flushed) is in the file; [low, size) is in memory; [flushed, flush end) is on
its way to the file and stays in memory until there. While kept, low <= flushed.

Not here: the interface (`bodies.py`, `readers.py`), the file (`spool.py`).
Invariants: one flush is in flight at a time. Memory holds at most `memory_bytes_max + pending_bytes_max +
window_bytes` of a kept body, `lag_bytes_max + window_bytes` of a relayed one, and one chunk more at either
end, if the writer drains.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import msgspec

from banish.errors import LimitExceeded, StoreError
from banish.http.fields import Fields
from banish.store.spool import SpoolBudget, SpoolFile

NO_TRAILERS = Fields()

COALESCE_BYTES = 4096
"""Chunks are joined up to this size, so that an origin that dribbles bytes cannot make us hold a list of
them."""

FLUSH_BYTES = 131072
"""A flush is begun once this much waits: a thread hop costs about 80 µs, a write of this size about the
same."""


class BodyState(StrEnum):
    """Where in its life a body is."""

    FILLING = "filling"
    WHOLE = "whole"
    FAILED = "failed"
    ABANDONED = "abandoned"


class BodyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one body may be where. All in bytes."""

    memory_bytes_max: int = 1 << 20
    """A kept body past this goes to the spool."""

    pending_bytes_max: int = 1 << 20
    """What may wait to be written to the spool before the origin is slowed to the disk's pace."""

    window_bytes: int = 256 << 10
    """How far a relayed body may run ahead of its fastest reader; what a spooled one keeps in memory too."""

    lag_bytes_max: int = 1 << 20
    """How far a reader of a relayed body may fall behind the fastest before it is cut."""


class FillReader(Protocol):
    """What a fill needs of its readers."""

    offset: int

    def wake(self) -> None: ...

    def close(self) -> None: ...


class Fill:
    """The bytes of one body on their way from its writer to its readers."""

    __slots__ = (
        "_chunks",
        "_drained",
        "_error",
        "_file",
        "_flushed",
        "_flushing",
        "_joined",
        "_limits",
        "_on_abandoned",
        "_spool",
        "_starts",
        "kept",
        "readers",
        "size",
        "state",
    )

    def __init__(
        self, spool: SpoolBudget, limits: BodyLimits, *, kept: bool, on_abandoned: Callable[[], None] | None
    ) -> None:
        self.state = BodyState.FILLING
        self.kept = kept
        self.size = 0
        self.readers: list[FillReader] = []
        self._spool = spool
        self._limits = limits
        self._on_abandoned = on_abandoned
        self._error: Exception | None = None
        self._joined = False
        self._drained: asyncio.Future[None] | None = None
        # Memory: contiguous chunks up to `size`, with the offset each begins at.
        self._chunks: list[bytes] = []
        self._starts: list[int] = []
        # Spool: bytes [0, _flushed) of the body are in the file.
        self._file: SpoolFile | None = None
        self._flushed = 0
        self._flushing = False

    @property
    def memory_bytes(self) -> int:
        return self.size - self._starts[0] if self._starts else 0

    @property
    def spool_bytes(self) -> int:
        return self._file.reserved_bytes if self._file else 0

    @property
    def file(self) -> SpoolFile | None:
        """The file that holds every byte, once the body is settled."""
        return self._file if self.settled else None

    @property
    def accepts_readers(self) -> bool:
        if self.kept:
            return self.state in (BodyState.FILLING, BodyState.WHOLE)
        return self.state is BodyState.FILLING and not self._joined and self._file is None

    @property
    def settled(self) -> bool:
        return self.state is BodyState.WHOLE and self._flushed == self._flush_end()

    def whole_data(self) -> bytes | None:
        """All bytes as one object, if the body is whole and none has left memory."""
        if self.state is not BodyState.WHOLE or self.memory_bytes < self.size or self._file is not None:
            return None
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
            self._starts = [0]
        return self._chunks[0] if self._chunks else b""

    # Writing

    def write(self, chunk: bytes) -> None:
        if self.state is BodyState.ABANDONED or not chunk:
            return
        assert self.state is BodyState.FILLING, f"write to a body that is {self.state}"
        self._append(chunk)
        if self.kept and self.size > self._limits.memory_bytes_max:
            self._reserve()
            self._flush()
            self._trim()
        for reader in self.readers:
            reader.wake()

    def _append(self, chunk: bytes) -> None:
        if self._chunks and len(self._chunks[-1]) + len(chunk) <= COALESCE_BYTES:
            self._chunks[-1] += chunk
        else:
            self._chunks.append(chunk)
            self._starts.append(self.size)
        self.size += len(chunk)

    async def drain(self) -> None:
        while self._must_wait():
            assert self._drained is None, "a body has one writer"
            self._drained = asyncio.get_running_loop().create_future()
            try:
                await self._drained
            finally:
                self._drained = None

    def _must_wait(self) -> bool:
        unflushed = self._flush_end() - self._flushed
        if self.state is BodyState.WHOLE:
            return not self.settled
        if self.state is not BodyState.FILLING:
            return False
        if unflushed > self._limits.pending_bytes_max:
            return True
        if self.kept:
            return False
        fastest = max((reader.offset for reader in self.readers), default=0)
        # What is on its way to the file stays in memory, and all after it: let that end before taking more.
        return unflushed > 0 or self.size - fastest > self._limits.window_bytes

    def _wake_writer(self) -> None:
        if self._drained is not None and not self._drained.done() and not self._must_wait():
            self._drained.set_result(None)

    # Ending

    def finish(self) -> None:
        if self.state is BodyState.ABANDONED:
            return
        self._end(BodyState.WHOLE)

    def fail(self, error: Exception) -> None:
        if self.state is BodyState.ABANDONED:
            return
        self._error = _anew(error)
        self.kept = False
        self._end(BodyState.FAILED)

    def _end(self, state: BodyState) -> None:
        assert self.state is BodyState.FILLING, f"a body that is {self.state} cannot become {state}"
        self.state = state
        self._on_abandoned = None
        self._flush()
        self._trim()
        for reader in self.readers:
            reader.wake()

    def stop_keeping(self) -> None:
        self.kept = False
        if not self.readers and self.state is BodyState.FILLING:
            self._abandon()
        self._flush()
        self._trim()
        self._wake_writer()

    def _abandon(self) -> None:
        self.state = BodyState.ABANDONED
        call_back, self._on_abandoned = self._on_abandoned, None
        self._wake_writer()
        if call_back is not None:
            call_back()

    # Reading

    def join(self, reader: FillReader) -> None:
        self._joined = True
        self.readers.append(reader)
        self.advanced()  # it may begin past what the writer waits to be read

    def leave(self, reader: FillReader) -> None:
        if reader not in self.readers:
            return
        self.readers.remove(reader)
        if not self.readers and not self.kept and self.state is BodyState.FILLING:
            self._abandon()
        self.advanced()

    def advanced(self) -> None:
        """A reader moved: a relayed body may let go of bytes and take more."""
        if not self.kept:
            self._trim()
            self._wake_writer()

    def peek(self, offset: int, n_max: int) -> bytes | None:
        """Bytes at `offset` from memory; b"" at the end; None if they are not there or not yet."""
        if offset >= self.size:
            if self._error is not None:
                raise _anew(self._error)
            return None if self.state is BodyState.FILLING else b""
        if not self._starts or offset < self._starts[0]:
            return None
        at = bisect_right(self._starts, offset) - 1
        skip = offset - self._starts[at]
        chunk = self._chunks[at]
        return chunk if skip == 0 and len(chunk) <= n_max else chunk[skip : skip + n_max]

    async def read_spooled(self, reader: FillReader, n_max: int) -> bytes:
        """Bytes at the reader's offset, which is below memory's."""
        offset = reader.offset
        n_bytes = min(n_max, self._flushed - offset)
        if n_bytes <= 0 or self._file is None:
            self._spool.readers_cut.add()
            reader.close()
            raise LimitExceeded(408, "body.lag_bytes_max", "the client fell too far behind a body that is not kept")
        try:
            chunk = await asyncio.wrap_future(self._spool.submit(self._file.read, n_bytes, offset))
        except OSError as error:
            self.kept = False  # take no more readers: damage is a miss from now on
            raise StoreError(f"cannot read back a spooled body: {error}") from error
        if not chunk:
            self.kept = False
            raise StoreError("a spooled body is shorter than what was written")
        return chunk

    # Spooling

    def _reserve(self) -> None:
        """Make room in the file for all bytes so far, or keep this body no longer."""
        self._file = self._file or SpoolFile(self._spool)
        if not self._file.reserve(self.size - self._file.reserved_bytes):
            self._spool.refused.add()
            self.stop_keeping()

    def _flush_end(self) -> int:
        wanted = self._file is not None and self.state is not BodyState.ABANDONED
        return self.spool_bytes if wanted else self._flushed

    def _flush(self) -> None:
        """Begin to write what waits, if it is enough, or the last."""
        waiting = self._flush_end() - self._flushed
        filling = self.state is BodyState.FILLING and self.kept
        enough = min(FLUSH_BYTES, self._limits.pending_bytes_max) if filling else 0
        if self._flushing or waiting <= 0 or waiting < enough:
            return
        assert self._file is not None, "room was reserved in a file"
        self._flushing = True
        parts = self._parts(self._flushed, self._flush_end())
        job = asyncio.wrap_future(self._spool.submit(self._file.write, parts, self._flushed))
        job.add_done_callback(self._flush_done)

    def _flush_done(self, job: "asyncio.Future[int]") -> None:
        self._flushing = False
        if job.cancelled():
            return
        error = job.exception()
        if error is None:
            self._flushed += job.result()
            self._flush()
        else:
            self._give_up_file(error)
        self._trim()
        self._wake_writer()

    def _give_up_file(self, error: BaseException) -> None:
        """The disk failed: what is written can still be read, the rest is relayed from memory."""
        if not isinstance(error, OSError):
            raise error
        assert self._file is not None, "a file was being written"
        self._spool.errors.add()
        self._file.shrink(self._flushed)
        self.stop_keeping()

    def _parts(self, start: int, end: int) -> list[bytes]:
        """The bytes [start, end) in memory, as chunks."""
        at = bisect_right(self._starts, start) - 1
        parts = []
        while at < len(self._chunks) and self._starts[at] < end:
            chunk, offset = self._chunks[at], self._starts[at]
            parts.append(chunk[max(0, start - offset) : end - offset])
            at += 1
        return parts

    # Letting go

    def _low(self) -> int:
        """The lowest offset that memory must still hold."""
        if self.state is BodyState.ABANDONED:
            return self.size
        if self.kept:
            tail = self._limits.window_bytes if self.state is BodyState.FILLING else 0
            return min(self._flushed, self.size - tail) if self._file else 0
        if self.readers:
            offsets = [reader.offset for reader in self.readers]
            low = max(self._flushed, min(offsets), max(offsets) - self._limits.lag_bytes_max)
        else:
            low = self.size if self._joined or self.state is BodyState.FAILED else 0
        return min(low, self._flushed) if self._flushed < self._flush_end() else low

    def _trim(self) -> None:
        low = self._low()
        gone = bisect_right(self._starts, low) - 1  # chunks wholly below: those before the one that holds `low`
        if low >= self.size:
            gone = len(self._chunks)
        if gone > 0:
            del self._chunks[:gone]
            del self._starts[:gone]
        if self.state in (BodyState.ABANDONED, BodyState.FAILED) and not self.readers and not self._flushing:
            self._file = None


def _anew(error: Exception) -> Exception:
    """The same error, never raised. One that was raised keeps the frames it passed alive, and those the body: a cycle
    through a body, which is out of the collector's reach, would never end.
    """
    twin: Exception = error.__class__.__new__(error.__class__, *error.args)
    twin.__dict__.update(error.__dict__)
    return twin
