"""A proxy without sockets: the real pipeline, store and stamps, and an origin whose every step is taken by hand.

    async def scene() -> None:
        edge = ByHand()
        asked = edge.ask("/a")
        exchange = await edge.origin.next()
        exchange.head(200, "Cache-Control: max-age=60")
        exchange.end(b"hello")
        assert (await edge.whole(asked)).body == b"hello"

Nothing happens at the origin until a test says so, so a purge can be put between any two moments of a fetch.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, cast

from banish.caching.cache_status import Outcome
from banish.caching.keys import cache_key
from banish.edge.config import Config, Site, Tier
from banish.edge.runtime import Runtimes, SiteRuntime
from banish.edge.tiering import Tiers
from banish.errors import BanishError
from banish.http.fields import Fields
from banish.http.framing import CHUNKED, NO_BODY, Framing, FramingKind
from banish.http.messages import RequestHead, ResponseHead
from banish.http.targets import request_target
from banish.mesh.lease import Lease
from banish.origin.addresses import Address
from banish.origin.client import OriginGroup, Tunnel
from banish.proxy.children import Children
from banish.proxy.exchange import Answer, ConnectionInfo, Request, RequestBody
from banish.proxy.fetches import Fetcher
from banish.proxy.hot import HotTable
from banish.proxy.pipeline import Pipeline
from banish.proxy.taking import Taker
from banish.proxy.upstream import Upstream
from banish.purge.names import Names
from banish.purge.stamps import PurgeTable
from banish.purge.targets import Target, group_target, url_target
from banish.store.bodies import Body, BodyReader
from banish.store.tiers import Store
from banish.tables import Accounts
from banish.testing.clock import FakeClock
from tests.written import Written

SITE, HOST, LISTENER = "default", "site.example", "http://test"
NEVER_KEPT = cast("Any", None)
"""For bodies as small as here there is no spool."""


class Exchange:
    """One request at the origin, and the response to it. Stands in for an `OriginResponse`, once it has a head."""

    def __init__(self, asked: RequestHead, clock: FakeClock, *, expect_upgrade: bool) -> None:
        self.asked = asked
        self.expect_upgrade = expect_upgrade
        self.requested_at = clock.now()
        self.received_at = clock.now()
        self.framing: Framing | None = None
        self.trailers: Fields | None = None
        self.tunnel: Tunnel | None = None
        self.closed = False
        self._clock = clock
        self._head: asyncio.Future[ResponseHead] = asyncio.get_running_loop().create_future()
        self._pieces: deque[bytes | BanishError] = deque()
        self._arrived = asyncio.Event()

    # --- the test's side

    @property
    def conditional(self) -> bool:
        """Whether it was asked about something stored."""
        return "if-none-match" in self.asked.fields

    @property
    def has_head(self) -> bool:
        return self._head.done()

    def answer(self, status: int, *lines: str, length: int | None = None, tunnel: Tunnel | None = None) -> None:
        """Give the head. Without `length` the body is chunked."""
        fields = Fields.of([(name, value) for name, _, value in (line.partition(": ") for line in lines)])
        if length is not None:
            fields = fields.plus("Content-Length", str(length))
        self.framing = CHUNKED if length is None else Framing(FramingKind.LENGTH, length)
        if self.asked.method == "HEAD" or status in (204, 304):
            self.framing = NO_BODY
            self.end()
        if tunnel is not None:
            self.framing, self.tunnel = None, tunnel
        self.received_at = self._clock.now()
        self._head.set_result(ResponseHead(status, fields))

    def write(self, data: bytes) -> None:
        """Give a piece of the body."""
        self._pieces.append(data)
        self._arrived.set()

    def end(self, data: bytes = b"") -> None:
        """Give the last piece of the body."""
        if data:
            self._pieces.append(data)
        self.write(b"")

    def fail(self, error: BanishError) -> None:
        """Break off, whatever was given so far."""
        if not self._head.done():
            self._head.set_exception(error)
        self._pieces.append(error)
        self._arrived.set()

    # --- the edge's side

    @property
    def head(self) -> ResponseHead:
        return self._head.result()

    async def begun(self) -> "Exchange":
        await self._head
        return self

    async def read(self) -> bytes:
        while not self._pieces:
            self._arrived.clear()
            await self._arrived.wait()
        piece = self._pieces[0]
        if piece:
            self._pieces.popleft()
        if isinstance(piece, BanishError):
            raise piece
        return piece

    def close(self) -> None:
        self.closed = True


class OriginByHand:
    """Stands in for an `OriginGroup`. `on_sent` is told of each request as it is sent."""

    def __init__(self, clock: FakeClock) -> None:
        self.addresses: tuple[Address, ...] = ()
        self.exchanges: list[Exchange] = []
        self.bodies: list[AsyncIterator[bytes] | None] = []
        self.on_sent: Callable[[Exchange], None] = lambda exchange: None
        self.interim: list[Callable[[ResponseHead], None] | None] = []
        self._clock = clock
        self._given = 0

    async def fetch(
        self,
        head: RequestHead,
        body: AsyncIterator[bytes] | None,
        *,
        trailers: Callable[[], Fields] | None = None,
        on_interim: Callable[[ResponseHead], None] | None = None,
        expect_upgrade: bool = False,
    ) -> Exchange:
        exchange = Exchange(head, self._clock, expect_upgrade=expect_upgrade)
        self.exchanges.append(exchange)
        self.bodies.append(body)
        self.interim.append(on_interim)
        self.on_sent(exchange)
        return await exchange.begun()

    async def next(self) -> Exchange:
        """The first exchange not asked for yet."""
        while len(self.exchanges) <= self._given:  # noqa: ASYNC110 (each turn may be the one)
            await asyncio.sleep(0)
        self._given += 1
        return self.exchanges[self._given - 1]

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class Whole:
    """An answer and all of its body. `error` is what broke it off."""

    answer: Answer
    body: bytes = b""
    error: BanishError | None = None

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def outcome(self) -> Outcome:
        return self.answer.outcome

    def __getitem__(self, name: str) -> str:
        return self.answer.fields.get(name) or ""


class ByHand:
    """One edge's parts, put together as `serve.py` does. `site` changes the site's configuration."""

    def __init__(self, *, node: str = "banish", clock: FakeClock | None = None, **site: Any) -> None:
        self.node = node
        self.clock = clock or FakeClock()
        self.stamps = PurgeTable()
        self.accounts = Accounts()
        self.invalidations = 0
        self.origin = OriginByHand(self.clock)
        self.lease = Lease(lambda: self.clock.monotonic(), self.clock.now)
        self.lease.on_change = lambda past: self.hot.renew_heads()
        self.tiers = Tiers(Tier(), clock=self.clock, accounts=self.accounts)
        self.hot = HotTable(
            self.stamps,
            self.clock,
            node=node,
            lease=self.lease,
            make_head=lambda record, now, status: self.pipeline.hot_head(record, now, status),
        )
        self.store = Store(
            memory_bytes=1 << 20,
            disk=None,
            table=self.stamps,
            clock=self.clock,
            accounts=self.accounts,
            on_removed=lambda record, reason: self.hot.unpublish(record),
            on_rivalled=self.hot.unpublish,
            stamp_min_age_s=60.0,
            undo_window_s=60.0,
        )
        self.taker = Taker(
            store=self.store, stamps=self.stamps, clock=self.clock, node=node, invalidate=self._invalidate
        )
        upstream = Upstream(
            tiers=self.tiers, stamps=self.stamps, clock=self.clock, purge_id=lambda index: self.purge_id(index)
        )
        self.fetcher = Fetcher(
            store=self.store, stamps=self.stamps, clock=self.clock, taker=self.taker, make_body=self._make_body,
            upstream=upstream, node=node, accounts=self.accounts,
        )  # fmt: skip
        sites = (Site(**{"origin": ("http://origin.example",), **site}),)
        self.runtimes = runtimes = Runtimes(Config(sites=sites), accounts=self.accounts, clock=self.clock)
        self.site: SiteRuntime = cast("SiteRuntime", runtimes.match(HOST))
        self.origin.addresses = self.site.origin.addresses
        self.site.origin = cast("OriginGroup", self.origin)
        self.pipeline = Pipeline(
            runtimes=runtimes, store=self.store, stamps=self.stamps, fetcher=self.fetcher, hot=self.hot,
            clock=self.clock, node=node, purge_id=lambda index: self.purge_id(index), passing=lambda: self.passing,
            children=Children(self.tiers, index=lambda: self.stamps.index, clock=self.clock), lease=self.lease,
        )  # fmt: skip
        self.passing = False

    def purge_id(self, index: int) -> str | None:
        """The id of the purge with this apply index."""
        return f"nr-{index}"

    def _invalidate(self, targets: Sequence[Target]) -> int:
        self.invalidations += 1
        return self.stamps.apply(targets)

    def _make_body(self, kept: bool, abandoned: Callable[[], None]) -> Body:
        return Body.filling(NEVER_KEPT, kept=kept, on_abandoned=abandoned)

    # --- requests

    def request(
        self, target: str = "/a", *lines: str, method: str = "GET", body: RequestBody | None = None, **more: Any
    ) -> Request:
        """A request whose head has just been parsed."""
        pairs = [("Host", HOST), *[(name, value) for name, _, value in (line.partition(": ") for line in lines)]]
        head = RequestHead(method, target, Fields.of(pairs))
        return Request(
            head, request_target(method, target, HOST, "http"), ConnectionInfo("192.0.2.1", "http", LISTENER),
            arrived_at=self.clock.now(), started=self.clock.monotonic(), arrived_index=self.stamps.index,
            body=body, raw_target=target.encode(), raw_host=HOST.encode(), **more,
        )  # fmt: skip

    def ask(self, target: str = "/a", *lines: str, method: str = "GET", **more: Any) -> "asyncio.Task[Whole]":
        """Begin a request, and read its answer to the end."""
        return asyncio.ensure_future(self.whole_answer(self.request(target, *lines, method=method, **more)))

    async def whole_answer(self, request: Request) -> Whole:
        """The answer to a request, read to its end."""
        return await read(await self.pipeline.answer(request))

    async def store_one(
        self, target: str = "/a", *lines: str, body: bytes = b"hello", ask: tuple[str, ...] = ()
    ) -> None:
        """Have a response stored."""
        asked = self.ask(target, *ask)
        exchange = await self.origin.next()
        exchange.answer(200, *(lines or ("Cache-Control: max-age=60",)))
        exchange.end(body)
        await asked
        await self.settled()

    def lane_answers(self, target: str = "/a", *lines: str) -> bytes | None:
        """What the lane in front of the pipeline writes, if it takes this request."""
        head = "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {HOST}", *lines, "", ""]).encode("latin-1")
        written = Written()
        taken = self.hot.lane(LISTENER).answer(head, written, ConnectionInfo("192.0.2.1", "http", LISTENER))
        return written.data if taken else None

    def key(self, target: str = "/a") -> str:
        """The cache key of a target."""
        return cache_key(self.site.key_name, request_target("GET", target, HOST, "http"), self.site.policy(target))

    # --- purges

    def url(self, target: str = "/a") -> Target:
        return url_target(SITE, f"http://{HOST}{target}")

    def names(self, target: str = "/a") -> Names:
        return Names(SITE, f"http://{HOST}{target}")

    def group(self, name: str = "g") -> Target:
        return group_target(SITE, f"http://{HOST}", name)

    # --- time

    async def turn(self, times: int = 1) -> None:
        """Let the loop turn."""
        for _ in range(times):
            await asyncio.sleep(0)

    async def settled(self) -> None:
        """Let everything happen that can without the origin."""
        await self.turn(12)


async def read(answer: Answer) -> Whole:
    """An answer with its body, as a client gets it."""
    whole = Whole(answer)
    if not isinstance(answer.body, BodyReader):
        whole.body = answer.body or b""
        return whole
    try:
        whole.body = answer.first or b""
        while answer.first != b"" and (data := await answer.body.read()):
            whole.body += data
    except BanishError as error:
        whole.error = error
    answer.close_body()
    return whole


def run(scene: Coroutine[Any, Any, None]) -> None:
    """Run a scene; what it leaves running is broken off, and no exception may go unseen."""
    reports: list[dict[str, Any]] = []

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        async with asyncio.timeout(5):
            await scene
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(body())
    assert reports == [], reports
