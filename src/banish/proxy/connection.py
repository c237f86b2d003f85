"""One client connection: bytes in, requests to the pipeline, answers out.

    data_received ──▶ lane (hot table) ──▶ answered, done
         │ not covered
         ▼
    reader ──▶ queue of requests ──▶ one task: pipeline.answer ──▶ written in order

- An error in a message stands in the queue behind the answers to the messages before it.
- The stage says what the client is being waited for, and the wheel holds its deadline:

      idle    between messages            → closed
      head    a head has begun            → 408, closed
      body    a request body is wanted    → 408, closed
      answer  we are at work              → no deadline of the client's
      write   the client does not read    → aborted
      linger  the last answer is written  → aborted

Not here: reading requests (`reading.py`), what the answer is (`pipeline.py`), its head on the wire (`wire.py`).
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import cast

import structlog

from banish.edge.config import ClientTimeouts
from banish.errors import BanishError, ClientError, StoreError
from banish.http.chunks import encode_chunk, encode_last_chunk, passable_trailers
from banish.http.dates import format_http_date
from banish.http.messages import RequestHead, ResponseHead
from banish.proxy.exchange import Answer, ConnectionInfo, Request, RequestBody
from banish.proxy.front import Front
from banish.proxy.reading import PIECE_BYTES, RequestReader
from banish.proxy.sendfile import FileSender
from banish.proxy.tunnel import Relay
from banish.proxy.wire import encode_head, encode_interim, refusal
from banish.store.bodies import BodyReader

DISCARD_BODY_BYTES = 65536
"""A request body nobody wanted is read up to this much to keep the connection; past it the connection closes."""
FAR_S = 86400.0
LINGER_S = 30.0
"""How long a client may take to read what is left of the last answer, and to end its half."""
_LINGER_ZERO = struct.pack("ii", 1, 0)
"""SO_LINGER for no time at all: close sends RST."""

log = structlog.get_logger(__name__)


class Stage(StrEnum):
    """What the client is being waited for."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    WRITE = "write"
    LINGER = "linger"


class Hold(StrEnum):
    """Why nothing is read from the client just now. Each reason comes and goes by itself."""

    QUEUE = "queue"
    """As many requests wait as may."""
    BODY = "body"
    """The request body is read more slowly than it comes."""
    TUNNEL = "tunnel"
    """The other side of the tunnel takes bytes more slowly than they come, or is not open yet."""


