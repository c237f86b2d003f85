"""The one step in which a purge happens: position, stamps, log.

    canonical targets ─▶ ┌ position, signed record; or another edge's    ┐ ─▶ durable in the log, in that order
                         │ apply index, stamps set, store told           │ ─▶ the other edges (`peers.py`)
                         │ record queued for the log                     │
                         └ nothing else runs meanwhile                   ┘

The order of apply indexes, of positions and of the log is therefore one order. If the log fails after the step, the
stamps stay: a purge too many does no harm. While the log cannot be written, `passing` is True: nothing is answered
from what is stored, nothing is stored, no purge is taken (PURGE rule 12).

Every entry of the log has an apply index of its own, those without targets too (an undo, a schedule). What other edges
have issued becomes an entry like any other, under the position that it has: nothing of it is refused for want of room.

What others are to have and what stays here are numbered apart, in two epochs (`purge/positions.py`): the numbers of the
first have no gaps (docs/adr/0013).

Not here: who may purge what, answers, undo, schedules (`purging.py`); stamps (`purge/stamps.py`); the log
(`store/log.py`); what is found of all this at start (`recovery.py`, `datadir.py`).
Units: apply indexes; seconds by the monotonic clock where it says `moment`.
Invariants: only this module applies stamps and appends to the log. No apply index is used before it is reserved in log
and store, unless `passing` is True.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from banish.caching.policy import CachePolicy
from banish.clock import Clock
from banish.edge.datadir import INDEX_BLOCK
from banish.edge.peers import Peers
from banish.errors import ClientError, LimitExceeded, LogUnwritable
from banish.http.targets import Target as UrlTarget
from banish.purge.given import Canonical, Given, accepted, canonical, numbered
from banish.purge.positions import Position, epoch_here_only
from banish.purge.records import (
    EVERY_SITE,
    RECORD_BYTES_MAX,
    RECORD_VERSION,
    Join,
    Record,
    RecordKind,
    digest,
    encode,
)
from banish.purge.stamps import Mode, PurgeTable, Widening
from banish.purge.targets import Target
from banish.store.log import PurgeLog
from banish.store.tiers import Held
from banish.tables import Accounts, Metric

PENDING_MAX = 10_000
"""Entries that wait for their commit at once. Past it 503: the disk does not keep up."""

PENDING_BYTES_MAX = 32 * 1024 * 1024
"""Bytes of their records: half of what may wait for the log, so that no purge is ever lost to it."""

STEP_TARGETS = 64
"""Targets made canonical between two turns of the event loop: a tenth of a millisecond's worth of URLs, some
milliseconds' worth of patterns, which are compiled."""

WHY_MAX = 100_000
"""Apply indexes of which the purge can be named without asking the log."""

SCHEDULE_SLACK_BYTES = 512
"""What the record of a carried-out schedule may be longer than the schedule's own."""

PURGES_LOGGED = Metric("banish_purges_logged_total", "counter", "Entries issued to the log of purges.", ("kind",))
RECORDS_ACCEPTED = Metric(
    "banish_records_accepted_total", "counter", "Records of other edges put into effect and logged.", ("kind",)
)
PURGES_PENDING = Metric("banish_purges_pending", "gauge", "Entries in effect that callers see committed first.")
PASSING = Metric("banish_passing", "gauge", "1 while nothing is answered from what is stored, for want of the log.")

_Meaning = Callable[[Given, tuple[str, ...], Callable[[UrlTarget], CachePolicy]], Canonical]

log = structlog.get_logger(__name__)


