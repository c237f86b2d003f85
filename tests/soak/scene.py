"""One run: a whole edge on real sockets, everybody at once, and nothing left over at the end.

All that is drawn is drawn from the seed, each part by itself: what a run is like (which faults, how little memory, how
soon stamps are forgotten), each client's visits, the hand that purges, and the origin (`origin.py`). What is left to
the machine is the order in which sockets become readable.
"""

import asyncio
import contextlib
import dataclasses
import gc
import itertools
import random
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import msgspec
import structlog.testing
import uvloop
from structlog.processors import format_exc_info

from banish.caching.policy import CachePolicy
from banish.edge.config import Config, Memory
from banish.edge.config import Purge as PurgeSettings
from banish.edge.receipts import Caller, Purge, PurgeRequest
from banish.errors import BanishError
from banish.proxy.hot import Choice
from banish.proxy.serve import Edge
from banish.purge.given import Given
from banish.purge.stamps import Mode
from banish.purge.targets import Kind, group_target, url_target
from banish.store.memory import ENTRY_OVERHEAD_BYTES
from tests.soak.clients import Habits, Visitor, draw_visit
from tests.soak.origin import Faults, SoakOrigin
from tests.soak.world import HOST, PAGES, World, in_group
from tests.support import configuration

RUN_S = 60.0
"""How long a run may take before it is said to hang."""
SETTLE_S = 10.0
"""How long what nobody waits for may take to end by itself."""
COLLECT_EVERY = 50
"""Turns of that wait between two runs of the cyclic collector."""
EVENTS = (
    "purge",
    "purge",
    "purge",
    "group",
    "soft",
    "move",
    "time",
    "time",
    "time",
    "sweep",
    "sweep",
    "reload",
    "ticks",
)


