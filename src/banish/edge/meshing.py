"""The mesh at work: joins the replication core to transport, purge service, log and clock.

    transport ── record, digest, ack, link ─▶ ┌─ Replica ───────────┐ ─▶ Publish, SendDigest, SendAck ──▶ transport
    purge service ── issued, swept ─────────▶ │ (mesh/replica.py)   │ ─▶ AskFor ──▶ a task ──▶ pulled
    log ── committed: durable ──────────────▶ │ decides             │ ─▶ Apply, CoverAll, Adopt ─┐
    clock ── tick ──────────────────────────▶ └─────────────────────┘                            ▼
                       one worker, one order: what came first takes effect first (`applying.py`) ──▶ purge service

Not here: what is said, asked and believed (`mesh/replica.py`); what the log holds (`holding.py`); who belongs
(`membership.py`); receipts and waits (`confirming.py`); what others ask (`serving_peers.py`).
Units: seconds of the clock that goes on while the machine sleeps (`Clock.boottime`).
Invariant: the core is told that a record is durable only once the log has committed it.
"""

import asyncio
import contextlib
import itertools
import math
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from banish.clock import Clock
from banish.edge.applying import Worker
from banish.edge.canary import Canaries
from banish.edge.canary import Store as CanaryStore
from banish.edge.complaints import Complaints
from banish.edge.config import Mesh as Settings
from banish.edge.confirming import Confirming
from banish.edge.holding import Trail, frontier_of, member_of, members_of
from banish.edge.membership import Membership
from banish.edge.mesh_state import MeshState
from banish.edge.purging import Purger
from banish.edge.receipts import Caller, EdgeReceipt
from banish.edge.serving_peers import Answerer
from banish.errors import ConfigError, LogUnwritable
from banish.mesh import replica as core
from banish.mesh.directory import MeshDirectory
from banish.mesh.effects import (
    Adopt,
    Alarm,
    Apply,
    AskFor,
    CoverAll,
    Effect,
    Publish,
    Raise,
    Relink,
    SendAck,
    SendDigest,
)
from banish.mesh.frontier import Marks, dump
from banish.mesh.invitations import Invitation, Renewal
from banish.mesh.lease import Lease
from banish.mesh.life import Stage
from banish.mesh.members import Member
from banish.mesh.replica import Replica
from banish.mesh.transport import Receiver, Transport
from banish.purge.positions import Position
from banish.purge.records import Record, RecordKind
from banish.store.identity import verifies
from banish.store.log import PurgeLog
from banish.tables import Accounts, Metric

COUNTS_S = 2.0
"""How long an edge may take to say what a purge matched there."""

TOLD_AT_ONCE = 256
"""Records that the core is told to be durable, or swept, between two turns of the event loop."""

RETRY_S = 0.2
"""Between two looks whether the log can be written again."""

BEHIND = Metric("banish_mesh_behind", "gauge", "1 while this edge may be missing purges.")
BACKLOG_DROPPED = Metric(
    "banish_mesh_backlog_dropped_total", "counter", "Published records dropped, since too many waited: pulled later."
)
DIGEST_AGE = Metric(
    "banish_mesh_digest_age_seconds",
    "gauge",
    "Since the last digest of each member; none until the first.",
    ("member",),
)
STAGE = Metric("banish_mesh_stage", "gauge", "1 for the stage that this edge is in.", ("stage",))

_REFUSALS = {
    Stage.FORGOTTEN: "the other edges have forgotten this one: ask one of them",
    Stage.DOUBLED: "another process has this edge's id: ask another edge",
}

log = structlog.get_logger(__name__)


class Me(Protocol):
    """Who this edge is (`store/identity.py`)."""

    edge: str
    epoch: str

    def sign(self, data: bytes) -> bytes: ...


