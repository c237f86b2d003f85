"""A simulated mesh: some edges, the network between them, clients, and what goes wrong, all drawn from one seed.

    calm      all start, and hear each other
    storm     purges and requests, while messages get lost, doubled and late, links part in one direction or both or go
              deaf, edges crash, stop, pause, slow down, come back with old disks, join and are forgotten, clocks leap,
              logs are trimmed
    after     all faults end; what should come about has `AFTER_S` to do so

Not here: what must hold (`judge.py`).
Units: seconds of simulated time.
"""

import hashlib
import random
from collections.abc import Callable, Iterator

from banish.mesh.members import Member
from banish.mesh.replica import AskFor, Settings
from banish.purge.names import Names
from banish.purge.positions import Position
from banish.testing.network import SimNetwork, Timeline, Weather
from tests.simulation.disk import Disk
from tests.simulation.judge import Judge
from tests.simulation.process import Process

SETTINGS = Settings(period_s=0.5, lease_s=2.5, gap_limit_s=4.0, catchup_wait_s=1.5)
"""All waits a quarter of what they are by default, so that more happens in a run."""

CALM_S = 2.0
STORM_S = 16.0
AFTER_S = 20.0

EDGES_MAX = 8
LINK_LEASE_S = 1.5
"""How long a link may be dead before the transport says so."""
BREATH_S = 0.3
"""Mean time between two events of the storm."""

TAGS = ("red", "green", "blue", "white", "black")
NAMES = [Names("", f"http://x/{n}", tags=(tag,)) for n, tag in enumerate(TAGS)]
NAMES.append(Names("", "http://x/all", tags=TAGS))


