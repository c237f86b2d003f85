"""The replication core: what an edge says and does so that every edge applies every purge. Sans-I/O.

    events  ─────────────────▶ ┌─ Replica ──────────────────────────┐ ─▶ effects
    issued, durable            │ frontiers: in effect; durable; swept│    Apply      put records into effect, log them
    record, digest, ack, pull  │ peers: heard, confirmed            │    Publish    a record of ours, to all
    linked, unlinked           │ gaps: since when, asked of whom    │    SendDigest, SendAck
    swept, tick                │ stage: starting ▶ catching up ▶    │    AskFor     records of one peer
    (time is handed in)        │        caught up ▶ over            │    CoverAll, Adopt, Relink, Raise
                               └────────────────────────────────────┘

The runner (`edge/meshing.py`) carries effects out, in order, and reports what comes of them as further events. The
simulator (`tests/simulation`) does the same with a network, disks and clocks of its own.

Decided here:
- A record is applied when it arrives, above a gap too, and once: by the *received* frontier. What others are told is
  the *held* one, durable here.
- A record that was published live is checked by its own signature; a pulled run by its chain and its last signature;
  if the chain does not hold, each by its own.
- A member counts (for lease, receipts, folding) once any record of it is in effect here. An edge that was invited and
  never came holds nobody up. Who says goodbye counts again when it is heard again.
- What was issued while an edge belonged still spreads after it was forgotten; what it says itself is not taken, and
  answered by an ack that says so.

Not here: records, stamps, disks and sockets; what a record means (`edge/purging.py`). Each idea has a module of its
own: `life.py`, `catchup.py`; `knowledge.py`, `heard.py`, `peers.py`; `intake.py`, `prints.py`, `strangers.py`;
`gaps.py`, `asks.py`, `pulling.py`; `publishing.py`, `tail.py`, `digests.py`, `hearing.py`, `acks.py`; `folding.py`,
`doubles.py`, `upkeep.py`.
Source: PURGE rules 1, 8, 20 to 27.
Units: seconds of one clock that never goes back and does not stand still while the machine sleeps (CLOCK_BOOTTIME).
"""

from collections.abc import Callable
from math import inf

from banish.errors import RecordError
from banish.mesh import hearing
from banish.mesh.acks import Acks
from banish.mesh.catchup import CatchUp
from banish.mesh.doubles import Doubles, Finding
from banish.mesh.effects import (
    Adopt,
    Alarm,
    Apply,
    AskFor,
    CoverAll,
    Effect,
    Publish,
    Raise,
    Receipt,
    Relink,
    SendAck,
    SendDigest,
    Settings,
    Standing,
)
from banish.mesh.folding import foldable
from banish.mesh.frontier import Frontier, Gap, Marks, Stream, is_fold, start_of
from banish.mesh.intake import Intake
from banish.mesh.knowledge import NEVER, Knowledge
from banish.mesh.life import TURNS, Stage, Turn
from banish.mesh.members import Member, Members
from banish.mesh.messages import (
    MESSAGE_VERSION,
    NO_STREAM,
    Ack,
    Digest,
    Echo,
    Kind,
    Mark,
    Pull,
    Pulled,
    Sign,
    Verify,
    decode,
    encode,
    sender,
)
from banish.mesh.peers import Peer
from banish.mesh.publishing import Publishing
from banish.mesh.pulling import NEWCOMER_PULLS_MAX, Pulling, Self
from banish.mesh.strangers import ALARM_EVERY_S
from banish.mesh.upkeep import look_after
from banish.purge.positions import SEQUENCE_MAX, Position
from banish.tables import Accounts, Metric

__all__ = [
    "Adopt",
    "Alarm",
    "Apply",
    "AskFor",
    "CoverAll",
    "Effect",
    "Publish",
    "Raise",
    "Receipt",
    "Relink",
    "Replica",
    "SendAck",
    "SendDigest",
    "Settings",
    "Stage",
    "Standing",
]

PULLS = Metric(
    "banish_mesh_pulls_total",
    "counter",
    "Pulls of missing records, by what came of them: whole, part, gone (the holder has them no more), silent (no "
    "answer in time), wrong (not to be trusted), list (of members).",
    ("what",),
)
PULLED = Metric("banish_mesh_pulled_records_total", "counter", "Records that came by a pull and were new.")
DIGESTS = Metric("banish_mesh_digests_total", "counter", "Digests, by whether they were sent or heard.", ("way",))
ALARMS = Metric("banish_mesh_alarms_total", "counter", "What should not happen between edges.", ("alarm",))
MISSING = Metric("banish_mesh_missing_streams", "gauge", "Streams of which records exist that are missing here.")
MEMBERS = Metric("banish_mesh_members", "gauge", "Other members: all, counted, and heard within the lease.", ("which",))
LAG = Metric("banish_mesh_lag_seconds", "gauge", "From publishing to each edge's ack, smoothed.", ("edge",))


