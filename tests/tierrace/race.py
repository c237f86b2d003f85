"""Races: a child, its parents, clients, an origin whose content changes, purges anywhere, news that is late or lost.

    client ─▶ kyoto ─▶ delhi ─▶ paris ─▶ origin        every arrow is a gate that a step opens:
                 └────▶ quito ───────────▶ origin        request and response apart, and so the origin's head and body
    lima: publishes purges, and has no part in requests

Edges, proofs and heads are real (`tests/tiering.py`), and in some worlds the core of the mesh is too (`core.py`). A
race is a page of its own, with tags of its own, so that many can be run on the same edges. Judged are

- every answer: no hard purge that matches it was in effect at the edge before the request arrived there, unless the
  content was read at the origin after the change that the purge tells of;
- every stored response, at the end: the same for purges of either mode up to its fence.

Not here: how many, and from which seeds (`run.py`).
"""

import asyncio
import contextlib
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import msgspec
import structlog.testing

from banish.edge.tiering import Asking, Child, Tiers
from banish.errors import ConnectFailed
from banish.http.fields import Fields
from banish.http.messages import RequestHead
from banish.mesh.frontier import Marks
from banish.mesh.tiers import FIELD_LOWER, Worth
from banish.purge.names import Names
from banish.purge.positions import Position
from banish.purge.targets import Target, matches, prefix_target, tag_target
from tests.byhand import HOST, SITE, ByHand, Exchange, Whole
from tests.tiering import FakeMesh, FakeTier, Way, edge_of, join
from tests.tierrace.core import CoreMesh, CoreTier

NAMES = ("paris", "quito", "delhi", "kyoto", "lima")
CORE_EVERY = 4
"""In one of so many worlds edges know of each other what the real core tells them; in the others anything may be."""
RACES_PER_WORLD = 50
"""Races on the same edges before others take their place."""
STEPS = (6, 30)
"""Of one race, at least and at most."""
CONTROLS = (
    "max-age=600",
    "max-age=600",
    "max-age=2",
    "max-age=2, stale-while-revalidate=600",
    "max-age=600, must-revalidate",
    "max-age=2, stale-if-error=600",
)


@dataclass
class Change:
    """The page as it is at the origin from some moment on."""

    version: int
    tags: tuple[str, ...]
    control: str


@dataclass
class Purge:
    """A purge of this race's page. `version` is the oldest that is not what it was made for."""

    position: Position
    target: Target
    hard: bool
    version: int


@dataclass
class Asked:
    """A client's request. `known` are the hard purges in effect at the edge when it arrived."""

    edge: ByHand
    known: list[Purge]
    task: "asyncio.Task[Whole]"


@dataclass
class Race:
    """One page and all that happens about it."""

    number: int
    changes: list[Change] = field(default_factory=list)
    purges: list[Purge] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"/r/{self.number}/page"


class Stale(AssertionError):
    """Something older than a purge came back."""