class Mesh:
    """One edge's part in its mesh. Belongs to the event loop; making it blocks.

    `floor`: up to which apply index everything is swept. `on_outcast` is called once if nothing that is stored may be
    used here any more. Raises ConfigError, LogDamaged.
    """

    def __init__(
        self,
        *,
        directory: MeshDirectory,
        identity: Me,
        purger: Purger,
        purge_log: PurgeLog,
        floor: int,
        settings: Settings,
        lease: Lease,
        clock: Clock,
        accounts: Accounts,
        make_transport: Callable[[Member], Transport],
        on_outcast: Callable[[], None],
        copies: int,
        copies_wait_s: float,
        store: CanaryStore,
        index: Callable[[], int],
    ) -> None:
        self.edge = identity.edge
        self.epoch = identity.epoch
        self.sign = identity.sign
        self.members = members_of(purge_log, directory.members())
        self._purger = purger
        self._log = purge_log
        self._settings = settings
        self._lease = lease
        self._clock = clock
        self._on_outcast = on_outcast
        self._keys: dict[bytes, Ed25519PublicKey] = {}
        self._me = self._myself()
        self._transport = make_transport(self._me)
        self._trail = Trail()
        frontier = frontier_of(purge_log, self.edge)
        swept = self._trail.begin(purge_log.positions_above(floor), frontier)
        self._in_effect = frontier.copy()
        self.confirming = Confirming(self, copies=copies, copies_wait_s=copies_wait_s, accounts=accounts)
        self.replica = Replica(
            edge=self.edge,
            epoch=self.epoch,
            members=self.members,
            frontier=frontier,
            swept=swept,
            settings=core.Settings(
                settings.period_s, settings.lease_s, settings.gap_limit_s, max(settings.catchup_wait_s, 0.001)
            ),
            sign=identity.sign,
            verify=self.verify,
            accounts=accounts,
            on_lag=self.confirming.measured,
        )
        self.answerer = Answerer(
            self.replica,
            purge_log,
            state_of=purger.get,
            sign=identity.sign,
            verify=self.verify,
            accounts=accounts,
        )
        self.canaries = Canaries(
            self.edge,
            store=store,
            purging=purger,
            receipts=self.receipts,
            index=index,
            clock=clock,
            accounts=accounts,
        )
        self._membership = Membership(self, directory, purger=purger, clock=clock)
        self._stage = self.replica.stage
        self._settled = asyncio.Event()
        """Caught up, or never to be."""
        self._worker = Worker(
            purger,
            purge_log,
            applied=self._applied,
            cover=self._cover,
            adopt=self._adopt,
            idle=self.confirming.moved,
            accounts=accounts,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._stopped = False
        self._relinking = False
        self._complaints = Complaints(log, clock)
        self._count(accounts)
        self._after()

    def _myself(self) -> Member:
        if self.members.is_forgotten(self.edge):
            key = self.members.key(self.edge)
            return Member(self.edge, self.edge, key or bytes(32))
        me = self.members.get(self.edge)
        if me is None:
            raise ConfigError(
                "this edge is not among the members of its mesh: its identity and its `mesh` directory are not of one"
                " edge; banish join makes both"
            )
        return me

    def _count(self, accounts: Accounts) -> None:
        self._dropped = accounts.tally(BACKLOG_DROPPED)
        accounts.read(BEHIND, lambda: [((), int(self._lease.past()))])
        accounts.read(STAGE, lambda: [((stage.value,), int(stage is self.replica.stage)) for stage in Stage])
        accounts.read(DIGEST_AGE, self._digest_ages)

    def _digest_ages(self) -> list[tuple[tuple[str, ...], float]]:
        now = self.now()
        peers = [(member.name, self.replica.peer(member.edge)) for member in self.members]
        return [((name,), now - peer.digest_at) for name, peer in peers if peer and peer.digest_at > -math.inf]

    # --- start and end

    async def start(self) -> None:
        """Open the links, and wait until this edge has what the others hold, or for `mesh.catchup_wait_s`.

        Raises ConfigError: an address that cannot be had, a certificate that does not fit, an id that is in use.
        """
        receiver = Receiver(
            on_record=self._on_record,
            on_digest=lambda data: self._do(self.replica.digest(data, self.now())),
            on_ack=lambda data: self._do(self.replica.ack(data, self.now())),
            on_link=lambda edge, up: self._do(self.replica.linked(edge, up, self.now())),
            on_pull=self.answerer.pull,
            on_counts=self.answerer.counts,
        )
        self._spawn(self._worker.run())
        self._spawn(self._watch_log())
        if self.members.is_forgotten(self.edge):
            self._do(self.replica.forgotten(self.edge, self.now()))
            return
        await self._transport.start(list(self.members), receiver)
        self._do(self.replica.start(self.now()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.catchup_wait_s):
                await self._settled.wait()
        if self.replica.stage is Stage.DOUBLED:
            raise ConfigError(
                f"another process runs as the edge {self.edge} ({self._me.name}): its data directory was copied, or an"
                " invitation was used twice; stop that process, or invite this edge anew (banish mesh invite)"
            )
        if self._settings.canary_s:
            self._spawn(self.canaries.run(self._settings.canary_s))
        caught_up = self.replica.stage is Stage.CAUGHT_UP
        told = log.info if caught_up else log.warning
        told("mesh", caught_up=caught_up, members=len(self.members), heard=self.confirming.heard())

    async def stop(self) -> None:
        """Say goodbye and end all links."""
        if not self._stopped:
            self._tell_written()
            self._do(self.replica.goodbye(self.now()))
            self._stopped = True
            if self._timer is not None:
                self._timer.cancel()
        await self._transport.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._membership.keep()

    def reload(self) -> None:
        """If this edge has another certificate, open the links anew."""
        if self._membership.renewed():
            self._relink()

    # --- events

    def now(self) -> float:
        """The present, by the clock that all waits of the mesh are measured with."""
        return self._clock.boottime()

    def _on_record(self, data: bytes) -> None:
        if self._worker.full:
            self._dropped.add()
            return
        self._do(self.replica.record(data, self.now()))

    def issued(self, index: int, record: Record, signed: bytes) -> None:
        """A record of this edge's own is in effect (`peers.py`)."""
        self._in_effect.add(record.position)
        if self._log.taken >= index:
            self._trail.add(index, record)
        self._do(self.replica.issued(record.position, signed, self.now()))
        self.canaries.in_effect(record)

    def accepted(self, index: int, record: Record) -> None:
        """The same of another edge's."""
        self._in_effect.add(record.position)
        if self._log.taken >= index:
            self._trail.add(index, record)
        self.canaries.in_effect(record)

    def swept(self, has_swept: Callable[[int], bool]) -> None:
        """More may be swept."""
        now = self.now()
        some = list(itertools.islice(self._trail.swept(has_swept, self._log.committed), TOLD_AT_ONCE))
        self._do([effect for position in some for effect in self.replica.swept(position, now)])
        if len(some) == TOLD_AT_ONCE and not self._stopped:
            asyncio.get_running_loop().call_soon(self.swept, has_swept)

    async def _watch_log(self) -> None:
        committed = 0
        while True:
            await self._log.committed_past(committed)
            committed = self._log.committed
            while self._tell_some():  # noqa: ASYNC110
                await asyncio.sleep(0)  # requests get their turn

    def _tell_written(self) -> None:
        while self._tell_some():
            pass

    def _tell_some(self) -> bool:
        """Tell the core of some records that the log has committed; whether there may be more."""
        now = self.now()
        some = list(itertools.islice(self._trail.written(self._log.committed), TOLD_AT_ONCE))
        self._do([effect for position in some for effect in self.replica.durable(position, now)])
        return len(some) == TOLD_AT_ONCE

    async def keep_frontier(self, purge_log: PurgeLog) -> None:
        """Have the log note what is held (`peers.py`). Raises LogUnwritable."""
        self._tell_written()
        await purge_log.keep_frontier(dump(self.replica.held))

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        self._do(self.replica.tick(self.now()))

    # --- effects

    def _do(self, effects: Iterable[Effect]) -> None:
        """Carry out what the core wants, in its order."""
        for effect in effects:
            match effect:
                case Apply(records):
                    for data in records:
                        self._worker.leave(data)
                case CoverAll() | Adopt():
                    self._worker.leave(effect)
                case Publish(record):
                    self._transport.publish_record(record)
                case SendDigest(data):
                    self._transport.publish_digest(data)
                case SendAck(edge, data):
                    self._transport.send_ack(edge, data)
                case AskFor():
                    self._spawn(self._ask(effect))
                case Relink():
                    self._relink()
                case Raise(alarm, what):
                    self._raise(alarm, what)
        self._after()

    def _after(self) -> None:
        """Whatever happened: it may have changed until when this edge is in step, and when something is due."""
        if self._stopped:
            return
        until = self.replica.lease_until
        if until != self._lease.until:
            self._lease.renew(until)
        self.confirming.moved()
        if self.replica.stage is not self._stage:
            self._stage = self.replica.stage
            self._staged()
        due = self.replica.next_tick
        if due < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = due
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self.now()), self._tick)

    def _staged(self) -> None:
        log.info("mesh", stage=self._stage.value)
        if self._stage is Stage.CAUGHT_UP or self._stage.over:
            self._settled.set()
        if self._stage is Stage.FORGOTTEN:
            log.error(
                "the other edges have forgotten this one: it answers nothing from what it has stored; make it a new"
                " edge with an invitation (banish mesh invite there, banish join --replace here)"
            )
            self._on_outcast()
            self._spawn(self._purger.purge_everything_here("forgotten by the mesh"))
        elif self._stage is Stage.DOUBLED:
            log.error(
                "another process has this edge's id: it answers nothing from what it has stored; make one of the two a"
                " new edge (banish mesh invite, banish join --replace)"
            )
            self._on_outcast()

    def _raise(self, alarm: Alarm, what: str) -> None:
        self._complaints.make("mesh alarm", alarm.value, alarm=alarm.value, why=what)

    def _relink(self) -> None:
        if not self._relinking:
            self._relinking = True
            self._spawn(self._reopen())

    async def _reopen(self) -> None:
        try:
            await self._transport.reopen()
        finally:
            self._relinking = False

    async def _ask(self, asked: AskFor) -> None:
        parts: Sequence[bytes] = ()
        try:
            parts = await self._transport.pull(asked.edge, asked.data, asked.timeout_s)
        finally:
            if not self._stopped:
                self._do(self.replica.pulled(asked.number, list(parts), self.now()))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the mesh failed at something", exc_info=error)

    # --- what the worker does (`applying.py`)

    def _applied(self, record: Record) -> None:
        if record.kind in (RecordKind.JOIN, RecordKind.FORGET):
            self.belongs(record)

    async def _cover(self, cover: CoverAll) -> None:
        """Purge everything here in the place of what is missing, and note that it counts as held: durably, both."""
        await self._purger.purge_everything_here(cover.why)
        frontier = self.replica.held.copy()
        frontier.take({mark.stream: mark.held for mark in cover.marks})
        await self._keep(dump(frontier))
        self._do(self.replica.covered(cover.why, cover.marks, self.now()))

    async def _keep(self, frontier: bytes) -> None:
        while True:
            try:
                await self._log.keep_frontier(frontier)
            except LogUnwritable:
                await asyncio.sleep(RETRY_S)
            else:
                return

    # --- who belongs

    def belongs(self, record: Record) -> None:
        """A record that says who belongs is in effect."""
        member = member_of(record)
        if member is not None:
            self._change([member], ())
        elif record.kind is RecordKind.FORGET:
            self._change((), [record.about])

    def _adopt(self, adopt: Adopt) -> None:
        self._change(adopt.members, adopt.forgotten)

    def _change(self, members: Iterable[Member], forgotten: Iterable[str]) -> None:
        before, now = self.members.version, self.now()
        for member in members:
            self._do(self.replica.joined(member, now))
        for edge in forgotten:
            if not self.members.is_forgotten(edge):
                self._do(self.replica.forgotten(edge, now))
        if self.members.version != before:
            log.info("members", version=self.members.version, count=len(self.members))
            self._spawn(self._membership.keep())
            self._spawn(self._transport.reform(list(self.members)))

    def verify(self, edge: str, signature: bytes, payload: bytes) -> bool:
        """Whether it is that edge's signature. False for whoever never was a member."""
        key = self.members.key(edge)
        if key is None:
            return False
        public = self._keys.get(key)
        if public is None:
            try:
                public = self._keys[key] = Ed25519PublicKey.from_public_bytes(key)
            except ValueError:
                return False
        return verifies(public, signature, payload)

    def rank(self, issuer: str) -> int:
        """How many members come before this edge to stand in for `issuer` (`peers.py`)."""
        return sum(member.edge < self.edge and member.edge != issuer for member in self.members)

    def name(self, edge: str) -> str:
        """What people call an edge."""
        member = self.members.get(edge)
        return edge if member is None else member.name

    def state(self) -> MeshState:
        """The mesh as this edge has it."""
        return self._membership.state(self.now())

    async def invite(self, name: str, endpoints: Sequence[str], *, relay: bool, caller: Caller) -> Invitation:
        """Make an edge, and a member of it (`membership.py`)."""
        return await self._membership.invite(name, endpoints, relay=relay, caller=caller)

    async def renew(self, name: str, endpoints: Sequence[str] | None, *, caller: Caller) -> Renewal:
        """A new certificate for a member (`membership.py`)."""
        return await self._membership.renew(name, endpoints, caller=caller)

    async def forget(self, name: str, *, caller: Caller) -> tuple[str, str]:
        """Forget a member (`membership.py`)."""
        return await self._membership.forget(name, caller=caller)

    # --- receipts (`confirming.py`)

    async def copies(self, position: Position) -> int:
        """On how many edges it is durable (`peers.py`)."""
        return await self.confirming.copies(position)

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something about receipts holds (`peers.py`)."""
        return await self.confirming.until(condition, timeout_s)

    async def counts(self, id: str, edges: Sequence[str]) -> dict[str, tuple[int, int]]:  # noqa: A002
        """What a purge has matched on these edges (`peers.py`)."""
        asked = self.answerer.ask_counts(id)
        told = await asyncio.gather(*[self._transport.counts(edge, asked, COUNTS_S) for edge in edges])
        found = [(edge, self.answerer.read_counts(edge, data)) for edge, data in zip(edges, told, strict=True)]
        return {edge: (counts.matched, counts.bytes) for edge, counts in found if counts is not None and counts.found}

    @property
    def refusal(self) -> str:
        """Why nothing that is issued here would reach another edge (`peers.py`)."""
        return _REFUSALS.get(self.replica.stage, "")

    @property
    def membership(self) -> str:
        """Version of the list of members (`peers.py`)."""
        return self.members.version

    def receipts(self, position: Position) -> list[EdgeReceipt]:
        """How far every other member is with it (`peers.py`)."""
        return self.confirming.receipts(position)

    # --- tiers (`tiering.py`)

    def named(self, name: str) -> str | None:
        """The id of the member of this name."""
        member = self.members.named(name)
        return None if member is None else member.edge

    def has_member(self, edge: str) -> bool:
        """Whether it belongs now."""
        return edge in self.members

    def epoch_of(self, edge: str) -> str:
        """The present epoch of an edge; empty: it was never heard."""
        peer = self.replica.peer(edge)
        return "" if peer is None else peer.epoch

    def unconfirmed(self, edge: str) -> Marks:
        """What is in effect here and not confirmed by that edge in its present epoch."""
        return self.replica.unconfirmed(edge)

    def covers(self, marks: Marks) -> bool:
        """Whether everything up to these marks is in effect here: what the core has received the worker may have before
        it. What is covered by something wider, or folded, the core alone knows.
        """
        idle = self._worker.idle
        return self._in_effect.covers(marks) or (idle and self.replica.received.covers(marks))

    async def catch_up(self, marks: Marks, by: str, timeout_s: float) -> bool:
        """Have everything up to these marks, which are in effect at the edge `by`, in effect here; whether that came
        about."""
        self._do(self.replica.wanted(marks, by, self.now()))
        return await self.confirming.until(lambda: self.covers(marks), timeout_s)

    def index_of(self, position: Position) -> int | None:
        """The apply index that a purge got here; None: it is not known (any more)."""
        return self._purger.index_of(position)
