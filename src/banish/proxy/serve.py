"""An edge at work: its parts put together, its listeners, its start and its end.

    start ──▶ serving ──▶ draining ──▶ stopped
      │          └─ reload: new sites and hooks, the hot table emptied; listeners, store and sizes stay
      └─ the data directory is opened, and the purges that are not swept yet are in effect before anything is served

Not here: signals and the admin listener (`cli/`).
"""

import asyncio
import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog

from banish.caching.policy import DEFAULT_POLICY, CachePolicy
from banish.clock import Clock, SystemClock
from banish.edge.collector import Pauses, freeze
from banish.edge.config import Config, Listener
from banish.edge.datadir import open_data
from banish.edge.logs import AccessLog
from banish.edge.meshing import Mesh
from banish.edge.purging import Purger
from banish.edge.runtime import Runtimes
from banish.edge.sites import Sites
from banish.edge.tiering import Tiers
from banish.http.targets import Target
from banish.mesh.directory import MeshDirectory
from banish.mesh.lease import Lease
from banish.mesh.members import Member
from banish.mesh.transport import Transport
from banish.proxy.children import Children
from banish.proxy.connection import ClientConnection
from banish.proxy.fetches import Fetcher
from banish.proxy.front import Front
from banish.proxy.hot import HotTable
from banish.proxy.pipeline import Pipeline
from banish.proxy.taking import Taker
from banish.proxy.tls import Certificates
from banish.proxy.upstream import Upstream
from banish.purge.stamps import PurgeTable
from banish.purge.targets import everything_target
from banish.store.bodies import Body, BodyLimits
from banish.store.spool import SpoolBudget
from banish.store.tiers import Store
from banish.tables import Accounts

BACKLOG = 4096
"""Connections the kernel may hold for us; it takes its own bound (net.core.somaxconn) if that is less."""
SWEEP_BUDGET_S = 0.001
"""What one slice of a sweep may take from requests."""
SWEEP_REST_S = 0.009
"""What requests get between two slices: sweeping takes a tenth of the event loop at most."""
SWEEP_LOOK_S = 0.05
"""How often it is looked whether a sweep that rests, or cannot go on, may now."""
SETTLE_S = 5.0
"""How long large bodies on their way to disk may hold up the end of the edge."""
SWEEP_EVERY_S = 1.0
"""How often stamps old enough are looked for when nothing else wakes the sweeper."""
DROP_SLICE = 256
"""Records looked at between two turns of the event loop when a reload has changed the rules."""
RETIRED_S = 3600.0
"""How long the origins of a former configuration stay open for requests that began under it."""

log = structlog.get_logger(__name__)


