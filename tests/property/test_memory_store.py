"""The memory store, over a disk or alone, against a list of all purges ever made.

Whatever is stored, fetched in two halves, read back from disk in two halves, validated, purged hard and soft, taken
back, swept, forgotten and evicted in which order is left to chance. The model deletes nothing and forgets nothing:

    dead   a hard purge newer than its fence matches it
    soft   a soft purge newer than its fence matches it, and was not taken back
"""

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from banish.purge.names import Names
from banish.purge.stamps import PurgeTable
from banish.purge.targets import Target, matches, prefix_target, tag_target
from banish.store.bodies import Body
from banish.store.floor import Floor
from banish.store.memory import MemoryStore, PutOutcome
from banish.store.records import StoredResponse, VariantKey
from banish.tables import Accounts
from tests.stored import HOST, SITE, key_of, stored_response, url_of

PLACES = ("a", "b")
STAMP_AGE_S, UNDO_WINDOW_S = 2.0, 8.0
KEPT = (PutOutcome.STORED, PutOutcome.EVICTED, PutOutcome.TOO_LARGE)
"""What a disk below is given: it was not purged, whether or not memory has room for it."""

TARGETS: Sequence[Target] = (
    *map(url_of, PLACES),
    tag_target(SITE, "t"),
    tag_target("", "u"),
    prefix_target(SITE, f"{HOST}/a"),
)
places = st.sampled_from(PLACES)
variants = st.sampled_from("12")
tags = st.sampled_from([(), ("t",), ("u",), ("t", "u")])
some = st.integers(0, 99)
"""Picks one of what is under way."""


class Purges:
    """Every purge made, and which were taken back."""

    def __init__(self) -> None:
        self.hard: list[tuple[int, Target]] = []
        self.soft: list[tuple[int, Target]] = []
        self.made_at: dict[int, float] = {}
        self.undone: set[int] = set()

    def dead(self, names: Names, fence: int, upto: float = float("inf")) -> bool:
        return any(fence < index <= upto and matches(target, names) for index, target in self.hard)

    def marks(self, names: Names, fence: int) -> list[int]:
        return [
            index
            for index, target in self.soft
            if fence < index and index not in self.undone and matches(target, names)
        ]


class Disk:
    """A tier that never evicts: rows by variant, swept by hand."""

    def __init__(self, table: PurgeTable) -> None:
        self.rows: dict[VariantKey, StoredResponse] = {}
        self.writes: dict[str, int] = {}
        self.swept = 0
        self._table = table

    def put(self, record: StoredResponse) -> None:
        self._wrote(record.meta.key)
        self.rows[record.variant] = record

    def drop(self, record: StoredResponse) -> None:
        self._wrote(record.meta.key)
        self.rows.pop(record.variant, None)

    def _wrote(self, key: str) -> None:
        self.writes[key] = self.writes.get(key, 0) + 1

    def read(self, key: str) -> list[StoredResponse]:
        """What is found now, as it will be handed over later."""
        rows = [row for row in self.rows.values() if row.meta.key == key]
        return [
            StoredResponse(
                row.meta,
                Body.complete(row.body.data or b""),
                row.fence,
                max(row.fence, self._table.floor),
                soft_at=row.soft_at if row.serial else 0,
                serial=1,
            )
            for row in sorted(rows, key=lambda row: -row.meta.received_at)
        ]

    def sweep(self, first_open: int) -> None:
        """Delete what hard purges match, mark what soft ones match that can no longer be taken back."""
        goal = min(self._table.index, first_open - 1)
        for row in list(self.rows.values()):
            finding = self._table.finding(row.names, max(row.fence, self._table.floor))
            if finding.verdict.dead:
                self.drop(row)
            elif 0 < finding.index <= goal:
                marked = stored_copy(row)
                marked.soft_at, marked.serial = row.soft_at if row.serial else finding.index, 1
                self.rows[row.variant] = marked
        self.swept = goal


def stored_copy(record: StoredResponse) -> StoredResponse:
    return StoredResponse(record.meta, record.body, record.fence, record.fence)


