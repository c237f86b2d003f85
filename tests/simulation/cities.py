"""One purge round the world: the real core in 308 cities, over a network as long as the real one.

    python -m tests.simulation.cities                    all figures, the map as SVG, into bench/mesh/results
    python -m tests.simulation.cities --edges 40 --quick a small run that writes nothing

Measured is from the call at one edge to the purge being in effect at another. What is modelled is the way between two
cities (`testing/network.py`); processing and disks take no time, so this shows what the protocol adds to distance, and
nothing else. What real processes add is measured in bench/mesh.

    calm        a purge in each city in turn
    lossy       the same, with one message in ten lost: records, acks, digests, pulls and their answers alike
    partition   a third of the edges cut off for half an hour, while both sides purge; then healed

Not here: faults of edges (`world.py`).
Units: seconds of simulated time.
"""

import argparse
import hashlib
import platform
import random
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from banish.mesh import messages
from banish.mesh.frontier import Frontier
from banish.mesh.members import Member, Members
from banish.mesh.replica import Apply, AskFor, Effect, Publish, Replica, SendAck, SendDigest, Settings
from banish.purge.given import Given
from banish.purge.positions import Position
from banish.purge.records import RECORD_VERSION, Record, RecordKind, digest, encode, read_header
from banish.purge.stamps import Mode
from banish.purge.targets import Kind
from banish.testing.network import City, SimNetwork, Timeline, Weather, cities, one_way_s

RESULTS = Path(__file__).resolve().parents[2] / "bench" / "mesh" / "results"

SEED = 1
APART_S = 0.05
"""Between two purges: each is at another edge."""
PARTITION_S = 1800.0
PARTITION_SETTINGS = Settings(period_s=30.0, lease_s=120.0)
"""Half an hour at the default period is 85 million digests; the waits are longer here, and nothing else is other."""
DECODED_MAX = 4096

LINK_LEASE_S = 5.0
"""Until the transport says that a link is dead."""
REDIAL_S = 1.0
"""Until it has it back, once that can be."""


def signed(payload: bytes) -> bytes:
    """Takes the place of a signature: nobody lies here."""
    return hashlib.blake2b(payload, digest_size=64).digest()


class Edge:
    """One city's edge: its core, and a log without a disk."""

    def __init__(self, world: "Earth", city: City, members: Members, frontier: Frontier) -> None:
        self.world = world
        self.city = city
        self.name = city.code
        self.edge = edge_id(city)
        self.log: dict[Position, bytes] = {}
        self.in_effect: dict[Position, float] = {}
        self._sequence, self._previous = 1, b""
        self._timer = float("inf")
        self.replica = Replica(
            edge=self.edge,
            epoch=EPOCH,
            members=members,
            frontier=frontier,
            settings=world.settings,
            sign=signed,
            verify=lambda edge, signature, payload: True,
        )

    def do(self, effects: Sequence[Effect]) -> None:
        """Carry out what the core wants done, and set the timer."""
        now = self.world.now
        for effect in effects:
            if isinstance(effect, Apply):
                for data in effect.records:
                    position = read_header(data).position
                    self.in_effect[position] = now
                    self.log[position] = data
                    self.do(self.replica.durable(position, now))
            elif isinstance(effect, Publish):
                self.world.to_all(self, "record", effect.record)
            elif isinstance(effect, SendDigest):
                self.world.to_all(self, "digest", effect.data)
            elif isinstance(effect, SendAck):
                self.world.to_one(self, effect.edge, "ack", effect.data)
            elif isinstance(effect, AskFor):
                self.world.ask(self, effect)
        due = self.replica.next_tick
        if due < self._timer or self._timer <= now:
            self._timer = due
            self.world.timeline.at(due, lambda: self._rings(due))

    def _rings(self, due: float) -> None:
        if self._timer == due:
            self._timer = float("inf")
            self.do(self.replica.tick(self.world.now))

    def purge(self) -> Position:
        """Somebody purges a tag here."""
        self._sequence += 1
        position = Position(self.edge, EPOCH, self._sequence)
        given = (Given(Kind.TAG, f"news-{self._sequence}"),)
        told = Record(RECORD_VERSION, RecordKind.PURGE, (), Mode.HARD, position, self._previous, self.world.now, given)
        data = encode(told, signed)
        self._previous = digest(data)
        self.log[position], self.in_effect[position] = data, self.world.now
        self.world.purged[position] = self.world.now
        self.do(self.replica.issued(position, data, self.world.now))
        self.do(self.replica.durable(position, self.world.now))
        return position

    def answer(self, data: bytes) -> list[bytes]:
        """What it answers to a pull."""
        stream, first, last = self.replica.pull_range(data)
        run = []
        for seq in range(first, last + 1):
            record = self.log.get(Position(*stream, seq))
            if record is None:
                break
            run.append(record)
        return [self.replica.pull_answer(stream, tuple(run), 1)]


