"""A connection to an origin: one exchange at a time, its waits, and what becomes of it afterwards.

      opened ──▶ BUSY ──response whole, nothing in doubt──▶ IDLE ──begin──▶ BUSY …
                  │ └──101──▶ TUNNEL                          │
                  └──────── anything else ────────▶ CLOSED ◀──┘ idle too long, FIN, or a byte unasked

What is true:  BUSY    `_exchange` is set; bytes go to its reader; a deadline is set whenever someone waits
               IDLE    `_exchange` is None; the pool has it; any byte or FIN ends it
               CLOSED  the owner has been told, once; whoever waited has been given an error

A body that lasts until close is whole only if the end was meant: FIN, and over TLS a close_notify before it. A
reset comes as `connection_lost` alone.

Not here: what is done with the bytes (`exchange.py`); making connections (`connect.py`); choosing one
(`pool.py`).
Units: deadlines are seconds by the event loop's clock.
"""

import asyncio
import contextlib
import select
import ssl
from math import inf
from typing import cast

from banish.errors import OriginTimeout
from banish.http.messages import ResponseHead
from banish.origin.addresses import Address
from banish.origin.exchange import Exchange, OnInterim, Owner
from banish.origin.reading import ResponseReader
from banish.origin.sending import Upload
from banish.origin.timeouts import Stage


