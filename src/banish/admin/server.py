"""The admin listener's server: uvicorn, as a task in the edge's own event loop.

uvicorn takes over signals and prints its own start; an edge does both itself, so both are switched off here.
h11 reads its requests: it takes methods that the faster parser does not know, and speed does not matter here.

Not here: what is answered (`app.py`).
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from banish.edge.progress import WAITERS_MAX

CONNECTIONS_MAX = WAITERS_MAX + 256
"""Past it 503. More than may wait in long polls: those who scrape metrics or ask for health get in beside them."""

PROXIES = ["127.0.0.1", "::1"]
"""Who may say in X-Forwarded-For for whom it asks: what ends TLS in front of this listener. It is for the history
alone; nobody is let in because of an address.
"""

STOP_S = 2
"""How long answers under way may take to end when the edge stops."""


class AdminServer:
    """Serves `app` on a socket that is bound and not yet listening. `start` returns once connections are
    taken. `ending` is called before `stop` waits for answers under way: it should bring long ones to their end.
    """

    def __init__(self, app: ASGIApp, listening: socket.socket, *, ending: Callable[[], object] = lambda: None) -> None:
        self._socket = listening
        self._ending = ending
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS_MAX,
            proxy_headers=True,
            forwarded_allow_ips=PROXIES,
            timeout_graceful_shutdown=STOP_S,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; the port is the one in use, if 0 was asked for."""
        host, port, *_ = self._socket.getsockname()
        return host, port

    async def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="admin")
        up = asyncio.create_task(self._server.up.wait())
        await asyncio.wait({up, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not up.done():
            up.cancel()
            await self._task  # it ended before it served: raise why

    async def stop(self) -> None:
        """Take no more connections and wait for the answers under way."""
        if self._task is not None:
            self._ending()
            self._server.should_exit = True
            await self._task
            self._task = None


class _Server(uvicorn.Server):
    """uvicorn without its hands on the process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()