EPOCH = "1-00000000"


def edge_id(city: City) -> str:
    """The id of a city's edge."""
    return hashlib.blake2b(city.code.encode(), digest_size=8).hexdigest()


class Earth:
    """All edges, linked each with each, and all with what each has issued first."""

    def __init__(self, where: Sequence[City], settings: Settings, *, loss: float = 0.0) -> None:
        self.timeline = Timeline()
        self.settings = settings
        self.purged: dict[Position, float] = {}
        self.stale = 0
        """Looks at an edge that said it was not behind, and lacked a purge older than a lease."""
        self.looks = 0
        self._loss = loss
        self._ways = {(a.code, b.code): one_way_s(a, b) for a in where for b in where if a is not b}
        self.network = SimNetwork(self.timeline, random.Random(SEED), lambda a, b: self._ways[a, b])
        members = [Member(edge_id(city), city.code, b"") for city in where]
        begun = {(member.edge, EPOCH): 1 for member in members}
        self.edges = [Edge(self, city, Members(members), Frontier(begun)) for city in where]
        self.by_id = {edge.edge: edge for edge in self.edges}

    @property
    def now(self) -> float:
        return self.timeline.now

    def start(self) -> None:
        """All start within a period, each with nobody to answer it, and then hear each other. Starting all 308 at once
        would be another figure: each asks, and all answer.
        """
        self.network.weather = Weather(loss=1.0)
        draw = random.Random(SEED)
        for edge in self.edges:
            began = draw.random() * self.settings.period_s
            self.timeline.at(began, lambda e=edge: e.do(e.replica.start(self.now)))  # type: ignore[misc]
        self.timeline.run(self.settings.period_s)
        for edge in self.edges:
            for peer in edge.replica._known.peers.values():
                peer.linked, peer.linked_at = True, self.now
        self.network.weather = Weather()
        self.timeline.run(self.now + self.settings.lease_s)
        self.network.weather = Weather(loss=self._loss)

    def to_all(self, sender: Edge, what: str, data: bytes) -> None:
        """A record or digest, to all."""
        for edge in self.edges:
            if edge is not sender:
                self._send(sender, edge, what, data)

    def to_one(self, sender: Edge, edge: str, what: str, data: bytes) -> None:
        """An ack, to one."""
        self._send(sender, self.by_id[edge], what, data)

    def _send(self, sender: Edge, to: Edge, what: str, data: bytes) -> None:
        take = getattr(to.replica, what)
        self.network.send(sender.name, to.name, lambda: to.do(take(data, self.now)))

    def ask(self, asker: Edge, ask: AskFor) -> None:
        """A pull, and its answer."""
        answered = [False]

        def report(parts: list[bytes]) -> None:
            if not answered[0]:
                answered[0] = True
                asker.do(asker.replica.pulled(ask.number, parts, self.now))

        holder = self.by_id[ask.edge]

        def asked() -> None:
            parts = holder.answer(ask.data)
            self.network.send(holder.name, asker.name, lambda: report(parts))

        self.network.send(asker.name, holder.name, asked)
        self.timeline.after(ask.timeout_s, lambda: report([]))

    # --- what is measured

    def purge_everywhere(self) -> None:
        """A purge at each edge in turn, and time for it to get everywhere."""
        for edge in self.edges:
            edge.purge()
            self.timeline.run(self.now + APART_S)
        self.timeline.run(self.now + 10.0)

    def delays(self) -> list[float]:
        """From each purge to its effect at each other edge, ascending."""
        return sorted(
            edge.in_effect[position] - at
            for position, at in self.purged.items()
            for edge in self.edges
            if edge.edge != position.edge and position in edge.in_effect
        )

    @property
    def missing(self) -> int:
        """Purges not in effect somewhere, counted by edge."""
        return sum(len(self.purged.keys() - edge.in_effect.keys()) for edge in self.edges)

    def look(self) -> None:
        """See which edges say that they are not behind, and whether they lack what is older than a lease."""
        old = [position for position, at in self.purged.items() if self.now - at > self.settings.lease_s]
        for edge in self.edges:
            if not edge.replica.behind(self.now):
                self.looks += 1
                self.stale += any(position not in edge.in_effect for position in old)

    def _link(self, some: Sequence[Edge], others: Sequence[Edge], *, up: bool) -> None:
        for edge in some:
            for other in others:
                edge.do(edge.replica.linked(other.edge, up, self.now))
                other.do(other.replica.linked(edge.edge, up, self.now))

    def part(self, seconds: float) -> tuple[int, int, float]:
        """Cut off a third for a while, while both sides purge; how many were behind then, how many purges were missing,
        and how long after the healing nothing was any more.
        """
        third, rest = self.edges[::3], [edge for at, edge in enumerate(self.edges) if at % 3]
        for edge in third:
            for other in rest:
                self.network.cut(edge.name, other.name)
                self.network.cut(other.name, edge.name)
        self.timeline.after(LINK_LEASE_S, lambda: self._link(third, rest, up=False))
        end = self.now + seconds
        draw = random.Random(SEED)
        while self.now < end:
            draw.choice(self.edges).purge()
            self.timeline.run(self.now + 5.0)
            self.look()
        behind, missing = sum(edge.replica.behind(self.now) for edge in self.edges), self.missing
        self.network.mend()
        healed = self.now
        self.timeline.after(REDIAL_S, lambda: self._link(third, rest, up=True))
        while (self.missing or any(edge.replica.behind(self.now) for edge in self.edges)) and self.now < healed + 300:
            self.timeline.run(self.now + 0.25)
            self.look()
        return behind, missing, self.now - healed


