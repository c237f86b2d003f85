"""The history of purges as callers read it: single entries, listings, the change feed and the export.

    cursor  `LOG.INDEX`: everything in that log up to that apply index has been told. The log's own random id is in it,
            so a cursor of another log, or of one that was cut beyond it, is refused (410) instead of skipping.

Only what is durable is shown. A filter leaves entries out of an answer, never out of a cursor's count.

Not here: how an entry came about (`purging.py`); who waits for a purge (`progress.py`); the log (`store/log.py`).
Units: apply indexes; moments in seconds since 1970; waits in seconds.
Invariant: the feed tells every entry behind a cursor once, in the order of their apply indexes, which is the
order in which they took effect here.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import msgspec
import structlog

from banish.edge.canary import CANARY_SITE
from banish.edge.progress import Counts, Followed, Progress
from banish.edge.receipts import Feed, Filters, Page, Purge, PurgeState, Stage, TargetCount, Wait
from banish.errors import ClientError, RecordError
from banish.purge.given import Given
from banish.purge.positions import parse_position
from banish.purge.records import EVERY_SITE, RECORD_VERSION, Record, RecordKind, understood
from banish.purge.stamps import Mode
from banish.purge.targets import Kind
from banish.store.ledger import Entry
from banish.store.log import PurgeLog

PAGE_MAX = 1000
"""Entries of one answer."""

SCANNED_MAX = 10_000
"""Entries that one listing looks at. A filter that few pass gets what was found so far, and a place to go on."""

SCANNED_BYTES_MAX = 8 * 1024 * 1024
"""Bytes of records that it looks at."""

READ_AT_ONCE = 100
"""Entries read from the log in one go: about a millisecond of a thread."""

STEP_BYTES = 32 * 1024
"""Bytes of records read between two turns of the event loop: less than a millisecond's work."""

LOOK_S = 0.25
"""How often counts that grow are looked at for one who waits for a change of them."""

_AT_ONCE = (RecordKind.UNDO, RecordKind.CANCEL, RecordKind.JOIN, RecordKind.FORGET)
"""Kinds with which nothing is left to do once they are logged."""

log = structlog.get_logger(__name__)


