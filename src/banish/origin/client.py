"""The client: send a request to an origin group, get back a response that streams.

    group = OriginGroup(["https://a.example", "https://b.example"], accounts=accounts, clock=clock)
    response = await group.fetch(head, None)
    while data := await response.read(): ...

A fetch takes a pooled connection or opens one, going through the addresses until one answers; sends; and
returns with the head. A pooled connection that turns out dead is replaced once, if nothing of a response had
come, the method is idempotent and there is no body to send again (RFC 9110 section 9.2.2, RFC 9112 section
9.3.1). Where that cannot be done, the kernel is asked first whether the connection still lives.

Not here: hop-by-hop fields (`http/hops.py`); what may be stored (`caching/`); collapsing (`proxy/`).
Invariant: each connection taken is given back, left or closed, whatever is raised and whoever is cancelled.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from banish.clock import Clock
from banish.errors import ConnectFailed, OriginError, OriginTimeout, Truncated
from banish.http.fields import Fields
from banish.http.framing import Framing
from banish.http.messages import IDEMPOTENT_METHODS, RequestHead, ResponseHead
from banish.origin.addresses import Address, parse_address
from banish.origin.connect import Connector, OriginTls
from banish.origin.connection import OriginConnection
from banish.origin.exchange import Exchange, OnInterim
from banish.origin.limits import Limits
from banish.origin.pool import Pool, Turn
from banish.origin.reading import ResponseReader
from banish.origin.sending import Upload, encode_head
from banish.origin.timeouts import ORIGIN_TIMEOUTS, Stage, Timeouts, bound
from banish.origin.watch import Watch, tick_s
from banish.tables import Accounts, Metric, Samples

ORIGIN_OPENED = Metric("banish_origin_connections_opened_total", "counter", "Connections opened to origins.")
ORIGIN_REUSED = Metric("banish_origin_connections_reused_total", "counter", "Requests sent on a pooled connection.")
ORIGIN_RETRIES = Metric(
    "banish_origin_retries_total", "counter", "Requests sent again because a pooled connection was dead."
)
ORIGIN_FAILURES = Metric(
    "banish_origin_failures_total",
    "counter",
    "Fetches that gave no whole response, by error code.",
    ("code",),
)
ORIGIN_CONNECTIONS = Metric(
    "banish_origin_connections",
    "gauge",
    "Connections to origins: `taken` by a request, or `idle`.",
    ("state",),
)
ORIGIN_WAITING = Metric("banish_origin_requests_waiting", "gauge", "Requests that wait for a connection to come free.")


class Tunnel:
    """The connection after a 101: bytes both ways, no messages."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._connection = exchange.connection

    async def read(self) -> bytes:
        """The next bytes from the origin; b"" once it will send no more."""
        return await self._exchange.read()

    async def write(self, data: bytes) -> None:
        """Send bytes; returns when the transport takes more."""
        if self._connection.closed:
            raise Truncated("the tunnel to the origin is closed")
        self._exchange.touch_tunnel()
        self._connection.write(data)
        await self._connection.drain()

    def write_eof(self) -> None:
        """Send no more, go on reading. Nothing happens over TLS, which cannot be half closed."""
        self._connection.write_eof()

    def close(self) -> None:
        """End both ways, once what was written is sent."""
        self._connection.close()


class OriginResponse:
    """A response whose body is still coming."""

    __slots__ = ("_exchange", "head", "requested_at")

    def __init__(self, exchange: Exchange, head: ResponseHead) -> None:
        self._exchange = exchange
        self.head = head
        self.requested_at = exchange.requested_at
        """Seconds since the epoch when the request was sent."""

    def __repr__(self) -> str:
        return f"<OriginResponse {self.head.status}, {self._exchange.reader.phase.name}>"

    @property
    def received_at(self) -> float:
        """Seconds since the epoch when the head had come."""
        return self._exchange.received_at

    @property
    def framing(self) -> Framing | None:
        """Where the body ends; None for a 101."""
        return self._exchange.reader.framing

    @property
    def trailers(self) -> Fields | None:
        """The trailer section, once the body has been read; None if there was none."""
        return self._exchange.reader.trailers

    @property
    def complete(self) -> bool:
        """All of it is here: `read` will not wait nor raise."""
        return self._exchange.reader.complete

    @property
    def tunnel(self) -> Tunnel | None:
        """The connection, after a 101."""
        return Tunnel(self._exchange) if self._exchange.switched else None

    async def read(self) -> bytes:
        """The next bytes of the body; b"" at its end. Raises `OriginError`."""
        return await self._exchange.read()

    def close(self) -> None:
        """Want no more of it. The connection is closed, unless the response is whole already."""
        self._exchange.abandon()