class OriginConnection(asyncio.Protocol):
    """One connection. Made by `connect`, handed round by the pool."""

    def __init__(self, address: Address, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self.address = address
        self.exchanges = 0
        """Exchanges begun."""
        self._owner = owner
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._ended = False
        self._secure = False
        self._drained: asyncio.Future[None] | None = None
        self._write_paused = False
        self._read_paused = False
        self._read_stage = Stage.IDLE
        self._read_due = inf
        self._write_due = inf
        self._total_due = inf
        self._write_left_bytes = 0
        self._keep_idle_s = owner.timeouts.idle_s

    def __repr__(self) -> str:
        state = "CLOSED" if self._ended else "IDLE" if self._exchange is None else "BUSY"
        return f"<OriginConnection to {self.address}: {state}, {self.exchanges} exchanges>"

    @property
    def reused(self) -> bool:
        """Not the first exchange on it."""
        return self.exchanges > 1

    @property
    def usable(self) -> bool:
        """As far as the event loop knows, the origin still listens on it."""
        return not self._ended and self._loop.time() < self._read_due

    @property
    def closed(self) -> bool:
        """Nothing can be sent on it any more."""
        return self._ended

    def seems_alive(self) -> bool:
        """Ask the kernel too: neither bytes nor FIN have come that the loop has yet to see."""
        if self._ended:
            return False
        assert self._transport is not None
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    # ── an exchange ──

    def begin(
        self,
        request: bytes,
        reader: ResponseReader,
        *,
        upload: Upload | None,
        on_interim: OnInterim | None,
        total_due: float,
    ) -> Exchange:
        """Send a request's head, start sending its body; what comes next is the response to it."""
        assert self._exchange is None
        assert not self._ended
        self.exchanges += 1
        self._total_due = total_due
        self._read_due = inf
        exchange = Exchange(self, reader, self._owner, self._loop, on_interim)
        self._exchange = exchange
        self.write(request)
        if upload is None:
            self.expect(Stage.FIRST_BYTE, self._owner.timeouts.first_byte_s)
        else:
            exchange.upload = self._loop.create_task(exchange.send(upload))
        return exchange

    def carries(self, exchange: Exchange) -> bool:
        """That exchange is the one under way."""
        return self._exchange is exchange

    def finish(self, exchange: Exchange) -> None:
        """The response is whole: keep the connection, or close it."""
        if self._exchange is not exchange:
            return
        self._exchange = None
        self._total_due = self._write_due = inf
        reader = exchange.reader
        if not reader.persistent or reader.surplus or exchange.uploading or self._ended:
            exchange.stop_upload()
            self.abort()
            return
        self.resume_reading()
        self._keep_idle_s = _idle_s(reader.head, self._owner.timeouts.idle_s)
        self.expect(Stage.IDLE, self._keep_idle_s)
        self._owner.connection_idle(self)

    def expect(self, stage: Stage, wait_s: float) -> None:
        """From now, the origin has so long to send something."""
        self._read_stage = stage
        self._read_due = self._loop.time() + wait_s

    def expect_nothing(self) -> None:
        """Nobody waits for bytes."""
        self._read_due = inf

    def outlive_total(self) -> None:
        """A tunnel lasts as long as there is traffic on it."""
        self._total_due = inf

    def check(self, now: float) -> None:
        """Called by the watch: has a wait run out?"""
        if now >= self._total_due:
            self._overdue(Stage.TOTAL)
        elif now >= self._read_due:
            self._overdue(self._read_stage)
        elif now >= self._write_due:
            assert self._transport is not None
            left_bytes = self._transport.get_write_buffer_size()
            if left_bytes < self._write_left_bytes:  # slow, but moving
                self._write_left_bytes = left_bytes
                self._write_due = now + self._owner.timeouts.write_s
            else:
                self._overdue(Stage.WRITE)

    def _overdue(self, stage: Stage) -> None:
        self._owner.count_timeout(stage)
        if self._exchange is not None:
            self._exchange.fail(OriginTimeout(stage, f"the wait on the origin ran out: {stage}"))
        self.abort()

    def abort(self) -> None:
        """Close at once, dropping what was not sent."""
        self._end()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close once everything written is sent."""
        self._end()
        if self._transport is not None:
            self._transport.close()

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._read_due = self._write_due = self._total_due = inf
        self._owner.watch.discard(self)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._owner.connection_gone(self)

    # ── writing ──

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        assert self._transport is not None
        if not self._ended:
            self._transport.write(data)

    def write_eof(self) -> None:
        """Say that no more will be written, where the transport can."""
        if self._transport is not None and not self._ended and self._transport.can_write_eof():
            self._transport.write_eof()

    async def drain(self) -> None:
        """Wait until the transport takes more; at once if it does."""
        if not self._write_paused or self._ended:
            return
        assert self._transport is not None
        self._drained = self._loop.create_future()
        self._write_left_bytes = self._transport.get_write_buffer_size()
        self._write_due = self._loop.time() + self._owner.timeouts.write_s
        try:
            await self._drained
        finally:
            self._drained = None
            self._write_due = inf

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # ── reading ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._secure = transport.get_extra_info("sslcontext") is not None
        self._owner.watch.add(self)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            # Nothing was asked: a 408 before closing, or the rest of a response longer than it said.
            self.abort()
            return
        exchange.feed(data)

    def pause_reading(self) -> None:
        """Let the kernel hold what comes: the consumer is slow."""
        if not self._read_paused and not self._ended:
            assert self._transport is not None
            self._read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        if self._read_paused and not self._ended:
            assert self._transport is not None
            self._read_paused = False
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        exchange = self._exchange
        if exchange is None:
            self._end()
            return False
        exchange.end(clean=not self._secure or self._notified())
        # A tunnel may be half closed; TLS has no such thing.
        return exchange.switched and not self._secure and not self._ended

    def _notified(self) -> bool:
        """TLS: the end was announced by close_notify. asyncio calls `eof_received` for a bare FIN too."""
        assert self._transport is not None
        try:
            return not self._transport.get_extra_info("ssl_object").read(1)
        except ssl.SSLError:  # wants more, which will not come
            return False

    def connection_lost(self, exc: Exception | None) -> None:
        exchange = self._exchange
        self._end()
        if exchange is not None:
            exchange.end(clean=False, cause=exc)
            exchange.stop_upload()
            self._exchange = None


def _idle_s(head: ResponseHead | None, idle_s: float) -> float:
    """How long to keep the connection: less than the origin says it will (`Keep-Alive: timeout=5`)."""
    if head is None or "keep-alive" not in head.fields.names:
        return idle_s
    for parameter in head.fields.members("keep-alive"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "timeout":
            with contextlib.suppress(ValueError):
                return max(0.0, min(idle_s, int(value) - 1.0))
    return idle_s