class Replica:
    """One edge's part in the mesh. Belongs to the event loop; every method returns what is to be done, in order."""

    def __init__(
        self,
        *,
        edge: str,
        epoch: str,
        members: Members,
        frontier: Frontier,
        settings: Settings,
        sign: Sign,
        verify: Verify,
        swept: Marks | None = None,
        accounts: Accounts | None = None,
        on_lag: Callable[[str, float], None] | None = None,
    ) -> None:
        """`frontier` is what this edge's log holds, durable all of it. `swept`: up to where of each stream all that
        matched was deleted, and found so at this start; None: all of it. `on_lag`: called with each time from a
        publishing to an edge's ack. `members` is changed by `joined` and `forgotten`.
        """
        self.edge = edge
        self.epoch = epoch
        self.members = members
        self.settings = settings
        self.stage = Stage.STARTING
        self.held = frontier
        """What is in effect and durable here: what this edge tells others."""
        accounts = accounts if accounts is not None else Accounts()
        self._sign = sign
        self._verify = verify
        self._on_lag = on_lag
        self._known = known = Knowledge(edge, epoch, members, frontier, swept, settings)
        self._intake = Intake(known, verify, accounts)
        self._pulling = Pulling(
            Self(edge, epoch, sign),
            members,
            known.peers,
            known.counted,
            known.gaps,
            known.reach,
            gap_limit_s=settings.gap_limit_s,
        )
        self._pulling.newcomer = not any(stream[0] != edge for stream in frontier.marks)
        self._acks = Acks()
        self._publishing = Publishing(known, accounts)
        self._doubles = Doubles(edge, epoch, settings.period_s)
        self._catchup = CatchUp(inf)
        self._awaited = inf
        """The end of the wait for answers, as long as it is ahead."""
        self._running = False
        self._asks_digest = False
        self._warned_at = NEVER
        self._count(accounts)

    def _count(self, accounts: Accounts) -> None:
        known = self._known
        self._pulls = accounts.tally(PULLS)
        self._pulled = accounts.tally(PULLED)
        self._digests = accounts.tally(DIGESTS)
        self._alarms = accounts.tally(ALARMS)
        self._members_heard = 0
        accounts.read(MISSING, lambda: [((), len(known.gaps.streams))])
        accounts.read(
            MEMBERS,
            lambda: [
                (("all",), len(known.peers)),
                (("counted",), len(known.counted)),
                (("heard",), self._members_heard),
            ],
        )
        accounts.read(LAG, lambda: [((p.edge,), p.lag_s) for p in known.peers.values() if p.lag_s is not None])

    # --- life

    def start(self, now: float) -> list[Effect]:
        """The transport is open."""
        self._running = True
        self._catchup = CatchUp(now + self.settings.catchup_wait_s)
        self._awaited = self._catchup.until
        if not self._known.peers:
            self._turn(Turn.ALONE)
        return self._done([*self._say(now, asks=True, whole=True), *self._publishing.start()])

    def goodbye(self, now: float) -> list[Effect]:
        """This edge stops: nothing that comes after it counts as silence."""
        if not self._speaks:
            return []
        effects = self._send_acks(inf)
        effects += self._say(now, whole=True, goodbye=True)
        self._running = self._publishing.running = False
        return self._done(effects)

    @property
    def _speaks(self) -> bool:
        return self._running and not self.stage.over

    def _turn(self, turn: Turn) -> None:
        self.stage = TURNS[self.stage, turn]
        if self.stage is Stage.CAUGHT_UP:
            self._pulling.newcomer = False
            self._awaited = inf

    def _end(self, turn: Turn, alarm: Alarm, what: str) -> list[Effect]:
        if self.stage.over:
            return []
        self._turn(turn)
        return [Raise(alarm, what)]

    def _catch_up(self, now: float) -> None:
        if now >= self._catchup.until:
            self._awaited = inf
        if self.stage is Stage.STARTING and now >= self._catchup.until:
            self._turn(Turn.UNANSWERED)
        if self.stage is not Stage.CATCHING_UP or self._pulling.covering or self._pulling.adopting:
            return
        known = self._known
        awaited = known.counted or known.peers.keys()
        present = [edge for edge in awaited if not known.peers[edge].gone]
        if self._catchup.reached(known.received, present, lambda s, n: self._pulling.can_be_had(s, n, now), now):
            self._turn(Turn.REACHED)

    # --- records

    def issued(self, position: Position, record: bytes, now: float) -> list[Effect]:
        """A record of this edge's own is in effect here, and on its way to the disk."""
        self._publishing.issued(position, record)
        return []

    def durable(self, position: Position, now: float) -> list[Effect]:
        """A record, own or other, is on the disk here. Own ones are published now, others acknowledged."""
        known = self._known
        self._intake.unlogged.discard(position)
        stream = position.edge, position.epoch
        before = known.held.mark(stream)
        if not known.held.add(position):
            return []
        if known.held.mark(stream) > before:
            known.digests.changed(stream)
        if stream == known.own:
            return [] if self.stage.over else self._publishing.durable(position.seq, now)
        if position.edge != self.edge and known.held.mark(stream) > before:
            self._acks.note(stream, now)
        return self._done(self._send_acks(now))

    def swept(self, position: Position, now: float) -> list[Effect]:
        """All that a record matched here is deleted."""
        known = self._known
        stream = position.edge, position.epoch
        before = known.swept.mark(stream)
        known.swept.add(position)
        if known.swept.mark(stream) > before:
            known.digests.changed(stream)
            if position.edge != self.edge:
                self._acks.note(stream, now)
        return self._done(self._send_acks(now))

    def record(self, data: bytes, now: float) -> list[Effect]:
        """A published record has arrived."""
        if not self._speaks or self._takes_nothing_yet:
            return []
        return self._go_on(self._intake.live(data, now), now)

    @property
    def _takes_nothing_yet(self) -> bool:
        """A newcomer that does not know yet whether it will adopt what others hold. What it would take now would look
        later as if it had all that comes before; so it learns of it by digests, as of anything else that it missed.
        """
        return self._pulling.adopting or (self._pulling.newcomer and self.stage is Stage.STARTING)

    # --- digests

    def _say(self, now: float, *, asks: bool = False, whole: bool = False, goodbye: bool = False) -> list[Effect]:
        known = self._known
        asks = asks or self._asks_digest
        self._asks_digest = False
        if whole or known.digests.whole_is_due(now):
            self._fold()
        digests = known.digests.make(
            known.own,
            now,
            whole=whole,
            members=self.members.version,
            gone={edge: Echo(peer.gone, peer.last) for edge, peer in known.peers.items() if peer.gone},
            missing={stream[0] for stream in known.gaps.streams},
            behind=self.behind(now),
            asks=asks,
            goodbye=goodbye,
        )
        self._digests.add("sent", n=len(digests))
        return [SendDigest(encode(digest, self._sign)) for digest in digests]

    def _fold(self) -> None:
        known = self._known
        peers = list(known.peers.values())
        complete = foldable(
            known.held,
            peers,
            complete=known.is_complete,
            forgotten=self.members.is_forgotten,
            ended_at=known.ended_at,
        )
        for edge, epoch in list(complete):
            start, mark = int(epoch.partition("-")[0]), known.held.mark((edge, epoch))
            for frontier in (known.received, known.held, known.swept):
                frontier.fold(edge, start, mark)

    def digest(self, data: bytes, now: float) -> list[Effect]:
        """A digest has arrived."""
        if not self._speaks:
            return []
        try:
            digest = decode(data, Digest, self._verify)
        except RecordError as error:
            return self._done(self._unread(data, error, now))
        self._digests.add("heard")
        if digest.edge == self.edge:
            self._doubles.own(self.edge)  # whatever comes from here comes at once, or never
            return self._done(self._twin(Echo(digest.epoch, digest.number), self.edge, now))
        peer = self._known.peers.get(digest.edge)
        if peer is None:
            return self._done(self._from_no_member(digest.edge, now))
        if hearing.is_news(self._known, peer, digest):
            self._take_digest(peer, digest, now)
        return self._go_on(self._echoed(peer, digest, now), now)

    def _echoed(self, peer: Peer, digest: Digest, now: float) -> list[Effect]:
        """What it says that it heard of us."""
        echo = digest.echoes.get(self.edge)
        if echo is None:
            return []
        if echo.epoch != self.epoch:
            return self._twin(echo, peer.edge, now)
        self._doubles.own(peer.edge)
        sent = self._known.digests.sent_at(echo.number)
        if sent is not None:
            self._known.heard.echoed(peer.edge, sent + self.settings.lease_s)
        return []

    def _take_digest(self, peer: Peer, digest: Digest, now: float) -> None:
        hearing.take(self._known, peer, digest, now)
        self._confirmed(peer, now, measured=False)
        if digest.asks:
            self._known.digests.wanted(now, whole=True)
        if digest.whole and not digest.goodbye:
            self._answered(peer, digest, now)

    def _answered(self, peer: Peer, digest: Digest, now: float) -> None:
        """A member has said all that it holds: the target of a start."""
        if self.stage not in (Stage.STARTING, Stage.CATCHING_UP):
            return
        known = self._known
        marks = {known.unfolded(stream): far for stream, far in digest.marks.items()}
        if not self._catchup.answered(peer.edge, marks, known.received):
            return
        if self.stage is Stage.STARTING:
            self._turn(Turn.ANSWERED)
        if self._pulling.newcomer and not self._pulling.covering:
            missing = sum(max(far.held - known.received.mark(stream), 0) for stream, far in marks.items())
            folds = any(is_fold(stream) and not known.received.is_folded(stream) for stream in marks)
            self._pulling.adopting = self._pulling.adopting or folds or missing > NEWCOMER_PULLS_MAX

    def _twin(self, echo: Echo, by: str, now: float) -> list[Effect]:
        """Something was said under this id, by this process or not."""
        if echo.epoch == self.epoch:
            return []
        finding = self._doubles.seen(echo, by, self._known.digests.number, now)
        what = f"another process runs as {self.edge}, in epoch {echo.epoch}: was its data directory copied?"
        if finding is Finding.YIELD:
            return self._end(Turn.DOUBLED, Alarm.DOUBLE, what)
        if finding is Finding.WARN and now - self._warned_at >= ALARM_EVERY_S:
            self._warned_at = now
            return [Raise(Alarm.DOUBLE, what)]
        return []

    # --- acks

    def _send_acks(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for edge, streams in self._acks.ready(now):
            if edge in self._known.peers and self._speaks:
                marks = {s: self._known.digests.far(s) for s in streams if s in self.held.marks}
                ack = Ack(MESSAGE_VERSION, Kind.ACK, self.edge, self.epoch, marks)
                effects.append(SendAck(edge, encode(ack, self._sign)))
        return effects

    def ack(self, data: bytes, now: float) -> list[Effect]:
        """An ack has arrived."""
        if not self._speaks:
            return []
        try:
            ack = decode(data, Ack, self._verify)
        except RecordError as error:
            return self._done(self._unread(data, error, now))
        peer = self._known.peers.get(ack.edge)
        if peer is None:
            return []
        if ack.forgotten:
            return self._done(self._end(Turn.FORGOTTEN, Alarm.FORGOTTEN, f"{peer.edge} says so"))
        if ack.epoch != peer.epoch:
            if start_of(("", ack.epoch)) <= start_of(("", peer.epoch)):
                return []
            peer.began(ack.epoch, now)
        peer.take(ack.marks)
        for stream, far in ack.marks.items():
            self._known.learn(stream, far.held, peer.edge, now)
        self._confirmed(peer, now, measured=True)
        return self._go_on([], now)

    def _confirmed(self, peer: Peer, now: float, *, measured: bool) -> None:
        """It may have confirmed more of our own stream."""
        mark = min(peer.held(self._known.own), self._publishing.last)
        if not peer.confirmed(mark, now) or not measured:
            return
        published = self._known.published.get(mark)
        if published is not None:
            peer.measured(now - published)
            if self._on_lag is not None:
                self._on_lag(peer.edge, now - published)

    # --- pulls

    def pulled(self, number: int, parts: list[bytes], now: float) -> list[Effect]:
        """What came of an `AskFor`; no parts: no answer."""
        ask = self._pulling.asks.end(number)
        peer = None if ask is None else self._known.peers.get(ask.edge)
        if ask is None or not self._speaks:
            return []
        if peer is None:
            return self._go_on([], now, ask=True)
        answers = self._answers(peer, ask.gap.stream, parts)
        if not answers:
            self._pulls.add("wrong" if parts else "silent")
            self._pulling.asks.silent(peer, now)
            return self._go_on([], now, ask=True)
        self._pulling.asks.answered(peer)
        if ask.gap.stream == NO_STREAM:
            self._pulls.add("list")
            peer.list_differs_since = now
            return self._go_on(self._pulling.listed(answers[-1]), now, ask=True)
        effects: list[Effect] = []
        for answer in answers:
            taken = self._intake.run(answer.records, now) if answer.records else []
            if taken is None:
                self._pulls.add("wrong")
                self._pulling.asks.silent(peer, now)
                return self._go_on(effects, now, ask=True)
            effects += taken
        self._note_pulled(peer, ask.gap.first, ask.gap.stream, answers[-1], effects, now)
        return self._go_on(effects, now, ask=True)

    def _answers(self, peer: Peer, stream: Stream, parts: list[bytes]) -> list[Pulled]:
        """What of an answer can be read, and is one."""
        answers = []
        for part in parts:
            try:
                answer = decode(part, Pulled, self._verify)
            except RecordError:
                continue
            if answer.edge == peer.edge and answer.stream == stream:
                answers.append(answer)
        return answers

    def _note_pulled(
        self, peer: Peer, first: int, stream: Stream, answer: Pulled, effects: list[Effect], now: float
    ) -> None:
        known = self._known
        self._pulled.add(n=sum(len(effect.records) for effect in effects if isinstance(effect, Apply)))
        if known.received.has(Position(*stream, first)):
            self._pulls.add("whole" if not known.gaps.known(stream) else "part")
            return
        self._pulls.add("gone")
        self._pulling.lacks(peer, Gap(stream, first, first), answer, now)

    def covered(self, why: str, marks: tuple[Mark, ...], now: float) -> list[Effect]:
        """Everything was purged here, durably, in the place of what is missing."""
        self._known.adopt(marks, now)
        self._pulling.covered()
        return self._go_on([], now, ask=True)

    def _go_on(self, effects: list[Effect], now: float, *, ask: bool = False) -> list[Effect]:
        """After anything that may have brought more, or shown that something is missing."""
        if self._running:
            if ask or self._known.gaps.fresh or self._pulling.due <= now:
                self._known.gaps.fresh = False
                effects += self._pulling.ask(len(self._intake.unlogged), now)
            if self.stage is not Stage.CAUGHT_UP and not self.stage.over:
                self._catch_up(now)
        return self._done(effects)

    def _done(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Raise):
                self._alarms.add(effect.alarm.value)
        return effects

    # --- links and members

    def linked(self, edge: str, up: bool, now: float) -> list[Effect]:
        """A link has come up or gone down."""
        peer = self._known.peers.get(edge)
        if peer is None or not self._speaks:
            return []
        peer.linked = up
        if up:
            peer.linked_at = now
            self._pulling.asks.answered(peer)
            self._asks_digest = True
        self._known.digests.wanted(now)
        return self._go_on([], now, ask=up)

    def joined(self, member: Member, now: float) -> list[Effect]:
        """A record that says so is in effect; if this edge has issued it, durable."""
        if not self.members.join(member) or member.edge == self.edge:
            return []
        self._known.belongs(member.edge, now)
        self._known.digests.wanted(now)
        effects: list[Effect] = []
        for record in self._intake.strangers.known(member.edge):
            effects += self.record(record, now)
        return self._go_on(effects, now, ask=True)

    def forgotten(self, edge: str, now: float) -> list[Effect]:
        """The same of one that says this."""
        self.members.forget(edge)
        if edge == self.edge:
            return self._done(self._end(Turn.FORGOTTEN, Alarm.FORGOTTEN, "a record says so"))
        self._known.belongs_no_more(edge)
        self._pulling.believe_members()
        self._known.ended_at[edge] = now + self.settings.lease_s
        self._acks.forget(edge)
        self._known.digests.wanted(now)
        return self._go_on([], now)

    def _from_no_member(self, edge: str, now: float) -> list[Effect]:
        """It was a member once, and was forgotten: it is to know."""
        if not self._intake.strangers.to_be_told(edge, now):
            return []
        ack = Ack(MESSAGE_VERSION, Kind.ACK, self.edge, self.epoch, {}, forgotten=True)
        return [SendAck(edge, encode(ack, self._sign))]

    def _unread(self, data: bytes, error: RecordError, now: float) -> list[Effect]:
        """A message that cannot be read, or of nobody known."""
        edge = sender(data)
        if edge is None or edge in self.members:
            return self._intake.wrong(str(error), now)
        alarm = self._intake.strangers.spoke(edge, now)
        return [Raise(Alarm.STRANGER, f"digests of {edge}, which is no member")] if alarm else []

    # --- time

    def tick(self, now: float) -> list[Effect]:
        """Time has passed. To be called at `next_tick` at the latest."""
        if not self._speaks:
            return []
        effects = self._send_acks(now) + self._publishing.say_again(now)
        for number in self._pulling.asks.overdue(now):
            effects += self.pulled(number, [], now)
        periodic = self._known.digests.due <= now
        if periodic:
            looked, self._members_heard = look_after(self._known, self._pulling, self._publishing, now)
            effects += looked
            effects += self._say(now)
        return self._go_on(effects, now, ask=periodic)

    @property
    def next_tick(self) -> float:
        """When something is due."""
        if not self._speaks:
            return inf
        waits = min(self._acks.due, self._publishing.due, self._pulling.due, self._pulling.asks.next_deadline)
        return min(waits, self._known.digests.due, self._awaited)

    # --- what others ask

    def pull_range(self, data: bytes) -> tuple[Stream, int, int]:
        """What a pull asks for: stream, first and last number. Raises RecordError."""
        pull = decode(data, Pull, self._verify)
        if pull.edge not in self.members:
            raise RecordError(f"{pull.edge} is no member: nothing is given to it")
        return pull.stream, pull.first, pull.last

    def pull_answer(self, stream: Stream, records: tuple[bytes, ...], oldest: int) -> bytes:
        """The signed answer to a pull. `oldest`: the lowest number of the stream that the log here still has; 0 if it
        has none of it.
        """
        held = self.held.mark(stream)
        if records:
            answer = Pulled(MESSAGE_VERSION, Kind.PULL, self.edge, self.epoch, stream, records, oldest, held)
        else:
            answer = Pulled(
                MESSAGE_VERSION,
                Kind.PULL,
                self.edge,
                self.epoch,
                stream,
                (),
                oldest or min(held, SEQUENCE_MAX - 1) + 1,
                held,
                marks=tuple(Mark(each, mark) for each, mark in self.held.marks.items() if mark),
                members=(*self.members, *self.members.former),
                forgotten=tuple(sorted(self.members.forgotten)),
            )
        return encode(answer, self._sign)

    # --- what is known

    @property
    def lease_until(self) -> float:
        """Until when every member counts as heard and no gap as old; infinite where there is no other member. The past
        until this edge has caught up.
        """
        if self.stage is not Stage.CAUGHT_UP:
            return NEVER
        return min(self._known.heard.earliest, self._known.gaps.oldest + self.settings.lease_s)

    def behind(self, now: float) -> bool:
        """Whether this edge may be missing purges (PURGE rule 22)."""
        return now >= self.lease_until

    def receipts(self, position: Position, now: float) -> list[Receipt]:
        """How far every other member that counts is with a position, by name."""
        return self._known.receipts(position, now)

    def copies(self, position: Position) -> int:
        """How many edges are known to hold it durably, this one among them if it does."""
        return self._known.copies(position)

    @property
    def received(self) -> Frontier:
        """What is in effect here."""
        return self._known.received

    def peer(self, edge: str) -> Peer | None:
        """What is known of another member; None if it is none."""
        return self._known.peers.get(edge)

    def heard_until(self, edge: str) -> float:
        """Until when a member counts as heard; the past if it does not count."""
        return self._known.heard.until(edge)

    def wanted(self, marks: Marks, by: str, now: float) -> list[Effect]:
        """An edge has said, in another way than by a digest, that records up to these marks are in effect there: what
        is missing of them is to be had at once, from whoever has it.
        """
        if not self._speaks:
            return []
        peer = self._known.peers.get(by)
        if peer is not None:
            peer.claims = dict(marks)
        for stream, mark in marks.items():
            self._known.learn(stream, mark, stream[0] if peer is not None else by, now)
        return self._go_on([], now, ask=True)

    @property
    def counted(self) -> frozenset[str]:
        """The other members that count for lease, receipts and quorum: those of which any record is held."""
        return frozenset(self._known.counted)

    def lag_s(self, edge: str) -> float | None:
        """From publishing to this edge's ack, smoothed; None: not known."""
        peer = self._known.peers.get(edge)
        return None if peer is None else peer.lag_s

    def unconfirmed(self, edge: str) -> dict[Stream, int]:
        """What is in effect here that this edge has not confirmed in its present epoch: the causal header (rule 29)."""
        return self._known.unconfirmed(edge)