class State(StrEnum):
    """Where in its life an edge is."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"


class Edge:
    """One running edge. Belongs to the event loop that starts it.

    Making it opens its data directory, and blocks. Raises ConfigError if that is in use, LogUnwritable or StoreError if
    it cannot be used.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock | None = None,
        *,
        make_transport: Callable[[Member], Transport] | None = None,
    ) -> None:
        """`make_transport`: what links this edge with others, if not zenoh."""
        self.config = config
        self.clock = clock or SystemClock()
        self.accounts = Accounts()
        self.state = State.STARTING
        self.stamps = PurgeTable(self.accounts)
        self._scratch, self._owns_scratch = _scratch_directory(config)
        self._spool = SpoolBudget(self._scratch, config.memory.spool_bytes, accounts=self.accounts)
        self.lease = Lease(self.clock.boottime, self.clock.now)
        self.lease.on_change = lambda past: self.hot.renew_heads()
        self.tiers = Tiers(config.tier, clock=self.clock, accounts=self.accounts)
        self.hot = HotTable(
            self.stamps,
            self.clock,
            node=config.node,
            lease=self.lease,
            make_head=lambda record, now, status: self._pipeline.hot_head(record, now, status),
            weighed=lambda record, n_bytes: self.store.reweigh(record, n_bytes),
            touch=lambda record, hits: self.store.touch(record, hits),
        )
        self._bound_hot_table()
        self.data = open_data(config, table=self.stamps, clock=self.clock, accounts=self.accounts)
        self.store = Store(
            memory_bytes=config.memory.budget_bytes,
            disk=self.data.disk,
            table=self.stamps,
            clock=self.clock,
            accounts=self.accounts,
            spool=self._spool,
            on_removed=lambda record, reason: self.hot.unpublish(record),
            on_rivalled=self.hot.unpublish,
            stamp_min_age_s=config.purge.stamp_min_age_s,
            undo_window_s=config.purge.undo_window_s,
        )
        self._sweep_wanted = asyncio.Event()
        self.purger = Purger(
            table=self.stamps,
            log=self.data.log,
            identity=self.data.identity,
            store=self.store,
            policy_of=self._policy_of,
            settings=config.purge,
            rules=lambda: self._pipeline.runtimes,
            invalidates_all=lambda name: (site := self.sites.named(name)) is not None and site.invalidates_all,
            clock=self.clock,
            accounts=self.accounts,
            on_passing=self._pass,
        )
        self.mesh: Mesh | None = None
        self._outcast = False
        self._pass(self.purger.passing)
        self.store.on_matched = self.purger.matched
        self.store.on_swept = self.purger.swept
        self.store.on_applied = self._sweep_wanted.set
        self._fetcher = Fetcher(
            store=self.store,
            stamps=self.stamps,
            clock=self.clock,
            taker=Taker(
                store=self.store,
                stamps=self.stamps,
                clock=self.clock,
                node=config.node,
                invalidate=self.purger.invalidate,
                site_of=lambda host: self._pipeline.runtimes.match(host),
            ),
            make_body=self._make_body,
            upstream=Upstream(tiers=self.tiers, stamps=self.stamps, clock=self.clock, purge_id=self.purger.why),
            node=config.node,
            accounts=self.accounts,
        )
        self._pipeline = Pipeline(
            runtimes=self._runtimes(config),
            store=self.store,
            stamps=self.stamps,
            fetcher=self._fetcher,
            hot=self.hot,
            clock=self.clock,
            node=config.node,
            purge_id=self.purger.why,
            passing=lambda: self.passing,
            children=Children(self.tiers, index=lambda: self.stamps.index, clock=self.clock),
            lease=self.lease,
        )
        try:
            self.purger.recover()
            self.mesh = self._join_mesh(make_transport)
        except BaseException:
            self.data.close()
            raise
        self.access_log = AccessLog(config.log, self.accounts)
        self._front = Front(
            config,
            pipeline=self._pipeline,
            hot=self.hot,
            stamps=self.stamps,
            clock=self.clock,
            accounts=self.accounts,
            access_log=self.access_log,
        )
        self._pauses = Pauses(self.accounts)
        self._servers: list[asyncio.Server] = []
        self._certificates: list[Certificates] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._retired: list[Runtimes] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def passing(self) -> bool:
        """Nothing is answered from what is stored, nor stored."""
        return self.purger.passing or self._outcast

    @property
    def sites(self) -> Sites:
        """The sites of the configuration in force."""
        return self._pipeline.runtimes.sites

    @property
    def ports(self) -> list[int]:
        """The ports listened on, in the order of the configuration."""
        return [int(socket.getsockname()[1]) for server in self._servers for socket in server.sockets[:1]]

    async def start(self) -> None:
        """Open the listeners and serve. Raises OSError if an address cannot be had, ConfigError for TLS files."""
        self.access_log.start()
        self._front.wheel.start()
        try:
            await self.purger.start()
            if self.mesh is not None:
                await self.mesh.start()
        except BaseException:
            await self.stop()
            raise
        if self.mesh is None and any(site.config.parent for site in self.sites.all):
            log.warning("this edge belongs to no mesh: no parent is asked, but the origin")
        if self.access_log.enabled:
            self.hot.log = self._front.hit
        try:
            await self._open_listeners()
        except BaseException:
            await self.stop()
            raise
        loop = asyncio.get_running_loop()
        self._sweeper = loop.create_task(self._sweep())
        self._keeper = loop.create_task(self.purger.run())
        self._keep_in_force()
        if self.store.disk is not None:
            self.store.disk.start()
        self._pauses.start()
        freeze()
        self.state = State.SERVING

    async def _open_listeners(self) -> None:
        """Those with TLS first: plain ones may send clients to the first of them."""
        servers: dict[int, asyncio.Server] = {}
        https_port = 443
        for at, listener in sorted(enumerate(self.config.listen), key=lambda place: not place[1].tls):
            servers[at] = await self._listen(listener, https_port if listener.redirect_to_https else None)
            self._servers = [server for _, server in sorted(servers.items())]
            if listener.tls and len(servers) == 1:
                https_port = int(servers[at].sockets[0].getsockname()[1])

    async def _listen(self, listener: Listener, https_port: int | None) -> asyncio.Server:
        host, _, port = listener.address.rpartition(":")
        scheme = "https" if listener.tls else "http"
        name = f"{scheme}://{listener.address}"
        context = None
        if listener.tls:
            certificates = Certificates(listener.tls)
            self._certificates.append(certificates)
            context = certificates.context
        return await asyncio.get_running_loop().create_server(
            lambda: ClientConnection(self._front, name, scheme, https_port=https_port),
            host.strip("[]") or None,
            int(port),
            ssl=context,
            ssl_handshake_timeout=self.config.timeouts.handshake_s if listener.tls else None,
            backlog=BACKLOG,
        )

    def reload(self, config: Config) -> None:
        """Put a new configuration in force: sites, rules, hooks, limits, waits; and read certificates anew. Raises
        ConfigError, and then the former goes on."""
        renewed = [certificates.read() for certificates in self._certificates]
        runtimes = self._runtimes(config)
        for certificates, read in zip(self._certificates, renewed, strict=True):
            certificates.use(read)
        former, self._pipeline.runtimes = self._pipeline.runtimes, runtimes
        self.config = self._front.config = config
        self.tiers.settings = config.tier
        self.hot.clear()
        self._bound_hot_table()
        self.access_log.reopen()
        self._retired.append(former)
        asyncio.get_running_loop().call_later(RETIRED_S, self._close_retired, former)
        self._forget_former_rules(former)
        self._keep_in_force()
        self._background(self._drop_strangers())
        if self.mesh is not None:
            self.mesh.reload()

    async def stop(self, *, drain_s: float = 0.0) -> None:
        """Take no new connections, let what is under way end within `drain_s` seconds, then close everything."""
        self.state = State.DRAINING
        self._front.draining = True
        for server in self._servers:
            server.close()
        if drain_s:
            log.info("draining", for_s=drain_s)
        for connection in list(self._front.connections):
            connection.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while self._front.connections:
                    self._front.empty.clear()
                    await self._front.empty.wait()
        await self._front.stop()
        await self._fetcher.stop()
        for runtimes in (*self._retired, self._pipeline.runtimes):
            await runtimes.close()
        for task in (*self._tasks, self._sweeper, self._keeper):
            if task is not None:
                task.cancel()
        self._pauses.stop()
        self.access_log.close()
        if self.mesh is not None:
            await self.mesh.stop()
        await self._close_data()
        self._spool.close()
        if self._owns_scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
        self.state = State.STOPPED

    # --- what the parts need of each other

    def _runtimes(self, config: Config) -> Runtimes:
        return Runtimes(config, accounts=self.accounts, clock=self.clock)

    def _close_retired(self, runtimes: Runtimes) -> None:
        self._retired.remove(runtimes)
        self._background(runtimes.close())

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _pass(self, passing: bool) -> None:
        """Answer nothing from what is stored, and store nothing; or do so again (PURGE rule 12)."""
        self.store.passing = self.hot.closed = passing or self._outcast
        self.hot.clear()

    def _cast_out(self) -> None:
        """Pass for good: the mesh has forgotten this edge, or another process has its id."""
        self._outcast = True
        self._pass(True)

    def _join_mesh(self, make_transport: Callable[[Member], Transport] | None) -> Mesh | None:
        """This edge's part in the mesh that its data directory names; None if it names none."""
        directory = MeshDirectory(Path(self.config.data)) if self.config.data is not None else None
        if directory is None or not directory.exists:
            return None
        mesh = Mesh(
            directory=directory,
            identity=self.data.identity,
            purger=self.purger,
            purge_log=self.data.log,
            floor=self.stamps.floor,
            settings=self.config.mesh,
            lease=self.lease,
            clock=self.clock,
            accounts=self.accounts,
            make_transport=make_transport
            or functools.partial(_zenoh, directory, self.config.mesh.reach, self._forgotten, self.accounts),
            on_outcast=self._cast_out,
            copies=self.config.purge.copies,
            copies_wait_s=self.config.purge.copies_wait_s,
            store=self.store,
            index=lambda: self.stamps.index,
        )
        self.purger.peers = mesh
        self.tiers.tier = mesh
        return mesh

    def _forgotten(self) -> Iterable[str]:
        """Ids of edges that belong to the mesh no more."""
        return self.mesh.members.forgotten if self.mesh is not None else ()

    async def _close_data(self) -> None:
        """Keep what is on its way to disk, if that does not take long; then close the data directory."""
        if self.store.disk is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await self.store.disk.settled()
        await asyncio.get_running_loop().run_in_executor(None, self.data.close)

    def _keep_in_force(self) -> None:
        """Let the disk drop what belongs to no site under its present rules."""
        if self.store.disk is not None:
            self.store.disk.in_force([site.key_name for site in self.sites.all])

    def _forget_former_rules(self, former: Runtimes) -> None:
        """Purge what was fetched under key rules that are no longer in force. Should they come back by another reload,
        nothing of then may be found again: purges meanwhile were not spelt by them."""
        in_force = {site.key_name for site in self.sites.all}
        gone = dict.fromkeys([site.name for site in former.sites.all if site.key_name not in in_force])
        if gone:
            self.purger.invalidate([everything_target(name) for name in gone], here_only=True)

    def _policy_of(self, target: Target) -> CachePolicy:
        """The caching policy that requests for this target come under: purges by URL are spelt as requests are."""
        site = self.sites.match(target.host)
        return site.policy(target.path) if site is not None else DEFAULT_POLICY

    async def _drop_strangers(self) -> None:
        """Delete what was stored under rules that are no longer in force: nothing finds it any more."""
        for at, (_, record) in enumerate(self.store.walk_from(0)):
            if at % DROP_SLICE == 0:
                await asyncio.sleep(0)
                in_force = tuple([site.key_name for site in self.sites.all])
            if not record.meta.key.startswith(in_force):
                self.store.memory.remove(record)

    def _make_body(self, kept: bool, abandoned: Callable[[], None]) -> Body:
        limits = BodyLimits(memory_bytes_max=self.config.memory.body_memory_bytes)
        return Body.filling(self._spool, kept=kept, limits=limits, on_abandoned=abandoned)

    def _bound_hot_table(self) -> None:
        limits = self.config.limits
        self.hot.bound(head_bytes_max=limits.request_head_bytes, fields_max=limits.request_fields)

    async def _sweep(self) -> None:
        """Delete what purges have killed, a slice at a time, between requests."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_EVERY_S):
                    await self._sweep_wanted.wait()
            self._sweep_wanted.clear()
            try:
                while (pause_s := self._sweep_some()) is not None:  # noqa: ASYNC110
                    await asyncio.sleep(pause_s)  # not a wait: requests get their turn
            except Exception:
                log.exception("the sweep failed at something; it goes on")
                await asyncio.sleep(SWEEP_EVERY_S)

    def _sweep_some(self) -> float | None:
        """Sweep a slice; after how long to go on, None: nothing is left."""
        began = self.clock.monotonic()
        if self.store.sweep(SWEEP_BUDGET_S, self.clock.monotonic):
            return None
        return SWEEP_REST_S if self.clock.monotonic() - began >= SWEEP_BUDGET_S else SWEEP_LOOK_S


def _zenoh(
    directory: MeshDirectory,
    reach: Sequence[str],
    forgotten: Callable[[], Iterable[str]],
    accounts: Accounts,
    me: Member,
) -> Transport:
    from banish.mesh.zenoh_transport import ZenohTransport  # only where there is a mesh: it takes memory

    settings = directory.settings()
    ways: dict[str, tuple[str, ...]] = {}
    for text in reach:
        name, _, endpoint = text.partition("=")
        ways[name] = (*ways.get(name, ()), endpoint)
    return ZenohTransport(
        me,
        topology=settings.topology,
        credentials=directory.credentials_of(settings),
        listen=settings.listen,
        reach=ways,
        forgotten=forgotten,
        accounts=accounts,
    )


def _scratch_directory(config: Config) -> tuple[Path, bool]:
    """Where spool files go, and whether it is ours to remove."""
    if config.data is None:
        return Path(tempfile.mkdtemp(prefix="banish-")), True
    directory = Path(config.data) / "spool"
    directory.mkdir(parents=True, exist_ok=True)
    return directory, False
