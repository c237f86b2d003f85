"""An edge from start to end, as a process: signals, the admin listener beside it, what is said at start.

    SIGTERM, SIGINT   drain: take no new connections, let requests end, then go. A second one cuts them
    SIGHUP            read the configuration again and reopen the logs

A configuration that does not read, or whose hooks do not load, is refused with its problems in the log; the
edge goes on with the one it has. Settings that a reload cannot change keep their values until a restart, and
every reload names those that differ. While draining, /readyz says so until the end.

Not here: the edge itself (`proxy/serve.py`), options and exit codes (`main.py`).
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog
import uvloop

from banish.admin.app import make_app
from banish.admin.polls import Polls
from banish.admin.server import AdminServer
from banish.cli.descriptors import raise_limit
from banish.edge.config import Admin, Config, in_force, needs_restart
from banish.edge.datadir import LOG_NAME
from banish.edge.logs import configure_logging
from banish.edge.units import parse_address
from banish.errors import ConfigError, LogDamaged
from banish.proxy.serve import Edge, State
from banish.store.log import set_aside

log = structlog.get_logger(__name__)


def run(config: Config, *, reload: Callable[[], Config], started: Callable[[Edge], None]) -> int:
    """Serve until told to stop; the exit code. `started` is called once connections are taken.

    Raises ConfigError or OSError if the edge cannot start.
    """
    configure_logging(config.log)
    raise_limit(config)
    return uvloop.run(_serve(config, reload, started))


async def _serve(config: Config, reload: Callable[[], Config], started: Callable[[Edge], None]) -> int:
    listening = _bind(config.admin)
    edge = _open(config)
    stop, cut = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: cut.set() if stop.is_set() else stop.set())
    loop.add_signal_handler(signal.SIGHUP, _reload, edge, reload)
    await edge.start()
    try:
        async with _admin(edge, listening):
            started(edge)
            await stop.wait()
            await _drain(edge, cut)
    finally:
        if edge.state == State.SERVING:
            await edge.stop()
    log.info("stopped")
    return 0


def _open(config: Config) -> Edge:
    """The edge over its data directory. A log of purges that cannot be read is set aside, and the store is emptied."""
    try:
        return Edge(config)
    except LogDamaged as error:
        if config.data is None:
            raise
        aside = set_aside(Path(config.data) / LOG_NAME)
        log.error(
            "the purge log is damaged: it is set aside, and the store is emptied", kept=aside.name, error=str(error)
        )
        return Edge(config)


def _bind(admin: Admin) -> socket.socket | None:
    if admin.listen == "off":
        return None
    host, port = parse_address(admin.listen)
    family = socket.AF_INET6 if ":" in (host or "") else socket.AF_INET
    return socket.create_server((host or "", port), family=family)


@contextlib.asynccontextmanager
async def _admin(edge: Edge, listening: socket.socket | None) -> AsyncIterator[None]:
    """The admin listener, up to the very end: it tells that the edge is draining."""
    if listening is None:
        yield
        return
    polls = Polls()
    server = AdminServer(make_app(edge, polls), listening, ending=polls.end)
    await server.start()
    try:
        yield
    finally:
        await server.stop()


async def _drain(edge: Edge, cut: asyncio.Event) -> None:
    """Let requests end; a second signal makes an end of it."""
    drain = asyncio.create_task(edge.stop(drain_s=edge.config.timeouts.drain_s))
    impatient = asyncio.create_task(cut.wait())
    await asyncio.wait({drain, impatient}, return_when=asyncio.FIRST_COMPLETED)
    impatient.cancel()
    if drain.done():
        drain.result()
        return
    log.warning("cut short")
    drain.cancel()
    await asyncio.wait({drain})
    await edge.stop()


def _reload(edge: Edge, read: Callable[[], Config]) -> None:
    former = edge.config
    try:
        wanted = read()
        config = in_force(former, wanted)
        edge.reload(config)
    except ConfigError as error:
        for problem in error.problems:
            log.error("configuration refused; the former stays in force", problem=str(problem))
        edge.access_log.reopen()
        return
    configure_logging(config.log)
    log.info("configuration in force", sites=[site.name for site in config.sites])
    if stuck := needs_restart(former, wanted):
        log.warning("changed, but needs a restart", settings=stuck)
