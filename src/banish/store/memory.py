"""The memory store: stored responses by cache key, within a byte budget, kept true to the purges.

Every record is checked against the table of stamps when it comes in, when it is looked up after a purge, and
by the sweeper. All of it is synchronous: nothing can be purged between a check and the step it allows.

Records are in one of two queues, each with its own budget: those whose bodies are in memory, and those whose
bodies are in the spool (they weigh their spool bytes too). Eviction is per variant. With a disk below, what is
evicted here can be found there: then a variant takes its elders along, since an older one that stood here alone
would answer in place of the newer one below (RFC 9111 section 4: the most recent one is used).

Not here: whether a response may be stored or reused (`caching/`), eviction's choice (`s3fifo.py`), bodies
(`bodies.py`), the disk (`disk.py`), the hot table (told of each removal by `on_removed`).
Units: bytes; apply indexes.
Invariants: `lookup` never gives a record that a hard purge matched; a record is in one slice and one queue;
the queues' weights are what memory is used, within 10 %; with a disk below, of one URL's variants the newest are
here.
"""

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from banish.purge.stamps import Finding, PurgeTable, Verdict
from banish.store.bodies import Body
from banish.store.records import StoredResponse, VariantKey
from banish.store.s3fifo import S3Fifo
from banish.store.spool import SpoolBudget
from banish.store.sweeper import Sweeper, SweepProgress
from banish.tables import Accounts, Metric

VARIANTS_MAX = 64
"""Stored responses of one URL; the oldest goes for one more. Each lookup walks them."""

SLICES = 1024
"""Dictionaries the store is cut into, so that whoever walks it copies a thousandth of the keys at a time."""

PLACES_PER_SLICE = 1 << 32
"""A place in a walk is the slice and how many of its records are passed, in one number that JSON can hold."""

STORED_SPOOL_SHARE = 0.75
"""How much of the spool stored responses may fill; the rest is for bodies on their way in."""

ENTRY_OVERHEAD_BYTES = 320
"""What one record costs in the tables here: slots in the slice and the queue, the queue's node, three tuples,
one ghost. Measured with tracemalloc; the test that does so holds the sum to 10 %."""

STORE_RESPONSES = Metric("banish_store_responses", "gauge", "Stored responses, by where their body is.", ("tier",))
STORE_BYTES = Metric(
    "banish_store_bytes",
    "gauge",
    "Weight of stored responses: bodies, fields and overhead, by tier.",
    ("tier",),
)
STORE_BYTES_MAX = Metric("banish_store_max_bytes", "gauge", "The budget of each tier.", ("tier",))
STORE_PUTS = Metric("banish_store_puts_total", "counter", "Responses offered to the store, by outcome.", ("outcome",))
STORE_PROMOTED = Metric(
    "banish_store_promotions_total",
    "counter",
    "Stored responses read back from disk and offered to memory, by outcome.",
    ("outcome",),
)
STORE_REMOVED = Metric(
    "banish_store_removed_total", "counter", "Stored responses that left the store, by reason.", ("reason",)
)


class PutOutcome(StrEnum):
    """What became of a response offered to memory, when it came from its origin or was read back from disk."""

    STORED = "stored"
    PURGED = "purged"
    """A purge matched it after its fetch began."""

    TOO_OLD = "too_old"
    """Its fetch began so long ago that the purges since are forgotten."""

    TOO_LARGE = "too_large"
    """It is larger than the whole tier."""

    REFUSED = "refused"
    """Purges cannot be logged now: nothing is stored meanwhile."""

    INCOMPLETE = "incomplete"
    """Its body is not whole and settled, or was not kept whole."""

    EVICTED = "evicted"
    """Room was made by evicting this very one."""

    GONE = "gone"
    """What it was to replace is no longer stored, or was purged before the origin was asked."""

    OUTRUN = "outrun"
    """Read back from disk, where memory holds this variant already."""

    @property
    def stored(self) -> bool:
        """Whether the store now holds it."""
        return self is PutOutcome.STORED


class Removal(StrEnum):
    """Why a stored response left the store."""

    EVICTED = "evicted"
    PURGED = "purged"
    REPLACED = "replaced"
    VARIANTS = "variants"
    """The URL had `VARIANTS_MAX` others that are newer."""

    REMOVED = "removed"
    """By its owner's wish."""


