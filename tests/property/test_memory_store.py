"""The memory store, over a disk or alone, against a list of all purges ever made.

Whatever is stored, fetched in two halves, read back from disk in two halves, validated, purged hard and soft, taken
back, swept, forgotten and evicted in which order is left to chance. The model deletes nothing and forgets nothing:

    dead   a hard purge newer than its fence matches it
    soft   a soft purge newer than its fence matches it, and was not taken back
"""

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from banish.purge.names import Names
from banish.purge.stamps import PurgeTable
from banish.purge.targets import Target, matches, prefix_target, tag_target
from banish.store import memory
from banish.store.bodies import Body
from banish.store.floor import Floor
from banish.store.memory import MemoryStore, PutOutcome
from banish.store.records import StoredResponse, VariantKey
from banish.tables import Accounts
from tests.stored import HOST, SITE, key_of, stored_response, url_of

PLACES = ("a", "b")
STAMP_AGE_S, UNDO_WINDOW_S = 2.0, 8.0
RESTED = 10_000_000
"""Ticks after which the sweep has rested, whatever it had worked."""

BUDGET_BYTES = 6000
"""Room for three or four small responses."""

KEPT = (PutOutcome.STORED, PutOutcome.EVICTED, PutOutcome.TOO_LARGE)
"""What a disk below is given: it was not purged, whether or not memory has room for it."""

TARGETS: Sequence[Target] = (
    *map(url_of, PLACES),
    tag_target(SITE, "t"),
    tag_target("", "u"),
    prefix_target(SITE, f"{HOST}/a"),
)
TAGS: Sequence[tuple[str, ...]] = ((), ("t",), ("u",), ("t", "u"))
T = TypeVar("T")


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


class Numbers:
    """Choices, all taken from one number."""

    def __init__(self, number: int) -> None:
        self._left = number

    def below(self, count: int) -> int:
        self._left, choice = divmod(self._left, count)
        return choice

    def one(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]


