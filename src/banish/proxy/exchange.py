"""What passes between a connection and the pipeline: one request in, one answer out.

Not here: reading and writing them on a socket (`connection.py`), deciding the answer (`pipeline.py`).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import NamedTuple

from banish.caching.cache_status import Outcome
from banish.edge.tiering import Child
from banish.errors import BanishError
from banish.http.fields import Fields
from banish.http.messages import RequestHead, ResponseHead
from banish.http.targets import Target
from banish.origin.client import Tunnel
from banish.store.bodies import BodyReader

BODY_WINDOW_BYTES = 65536
"""How much of a request body waits here before the client is told to pause (TCP back-pressure)."""


class ConnectionInfo(NamedTuple):
    """What is known of a client connection. Handed in, so that a proxy in front can speak for the socket.

    `local` is the address connected to, as a Host. `https_port` is set where the listener sends every request
    to https: the port to go to.
    """

    peer: str
    scheme: str
    listener: str
    local: str = ""
    https_port: int | None = None


class RequestBody:
    """The bytes of a request body between the parser that finds them and the pipeline that reads them.

    `length` is its announced size, None if only its end will tell. `wanted` is called at the first read: that is
    when `100 Continue` is due (RFC 9110 section 10.1.1).
    `pause` and `resume` stop and restart reading from the client.
    """

    __slots__ = (
        "_chunks",
        "_error",
        "_held",
        "_pause",
        "_paused",
        "_resume",
        "_waiter",
        "_wanted",
        "ended",
        "length",
        "size",
        "trailers",
    )

    def __init__(
        self,
        pause: Callable[[], None],
        resume: Callable[[], None],
        wanted: Callable[[], None],
        *,
        length: int | None = None,
    ) -> None:
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._pause, self._resume, self._wanted = pause, resume, wanted
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._error: BanishError | None = None
        self.length = length
        self.ended = False
        self.size = 0
        self.trailers = Fields()

    def feed(self, chunk: bytes) -> None:
        """Take a chunk from the parser."""
        self._chunks.append(chunk)
        self._held += len(chunk)
        self.size += len(chunk)
        if self._held > BODY_WINDOW_BYTES and not self._paused:
            self._paused = True
            self._pause()
        self._wake()

    def end(self, trailers: Fields) -> None:
        """The body is whole."""
        self.trailers = trailers
        self.ended = True
        self._let_go()
        self._wake()

    def fail(self, error: BanishError) -> None:
        """The rest will not come."""
        if not self.ended:
            self._error = error
            self._let_go()
            self._wake()

    def _let_go(self) -> None:
        """Nothing more of it will come: what comes next is not to be held back for it, even if nobody reads it."""
        if self._paused:
            self._paused = False
            self._resume()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._wanted()
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._held -= len(chunk)
                if self._paused and self._held <= BODY_WINDOW_BYTES // 2:
                    self._paused = False
                    self._resume()
                yield chunk
            if self._error is not None:
                raise self._error
            if self.ended:
                return
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


class Request:
    """One request whose head has been accepted.

    `arrived_index` is the apply index when the head was parsed: the answer rule compares it with fences
    (a response may answer only if no hard purge that matches it lies between its fence and this index). `site` is
    the name of the site that serves it, once known. `child` is the edge that sends it, if one has proved that it does.
    """

    __slots__ = (
        "arrived_at",
        "arrived_index",
        "body",
        "child",
        "connection",
        "head",
        "head_bytes",
        "interim",
        "raw_host",
        "raw_target",
        "site",
        "started",
        "target",
        "upgrade",
    )

    def __init__(
        self,
        head: RequestHead,
        target: Target,
        connection: ConnectionInfo,
        *,
        arrived_at: float,
        started: float,
        arrived_index: int,
        body: RequestBody | None = None,
        upgrade: bool = False,
        raw_target: bytes = b"",
        raw_host: bytes = b"",
        head_bytes: int = 0,
        interim: Callable[[ResponseHead], None] = lambda head: None,
    ) -> None:
        self.head = head
        self.target = target
        self.connection = connection
        self.arrived_at = arrived_at
        self.started = started
        self.arrived_index = arrived_index
        self.body = body
        self.upgrade = upgrade
        self.raw_target = raw_target
        self.raw_host = raw_host
        self.head_bytes = head_bytes
        self.interim = interim
        self.site = ""
        self.child: Child | None = None

    def repeated(self) -> "Request":
        """The same request once more, by the edge itself: no body, nobody to hear of interim responses."""
        return Request(
            self.head, self.target, self.connection,
            arrived_at=self.arrived_at, started=self.started, arrived_index=self.arrived_index,
        )  # fmt: skip


@dataclass(slots=True)
class Answer:
    """A response ready for a client: end-to-end fields, and where the bytes come from.

    `length` is the body's size in bytes, None if only its end will tell. A response to HEAD and a 304 have a
    body of None, whatever their Content-Length says. `first` are the first bytes of a body that streams, if they
    are here already.
    """

    status: int
    fields: Fields
    outcome: Outcome
    reason: str = ""
    body: bytes | BodyReader | None = None
    first: bytes | None = None
    length: int | None = None
    close: bool = False
    """Whether the connection must not be used again."""
    tunnel: Tunnel | None = None
    trailers: Callable[[], Fields] | None = None

    def close_body(self) -> None:
        """Want no more of the body. A fetch that nobody reads stops, unless it is worth keeping."""
        if isinstance(self.body, BodyReader):
            self.body.close()
