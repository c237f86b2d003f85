"""Bodies: bytes filled by one writer and read by many readers, each with its own offset.

A *kept* body may become part of a stored response: it is memory up to a bound, then a spool file, and its
origin runs at full speed. A *relayed* body is nobody's but its one reader's: a window in memory, filled at
that reader's pace. A kept body that outgrows the spool budget becomes relayed, at the pace of its fastest
reader.

    bytes      0 ─────────── flushed ──────── size
    kept       [ spool file )[ memory          )     every byte is in one of them, or both
    relayed    [ spool file )      [ memory    )     a reader whose next byte lies in the gap is cut
    stored     [ file of its own                ]     from then on, if the edge keeps files

This file is the handle; `fill.py` is what stands behind it while bytes move, `readers.py` are those who read.

Not here: framing (`http/framing.py`), chunked coding, where fetches come from (`origin/`), files (`files.py`).
Units: bytes and offsets into the body as it came, content codings included.
Invariants: every reader gets exactly the written bytes of its range in order, then b"" or the writer's error;
no reader holds another back. A whole body is immutable. `Body` is out of the cyclic collector's reach and so
must be in no cycle: readers hold what fills it or its file, never the body, and the call-back goes when filling ends.
"""

from collections.abc import Callable

import msgspec

from banish.http.fields import Fields
from banish.store.files import OnDisk, StoredFile
from banish.store.fill import NO_TRAILERS, BodyLimits, BodyState, Fill
from banish.store.readers import READ_BYTES, BodyReader, FileReader, MemoryReader
from banish.store.spool import SpoolBudget

__all__ = ["READ_BYTES", "Body", "BodyLimits", "BodyReader", "BodyState"]


class Body(msgspec.Struct, gc=False, eq=False):
    """The bytes of one response. Made by `Body.complete`, `Body.filling` or `Body.stored`."""

    data: bytes | None = None
    """All bytes, if the body is whole and in memory; else None."""

    trailers: Fields = NO_TRAILERS
    """Trailer fields, once the body is whole."""

    file: StoredFile | None = None
    """The file that holds all bytes, if the body is one that is kept in a file of its own."""

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

    @classmethod
    def stored(cls, file: StoredFile, trailers: Fields = NO_TRAILERS) -> "Body":
        """A whole body in a file of its own."""
        return cls(trailers=trailers, file=file)

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
        return self.file.size if self.file is not None else len(self.data or b"")

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
        return not self.damaged if self._fill is None else self._fill.accepts_readers

    @property
    def damaged(self) -> bool:
        """Whether the body's file was found not to hold what was written."""
        return self.file is not None and self.file.damaged is not None

    @property
    def on_disk(self) -> OnDisk | None:
        """The file that holds all bytes of a body that is settled, if there is one."""
        return self.file if self._fill is None else self._fill.file

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
        """Bytes of the body in memory, or of what is known of its file."""
        if self._fill is not None:
            return self._fill.memory_bytes
        return self.file.memory_bytes if self.file is not None else len(self.data or b"")

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
        if self.file is not None:
            return FileReader(self.file, start, end)
        if self._fill is None:
            return MemoryReader(None, self.data or b"", start, end)
        assert self._fill.accepts_readers, "this body is no longer there from its first byte"
        reader = MemoryReader(self._fill, b"", start, end)
        self._fill.join(reader)
        return reader
