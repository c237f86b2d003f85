"""The disk store: stored responses that outlive the process, within a byte budget, kept true to the purges.

    put ─▶ matched ─▶ let in? ─┬─ small: one batch ───────────────────────────────▶ stored
                               └─ large: written behind, matched again, one batch ─▶ stored
    load ─▶ read on a thread ─▶ has its URL changed meanwhile? again ─▶ records, matched by who takes them
    purge ─▶ swept behind, then the floor may pass it

Whatever changes rows does so on the event loop in one step with the table of stamps: read, changed, written. So no
purge comes between the look and the write. A row that is there was matched when it was written, and every purge up
to the floor has been looked for since.

When the index fails, the disk is left alone and the edge goes on in memory. The index is opened again after a
while; what should have been deleted meanwhile was remembered, and is hidden until it is.

This file is the face of the store and its memory of itself. Look-ups are in `diskreads.py`, changes in
`diskwrites.py`, purges in `disksweep.py`, eviction and the like in `upkeep.py`; all work on one `shelf.py`.

Not here: layouts (`rows.py`), the tier above (`tiers.py`), when to sweep and to sync (`edge/`, `proxy/serve.py`).
Source: PURGE rules 2 to 5, 10, 16, 17, 19.
Units: bytes; apply indexes; seconds.
Invariants: the floor moves only after the deletions it stands for are written, in the same log; `synced_floor`
only once they survive a loss of power.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future

import structlog

from banish.caching.stored import Metadata
from banish.clock import Clock
from banish.errors import IndexFailed, StoreError
from banish.purge.stamps import Finding, PurgeTable
from banish.purge.targets import Target
from banish.store.bodies import Body
from banish.store.diskreads import DiskReads, Matched
from banish.store.disksweep import DiskSweep
from banish.store.diskwrites import DiskOutcome, DiskWrites
from banish.store.files import BodyFiles
from banish.store.index import Batch, Family, Index
from banish.store.memory import STORE_BYTES, STORE_BYTES_MAX, STORE_RESPONSES
from banish.store.records import StoredResponse
from banish.store.rows import (
    META_FLOOR,
    META_LOG,
    META_RESERVED,
    decode_meta,
    encode_meta,
)
from banish.store.shelf import Shelf
from banish.store.sweeper import SweepProgress
from banish.store.upkeep import Step, Upkeep
from banish.tables import Accounts, Metric

RETRY_S = 30.0
"""How long a failed index is left alone before it is opened again: opening holds everything up, for some tenths of a
second after a failure."""

GIVE_UP_S = 3600.0
"""How long purges wait to be swept on a disk that has failed: so long the log keeps them, whatever its retention, and
the table their stamps. Then it is given up: they are forgotten, and it is emptied once it can be opened.
"""

EXPIRY_EVERY_S = 1.0
"""How often the disk is asked for what is of no more use."""

DISK_INDEX = Metric("banish_disk_index", "gauge", "How the disk's index is doing, figure by figure.", ("figure",))
DISK_REOPENED = Metric(
    "banish_disk_reopened_total", "counter", "Times a failed index was opened again, by outcome.", ("outcome",)
)
DISK_GIVEN_UP = Metric(
    "banish_disk_given_up_total",
    "counter",
    "Times a disk had failed for so long that purges are no longer kept for its sake: it is emptied before it is used.",
)

log = structlog.get_logger(__name__)


class DiskStore:
    """Stored responses of one edge on disk. Belongs to the event loop, but for what says that it blocks.

    `reopen` opens the index anew, blocking; without it a failure is for good. Raises StoreError where what the index
    says of itself cannot be read: then only an empty one will do.
    """

    def __init__(
        self,
        index: Index,
        files: BodyFiles,
        *,
        table: PurgeTable,
        clock: Clock,
        budget_bytes: int,
        accounts: Accounts,
        reopen: Callable[[], Index] | None = None,
    ) -> None:
        self.on_purged: Callable[[str, int, Finding], None] = lambda key, n_bytes, finding: None
        """Told cache key, bytes of the body and finding of each response that the sweep of a purge deleted, or marked
        as stale."""

        self.on_emptied: Callable[[Target, int, int, int], None] = lambda target, index, count, n_bytes: None
        """Told target and apply index of a hard purge of everything, and how many responses of how many bytes went."""

        self.on_swept: Callable[[], None] = lambda: None
        """Told that `swept` or `has_swept` may have changed."""

        self.on_settled: Callable[[StoredResponse, Body, int], object] = lambda record, body, serial: None
        """Told record, its body in a file of its own, and serial, once a large body is where it will stay."""

        self.on_unfiled: Callable[[str, int], None] = lambda key, serial: None
        """Told cache key and serial of each response whose body's file is about to be deleted."""

        self._table = table
        self._clock = clock
        self._reopen = reopen
        self._reopening: Future[Index] | None = None
        self._retry_at = 0.0
        self._failing_since: float | None = None
        self.given_up = False
        """Whether it has failed for so long that purges do not wait for it any more. See `GIVE_UP_S`."""
        self._expire_at = 0.0
        self._shelf = Shelf(index, files, accounts, lambda key, serial: self.on_unfiled(key, serial))
        self._upkeep = Upkeep(self._shelf, accounts)
        self._sweep = DiskSweep(self._shelf, table, self, clock, accounts)
        self._writes = DiskWrites(
            self._shelf,
            table=table,
            sweep=self._sweep,
            upkeep=self._upkeep,
            settled=lambda record, body, serial: self.on_settled(record, body, serial),
            budget_bytes=budget_bytes,
            accounts=accounts,
        )
        self._reads = DiskReads(self._shelf, table, self._writes.hidden, accounts)
        self._reopened = accounts.tally(DISK_REOPENED)
        self._gave_up = accounts.tally(DISK_GIVEN_UP)
        self.log_id, self.reserved, self.floor = self._remembered()
        self.synced_floor = self.floor
        accounts.read(STORE_RESPONSES, lambda: [(("disk",), len(self))])
        accounts.read(STORE_BYTES, lambda: [(("disk",), self._writes.used_bytes)])
        accounts.read(STORE_BYTES_MAX, lambda: [(("disk",), budget_bytes)])
        accounts.read(DISK_INDEX, self._figures)

    def __len__(self) -> int:
        """Stored responses held, those not yet found to be purged among them."""
        return self._shelf.generations.count

    def __repr__(self) -> str:
        return f"<DiskStore {len(self)} responses, {self._writes.used_bytes} bytes{', failed' * self.failed}>"

    @property
    def failed(self) -> bool:
        """Whether the index is given up for now: nothing is found, nothing is stored."""
        return self._shelf.failed

    # What it remembers of itself

    def bind(self, log_id: str) -> None:
        """Belong to the log of purges with this id. Durable when it returns: blocks. Raises StoreError."""
        self._remember(META_LOG, log_id)
        self._synced()
        self.log_id = log_id

    def reserve(self, upto: int) -> None:
        """Apply indexes up to here may be given. Durable when it returns: blocks.

        A disk that has failed needs not know: it takes no row before it is opened again, and is told then.
        Raises IndexBusy.
        """
        if not self.failed:
            try:
                self._remember(META_RESERVED, upto)
                self._synced()
            except IndexFailed:
                if not self.failed:
                    raise
        self.reserved = max(self.reserved, upto)

    def persist_floor(self, floor: int) -> None:
        """Every purge up to here is swept. In the same log as the deletions, behind them. Raises StoreError.

        A disk that is given up cannot be told. Its floor stays behind, and that is enough: with a floor behind purges
        that are forgotten nothing of it is used, neither when it is opened again nor at a start.
        """
        if self.given_up:
            self.floor = self.synced_floor = floor
            return
        assert not self._sweep.waits(floor), "the floor never passes what is not swept"
        self._remember(META_FLOOR, floor)
        self.floor = floor

    async def sync(self) -> None:
        """Have all that was written before this survive a loss of power. Raises StoreError."""
        floor = self.floor
        await asyncio.wrap_future(self._shelf.threads.submit(self._synced))
        self.synced_floor = max(self.synced_floor, floor)

    def empty(self) -> None:
        """Delete everything; files behind. Durable when it returns: blocks. Raises StoreError."""
        self._shelf.empty()
        self._synced()

    # Its sites

    def in_force(self, key_names: Iterable[str]) -> None:
        """The sites that there are, with their key rules: what belongs to others is dropped, and not taken any more."""
        self._writes.key_names = frozenset(key_names)
        self._writes.drop_strangers()

    def renew(self, site: str) -> None:
        """Drop all that is stored for a site, for every site if the name is empty. Raises StoreError."""
        self._shelf.drop(self._shelf.generations.of_site(site), renewed_at=self._table.index)

    # Reading

    def may_have(self, key: str) -> bool:
        """Whether anything may be stored under this key; False is certain."""
        return self._reads.may_have(key)

    async def load(self, key: str) -> list[StoredResponse]:
        """All variants stored under a key, newest first, clean up to their `clean_at`: match them before use."""
        return await self._reads.load(key)

    def load_at_once(self, key: str) -> list[StoredResponse]:
        """The same, while everything else waits: no purge can be forgotten meanwhile. For what is restless only."""
        return self._reads.load_at_once(key)

    def peek(self, key: str) -> list[Metadata]:
        """What is known of the variants stored under a key. Reads at once: for a few keys only."""
        return self._reads.peek(key)

    def survey(self, target: Target) -> Iterator[list[Matched]]:
        """What a purge of `target` would match, a slice at a time; slices may be empty."""
        return self._reads.survey(target)

    # Writing

    def put(self, record: StoredResponse) -> DiskOutcome:
        """Store a response, if it is let in. A large body follows later: `on_settled` is told then."""
        return self._writes.put(record)

    def replace(self, old: StoredResponse, new: StoredResponse) -> DiskOutcome:
        """Store `new`, which has the body of `old`, where `old` is (after a 304 or a HEAD)."""
        return self._writes.replace(old, new)

    def remove(self, record: StoredResponse) -> None:
        """Delete this very response, if it is there."""
        self._writes.remove(record)

    def touch(self, record: StoredResponse) -> None:
        """The record answered a request: it is worth keeping."""
        if record.serial:
            self._upkeep.sieve.touch(record.serial)

    # Purges

    @property
    def swept(self) -> int:
        """No purge up to this apply index matches anything on disk that is not marked with it."""
        if self.given_up:
            return self._table.index
        return self.floor if self.failed else self._sweep.swept

    def has_swept(self, index: int) -> bool:
        """Whether this purge is swept, whatever those before it are."""
        return self._sweep.has_swept(index) or (self.given_up and index <= self._sweep.final)

    def applied(self, index: int, hard: tuple[Target, ...], soft: tuple[Target, ...]) -> None:
        """A purge was just applied to the stamps, in the same step. A hard one of everything drops its sites now."""
        self._sweep.applied(index, hard, soft)

    def release_soft(self, index: int) -> None:
        """The soft targets of this purge can no longer be taken back: they may be swept."""
        self._sweep.release_soft(index)

    def undo(self, index: int) -> None:
        """The soft targets of this purge were taken back."""
        self._sweep.undo(index)

    # Work behind the requests

    def start(self) -> None:
        """Look for files that nothing leads to, on a thread. Once the sites in force are known."""
        self._shelf.behind("orphans", self._upkeep.orphans)

    def sweep(self, budget_s: float, monotonic: Callable[[], float]) -> SweepProgress:
        """Sweep, evict, expire and clear up for about `budget_s`; open a failed index again when it is time."""
        began, sweep = monotonic(), self._sweep
        examined, deleted = sweep.examined, sweep.deleted
        if self.failed:
            self._give_up(began)
            self._retry(began)
        while (step := self._step(began)) is Step.WORKED and monotonic() - began < budget_s:
            pass
        return SweepProgress(sweep.examined - examined, sweep.deleted - deleted, idle=step is Step.IDLE)

    async def settled(self) -> None:
        """Wait until all large bodies on their way are in their files."""
        await self._writes.behind.done()

    def close(self) -> None:
        """Stop. What is on its way is waited for, but not kept. Blocks."""
        self._writes.behind.cancel_all()
        self._reads.close()
        self._shelf.close()

    # Ours

    def _step(self, now: float) -> Step:
        if self.failed:
            return Step.IDLE  # until it is time to open it again
        stuck = False
        for chore in (self._writes.settle_owed, self._writes.make_room, self._sweep.step, self._upkeep.clear):
            step = chore()
            if step is Step.WORKED:
                return step
            stuck |= step is Step.STUCK
        if now >= self._expire_at:
            step = self._upkeep.expire(self._clock.now())
            if step is Step.WORKED:
                return step
            self._expire_at = now + EXPIRY_EVERY_S
        return Step.STUCK if stuck else Step.IDLE

    def _remembered(self) -> tuple[str | None, int, int]:
        """Log, reserved index and floor, as the index has them. Raises StoreError."""
        index, meta = self._shelf.index, Family.META
        of_log, reserved, floor = [index.get(meta, key) for key in (META_LOG, META_RESERVED, META_FLOOR)]
        return (
            decode_meta(of_log, str) or None if of_log else None,
            decode_meta(reserved, int) if reserved else 0,
            decode_meta(floor, int) if floor else 0,
        )

    def _remember(self, key: bytes, value: int | str) -> None:
        batch = Batch()
        batch.put(Family.META, key, encode_meta(value))
        self._shelf.write(batch)

    def _synced(self) -> None:
        if self.failed:
            raise IndexFailed("the disk has failed")
        try:
            self._shelf.index.sync()
        except StoreError as error:
            self._shelf.fail("sync", error)
            raise

    def _figures(self) -> Iterable[tuple[tuple[str, ...], float]]:
        try:
            return [((name,), figure) for name, figure in self._shelf.index.figures().items()]
        except StoreError:
            return []

    # After a failure

    def _give_up(self, now: float) -> None:
        """See whether purges have waited for long enough."""
        if self._failing_since is None:
            self._failing_since = now
        elif not self.given_up and now - self._failing_since >= GIVE_UP_S:
            self.given_up = True
            self._gave_up.add()
            log.error("the disk has failed for long: it is given up, and emptied once it can be opened", s=GIVE_UP_S)
            self.on_swept()

    def _retry(self, now: float) -> None:
        """Open a failed index again, on a thread, every RETRY_S; take it up when it is open."""
        if self._reopening is not None:
            if self._reopening.done():
                opening, self._reopening = self._reopening, None
                self._take_up(opening, now)
        elif self._reopen is not None and now >= self._retry_at:
            self._reopening = self._shelf.threads.submit(self._opened_again, self._reopen)

    def _opened_again(self, reopen: Callable[[], Index]) -> Index:
        self._shelf.index.close()
        return reopen()

    def _take_up(self, opening: "Future[Index]", now: float) -> None:
        try:
            self._shelf.reopened(opening.result())
            self._catch_up()
            self._failing_since, self.given_up = None, False
        except StoreError as error:
            self._shelf.fail("reopen", error)
            self._retry_at = now + RETRY_S
            self._reopened.add("failed")
        else:
            self._reopened.add("opened")
            log.info("the disk is in use again", responses=len(self))

    def _catch_up(self) -> None:
        """Bring an index that was opened again up to what is known. Rows that it has lost deletions of must go: if its
        floor is behind, purges are forgotten here of which it may hold what they match."""
        log_id, reserved, floor = self._remembered()
        if log_id != self.log_id or floor < self._table.floor:
            self._shelf.empty()
        if log_id != self.log_id:
            self._remember(META_LOG, self.log_id or "")
        if reserved < self.reserved:
            self._remember(META_RESERVED, self.reserved)
        if floor < self.floor:
            self._remember(META_FLOOR, self.floor)
        self._synced()
        self._sweep.restart()
        self._upkeep.restart()
        self._writes.drop_strangers()
