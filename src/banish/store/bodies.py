"""Bodies: bytes filled by one writer and read by many readers, each with its own offset.

A *kept* body may become part of a stored response: it is memory up to a bound, then a spool file, and its
origin runs at full speed. A *relayed* body is nobody's but its one reader's: a window in memory, filled at
that reader's pace. A kept body that outgrows the spool budget becomes relayed, at the pace of its fastest
reader.

    bytes      0 ─────────── flushed ──────── size
    kept       [ spool file )[ memory          )     every byte is in one of them, or both
    relayed    [ spool file )      [ memory    )     a reader whose next byte lies in the gap is cut

This file is the handle and the reader; `fill.py` is what stands behind both while bytes move.

Not here: framing (`http/framing.py`), chunked coding, where fetches come from (`origin/`).
Units: bytes and offsets into the body as it came, content codings included.
Invariants: every reader gets exactly the written bytes of its range in order, then b"" or the writer's error;
no reader holds another back. A whole body is immutable. `Body` is out of the cyclic collector's reach and so
must be in no cycle: readers hold what fills it, never the body, and the call-back goes when filling ends.
"""

import asyncio
from collections.abc import Callable
from typing import Self

import msgspec

from banish.http.fields import Fields
from banish.store.fill import NO_TRAILERS, BodyLimits, BodyState, Fill
from banish.store.spool import SpoolBudget

__all__ = ["READ_BYTES", "Body", "BodyLimits", "BodyReader", "BodyState"]

READ_BYTES = 65536
"""What one read returns at most unless told otherwise: a socket's send buffer takes about this much."""


class Body(msgspec.Struct, gc=False, eq=False):
    """The bytes of one response. Made by `Body.complete` or `Body.filling`."""

    data: bytes | None = None
    """All bytes, if the body is whole and in memory; else None."""

    trailers: Fields = NO_TRAILERS
    """Trailer fields, once the body is whole."""

    _fill: Fill | None = None
    _kept: bool = True

    @classmethod
    def complete(cls, data: bytes) -> "Body":
        """A body that is whole from the start."""
        return cls(data)

    @classmethod
    def filling(
        cls,
        spool: SpoolBudget,
        *,
        kept: bool,
        limits: BodyLimits = BodyLimits(),  # noqa: B008 (immutable)
        on_abandoned: Callable[[], None] | None = None,
    ) -> "Body":
        """An empty body about to be written.

        `on_abandoned` is called once when a body that is not kept has lost its last reader: nobody wants the
        rest. It may cancel the writer.
        """
        return cls(_fill=Fill(spool, limits, kept=kept, on_abandoned=on_abandoned), _kept=kept)

    def __repr__(self) -> str:
        return f"<Body {self.state} {'kept' if self.kept else 'relayed'} {self.size} bytes>"

    # What can be asked

    @property
    def state(self) -> BodyState:
        """Where in its life the body is."""
        return BodyState.WHOLE if self._fill is None else self._fill.state

    @property
    def size(self) -> int:
        """Bytes written so far."""
        if self._fill is not None:
            return self._fill.size
        return len(self.data or b"")

    @property
    def kept(self) -> bool:
        """Whether every byte is still there. May turn False, never True. To be stored, a body is kept and
        WHOLE."""
        return self._kept if self._fill is None else self._fill.kept

    @property
    def settled(self) -> bool:
        """Whether the body is whole and every byte is where it will stay. What `drain` after `finish` waits
        for."""
        return self._fill is None or self._fill.settled

    @property
    def accepts_readers(self) -> bool:
        """Whether a new reader would find the body from its first byte on."""
        return self._fill is None or self._fill.accepts_readers

    @property
    def abandoned(self) -> bool:
        """Whether the last reader left a body that is not kept, so that writing is in vain."""
        return self.state is BodyState.ABANDONED

    @property
    def readers(self) -> int:
        """Readers of a body still being filled or spooled."""
        return 0 if self._fill is None else len(self._fill.readers)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the body in memory."""
        return len(self.data or b"") if self._fill is None else self._fill.memory_bytes

    @property
    def spool_bytes(self) -> int:
        """Bytes reserved for the body in the spool."""
        return 0 if self._fill is None else self._fill.spool_bytes

    # The writer's side

    def write(self, chunk: bytes) -> None:
        """Append `chunk`. Never blocks: `await drain()` between writes is what bounds memory.

        Into an abandoned body it goes nowhere.
        """
        assert self._fill is not None, "a whole body takes no more bytes"
        self._fill.write(chunk)

    async def drain(self) -> None:
        """Wait until more may be written; after `finish`, until every byte is where it will stay.

        Whoever stores a body awaits this after `finish` and then asks `kept`: the disk may have failed.
        """
        if self._fill is not None:
            await self._fill.drain()

    def finish(self, trailers: Fields | None = None) -> None:
        """The body is whole."""
        assert self._fill is not None, "a body ends once"
        self.trailers = trailers or NO_TRAILERS
        self._fill.finish()
        self.data = self._fill.whole_data()
        if self.data is not None:
            self._kept = self._fill.kept
            self._fill = None  # readers have their own hold on it

    def fail(self, error: Exception) -> None:
        """The body ends here though it is not whole. Each reader meets `error` after the bytes so far."""
        assert self._fill is not None, "a body ends once"
        self._fill.fail(error)

    def stop_keeping(self) -> None:
        """Relay the rest without keeping it: slow the writer to its fastest reader; take no new readers.

        With no reader the body is abandoned. A body already whole in memory is only marked.
        """
        self._kept = False
        if self._fill is not None:
            self._fill.stop_keeping()

    # The reader's side

    def reader(self, start: int = 0, end: int | None = None) -> "BodyReader":
        """A reader of [start, end), `end` None being the body's end. Only while `accepts_readers`."""
        if self._fill is None:
            return BodyReader(None, self.data or b"", start, end)
        assert self._fill.accepts_readers, "this body is no longer there from its first byte"
        reader = BodyReader(self._fill, b"", start, end)
        self._fill.join(reader)
        return reader


class BodyReader:
    """One reader's place in a body. Reads are made one at a time."""

    __slots__ = ("_data", "_end", "_fill", "_waiter", "offset")

    def __init__(self, fill: Fill | None, data: bytes, start: int, end: int | None) -> None:
        self._fill = fill
        self._data = data
        self._end = end
        self._waiter: asyncio.Future[None] | None = None
        self.offset = start

    async def read(self, n_max: int = READ_BYTES) -> bytes:
        """The next bytes, at least one and at most `n_max`; b"" at the end.

        Raises the writer's error where it failed; `LimitExceeded` if this reader fell too far behind a body
        that is not kept; `StoreError` if the spool cannot be read back.
        """
        while True:
            chunk = self.read_nowait(n_max)
            if chunk is not None:
                return chunk
            assert self._fill is not None, "bytes in memory need no waiting"
            if self.offset < self._fill.size:
                wanted = n_max if self._end is None else min(n_max, self._end - self.offset)
                chunk = await self._fill.read_spooled(self, wanted)
                self._advance(len(chunk))
                return chunk
            await self._wait()

    def read_nowait(self, n_max: int = READ_BYTES) -> bytes | None:
        """As `read`, if that needs no waiting; else None."""
        wanted = n_max if self._end is None else min(n_max, self._end - self.offset)
        if wanted <= 0:
            return b""
        if self._fill is None:
            chunk: bytes | None = self._data[self.offset : self.offset + wanted]
        else:
            chunk = self._fill.peek(self.offset, wanted)
        if chunk is not None:
            self._advance(len(chunk))
        return chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave. A closed reader is at its end. Closing twice is fine."""
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
