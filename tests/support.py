"""An edge, an origin and a client on real sockets, all in one event loop.

    def test_it(play: Play) -> None:
        async def scene(stage: Stage) -> None:
            stage.origin.respond("/", body=b"hello")
            async with stage.client() as client:
                assert (await client.get("/")).body == b"hello"
        play(scene)

`play` runs a scene; at its end nothing may be left running, no exception may have gone unhandled, and the
edge may have met no fault of its own. Nothing here sleeps: bytes and events are waited for.
"""

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast
from unittest import mock

import msgspec
import structlog.testing
import uvloop

from banish.edge.config import ClientTimeouts, Config, Limits, Listener, Log, Memory, Site
from banish.http.fields import Fields
from banish.proxy.connection import ClientConnection
from banish.proxy.serve import Edge
from banish.testing.clock import FakeClock
from banish.testing.origin import ScriptedOrigin

SCENE_S = 4.0
"""How long a scene may take before it is said to hang."""

Pace = Literal["whole", "bytes", "lines"]
PACES: tuple[Pace, ...] = ("whole", "bytes", "lines")


@dataclass
class Response:
    """One response as a client read it. `whole` is False if the connection ended before the body did."""

    status: int
    fields: Fields
    body: bytes = b""
    reason: str = ""
    version: str = "1.1"
    whole: bool = True
    trailers: Fields = field(default_factory=Fields)

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name) or ""

    @property
    def outcome(self) -> str:
        """`hit`, or why it was forwarded, with what follows, as our own member of Cache-Status says."""
        return self["cache-status"].partition("; ")[2]

    @property
    def hit(self) -> bool:
        return self.outcome.startswith("hit")

    @property
    def stored(self) -> bool:
        return "; stored" in self["cache-status"]


class Closed(Exception):
    """The edge closed the connection where a response was awaited. `held` is what came of one."""

    def __init__(self, held: bytes = b"", *, reset: bool = False) -> None:
        super().__init__(f"closed{' by reset' if reset else ''} after {held[:200]!r}")
        self.held = held
        self.reset = reset


