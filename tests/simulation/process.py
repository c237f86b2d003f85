"""One simulated edge while it runs: the real replication core and the real table of stamps, with what a runner does.

    request ▶ store, table ▶ answer, or a fetch that takes a while and is kept if nothing purged it meanwhile
    purge ▶ table ▶ core ▶ disk ▶ acknowledged, published
    record ▶ core ▶ table ▶ disk ▶ core ▶ ack

What waits for the disk is lost when the process is. Its clock has a rate and leaps of its own.

Not here: what happens to it (`world.py`); whether it is right (`judge.py`).
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from banish.errors import RecordError
from banish.mesh.members import Member
from banish.mesh.messages import Mark
from banish.mesh.replica import (
    Adopt,
    Apply,
    AskFor,
    CoverAll,
    Effect,
    Publish,
    Raise,
    Relink,
    Replica,
    SendAck,
    SendDigest,
)
from banish.purge.given import Given
from banish.purge.names import Names
from banish.purge.positions import Position
from banish.purge.records import RECORD_VERSION, Record, RecordKind, decode, digest, encode, read_header
from banish.purge.stamps import Mode, PurgeTable
from banish.purge.targets import Kind, Target, everything_target, tag_target
from tests.simulation.disk import Disk, Stored

if TYPE_CHECKING:
    from tests.simulation.world import World

ANSWER_RECORDS = 16
"""Of one answer to a pull: few, so that a pull takes several."""

INDEX_BLOCK = 1000

JOIN, FORGET = "join", "forget"
"""What a record tells beside purges, in the field `actor`: the kinds of the real log are not needed here."""

_encoder = msgspec.msgpack.Encoder()


def signed_with(key: bytes) -> Callable[[bytes], bytes]:
    """Signs as the owner of this key: quickly, which is all that is asked of it here."""
    return lambda payload: hashlib.blake2b(payload, key=key, digest_size=64).digest()


class Process:
    """One start of one edge."""

    def __init__(self, world: "World", name: str, disk: Disk) -> None:
        self.world = world
        self.name = name
        self.disk = disk
        self.alive = True
        self.paused_until = 0.0
        self.inbox: list[Callable[[], None]] = []
        """What came while it was paused."""
        self.service_s = 0.0
        self.free_at = 0.0
        self.sync_s = 0.004
        self.clock_rate = 1.0
        self.clock_offset = 0.0
        self.counted_since: dict[str, float] = {}
        """Since when each edge that counts here does so, in simulated time."""
        self.applied: set[Position] = set()
        """What was put into effect in this start, and before it as far as its log says."""
        self.raised: list[Raise] = []
        self.acknowledged = 0
        disk.starts += 1
        self.epoch = f"{disk.starts}-{world.draw.getrandbits(32):08x}"
        self._sequence = 0
        self._previous = b""
        self._waiting: list[Callable[[], None]] = []
        self._syncing = False
        self._timer = float("inf")
        self._order: list[tuple[int, Position]] = []
        """Records in effect and not swept, by apply index."""
        self._sign = signed_with(disk.key)
        for frontier in (disk.frontier, disk.truth):
            frontier.issue((disk.edge, self.epoch))
        self.table = PurgeTable()
        self._rebuild()
        self.replica = Replica(
            edge=disk.edge,
            epoch=self.epoch,
            members=disk.members(),
            frontier=disk.frontier.copy(),
            settings=world.settings,
            sign=self._sign,
            verify=self._verify,
        )

    def _verify(self, edge: str, signature: bytes, payload: bytes) -> bool:
        key = self.replica.members.key(edge)
        return key is not None and signed_with(key)(payload) == signature

    def _rebuild(self) -> None:
        """Stamps from the log above the floor, as a start does."""
        disk = self.disk
        self.table.begin(disk.index, disk.floor)
        entries = [(index, position, data) for position, (index, data) in disk.log.items() if index > disk.floor]
        covers = [(index, None, b"") for index in disk.covers if index > disk.floor]
        for index, position, data in sorted([*entries, *covers], key=lambda entry: entry[0]):
            hard = [everything_target()] if position is None else _targets(data)
            self.table.apply(hard, index=index)
            if position is not None:
                self._order.append((index, position))
        self.table.index = disk.index + INDEX_BLOCK
        disk.index = self.table.index
        self.applied = set(disk.log)

    # --- time

    @property
    def now(self) -> float:
        """What its clock says."""
        return self.world.now * self.clock_rate + self.clock_offset

    def _sim(self, local: float) -> float:
        return (local - self.clock_offset) / self.clock_rate + 1e-6  # never too early, however it is rounded

    def take(self, call: Callable[[], None]) -> None:
        """Something reaches it: it is dealt with when its turn comes."""
        if not self.alive:
            return
        if self.world.now < self.paused_until:
            self.inbox.append(call)
        elif self.service_s:
            self.free_at = max(self.free_at, self.world.now) + self.service_s
            self.world.timeline.at(self.free_at, lambda: self._turn(call))
        else:
            self._turn(call)

    def _turn(self, call: Callable[[], None]) -> None:
        if not self.alive:
            return
        if self.world.now < self.paused_until:
            self.inbox.append(call)
            return
        call()
        self._after()

    def _after(self) -> None:
        """After each step: see who counts, have the judge look, and set the timer."""
        heard = self.replica._known.heard._until
        if heard.keys() != self.counted_since.keys():
            self.counted_since = {edge: self.counted_since.get(edge, self.world.now) for edge in heard}
        self.world.judge.look(self)
        due = self._sim(self.replica.next_tick)
        if due < self._timer or self._timer <= self.world.now:
            self._timer = due
            if due < float("inf"):
                self.world.timeline.at(due, lambda: self._rings(due))

    def _rings(self, due: float) -> None:
        if self.alive and self._timer == due:
            self._timer = float("inf")
            self.take(lambda: self.do(self.replica.tick(self.now)))

    def leap(self, seconds: float) -> None:
        """Its clock goes forward: the machine slept, as far as it can tell."""
        self.clock_offset += seconds
        self._timer = float("inf")
        self._after()

    def resume(self) -> None:
        """A pause is over: all that came meanwhile is dealt with."""
        inbox, self.inbox = self.inbox, []
        for call in inbox:
            self.take(call)
        if self.alive:
            self._timer = float("inf")
            self._after()

    # --- disk

    def _write(self, written: Callable[[], None]) -> None:
        """Have this come about on the disk, after what was written before."""
        self._waiting.append(written)
        if not self._syncing:
            self._syncing = True
            self.world.timeline.after(self.sync_s, self._synced)

    def _synced(self) -> None:
        if not self.alive:
            return
        written, self._waiting = self._waiting, []
        self._syncing = False
        for each in written:
            each()
        if self.alive:
            self._after()

    def crash(self) -> None:
        """The process is gone, and with it what was not on the disk; the last batch may have got there unreported."""
        self.alive = False
        if self._syncing and self.world.draw.random() < 0.3:
            for each in self._waiting:
                each()

    # --- records

    def start(self) -> None:
        """Open the epoch and go."""
        about = "" if self.disk.last is None else self.disk.last.text
        self._issue(RecordKind.OPEN, about=about)
        self.do(self.replica.start(self.now))

    def stop(self) -> None:
        """A clean stop: what waits is written, and then it says goodbye."""
        self._synced()
        self.do(self.replica.goodbye(self.now))
        self.alive = False

    def purge(self, tag: str, version: int = RECORD_VERSION) -> Position:
        """Somebody purges a tag here."""
        return self._issue(RecordKind.PURGE, tag, version=version)

    def invite(self, member: Member) -> Position:
        """Make an edge a member."""
        told = base64.b64encode(msgspec.msgpack.encode(member)).decode()
        return self._issue(RecordKind.PURGE, actor=JOIN, reason=told)

    def forget(self, edge: str) -> None:
        """Make it one no more."""
        self._issue(RecordKind.PURGE, actor=FORGET, reason=edge)

    def _issue(
        self,
        kind: RecordKind,
        tag: str = "",
        *,
        about: str = "",
        actor: str = "",
        reason: str = "",
        version: int = RECORD_VERSION,
    ) -> Position:
        self._sequence += 1
        position = Position(self.disk.edge, self.epoch, self._sequence)
        given = (Given(Kind.TAG, tag),) if tag else ()
        told = Record(
            version, kind, (), Mode.HARD, position, self._previous, self.now, given, actor, "", reason, about=about
        )
        data = encode(told, self._sign)
        self._previous = digest(data)
        issued_at = self.world.now
        index = self._effect(position, data)
        self.do(self.replica.issued(position, data, self.now))
        self.world.judge.issued(position, tag if version == RECORD_VERSION else "", issued_at)

        def written() -> None:
            self._logged(position, index, data)
            self.disk.last = position
            self.world.judge.acknowledged(position)
            if self.alive:
                self.do(self.replica.durable(position, self.now))
                self._changes(data)  # of what it issued itself: once that is sure

        self._write(written)
        return position

    def _effect(self, position: Position, data: bytes) -> int:
        index = self.table.apply(_targets(data))
        self.disk.index = max(self.disk.index, index)
        self._order.append((index, position))
        self.applied.add(position)
        return index

    def _logged(self, position: Position, index: int, data: bytes) -> None:
        disk = self.disk
        disk.log.setdefault(position, (index, data))
        stream = position.edge, position.epoch
        for frontier in (disk.frontier, disk.truth):
            if stream in self.replica._known.opened:
                frontier.open(stream)
            frontier.add(position)
        change = _change(data)
        if isinstance(change, Member):
            disk.joined[change.edge] = change
        elif change is not None:
            disk.forgotten.add(change)
            self.world.forgotten.add(change)

    # --- effects

    def do(self, effects: Sequence[Effect]) -> None:
        """Carry out what the core wants done."""
        for effect in effects:
            if not self.alive:
                return
            if isinstance(effect, Apply):
                for data in effect.records:
                    self._apply(data)
            elif isinstance(effect, Publish):
                self.world.publish(self, effect.record)
            elif isinstance(effect, SendDigest):
                self.world.say(self, effect.data)
            elif isinstance(effect, SendAck):
                self.world.ack(self, effect.edge, effect.data)
            elif isinstance(effect, AskFor):
                self.world.ask(self, effect)
            elif isinstance(effect, CoverAll):
                self._cover(effect)
            elif isinstance(effect, Adopt):
                self._adopt(effect)
            elif isinstance(effect, Relink):
                self.world.relink(self, effect.edge)
            else:
                self.raised.append(effect)
                self.world.tell(self.name, "raises", f"{effect.alarm} {effect.what}")

    def _apply(self, data: bytes) -> None:
        position = read_header(data).position
        self.world.judge.applies(self, position)
        index = self._effect(position, data)
        self._changes(data)

        def written() -> None:
            self._logged(position, index, data)
            if self.alive:
                self.do(self.replica.durable(position, self.now))

        self._write(written)

    def _changes(self, data: bytes) -> None:
        change = _change(data)
        if isinstance(change, Member):
            self.do(self.replica.joined(change, self.now))
        elif change is not None:
            self.do(self.replica.forgotten(change, self.now))

    def _cover(self, effect: CoverAll) -> None:
        index = self.table.apply([everything_target()])
        self.disk.index = max(self.disk.index, index)
        self.world.tell(self.name, "covers", f"{effect.why} {[(*mark.stream, mark.held) for mark in effect.marks]}")

        def written() -> None:
            self.disk.covers.append(index)
            self._hold(effect.marks)
            if self.alive:
                self.do(self.replica.covered(effect.why, effect.marks, self.now))

        self._write(written)

    def _hold(self, marks: Sequence[Mark]) -> None:
        for frontier in (self.disk.frontier, self.disk.truth):
            frontier.take({mark.stream: mark.held for mark in marks})

    def _adopt(self, effect: Adopt) -> None:
        self.disk.joined.update({member.edge: member for member in effect.members})
        self.disk.forgotten.update(effect.forgotten)
        for member in effect.members:
            self.do(self.replica.joined(member, self.now))
        for edge in effect.forgotten:
            self.do(self.replica.forgotten(edge, self.now))

    def answer(self, data: bytes) -> list[bytes]:
        """What it answers to a pull; nothing if it may not."""
        try:
            stream, first, last = self.replica.pull_range(data)
        except RecordError:
            return []
        records, oldest = self.disk.run(stream, first, last, ANSWER_RECORDS)
        return [self.replica.pull_answer(stream, records, oldest)]

    # --- upkeep

    def sweep(self) -> None:
        """Delete what purges matched, and let the floor follow."""
        for url, stored in list(self.disk.store.items()):
            if self.table.verdict(stored.names, stored.fence).dead:
                del self.disk.store[url]
        durable = [index for index, position in self._order if position not in self.disk.log]
        floor = min(durable) - 1 if durable else self.table.index
        self.table.prune(floor)
        self.disk.floor = self.table.floor
        swept = [position for index, position in self._order if index <= floor]
        self._order = [(index, position) for index, position in self._order if index > floor]
        for position in swept:
            self.do(self.replica.swept(position, self.now))

    def keep_folds(self) -> None:
        """Write down which epochs have folded, as a runner that keeps the core's frontier does."""
        for edge, start in self.replica.held.folds.items():
            self.disk.frontier.fold(edge, start)

    # --- requests

    def request(self, names: Names) -> None:
        """A client asks: answered from what is stored if that may be, else fetched."""
        stored = self.disk.store.get(names.url)
        if stored is not None and not self.table.verdict(names, stored.fence).dead:
            self.world.judge.serves(self, stored)
            return
        fence, began = self.table.index, self.world.now

        def fetched() -> None:
            if not self.table.verdict(names, fence).dead:
                self.disk.store[names.url] = Stored(names, fence, began)

        self.world.timeline.after(self.world.draw.uniform(0.01, 0.3), lambda: self.take(fetched))


def _targets(data: bytes) -> list[Target]:
    """What a record purges here; everything if it cannot be read."""
    try:
        record = decode(data)
    except RecordError:
        return [everything_target()]
    return [tag_target("", given.value) for given in record.targets]


def _change(data: bytes) -> Member | str | None:
    """What a record changes among the members: who joins, or which edge is forgotten."""
    try:
        record = decode(data)
    except RecordError:
        return None
    if record.actor == JOIN:
        return msgspec.msgpack.decode(base64.b64decode(record.reason), type=Member)
    return record.reason if record.actor == FORGET else None
