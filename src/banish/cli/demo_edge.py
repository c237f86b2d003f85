"""The demo's edge: as `banish serve --origin … --data …` would start it, with its admin listener, on ports of its own.

It can stop and start again on the same ports and the same data directory.

Not here: the walk through (`demo.py`), the origin (`demo_site.py`).
"""

import socket
from types import TracebackType
from typing import Any

from banish.admin.app import make_app
from banish.admin.polls import Polls
from banish.admin.server import AdminServer
from banish.edge.config import load
from banish.edge.logs import configure_logging
from banish.proxy.serve import Edge


class DemoEdge:
    """An edge before the origin at `origin_url`, for the length of an `async with`. Port 0: whichever is free."""

    def __init__(self, origin_url: str, data: str, port: int = 0, *, node: str = "banish") -> None:
        self.port = port
        self.admin_port = 0
        self.settings: dict[str, Any] = {}
        """Further settings, for the next start."""
        self._node = node
        self._origin_url = origin_url
        self._data = data
        self._edge: Edge | None = None
        self._admin: AdminServer | None = None

    @property
    def url(self) -> str:
        """Where clients ask, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        """Where operators ask."""
        return f"http://127.0.0.1:{self.admin_port}"

    async def start(self) -> None:
        """Serve what the data directory holds; on the ports of before if it was ever started. Raises OSError."""
        config = load(
            flags={
                "origin": self._origin_url,
                "listen": f"127.0.0.1:{self.port}",
                "admin.listen": "off",  # it is opened here, to be told its port
                "data": self._data,
                "log.access": "off",
                "log.level": "error",
                "node": self._node,
                **self.settings,
            }
        )
        configure_logging(config.log)
        self._edge = Edge(config)
        await self._edge.start()
        self.port = self._edge.ports[0]
        listening = socket.create_server(("127.0.0.1", self.admin_port))
        polls = Polls()
        self._admin = AdminServer(make_app(self._edge, polls), listening, ending=polls.end)
        self.admin_port = self._admin.address[1]
        await self._admin.start()

    async def stop(self) -> None:
        """Stop as on SIGTERM. Safe when stopped already."""
        if self._admin is not None:
            await self._admin.stop()
        if self._edge is not None:
            await self._edge.stop()
        self._edge = self._admin = None

    async def __aenter__(self) -> "DemoEdge":
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