class OriginGroup:
    """The addresses that serve one site, and the connections to them. Belongs to one event loop."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        accounts: Accounts,
        clock: Clock,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        tls: OriginTls | None = None,
        lenient: bool = False,
    ) -> None:
        self.addresses = tuple(dict.fromkeys(parse_address(text) for text in addresses))
        self.clock = clock
        self.timeouts = timeouts or Timeouts()
        self.limits = limits or Limits()
        self.lenient = lenient
        self._connector = Connector(self, self.addresses, tls or OriginTls())
        self._pool: Pool[OriginConnection] = Pool(self.addresses, self.limits)
        self._all: set[OriginConnection] = set()
        self._watch: Watch | None = None
        self._timed_out = accounts.tally(ORIGIN_TIMEOUTS)
        self._opened = accounts.tally(ORIGIN_OPENED)
        self._reused = accounts.tally(ORIGIN_REUSED)
        self._retries = accounts.tally(ORIGIN_RETRIES)
        self._failures = accounts.tally(ORIGIN_FAILURES)
        accounts.read(ORIGIN_CONNECTIONS, self._sample_connections)
        accounts.read(ORIGIN_WAITING, lambda: [((), self._pool.waiting)])

    def __repr__(self) -> str:
        return f"<OriginGroup {', '.join(map(str, self.addresses))}: {self._pool!r}>"

    @property
    def watch(self) -> Watch:
        """The timer of all connections, made when the event loop is known."""
        if self._watch is None:
            self._watch = Watch(asyncio.get_running_loop(), tick_s(self.timeouts))
        return self._watch

    async def fetch(
        self,
        head: RequestHead,
        body: AsyncIterator[bytes] | None,
        *,
        trailers: Callable[[], Fields] | None = None,
        on_interim: OnInterim | None = None,
        expect_upgrade: bool = False,
    ) -> OriginResponse:
        """Send a request; the response, once its head is here. The body, if any, may still be on its way out.

        `trailers` gives the trailer section of a chunked body, once that has ended.

        The caller closes the response, or reads it to its end. `on_interim` must not raise. Raises
        `OriginError`; `ValueError` for a head that cannot be sent; whatever `body` raises.
        """
        raw = encode_head(head, with_body=body is not None)
        upload = None if body is None else Upload(head, body, trailers)
        repeatable = head.method in IDEMPOTENT_METHODS and body is None
        total_due = asyncio.get_running_loop().time() + self.timeouts.total_s
        fresh = False
        try:
            while True:
                connection = await self._take(fresh=fresh, surely=not repeatable)
                reader = ResponseReader(head.method, self.limits, lenient=self.lenient, switch_allowed=expect_upgrade)
                exchange = connection.begin(raw, reader, upload=upload, on_interim=on_interim, total_due=total_due)
                try:
                    return OriginResponse(exchange, await exchange.wait_head())
                except OriginError as error:
                    if not (error.retryable and connection.reused and repeatable) or fresh:
                        raise
                    self._retries.add()
                    fresh = True
                except BaseException:
                    exchange.abandon()
                    raise
        except OriginError as error:
            self.count_failure(error)
            raise

    async def close(self) -> None:
        """Close every connection. Responses still coming fail."""
        for connection in list(self._all):
            connection.abort()

    # ── a connection for a request ──

    async def _take(self, *, fresh: bool, surely: bool) -> OriginConnection:
        """A connection to send on. `fresh`: a new one. `surely`: ask an old one whether it still lives."""
        loop = asyncio.get_running_loop()
        tried: set[Address] = set()
        while True:
            plan = self._pool.take(loop.time(), fresh=fresh, tried=tried)
            if plan.connection is None and plan.address is None:
                plan = await self._wait(loop)
            for connection in plan.close:
                connection.abort()
            if (taken := plan.connection) is not None:
                if taken.usable and not (surely and not taken.seems_alive()):
                    self._reused.add()
                    return taken
                taken.abort()
                continue
            assert plan.address is not None
            try:
                return await self._open(plan.address)
            except OriginError:
                tried.add(plan.address)
                if len(tried) == len(self.addresses):
                    raise

    async def _open(self, address: Address) -> OriginConnection:
        try:
            connection = await self._connector.connect(address)
        except OriginError:
            self._pool.failed(address, asyncio.get_running_loop().time())
            raise
        except BaseException:
            self._pool.leave(address)
            raise
        if connection.closed:
            self._pool.failed(address, asyncio.get_running_loop().time())
            raise ConnectFailed(f"{address} took the connection and closed it", retryable=True)
        self._pool.worked(address)
        self._all.add(connection)
        self._opened.add()
        return connection

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> Turn[OriginConnection]:
        """Stand in line for a connection, or the right to open one."""
        turn: asyncio.Future[Turn[OriginConnection]] = loop.create_future()
        if not self._pool.wait(turn):
            raise ConnectFailed(f"{self.limits.waiting_max} requests wait for a connection already (waiting_max)")
        try:
            async with asyncio.timeout(bound(self.timeouts.pool_wait_s)):
                return await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._hand_back(turn.result())
            if isinstance(error, TimeoutError):
                self.count_timeout(Stage.POOL_WAIT)
                raise OriginTimeout(Stage.POOL_WAIT, "no connection to the origin came free", retryable=True) from error
            raise

    def _hand_back(self, plan: Turn[OriginConnection]) -> None:
        """The turn came when nobody waited for it any more."""
        if plan.connection is not None:
            self.connection_idle(plan.connection)
        elif plan.address is not None:
            self._pool.leave(plan.address)

    # ── what connections report (`exchange.Owner`) ──

    def connection_idle(self, connection: OriginConnection) -> None:
        """Back to the pool, or on to the next who waits."""
        if connection not in self._all:
            return
        for excess in self._pool.give(connection):
            excess.abort()

    def connection_gone(self, connection: OriginConnection) -> None:
        """Out of the books."""
        if connection in self._all:
            self._all.discard(connection)
            self._pool.gone(connection)

    def count_timeout(self, stage: Stage) -> None:
        """A wait ran out."""
        self._timed_out.add(stage)

    def count_failure(self, error: OriginError) -> None:
        """A fetch gave no whole response."""
        self._failures.add(error.code)

    def _sample_connections(self) -> Samples:
        return [(("idle",), self._pool.idle), (("taken",), self._pool.taken)]