def sharing() -> Any:
    """Have each message decoded once, and not once for each of its 307 receivers: they only read it."""
    decoded: OrderedDict[bytes, Any] = OrderedDict()
    decode = messages.decode

    def shared(data: bytes, kind: Any, verify: Any) -> Any:
        found = decoded.get(data)
        if found is None:
            found = decoded[data] = decode(data, kind, verify)
            if len(decoded) > DECODED_MAX:
                decoded.popitem(last=False)
        return found

    return patch("banish.mesh.replica.decode", shared)


def percentile(values: Sequence[float], percent: float) -> float:
    """Of ascending values."""
    return values[min(len(values) - 1, int(len(values) * percent / 100))]


# --- what is shown


def histogram(delays: Sequence[float], width: int = 50, step_s: float = 0.01) -> str:
    """Delays as bars, 10 ms each."""
    counts: dict[int, int] = {}
    for delay in delays:
        counts[int(delay / step_s)] = counts.get(int(delay / step_s), 0) + 1
    most = max(counts.values())
    rows = range(min(counts), min(max(counts), 30) + 1)
    return "\n".join(
        f"{row * step_s * 1000:4.0f} ms {'█' * round(width * counts.get(row, 0) / most):<{width}} {counts.get(row, 0)}"
        for row in rows
    )