class MemoryStore:
    """Stored responses of one edge. Not safe for threads: it belongs to the event loop.

    `on_removed` is told of each record that leaves, `on_rivalled` of each that is no longer the newest of its URL, so
    that what was decided for it must be decided anew; `on_purged` of each that a hard purge took, `on_marked` of each
    that a soft one marked, with the purge. `disk_below` says that what is evicted may be found on disk.
    """

    def __init__(
        self,
        budget_bytes: int,
        *,
        table: PurgeTable,
        accounts: Accounts,
        spool: SpoolBudget | None = None,
        on_removed: Callable[[StoredResponse, Removal], None] | None = None,
        on_rivalled: Callable[[StoredResponse], None] | None = None,
        on_purged: Callable[[StoredResponse, Finding], None] | None = None,
        on_marked: Callable[[StoredResponse, Finding], None] | None = None,
        disk_below: bool = False,
        variants_max: int = VARIANTS_MAX,
    ) -> None:
        self._table = table
        self._on_removed = on_removed
        self._on_rivalled = on_rivalled
        self._on_purged = on_purged
        self._on_marked = on_marked
        self._disk_below = disk_below
        self._variants_max = variants_max
        self._slices: list[dict[str, tuple[StoredResponse, ...]]] = [{} for _ in range(SLICES)]
        self._in_memory: S3Fifo[VariantKey] = S3Fifo(budget_bytes)
        self._in_spool: S3Fifo[VariantKey] = S3Fifo(int(spool.bytes_max * STORED_SPOOL_SHARE) if spool else 0)
        self._sweeper = Sweeper(
            table,
            SLICES,
            keys=lambda at: list(self._slices[at]),
            check=self._check,
            accounts=accounts,
        )
        self._puts = accounts.tally(STORE_PUTS)
        self._promotions = accounts.tally(STORE_PROMOTED)
        self._removals = accounts.tally(STORE_REMOVED)
        tiers = (("memory", self._in_memory), ("spool", self._in_spool))
        accounts.read(STORE_RESPONSES, lambda: [((name,), len(tier)) for name, tier in tiers])
        accounts.read(STORE_BYTES, lambda: [((name,), tier.used) for name, tier in tiers])
        accounts.read(STORE_BYTES_MAX, lambda: [((name,), tier.budget) for name, tier in tiers])

    def __len__(self) -> int:
        """Stored responses held, those not yet found to be purged among them."""
        return len(self._in_memory) + len(self._in_spool)

    def __contains__(self, record: object) -> bool:
        """Whether this very record is held."""
        return isinstance(record, StoredResponse) and any(
            record is held for held in self._slice(record.meta.key).get(record.meta.key, ())
        )

    def __repr__(self) -> str:
        return f"<MemoryStore {len(self)} responses, {self.memory_bytes} bytes>"

    @property
    def memory_bytes(self) -> int:
        """Weight of the records whose bodies are in memory: what the budget bounds."""
        return self._in_memory.used

    # Reading

    def lookup(self, key: str) -> tuple[StoredResponse, ...]:
        """All variants stored under `key`, newest first, less those that a hard purge matched.

        A record that a soft purge matched, not since taken back, is `soft`.
        """
        records = self._slice(key).get(key, ())
        index = self._table.index
        for record in records:
            if record.clean_at != index or record.soft_at:
                self._check(key)
                return self._slice(key).get(key, ())
        return records

    def touch(self, record: StoredResponse, hits: int = 1) -> None:
        """The record answered `hits` requests: it is worth keeping. May be told late and in batches."""
        record.hits += hits
        self._tier(record).touch(record.variant)

    def walk(self) -> Iterator[StoredResponse]:
        """Every record, in no useful order, for listings: may be left and taken up again at leisure.

        What comes or goes meanwhile may be seen or not. Purged records not yet swept are among them.
        """
        return (record for _, record in self.walk_from(0))

    def walk_from(self, place: int) -> Iterator[tuple[int, StoredResponse]]:
        """As `walk`, beginning at a place: each record with the place behind it. The first place is 0."""
        first, passed = divmod(place, PLACES_PER_SLICE)
        for at in range(first, SLICES):
            records = [record for variants in list(self._slices[at].values()) for record in variants]
            for number, record in enumerate(records[passed:], passed + 1):
                yield at * PLACES_PER_SLICE + number, record
            passed = 0

    # Writing

    def put(self, record: StoredResponse) -> PutOutcome:
        """Store a response in place of the same variant's, if no purge has matched it since its fence."""
        return self._counted(self._admit(record))

    def replace(self, old: StoredResponse, new: StoredResponse) -> PutOutcome:
        """Store `new` (after a 304 or a HEAD, mostly with the same body) where `old` is.

        Not if `old` was hard-purged before the origin was asked: no validation revives what is dead. From
        that request on, `new` is matched by the names of both.
        """
        names = old.names
        if old not in self or self._table.verdict(names, old.clean_at, new.fence).dead:
            return self._counted(PutOutcome.GONE)
        if self._table.verdict(names, new.fence) is not Verdict.CLEAN:
            return self._counted(PutOutcome.PURGED)
        outcome = self._admit(new)
        if outcome.stored and old in self:
            self._remove(old, Removal.REPLACED)  # its selecting values had changed
        return self._counted(outcome)

    def promote(self, records: Sequence[StoredResponse]) -> bool:
        """Take in all variants of one URL as they were read back from disk; False if they are to be read again.

        Each was matched against the purges up to its `clean_at`, before the read began, and is matched here
        against those since. If these are forgotten, none can be taken. What memory holds of the same variant
        came after the read and wins. The newest are found first, by the moment they were received.
        """
        newcomers: list[StoredResponse] = []
        for record in sorted(records, key=_received_at, reverse=True):
            outcome = self._promotable(record)
            self._promotions.add(outcome.value)
            if outcome is PutOutcome.TOO_OLD:
                return False
            if outcome is PutOutcome.TOO_LARGE:
                break  # nor those behind it: they would answer in its place
            if outcome.stored:
                newcomers.append(record)
        if newcomers:
            self._merge(newcomers)
        return True

    def reseat(self, record: StoredResponse, body: Body, serial: int) -> bool:
        """Give a record that was written to disk its place there: the same bytes, from there on read from `body`,
        unless they are in memory, where reading costs less.

        If a validation has renewed the record meanwhile, the one that took over its body is meant. False if
        neither is held.
        """
        key, former = record.meta.key, record.body
        for held in self._slice(key).get(key, ()):
            if held.body is former and held.variant == record.variant:
                held.serial = serial
                if former.data is not None:
                    return True
                tier = self._tier(held)
                held.body = body
                if self._tier(held) is not tier:
                    tier.remove(held.variant)
                self._reweigh(held)
                return True
        return False

    def unseat(self, key: str, serial: int) -> None:
        """The file with this response's body is about to be deleted: so what reads from it goes as well."""
        for record in self._slice(key).get(key, ()):
            if record.serial == serial and record.body.file is not None:
                self._remove(record, Removal.EVICTED)
                return

    def reweigh(self, record: StoredResponse, memo_bytes: int) -> None:
        """Count what is kept beside a record to answer with it. Evicts if need be, maybe this very record."""
        if record in self:
            record.memo_bytes = memo_bytes
            self._reweigh(record)

    def remove(self, record: StoredResponse, reason: Removal = Removal.REMOVED) -> bool:
        """Take this very record out, if it is held."""
        if record not in self:
            return False
        self._remove(record, reason)
        return True

    # Purges

    @property
    def swept(self) -> int:
        """No purge up to this apply index matches anything here that is not marked with it."""
        return self._sweeper.swept

    def sweep(self, budget_s: float, monotonic: Callable[[], float]) -> SweepProgress:
        """Delete purged records for about `budget_s`."""
        return self._sweeper.sweep(budget_s, monotonic)

    def undone(self, index: int) -> None:
        """The soft purge with this apply index was taken back. Effective at once; sweeping follows."""
        self._sweeper.again(index)

    def _check(self, key: str) -> int:
        """Bring the records of one URL up to the present index; how many were dead and are deleted."""
        deleted = 0
        for record in self._slice(key).get(key, ()):
            finding = self._match(record)
            if finding is not None and finding.verdict.dead:
                self._remove(record, Removal.PURGED)
                self._tell_purged(record, finding)
                deleted += 1
        return deleted

    def _match(self, record: StoredResponse) -> Finding | None:
        """Match a record against the purges since it was last; None if there were none.

        If the soft purge that had marked it was taken back, all that are remembered are gone through again.
        What the floor has passed is settled: no purge from below it can be taken back any more.
        """
        table = self._table
        if record.soft_at in table.undone:
            record.soft_at = 0
            record.clean_at = max(record.fence, min(record.clean_at, table.floor))
        if record.clean_at == table.index:
            return None
        finding = table.finding(record.names, record.clean_at)
        if finding.verdict.dead:
            return finding
        record.clean_at = table.index
        if finding.verdict is Verdict.SOFT and not record.soft_at:
            record.soft_at = finding.index
            if self._on_marked is not None:
                self._on_marked(record, finding)
        return finding

    def _tell_purged(self, record: StoredResponse, finding: Finding) -> None:
        if self._on_purged is not None:
            self._on_purged(record, finding)

    # The tables

    def _slice(self, key: str) -> dict[str, tuple[StoredResponse, ...]]:
        return self._slices[hash(key) % SLICES]

    def _tier(self, record: StoredResponse) -> S3Fifo[VariantKey]:
        return self._in_spool if record.body.spool_bytes else self._in_memory

    def _counted(self, outcome: PutOutcome) -> PutOutcome:
        self._puts.add(outcome.value)
        return outcome

    def _admit(self, record: StoredResponse) -> PutOutcome:
        if not (record.body.settled and record.body.kept):
            return PutOutcome.INCOMPLETE
        verdict = self._table.verdict(record.names, record.fence)
        if verdict is not Verdict.CLEAN:
            return PutOutcome.TOO_OLD if verdict is Verdict.UNKNOWN else PutOutcome.PURGED
        weight = _weight(record)
        if weight > self._tier(record).budget:
            self._leave_to_disk(record.meta.key)
            return PutOutcome.TOO_LARGE
        record.clean_at = self._table.index
        self._insert(record, weight)
        return PutOutcome.STORED if record in self else PutOutcome.EVICTED

    def _promotable(self, record: StoredResponse) -> PutOutcome:
        """Match a record read from disk; whether it may come in, as far as can be said before there is room."""
        finding = self._match(record)
        if finding is not None and finding.verdict is Verdict.UNKNOWN:
            return PutOutcome.TOO_OLD
        if finding is not None and finding.verdict.dead:
            self._tell_purged(record, finding)
            return PutOutcome.PURGED
        key, variant = record.meta.key, record.variant
        if any(held.variant == variant for held in self._slice(key).get(key, ())):
            return PutOutcome.OUTRUN
        return PutOutcome.TOO_LARGE if _weight(record) > self._tier(record).budget else PutOutcome.STORED

    def _merge(self, newcomers: list[StoredResponse]) -> None:
        """Put records of one URL, newest first, among those that are held."""
        key = newcomers[0].meta.key
        held = self._slice(key).get(key, ())
        merged = tuple(sorted((*held, *newcomers), key=_received_at, reverse=True))
        self._slice(key)[key] = merged
        if self._on_rivalled is not None:
            for other in merged[merged.index(newcomers[0]) :]:
                if other in held:
                    self._on_rivalled(other)
        for record in reversed(newcomers):  # the newest enters its queue last, and leaves it last
            if record in self:
                self._reweigh(record)
        for record in self._slice(key).get(key, ())[self._variants_max :]:
            self._remove(record, Removal.VARIANTS)

    def _insert(self, record: StoredResponse, weight: int) -> None:
        """Put the record first among its URL's; take out whom it replaces or displaces."""
        key, variant, tier = record.meta.key, record.variant, self._tier(record)
        for other in self._slice(key).get(key, ()):
            if other.variant == variant:
                # In the same tier the variant keeps its place in the queue, and its hits.
                self._unlink(other, Removal.REPLACED)
                if self._tier(other) is not tier:
                    self._tier(other).remove(variant)
        others = self._slice(key).get(key, ())
        self._slice(key)[key] = (record, *others)
        if self._on_rivalled is not None:
            for other in others:
                self._on_rivalled(other)
        self._evict(tier.add(variant, weight))
        if len(others) >= self._variants_max and record in self:
            self._remove(self._slice(key)[key][-1], Removal.VARIANTS)

    def _reweigh(self, record: StoredResponse) -> None:
        self._evict(self._tier(record).add(record.variant, _weight(record)))

    def _evict(self, variants: list[VariantKey]) -> None:
        """Take out what a queue let go of; with a disk below, what is older of the same URL too."""
        for variant in variants:
            held = self._slice(variant[0]).get(variant[0], ())
            at = next((at for at, record in enumerate(held) if record.variant == variant), None)
            if at is None:
                continue  # gone already, with a newer one
            self._unlink(held[at], Removal.EVICTED)
            if self._disk_below:
                for elder in held[at + 1 :]:
                    self._remove(elder, Removal.EVICTED)

    def _leave_to_disk(self, key: str) -> None:
        """A newer response of this URL does not fit here: let none answer in its place."""
        if self._disk_below:
            for record in self._slice(key).get(key, ()):
                self._remove(record, Removal.EVICTED)

    def _remove(self, record: StoredResponse, reason: Removal) -> None:
        if record in self:
            self._tier(record).remove(record.variant)
            self._unlink(record, reason)

    def _unlink(self, record: StoredResponse, reason: Removal) -> None:
        """Take a record out of its URL's. Whoever is told of one that leaves may have others leave (`unseat`): so one
        that is gone by the time its turn comes is no mistake."""
        if record not in self:
            return
        held = self._slice(record.meta.key)
        others = tuple([other for other in held[record.meta.key] if other is not record])
        if others:
            held[record.meta.key] = others
        else:
            del held[record.meta.key]
        self._removals.add(reason.value)
        if self._on_removed is not None:
            self._on_removed(record, reason)


def _weight(record: StoredResponse) -> int:
    return record.memory_bytes() + record.body.spool_bytes + ENTRY_OVERHEAD_BYTES


def _received_at(record: StoredResponse) -> float:
    return record.meta.received_at
