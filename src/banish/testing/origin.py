"""An origin that follows a script, byte by byte, on a real socket.

    async with ScriptedOrigin() as origin:
        origin.respond("/", body=b"hello")                                  # an ordinary answer, every time
        origin.play("/cut", b"HTTP/1.1 200 OK\\r\\nContent-Length: 9\\r\\n\\r\\nfour", RESET)     # once
        origin.play("/slow", HEAD, gate, b"rest")                           # `gate` is an asyncio.Event
        ...
        await origin.wait_for(2)
        assert origin.requests[1].target == "/cut"

A play is a list of steps, done in order once the request has come whole:

    bytes            sent as they are
    asyncio.Event    waited for
    CLOSE            end the connection properly: FIN, over TLS after close_notify
    DROP             end it by FIN alone, which over TLS is an unclean end
    RESET            end it by RST
    STALL            do nothing more, keeping the connection open
    a function       `async def step(wire: Wire)`: anything else

A connection that the play did not end is kept for another request. A request that no play is left for gets
404.

Not here: judging what is received; `requests` keeps it as it came.
"""

import asyncio
import contextlib
import enum
import socket
import ssl
import struct
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType

from banish.http.fields import Fields
from banish.http.messages import reason_phrase

_READ_LIMIT_BYTES = 1 << 20


class Act(enum.Enum):
    """Steps that are not bytes."""

    CLOSE = enum.auto()
    DROP = enum.auto()
    RESET = enum.auto()
    STALL = enum.auto()


CLOSE, DROP, RESET, STALL = Act.CLOSE, Act.DROP, Act.RESET, Act.STALL


@dataclass
class Wire:
    """One connection as the origin sees it, for steps that are functions."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    serial: int


Step = bytes | asyncio.Event | Act | Callable[[Wire], Awaitable[None]]


@dataclass
class Request:
    """A request as received. `raw` is its head, byte for byte; `body` has chunks joined."""

    method: str
    target: str
    fields: Fields
    raw: bytes
    connection: int
    body: bytes = b""
    whole: bool = False


@dataclass
class _Play:
    steps: tuple[Step, ...]
    read_body: bool = True


@dataclass
class _Part:
    """What is to be played on one path: first those queued, then `always` again and again."""

    queued: deque[_Play] = field(default_factory=deque)
    always: _Play | None = None


class ScriptedOrigin:
    """A server on loopback (or on a unix socket, if `unix_path`), over TLS if a server's context is given."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, unix_path: str | None = None) -> None:
        self._tls = tls
        self._unix_path = unix_path
        self._parts: dict[str, _Part] = defaultdict(_Part)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.requests: list[Request] = []
        """Every request whose head has come, in order."""
        self.connections = 0
        """Connections accepted so far."""
        self.url = ""
        """Where it listens, as an origin address is written."""

    def __repr__(self) -> str:
        return f"<ScriptedOrigin {self.url}: {self.connections} connections, {len(self.requests)} requests>"

    # ── the script ──

    def play(self, path: str, *steps: Step, read_body: bool = True) -> None:
        """Do these steps for one request to `path`. Without `read_body` they begin once its head has come."""
        self._parts[path].queued.append(_Play(steps, read_body))

    def play_always(self, path: str, *steps: Step, read_body: bool = True) -> None:
        """Do these steps for each request to `path` that no `play` is queued for."""
        self._parts[path].always = _Play(steps, read_body)

    def respond(
        self,
        path: str,
        *,
        status: int = 200,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> None:
        """Answer each request to `path` alike, with Content-Length."""
        self.play_always(path, answer(status, headers, body))

    async def wait_for(self, count: int) -> None:
        """Wait until `count` requests have come whole."""
        while sum(request.whole for request in self.requests) < count:
            self._changed.clear()
            await self._changed.wait()

    # ── the server ──

    async def __aenter__(self) -> "ScriptedOrigin":
        if self._unix_path is not None:
            self._server = await asyncio.start_unix_server(
                self._serve, self._unix_path, limit=_READ_LIMIT_BYTES, ssl=self._tls
            )
            self.url = f"unix:{self._unix_path}"
            return self
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_READ_LIMIT_BYTES, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"https://localhost:{port}" if self._tls else f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        wire = Wire(reader, writer, self.connections)
        try:
            # A client that goes away, in whatever manner, is no fault of the script's.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._one_request(wire):
                    pass
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _one_request(self, wire: Wire) -> bool:
        raw = await wire.reader.readuntil(b"\r\n\r\n")
        line, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, target, _ = line.split(" ", 2)
        pairs = [(name, value.strip()) for name, _, value in (text.partition(":") for text in lines)]
        request = Request(method, target, Fields.of(pairs), raw, wire.serial)
        self.requests.append(request)
        play = self._next_play(target.partition("?")[0])
        if play.read_body:
            request.body = await _read_body(wire.reader, request.fields)
        request.whole = True
        self._changed.set()
        for step in play.steps:
            if not await _do(step, wire):
                return False
        return True

    def _next_play(self, path: str) -> _Play:
        part = self._parts[path]
        if part.queued:
            return part.queued.popleft()
        return part.always or _Play((answer(404),))


def answer(status: int = 200, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> bytes:
    """An ordinary response, whole, with Content-Length."""
    lines = [f"HTTP/1.1 {status} {reason_phrase(status)}", *(f"{name}: {value}" for name, value in headers)]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def byte_by_byte(data: bytes) -> tuple[bytes, ...]:
    """The steps that send `data` in pieces of one byte."""
    return tuple(data[at : at + 1] for at in range(len(data)))


async def _do(step: Step, wire: Wire) -> bool:
    """Do one step. False: the connection has ended."""
    if isinstance(step, bytes):
        wire.writer.write(step)
        await wire.writer.drain()
        await asyncio.sleep(0)  # its own turn of the loop, so that the next piece is its own segment
        return True
    if isinstance(step, asyncio.Event):
        await step.wait()
        return True
    if not isinstance(step, Act):
        await step(wire)
        return not wire.writer.is_closing()
    if step is Act.STALL:
        await asyncio.Event().wait()
    await _end(step, wire.writer)
    return False


async def _end(act: Act, writer: asyncio.StreamWriter) -> None:
    if act is Act.CLOSE:
        writer.close()
        await writer.wait_closed()
        return
    if act is Act.RESET:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def _read_body(reader: asyncio.StreamReader, fields: Fields) -> bytes:
    if "transfer-encoding" not in fields:
        return await reader.readexactly(int(fields.get("content-length") or 0))
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return body