class ClientConnection(asyncio.Protocol):
    """The protocol of one client connection."""

    def __init__(self, front: Front, listener: str, scheme: str, *, https_port: int | None = None) -> None:
        self.deadline = 0
        self._front = front
        self.info = ConnectionInfo("", scheme, listener, https_port=https_port)
        self._lane = front.hot.lane(listener)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._reader = RequestReader(front, self)
        self._stage = Stage.IDLE
        self._quiet = True
        """Between messages, nothing queued, nothing unsent: the lane may answer."""
        self._unparsed = b""
        self._queue: deque[Request | ClientError] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._holds: set[Hold] = set()
        self._unsent = 0
        self._gone = False
        self._deaf = False
        """What still comes in is not read: an error was met, or the connection is closing."""
        self._ended = False
        """The client has ended its half."""
        self._tunnel: Callable[[bytes], None] | None = None
        self._early = b""
        self._idle_ticks = front.wheel.after(front.config.timeouts.idle_s) - front.wheel.tick

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.info = self.info._replace(
            peer=peer[0] if isinstance(peer, tuple) else "", local=_authority(local) if isinstance(local, tuple) else ""
        )
        if self._front.admit(self):
            self._rest()
        else:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deaf = self._gone = True
        self._front.leave(self)
        gone = ClientError(499, "the client closed the connection")
        if self._reader.body is not None:
            self._reader.body.fail(gone)
        if self._tunnel is not None:
            self._tunnel(b"")
        if self._task is not None:
            self._task.cancel()
        self._wake_writer()

    def eof_received(self) -> bool:
        """The client sends no more. What it asked before is still answered, where the transport can."""
        if self._reader.body is not None:
            self._reader.body.fail(ClientError(400, "the request ended before its body did"))
        if self._tunnel is not None:
            self._tunnel(b"")
        self._deaf = self._ended = True
        return bool(self._queue) and self.info.scheme == "http"

    def pause_writing(self) -> None:
        self._unsent = self._transport.get_write_buffer_size()
        self._writable = asyncio.get_running_loop().create_future()
        self._quiet = False
        self._wait_for(Stage.WRITE)

    def resume_writing(self) -> None:
        self._wake_writer()
        if self._queue:
            self._wait_for(Stage.ANSWER)
        else:
            self._rest()

    def _wake_writer(self) -> None:
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    def data_received(self, data: bytes) -> None:
        if self._quiet and self._lane.answer(data, self._transport, self.info):
            if self._quiet:  # else the answer has filled the buffer, and has a deadline of its own
                self.deadline = self._front.wheel.tick + self._idle_ticks
            return
        if self._tunnel is not None:
            self._tunnel(data)
        elif not self._deaf:
            self._unparsed = self._unparsed + data if self._unparsed else data
            self._parse()

    def expire(self) -> None:
        """The wheel's call: the client was waited for long enough."""
        if self._is_moving():
            self._wait_for(self._stage)
            return
        self._front.client_timeouts.add(self._stage)
        match self._stage:
            case Stage.HEAD:
                self._refuse(ClientError(408, "the request head did not arrive in time"))
            case Stage.BODY if self._reader.body is not None:
                self._reader.body.fail(ClientError(408, "the request body did not arrive in time"))
            case Stage.WRITE | Stage.LINGER:
                self._reset()
            case _:
                self._close()

    def _is_moving(self) -> bool:
        """Whether the deadline says nothing against the client: it takes bytes, or we are the ones at work."""
        match self._stage:
            case Stage.WRITE | Stage.LINGER:
                return self._takes_something()
            case Stage.BODY:
                return Hold.BODY in self._holds
            case stage:
                return stage is Stage.ANSWER

    def _takes_something(self) -> bool:
        """Whether the client has read any of what waits for it since this was asked last."""
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        return self._unsent < before

    def drain(self) -> None:
        """The edge is going away: close now if no request is at work, else after its answer."""
        if not self._queue and self._reader.body is None:
            self._close()

    def abort(self) -> None:
        """Drop the connection as it is."""
        self._reset()

    def _wait_for(self, stage: Stage) -> None:
        if self._gone:
            return
        if self._writable is not None and stage not in (Stage.WRITE, Stage.LINGER):
            return  # whatever else may be waited for, it is the client's reading that holds things up
        self._stage = stage
        self._front.wheel.watch(self, _bound_s(self._front.config.timeouts, stage))

    def _rest(self) -> None:
        """Nothing is at work: wait for the next message, or for the rest of a head."""
        self._quiet = not (self._reader.began or self._unparsed or self._deaf or self._writable is not None)
        if self._quiet and self._front.draining:
            self._close()
        elif not self._reader.began:
            self._wait_for(Stage.IDLE)
        elif self._stage is not Stage.HEAD:  # its deadline is for the whole head, however it drips in
            self._wait_for(Stage.HEAD)

    # --- from bytes to requests

    def _parse(self) -> None:
        """Feed the parser what has arrived, until the queue is full or something is wrong."""
        self._quiet = False
        while self._unparsed and not self._deaf and self._tunnel is None:
            if len(self._queue) >= self._front.config.limits.pipelined_requests and self._reader.body is None:
                self._hold(Hold.QUEUE)
                return
            piece, self._unparsed = self._unparsed[:PIECE_BYTES], self._unparsed[PIECE_BYTES:]
            try:
                self._unparsed = self._reader.feed(piece) + self._unparsed
            except ClientError as error:
                self._refuse(error)
            if self._reader.switching:  # and so it must wait for the origin's word
                self._tunnel = self._hold_early
                early, self._unparsed = self._unparsed, b""
                self._hold_early(early)
        if not self._queue and not self._deaf:
            self._rest()

    def take(self, request: Request) -> None:
        """The reader has a request."""
        request.interim = self._send_interim
        self._enqueue(request)

    def _enqueue(self, message: Request | ClientError) -> None:
        self._queue.append(message)
        if self._task is None:
            self._task = self._front.at_work(self._answer_queue())

    def new_body(self, head: RequestHead, length: int | None) -> RequestBody:
        """A body for the reader to fill, which holds up the client while nobody reads it."""
        expects = "100-continue" in [m.lower() for m in head.fields.members("expect")] and head.version == "1.1"

        def wanted() -> None:
            if body.ended:
                return
            if expects and body.size == 0:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._wait_for(Stage.BODY)

        body = RequestBody(lambda: self._hold(Hold.BODY), lambda: self._release(Hold.BODY), wanted, length=length)
        return body

    def body_moved(self) -> None:
        """The reader has filled in some of a body, or all."""
        if self._stage is Stage.BODY:
            body = self._reader.body
            self._wait_for(Stage.ANSWER if body is None or body.ended else Stage.BODY)

    def _refuse(self, error: ClientError) -> None:
        """Answer with an error once those before are answered; read no further."""
        if self._deaf:
            return
        self._deaf = True
        self._unparsed = b""
        if self._reader.body is not None:
            self._reader.body.fail(error)  # the request is queued already: its answer tells
        else:
            self._enqueue(error)

    def _hold_early(self, data: bytes) -> None:
        """Bytes of a tunnel that is not open yet."""
        self._early += data
        if len(self._early) > self._front.config.limits.request_head_bytes:
            self._hold(Hold.TUNNEL)

    def _hold(self, reason: Hold) -> None:
        """Stop reading, for one more reason."""
        if not self._holds and not self._transport.is_closing():
            self._transport.pause_reading()
        self._holds.add(reason)

    def _release(self, *reasons: Hold) -> None:
        """These reasons hold no more: read on, unless there is another."""
        if self._holds and self._holds <= set(reasons) and not self._transport.is_closing():
            self._transport.resume_reading()
        self._holds.difference_update(reasons)

    # --- from answers to bytes

    async def _answer_queue(self) -> None:
        """Answer what is queued, in order, one at a time."""
        try:
            while self._queue and not self._transport.is_closing():
                self._wait_for(Stage.ANSWER)
                request = self._queue[0]
                if isinstance(request, ClientError):
                    self._front.refused(request)
                    answer = refusal(request, self._front.node)
                    await self._send(None, answer)
                    self._linger()
                    return
                answer = await self._front.pipeline.answer(request)
                if answer.tunnel is not None:
                    await self._run_tunnel(request, answer)
                    return
                try:
                    keep = await self._send(request, answer)
                finally:
                    answer.close_body()
                if not keep or not await self._discard_rest(request):
                    self._linger()
                    return
                self._queue.popleft()
                self._next(request)
        except asyncio.CancelledError:
            if self._queue and isinstance(self._queue[0], Request):
                self._front.aborted(self._queue[0])
            raise
        except ConnectionError:  # met by the kernel as it sent a file: the transport knows nothing of it
            if self._queue and isinstance(self._queue[0], Request):
                self._front.aborted(self._queue[0])
            self._transport.abort()
        except BanishError as error:
            self._front.broken(error)
            self._reset()
        except Exception:
            log.exception("connection failed", peer=self.info.peer)
            self._reset()
        finally:
            self._task = None

    def _next(self, answered: Request) -> None:
        """An answer is out: read on."""
        if answered.upgrade:  # the websocket was refused: what came after is ordinary HTTP again
            self._unparsed, self._early, self._tunnel = self._early, b"", None
            self._reader.resume()
            self._release(Hold.TUNNEL)
            self._deaf = self._deaf and not self._ended
        self._release(Hold.QUEUE)
        if self._unparsed:
            self._parse()
        self._deaf = self._deaf or self._ended
        if not self._queue and self._reader.body is None:
            if self._ended:
                self._close()
            else:
                self._rest()

    def _send_interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx, which HTTP/1.0 does not know (RFC 9110 section 15.2)."""
        request = self._queue[0] if self._queue else None
        if isinstance(request, Request) and request.head.version == "1.1" and not self._transport.is_closing():
            self._transport.write(encode_interim(head))

    async def _send(self, request: Request | None, answer: Answer) -> bool:
        """Write one answer; say whether the connection may be used again."""
        keep = (
            request is not None and not answer.close and not self._front.draining
            and self._persistent(request) and self._can_discard_rest(request)
        )  # fmt: skip
        keep = keep and not (self._deaf and len(self._queue) == 1)
        if "date" not in answer.fields:  # made here (RFC 9110 section 6.6.1)
            answer.fields = answer.fields.plus("Date", format_http_date(self._front.clock.now()))
        version = request.head.version if request is not None else "1.1"
        chunked = answer.length is None and answer.body is not None and version == "1.1"
        keep = keep and (answer.body is None or answer.length is not None or chunked)
        head = encode_head(answer, keep=keep, chunked=chunked, version=version)
        sent = 0
        if answer.body is None or isinstance(answer.body, bytes):
            self._transport.write(head + (answer.body or b""))
            sent = len(answer.body or b"")
        else:
            sent = await self._stream(head, answer, chunked)
        if request is not None:
            self._front.answered(request, answer, sent)
        await self._drained()
        return keep

    async def _stream(self, head: bytes, answer: Answer, chunked: bool) -> int:
        """Write head and body as the body comes; return how many body bytes went."""
        reader = answer.body
        assert isinstance(reader, BodyReader)
        data = answer.first
        sent = 0
        if not chunked and (file := FileSender.of(self._transport, reader)) is not None:
            with file:
                await self._send_file(head + (data or b""), file)
            sent = len(data or b"") + file.sent
            head, data = b"", await reader.read()
        elif data is None:  # the head need not wait for a body that takes its time
            self._transport.write(head)
            head, data = b"", await reader.read()
        while data:
            self._transport.write(head + (encode_chunk(data) if chunked else data))
            head = b""
            sent += len(data)
            await self._drained()
            data = await reader.read()
        if chunked:
            head += encode_last_chunk(None if answer.trailers is None else passable_trailers(answer.trailers()))
        if head:
            self._transport.write(head)
        if answer.length is not None and sent != answer.length:  # the client would take the next answer for the rest
            raise StoreError(f"a body of {answer.length} bytes ended after {sent}")
        return sent

    async def _send_file(self, head: bytes, file: FileSender) -> None:
        """Write the head, then have the kernel send the file."""
        low, high = self._transport.get_write_buffer_limits()
        self._transport.set_write_buffer_limits(0)  # `_drained` means by this that all is with the kernel
        try:
            self._transport.write(head)
            while await file.prepare():
                await self._drained()
                if file.send():
                    await asyncio.sleep(0)
                    continue
                self._unsent = 0  # the transport holds nothing: its taking some is no excuse for the client
                self._wait_for(Stage.WRITE)
                await file.writable()
                self._wait_for(Stage.ANSWER)
        finally:
            if not self._transport.is_closing():
                self._transport.set_write_buffer_limits(high, low)

    def _persistent(self, request: Request) -> bool:
        options = [option.lower() for option in request.head.fields.members("connection")]
        return "close" not in options and (request.head.version == "1.1" or "keep-alive" in options)

    def _can_discard_rest(self, request: Request) -> bool:
        """Whether what is left of the request body, which the answer did not need, is little and sure to come."""
        body = request.body
        if body is None or body.ended:
            return True
        if body.length is None or ("expect" in request.head.fields and body.size == 0):
            return False  # nobody can tell where the next message starts, or whether the body will come at all
        return body.length - body.size <= DISCARD_BODY_BYTES

    async def _discard_rest(self, request: Request) -> bool:
        """Read off what is left of the request body; False if it does not come."""
        body = request.body
        if body is not None and not body.ended:
            with suppress(BanishError):
                async for _ in body:
                    pass
        return body is None or body.ended

    def _linger(self) -> None:
        """Close, but in a way that lets the client read the answer: were it still sending, a plain close would
        reset the connection and take the answer with it (RFC 9112 section 9.6)."""
        over = self._ended or (self._reader.body is None and not self._unparsed and not self._deaf)
        self._deaf = True
        self._queue.clear()
        if over or not self._transport.can_write_eof() or self._transport.is_closing():
            self._close()
            return
        try:
            self._transport.write_eof()
        except OSError:  # the client has reset the connection
            self._transport.abort()
            return
        self._release(*Hold)
        self._wait_for(Stage.LINGER)

    def _close(self) -> None:
        """Close once what is written has been read; not for ever."""
        self._quiet = False
        self._queue.clear()
        self._transport.close()
        self._wait_for(Stage.LINGER)

    def _reset(self) -> None:
        """Break the connection off, a response unfinished. A client that reads until close would take a plain close
        for the end of it; over TLS the missing close_notify tells, elsewhere only a reset does."""
        with suppress(OSError, AttributeError):
            client = self._transport.get_extra_info("socket")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._transport.abort()

    async def _run_tunnel(self, request: Request, answer: Answer) -> None:
        """Switch protocols: from here on bytes pass both ways until either side ends."""
        assert answer.tunnel is not None
        self._wait_for(Stage.ANSWER)
        self._transport.write(encode_head(answer, keep=True, chunked=False, version="1.1", switching=True))
        relay = Relay(
            answer.tunnel, self._transport.write, self._drained,
            pause=lambda: self._hold(Hold.TUNNEL), resume=lambda: self._release(Hold.TUNNEL),
        )  # fmt: skip
        self._tunnel = relay.feed
        if self._early:
            relay.feed(self._early)
        self._release(Hold.QUEUE)
        if len(self._early) <= PIECE_BYTES:
            self._release(Hold.TUNNEL)
        self._queue.popleft()
        try:
            await relay.run()
        finally:  # most tunnels end with the connection
            self._front.answered(request, answer, relay.sent)
            self._close()

    async def _drained(self) -> None:
        if self._writable is not None:
            await self._writable


def _authority(address: tuple[str, int]) -> str:
    """A socket address as a Host: what an HTTP/1.0 request without one is for."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bound_s(timeouts: ClientTimeouts, stage: Stage) -> float:
    """How long the client may be waited for in this stage."""
    match stage:
        case Stage.IDLE:
            return timeouts.idle_s
        case Stage.HEAD:
            return timeouts.head_s
        case Stage.BODY:
            return timeouts.body_s
        case Stage.WRITE:
            return timeouts.write_s
        case Stage.LINGER:
            return LINGER_S
        case Stage.ANSWER:
            return FAR_S