class Store(Protocol):
    """What the purge service needs of the store (`store/tiers.py`). Nothing here raises unless it says so."""

    @property
    def synced_floor(self) -> int:
        """All purges up to this apply index are swept, and will be found so after a loss of power."""
        ...

    def reserve(self, upto: int) -> None:
        """Note durably that apply indexes up to `upto` may come into use. Blocks, on a thread. Raises StoreError; a
        disk that takes no writes need not, if it makes up for it before it takes any.
        """
        ...

    def bind(self, log_id: str) -> None:
        """Note durably which log knows all purges of what is stored; empty: none does, so a start empties the store.
        Blocks, on a thread. Raises StoreError.
        """
        ...

    def applied(self, index: int, hard: Sequence[Target], soft: Sequence[Target], now: float) -> None:
        """A purge is in effect: have its matches found. Called for every index, in order; `now` is monotonic."""
        ...

    def release_soft(self, index: int) -> None:
        """The soft targets of a purge can be undone no more: have them swept."""
        ...

    def undone(self, index: int) -> None:
        """The soft stamps of a purge were taken back."""
        ...

    def has_swept(self, index: int) -> bool:
        """Whether all that a purge matched is gone, or marked. A soft one that can be undone holds up no other."""
        ...

    def survey(self, targets: Sequence[Target]) -> AsyncIterator[Held]:
        """Every stored response in use that any of these may match, once, in short steps."""
        ...

    async def sync(self) -> None:
        """Make durable what was deleted and where the floor is. Raises StoreError."""
        ...


class Identity(Protocol):
    """Who this edge is (`store/identity.py`)."""

    edge: str
    epoch: str

    def sign(self, data: bytes) -> bytes: ...


@dataclass(slots=True)
class Batch:
    """Targets as they are applied here."""

    hard: list[Target] = field(default_factory=list)
    soft: list[Target] = field(default_factory=list)
    canonical: list[tuple[Target, ...]] = field(default_factory=list)
    """What each given target became."""
    widened: list[str] = field(default_factory=list)

    def note(self, widening: Widening) -> None:
        """The table of stamps could not hold a target as it is."""
        asked, applied, reason = widening
        self.canonical = [(*targets, applied) if asked in targets else targets for targets in self.canonical]
        self.widened.append(f"{asked}: too many {reason}; applied as {applied}")


@dataclass(slots=True)
class Issued:
    """An entry in effect, on its way to the disk."""

    index: int
    record: Record
    durable: "asyncio.Future[None]"
    """Done when it is on the disk, or with LogUnwritable. Of what nobody waits for: done."""


@dataclass(slots=True)
class _Chain:
    """Records of this edge's own, numbered one after the other, each with the digest of the one before."""

    epoch: str
    last: int = 0
    previous: bytes = b""