class Stored(RuleBasedStateMachine):
    """One edge's memory and what stands around it."""

    @initialize(roomy=st.booleans(), over_disk=st.booleans())
    def begin(self, roomy: bool, over_disk: bool) -> None:
        self.table = PurgeTable()
        self.purges = Purges()
        self.roomy, self.over_disk = roomy, over_disk
        self.store = MemoryStore(
            1 << 24 if roomy else 4500, table=self.table, accounts=Accounts(), disk_below=over_disk
        )
        self.disk = Disk(self.table)
        self.floor = Floor(
            self.table,
            [self.store, self.disk] if over_disk else [self.store],
            persist=lambda floor: None,
            stamp_min_age_s=STAMP_AGE_S,
            undo_window_s=UNDO_WINDOW_S,
            accounts=Accounts(),
        )
        self.time_s = 0.0
        self.responses = 0
        self.newest: dict[VariantKey, StoredResponse] = {}
        self.fetches: list[tuple[int, Callable[[int], None]]] = []
        self.loads: list[tuple[str, int, list[StoredResponse]]] = []

    # --- storing

    @rule(place=places, variant=variants, tags=tags, size=st.sampled_from([500, 500, 500, 5000]))
    def store_one(self, place: str, variant: str, tags: tuple[str, ...], size: int) -> None:
        """A fetch begins and ends."""
        new = self._response(place, variant, tags, self.table.index, b"x" * size)
        self._check_outcome(self.store.put(new), new)

    @rule(place=places, variant=variants, tags=tags)
    def send(self, place: str, variant: str, tags: tuple[str, ...]) -> None:
        """A fetch begins. What it brings is stored when it ends."""

        def arrive(fence: int) -> None:
            new = self._response(place, variant, tags, fence, b"x" * 500)
            self._check_outcome(self.store.put(new), new)

        self.fetches.append((self.table.index, arrive))

    @rule(place=places, at=some)
    def validate(self, place: str, at: int) -> None:
        """A fetch begins that will confirm a stored response."""
        records = self.store.lookup(key_of(place))
        if not records:
            return
        old = records[at % len(records)]

        def arrive(fence: int) -> None:
            [variant] = [value for value in old.meta.selecting if value]
            new = self._response(place, variant, old.meta.tags, fence, old.body)
            outcome = self.store.replace(old, new)
            if outcome is not PutOutcome.GONE:
                assert not self.purges.dead(old.names, old.fence, fence), "a 304 revived what was purged"
                self._check_outcome(outcome, new)

        self.fetches.append((self.table.index, arrive))

    @precondition(lambda self: self.fetches)
    @rule(at=some)
    def end(self, at: int) -> None:
        """A fetch ends."""
        fence, arrive = self.fetches.pop(at % len(self.fetches))
        arrive(fence)

    def _response(
        self, place: str, variant: str, tags: tuple[str, ...], fence: int, body: bytes | Body
    ) -> StoredResponse:
        self.responses += 1
        return stored_response(
            place,
            vary=("x",),
            selecting=(variant,),
            tags=tags,
            fence=fence,
            body=body,
            received_at=1e9 + self.responses,
        )

    def _check_outcome(self, outcome: PutOutcome, new: StoredResponse) -> None:
        names = new.names
        clean = not self.purges.dead(names, new.fence) and not self.purges.marks(names, new.fence)
        forgotten = new.fence < self.table.floor and new.fence < self.table.index
        assert (outcome in KEPT) is (clean and not forgotten)
        assert self.over_disk or not self.roomy or outcome not in KEPT or outcome.stored
        if outcome.stored or (outcome in KEPT and self.over_disk):
            self.disk.put(stored_copy(new))
            self.newest[new.variant] = new

    @rule(place=places, at=some)
    def remove(self, place: str, at: int) -> None:
        """Its owner wants it no more."""
        records = self.store.lookup(key_of(place))
        if records:
            record = records[at % len(records)]
            assert self.store.remove(record)
            self.disk.drop(record)
            del self.newest[record.variant]

    # --- reading back from disk

    @precondition(lambda self: self.over_disk)
    @rule(place=places)
    def read(self, place: str) -> None:
        """A look-up finds nothing that will do and asks the disk."""
        key = key_of(place)
        self.loads.append((key, self.disk.writes.get(key, 0), self.disk.read(key)))

    @precondition(lambda self: self.loads)
    @rule(at=some)
    def promote(self, at: int) -> None:
        """The disk has answered. What was written meanwhile makes the answer void."""
        key, writes, records = self.loads.pop(at % len(self.loads))
        if writes == self.disk.writes.get(key, 0):
            too_old = any(record.clean_at < self.table.floor for record in records)
            assert self.store.promote(records) or too_old

    # --- purging

    @rule(what=st.sampled_from(TARGETS))
    def purge(self, what: Target) -> None:
        """Somebody purges."""
        self._apply([what], [])

    @rule(batch=st.lists(st.sampled_from(TARGETS), min_size=1, max_size=3))
    def purge_softly(self, batch: list[Target]) -> None:
        """Somebody purges softly, or both ways at once."""
        self._apply(batch[2:], batch[:2])

    def _apply(self, hard: list[Target], soft: list[Target]) -> None:
        index = self.table.apply(hard, soft)
        self.purges.hard += [(index, target) for target in hard]
        self.purges.soft += [(index, target) for target in soft]
        self.purges.made_at[index] = self.time_s
        self.floor.applied(index, self.time_s, soft=bool(soft))

    @rule(at=some)
    def undo(self, at: int) -> None:
        """Somebody takes back a soft purge within its window."""
        if undoable := self._undoable():
            index = undoable[at % len(undoable)]
            assert self.table.undo(index)
            self.purges.undone.add(index)
            self.store.undone(index)

    def _undoable(self) -> list[int]:
        soft = {index for index, _ in self.purges.soft} - self.purges.undone
        return sorted(index for index in soft if self.time_s - self.purges.made_at[index] < UNDO_WINDOW_S)

    @rule(looks=st.sampled_from([1, 2, 100_000]), seconds=st.sampled_from([0, 1, 3]))
    def sweep(self, looks: int, seconds: int) -> None:
        """Memory is swept for a while."""
        self.time_s += seconds
        clock = iter(range(10_000_000))
        self.store.sweep(looks, lambda: float(next(clock)))
        while self.floor.advance(self.time_s):
            pass

    @rule()
    def sweep_disk(self) -> None:
        """The disk is swept."""
        self.disk.sweep(min(self._undoable(), default=self.table.index + 1))

    # --- what must hold

    @rule(place=places, touched=st.booleans())
    def look_up(self, place: str, touched: bool) -> None:
        """A request comes."""
        self._check(place)
        if touched:
            for record in self.store.lookup(key_of(place)):
                self.store.touch(record)

    def _check(self, place: str) -> None:
        found = self.store.lookup(key_of(place))
        for record in found:
            marks = self.purges.marks(record.names, record.fence)
            assert not self.purges.dead(record.names, record.fence)
            assert record.soft_at == min(marks, default=0)
            assert record.meta.received_at == self.newest[record.variant].meta.received_at, "an old one came back"
        moments = [record.meta.received_at for record in found]
        assert moments == sorted(moments, reverse=True)
        live = {variant for variant, record in self._live() if record.meta.key == key_of(place)}
        if self.roomy:
            assert {record.variant for record in found} == live
        elif self.over_disk and found:
            newer = {v for v in live if self.newest[v].meta.received_at > moments[-1]}
            assert newer < {record.variant for record in found}, "an older one hides a newer one on disk"

    def _live(self) -> list[tuple[VariantKey, StoredResponse]]:
        return [
            (variant, record)
            for variant, record in self.newest.items()
            if not self.purges.dead(record.names, record.fence)
        ]

    @invariant()
    def what_is_swept_is_swept(self) -> None:
        """The floor relies on it."""
        for record in self.store.walk():
            assert not self.purges.dead(record.names, record.fence, self.store.swept)
            assert record.soft_at not in self.purges.undone or record.soft_at > self.store.swept

    @invariant()
    def the_accounts_are_true(self) -> None:
        """Every record is in one slice and one queue, and within the budget."""
        assert len(self.store) == len(list(self.store.walk()))
        assert self.roomy or self.store.memory_bytes <= 4500

    def teardown(self) -> None:
        if hasattr(self, "store"):
            for place in PLACES:
                self._check(place)


test_a_store_keeps_what_it_promises: Any = Stored.TestCase