class World:
    """One run."""

    def __init__(self, seed: int, *, trace: bool = False) -> None:
        self.seed = seed
        self.draw = random.Random(seed)
        self.timeline = Timeline()
        self.settings = SETTINGS
        self.network = SimNetwork(self.timeline, self.draw, self._delay)
        self.judge = Judge(self)
        self.disks: dict[str, Disk] = {}
        """By edge id."""
        self.processes: dict[str, Process] = {}
        """By name: the last start of each edge, alive or not."""
        self.forgotten: set[str] = set()
        self.story: list[str] = []
        self.happened: dict[str, int] = {}
        self._trace = trace
        self._links: set[frozenset[str]] = set()
        self._deaf: set[tuple[str, str]] = set()
        self._kept: list[tuple[str, Disk]] = []
        self._near = self.draw.uniform(0.0005, 0.02)
        self._far = self.draw.uniform(0.02, 0.15)
        self._busy_until = 0.0
        self._founders: set[str] = set()
        self._way: dict[tuple[str, str], float] = {}
        self._keep = self.draw.choice((15, 60, 400))
        self._lasting = self.draw.random() < 0.5
        """Whether edges write down what has folded."""

    @property
    def now(self) -> float:
        return self.timeline.now

    def tell(self, name: str, does: str, what: str = "") -> None:
        """Note what happens, if anybody wants to read it."""
        self.happened[does] = self.happened.get(does, 0) + 1
        if self._trace:
            self.story.append(f"{self.now:8.3f}  {name:<4} {does:<10} {what}")

    def _delay(self, sender: str, receiver: str) -> float:
        way = self._way.get((sender, receiver))
        if way is None:
            way = self._way[sender, receiver] = self.draw.uniform(self._near, self._far)
        return way

    # --- who is there

    def members(self) -> list[Process]:
        """The edges that run and belong. One whose invitation died with whoever had it does not."""
        return self._belonging([p for p in self.processes.values() if p.alive and p.disk.edge not in self.forgotten])

    def _belonging(self, some: list[Process]) -> list[Process]:
        """Of these, those that were there at first, or were invited by one who belongs."""
        known = {p.disk.edge for p in some if p.name in self._founders}
        while True:
            joined = set().union(*(p.disk.joined for p in some if p.disk.edge in known))
            more = {p.disk.edge for p in some} & joined | known
            if more == known:
                return [p for p in some if p.disk.edge in known]
            known = more

    def agree_who_is_forgotten(self) -> None:
        """A `forget` that died with whoever had it was never made."""
        heard = [p for p in self.processes.values() if p.alive and not p.replica.stage.over]
        self.forgotten = set().union(*(p.disk.forgotten for p in self._belonging(heard)))

    def is_torn(self) -> bool:
        """Whether an edge has been told that it is forgotten by one who took that along: nothing can be said then."""
        return any(
            p.replica.stage.over and p.disk.edge not in self.forgotten for p in self.processes.values() if p.alive
        )

    def member_disks(self) -> Iterator[Disk]:
        """The disks of all that belong, running or not."""
        return (disk for disk in self.disks.values() if disk.edge not in self.forgotten)

    def is_undone(self, position: Position) -> bool:
        """Whether nobody who belongs issued it, or it is lost with an old disk."""
        return position.edge in self.forgotten or self.disks[position.edge].restored

    def found(self, edges: int) -> None:
        """The first edges of the mesh, which know each other."""
        made = [self._new_disk() for _ in range(edges)]
        self._founders = {name for name, _ in made}
        for _, disk in made:
            disk.joined = {other.edge: self._member(name, other) for name, other in made}
        for name, disk in made:
            self.begin(name, disk)

    def _new_disk(self) -> tuple[str, Disk]:
        name = f"e{len(self.disks)}"
        edge = hashlib.blake2b(f"{self.seed} {name}".encode(), digest_size=8).hexdigest()
        disk = self.disks[edge] = Disk(edge, hashlib.blake2b(edge.encode(), digest_size=32).digest(), born=self.now)
        return name, disk

    def _member(self, name: str, disk: Disk) -> Member:
        return Member(disk.edge, name, disk.key)

    def name_of(self, edge: str) -> str:
        """What the edge of this id is called here."""
        return next((name for name, process in self.processes.items() if process.disk.edge == edge), edge)

    def begin(self, name: str, disk: Disk) -> Process:
        """Start an edge."""
        process = self.processes[name] = Process(self, name, disk)
        process.clock_rate = self.draw.uniform(0.9999, 1.0001)
        process.clock_offset = self.draw.uniform(0, 1000)
        process.sync_s = self.draw.choice((0.001, 0.004, 0.02))
        self.tell(name, "starts", f"{disk.edge} {process.epoch}")
        process.take(process.start)
        for other in self.processes:
            if other != name:
                self._try_link(name, other, self.draw.uniform(0.005, 0.2))
        return process

    # --- links

    def _try_link(self, one: str, other: str, delay_s: float) -> None:
        self.timeline.after(delay_s, lambda: self._link(one, other))

    def _link(self, one: str, other: str) -> None:
        pair = frozenset((one, other))
        a, b = self.processes[one], self.processes[other]
        if pair in self._links or not (a.alive and b.alive and self.network.reaches(one, other)):
            return
        self._links.add(pair)
        self._told(one, other, up=True)

    def _unlink(self, one: str, other: str) -> None:
        pair = frozenset((one, other))
        if pair in self._links:
            self._links.discard(pair)
            self._told(one, other, up=False)

    def _told(self, one: str, other: str, *, up: bool) -> None:
        for a, b in ((one, other), (other, one)):
            process, edge = self.processes[a], self.processes[b].disk.edge
            process.take(lambda p=process, e=edge: p.do(p.replica.linked(e, up, p.now)))  # type: ignore[misc]

    def _look_at_link(self, one: str, other: str) -> None:
        """A link that carries nothing in one direction goes down on both sides after a while."""
        if not self.network.reaches(one, other) and (one, other) not in self._deaf and (other, one) not in self._deaf:
            self._unlink(one, other)

    def relink(self, process: Process, edge: str) -> None:
        """An edge opens a link anew that it finds deaf."""
        other = self.name_of(edge)
        self.tell(process.name, "relinks", other)
        if (other, process.name) in self._deaf:
            self._deaf.discard((other, process.name))
            self.network.mend(other, process.name)
        self._unlink(process.name, other)
        self._try_link(process.name, other, 0.2)

    # --- messages

    def _send(self, sender: Process, receiver: str, deliver: Callable[[Process], None]) -> None:
        if frozenset((sender.name, receiver)) not in self._links:
            return
        to = self.processes[receiver]

        def arrives() -> None:
            now = self.processes[receiver]
            if now is to or self.draw.random() < 0.2:  # most messages to a process die with it
                now.take(lambda: deliver(now))

        self.network.send(sender.name, receiver, arrives)

    def _to_all(self, sender: Process, deliver: Callable[[Process], None]) -> None:
        for name in self.processes:
            if name != sender.name:
                self._send(sender, name, deliver)

    def publish(self, sender: Process, record: bytes) -> None:
        """A record, to all."""
        self._to_all(sender, lambda to: to.do(to.replica.record(record, to.now)))

    def say(self, sender: Process, data: bytes) -> None:
        """A digest, to all."""
        self._to_all(sender, lambda to: to.do(to.replica.digest(data, to.now)))

    def ack(self, sender: Process, edge: str, data: bytes) -> None:
        """An ack, to one."""
        name = self.name_of(edge)
        if name in self.processes:
            self._send(sender, name, lambda to: to.do(to.replica.ack(data, to.now)))

    def ask(self, asker: Process, ask: AskFor) -> None:
        """A pull of one, and its answer; none in time is reported as none."""
        answered = [False]
        self.tell(asker.name, "asks", f"{self.name_of(ask.edge)} for {ask.gap}")

        def report(parts: list[bytes]) -> None:
            if not answered[0]:
                answered[0] = True
                asker.take(lambda: asker.do(asker.replica.pulled(ask.number, parts, asker.now)))

        def asked(holder: Process) -> None:
            if self.now < self._busy_until:
                return
            parts = holder.answer(ask.data)
            self._send(holder, asker.name, lambda to: report(parts) if to is asker else None)

        self._send(asker, self.name_of(ask.edge), asked)
        self.timeline.after(ask.timeout_s, lambda: report([]))

    # --- what happens

    def run(self) -> None:
        """Play the run. Raises Wrong."""
        self.found(self.draw.choice((2, 3, 3, 4, 4, 5)))
        self._tick()
        self.timeline.run(CALM_S)
        self._change_weather()
        end = CALM_S + STORM_S
        while self.now < end:
            self.timeline.run(self.now + self.draw.expovariate(1 / BREATH_S))
            self._blow()
        self._clear_up()
        self.timeline.run(self.now + AFTER_S)
        self.judge.end()

    def _tick(self) -> None:
        """Clients and upkeep."""
        for process in list(self.processes.values()):
            if process.alive:
                chance = self.draw.random()
                if chance < 0.6:
                    process.take(lambda p=process: p.request(self.draw.choice(NAMES)))  # type: ignore[misc]
                elif chance < 0.7:
                    process.take(process.sweep)
                elif chance < 0.72 and self._lasting:
                    process.take(process.keep_folds)
                elif chance < 0.8 and self.judge.confirmed:
                    position = self.draw.choice(self.judge.confirmed)
                    process.take(lambda p=process, at=position: self.judge.receipts(p, at))  # type: ignore[misc]
        self.timeline.after(0.15, self._tick)

    def _change_weather(self) -> None:
        rough = self.draw.choice((0.0, 0.02, 0.1, 0.3))
        late_s = self.draw.choice((0.02, 0.1, 0.3))
        self.network.weather = Weather(loss=rough, doubled=rough / 2, late=rough * 2, late_s=late_s)
        self.tell("", "weather", str(self.network.weather))

    def _blow(self) -> None:
        """One thing happens."""
        name = self.draw.choices(list(EVENTS), [weight for weight, _ in EVENTS.values()])[0]
        EVENTS[name][1](self)

    def _running(self) -> Process | None:
        running = [p for p in self.members() if p.paused_until <= self.now]
        return self.draw.choice(running) if running else None

    def purge(self) -> None:
        """A client purges: once, or a few times on end."""
        process = self._running()
        if process is None or process.replica.stage.over:
            return
        for _ in range(self.draw.choice((1, 1, 1, 5, 20))):
            version = 2 if self.draw.random() < 0.01 else 1
            tag = self.draw.choice(TAGS)
            process.take(lambda t=tag, v=version: self._purged(process, t, v))  # type: ignore[misc]

    def _purged(self, process: Process, tag: str, version: int) -> None:
        self.tell(process.name, "purges", f"{tag} {process.purge(tag, version).text}")

    def crash(self) -> None:
        """An edge dies, and what was not on its disk with it; it comes back after a while."""
        process = self._running()
        if process is not None:
            self._end(process, "crashes")

    def stop(self) -> None:
        """The same, but it says goodbye."""
        process = self._running()
        if process is not None:
            self._end(process, "stops")

    def _end(self, process: Process, how: str) -> None:
        self.tell(process.name, how)
        process.stop() if how == "stops" else process.crash()
        self.judge.crashed(process.disk)
        for other in list(self.processes):
            if other != process.name:
                slow = self.draw.random() < 0.3
                self.timeline.after(LINK_LEASE_S if slow else 0.0, lambda o=other: self._gone(process, o))  # type: ignore[misc]
        away = self.draw.choice((0.1, 1.0, 4.0, 12.0))
        self.timeline.after(away, lambda: self._return(process))

    def _gone(self, process: Process, other: str) -> None:
        if self.processes[process.name] is process or not self.processes[process.name].alive:
            self._unlink(process.name, other)

    def _return(self, process: Process) -> None:
        name, disk = process.name, process.disk
        if self.processes[name] is not process:
            return
        for other in self.processes:
            self._unlink(name, other)
        kept = [each for of, each in self._kept if of == name]
        if kept and self.draw.random() < 0.2:
            copy = self.draw.choice(kept).copied()
            self.tell(name, "restored", "an old disk")
            copy.restored = True
            disk = self.disks[disk.edge] = copy
        self.begin(name, disk)

    def keep(self) -> None:
        """Somebody copies a data directory."""
        process = self._running()
        if process is not None:
            self._kept.append((process.name, process.disk.copied()))

    def pause(self) -> None:
        """A process stands still, and then goes on."""
        process = self._running()
        if process is not None:
            pause = self.draw.choice((0.3, 2.0, 5.0))
            self.tell(process.name, "pauses", f"{pause} s")
            process.paused_until = self.now + pause
            self.timeline.at(process.paused_until, process.resume)

    def slow(self) -> None:
        """An edge has little CPU, or a slow disk, or recovers from that."""
        process = self._running()
        if process is not None:
            process.service_s = self.draw.choice((0.0, 0.0, 0.002, 0.02))
            process.sync_s = self.draw.choice((0.001, 0.02, 0.5))

    def leap(self) -> None:
        """A clock leaps forward."""
        process = self._running()
        if process is not None:
            leap = self.draw.choice((0.1, 1.0, 10.0))
            self.tell(process.name, "leaps", f"{leap} s")
            process.leap(leap)

    def part(self) -> None:
        """Some are cut off from the others, in one direction or both."""
        names = list(self.processes)
        self.draw.shuffle(names)
        side = names[: self.draw.randint(1, max(1, len(names) // 2))]
        both = self.draw.random() < 0.6
        self.tell("", "parts", f"{side} {'both ways' if both else 'one way'}")
        for one in side:
            for other in names:
                if other not in side:
                    self.network.cut(one, other)
                    if both:
                        self.network.cut(other, one)
                    self.timeline.after(LINK_LEASE_S, lambda a=one, b=other: self._look_at_link(a, b))  # type: ignore[misc]
        self.timeline.after(self.draw.choice((0.5, 3.0, 8.0)), self.mend)

    def mend(self) -> None:
        """All get through again."""
        self.tell("", "mends")
        self.network.mend()
        self._deaf.clear()
        names = list(self.processes)
        for at, one in enumerate(names):
            for other in names[at + 1 :]:
                self._try_link(one, other, self.draw.uniform(0.0, 0.4))

    def deafen(self) -> None:
        """A link carries nothing in one direction, and nobody says so."""
        names = list(self.processes)
        if len(names) > 1:
            one, other = self.draw.sample(names, 2)
            self.tell(other, "deaf", f"to {one}")
            self._deaf.add((one, other))
            self.network.cut(one, other)

    def trim(self) -> None:
        """A log is cut at its start."""
        process = self._running()
        if process is not None:
            gone = process.disk.trim(self._keep)
            if gone:
                self.tell(process.name, "trims", str(gone))

    def busy(self) -> None:
        """No log can be read for a while: nobody answers a pull."""
        self.tell("", "busy")
        self._busy_until = self.now + self.draw.choice((1.0, 5.0))

    def join(self) -> None:
        """An edge is invited, and comes."""
        inviter = self._running()
        if inviter is None or inviter.replica.stage.over or len(self.processes) >= EDGES_MAX:
            return
        name, disk = self._new_disk()
        member = self._member(name, disk)
        disk.joined = {**inviter.disk.joined, disk.edge: member}
        disk.forgotten = set(inviter.disk.forgotten)
        self.tell(inviter.name, "invites", f"{name} {disk.edge}")
        self._invited(inviter, member, name, disk, self.draw.choice((0.01, 1.0)))

    def _invited(self, inviter: Process, member: Member, name: str, disk: Disk, delay_s: float) -> None:
        """It comes once the invitation is on a disk; never, if that dies before."""

        def invite() -> None:
            position = inviter.invite(member)

            def comes() -> None:
                if position in inviter.disk.log:
                    self.begin(name, disk)
                elif inviter.alive:
                    self.timeline.after(delay_s, comes)
                else:
                    self.forgotten.add(disk.edge)

            self.timeline.after(delay_s, comes)

        inviter.take(invite)

    def forget(self) -> None:
        """An edge is forgotten, by another."""
        by = self._running()
        if by is None or by.replica.stage.over:
            return
        others = [edge for edge in by.disk.joined if edge != by.disk.edge and edge not in self.forgotten]
        if len(others) < 2:
            return
        edge = self.draw.choice(others)
        self.tell(by.name, "forgets", self.name_of(edge))
        by.take(lambda: by.forget(edge))

    def _clear_up(self) -> None:
        """All faults end."""
        self.tell("", "clears up")
        self._busy_until = 0.0
        self.network.weather = Weather()
        self.agree_who_is_forgotten()
        for process in list(self.processes.values()):
            process.service_s, process.sync_s = 0.0, 0.004
            process.paused_until = min(process.paused_until, self.now)
            if process.alive:
                process.resume()
            elif process.disk.edge not in self.forgotten:
                self._return(process)
        self.mend()
        self.timeline.after(LINK_LEASE_S + 1, self.mend)


EVENTS: dict[str, tuple[float, Callable[[World], None]]] = {
    "purge": (30, World.purge),
    "crash": (3, World.crash),
    "stop": (1.5, World.stop),
    "keep": (1, World.keep),
    "pause": (1, World.pause),
    "slow": (2, World.slow),
    "leap": (1, World.leap),
    "part": (3, World.part),
    "deafen": (0.7, World.deafen),
    "trim": (3, World.trim),
    "busy": (1, World.busy),
    "join": (0.7, World.join),
    "forget": (0.5, World.forget),
    "weather": (2, World._change_weather),
}
"""What may happen, and how often in proportion."""


def play(seed: int, *, trace: bool = False) -> tuple[World, Exception | None]:
    """Play one seed; the world as it is then, and what was wrong."""
    world = World(seed, trace=trace)
    try:
        world.run()
    except Exception as error:  # whatever it is, it is what the seed has found
        return world, error
    return world, None