class World:
    """Edges, and races on them one after the other."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.mesh = FakeMesh() if seed % CORE_EVERY else CoreMesh(NAMES, self.random)
        self.mesh.random = self.random
        middle = self.random.random() < 0.4
        site: dict[str, Any] = {"on_partition": self.random.choice(("serve", "revalidate", "bypass"))}
        self.top, self.other = edge_of(self.mesh, "paris", **site), edge_of(self.mesh, "quito", **site)
        self.edges = [self.top, self.other]
        nearest = [self.top, self.other]
        if middle:
            delhi = edge_of(self.mesh, "delhi", parents=["paris"], **site)
            self.edges.append(delhi)
            nearest = [delhi, self.other]
        if self.random.random() < 0.4:
            nearest.pop()
        self.child = edge_of(self.mesh, "kyoto", parents=[edge.node for edge in nearest], **site)
        self.lima = edge_of(self.mesh, "lima")
        self.edges.append(self.child)
        self.publishers = [*self.edges, self.lima]
        self.ways: list[Way] = [join(self.child, edge) for edge in nearest]
        if middle:
            self.ways.append(join(self.edges[2], self.top))
        self.gates: list[tuple[str, asyncio.Future[None]]] = []
        self.read: dict[Exchange, Change] = {}
        self.talks: list[Exchange] = []
        self.race = Race(0)
        self.turns = 0
        """How often everything goes on before the next step."""

        self.outage = self.done = False
        for edge in self.edges:
            edge.origin.on_sent = self._sent(edge)
            self.tier(edge).catching_up = self._catching_up(edge)
        for way in self.ways:
            way.before_arrival = self._gated(f"{way.child.node} → {way.parent.node}")
            way.before_return = self._gated(f"{way.child.node} ← {way.parent.node}")
        self.mesh.spread()

    def tier(self, edge: ByHand) -> FakeTier:
        return self.mesh.of(edge)

    # --- what waits for a step

    def _gated(self, name: str) -> Callable[[], Awaitable[None]]:
        async def wait() -> None:
            if not self.done:
                gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self.gates.append((name, gate))
                await gate

        return wait

    def _sent(self, edge: ByHand) -> Callable[[Exchange], None]:
        def sent(exchange: Exchange) -> None:
            self.told(f"{edge.node} asks the origin{' whether it has changed' if exchange.conditional else ''}")
            self.talks.append(exchange)
            if self.done:
                self._finish(exchange)

        return sent

    def _catching_up(self, edge: ByHand) -> Callable[[Marks], Awaitable[None]]:
        async def catch_up(marks: Marks) -> None:
            self.counts["catch-ups"] += 1
            share = self.random.choice((1.0, 1.0, 1.0, 0.5, 0.0))
            if self.random.random() < 0.5:
                await self._gated(f"{edge.node} pulls")()
            tier = self.tier(edge)
            tier.pull(share)
            self.told(f"{edge.node} has pulled {'all' if tier.covers(marks) else 'not all'} that was asked for")

        return catch_up

    # --- a race

    async def run(self, number: int) -> Race:
        """One race, from its first step to its judgement. Raises Stale."""
        self.race, self.done = Race(number), False
        self._change()
        steps: dict[Callable[[], None], int] = {
            self._ask: 16, self._flow: 8, self._open: 8, self._read: 6, self._answer: 6, self._end: 4, self._purge: 6,
            self._deliver: 3, self._confirm: 4, self._change: 2, self._later: 3, self._outage: 2, self._break: 1,
            self._strip: 1, self._lapse: 1, self._restart: 1,
        }  # fmt: skip
        for _ in range(self.random.randint(*STEPS)):
            self.random.choices(list(steps), list(steps.values()))[0]()
            for _ in range(self.turns or self.random.choice((0, 1, 2, 8))):
                if self.turns:
                    self._all()
                await asyncio.sleep(0)
            self.turns = 0
        await self._finish_all()
        self._judge()
        return self.race

    def told(self, what: str) -> None:
        self.race.story.append(what)

    def _ask(self) -> None:
        edge = self.random.choice((self.child, self.child, self.child, *self.edges))
        lines = self.random.choice(((), (), (), (), ("Cache-Control: no-cache",), ("Cache-Control: max-stale",)))
        known = [p for p in self.race.purges if p.hard and p.position in self.tier(edge).indexes]
        self.told(f"client {len(self.race.asked)} asks {edge.node} {' '.join(lines)}")
        self.race.asked.append(Asked(edge, known, edge.ask(self.race.target, *lines)))

    def _open(self) -> None:
        if self.gates:
            name, gate = self.gates.pop(self.random.randrange(len(self.gates)))
            self.told(f"goes on: {name}")
            gate.set_result(None)

    def _flow(self) -> None:
        """What is under way comes to its end, if there is time."""
        self.turns = self.random.choice((10, 40))
        self.told("everything goes on for a while")

    def _all(self) -> None:
        for _, gate in self.gates:
            gate.set_result(None)
        self.gates.clear()
        for exchange in self.talks:
            self._finish(exchange)
        self.talks.clear()

    def _read(self) -> None:
        for exchange in self.random.sample(self.talks, min(1, len(self.talks))):
            if exchange not in self.read and not exchange.closed:
                self.read[exchange] = self.race.changes[-1]
                self.told(f"the origin reads version {self.race.changes[-1].version}")

    def _answer(self) -> None:
        for exchange in self.talks:
            if exchange in self.read and not exchange.has_head and not exchange.closed:
                self._head(exchange)
                return

    def _head(self, exchange: Exchange) -> None:
        change = self.read[exchange]
        self.told(f"the origin answers with version {change.version}")
        lines = [
            f"Cache-Control: {change.control}",
            f'ETag: "{change.version}"',
            f"Surrogate-Key: {' '.join(change.tags)}",
        ]
        if f'"{change.version}"' in (exchange.asked.fields.get("if-none-match") or ""):
            exchange.answer(304, *lines)
        else:
            exchange.answer(200, *lines)

    def _end(self) -> None:
        for exchange in self.talks:
            if exchange.has_head and not exchange.closed and exchange.head.status == 200:
                exchange.end(str(self.read[exchange].version).encode())
                self.talks.remove(exchange)
                return

    def _finish(self, exchange: Exchange) -> None:
        if exchange.closed:
            return
        self.read.setdefault(exchange, self.race.changes[-1])
        if self.outage:
            exchange.fail(ConnectFailed("the origin is down"))
            return
        if not exchange.has_head:
            self._head(exchange)
        if exchange.head.status == 200:
            exchange.end(str(self.read[exchange].version).encode())

    def _change(self) -> None:
        version = len(self.race.changes)
        tags = tuple([f"{name}{self.race.number}" for name in "ab" if self.random.random() < 0.7])
        self.race.changes.append(Change(version, tags, self.random.choice(CONTROLS)))
        self.told(f"the content changes: version {version}, {' '.join(tags) or 'no tags'}")

    def _purge(self) -> None:
        if self.random.random() < 0.8:
            self._change()
        at = self.random.choice((self.child, self.child, *self.publishers))
        target = self.random.choice(
            (
                at.url(self.race.target),
                tag_target(SITE, f"a{self.race.number}"),
                tag_target(SITE, f"a{self.race.number}"),
                tag_target(SITE, f"b{self.race.number}"),
                prefix_target(SITE, f"http://{HOST}/r/{self.race.number}/"),
            )
        )
        hard = self.random.random() < 0.7
        position = self.mesh.purge(at, *(([target], []) if hard else ([], [target])))
        self.race.purges.append(Purge(position, target, hard, len(self.race.changes) - 1))
        self.told(f"{at.node} purges {target}{'' if hard else ' softly'}, for version {len(self.race.changes) - 1}")
        self.counts["purges"] += 1

    def _deliver(self) -> None:
        if isinstance(self.mesh, CoreMesh):
            self.mesh.step()
        elif self.race.purges:
            purge, to = self.random.choice(self.race.purges), self.random.choice(self.publishers)
            if purge.position not in self.tier(to).indexes:
                self.tier(to).take(purge.position)
                self.told(f"{to.node} hears of {purge.target}")

    def _confirm(self) -> None:
        if isinstance(self.mesh, CoreMesh):
            self.mesh.tell(self.random.choice(self.publishers).node)
            return
        one, other = self.random.sample(self.edges, 2) if len(self.edges) > 1 else (self.child, self.top)
        self.tier(one).confirm(self.tier(other))
        self.told(f"{one.node} tells {other.node} how far it is")

    def _later(self) -> None:
        self.child.clock.advance(self.random.choice((1, 3, 11)))
        self.told("time passes")

    def _break(self) -> None:
        way = self.random.choice(self.ways)
        way.down = not way.down
        self.told(f"{way.child.node} {'loses' if way.down else 'finds'} {way.parent.node}")

    def _strip(self) -> None:
        """Something between two edges takes off what it does not know: the parent sees a client."""
        way = self.random.choice(self.ways)
        way.on_request = _as_it_is if way.on_request is _stripped else _stripped
        lost = "lost" if way.on_request is _stripped else "kept"
        self.told(f"fields are {lost} between {way.child.node} and {way.parent.node}")

    def _outage(self) -> None:
        self.outage = not self.outage
        self.told(f"the origin is {'down' if self.outage else 'up'}")

    def _lapse(self) -> None:
        edge = self.random.choice(self.edges)
        past = not edge.lease.past()
        edge.lease.renew(edge.clock.monotonic() if past else math.inf)
        self.told(f"{edge.node} {'has not heard' if past else 'hears'} from all others")

    def _restart(self) -> None:
        edge = self.random.choice(self.edges)
        self.tier(edge).restart()
        self.told(f"{edge.node} begins another epoch")

    async def _finish_all(self) -> None:
        """Let everything that is under way come to its end."""
        self.done, self.outage = True, False
        for edge in self.edges:
            edge.lease.renew(math.inf)
        for way in self.ways:
            way.down, way.on_request = False, _as_it_is
        while any(not asked.task.done() for asked in self.race.asked) or any(
            edge.fetcher._running for edge in self.edges
        ):
            self._all()
            await asyncio.sleep(0)
        self.read.clear()
        self.mesh.spread()

    # --- judgement

    def _judge(self) -> None:
        for number, asked in enumerate(self.race.asked):
            whole = asked.task.result()
            self.counts[f"answers: {whole.outcome}"] += 1
            if whole.status != 200 or whole.error is not None:
                continue
            self._check(int(whole.body), asked.known, f"client {number} got", asked.edge)
        for edge in self.edges:
            tier = self.tier(edge)
            for record in edge.store.lookup(edge.key(self.race.target)):
                if record.body.data is None:
                    continue
                before = [p for p in self.race.purges if tier.indexes[p.position] <= record.fence]
                self._check(int(record.body.data), before, "there is stored", edge)
                self.counts["stored"] += 1

    def _check(self, version: int, purges: list[Purge], what: str, edge: ByHand) -> None:
        names = Names(SITE, f"http://{HOST}{self.race.target}", tags=self.race.changes[version].tags)
        for purge in purges:
            if version < purge.version and matches(purge.target, names):
                told = f"{purge.target} was purged for version {purge.version}"
                raise Stale(f"{what} version {version} at {edge.node}, and {told}")


def _as_it_is(head: RequestHead) -> RequestHead:
    return head


def _stripped(head: RequestHead) -> RequestHead:
    return msgspec.structs.replace(head, fields=head.fields.without((FIELD_LOWER,)))


# --- edges without one of their guarantees


@contextlib.contextmanager
def without_header() -> Iterator[None]:
    """No child says what is in effect there."""
    with (
        mock.patch.object(FakeTier, "unconfirmed", return_value={}),
        mock.patch.object(CoreTier, "unconfirmed", return_value={}),
    ):
        yield


@contextlib.contextmanager
def believing() -> Iterator[None]:
    """A child believes whatever comes."""

    def proven(self: Tiers, asking: Asking, status: int, fields: Fields, value: str | None, *, since: bool) -> Worth:
        return Worth.FRESH

    with mock.patch.object(Tiers, "proven", proven):
        yield


@contextlib.contextmanager
def arriving_early() -> Iterator[None]:
    """A request counts as arrived when it comes, and not when its parent has what the child has."""

    async def admit(self: Tiers, child: Child) -> None:
        child.covers = True

    with mock.patch.object(Tiers, "admit", admit):
        yield


BREAKAGES: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "header": without_header,
    "believing": believing,
    "arriving-early": arriving_early,
}


def run_world(seed: int, races: int = RACES_PER_WORLD) -> tuple[Counter[str], Race | None, str]:
    """Races on one set of edges; what was counted, and the race in which something was stale, and what."""

    async def body() -> tuple[Counter[str], Race | None, str]:
        world = World(seed)
        try:
            return await races_in(world)
        finally:
            for edge in world.edges:
                for (_, outcome), n in edge.tiers._asked.counts.items():
                    world.counts[f"asked: {outcome}"] += int(n)
                for (outcome,), n in edge.tiers._answered.counts.items():
                    world.counts[f"answered: {outcome}"] += int(n)

    async def races_in(world: World) -> tuple[Counter[str], Race | None, str]:
        for number in range(races):
            try:
                await world.run(number)
            except Stale as stale:
                return world.counts, world.race, str(stale)
            world.counts["races"] += 1
            world.counts["races with the real core"] += isinstance(world.mesh, CoreMesh)
        return world.counts, None, ""

    with asyncio.Runner() as runner, structlog.testing.capture_logs():
        return runner.run(body())


__all__ = ["BREAKAGES", "RACES_PER_WORLD", "Race", "Stale", "World", "run_world"]