class History:
    """Reads the log of one edge for callers. `has_swept` says whether all that a purge matched is gone."""

    def __init__(self, log: PurgeLog, progress: Progress, *, has_swept: Callable[[int], bool]) -> None:
        self._log = log
        self._progress = progress
        self._has_swept = has_swept

    # --- one entry

    async def entry(self, id: str, sites: tuple[str, ...] | None) -> tuple[Entry, Record]:  # noqa: A002
        """The entry of an id, for a caller who may see `sites` (None: all). Raises ClientError 400, 404."""
        entry = await self._log.find(parse_position(id))
        if entry is not None and entry.kind is not RecordKind.OPEN:
            record = read_record(entry)
            if _visible(record, sites):
                return entry, record
        raise ClientError(404, "no such purge in the log: never made here, or trimmed away since", close=False)

    async def state(
        self,
        id: str,  # noqa: A002
        *,
        wait: Wait | None = None,
        timeout_s: float = 0.0,
        after: str | None = None,
        sites: tuple[str, ...] | None = None,
    ) -> PurgeState:
        """How far a purge is, once it is as far as `wait` or, with `after`, differs from the state which that cursor
        names; at the latest after `timeout_s`.
        """
        state, watched = await self._state(id, sites)
        if timeout_s <= 0 or (wait is None and after is None) or self._answers(state, wait, after):
            return state
        with self._progress.place():
            return await self._wait(id, watched, wait=wait, timeout_s=timeout_s, after=after, sites=sites)

    async def _wait(
        self,
        id: str,  # noqa: A002
        watched: tuple[int, ...],
        *,
        wait: Wait | None,
        timeout_s: float,
        after: str | None,
        sites: tuple[str, ...] | None,
    ) -> PurgeState:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while True:
            with self._progress.watch(*watched) as changed:
                state, watched = await self._state(id, sites)
                while not self._answers(state, wait, after):
                    left_s = until - loop.time()
                    if left_s <= 0:
                        return state
                    await asyncio.wait((changed,), timeout=left_s if after is None else min(left_s, LOOK_S))
                    if changed.done() or self._grew(watched, state):
                        break
                else:
                    return state

    def _grew(self, watched: tuple[int, ...], state: PurgeState) -> bool:
        """Whether more was matched since that state was told."""
        followed = self._progress.find(watched[-1])
        return followed is not None and followed.counts.matched != state.matched

    @staticmethod
    def _answers(state: PurgeState, wait: Wait | None, after: str | None) -> bool:
        if after is not None and state.cursor != after:
            return True
        if state.purge.kind in _AT_ONCE:
            return True
        return wait is not None and wait.holds(state.state)

    async def _state(self, id: str, sites: tuple[str, ...] | None) -> tuple[PurgeState, tuple[int, ...]]:  # noqa: A002
        """The state of a purge, and the entries whose changes may change it."""
        entry, record = await self.entry(id, sites)
        purge, follower = await self._told(entry, record)
        counted = entry
        if entry.kind is RecordKind.SCHEDULE and follower is not None and follower.kind is RecordKind.PURGE:
            counted = follower
        counts, swept_at = self._counts(counted)
        state = PurgeState(
            purge=purge,
            state=purge.state,
            matched=counts.matched,
            bytes=counts.bytes,
            targets=_per_target(purge, counts),
            swept_at=swept_at,
            cursor=f"{purge.state}.{counts.matched}",
        )
        return state, (entry.index, counted.index)

    # --- many entries

    async def page(self, filters: Filters, *, limit: int, before: str | None) -> Page:
        """The newest entries that pass, older than `before`. Raises ClientError 400."""
        if before is not None and not (before.isascii() and before.isdecimal() and len(before) < 20):
            raise ClientError(400, "`before` is what an earlier page gave to go on with", close=False)
        committed = self._log.committed
        newest = committed + 1 if before is None else int(before)
        found, place = await self._collect(filters, limit, before=newest, newest_first=True)
        return Page(purges=tuple(found), before=None if place is None else str(place), cursor=self.cursor(committed))

    async def feed(self, after: str | None, *, wait_s: float, limit: int, filters: Filters) -> Feed:
        """What was made durable behind the cursor `after` (None: since the log begins), waiting up to `wait_s` for the
        first. Raises ClientError 410 if that cannot be told without a gap.
        """
        feed = await self._news(self._log.cut if after is None else self._place(after), limit, filters)
        if feed.purges or wait_s <= 0:
            return feed
        with self._progress.place(), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while not feed.purges:
                    place = self._place(feed.cursor)
                    await self._log.committed_past(place)
                    feed = await self._news(place, limit, filters)
        return feed

    async def _news(self, place: int, limit: int, filters: Filters) -> Feed:
        committed = self._log.committed  # a reader may find more, of which the loop has not been told
        found, last = await self._collect(filters, limit, after=place, before=committed + 1)
        return Feed(purges=tuple(found), cursor=self.cursor(max(place, committed) if last is None else last))

    async def _collect(
        self, filters: Filters, limit: int, *, after: int = 0, before: int, newest_first: bool = False
    ) -> tuple[list[Purge], int | None]:
        """Entries in (after, before) that pass, and the last one looked at; None if there is no more."""
        limit = max(1, min(limit, PAGE_MAX))
        found: list[Purge] = []
        scanned = scanned_bytes = 0
        while True:
            entries = await self._read(filters, after=after, before=before, newest_first=newest_first)
            if not newest_first and after < self._log.cut:
                raise _gone("it goes back further than the log does")
            async for entry, record in _read_records(entries):
                if newest_first:
                    before = entry.index
                else:
                    after = entry.index
                scanned += 1
                scanned_bytes += len(entry.record)
                if _passes(record, filters):
                    found.append((await self._told(entry, record))[0])
                if len(found) == limit or scanned >= SCANNED_MAX or scanned_bytes >= SCANNED_BYTES_MAX:
                    return found, entry.index
            if len(entries) < READ_AT_ONCE:
                return found, None

    async def export(self, filters: Filters) -> AsyncIterator[tuple[Purge, bytes]]:
        """Every entry that passes, oldest first, each with its signed record."""
        place = 0
        while entries := await self._read(filters, after=place):
            async for entry, record in _read_records(entries):
                place = entry.index
                if _passes(record, filters):
                    yield (await self._told(entry, record))[0], entry.record

    async def _read(
        self, filters: Filters, *, after: int = 0, before: int | None = None, newest_first: bool = False
    ) -> list[Entry]:
        return await self._log.read(
            after=after,
            before=before,
            limit=READ_AT_ONCE,
            since=filters.since,
            until=filters.until,
            actor=filters.actor,
            site=filters.site,
            mentions=filters.target and (filters.target.partition(":")[2] or filters.target),
            kinds=filters.kinds,
            openings=False,
            newest_first=newest_first,
        )

    # --- cursors

    def cursor(self, index: int) -> str:
        """All up to this apply index has been told."""
        return f"{self._log.id}.{index}"

    def _place(self, cursor: str) -> int:
        log, _, index = cursor.rpartition(".")
        if not (log and index.isascii() and index.isdecimal() and len(index) < 20):
            raise ClientError(400, "the cursor is not one that a feed gave", close=False)
        if log != self._log.id:
            raise _gone("it is of another log: this edge's was lost, or the cursor is another edge's")
        if int(index) < self._log.cut:
            raise _gone("it goes back further than the log does")
        if int(index) > self._log.committed:
            raise _gone("it is ahead of the log")
        return int(index)

    # --- telling

    async def told(self, entry: Entry) -> Purge:
        """An entry as callers are told of it."""
        return (await self._told(entry, read_record(entry)))[0]

    async def _told(self, entry: Entry, record: Record) -> tuple[Purge, Entry | None]:
        """An entry as told, and the one that followed from it: an undo, a cancel, what a schedule became."""
        by = entry.undone_by or self._progress.follower(entry.index)
        follower = await self._at(by) if by else None
        purge = tell(
            entry.index,
            record,
            self._stage(entry, follower),
            widened=self._counts(entry)[0].widened,
            followed_by="" if follower is None else follower.position.text,
        )
        return purge, follower

    async def _at(self, index: int) -> Entry | None:
        found = await self._log.read(after=index - 1, before=index + 1, limit=1)
        return found[0] if found else None

    def _stage(self, entry: Entry, follower: Entry | None = None) -> Stage:
        match entry.kind:
            case RecordKind.SCHEDULE:
                if follower is None:
                    return Stage.SCHEDULED
                return Stage.CANCELLED if follower.kind is RecordKind.CANCEL else self._stage(follower)
            case RecordKind.UNDO | RecordKind.CANCEL | RecordKind.JOIN | RecordKind.FORGET:
                return Stage.APPLIED
        if follower is not None:
            return Stage.UNDONE
        followed = self._progress.find(entry.index)
        if followed is not None:  # while its counts grow it is not through, whatever the store says
            return Stage.APPLIED if followed.swept_at is None else Stage.SWEPT
        return Stage.SWEPT if entry.swept_at is not None or self._has_swept(entry.index) else Stage.APPLIED

    def _counts(self, entry: Entry) -> tuple[Counts, float | None]:
        """What a purge has matched so far, and when it was swept."""
        followed: Followed | None = self._progress.find(entry.index)
        if followed is not None:
            return followed.counts, followed.swept_at
        if entry.counts:
            return msgspec.json.decode(entry.counts, type=Counts), entry.swept_at
        return _NOTHING, entry.swept_at


