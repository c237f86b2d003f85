"""A purge service that purges nothing: a history in a list, and waits that end when a test says so."""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from banish.clock import Clock
from banish.edge.receipts import (
    Caller,
    DryRun,
    EdgeReceipt,
    Feed,
    Filters,
    Page,
    Purge,
    PurgeRequest,
    PurgeState,
    Reach,
    Sample,
    Stage,
    TargetCount,
    Wait,
)
from banish.errors import ClientError
from banish.purge.positions import Position
from banish.purge.records import RecordKind
from banish.purge.stamps import Mode

EDGE, EPOCH = "0123456789abcdef", "1-89abcdef"
LOG = "feedfacecafebeef"


class FakePurger:
    """Has what `banish.admin.subject.Purging` asks for. `entries[n - 1]` has the apply index n.

    With `sweeps` (the default) whoever waits for a purge finds it swept; else once `sweep` is called.
    """

    def __init__(self, clock: Clock) -> None:
        self.log = LOG
        self.edge = "0123456789abcdef"
        self.passing = False
        self.sweeps = True
        self.entries: list[Purge] = []
        self.asked: list[tuple[PurgeRequest, Caller]] = []
        self.waiting = 0
        """Callers that wait now."""
        self.somebody_waits = asyncio.Event()
        self.edges: tuple[EdgeReceipt, ...] = ()
        """The mesh, as it is told."""
        self.counted: list[bool] = []
        self.waited: list[tuple[Wait | Reach | None, float, str | None]] = []
        self.forgotten: set[int] = set()
        """Apply indexes that the log does not go back to."""
        self.refusal: ClientError | None = None
        self.matched = 3
        self._clock = clock
        self._changed = asyncio.Condition()

    # --- what the admin listener asks

    async def purge(self, asked: PurgeRequest, caller: Caller) -> Purge:
        if self.refusal is not None:
            raise self.refusal
        self.asked.append((asked, caller))
        for entry in self.entries:
            if asked.key and (entry.key, entry.actor) == (asked.key, caller.name):
                if entry.targets != asked.targets:
                    raise ClientError(422, "the idempotency key was used for another purge")
                return msgspec.structs.replace(entry, replayed=True)
        if asked.site is not None and caller.sites is not None and asked.site not in caller.sites:
            raise ClientError(403, f'the token "{caller.name}" is not for the site "{asked.site}"')
        sites = (asked.site,) if asked.site is not None else caller.sites or ()
        entry = self.entry(asked, caller, sites)
        self.entries.append(entry)
        await self.tell()
        return entry

    def entry(self, asked: PurgeRequest, caller: Caller, sites: tuple[str, ...]) -> Purge:
        """An entry of the history as it would come of this."""
        number = len(self.entries) + 1
        scheduled = asked.at is not None
        return Purge(
            id=Position(EDGE, EPOCH, number).text,
            kind=RecordKind.SCHEDULE if scheduled else RecordKind.PURGE,
            state=Stage.SCHEDULED if scheduled else Stage.APPLIED,
            mode=asked.mode,
            sites=sites,
            targets=asked.targets,
            at=self._clock.now(),
            due=asked.at,
            actor=caller.name,
            source=caller.source,
            reason=asked.reason,
            key=asked.key,
            index=number,
        )

    async def dry_run(self, asked: PurgeRequest, caller: Caller) -> DryRun:
        self.asked.append((asked, caller))
        return DryRun(
            mode=asked.mode,
            sites=(asked.site,) if asked.site is not None else (),
            matched=self.matched,
            bytes=2048 * self.matched,
            targets=tuple(TargetCount(target=one, matched=self.matched, bytes=2048) for one in asked.targets),
            samples=(Sample(url="https://shop.example/a", site="default", bytes=2048, hits_per_s=1.5),),
            origin_requests_first_second=0.78,
            origin_requests_first_minute=3.0,
        )

    async def undo(self, id: str, caller: Caller, reason: str = "") -> Purge:  # noqa: A002
        entry = self._find(id)
        if entry.kind is RecordKind.PURGE and entry.mode is not Mode.SOFT:
            raise ClientError(409, "only a soft purge can be undone")
        undone = Stage.CANCELLED if entry.state is Stage.SCHEDULED else Stage.UNDONE
        return await self._become(entry, undone)

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
        self.counted.append(counts)
        self.waited.append((wait, timeout_s, after))
        entry = self._find(id)
        if sites is not None and entry.sites and set(sites).isdisjoint(entry.sites):
            raise ClientError(404, "no such purge in the log")
        if wait is Wait.SWEPT and self.sweeps and not entry.state.final:
            await self.sweep(id)
        elif wait is not None or after is not None:
            await self._wait(lambda: self._answers(id, wait, after), timeout_s)
        return self._state(self._find(id))

    async def list(self, filters: Filters, *, limit: int = 100, before: str | None = None) -> Page:
        place = len(self.entries) if before is None else int(before)
        found = [entry for entry in self.entries[:place] if self._passes(entry, filters)]
        page = found[-limit:][::-1]
        more = len(found) > limit
        return Page(
            purges=tuple(page),
            before=str(page[-1].index - 1) if more else None,
            cursor=f"{self.log}.{len(self.entries)}",
        )

    async def feed(
        self,
        after: str | None,
        *,
        wait_s: float = 0.0,
        limit: int = 1000,
        filters: Filters = Filters(),  # noqa: B008 (immutable)
    ) -> Feed:
        log, _, index = (after or f"{self.log}.0").rpartition(".")
        place = int(index)
        await self._wait(lambda: len(self.entries) > place or self.log != log, wait_s)
        if log != self.log:
            raise ClientError(410, "the cursor cannot be continued: it is of another log")
        news = self.entries[place : place + limit]
        return Feed(
            purges=tuple(entry for entry in news if self._passes(entry, filters)),
            cursor=f"{self.log}.{place + len(news)}",
        )

    async def export(self, filters: Filters) -> AsyncIterator[tuple[Purge, bytes]]:
        for entry in self.entries:
            if self._passes(entry, filters):
                yield entry, entry.id.encode()

    def why(self, index: int) -> str | None:
        known = 0 < index <= len(self.entries) and index not in self.forgotten
        return self.entries[index - 1].id if known else None

    # --- what tests bring about

    async def sweep(self, id: str) -> None:  # noqa: A002
        """All that a purge matched is gone."""
        await self._become(self._find(id), Stage.SWEPT)

    async def _become(self, entry: Purge, state: Stage) -> Purge:
        self.entries[entry.index - 1] = changed = msgspec.structs.replace(entry, state=state)
        await self.tell()
        return changed

    async def tell(self) -> None:
        """Have all who wait look again."""
        async with self._changed:
            self._changed.notify_all()

    async def _wait(self, holds: object, timeout_s: float) -> None:
        assert callable(holds)
        self.waiting += 1
        self.somebody_waits.set()
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(holds)
        except TimeoutError:
            pass
        finally:
            self.waiting -= 1

    def _answers(self, id: str, wait: Wait | Reach | None, after: str | None) -> bool:  # noqa: A002
        state = self._state(self._find(id))
        if isinstance(wait, Reach):
            return wait.holds(state.edges) or (after is not None and state.cursor != after)
        return (after is not None and state.cursor != after) or (wait is not None and wait.holds(state.state))

    def _state(self, entry: Purge) -> PurgeState:
        swept = entry.state is Stage.SWEPT
        matched = self.matched if swept else 0
        return PurgeState(
            purge=entry,
            state=entry.state,
            matched=matched,
            bytes=2048 * matched,
            targets=tuple(TargetCount(target=one, matched=matched, bytes=2048 * matched) for one in entry.targets),
            swept_at=self._clock.now() if swept else None,
            cursor=f"{entry.state}.{matched}{''.join(edge.state for edge in self.edges)}",
            edges=self.edges,
            membership="list" if self.edges else "",
        )

    async def confirm(self, *edges: EdgeReceipt) -> None:
        """The mesh is so far."""
        self.edges = edges
        await self.tell()

    def _find(self, id: str) -> Purge:  # noqa: A002
        for entry in self.entries:
            if entry.id == id:
                return entry
        raise ClientError(404, "no such purge in the log")

    @staticmethod
    def _passes(entry: Purge, filters: Filters) -> bool:
        about = entry.sites
        return (
            (filters.actor in (None, entry.actor))
            and (filters.since is None or entry.at >= filters.since)
            and (filters.until is None or entry.at <= filters.until)
            and (filters.site is None or not about or filters.site in about)
            and (filters.sites is None or not about or not set(filters.sites).isdisjoint(about))
            and (filters.kinds is None or entry.kind in filters.kinds)
            and (filters.target is None or filters.target in [f"{one.kind}:{one.value}" for one in entry.targets])
        )
