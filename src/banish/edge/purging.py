"""The purge service: takes a purge, puts it into effect, makes it durable, and only then says so.

    asked ─▶ allowed? well-formed? asked before? ─▶ issued: in effect, queued for the log ─▶ durable ─▶ answered
             `asking.py`        idempotency key     `issuing.py`                            swept ─▶ counts logged
                                                    └ or scheduled, and issued when due     `progress.py`

If the log fails once a purge is in effect, the caller is refused (503) and the purge stays in effect: it may be
logged later, and a repeat under the same idempotency key finds it then.

What other edges have issued takes the same way from `accept` on, without being asked for anything (`meshing.py`).

Not here: the history (`history.py`), recovery at start (`recovery.py`), deletion (`store/`), HTTP (`admin/`), what
follows from a record beside its stamps (`consequences.py`).
Units: seconds; moments since 1970.
Invariants: whoever is answered finds his purge in the log after any crash. A caller who leaves changes nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog

from banish.caching.policy import CachePolicy
from banish.clock import Clock
from banish.edge import dryrun
from banish.edge.asking import check_reason, checked, digest_of, own_modes, scope
from banish.edge.config import Purge as Settings
from banish.edge.consequences import Consequences
from banish.edge.everywhere import Everywhere
from banish.edge.history import History, read_record, tell
from banish.edge.issuing import Batch, Identity, Issued, Issuer, Store
from banish.edge.peers import Alone, Peers
from banish.edge.progress import FINISHED_AT_ONCE, Progress
from banish.edge.receipts import (
    Caller,
    DryRun,
    Feed,
    Filters,
    Page,
    Purge,
    PurgeRequest,
    PurgeState,
    Reach,
    Stage,
    Wait,
)
from banish.edge.recovery import recover
from banish.edge.schedules import Schedules
from banish.edge.undoing import Undoable
from banish.errors import BanishError, ClientError, LimitExceeded, LogUnwritable, RecordError, StoreError
from banish.http.targets import Target as UrlTarget
from banish.purge.given import TARGETS_MAX, Given
from banish.purge.positions import Position
from banish.purge.records import EVERY_SITE, Record, RecordKind, read_header, understood
from banish.purge.stamps import Mode, PurgeTable
from banish.purge.targets import Kind, Target
from banish.store.log import PurgeLog
from banish.tables import Accounts, Metric

HOUSEKEEPING_S = 0.5
"""Between two looks at what is due, if nothing is due before."""

RESERVE_S = 1.0
"""Between two looks at how many apply indexes are left: half a block lasts longer at any rate of purges."""

SYNC_S = 1.0
"""Between two syncs of the store: after a loss of power, what was deleted within that time is deleted again."""

TRIM_S = 60.0
"""Between two looks at how far the log goes back."""

PURGES_REFUSED = Metric(
    "banish_purges_refused_total",
    "counter",
    "Purges refused: log (it cannot be written, or does not keep up), size (of the record), request (not as it should "
    "be, or not allowed).",
    ("reason",),
)
RECORDS_UNREAD = Metric(
    "banish_records_unread_total",
    "counter",
    "Records of other edges that could not be read whole, and were applied as everything of their sites.",
)
PURGES_REPLAYED = Metric("banish_purges_replayed_total", "counter", "Purges answered again under an idempotency key.")

_REASONS = {503: "log", 413: "size"}
_ALL = Filters()

log = structlog.get_logger(__name__)


class _Keyed(NamedTuple):
    """A purge under an idempotency key that is being accepted."""

    request: bytes
    answer: "asyncio.Task[Purge]"


class Purger:
    """The purge service of one edge. It belongs to the event loop.

    `policy_of` gives the caching policy of a URL's target, by which cache keys are made; `rules` is another object when
    these policies are others. `invalidates_all` says of a site whether other edges are to hear of what its unsafe
    requests made invalid. `on_passing` is called with each new value of `passing`.
    """

    def __init__(
        self,
        *,
        table: PurgeTable,
        log: PurgeLog,
        identity: Identity,
        store: Store,
        policy_of: Callable[[UrlTarget], CachePolicy],
        rules: Callable[[], object] = lambda: None,
        invalidates_all: Callable[[str], bool] = lambda site: False,
        settings: Settings,
        clock: Clock,
        accounts: Accounts,
        on_passing: Callable[[bool], None] = lambda passing: None,
    ) -> None:
        self._table = table
        self._log = log
        self._store = store
        self._settings = settings
        self._clock = clock
        self._edge = identity.edge
        self._invalidates_all = invalidates_all
        self._issuer = Issuer(
            table=table,
            log=log,
            identity=identity,
            store=store,
            policy_of=policy_of,
            rules=rules,
            peers=Alone(),
            clock=clock,
            accounts=accounts,
            on_passing=on_passing,
        )
        self._schedules = Schedules(accounts)
        self._undoable = Undoable(store.release_soft, accounts)
        self._progress = Progress(accounts)
        self._consequences = Consequences(
            issuer=self._issuer,
            log=log,
            progress=self._progress,
            schedules=self._schedules,
            undoable=self._undoable,
            edge=identity.edge,
            undo_window_s=settings.undo_window_s,
            accounts=accounts,
        )
        self._history = History(log, self._progress, has_swept=self._has_swept)
        self._everywhere = Everywhere(self._history, self._progress, self._edge, lambda: self.peers)
        self._keyed: dict[tuple[str, str], _Keyed] = {}
        self._undoing: dict[int, Issued] = {}
        self._wake = asyncio.Event()
        self._refused = accounts.tally(PURGES_REFUSED)
        self._unread = accounts.tally(RECORDS_UNREAD)
        self._replayed = accounts.tally(PURGES_REPLAYED)

    @property
    def passing(self) -> bool:
        """Nothing may be answered from what is stored, nor be stored, and purges are refused (rule 12)."""
        return self._issuer.passing

    @property
    def edge(self) -> str:
        """The id of this edge."""
        return self._edge

    @property
    def peers(self) -> Peers:
        """The other edges."""
        return self._issuer.peers

    @peers.setter
    def peers(self, peers: Peers) -> None:
        self._issuer.peers = peers

    # --- start and end

    def recover(self) -> None:
        """Rebuild what was in memory from the log. Blocks, at start; the table has begun (`datadir.py`).

        Raises LogDamaged, LogUnwritable, StoreError.
        """
        floor = self._table.floor
        recover(self._log, floor, self._issuer, self._consequences, clock=self._clock)
        self._issuer.reserve_first()
        found = {"stamps": len(self._table), "unswept": len(self._progress), "scheduled": len(self._schedules)}
        log.info("purges recovered", index=self._table.index, floor=floor, **found)

    async def start(self) -> None:
        """Open this start's epoch in the log, and with it the service: at once, or when the log can be written."""
        self._log.on_change = self._log_changed
        await self._issuer.open()

    async def run(self) -> None:
        """Look after what is due, reservations, retention and syncs, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_house())
            tasks.create_task(_every(RESERVE_S, self._issuer.reserve))
            tasks.create_task(_every(SYNC_S, self._store.sync))
            tasks.create_task(_every(TRIM_S, self._trim))

    # --- purging

    async def purge(self, asked: PurgeRequest, caller: Caller) -> Purge:
        """Purge, or schedule a purge. Returns once that is in effect and durable.

        Raises ClientError: 400 not as it should be, 403 a site that is not the caller's, 413 too large, 422 another
        request had the same idempotency key, 503 it cannot be made durable now (it may be in effect all the same).
        """
        try:
            sites = scope(asked.site, caller)
            checked(asked)
            if asked.key:
                return await self._purge_once(asked, caller, sites)
            return await self._accept(asked, caller, sites)
        except ClientError as error:
            self._refused.add(_REASONS.get(error.status, "request"))
            raise

    async def _purge_once(self, asked: PurgeRequest, caller: Caller, sites: tuple[str, ...]) -> Purge:
        """Purge, unless that was done under this key; whoever asks meanwhile waits for the same answer."""
        request = digest_of(asked)
        keyed = self._keyed.get((caller.name, asked.key))
        first = keyed is None
        if keyed is None:
            keyed = self._begin_keyed(asked, caller, sites, request)
        elif keyed.request != request:
            raise _other_request()
        purge = await asyncio.shield(keyed.answer)
        if first and not purge.replayed:
            return purge
        self._replayed.add()
        return msgspec.structs.replace(purge, replayed=True)

    def _begin_keyed(self, asked: PurgeRequest, caller: Caller, sites: tuple[str, ...], request: bytes) -> _Keyed:
        """Begin to accept, in a task that its callers may leave."""
        self._issuer.check_room(also=len(self._keyed))
        place = (caller.name, asked.key)
        answer = asyncio.get_running_loop().create_task(self._find_or_accept(asked, caller, sites, request))
        keyed = self._keyed[place] = _Keyed(request, answer)

        def accepted(answer: "asyncio.Task[Purge]") -> None:
            del self._keyed[place]  # the log knows it from now on
            if not answer.cancelled():
                answer.exception()  # it is raised to those who still wait

        answer.add_done_callback(accepted)
        return keyed

    async def _find_or_accept(
        self, asked: PurgeRequest, caller: Caller, sites: tuple[str, ...], request: bytes
    ) -> Purge:
        try:
            earlier = await self._log.find_key(asked.key, caller.name)
        except StoreError as error:
            raise _unwritable(error) from error
        if earlier is None:
            return await self._accept(asked, caller, sites, request)
        if read_record(earlier).request != request:
            raise _other_request()
        return msgspec.structs.replace(await self._history.told(earlier), replayed=True)

    async def _accept(self, asked: PurgeRequest, caller: Caller, sites: tuple[str, ...], request: bytes = b"") -> Purge:
        self._issuer.check_room()
        mode, targets = own_modes(asked)
        told = {
            "sites": sites,
            "mode": mode,
            "targets": targets,
            "actor": caller.name,
            "source": caller.source,
            "reason": asked.reason,
            "key": asked.key,
            "request": request,
        }
        batch = await self._issuer.canonical_in_steps(targets, sites, mode, accepting=True)
        self._issuer.check_room()
        if asked.at is not None and asked.at > self._clock.now():
            return await self._schedule(asked.at, told)
        issued = self._issue(RecordKind.PURGE, batch, **told)
        return await self._answer(issued, Stage.APPLIED, batch.widened)

    async def _answer(self, issued: Issued, stage: Stage, widened: Sequence[str] = ()) -> Purge:
        """What is said of a purge once it is durable here and, for a while, on other edges."""
        await _durable(issued)
        copies = await self.peers.copies(issued.record.position)
        return tell(issued.index, issued.record, stage, widened=widened, copies=copies)

    async def _schedule(self, due: float, told: dict[str, Any]) -> Purge:
        self._schedules.check_room()
        if due - self._clock.now() > self._settings.retention_s:
            ahead = f"`at` is further ahead than the log goes back ({self._settings.retention_s:g} s)"
            raise ClientError(400, ahead, close=False)
        issued = self._issue(RecordKind.SCHEDULE, due=due, **told)
        self._wake.set()
        return await self._answer(issued, Stage.SCHEDULED)

    def _issue(self, kind: RecordKind, batch: Batch | None = None, **told: Any) -> Issued:
        """Issue an entry, with all that follows from it."""
        batch = batch or Batch()
        issued = self._issuer.issue(kind, batch, **told)
        self._follow(issued.index, issued.record, batch)
        return issued

    def _follow(self, index: int, record: Record, batch: Batch) -> None:
        moment = self._clock.monotonic()
        self._consequences.follow(index, record, batch, applied_at=moment, now=moment)

    def invalidate(self, targets: Sequence[Target], *, here_only: bool = False) -> int:
        """Make unusable what an unsafe request changed; the last apply index of it. In effect when this returns, and
        logged without anybody waiting for it (rule 13). `here_only`: whatever the sites want, others need not know.
        """
        index = 0
        told = [target for target in targets if not here_only and self._invalidates_all(target.site)]
        kept = targets if not told else [target for target in targets if not self._invalidates_all(target.site)]
        for some, stays in ((kept, True), (told, False)):
            for at in range(0, len(some), TARGETS_MAX):
                index = self._invalidate(some[at : at + TARGETS_MAX], here_only=stays)
        return index

    def _invalidate(self, targets: Sequence[Target], *, here_only: bool) -> int:
        sites = tuple(dict.fromkeys([target.site for target in targets]))
        try:
            issued = self._issuer.issue(
                RecordKind.INVALIDATION,
                Batch(hard=list(targets)),
                sites=EVERY_SITE if "" in sites else sites,
                targets=tuple([_given_of(target) for target in targets]),
                waited=False,
                here_only=here_only,
            )
        except LimitExceeded:  # more cache groups than fit into one record
            half = len(targets) // 2
            assert half, "no target is larger than a record"
            self._invalidate(targets[:half], here_only=here_only)
            return self._invalidate(targets[half:], here_only=here_only)
        return issued.index

    async def purge_everything_here(self, reason: str) -> None:
        """Purge everything on all sites, on this edge alone; in effect at once, and durable when this returns, however
        long that takes.
        """
        targets = (Given(Kind.EVERYTHING),)
        batch = self._issuer.canonical(targets, EVERY_SITE, Mode.HARD)
        issued = self._issue(RecordKind.PURGE, batch, targets=targets, actor="mesh", reason=reason, here_only=True)
        with contextlib.suppress(LogUnwritable):
            await issued.durable
        await self._log.committed_past(issued.index - 1)

    async def announce(self, kind: RecordKind, caller: Caller, **told: Any) -> Record:
        """Tell all edges something that purges nothing; durable when this returns. Raises ClientError (503)."""
        self._issuer.check_room()
        issued = self._issue(kind, actor=caller.name, source=caller.source, **told)
        await _durable(issued)
        return issued.record

    # --- records of other edges

    async def accept(self, signed: bytes) -> Record:
        """Put a record of another edge into effect and have it logged. Nothing of it is refused: what cannot be read,
        or held, is applied wider (rule 7). Calls take effect in the order in which they were made only if each waits
        for the one before. Raises RecordError if not even the head can be read, or claims what no other edge may have.
        """
        record, why = understood(signed)
        if record.position.here_only:
            raise RecordError(f"{record.position} is a position that never leaves its edge")
        kind = read_header(signed).kind if why else ""
        if why:
            self._unread.add()
            log.warning("a record is applied as everything of its sites", id=record.position.text, why=why)
        batch = Batch()
        if record.kind.purges:
            batch = await self._issuer.canonical_in_steps(record.targets, record.sites, record.mode)
        index = self._issuer.accept(signed, record, batch, kind=kind)
        self._follow(index, record, batch)
        if record.kind is RecordKind.SCHEDULE:
            self._wake.set()
        return record

    # --- taking back

    async def undo(self, id: str, caller: Caller, reason: str = "") -> Purge:  # noqa: A002
        """Take back a soft purge within its window, or a schedule that is not due yet: the purge as it is then.

        Raises ClientError: 400 no id, 403 it is about a site that is not the caller's, 404 no such purge, 409 it cannot
        be taken back (any more), 503 as `purge`.
        """
        check_reason(reason)
        entry, record = await self._history.entry(id, caller.sites)
        if caller.sites is not None and not (record.sites and set(record.sites) <= set(caller.sites)):
            raise ClientError(403, "it is about sites that this token may not purge", close=False)
        self._undoable.expire(self._clock.monotonic())
        undone = self._undoing.get(entry.index)
        ours = record.position.edge == self._edge
        if undone is None and ours and (entry.index in self._undoable or entry.index in self._schedules):
            self._issuer.check_room()
            undone = self._undoing[entry.index] = self._undo(entry.index, record, caller, reason)
            undone.durable.add_done_callback(lambda _: self._undone(entry.index))
        if undone is not None:
            await _durable(undone)
        purge = (await self._history.state(id, sites=caller.sites)).purge
        if purge.state not in (Stage.UNDONE, Stage.CANCELLED):
            raise ClientError(409, self._why_not_undone(purge, record.position.edge), close=False)
        return purge

    def _undo(self, index: int, record: Record, caller: Caller, reason: str) -> Issued:
        """Issue what takes an entry back, and take it back."""
        return self._issue(
            RecordKind.CANCEL if index in self._schedules else RecordKind.UNDO,
            sites=record.sites,
            mode=Mode.SOFT,
            about=record.position.text,
            actor=caller.name,
            source=caller.source,
            reason=reason,
        )

    def _undone(self, index: int) -> None:
        del self._undoing[index]
        self._progress.changed(index)

    def _why_not_undone(self, purge: Purge, edge: str) -> str:
        if purge.kind is RecordKind.SCHEDULE and purge.followed_by:
            return f"it was due and carried out: {purge.followed_by} is the purge"
        if purge.kind not in (RecordKind.PURGE, RecordKind.SCHEDULE):
            return f"an entry of the kind {purge.kind} cannot be undone"
        if edge != self._edge:  # its undo has to follow it, on the same way
            return f"only the edge that issued it can take it back: ask {self.peers.name(edge)}"
        if any((target.mode or purge.mode) is Mode.HARD for target in purge.targets):
            return "a hard purge cannot be undone: what it matched is gone"
        return f"a soft purge can be undone for {self._settings.undo_window_s:g} s, and that is over"

    # --- telling

    async def get(
        self,
        id: str,  # noqa: A002
        *,
        wait: Wait | Reach | None = None,
        timeout_s: float = 0.0,
        after: str | None = None,
        sites: tuple[str, ...] | None = None,
        counts: bool = False,
    ) -> PurgeState:
        """How far a purge is: at once; or once it is as far as `wait`; or, with the cursor of an earlier answer as
        `after`, once it differs from that. At the latest after `timeout_s`. `sites`: what the caller may see. `counts`:
        other edges are asked what it matched there.

        Raises ClientError: 400 no id, 404 no such purge, 503 too many wait.
        """
        return await self._everywhere.state(id, wait=wait, timeout_s=timeout_s, after=after, sites=sites, counts=counts)

    async def list(self, filters: Filters, *, limit: int = 100, before: str | None = None) -> Page:
        """The history, newest first. Raises ClientError: 400 `before` is not what an earlier page gave."""
        return await self._history.page(filters, limit=limit, before=before)

    async def feed(self, after: str | None, *, wait_s: float = 0.0, limit: int = 1000, filters: Filters = _ALL) -> Feed:
        """What was made durable behind the cursor `after` (None: since the log begins), in order, each entry once;
        waits up to `wait_s` for the first. Raises ClientError: 400 no cursor, 410 it cannot be continued without a
        gap, 503 too many wait.
        """
        return await self._history.feed(after, wait_s=wait_s, limit=limit, filters=filters)

    def export(self, filters: Filters) -> AsyncIterator[tuple[Purge, bytes]]:
        """The whole history that passes, oldest first, each entry with its signed record."""
        return self._history.export(filters)

    async def dry_run(self, asked: PurgeRequest, caller: Caller) -> DryRun:
        """What a purge would match now. Raises ClientError as `purge` (400, 403)."""
        sites = scope(asked.site, caller)
        checked(asked)
        mode, targets = own_modes(asked)
        batch = await self._issuer.canonical_in_steps(targets, sites, mode, accepting=True)
        held = self._store.survey([*batch.hard, *batch.soft])
        return await dryrun.dry_run(
            held, targets, batch.canonical, mode=mode, sites=sites, widened=tuple(batch.widened)
        )

    def why(self, index: int) -> str | None:
        """The id of the entry with this apply index; None if that was long ago."""
        return self._issuer.why(index)

    def index_of(self, position: Position) -> int | None:
        """The apply index of a position here; None if that was long ago, or it is yet to come."""
        return self._issuer.index_of(position)

    def matched(self, index: int, target: Target | None, responses: int, n_bytes: int) -> None:
        """The store removed (or, softly, marked) so many responses, with so many bytes in all, because of this purge
        and its canonical target, if that is known.
        """
        self._progress.matched(index, target, responses, n_bytes)

    def swept(self) -> None:
        """The store has swept something: end what is through."""
        now = self._clock.now()
        finished = self._progress.finish(self._has_swept, now)
        for followed in finished:
            self._log.mark_swept(followed.index, now, msgspec.json.encode(followed.counts))
        self.peers.swept(self._has_swept)
        if len(finished) == FINISHED_AT_ONCE:
            asyncio.get_running_loop().call_soon(self.swept)

    def _has_swept(self, index: int) -> bool:
        return index <= self._table.floor or self._store.has_swept(index)

    # --- looking after things

    def _log_changed(self, writable: bool) -> None:
        self._issuer.look_around()
        self._wake.set()

    async def _keep_house(self) -> None:
        while True:
            self._wake.clear()
            await _guarded(self._issuer.bind)
            await _guarded(self.tick)
            due = self._schedules.next_due()
            wait_s = HOUSEKEEPING_S if due is None or self.passing else due - self._clock.now()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(wait_s, HOUSEKEEPING_S))):
                    await self._wake.wait()

    async def tick(self) -> None:
        """Do what is due: end undo windows, carry schedules out."""
        self._undoable.expire(self._clock.monotonic())
        for index, record in self._schedules.due(self._clock.now()):
            if self._leaves_to_others(index, record):
                continue
            batch = await self._issuer.canonical_in_steps(record.targets, record.sites, record.mode)
            if self.passing:
                return  # later, then
            if index in self._schedules:  # and not cancelled meanwhile
                self._carry_out(index, record, batch)
            await asyncio.sleep(0)

    def _leaves_to_others(self, index: int, record: Record) -> bool:
        """Whether another edge is to carry out a schedule first: its issuer, or whoever's id is lower (rule 15)."""
        assert record.due is not None
        issuer = record.position.edge
        if issuer == self._edge:
            return False
        ours = record.due + self._settings.at_grace_s * (1 + self.peers.rank(issuer))
        if ours > self._clock.now():
            self._schedules.again(index, ours)
            return True
        log.warning("a schedule of another edge is carried out here", id=record.position.text, edge=issuer)
        return False

    def _carry_out(self, index: int, record: Record, batch: Batch) -> None:
        """Issue the purge that was scheduled, in the name of who scheduled it."""
        issued = self._issue(
            RecordKind.PURGE,
            batch,
            sites=record.sites,
            mode=record.mode,
            targets=record.targets,
            actor=record.actor,
            source=record.source,
            reason=record.reason,
            about=record.position.text,
        )
        issued.durable.add_done_callback(lambda _: self._progress.changed(index))

    async def _trim(self) -> None:
        """Let old entries go: none that the store may still need, no schedule that waits, and none that the note of
        what is held does not count.
        """
        floor = min(self._store.synced_floor, self._log.committed)
        oldest = self._schedules.oldest()
        if oldest is not None:
            floor = min(floor, oldest - 1)
        await self.peers.keep_frontier(self._log)
        self._log.trim(floor=floor)


def _given_of(target: Target) -> Given:
    """A canonical target as it is logged."""
    return Given(target.kind, target.value, target.boundary, target.regex, target.headers)


async def _durable(issued: Issued) -> None:
    """Wait until an entry is on the disk; raises ClientError (503) if that cannot be."""
    try:
        await asyncio.shield(issued.durable)
    except LogUnwritable as error:
        raise _unwritable(error) from error


def _other_request() -> ClientError:
    return ClientError(422, "the idempotency key was used for another request", close=False)


def _unwritable(error: BanishError) -> ClientError:
    return ClientError(503, f"{error.told or error.code}: what was asked may be in effect; ask again", close=False)


async def _guarded(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do it; a fault is logged and does not stop what comes after."""
    try:
        await work()
    except BanishError as error:
        log.warning("the purge service could not do something", what=work.__name__, error=str(error))
    except Exception:
        log.exception("the purge service failed at something", what=work.__name__)


async def _every(period_s: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do it again and again."""
    while True:
        await asyncio.sleep(period_s)
        await _guarded(work)
