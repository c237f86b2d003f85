"""The store: what is in memory, over what is on disk.

    look up ─▶ memory ──── hit ──▶ answered
                  │ nothing that will do
                  └─ load ─▶ disk ─▶ promoted to memory, matched against the purges meanwhile
    put ─────▶ memory, and written to disk behind
    purge ───▶ stamps (`purge/stamps.py`): in effect. Both tiers are swept behind, then the floor follows

Memory is a working set of the disk: what is evicted there is found below. An edge without a data directory has
no disk tier, and everything here holds for memory alone.

Not here: the tiers themselves (`memory.py`, `disk.py`), the floor (`floor.py`), when to sweep (`proxy/serve.py`).
Invariant: `lookup` never gives a response that a hard purge matched, whichever tier it came from.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import NamedTuple

from banish.caching.stored import Metadata
from banish.clock import Clock
from banish.purge.names import Names
from banish.purge.stamps import Finding, PurgeTable
from banish.purge.targets import Kind, Target
from banish.store.disk import DiskStore
from banish.store.floor import Floor
from banish.store.graves import Graves
from banish.store.memory import MemoryStore, PutOutcome, Removal
from banish.store.records import StoredResponse
from banish.store.spool import SpoolBudget
from banish.tables import Accounts

LOADS_MAX = 3
"""Times one look-up reads a URL from disk on a thread when purges are forgotten while it reads, as they are one after
the other once an edge has started again; then it reads at once."""


UNDO_SLACK_S = 1.0
"""How much longer than they can be undone soft stamps stay: the two moments are not taken at once."""

SURVEY_SLICE = 256
"""Records in memory looked at between two turns of the event loop."""


class Held(NamedTuple):
    """A stored response, as far as a dry run is concerned."""

    names: Names
    bytes: int
    """Of its body."""
    hits_per_s: float = 0.0
    """How often it answered while it was in memory; 0 for what is on disk only."""


class Store:
    """Stored responses of one edge. Belongs to the event loop.

    `on_removed` and `on_rivalled` are told of what is in memory, as `MemoryStore` says. `on_matched` is told of each
    response that a purge removed or marked as stale: the apply index, the target, how many (more than one where a whole
    site went at once) and their bytes. `on_swept` is told when `has_swept` may have changed, `on_applied` when there is
    something to sweep.
    """

    def __init__(
        self,
        *,
        memory_bytes: int,
        disk: DiskStore | None,
        table: PurgeTable,
        clock: Clock,
        accounts: Accounts,
        spool: SpoolBudget | None = None,
        on_removed: Callable[[StoredResponse, Removal], None] = lambda record, reason: None,
        on_rivalled: Callable[[StoredResponse], None] = lambda record: None,
        stamp_min_age_s: float,
        undo_window_s: float,
    ) -> None:
        self.disk = disk
        self.passing = False
        """Purges cannot be logged now: nothing is stored (PURGE rule 12)."""

        self.graves = Graves(accounts)
        self.on_matched: Callable[[int, Target | None, int, int], None] = lambda index, target, n, n_bytes: None
        self.on_swept: Callable[[], None] = lambda: None
        self.on_applied: Callable[[], None] = lambda: None
        self._on_removed = on_removed
        self._table = table
        self._clock = clock
        self._loading: dict[str, asyncio.Task[None]] = {}
        self.memory = MemoryStore(
            memory_bytes,
            table=table,
            accounts=accounts,
            spool=spool,
            on_removed=self._left_memory,
            on_rivalled=on_rivalled,
            on_purged=self._purged_in_memory,
            on_marked=self._marked_in_memory,
            disk_below=disk is not None,
        )
        self.floor = Floor(
            table,
            [self.memory] if disk is None else [self.memory, disk],
            persist=(lambda floor: None) if disk is None else disk.persist_floor,
            stamp_min_age_s=stamp_min_age_s,
            undo_window_s=undo_window_s + UNDO_SLACK_S,
            accounts=accounts,
        )
        if disk is not None:
            disk.on_purged = self._purged_on_disk
            disk.on_emptied = lambda target, index, n, n_bytes: self.on_matched(index, target, n, n_bytes)
            disk.on_settled = self.memory.reseat
            disk.on_swept = lambda: self.on_swept()
            disk.on_unfiled = self.memory.unseat

    def __len__(self) -> int:
        """Stored responses, wherever they are: the larger tier's, since the disk has nearly all."""
        return max(len(self.memory), len(self.disk) if self.disk is not None else 0)

    def __repr__(self) -> str:
        return f"<Store {self.memory!r} over {self.disk!r}>"

    # Reading

    def lookup(self, key: str) -> tuple[StoredResponse, ...]:
        """All variants in memory, newest first, less those that a hard purge matched."""
        return self.memory.lookup(key)

    def may_load(self, key: str) -> bool:
        """Whether there may be more under this key on disk. False is certain."""
        return self.disk is not None and self.disk.may_have(key)

    async def load(self, key: str) -> None:
        """Bring what the disk has under this key to memory. Those who ask meanwhile wait for the same reading."""
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.get_running_loop().create_task(self._load(key))
            loading.add_done_callback(lambda _: self._loading.pop(key, None))
        await asyncio.shield(loading)

    async def _load(self, key: str) -> None:
        assert self.disk is not None
        for _ in range(LOADS_MAX):
            if self.memory.promote(await self.disk.load(key)):
                return
        self.memory.promote(self.disk.load_at_once(key))

    def metas(self, key: str) -> list[Metadata]:
        """What is known of all that is stored under a key, on disk too."""
        records = self.memory.lookup(key)
        below = self.disk.peek(key) if self.disk is not None else []
        return [record.meta for record in records] + below

    def walk_from(self, place: int) -> Iterator[tuple[int, StoredResponse]]:
        """The records in memory, from a place on, each with the place behind it."""
        return self.memory.walk_from(place)

    # Writing

    def put(self, record: StoredResponse) -> PutOutcome:
        """Store a response, if no purge has matched it since its fence."""
        if self.passing:
            return PutOutcome.REFUSED
        outcome = self.memory.put(record)
        if outcome in (PutOutcome.STORED, PutOutcome.EVICTED, PutOutcome.TOO_LARGE):
            if self.disk is not None:
                self.disk.put(record)
            self.graves.exhume(record.meta.key)
        return outcome

    def replace(self, old: StoredResponse, new: StoredResponse) -> PutOutcome:
        """Store `new` (after a 304 or a HEAD) where `old` is; see `MemoryStore.replace`."""
        if self.passing:
            return PutOutcome.REFUSED
        new.serial, new.hits = old.serial, old.hits
        outcome = self.memory.replace(old, new)
        if self.disk is not None and outcome in (PutOutcome.STORED, PutOutcome.EVICTED, PutOutcome.TOO_LARGE):
            self.disk.replace(old, new)
        return outcome

    def remove(self, record: StoredResponse) -> bool:
        """Take this very record out of both tiers, if it is held."""
        if self.disk is not None:
            self.disk.remove(record)
        return self.memory.remove(record)

    def touch(self, record: StoredResponse, hits: int = 1) -> None:
        """The record answered `hits` requests: it is worth keeping. May be told late and in batches."""
        self.memory.touch(record, hits)
        if self.disk is not None:
            self.disk.touch(record)

    def reweigh(self, record: StoredResponse, memo_bytes: int) -> None:
        """Count what is kept in memory beside a record to answer with it."""
        self.memory.reweigh(record, memo_bytes)

    # Purges

    def has_swept(self, index: int) -> bool:
        """Whether all that a purge matched is gone, or marked. A soft one that can be undone holds up no other."""
        return self.memory.swept >= index and (self.disk is None or self.disk.has_swept(index))

    def applied(self, index: int, hard: Sequence[Target], soft: Sequence[Target], now: float) -> None:
        """A purge was just applied to the stamps, in the same step: have its matches swept, in time."""
        self.floor.applied(index, now, soft=bool(soft))
        for target in hard:
            if target.kind is Kind.EVERYTHING:
                self.graves.bury_site(target.site, index, self._clock.monotonic())
        if self.disk is not None:
            self.disk.applied(index, tuple(hard), tuple(soft))
        self.on_applied()

    def release_soft(self, index: int) -> None:
        """The soft targets of a purge can be undone no more: sweep them."""
        if self.disk is not None:
            self.disk.release_soft(index)

    def undone(self, index: int) -> None:
        """The soft stamps of a purge were taken back."""
        self.memory.undone(index)
        if self.disk is not None:
            self.disk.undo(index)

    def reserve(self, upto: int) -> None:
        """Note durably that apply indexes up to `upto` may come into use. Blocks: call it on a thread. StoreError."""
        if self.disk is not None:
            self.disk.reserve(upto)

    def bind(self, log_id: str) -> None:
        """Note durably which log knows of every purge since anything here was stored; "" if none does.

        Blocks: call it on a thread. StoreError.
        """
        if self.disk is not None:
            self.disk.bind(log_id)

    @property
    def synced_floor(self) -> int:
        """The floor that a loss of power would leave."""
        return self._table.floor if self.disk is None else self.disk.synced_floor

    async def sync(self) -> None:
        """Make durable what was deleted and where the floor is. StoreError."""
        if self.disk is not None:
            await self.disk.sync()

    async def survey(self, targets: Sequence[Target]) -> AsyncIterator[Held]:
        """Every stored response in use that any of these may match, once, in short steps."""
        now = self._clock.now()
        serials: set[int] = set()
        for at, (_, record) in enumerate(self.memory.walk_from(0)):
            if at % SURVEY_SLICE == SURVEY_SLICE - 1:
                await asyncio.sleep(0)
            if self._table.verdict(record.names, record.clean_at).dead:
                continue
            if record.serial:
                serials.add(record.serial)
            yield Held(record.names, record.body.size, _heat(record, now))
        if self.disk is None:
            return
        for target in targets:
            for rows in self.disk.survey(target):
                await asyncio.sleep(0)
                for row in rows:
                    if row.serial not in serials:
                        serials.add(row.serial)
                        yield Held(row.names, row.size)

    def sweep(self, budget_s: float, monotonic: Callable[[], float]) -> bool:
        """Delete purged responses for about `budget_s`, then move the floor; whether nothing is left to do."""
        began, swept = monotonic(), self.memory.swept
        idle = self.memory.sweep(budget_s if self.disk is None else budget_s / 2, monotonic).idle
        if self.memory.swept != swept:
            self.on_swept()
        if self.disk is not None:  # in turns: purges without end keep memory busy, and the floor waits for both
            left_s = began + budget_s - monotonic()
            idle = self.disk.sweep(left_s, monotonic).idle and idle
        return not self.floor.advance(monotonic()) and idle

    def _left_memory(self, record: StoredResponse, reason: Removal) -> None:
        if self.disk is not None:
            if reason is Removal.VARIANTS or (reason is Removal.PURGED and not record.serial):
                self.disk.remove(record)  # what is written of it, or on its way; the rest of a purge is the sweep's
            elif reason is Removal.EVICTED and record.hits and not record.serial:
                self.disk.put(record)  # a stranger when it came, and asked for since
        self._on_removed(record, reason)

    def _purged_in_memory(self, record: StoredResponse, finding: Finding) -> None:
        if finding.index:  # 0: the purges of that time are forgotten
            self.graves.bury(record.meta.key, finding.index, _heat(record, self._clock.now()))
            if not record.serial:  # what is on disk too is counted when it is deleted there
                self.on_matched(finding.index, finding.target, 1, record.body.size)

    def _marked_in_memory(self, record: StoredResponse, finding: Finding) -> None:
        if not record.serial:
            self.on_matched(finding.index, finding.target, 1, record.body.size)

    def _purged_on_disk(self, key: str, n_bytes: int, finding: Finding) -> None:
        if finding.verdict.dead:
            self.graves.bury(key, finding.index, 0.0)
        self.on_matched(finding.index, finding.target, 1, n_bytes)


def _heat(record: StoredResponse, now: float) -> float:
    """Hits per second since the response was received, which is a little less than lately."""
    return record.hits / max(now - record.meta.received_at, 1.0)
