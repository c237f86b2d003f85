"""The front: what all client connections of an edge share, and the books they keep.

Not here: listeners and lifecycle (`serve.py`), one connection (`connection.py`).
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from banish.caching.cache_status import Outcome
from banish.clock import Clock
from banish.edge.config import Config
from banish.edge.logs import AccessLog, AccessRecord
from banish.errors import BanishError, ClientError
from banish.proxy.exchange import Answer, ConnectionInfo, Request
from banish.proxy.hot import HotTable
from banish.proxy.pipeline import Pipeline
from banish.proxy.wheel import Timed, Wheel
from banish.purge.stamps import PurgeTable
from banish.tables import Accounts, Metric

RESPONSES = Metric(
    "banish_responses_total",
    "counter",
    "Responses by how they came about; `hot` are hits from the hot table.",
    ("outcome",),
)
RESPONSE_BYTES = Metric("banish_response_body_bytes_total", "counter", "Body bytes given to clients.")
CONNECTIONS = Metric("banish_client_connections", "gauge", "Client connections open.")
CONNECTIONS_TOTAL = Metric(
    "banish_client_connections_total", "counter", "Client connections accepted, or turned away.", ("result",)
)
CLIENT_TIMEOUTS = Metric(
    "banish_client_timeouts_total", "counter", "Waits on clients that ran out, by what was waited for.", ("stage",)
)
LIMITS_REACHED = Metric(
    "banish_limits_reached_total", "counter", "Times a client came up against a named limit.", ("limit",)
)
REFUSED = Metric("banish_requests_refused_total", "counter", "Messages refused before they were requests.", ("status",))
BROKEN = Metric(
    "banish_responses_broken_total", "counter", "Responses that broke off after their head was sent, by why.", ("code",)
)


class Connected(Timed, Protocol):
    """A client connection, as the front knows it."""

    def drain(self) -> None:
        """Close when nothing is under way, or when that is over."""
        ...

    def abort(self) -> None:
        """Close now."""
        ...


class Front:
    """Shared by the connections of one edge."""

    def __init__(
        self,
        config: Config,
        *,
        pipeline: Pipeline,
        hot: HotTable,
        stamps: PurgeTable,
        clock: Clock,
        accounts: Accounts,
        access_log: AccessLog,
    ) -> None:
        self.config = config
        self.node = config.node
        self.pipeline = pipeline
        self.hot = hot
        self.stamps = stamps
        self.clock = clock
        self.wheel = Wheel()
        self.draining = False
        self.connections: set[Connected] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.empty = asyncio.Event()
        """Set when a connection has left and no other is open."""
        self.access_log = access_log
        self._responses = accounts.tally(RESPONSES)
        self._bytes = accounts.tally(RESPONSE_BYTES)
        self._accepted = accounts.tally(CONNECTIONS_TOTAL)
        self.client_timeouts = accounts.tally(CLIENT_TIMEOUTS)
        self.limits_reached = accounts.tally(LIMITS_REACHED)
        self._refused = accounts.tally(REFUSED)
        self._broken = accounts.tally(BROKEN)
        accounts.read(CONNECTIONS, lambda: [((), len(self.connections))])
        accounts.read(RESPONSES, lambda: [(("hot",), sum(lane.hits for lane in hot.lanes()))])
        accounts.read(RESPONSE_BYTES, lambda: [((), sum(lane.hit_bytes for lane in hot.lanes()))])

    def at_work(self, answering: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a connection's answering as a task of this edge."""
        task = asyncio.get_running_loop().create_task(answering)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Drop every connection, and return once nothing works for any."""
        for connection in list(self.connections):
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.wheel.stop()

    def admit(self, connection: Connected) -> bool:
        """Take a new connection into the books, unless there are too many."""
        if len(self.connections) >= self.config.limits.connections:
            self._accepted.add("turned_away")
            self.limits_reached.add("connections")
            return False
        self._accepted.add("accepted")
        self.connections.add(connection)
        return True

    def leave(self, connection: Connected) -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        self.wheel.forget(connection)
        if not self.connections:
            self.empty.set()

    def answered(self, request: Request, answer: Answer, sent_bytes: int) -> None:
        """A response is out: count and log it."""
        self._responses.add(answer.outcome)
        self._bytes.add(n=sent_bytes)
        if self.access_log.enabled:
            status = answer.fields.get("cache-status") or ""
            self.access_log.write(self._record(request, answer.status, answer.outcome, sent_bytes, status))

    def _record(
        self, request: Request, status: int, outcome: Outcome, sent_bytes: int, cache_status: str
    ) -> AccessRecord:
        fields = request.head.fields
        return AccessRecord(
            time=self.clock.now(),
            peer=request.connection.peer,
            method=request.head.method,
            target=request.head.target,
            version=request.head.version,
            status=status,
            sent_bytes=sent_bytes,
            received_bytes=request.head_bytes + (request.body.size if request.body is not None else 0),
            duration_s=self.clock.monotonic() - request.started,
            outcome=outcome,
            host=request.target.host,
            referer=fields.get("referer") or "",
            user_agent=fields.get("user-agent") or "",
            cache_status=cache_status,
            site=request.site,
        )

    def hit(
        self, info: ConnectionInfo, site: str, fields: dict[bytes, bytes], target: bytes, status: int, sent_bytes: int
    ) -> None:
        """Log a hit from the hot table, which keeps its own count."""

        def text(name: bytes) -> str:
            return (fields.get(name) or fields.get(name.lower(), b"")).decode("latin-1")

        self.access_log.write(
            AccessRecord(
                time=self.clock.now(),
                peer=info.peer,
                method="GET",
                target=target.decode("latin-1"),
                version="1.1",
                status=status,
                sent_bytes=sent_bytes,
                received_bytes=sum([len(name) + len(value) + 4 for name, value in fields.items()]) + len(target),
                duration_s=0.0,
                outcome="hit",
                host=text(b"Host"),
                referer=text(b"Referer"),
                user_agent=text(b"User-Agent"),
                cache_status=f"{self.node}; hit",
                site=site,
            )
        )

    def refused(self, error: ClientError) -> None:
        """A message was refused before it became a request."""
        self._refused.add(str(error.status))
        self._responses.add(Outcome.REFUSED)

    def aborted(self, request: Request) -> None:
        """The client left before its answer was whole."""
        self._responses.add(Outcome.ABORTED)
        if self.access_log.enabled:
            self.access_log.write(self._record(request, 499, Outcome.ABORTED, 0, ""))

    def broken(self, error: BanishError) -> None:
        """A response could not be finished."""
        self._broken.add(error.code)
