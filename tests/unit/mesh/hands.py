"""Replicas moved by hand: some edges in one process, and every message in a list until a test delivers or drops it."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from banish.mesh.frontier import Frontier, Stream
from banish.mesh.members import Member, Members
from banish.mesh.replica import (
    Adopt,
    Apply,
    AskFor,
    CoverAll,
    Effect,
    Publish,
    Raise,
    Replica,
    SendAck,
    SendDigest,
    Settings,
)
from banish.purge.given import Given
from banish.purge.positions import Position
from banish.purge.records import RECORD_VERSION, Record, RecordKind, digest, encode, read_header
from banish.purge.stamps import Mode
from banish.purge.targets import Kind

SETTINGS = Settings()


def edge_id(name: str) -> str:
    """The id of the edge of this name."""
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def key_of(edge: str) -> bytes:
    """Its public key, and here its private one too."""
    return hashlib.blake2b(edge.encode(), digest_size=32).digest()


def signed_with(key: bytes) -> Callable[[bytes], bytes]:
    """Signs as the owner of this key."""
    return lambda payload: hashlib.blake2b(payload, key=key, digest_size=64).digest()


def verified_by(members: Members) -> Callable[[str, bytes, bytes], bool]:
    """Checks by the keys that this list has."""

    def verify(edge: str, signature: bytes, payload: bytes) -> bool:
        key = members.key(edge)
        return key is not None and signed_with(key)(payload) == signature

    return verify


def member(name: str) -> Member:
    """The edge of this name, as others know it."""
    return Member(edge_id(name), name, key_of(edge_id(name)))


@dataclass
class Hand:
    """One edge: its replica, its log, and what it did."""

    name: str
    members: Members
    start: int = 1
    frontier: Frontier = field(default_factory=Frontier)
    log: dict[Position, bytes] = field(default_factory=dict)
    applied: list[bytes] = field(default_factory=list)
    did: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.edge = edge_id(self.name)
        self.epoch = f"{self.start}-{hashlib.blake2b(f'{self.name}{self.start}'.encode(), digest_size=4).hexdigest()}"
        self.own: Stream = (self.edge, self.epoch)
        self.sign = signed_with(key_of(self.edge))
        self.sequence = 0
        self.previous = b""
        self.replica = Replica(
            edge=self.edge,
            epoch=self.epoch,
            members=self.members,
            frontier=self.frontier,
            settings=SETTINGS,
            sign=self.sign,
            verify=verified_by(self.members),
        )

    def record(self, kind: RecordKind = RecordKind.PURGE, about: str = "", tag: str = "") -> tuple[Position, bytes]:
        """The next record of its own."""
        self.sequence += 1
        position = Position(self.edge, self.epoch, self.sequence)
        targets = (Given(Kind.TAG, tag),) if tag else ()
        told = Record(RECORD_VERSION, kind, (), Mode.HARD, position, self.previous, 0.0, targets, about=about)
        data = encode(told, self.sign)
        self.previous = digest(data)
        return position, data

    def issue(self, now: float, kind: RecordKind = RecordKind.PURGE, about: str = "") -> list[Effect]:
        """Issue a record and have it on the disk at once."""
        position, data = self.record(kind, about)
        self.log[position] = data
        return self.replica.issued(position, data, now) + self.replica.durable(position, now)

    def answer(self, data: bytes) -> list[bytes]:
        """What its runner answers to a pull."""
        stream, first, last = self.replica.pull_range(data)
        have = sorted(position.seq for position in self.log if (position.edge, position.epoch) == stream)
        run = []
        for seq in range(first, last + 1):
            data_of = self.log.get(Position(*stream, seq))
            if data_of is None:
                break
            run.append(data_of)
        return [self.replica.pull_answer(stream, tuple(run), have[0] if have else 0)]

    def again(self, members: Members | None = None) -> "Hand":
        """The same edge, started anew from what is durable."""
        frontier = self.replica.held.copy()
        return Hand(self.name, members or self.members, self.start + 1, frontier, dict(self.log))


class Table:
    """Edges around a table. What one says waits in `post` until it is delivered; links are as `cut` says."""

    def __init__(self, *names: str) -> None:
        self.now = 100.0
        self.hands = {name: Hand(name, Members(member(each) for each in names)) for name in names}
        self.post: list[tuple[str, str, Effect]] = []
        self.cut: set[frozenset[str]] = set()
        self.raised: dict[str, list[Raise]] = {name: [] for name in names}

    def __getitem__(self, name: str) -> Hand:
        return self.hands[name]

    def by_id(self, edge: str) -> str:
        return next((name for name, hand in self.hands.items() if hand.edge == edge), edge)

    def do(self, name: str, effects: Iterable[Effect]) -> None:
        """Carry out what an edge wants done: here at once, with others by way of the post."""
        hand = self.hands[name]
        for effect in effects:
            hand.did.append(effect)
            if isinstance(effect, Apply):
                for data in effect.records:
                    position = read_header(data).position
                    hand.applied.append(data)
                    hand.log[position] = data
                    self.do(name, hand.replica.durable(position, self.now))
            elif isinstance(effect, CoverAll):
                self.do(name, hand.replica.covered(effect.why, effect.marks, self.now))
            elif isinstance(effect, Adopt):
                for each in effect.members:
                    self.do(name, hand.replica.joined(each, self.now))
                for edge in effect.forgotten:
                    self.do(name, hand.replica.forgotten(edge, self.now))
            elif isinstance(effect, Raise):
                self.raised[name].append(effect)
            elif isinstance(effect, Publish | SendDigest):
                self.post += [(name, other, effect) for other in self.hands if other != name]
            elif isinstance(effect, SendAck | AskFor):
                self.post.append((name, self.by_id(effect.edge), effect))

    def deliver(self, drop: Callable[[str, str, Effect], bool] = lambda *_: False) -> None:
        """Deliver all that waits and what comes of it; what `drop` says, or over a cut link, is lost."""
        while self.post:
            sender, receiver, effect = self.post.pop(0)
            self.hand_over(sender, receiver, effect, lost=drop(sender, receiver, effect))

    def hand_over(self, sender: str, receiver: str, effect: Effect, *, lost: bool = False) -> None:
        """Deliver one thing that was in the post."""
        lost = lost or frozenset((sender, receiver)) in self.cut
        to = self.hands.get(receiver)
        if to is None or lost:
            if isinstance(effect, AskFor):
                self.do(sender, self.hands[sender].replica.pulled(effect.number, [], self.now))
        elif isinstance(effect, Publish):
            self.do(receiver, to.replica.record(effect.record, self.now))
        elif isinstance(effect, SendDigest):
            self.do(receiver, to.replica.digest(effect.data, self.now))
        elif isinstance(effect, SendAck):
            self.do(receiver, to.replica.ack(effect.data, self.now))
        elif isinstance(effect, AskFor):
            answer = to.answer(effect.data)
            self.do(sender, self.hands[sender].replica.pulled(effect.number, answer, self.now))

    def start(self, *names: str) -> None:
        """Start edges: each issues its `open`, and is linked with all."""
        for name in names or tuple(self.hands):
            hand = self.hands[name]
            self.do(name, hand.issue(self.now, RecordKind.OPEN))
            self.do(name, hand.replica.start(self.now))
        self.link(*(names or tuple(self.hands)))
        self.deliver()

    def link(self, *names: str) -> None:
        """All links of these come up."""
        for name in names:
            for other in self.hands:
                if other != name and frozenset((name, other)) not in self.cut:
                    self.do(name, self.hands[name].replica.linked(self.hands[other].edge, True, self.now))
                    self.do(other, self.hands[other].replica.linked(self.hands[name].edge, True, self.now))

    def wait(self, seconds: float, drop: Callable[[str, str, Effect], bool] = lambda *_: False) -> None:
        """Let time pass: every edge is called when it wants to be, and all is delivered."""
        end = self.now + seconds
        while True:
            due, name = min((hand.replica.next_tick, name) for name, hand in self.hands.items())
            if due > end:
                break
            self.now = max(self.now, due)
            self.do(name, self.hands[name].replica.tick(self.now))
            self.deliver(drop)
        self.now = end

    def purge(self, name: str) -> Position:
        """Purge something at an edge; what it publishes waits in the post."""
        hand = self.hands[name]
        self.do(name, hand.issue(self.now))
        return Position(hand.edge, hand.epoch, hand.sequence)

    def restart(self, name: str) -> None:
        """Start an edge anew from what is durable."""
        before = self.hands[name]
        about = Position(before.edge, before.epoch, before.sequence).text
        hand = self.hands[name] = before.again()
        for other in self.hands:
            if other != name:
                self.do(other, self.hands[other].replica.linked(hand.edge, False, self.now))
        self.do(name, hand.issue(self.now, RecordKind.OPEN, about))
        self.do(name, hand.replica.start(self.now))
        self.link(name)
        self.deliver()

    def does(self, name: str, kind: type) -> list[Effect]:
        """What of this kind an edge has done."""
        return [effect for effect in self.hands[name].did if isinstance(effect, kind)]