@dataclass
class Run:
    """What one run is like."""

    seed: int
    clients: int
    visits: int
    events: tuple[str, ...]
    memory: Memory
    stamp_age_s: float
    faults: Faults
    habits: Habits
    on_disk: bool
    world: World = field(init=False)
    purging: list[asyncio.Future[Purge]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world = World(self.seed)

    @property
    def may_be_cut(self) -> bool:
        """Whether the wheel of client deadlines is turned faster than time passes."""
        return "ticks" in self.events


def draw_run(seed: int, *, clients: int | None = None, visits: int | None = None) -> Run:
    """What this seed is about. Much is left out of any one run, so that what is in it happens often."""
    draw = random.Random(seed)
    kinds = {kind for kind in dict.fromkeys(EVENTS) if draw.random() < 0.6}
    faults = Faults(**{name: value * draw.choice([0, 1, 1, 3]) for name, value in dataclasses.asdict(Faults()).items()})
    habits = Habits(
        unsafe=draw.choice([0.0, 0.02, 0.06, 0.2]),
        head=draw.choice([0.0, 0.08, 0.2]),
        plain=draw.choice([0.2, 0.5, 0.9]),
        leave=draw.choice([0.0, 0.1, 0.3]),
        slow=draw.choice([0.0, 0.1, 0.3]),
        paths=tuple(draw.sample(list(PAGES), draw.choice([1, 2, 3, len(PAGES)]))),
    )
    return Run(
        seed,
        clients or draw.choice([3, 8, 16]),
        visits or draw.choice([10, 20]),
        tuple([event for event in EVENTS if event in kinds]) or ("purge",),
        Memory(
            budget_bytes=draw.choice([6_000, 20_000, 150_000, 8 << 20]),
            body_memory_bytes=draw.choice([4_096, 65_536, 1 << 20]),
            spool_bytes=draw.choice([0, 150_000, 700_000, 64 << 20]),
        ),
        draw.choice([0.0, 0.5, 5.0, 60.0]),
        faults,
        habits,
        draw.random() < 0.6,
    )


def soak(run: Run, *, loop: str = "uvloop") -> World:
    """Run it; what went wrong is in the world's `problems`."""
    world = run.world
    reports: list[dict[str, Any]] = []

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        await _play(run)
        for _ in range(5):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            world.problem(None, f"left running: {task}")

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with structlog.testing.capture_logs([format_exc_info]) as logs, asyncio.Runner(loop_factory=factory) as runner:
        runner.run(body())
    for report in reports:
        world.problem(None, f"unhandled: {report}")
    for entry in logs:
        if entry["log_level"] in ("error", "critical"):
            world.problem(None, f"logged: {entry}")
    return world


@contextlib.asynccontextmanager
async def _edge(run: Run, config: Config) -> AsyncIterator[Edge]:
    edge = Edge(config, run.world.clock)
    with mock.patch("banish.proxy.serve.freeze"):  # collects and freezes the heap: not once a run
        await edge.start()
    broken = edge._front.broken

    def note(error: BanishError) -> None:
        run.world.note(None, "edge", f"breaks off: {error!r} {error.__cause__!r}")
        broken(error)

    try:
        with mock.patch.object(edge._front, "broken", note):
            yield edge
    finally:
        await edge.stop()


async def _play(run: Run) -> None:
    with contextlib.ExitStack() as scratch:
        await _play_in(run, scratch)


async def _play_in(run: Run, scratch: contextlib.ExitStack) -> None:
    world = run.world
    async with SoakOrigin(world, run.faults) as origin:
        purge = PurgeSettings(stamp_min_age_s=run.stamp_age_s, undo_window_s=run.stamp_age_s)
        data = scratch.enter_context(tempfile.TemporaryDirectory()) if run.on_disk else None
        config = configuration(origin.url, memory=run.memory, purge=purge, data=data)
        async with _edge(run, config) as edge:
            visitors = [_visitor(run, edge, f"client {number}") for number in range(run.clients)]
            hand = asyncio.ensure_future(_hand(run, edge, config))
            try:
                async with asyncio.timeout(RUN_S):
                    await asyncio.gather(*[visitor.run() for visitor in visitors])
            except TimeoutError:
                world.problem(None, f"hangs: {_connections(edge)}")
            finally:
                hand.cancel()
                await asyncio.gather(hand, return_exceptions=True)
            await asyncio.gather(*run.purging)
            await _left_over(world, edge)


def _visitor(run: Run, edge: Edge, name: str) -> Visitor:
    draw = run.world.draw(name)
    visits = [draw_visit(draw, run.habits) for _ in range(run.visits)]
    return Visitor(run.world, name, ("127.0.0.1", edge.ports[0]), visits, run.may_be_cut)


# --- the hand


async def _hand(run: Run, edge: Edge, config: Config) -> None:
    """Purge, let time pass, change rules, until the clients are done."""
    draw = run.world.draw("hand")
    while True:
        await asyncio.sleep(draw.choice([0.0, draw.random() * 0.004, draw.random() * 0.03]))
        _happen(run, edge, config, draw)


def _happen(run: Run, edge: Edge, config: Config, draw: random.Random) -> None:
    """One event."""
    world, kind = run.world, draw.choice(run.events)
    path, group, number = draw.choice(run.habits.paths), draw.choice(["one", "two"]), draw.random()
    site = edge.config.sites[0].name
    match kind:
        case "purge" | "soft":
            mode = Mode.HARD if kind == "purge" else Mode.SOFT
            moved = world.move([path])
            if mode is Mode.HARD:
                edge.purger.invalidate([url_target(site, f"http://{HOST}{path}")])
            else:
                asked = PurgeRequest(targets=(Given(Kind.URL, f"http://{HOST}{path}"),), mode=Mode.SOFT)
                run.purging.append(asyncio.ensure_future(edge.purger.purge(asked, Caller("hand", "192.0.2.9"))))
            world.note(path, "hand", f"{mode} purge: {moved}, index {edge.stamps.index}")
            if mode is Mode.HARD:
                world.require(moved)
            edge._sweep_wanted.set()
        case "group":
            moved = world.move(in_group(group))
            edge.purger.invalidate([group_target(site, f"http://{HOST}", group)])
            world.note(None, "hand", f"purges group {group}: {moved}, index {edge.stamps.index}")
            world.require(moved)
        case "move":
            world.note(path, "hand", f"content changes: {world.move([path])}")
        case "time":
            world.clock.advance([0.25, 0.5, 1, 3, 30][int(number * 5)])
        case "sweep":
            edge.store.sweep(0.001, world.clock.monotonic)
        case "reload":
            world.note(None, "hand", "reloads")
            cache = CachePolicy(query_sort=number < 0.3, stale_if_error_s=None)
            edge.reload(msgspec.structs.replace(config, sites=(msgspec.structs.replace(config.sites[0], cache=cache),)))
        case _:
            world.note(None, "hand", "turns the wheel")
            for _ in range(int(number * 40)):
                edge._front.wheel.advance()


# --- what must be left over: nothing


async def _left_over(world: World, edge: Edge) -> None:
    """Once everybody has gone, whatever was under way ends by itself."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S):
            for turn in itertools.count(1):
                if not edge._front.connections and not _left(edge):
                    break
                if turn % COLLECT_EVERY == 0:  # a spool file may be held by a circle
                    gc.collect()
                await asyncio.sleep(0.002)
    for told in _connections(edge):
        world.problem(None, f"a connection is left: {told}")
    for fetch in edge._fetcher._running:
        world.problem(fetch.plan.target.path, f"a fetch is left: {fetch.outgoing}, owned {fetch.owned}")
    for what, left in _left(edge).items():
        world.problem(None, f"left over: {left} {what}")
    _check_books(world, edge)


def _connections(edge: Edge) -> list[dict[str, Any]]:
    names = ("_stage", "_holds", "_queue", "_ended", "_deaf")
    return [{name: getattr(connection, name) for name in names} for connection in edge._front.connections]


def _left(edge: Edge) -> dict[str, float]:
    """What is left over, by name: how much."""
    records = list(edge.store.memory.walk())
    stored_bytes = sum({id(record.body): record.body.spool_bytes for record in records}.values())
    found = {
        "fetches": len(edge._fetcher._running),
        "fetches to join": len(edge._fetcher._shared),
        "revalidations": len(edge._pipeline._behind),
        "origin connections taken": _count(edge, "banish_origin_connections", "taken"),
        "deadlines": sum(map(len, edge._front.wheel._slots)),
        "readers": sum(record.body.readers for record in records),
        "spool bytes": edge._spool.used_bytes - stored_bytes,
    }
    return {name: left for name, left in found.items() if left}


def _check_books(world: World, edge: Edge) -> None:
    """The store's books are right, and the hot table leads nowhere else."""
    records = list(edge.store.memory.walk())
    for name, tier in (("memory", edge.store.memory._in_memory), ("spool", edge.store.memory._in_spool)):
        held = [record for record in records if edge.store.memory._tier(record) is tier]
        weights = [record.memory_bytes() + record.body.spool_bytes + ENTRY_OVERHEAD_BYTES for record in held]
        if sum(weights) != tier.used or len(held) != len(tier):
            world.problem(None, f"{name}: {len(tier)} records of {tier.used} bytes, but held {weights}")
    for response in edge.hot._responses.values():
        if response.record not in edge.store.memory:
            world.problem(None, f"the hot table knows {response.record.meta.key}, which is not stored")
    for lane in edge.hot.lanes():
        for place, found in lane.routes.items():
            leads = found.variants.values() if isinstance(found, Choice) else [found]
            if any(edge.hot._responses.get(id(response.record)) is not response for response in leads):
                world.problem(None, f"a hot route leads nowhere: {place}")


def _count(edge: Edge, metric: str, *labels: str) -> float:
    return next((samples.get(labels, 0) for row, samples in edge.accounts.collect() if row.name == metric), 0)