class World:
    """One edge's memory and what stands around it."""

    def __init__(self, *, roomy: bool, over_disk: bool) -> None:
        self.table = PurgeTable()
        self.purges = Purges()
        self.roomy, self.over_disk = roomy, over_disk
        self.store = MemoryStore(
            1 << 24 if roomy else BUDGET_BYTES, table=self.table, accounts=Accounts(), disk_below=over_disk
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
        self.ticks = 0
        self.responses = 0
        self.newest: dict[VariantKey, StoredResponse] = {}
        self.fetches: list[Callable[[], None]] = []
        self.loads: list[Callable[[], None]] = []

    # --- what may happen: storing

    def store_one(self, numbers: Numbers) -> None:
        """A fetch begins and ends."""
        self.send(numbers)
        self.fetches.pop()()

    def send(self, numbers: Numbers) -> None:
        """A fetch begins. What it brings is stored when it ends."""
        fence = self.table.index
        place, variant, tags = numbers.one(PLACES), numbers.one("123"), numbers.one(TAGS)
        size = numbers.one([500, 500, 500, BUDGET_BYTES])

        def arrive() -> None:
            new = self._response(place, variant, tags, fence, b"x" * size)
            self._check_outcome(self.store.put(new), new)

        self.fetches.append(arrive)

    def validate(self, numbers: Numbers) -> None:
        """A stored response is looked up, its origin asked about it later, and that confirms it, at once or later."""
        records = self.store.lookup(key_of(numbers.one(PLACES)))
        if not records:
            return
        old, at_once = numbers.one(records), numbers.below(2)

        def ask() -> None:
            arrive = self._validation(old, self.table.index)
            if at_once:
                arrive()
            else:
                self.fetches.append(arrive)

        self.fetches.append(ask)

    def _validation(self, old: StoredResponse, fence: int) -> Callable[[], None]:
        meta = old.meta
        place = next(place for place in PLACES if key_of(place) == meta.key)
        [variant] = [value for value in meta.selecting if value]

        def arrive() -> None:
            new = self._response(place, variant, meta.tags, fence, old.body)
            outcome = self.store.replace(old, new)
            if outcome is not PutOutcome.GONE:
                assert not self.purges.dead(old.names, old.fence, fence), "a 304 revived what was purged"
                self._check_outcome(outcome, new)

        return arrive

    def end(self, numbers: Numbers) -> None:
        """A fetch goes on."""
        if self.fetches:
            self.fetches.pop(numbers.below(len(self.fetches)))()

    def remove(self, numbers: Numbers) -> None:
        """Its owner wants a stored response no more."""
        records = self.store.lookup(key_of(numbers.one(PLACES)))
        if records:
            record = numbers.one(records)
            assert self.store.remove(record)
            self.disk.drop(record)
            del self.newest[record.variant]

    def _response(
        self, place: str, variant: str, tags: tuple[str, ...], fence: int, body: bytes | Body
    ) -> StoredResponse:
        self.responses += 1
        received_at = 1e9 + self.responses
        return stored_response(
            place, vary=("x",), selecting=(variant,), tags=tags, fence=fence, body=body, received_at=received_at
        )

    def _check_outcome(self, outcome: PutOutcome, new: StoredResponse) -> None:
        names = new.names
        clean = not self.purges.dead(names, new.fence) and not self.purges.marks(names, new.fence)
        forgotten = new.fence < self.table.floor and new.fence < self.table.index
        assert (outcome in KEPT) is (clean and not forgotten)
        assert outcome.stored or not self.roomy or outcome not in KEPT
        if outcome.stored or (outcome in KEPT and self.over_disk):
            self.disk.put(stored_copy(new))
            self.newest[new.variant] = new

    # --- reading back from disk

    def read(self, numbers: Numbers) -> None:
        """A look-up finds nothing that will do and asks the disk. What is written until it answers makes that void."""
        key = key_of(numbers.one(PLACES))
        writes, records = self.disk.writes.get(key, 0), self.disk.read(key)

        def answer() -> None:
            if writes == self.disk.writes.get(key, 0):
                too_old = any(record.clean_at < self.table.floor for record in records)
                assert self.store.promote(records) or too_old

        if self.over_disk:
            self.loads.append(answer)

    def answer(self, numbers: Numbers) -> None:
        """The disk answers."""
        if self.loads:
            self.loads.pop(numbers.below(len(self.loads)))()

    # --- purging

    def purge(self, numbers: Numbers) -> None:
        """Somebody purges."""
        self._apply([numbers.one(TARGETS)], [])

    def purge_softly(self, numbers: Numbers) -> None:
        """Somebody purges softly; in one batch of four something else hard."""
        soft = [numbers.one(TARGETS), numbers.one(TARGETS)]
        self._apply([numbers.one(TARGETS)] if numbers.below(4) == 0 else [], soft)

    def _apply(self, hard: list[Target], soft: list[Target]) -> None:
        index = self.table.apply(hard, soft)
        self.purges.hard += [(index, target) for target in hard]
        self.purges.soft += [(index, target) for target in soft]
        self.purges.made_at[index] = self.time_s
        self.floor.applied(index, self.time_s, soft=bool(soft))

    def undo(self, numbers: Numbers) -> None:
        """Somebody takes back a soft purge within its window."""
        if undoable := self._undoable():
            index = numbers.one(undoable)
            assert self.table.undo(index)
            self.purges.undone.add(index)
            self.store.undone(index)

    def _undoable(self) -> list[int]:
        soft = {index for index, _ in self.purges.soft} - self.purges.undone
        return sorted(index for index in soft if self.time_s - self.purges.made_at[index] < UNDO_WINDOW_S)

    def sweep(self, numbers: Numbers) -> None:
        """Memory is swept, for a while or to the end."""
        self.time_s += numbers.one([0, 1, 3])
        self.ticks += numbers.one([0, RESTED])
        clock = itertools.count(self.ticks)
        self.store.sweep(numbers.one([1, 2, 100_000]), lambda: float(next(clock)))
        self.ticks = next(clock)
        while self.floor.advance(self.time_s):
            pass

    def sweep_disk(self, numbers: Numbers) -> None:
        """The disk is swept."""
        self.disk.sweep(min(self._undoable(), default=self.table.index + 1))

    def look_up(self, numbers: Numbers) -> None:
        """A request comes."""
        place = numbers.one(PLACES)
        self.check_lookup(place)
        if numbers.below(2):
            for record in self.store.lookup(key_of(place)):
                self.store.touch(record)

    # --- what must hold

    def check_lookup(self, place: str) -> None:
        found = self.store.lookup(key_of(place))
        for record in found:
            assert not self.purges.dead(record.names, record.fence)
            assert record.soft_at == min(self.purges.marks(record.names, record.fence), default=0)
            assert record.meta.received_at == self.newest[record.variant].meta.received_at, "an old one came back"
        moments = [record.meta.received_at for record in found]
        assert moments == sorted(moments, reverse=True)
        live = {
            variant: record.meta.received_at
            for variant, record in self.newest.items()
            if record.meta.key == key_of(place) and not self.purges.dead(record.names, record.fence)
        }
        variants = {record.variant for record in found}
        if self.roomy:
            assert variants == live.keys()
        elif self.over_disk and found:
            newer = {variant for variant, moment in live.items() if moment > moments[-1]}
            assert newer < variants, "an older one hides a newer one on disk"

    def check_all(self) -> None:
        """What the floor relies on: that what is swept is; and that every record is in one slice and one queue."""
        records = list(self.store.walk())
        for record in records:
            assert not self.purges.dead(record.names, record.fence, self.store.swept)
            assert record.soft_at not in self.purges.undone or record.soft_at > self.store.swept
        assert self.table.floor <= self.store.swept
        assert self.table.floor <= self.disk.swept or not self.over_disk
        assert len(self.store) == len(records)
        assert self.roomy or self.store.memory_bytes <= BUDGET_BYTES


STORING = (World.store_one,) * 4 + (World.send, World.validate, World.end, World.end, World.remove)
READING = (World.read, World.answer, World.answer)
PURGING = (World.purge, World.purge_softly, World.purge_softly, World.undo, World.undo)
SWEEPING = (World.sweep, World.sweep, World.sweep_disk)
Step = Callable[[World, Numbers], None]
steps = st.tuples(
    st.sampled_from((World.look_up, World.look_up, *STORING, *READING, *PURGING, *SWEEPING)), st.integers(0, 9999)
)


@mock.patch.object(memory, "SLICES", 8)  # the model walks them all at each step
@settings(max_examples=400)
@given(st.booleans(), st.booleans(), st.lists(steps, min_size=40, max_size=80))
def test_any_interleaving(roomy: bool, over_disk: bool, plan: list[tuple[Step, int]]) -> None:
    world = World(roomy=roomy, over_disk=over_disk)
    for step, number in plan:
        step(world, Numbers(number))
        world.check_all()
    for place in PLACES:
        world.check_lookup(place)
    clock = itertools.count(world.ticks, RESTED)
    while not world.store.sweep(1.0, lambda: float(next(clock))).idle:
        pass
    assert world.store.swept == world.table.index
    world.check_all()
