"""An exchange: one request on its way out, and the response to it as it comes in.

It outlives its hold on the connection: a response that came whole is read from here while the connection
already carries another. Reading pauses once `read_ahead_bytes` wait for a slow consumer.

Not here: parsing (`reading.py`); deadlines and the transport (`connection.py`).
Units: `requested_at` and `received_at` are seconds since the epoch.
Invariant: whoever waits for the head or for more of the body is woken by data, by the end, or by an error.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from banish.clock import Clock
from banish.errors import OriginError, Truncated
from banish.http.messages import ResponseHead
from banish.origin.limits import Limits
from banish.origin.reading import ResponseReader
from banish.origin.sending import Upload
from banish.origin.timeouts import Stage, Timeouts
from banish.origin.watch import Watch

if TYPE_CHECKING:
    from banish.origin.connection import OriginConnection

OnInterim = Callable[[ResponseHead], None]


class Owner(Protocol):
    """Who is told what becomes of a connection, and shares out what all connections have in common."""

    timeouts: Timeouts
    limits: Limits
    clock: Clock

    @property
    def watch(self) -> Watch:
        """The timer of all connections."""
        ...

    def connection_idle(self, connection: "OriginConnection") -> None:
        """The exchange is over and another may follow."""
        ...

    def connection_gone(self, connection: "OriginConnection") -> None:
        """It is closed. Said once."""
        ...

    def count_timeout(self, stage: Stage) -> None:
        """A wait ran out."""
        ...

    def count_failure(self, error: OriginError) -> None:
        """A response failed after its head was handed over."""
        ...


class Exchange:
    """One request and the response to it, as it comes in. Outlives its hold on the connection."""

    def __init__(
        self,
        connection: "OriginConnection",
        reader: ResponseReader,
        owner: Owner,
        loop: asyncio.AbstractEventLoop,
        on_interim: OnInterim | None,
    ) -> None:
        self.connection = connection
        self.reader = reader
        self.upload: asyncio.Task[None] | None = None
        self.requested_at = owner.clock.now()
        self.received_at = 0.0
        self._owner = owner
        self._loop = loop
        self._on_interim = on_interim
        self._headed: asyncio.Future[None] = loop.create_future()
        self._more: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._held_bytes = 0

    @property
    def uploading(self) -> bool:
        """The body of the request is still on its way out."""
        return self.upload is not None and not self.upload.done()

    @property
    def switched(self) -> bool:
        """The connection is a tunnel now."""
        head = self.reader.head
        return head is not None and head.status == 101

    async def wait_head(self) -> ResponseHead:
        """The head of the final response."""
        await self._headed
        head = self.reader.head
        assert head is not None
        return head

    async def read(self) -> bytes:
        """The next bytes of the body; b"" at its end. What came before an error is given before the error."""
        reader = self.reader
        while not reader.chunks:
            if self._error is not None:
                raise self._error
            if reader.complete:
                return b""
            await self._wait_more()
        self._held_bytes = 0
        data = reader.take()
        if self.connection.carries(self):
            self.connection.resume_reading()
        return data

    async def _wait_more(self) -> None:
        assert self._more is None, "two readers of one response"
        self._more = self._loop.create_future()
        if not self.switched:
            self.connection.expect(Stage.BETWEEN_BYTES, self._owner.timeouts.between_bytes_s)
        try:
            await self._more
        finally:
            self._more = None
            if not self.switched and self.connection.carries(self):
                self.connection.expect_nothing()

    async def send(self, upload: Upload) -> None:
        """Send the body; then the origin is expected to answer."""
        try:
            await upload.run(self.connection.write, self.connection.drain)
        except Exception as error:
            # The body's source failed: the client left, or broke a rule. That is for whoever awaits us.
            self.fail(error)
            self.connection.abort()
            return
        if self.reader.head is None and self.connection.carries(self):
            self.connection.expect(Stage.FIRST_BYTE, self._owner.timeouts.first_byte_s)

    def stop_upload(self) -> None:
        """Send no more of the request."""
        if self.upload is not None and not self.upload.done():
            self.upload.cancel()

    def feed(self, data: bytes) -> None:
        """Bytes from the connection."""
        reader = self.reader
        headless = reader.head is None
        try:
            reader.feed(data)
        except OriginError as error:
            self.fail(error)
            self.connection.abort()
            return
        if reader.interims:
            self._pass_interims()
        if headless and reader.head is not None:
            self._take_head()
        if reader.chunks:
            self._held_bytes += len(data)
            if self._held_bytes >= self._owner.limits.read_ahead_bytes:
                self.connection.pause_reading()
        if self.switched:
            self.touch_tunnel()
        elif reader.complete:
            self.connection.finish(self)
        self._wake()

    def touch_tunnel(self) -> None:
        """There is traffic on the tunnel."""
        self.connection.expect(Stage.TUNNEL_IDLE, self._owner.timeouts.tunnel_idle_s)

    def _take_head(self) -> None:
        self.received_at = self._owner.clock.now()
        self.connection.expect_nothing()
        if self.switched:
            self.connection.outlive_total()
        if not self._headed.done():
            self._headed.set_result(None)

    def _pass_interims(self) -> None:
        heads = self.reader.interims[:]
        self.reader.interims.clear()
        if not self.uploading:
            self.connection.expect(Stage.FIRST_BYTE, self._owner.timeouts.first_byte_s)
        if self._on_interim is not None:
            for head in heads:
                self._on_interim(head)

    def end(self, *, clean: bool, cause: BaseException | None = None) -> None:
        """The connection ended."""
        if self._error is None:
            try:
                self.reader.feed_end(clean=clean)
            except Truncated as error:
                error.__cause__ = cause
                self.fail(error)
        if self.switched:
            self._wake()
        elif self.reader.complete:
            self.connection.finish(self)
            self._wake()
        else:
            self.connection.abort()

    def fail(self, error: BaseException) -> None:
        """Whoever awaits the head or the body gets this error; the first one counts."""
        if self._error is not None or self.reader.complete:
            return
        self._error = error
        self.stop_upload()
        if not self._headed.done():
            self._headed.set_exception(error)
        elif isinstance(error, OriginError):
            self._owner.count_failure(error)
        self._wake()

    def abandon(self) -> None:
        """Nobody wants the rest: close the connection unless the response is whole already."""
        if not self._headed.cancel() and not self._headed.cancelled():
            self._headed.exception()  # seen, so the loop does not report it
        self.stop_upload()
        if self.connection.carries(self):
            self._error = self._error or Truncated("the response was given up")
            self.connection.abort()
            self._wake()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)