class Client:
    """A raw connection to the edge: sends any bytes, reads whole responses."""

    def __init__(self, address: tuple[str, int], *, receive_buffer_bytes: int | None = None) -> None:
        self._address = address
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if receive_buffer_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._held = b""

    async def __aenter__(self) -> "Client":
        await asyncio.get_running_loop().sock_connect(self._socket, self._address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    # --- sending

    async def send(self, data: bytes, pace: Pace = "whole") -> None:
        """Send bytes: at once, one by one, or a line at a time, each in a read of its own at the other end."""
        loop = asyncio.get_running_loop()
        for piece in _pieces(data, pace):
            try:
                await loop.sock_sendall(self._socket, piece)
            except (ConnectionError, BrokenPipeError):
                return  # refused before its end; what was answered says why
            if pace != "whole":
                for _ in range(3):
                    await asyncio.sleep(0)

    async def get(self, target: str, *lines: str, host: str = "site.example") -> Response:
        return await self.ask("GET", target, *lines, host=host)

    async def ask(
        self, method: str, target: str, *lines: str, host: str = "site.example", body: bytes = b""
    ) -> Response:
        """Send one request, read the response to it."""
        await self.send(request(method, target, *lines, host=host, body=body))
        return await self.response(method)

    def shut(self) -> None:
        """Send no more; go on reading."""
        with contextlib.suppress(OSError):  # the edge has gone first
            self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Go away by RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def leave(self) -> None:
        """Go away."""
        self._socket.close()

    # --- reading

    async def response(self, method: str = "GET") -> Response:
        """The next final response; those of 1xx before it are dropped. Raises `Closed` if none comes."""
        while True:
            head = await self.head()
            if head.status >= 200 or head.status == 101:
                return await self.body(head, method)

    async def head(self) -> Response:
        """The next head, interim or final."""
        try:
            raw = await self._until(b"\r\n\r\n")
        except Closed as closed:
            raise Closed(closed.held, reset=closed.reset) from None
        line, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        found = re.fullmatch(r"HTTP/(1\.[01]) ([0-9]{3}) ([^\r\n]*)", line)
        assert found is not None, f"not a status line: {line!r}"
        pairs = []
        for text in lines:
            assert re.match(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[^\r\n\0]*\Z", text), f"not a field line: {text!r}"
            name, _, value = text.partition(":")
            pairs.append((name, value.strip()))
        return Response(int(found[2]), Fields.of(pairs), reason=found[3], version=found[1])

    async def body(self, head: Response, method: str = "GET") -> Response:
        """The rest of a response whose head is read."""
        assert not ("transfer-encoding" in head.fields and "content-length" in head.fields)
        assert len(head.fields.get_all("content-length")) <= 1
        if method == "HEAD" or head.status in (101, 204, 304):
            return head
        try:
            if "transfer-encoding" in head.fields:
                assert head["transfer-encoding"] == "chunked"
                await self._chunked(head)
            elif "content-length" in head.fields:
                await self._counted(head, int(head["content-length"]))
            else:
                assert head["connection"] == "close"
                head.body = await self.rest()
        except Closed as closed:
            head.whole = False
            head.body += closed.held
        return head

    async def _counted(self, head: Response, length: int) -> None:
        while len(self._held) < length:
            await self._more()
        head.body, self._held = self._held[:length], self._held[length:]

    async def _chunked(self, head: Response) -> None:
        while size := int((await self._until(b"\r\n")).removesuffix(b"\r\n"), 16):
            while len(self._held) < size + 2:
                await self._more()
            assert self._held[size : size + 2] == b"\r\n"
            head.body += self._held[:size]
            self._held = self._held[size + 2 :]
        lines = []
        while (line := await self._until(b"\r\n")) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            lines.append((name, value.strip()))
        head.trailers = Fields.of(lines)

    async def rest(self) -> bytes:
        """All that comes until the edge closes the connection. Raises `Closed` if it did so by a reset."""
        with contextlib.suppress(Closed):
            while True:
                await self._more(raise_reset=True)
        data, self._held = self._held, b""
        return data

    async def closed(self) -> bool:
        """Wait for the end of the connection; say whether nothing came before it."""
        try:
            return await self.rest() == b""
        except ConnectionError:
            return True

    async def read(self, at_least: int = 1) -> bytes:
        """Raw bytes: what is there once that many have come."""
        while len(self._held) < at_least:
            await self._more()
        data, self._held = self._held, b""
        return data

    async def _until(self, end: bytes) -> bytes:
        while (at := self._held.find(end)) < 0:
            await self._more()
        data, self._held = self._held[: at + len(end)], self._held[at + len(end) :]
        return data

    async def _more(self, *, raise_reset: bool = False) -> None:
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, 65536)
        except ConnectionError:
            if raise_reset:
                raise
            held, self._held = self._held, b""
            raise Closed(held, reset=True) from None
        if not data:
            if raise_reset:
                raise Closed
            held, self._held = self._held, b""
            raise Closed(held)
        self._held += data


def _pieces(data: bytes, pace: Pace) -> Sequence[bytes]:
    if pace == "whole":
        return (data,)
    if pace == "bytes":
        return [data[at : at + 1] for at in range(len(data))]
    return re.findall(rb"(?s).*?\r\n|.+", data)


def request(method: str, target: str, *lines: str, host: str | None = "site.example", body: bytes = b"") -> bytes:
    """A request as bytes; Content-Length is added if there is a body."""
    all_lines = [f"{method} {target} HTTP/1.1", *([f"Host: {host}"] if host is not None else []), *lines]
    if body:
        all_lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*all_lines, "", ""]).encode("latin-1") + body


