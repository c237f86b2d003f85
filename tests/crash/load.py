"""Origin, clients and purgers, in an event loop on a thread: the driver meanwhile kills and starts the edge.

    with Load(world) as load:
        load.aim(edge_port, admin_port)        # there is an edge: everybody goes to work
        load.round_up()                        # every state asked for once, and judged
        load.calm()                            # whoever loses a connection from here on need not wonder

A client notes what is required before it asks, and judges what it gets. A purger repeats a purge that was not
acknowledged, under its idempotency key, until it is: on whatever edge there is then.

Not here: what is judged (`world.py`), who kills (`scene.py`).
"""

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, Self, TypeVar

from tests.crash.world import STATES, Acknowledged, Oldest, State, World, entity_tag
from tests.processes import WAIT_S

CLIENTS = 12
PURGERS = 2
ROUNDING_UP = 6
"""Connections that ask for everything once."""
RETRY_S = 0.02
ANSWER_S_MAX = 30.0

_T = TypeVar("_T")


class Answer(NamedTuple):
    """One response; names of fields in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def cache_status(self) -> str:
        return self.fields.get("cache-status", "")

    def __str__(self) -> str:
        return f"{self.status} Age: {self.fields.get('age')} Cache-Status: {self.cache_status}"


class BrokenOff(Exception):
    """An answer ended before it was whole."""


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class RoundUp(NamedTuple):
    """What came of asking for everything once."""

    expected: int
    """States that the edge had stored, and that no purge was sent for since."""
    warm: int
    """Of those, how many it answered itself."""


class Load:
    """Everything around the edge."""

    def __init__(self, world: World, *, clients: int = CLIENTS, lenient: bool = False) -> None:
        """`lenient`: answers may break off, since a stored body may be damaged further behind."""
        self.world = world
        self.origin_port = 0
        self._clients = clients
        self._lenient = lenient
        self._aim: tuple[int, int] | None = None
        self._aimed = asyncio.Event()
        self._tolerant = True
        self._purging = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *failure: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    def aim(self, port: int, admin_port: int, *, work: bool = True) -> None:
        """An edge is there; unless it is to work, nobody asks it by themselves yet."""

        async def aim() -> None:
            self._aim, self._tolerant = (port, admin_port), False
            if work:
                self._aimed.set()

        self._run(aim())

    def work(self) -> None:
        """Have everybody ask, if they do not yet."""
        self._loop.call_soon_threadsafe(self._aimed.set)

    def calm(self) -> None:
        """The edge is about to go: connections that break and errors are nobody's fault."""

        async def calm() -> None:
            self._aimed.clear()
            self._tolerant = True

        self._run(calm())

    def tolerate(self, tolerant: bool) -> None:
        """Whether errors are to be expected, while everybody goes on."""

        async def tolerate() -> None:
            self._tolerant = tolerant

        self._run(tolerate())

    def round_up(self) -> RoundUp:
        """Ask for every state, and judge."""
        return self._run(self._round_up())

    def ask(self, state: State) -> Answer | None:
        """One request on a connection of its own, judged; None if it failed."""
        return self._run(self._ask_alone(state))

    def opened(self) -> "Opened":
        """A connection to the edge, to be used by hand."""
        assert self._aim is not None
        return Opened(self, self._run(_connect(self._aim[0])))

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(4 * ANSWER_S_MAX)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.origin_port = self._server.sockets[0].getsockname()[1]
        draw = random.Random(self.world.seed)
        work: list[Callable[[random.Random], Awaitable[None]]] = [self._client] * self._clients
        work += [self._purger] * PURGERS
        self._tasks = [self._loop.create_task(_forever(one, random.Random(draw.random()))) for one in work]

    async def _stop(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        for ended in await asyncio.gather(*others, return_exceptions=True):
            if isinstance(ended, Exception):
                self.world.problem(f"the load itself failed: {ended!r}")
        for _ in range(3):
            await asyncio.sleep(0)  # what was closed takes a turn or two to be so

    # The origin

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        draw = random.Random(len(self.world.counts))
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                pieces = self._content(request)
                await asyncio.sleep(draw.choice((0.0, 0.002, 0.02, 0.1)))
                cut = draw.randrange(len(pieces))
                writer.write(pieces[:cut])
                await asyncio.sleep(draw.choice((0.0, 0.0, 0.01)))
                writer.write(pieces[cut:])
                await writer.drain()
        writer.close()

    def _content(self, request: str) -> bytes:
        """The response, with the version that there is when the request comes."""
        lines = request.split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        page = int(lines[0].split(" ")[1].rpartition("/")[2])
        language = fields.get("accept-language", "") if State(page, "de") in STATES else ""
        state = State(page, language)
        version = self.world.versions[state]
        self.world.counts["requests at the origin"] += 1
        tag = entity_tag(state, version)
        control = "max-age=1, stale-while-revalidate=3" if state.brief else "max-age=600"
        head = f"ETag: {tag}\r\nCache-Control: {control}\r\nCache-Tag: {state.tag}, all\r\n"
        head += "Vary: Accept-Language\r\n" * bool(language)
        if fields.get("if-none-match") == tag:
            return f"HTTP/1.1 304 Not Modified\r\n{head}\r\n".encode()
        body = state.body(version)
        if page % 3:
            return f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        chunks = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
        return f"HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks

    # Clients

    async def _client(self, draw: random.Random) -> None:
        """Ask on one connection until it breaks."""

        async def ask(connection: Connection) -> None:
            while self._aimed.is_set():
                await self._ask(connection, draw.choice(STATES), draw)

        await self._aimed.wait()
        await self._connected(ask)

    async def _connected(self, work: Callable[[Connection], Awaitable[object]]) -> None:
        """Work with a connection to the edge. What goes wrong with it is a problem, unless it is to be expected."""
        writer = None
        try:
            assert self._aim is not None
            connection = await _connect(self._aim[0])
            writer = connection[1]
            await work(connection)
        except BrokenOff as error:
            self.world.counts["answers broken off"] += 1
            if not self._tolerant and not self._lenient:
                self.world.problem(f"an answer was broken off: {error}")
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.world.counts["connections lost"] += 1
            if not self._tolerant:
                self.world.problem(f"a connection was lost: {error!r}")
            await asyncio.sleep(RETRY_S)
        finally:
            if writer is not None:
                writer.close()

    async def _ask(self, connection: Connection, state: State, draw: random.Random | None = None) -> Answer:
        """Ask for a state, and judge the answer. Raises OSError, EOFError."""
        oldest = self.world.oldest(state)
        fields = f"Accept-Language: {state.language}\r\n" if state.language else ""
        chance = draw.random() if draw is not None else 1.0
        if chance < 0.05:
            fields += f"Range: bytes={state.size // 3}-{state.size // 2}\r\n"
        elif chance < 0.1 and state in self.world.seen:
            fields += f"If-None-Match: {entity_tag(state, self.world.seen[state])}\r\n"
        connection[1].write(f"GET {state.path} HTTP/1.1\r\nHost: {state.host}\r\n{fields}\r\n".encode())
        answer = await read_answer(connection[0])
        self._judge(state, oldest, answer)
        return answer

    def _judge(self, state: State, oldest: Oldest, answer: Answer) -> None:
        world = self.world
        world.counts["answers"] += 1
        if answer.status not in (200, 206, 304):
            world.counts[f"answers {answer.status}"] += 1
            if not self._tolerant:
                world.problem(f"{answer} to {state}", state)
            return
        hit = "banish; hit" in answer.cache_status
        version = world.judge(state, oldest, answer.fields.get("etag", ""), str(answer), hit=hit)
        if version is None:
            return
        whole = state.body(version)
        wanted = {200: whole, 206: whole[state.size // 3 : state.size // 2 + 1], 304: b""}[answer.status]
        if answer.body != wanted:
            world.problem(f"a body that is not what it says: {answer} {answer.body[:60]!r}", state)
        world.counts["hits"] += hit
        if oldest.settled and (hit or "stored" in answer.cache_status):
            world.seen[state] = version

    async def _ask_alone(self, state: State) -> Answer | None:
        answers: list[Answer] = []

        async def ask(connection: Connection) -> None:
            answers.append(await self._ask(connection, state))

        await self._connected(ask)
        return answers[0] if answers else None

    async def _round_up(self) -> RoundUp:
        world = self.world
        expected = {
            state: version
            for state, version in world.seen.items()
            if version == world.versions[state] and not state.brief
        }
        warm = 0
        states = list(STATES)
        world.draw.shuffle(states)

        async def ask_some(some: list[State], connection: Connection) -> None:
            nonlocal warm
            while some:
                state = some.pop()
                answer = await self._ask(connection, state)
                if expected.get(state) != world.versions[state]:
                    expected.pop(state, None)  # a purge came by meanwhile
                elif "banish; hit" in answer.cache_status:
                    warm += 1
                else:
                    world.note(f"cold, though it was stored: {answer}", state)
                    world.counts[f"cold, of {state.size} bytes"] += 1

        async def ask_all(some: list[State]) -> None:
            while some:  # whichever of them breaks the connection
                await self._connected(partial(ask_some, some))

        await asyncio.gather(*[ask_all(states[number::ROUNDING_UP]) for number in range(ROUNDING_UP)])
        return RoundUp(len(expected), warm)

    # Purgers

    async def _purger(self, draw: random.Random) -> None:
        """One purge, until it is acknowledged; then a pause."""
        await self._aimed.wait()
        purge = self.world.draw_purge()
        connection: Connection | None = None
        while True:
            await self._aimed.wait()
            assert self._aim is not None
            try:
                connection = connection or await _connect(self._aim[1])
                connection[1].write(_posted(purge.key, purge.request))
                answer = await read_answer(connection[0])
            except (OSError, EOFError, ValueError, TimeoutError, BrokenOff):
                self.world.counts["purges broken off"] += 1
                if connection is not None:
                    connection[1].close()
                connection = None
                await asyncio.sleep(RETRY_S)
                continue
            if answer.status in (200, 202):
                break
            self.world.counts[f"purges answered {answer.status}"] += 1
            if not self._tolerant:
                self.world.problem(f"a purge was refused: {answer.status} {answer.body[:300]!r}")
            await asyncio.sleep(RETRY_S)
        connection[1].close()
        told = json.loads(answer.body)
        self.world.counts["purges acknowledged"] += 1
        self.world.counts["purges acknowledged again"] += bool(told.get("replayed"))
        self.world.acknowledge(purge, Acknowledged(told["id"], told["index"], purge.key))
        await asyncio.sleep(draw.choice((0.0, 0.01, 0.05, 0.2)))


class Opened:
    """A connection that was opened early."""

    def __init__(self, load: Load, connection: Connection) -> None:
        self._load = load
        self._connection = connection

    def ask(self, state: State) -> "Future[Answer]":
        """Send a request; the answer is judged when it comes."""
        return asyncio.run_coroutine_threadsafe(self._load._ask(self._connection, state), self._load._loop)

    def close(self) -> None:
        """It is needed no more."""
        self._load._loop.call_soon_threadsafe(self._connection[1].close)


async def _forever(work: Callable[[random.Random], Awaitable[None]], draw: random.Random) -> None:
    while True:
        await work(draw)


async def _connect(port: int) -> Connection:
    async with asyncio.timeout(ANSWER_S_MAX):
        return await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)


def _posted(key: str, request: dict[str, Any]) -> bytes:
    body = json.dumps(request).encode()
    head = f"POST /purges HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """One response. Raises OSError, EOFError, TimeoutError; ValueError for what is no HTTP; BrokenOff."""
    async with asyncio.timeout(ANSWER_S_MAX):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        answer = Answer(status, fields, b"")
        if status == 304:
            return answer
        try:
            if "chunked" in fields.get("transfer-encoding", ""):
                return answer._replace(body=b"".join([chunk async for chunk in _chunks(reader)]))
            return answer._replace(body=await reader.readexactly(int(fields.get("content-length", "0"))))
        except (OSError, EOFError) as error:
            raise BrokenOff(f"{answer}: {error!r}") from error


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readline()).partition(b";")[0] or b"0", 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
