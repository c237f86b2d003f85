"""A tunnel: after the origin's 101, bytes pass both ways, unread, until either side ends (RFC 9110 section 7.8).

Not here: who may open one (`connection.py`, `pipeline.py`); how long it may be idle (`origin/`).
"""

import asyncio
from collections.abc import Awaitable, Callable

from banish.errors import BanishError
from banish.origin.client import Tunnel

WINDOW_BYTES = 65536
"""What may wait for the origin before the client is told to pause."""


class Relay:
    """Carries bytes between a client and a tunnel. The client's side is given as what it can be told to do."""

    def __init__(
        self,
        tunnel: Tunnel,
        write: Callable[[bytes], None],
        drained: Callable[[], Awaitable[None]],
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self._tunnel = tunnel
        self._write, self._drained, self._pause, self._resume = write, drained, pause, resume
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self._held = 0
        self.sent = 0
        """Bytes that the client was sent."""

    def feed(self, data: bytes) -> None:
        """Bytes from the client; none means that it will send no more."""
        self._held += len(data)
        if self._held > WINDOW_BYTES:
            self._pause()
        self._arrived.put_nowait(data)

    async def run(self) -> None:
        """Carry until both sides are done, or one is gone."""
        up = asyncio.ensure_future(self._upstream())
        down = asyncio.ensure_future(self._downstream())
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if up.done() and not up.cancelled() and up.exception() is None:
                await down  # the client only closed its half
        except BanishError:
            pass  # the origin's side broke, or was silent too long: the tunnel ends
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            self._tunnel.close()

    async def _upstream(self) -> None:
        while data := await self._arrived.get():
            await self._tunnel.write(data)
            self._held -= len(data)
            if self._held <= WINDOW_BYTES // 2:
                self._resume()
        self._tunnel.write_eof()

    async def _downstream(self) -> None:
        while data := await self._tunnel.read():
            self._write(data)
            self.sent += len(data)
            await self._drained()
