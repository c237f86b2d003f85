"""Clients: what each will do, drawn before anything runs, and doing it.

A *visit* is one connection: requests one by one or all at once, read to the end or left in the middle.
"""

import asyncio
import random
from dataclasses import dataclass, field

from banish.http.fields import Fields
from banish.http.hops import end_to_end
from tests.soak.checks import Invoked, check
from tests.soak.origin import upload
from tests.soak.world import HOST, PAGES, Tag, World, read_tag
from tests.support import Client, Closed, Response

_UNKNOWN = ("FROB", "SETUP")
"""Methods unknown to HTTP: one that the parser knows from elsewhere, one that nobody knows."""
_SPELLINGS = {"/plain": "/pl%61in", "/large": "/x/../large"}


@dataclass
class Ask:
    """One request. `condition` says which tag it names in If-None-Match: one this client saw, or a foreign one."""

    method: str
    path: str
    target: str
    lines: list[str]
    version: str = "1.1"
    host: str = HOST
    condition: str = ""
    upload: int = 0
    chunked: bool = False

    @property
    def fields(self) -> Fields:
        """What the origin gets to see of it."""
        return end_to_end(
            Fields.of([(name, value) for name, _, value in (line.partition(": ") for line in self.lines)])
        )

    def __str__(self) -> str:
        return " ".join([self.method, self.target, self.version, self.condition, *self.lines]).replace("  ", " ")

    def encode(self, seen: Tag | None) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/{self.version}", f"Host: {self.host}", *self.lines]
        if self.condition:
            tag = seen if self.condition == "seen" and seen is not None else Tag(self.path, "none", 0)
            lines += [f"If-None-Match: {tag.etag}", "X-Own: 1"]
        body = upload(self.upload)
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
            pieces = [body[at : at + 7_000] for at in range(0, len(body), 7_000)]
            body = b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]) + b"0\r\n\r\n"
        elif self.method not in ("GET", "HEAD"):
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass
class Visit:
    """One connection. `leaves` says how it ends before its last response, and `after_s` when."""

    pause_s: float
    asks: list[Ask]
    pipelined: bool = False
    leaves: str = ""
    after_s: float = 0.0
    slow_s: float = 0.0
    halves: bool = False
    receive_buffer_bytes: int | None = None


@dataclass
class Habits:
    """What the clients of a run are like: shares."""

    unsafe: float = 0.06
    head: float = 0.08
    plain: float = 0.5
    """Requests that ask for nothing special, which the hot table can answer."""
    leave: float = 0.12
    slow: float = 0.1
    paths: tuple[str, ...] = tuple(PAGES)


def draw_visit(draw: random.Random, habits: Habits) -> Visit:
    asks = [draw_ask(draw, habits) for _ in range(draw.choice([1, 1, 2, 4, 8]))]
    if asks[-1].version == "1.1" and draw.random() < 0.1:
        asks[-1].lines.append("Connection: close")
    pipelined = draw.random() < 0.3
    if pipelined:  # an unknown method behind another request in one read is refused: 501
        for ask in asks[1:]:
            ask.method = "POST" if ask.method in _UNKNOWN else ask.method
    return Visit(
        pause_s=draw.choice([0.0, 0.0, draw.random() * 0.02]),
        asks=asks,
        pipelined=pipelined,
        leaves=draw.choice(["leave", "reset", "reading"]) if draw.random() < habits.leave else "",
        after_s=draw.choice([0.0, draw.random() * 0.01]),
        slow_s=draw.random() * 0.003 if draw.random() < habits.slow else 0.0,
        halves=draw.random() < 0.1,
        receive_buffer_bytes=draw.choice([None, None, 4096]),
    )


def draw_ask(draw: random.Random, habits: Habits) -> Ask:
    path = draw.choice(habits.paths)
    target = _SPELLINGS.get(path, path) if draw.random() < 0.1 else path
    ask = Ask("GET", path, target, [], host=draw.choice([HOST] * 9 + [HOST.upper()]))
    ask.lines.append("Accept-Language: " + draw.choice(["en", "en", "fr", "FR"]))
    if draw.random() < 0.4:
        ask.lines.append("X-Kind: " + draw.choice(["a", "b"]))
        if draw.random() < 0.1:
            ask.lines.append("Connection: X-Kind")
            return ask
    if draw.random() < habits.unsafe:
        ask.method = draw.choice(["POST", "POST", "PUT", "DELETE", "PATCH", *_UNKNOWN])
        ask.upload = draw.choice([0, 3, 500, 100_000])
        ask.chunked = draw.random() < 0.4
        ask.lines.append(f"X-Upload: {ask.upload}")
        if ask.upload and draw.random() < 0.1:
            ask.lines.append("Expect: 100-continue")
        return ask
    if draw.random() < habits.head:
        ask.method = "HEAD"
    if draw.random() < habits.plain:
        return ask
    _make_special(draw, ask)
    return ask