class Issuer:
    """Issues the entries of one edge, and accepts those of others. It belongs to the event loop.

    `policy_of` gives the caching policy of a URL's target, by which cache keys are made; `rules` is another object when
    these policies are others. `on_passing` is called with each new value of `passing`.
    """

    def __init__(
        self,
        *,
        table: PurgeTable,
        log: PurgeLog,
        identity: Identity,
        store: Store,
        policy_of: Callable[[UrlTarget], CachePolicy],
        rules: Callable[[], object],
        peers: Peers,
        clock: Clock,
        accounts: Accounts,
        on_passing: Callable[[bool], None],
    ) -> None:
        self.peers = peers
        self.passing = True
        """Nothing may be answered from what is stored, nor stored, and purges are refused."""
        self._table = table
        self._log = log
        self._log_id = self._bound = log.id
        self._identity = identity
        self._store = store
        self._policy_of = policy_of
        self._rules = rules
        self._clock = clock
        self._on_passing = on_passing
        self._opened = False
        self._told = _Chain(identity.epoch)
        self._here_only = _Chain(epoch_here_only(identity.epoch))
        self._before: Position | None = None
        self._store_reserved = 0
        self._positions: dict[int, Position] = {}
        self._indexes: dict[Position, int] = {}
        self._pending = 0
        self._pending_bytes = 0
        self._logged = accounts.tally(PURGES_LOGGED)
        self._accepted = accounts.tally(RECORDS_ACCEPTED)
        accounts.read(PURGES_PENDING, lambda: [((), self._pending)])
        accounts.read(PASSING, lambda: [((), int(self.passing))])

    # --- start

    def reserve_first(self) -> None:
        """Have apply indexes to use, and know where the last start ended. Blocks, at start.

        Raises LogUnwritable, LogDamaged, StoreError.
        """
        self._before = self._log.last_issued(self._identity.edge)
        upto = max(self._table.index + INDEX_BLOCK, self._log.reserved)
        self._log.reserve(upto)
        self._store.reserve(upto)
        self._store_reserved = upto

    async def open(self) -> None:
        """Begin this start's epoch in the log, and with it the service: at once, or when the log can be written."""
        opening = self.issue(RecordKind.OPEN, about="" if self._before is None else self._before.text)
        self._opened = True
        with contextlib.suppress(LogUnwritable):  # the log writes it later, and then says that it can be written
            await opening.durable
        self.look_around()

    # --- the step

    def canonical(self, targets: Iterable[Given], sites: tuple[str, ...], mode: Mode) -> Batch:
        """What given targets mean here, now."""
        batch = Batch()
        self._add(batch, targets, sites, mode, canonical)
        return batch

    async def canonical_in_steps(
        self, targets: Sequence[Given], sites: tuple[str, ...], mode: Mode, *, accepting: bool = False
    ) -> Batch:
        """The same for as many as a purge may have, without holding up the event loop. Rules that change meanwhile
        count for all of them. `accepting`: raises ClientError (400) for the first that means nothing on any edge.
        """
        meaning = accepted if accepting else canonical
        while True:
            rules = self._rules()
            batch = Batch()
            for at in range(0, len(targets), STEP_TARGETS):
                try:
                    self._add(batch, targets[at : at + STEP_TARGETS], sites, mode, meaning)
                except ClientError as error:
                    raise numbered(error, len(batch.canonical) + 1) from error
                if at + STEP_TARGETS <= len(targets):
                    await asyncio.sleep(0)
            if self._rules() is rules:
                return batch

    def _add(
        self, batch: Batch, targets: Iterable[Given], sites: tuple[str, ...], mode: Mode, meaning: _Meaning
    ) -> None:
        for given in targets:
            meant, widened = meaning(given, sites, self._policy_of)
            (batch.hard if (given.mode or mode) is Mode.HARD else batch.soft).extend(meant)
            batch.canonical.append(meant)
            if widened is not None:
                batch.widened.append(widened)

    def issue(
        self,
        kind: RecordKind,
        batch: Batch | None = None,
        *,
        sites: tuple[str, ...] = EVERY_SITE,
        mode: Mode = Mode.HARD,
        waited: bool = True,
        here_only: bool = False,
        **told: Any,
    ) -> Issued:
        """Give an entry its position and apply index, put it into effect, and queue it for the log.

        `waited`: somebody will want to know when it is durable. `here_only`: no other edge is to hear of it. `told`:
        what else the record says. Raises LimitExceeded (413); nothing has happened then.
        """
        chain = self._here_only if here_only else self._told
        position = Position(self._identity.edge, chain.epoch, chain.last + 1)
        now = self._clock.now()
        make = Join if kind is RecordKind.JOIN else Record
        record = make(RECORD_VERSION, kind, sites, mode, position, chain.previous, now, **told)
        signed = encode(record, self._identity.sign)
        if kind is RecordKind.SCHEDULE and len(signed) > RECORD_BYTES_MAX - SCHEDULE_SLACK_BYTES:
            raise LimitExceeded(413, "purge.record_limit", "the purge is too large to be scheduled: split its targets")
        index = self.apply(batch or Batch(), self._clock.monotonic())
        self.remember(index, position)
        durable = self._append(index, signed, record) if waited else self._enqueue(index, signed, record)
        chain.last += 1
        chain.previous = digest(signed)
        self._logged.add(kind)
        if not here_only:
            self.peers.issued(index, record, signed)
        if self._exhausted:
            self.look_around()
        return Issued(index, record, durable)

    def accept(self, signed: bytes, record: Record, batch: Batch, *, kind: str = "") -> int:
        """The same for a record of another edge; its apply index. In effect even while the log cannot be written: it
        counts as held once it is there (PURGE rule 12). `kind`: what it says of its kind, if that is not known here.
        """
        index = self.apply(batch, self._clock.monotonic())
        self.remember(index, record.position)
        self._log.enqueue(index, signed, record, kind=kind)
        self._accepted.add(record.kind)
        self.peers.accepted(index, record)
        if self._exhausted:
            self.look_around()
        return index

    def apply(self, batch: Batch, moment: float, index: int | None = None) -> int:
        """Set the stamps and tell the store; the apply index. What could not be held as it is, is told as it was."""
        index = self._table.apply(batch.hard, batch.soft, index=index)
        hard: Sequence[Target] = batch.hard
        soft: Sequence[Target] = batch.soft
        if self._table.widenings:
            hard, soft = self._table.stamped(index)
            for widening in self._table.widenings:
                batch.note(widening)
        self._store.applied(index, hard, soft, moment)
        return index

    def take_back(self, index: int) -> None:
        """Undo the soft stamps of an entry."""
        self._table.undo(index)
        self._store.undone(index)

    def _append(self, index: int, signed: bytes, record: Record) -> "asyncio.Future[None]":
        durable = self._log.append(index, signed, record)
        self._pending += 1
        self._pending_bytes += len(signed)

        def committed(durable: "asyncio.Future[None]") -> None:
            self._pending -= 1
            self._pending_bytes -= len(signed)
            if not durable.cancelled():
                durable.exception()  # it is raised to those who still wait

        durable.add_done_callback(committed)
        return durable

    def _enqueue(self, index: int, signed: bytes, record: Record) -> "asyncio.Future[None]":
        self._log.enqueue(index, signed, record)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    # --- which purge was it

    def remember(self, index: int, position: Position) -> None:
        """The entry with this apply index has this position."""
        self._positions[index] = position
        self._indexes[position] = index
        if len(self._positions) > WHY_MAX:
            self._indexes.pop(self._positions.pop(next(iter(self._positions))), None)

    def index_of(self, position: Position) -> int | None:
        """The apply index of a position; None if that was long ago, or is yet to come."""
        return self._indexes.get(position)

    def why(self, index: int) -> str | None:
        """The id of the entry with this apply index; None if that was long ago."""
        position = self._positions.get(index)
        return None if position is None else position.text

    # --- whether it can be done

    def check_room(self, also: int = 0) -> None:
        """Raises ClientError (503) if no purge can be taken now. `also`: how many wait that are not issued yet."""
        if self.peers.refusal:
            raise ClientError(503, self.peers.refusal, close=False)
        if self.passing:
            raise ClientError(503, "purges cannot be made durable now: the log cannot be written", close=False)
        if self._pending + also >= PENDING_MAX or self._pending_bytes >= PENDING_BYTES_MAX:
            raise LimitExceeded(503, "PENDING_MAX", "too many purges wait to be made durable: try again in a moment")

    @property
    def _exhausted(self) -> bool:
        """Whether the next apply index may not come into use."""
        return self._table.index >= min(self._log.reserved, self._store_reserved)

    def look_around(self) -> None:
        """See whether anything may be answered from what is stored."""
        passing = not (self._opened and self._log.writable) or self._exhausted
        if passing is self.passing:
            return
        self.passing = passing
        if passing:
            log.error("purges cannot be made durable: they are refused, and everything is passed")
        else:
            log.info("purges are taken")
        self._on_passing(passing)

    async def reserve(self) -> None:
        """Have at least half a block of apply indexes ahead. Raises LogUnwritable, StoreError."""
        if self._log.reserved - self._table.index < INDEX_BLOCK // 2:
            await self._log.reserve_more(self._table.index + INDEX_BLOCK)
        if self._store_reserved < self._log.reserved:
            upto = self._log.reserved
            await asyncio.to_thread(self._store.reserve, upto)
            self._store_reserved = upto
        self.look_around()

    async def bind(self) -> None:
        """Tell the store whether its log knows every purge. While the log cannot be written, what is logged without
        waiting may be lost with the process: the store belongs to no log then, so that a start would empty it.

        Raises StoreError.
        """
        wanted = self._log_id if self._log.writable else ""
        if wanted != self._bound:
            await asyncio.to_thread(self._store.bind, wanted)
            self._bound = wanted