_NOTHING = Counts(targets=None)


async def _read_records(entries: Iterable[Entry]) -> AsyncIterator[tuple[Entry, Record]]:
    """Entries with their records, in short steps."""
    n_bytes = 0
    for entry in entries:
        yield entry, read_record(entry)
        n_bytes += len(entry.record)
        if n_bytes >= STEP_BYTES:
            n_bytes = 0
            await asyncio.sleep(0)


def read_record(entry: Entry) -> Record:
    """The record of an entry. One that cannot be read stands for everything of its sites, in its mode; if not even
    these can be read, for everything (PURGE rule 7).
    """
    try:
        record, why = understood(entry.record)
    except RecordError as error:
        everything = (Given(Kind.EVERYTHING),)
        why = str(error)
        record = Record(RECORD_VERSION, entry.kind, EVERY_SITE, Mode.HARD, entry.position, b"", 0.0, everything)
    if not why:
        return record
    log.error("purge record cannot be read", id=entry.position.text, kind=entry.kind, error=why)
    return msgspec.structs.replace(
        record,
        position=entry.position,
        at=entry.at,
        actor=entry.actor,
        source=entry.source,
        reason=entry.reason,
        due=entry.at if entry.kind is RecordKind.SCHEDULE else None,
    )


def tell(
    index: int,
    record: Record,
    stage: Stage,
    *,
    widened: Sequence[str] = (),
    followed_by: str = "",
    replayed: bool = False,
    copies: int | None = None,
) -> Purge:
    """A record as callers are told of it."""
    return Purge(
        id=record.position.text,
        kind=record.kind,
        state=stage,
        mode=record.mode,
        sites=record.sites,
        targets=record.targets,
        at=record.at,
        due=record.due,
        actor=record.actor,
        source=record.source,
        reason=record.reason,
        key=record.key,
        about=record.about,
        followed_by=followed_by,
        widened=tuple(widened),
        index=index,
        replayed=replayed,
        copies=copies,
    )


def _per_target(purge: Purge, counts: Counts) -> tuple[TargetCount, ...]:
    if counts.targets is None:
        return ()
    none = (0, 0)
    found = [(target, counts.targets.get(at, none)) for at, target in enumerate(purge.targets)]
    return tuple([TargetCount(target=target, matched=matched, bytes=n_bytes) for target, (matched, n_bytes) in found])


def _visible(record: Record, sites: tuple[str, ...] | None) -> bool:
    """Whether an entry is about any of these sites."""
    return sites is None or not record.sites or not set(sites).isdisjoint(record.sites)


def _passes(record: Record, filters: Filters) -> bool:
    """What the log itself does not sort out. Canaries are told only to those who ask for their site."""
    if not _visible(record, filters.sites) or (record.sites == (CANARY_SITE,) and filters.site != CANARY_SITE):
        return False
    wanted = filters.target
    return wanted is None or any(
        wanted == given.value or wanted == f"{given.kind}:{given.value}" for given in record.targets
    )


def _gone(why: str) -> ClientError:
    return ClientError(410, f"the cursor cannot be continued: {why}; begin anew without one", close=False)