def _make_special(draw: random.Random, ask: Ask) -> None:
    """One thing, sometimes two, that the request asks for beside the page."""
    for _ in range(draw.choice([1, 1, 1, 2])):
        match draw.randrange(8):
            case 0:
                if not any(line.startswith("Range") for line in ask.lines):
                    ask.lines.append(
                        f"Range: bytes={draw.choice(['0-0', '0-4', '10-30', '2-', '100-9999', '60000-70000', '0-'])}"
                    )
            case 1:
                text = [
                    "no-cache",
                    "no-store",
                    "max-age=0",
                    "max-age=1",
                    "min-fresh=50",
                    "max-stale",
                    "max-stale=3",
                    "only-if-cached",
                ]
                if not any(line.startswith("Cache-Control") for line in ask.lines):
                    ask.lines.append("Cache-Control: " + draw.choice(text))
            case 2 | 3:
                ask.condition = draw.choice(["seen", "seen", "foreign"])
            case 4:
                if not any(line.startswith("Auth") for line in ask.lines):
                    ask.lines.append("Authorization: Basic eDp5")
            case 5:
                if not any(line.startswith("If-Match") for line in ask.lines):
                    ask.lines.append('If-Match: "none"')
            case 6:
                ask.version = "1.0"
                if draw.random() < 0.5 and not any(line.startswith("Connection") for line in ask.lines):
                    ask.lines.append("Connection: keep-alive")
            case 7:
                if not any(line.startswith("If-Range") for line in ask.lines):
                    ask.lines += ['If-Range: "none"']


class SoakClient(Client):
    """A connection that may be read slowly."""

    def __init__(self, address: tuple[str, int], visit: Visit) -> None:
        super().__init__(address, receive_buffer_bytes=visit.receive_buffer_bytes)
        self._slow_s = visit.slow_s
        self.ended = ""
        """How the edge ended the connection, if it did."""

    async def _more(self, *, raise_reset: bool = False) -> None:
        if self._slow_s:
            await asyncio.sleep(self._slow_s)
        try:
            await super()._more(raise_reset=raise_reset)
        except (Closed, ConnectionError) as end:
            self.ended = str(end).partition(" after")[0]
            raise


@dataclass
class Visitor:
    """A client at work: it remembers what tags it saw."""

    world: World
    name: str
    address: tuple[str, int]
    visits: list[Visit]
    may_be_cut: bool
    """Whether the edge may break off what takes too long in this run."""
    seen: dict[str, Tag] = field(default_factory=dict)

    async def run(self) -> None:
        """Make all visits."""
        for visit in self.visits:
            if visit.pause_s:
                await asyncio.sleep(visit.pause_s)
            try:
                async with SoakClient(self.address, visit) as client:
                    assert isinstance(client, SoakClient)
                    await self._visit(client, visit)
            except OSError as error:
                self.world.note(None, self.name, f"{error}")
            except AssertionError as error:
                self.world.problem(visit.asks[0].path, f"not HTTP as it should be: {error}")

    async def _visit(self, client: SoakClient, visit: Visit) -> None:
        groups = [visit.asks] if visit.pipelined else [[ask] for ask in visit.asks]
        for number, asks in enumerate(groups, 1):
            last = number == len(groups)
            begun = [self._begin(ask) for ask in asks]
            data = b"".join([ask.encode(self.seen.get(ask.path)) for ask in asks])
            sending = asyncio.ensure_future(self._send(client, data, halves=visit.halves and last))
            try:
                if last and visit.leaves:
                    await self._leave(client, visit, asks[0], sending)
                    return
                for place, (ask, invoked) in enumerate(zip(asks, begun, strict=True)):
                    if not await self._read(
                        client, ask, invoked, first=number == 1 and place == 0, last=place == len(asks) - 1
                    ):
                        return
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    def _begin(self, ask: Ask) -> Invoked:
        world = self.world
        world.note(ask.path, self.name, f"asks {ask}, at least {world.least[ask.path]}")
        return Invoked(
            world.least[ask.path], len(world.served), world.clock.now(), len(world.events), self.seen.get(ask.path)
        )

    async def _send(self, client: SoakClient, data: bytes, *, halves: bool) -> None:
        await client.send(data)
        if halves:
            client.shut()

    async def _leave(self, client: SoakClient, visit: Visit, ask: Ask, sending: "asyncio.Future[None]") -> None:
        if visit.leaves == "reading":
            try:
                await client.read()
            except Closed:
                return
        await asyncio.sleep(visit.after_s)
        sending.cancel()  # no socket is closed with a call under way on it: its number may be another's then
        await asyncio.gather(sending, return_exceptions=True)
        self.world.note(ask.path, self.name, "leaves")
        if visit.leaves == "reset":
            client.reset()
        else:
            client.leave()

    async def _read(self, client: SoakClient, ask: Ask, invoked: Invoked, *, first: bool, last: bool) -> bool:
        """One response. False: no more will come."""
        try:
            response = await self._final(client, ask)
        except Closed as closed:
            self.world.note(ask.path, self.name, f"gets nothing: {closed}")
            if first and not self.may_be_cut:
                self.world.problem(ask.path, f"{self.name}: {ask}: no answer at all: {closed}")
            return False
        told = (
            f"{response.status} {response['x-tag'] or response['etag']} #{response['x-serial']} age={response['age']} "
        )
        told += f"{response.outcome} {len(response.body)} bytes" + ("" if response.whole else f", cut: {client.ended}")
        self.world.note(ask.path, self.name, f"gets {told}")
        # A reset for what came behind it in a pipeline may take along what was not yet read.
        taken_along = not last and client.ended.endswith("by reset")
        check(self.world, ask, invoked, response, may_be_cut=self.may_be_cut or taken_along)
        if (tag := read_tag(response["etag"])) is not None:
            self.seen[ask.path] = tag
        if response.whole and response.status < 400 and (moved := response["x-least"]):
            self.world.require(moved)
        return (
            response.whole
            and response["connection"] != "close"
            and (ask.version == "1.1" or response["connection"] != "")
        )

    async def _final(self, client: SoakClient, ask: Ask) -> Response:
        while True:
            head = await client.head()
            if head.status >= 200:
                return await client.body(head, ask.method)
            if ask.version == "1.0":
                self.world.problem(ask.path, f"{head.status} to HTTP/1.0")