def drawn(edge: Edge, edges: Iterable[Edge], position: Position) -> str:
    """The spread of one purge over the map, as SVG: the later a city has it, the warmer its dot."""
    at = edge.in_effect[position]
    dots = []
    for other in edges:
        delay_ms = (other.in_effect[position] - at) * 1000
        x, y = (other.city.longitude + 180) * 4, (90 - other.city.latitude) * 4
        hue = 210 - min(delay_ms, 160) / 160 * 210
        title = f"{other.city.name}: {delay_ms:.0f} ms"
        dots.append(
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="5" fill="hsl({hue:.0f} 85% 50%)"><title>{title}</title></circle>'
        )
    x, y = (edge.city.longitude + 180) * 4, (90 - edge.city.latitude) * 4
    key = "".join(
        f'<rect x="{40 + 40 * n}" y="640" width="40" height="14" fill="hsl({210 - n * 26.25:.0f} 85% 50%)"/>'
        f'<text x="{40 + 40 * n}" y="672" fill="#ccc" font-size="13">{n * 20}</text>'
        for n in range(9)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1440 700" font-family="sans-serif">'
        '<rect width="1440" height="700" fill="#101820"/>'
        f'<text x="40" y="40" fill="#fff" font-size="24">A purge in {edge.city.name}: when it is in effect elsewhere'
        f"</text>{''.join(dots)}"
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="11" fill="none" stroke="#fff" stroke-width="2"/>{key}'
        '<text x="410" y="672" fill="#ccc" font-size="13">ms after the call</text></svg>\n'
    )


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.cities", description=__doc__.partition("\n")[0])
    parser.add_argument("--edges", type=int, default=308, help="how many of the cities")
    parser.add_argument("--quick", action="store_true", help="a short partition, and nothing is written")
    given = parser.parse_args()
    where = cities()
    where = where[:: max(1, len(where) // given.edges)][: given.edges]
    with sharing():
        return _measured(where, quick=given.quick)


def _measured(where: Sequence[City], *, quick: bool) -> int:
    began = time.process_time()
    lines: list[str] = []

    def tell(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    tell(f"{len(where)} edges; {platform.python_implementation()} {platform.python_version()}; seed {SEED}")
    first = None
    for name, loss in (("calm", 0.0), ("lossy, 10 %", 0.1)):
        earth = Earth(where, Settings(), loss=loss)
        earth.start()
        sent = earth.network.sent
        earth.purge_everywhere()
        delays = earth.delays()
        parts = " ".join(f"p{p:g} {percentile(delays, p) * 1000:.0f} ms," for p in (50, 90, 99, 99.9))
        tell(
            f"{name}: {len(earth.purged)} purges, {parts} last {delays[-1] * 1000:.0f} ms; missing {earth.missing}; "
            f"{(earth.network.sent - sent) / len(earth.purged) / len(where):.1f} messages a purge and edge, all told"
        )
        if first is None:
            first = earth
            print(histogram(delays))
    earth = Earth(where, PARTITION_SETTINGS)
    earth.start()
    seconds = 300.0 if quick else PARTITION_S
    behind, missing, healed = earth.part(seconds)
    tell(
        f"partition of a third for {seconds:.0f} s: {behind} edges knew they were behind, {missing} purges missing by "
        f"edge; {healed:.2f} s after the healing {earth.missing} missing and nobody behind; {earth.looks} looks at "
        f"edges that were not behind, {earth.stale} of them lacked something older than a lease"
    )
    tell(f"{time.process_time() - began:.0f} s of CPU")
    if not quick:
        _write(first, lines)
    return int(bool(earth.missing or earth.stale))


def _write(earth: Earth | None, lines: Sequence[str]) -> None:
    assert earth is not None
    edge = next(edge for edge in earth.edges if edge.name == "FRA")
    position = next(position for position in earth.purged if position.edge == edge.edge)
    (RESULTS / "2026-11-30-spread.svg").write_text(drawn(edge, earth.edges, position), encoding="utf-8")
    told = "\n".join(f"- {line}" for line in lines)
    page = f"{PAGE}{told}\n\n```text\n{histogram(earth.delays())}\n```\n"
    (RESULTS / "2026-11-30-spread.md").write_text(page, encoding="utf-8")


PAGE = """# One purge round the world, simulated with the real core

`make spread` (`python -m tests.simulation.cities`), method in its header: the replication core that runs in production,
308 edges in the cities of `src/banish/testing/cities.csv`, linked each with each, one process. One-way delay =
great-circle distance / 200 km per ms x 1.5 + 1 ms. Processing and disks take no time and signatures are stand-ins: this
is what the protocol adds to distance. The partition was run with a period of 30 s and a lease of 120 s instead of 2 s
and 10 s, for the sake of time; all else has default settings.

![the spread](2026-11-30-spread.svg)

"""


if __name__ == "__main__":
    raise SystemExit(main())