@dataclass
class Stage:
    """One edge in front of one origin, and the clock of both."""

    edge: Edge
    origin: ScriptedOrigin
    clock: FakeClock

    def client(self, *, receive_buffer_bytes: int | None = None) -> Client:
        return Client(("127.0.0.1", self.edge.ports[0]), receive_buffer_bytes=receive_buffer_bytes)

    async def get(self, target: str, *lines: str, host: str = "site.example") -> Response:
        """One GET on a connection of its own."""
        async with self.client() as client:
            return await client.get(target, *lines, host=host)

    async def ask(self, method: str, target: str, *lines: str, body: bytes = b"") -> Response:
        """One request on a connection of its own."""
        async with self.client() as client:
            return await client.ask(method, target, *lines, body=body)

    def count(self, metric: str, *labels: str) -> float:
        """A figure of the edge's books."""
        for row, samples in self.edge.accounts.collect():
            if row.name == metric:
                return samples.get(labels, 0)
        raise AssertionError(f"no such metric: {metric}")

    def seen(self) -> list[tuple[str, str]]:
        """Method and target of each request the origin saw, in order."""
        return [(received.method, received.target) for received in self.origin.requests]

    def tick(self, seconds: int) -> None:
        """Turn the wheel of client deadlines by hand."""
        for _ in range(seconds):
            self.edge._front.wheel.advance()

    @property
    def connections(self) -> list[ClientConnection]:
        """The edge's client connections."""
        return [cast(ClientConnection, each) for each in self.edge._front.connections]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the loop turn until something holds."""
        while not holds():  # noqa: ASYNC110 (any turn of the loop may bring it about; nobody tells which)
            await asyncio.sleep(0)

    async def arrived(self, count: int) -> None:
        """Wait until that many requests have been taken in and not been answered, and have found their way."""
        await self.until(lambda: sum(len(client._queue) for client in self.connections) >= count)
        for _ in range(5):
            await asyncio.sleep(0)

    async def settled(self) -> None:
        """Wait until no exchange with the origin is under way."""
        await self.until(lambda: self.count("banish_fetches_running") == 0)


Scene = Callable[[Stage], Awaitable[None]]
Play = Callable[..., None]


def configuration(origin: str, **changes: Any) -> Config:
    """A configuration for tests: one site, quiet. `changes` go to the site, or to what they name."""
    site_fields = set(Site.__struct_fields__)
    site = {name: value for name, value in changes.items() if name in site_fields}
    rest = {name: value for name, value in changes.items() if name not in site_fields}
    return msgspec.structs.replace(
        Config(
            listen=(Listener(address="127.0.0.1:0"),),
            memory=Memory(budget_bytes=32 << 20, spool_bytes=64 << 20),
            log=Log(access="off"),
            sites=(Site(origin=(origin,), **site),),
        ),
        **rest,
    )


@contextlib.asynccontextmanager
async def stage(clock: FakeClock | None = None, **changes: Any) -> AsyncIterator[Stage]:
    """An edge in front of a scripted origin, from start to stop."""
    clock = clock or FakeClock()
    async with ScriptedOrigin() as origin:
        edge = Edge(configuration(origin.url, **changes), clock)
        with mock.patch("banish.proxy.serve.freeze"):  # collects and freezes the heap: not once a test
            await edge.start()
        try:
            yield Stage(edge, origin, clock)
        finally:
            await edge.stop()


def run_scene(scene: Scene, *, loop: str = "uvloop", faults: bool = False, **changes: Any) -> None:
    """Run a scene to its end; then nothing may be left over. `faults`: the edge may log errors of its own."""
    reports: list[dict[str, Any]] = []

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        async with asyncio.timeout(SCENE_S), stage(**changes) as set_up:
            await scene(set_up)
        for _ in range(5):
            await asyncio.sleep(0)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        assert not tasks, f"left running: {tasks}"

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with structlog.testing.capture_logs() as logs, asyncio.Runner(loop_factory=factory) as runner:
        runner.run(body())
    assert reports == [], reports
    errors = [entry for entry in logs if entry["log_level"] in ("error", "critical")]
    assert faults or not errors, errors


def tiny_limits(**changes: int) -> Limits:
    return msgspec.structs.replace(Limits(), **changes)


def tiny_timeouts(**changes: float) -> ClientTimeouts:
    return msgspec.structs.replace(ClientTimeouts(), **changes)


def answered(body: bytes = b"", *lines: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """A response of the origin as bytes, with Content-Length."""
    length = len(body) if length is None else length
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, f"Content-Length: {length}", "", ""]).encode() + body


def chunks(*pieces: bytes, trailers: Iterable[str] = ()) -> bytes:
    """A chunked body."""
    coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return coded + b"0\r\n" + b"".join(line.encode() + b"\r\n" for line in trailers) + b"\r\n"
