"""A running admin listener to ask, with a purge service that purges nothing behind it."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from typer.testing import CliRunner, Result

from banish.admin.app import make_app
from banish.admin.polls import Polls
from banish.admin.server import AdminServer
from banish.cli.main import app
from banish.edge.receipts import Caller, Purge, PurgeRequest
from banish.purge.given import parse_targets
from banish.purge.stamps import Mode
from tests.unit.admin.purger import FakePurger
from tests.unit.admin.subject import FakeEdge

T = TypeVar("T")


class Listener:
    """An admin listener in a thread of its own; `edge` belongs to its event loop."""

    def __init__(self, edge: FakeEdge) -> None:
        self.edge = edge
        self.admin = ""
        self._loop = asyncio.new_event_loop()
        self._polls = Polls()
        self._server = AdminServer(
            make_app(edge, self._polls), socket.create_server(("127.0.0.1", 0)), ending=self._polls.end
        )
        self._thread = threading.Thread(target=self._loop.run_forever)

    def start(self) -> None:
        self._thread.start()
        self.run(self._server.start())
        self.admin = "{}:{}".format(*self._server.address)

    def stop(self) -> None:
        self.run(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives, in the listener's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    @property
    def purger(self) -> FakePurger:
        return self.edge.purger

    def purged(self, *targets: dict[str, Any], by: str = "deploy", mode: str = "hard", **how: Any) -> Purge:
        """A purge that somebody makes."""
        asked = PurgeRequest(targets=parse_targets(targets or [{"tag": "news"}]), mode=Mode(mode), **how)
        return self.run(self.purger.purge(asked, Caller(by, "192.0.2.7")))

    def invoke(self, *arguments: str, stdin: str | None = None) -> Result:
        """A command that asks this listener."""
        return invoke(*arguments, "--admin", self.admin, stdin=stdin)


def invoke(*arguments: str, stdin: str | None = None) -> Result:
    """A command, with what it says on both streams and its exit code."""
    runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "TZ": "UTC"})
    return runner.invoke(app, arguments, input=stdin)


@contextlib.contextmanager
def listening(edge: FakeEdge | None = None) -> Iterator[Listener]:
    """A listener while it is needed."""
    listener = Listener(edge if edge is not None else FakeEdge())
    listener.start()
    try:
        yield listener
    finally:
        listener.stop()
