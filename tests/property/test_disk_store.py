"""The disk store against a short model of what it promises, through crashes, losses of power and errors of the disk.

What is loaded was stored under that key and was the last of its variant (after a loss of power, or a crash while the
disk had failed, one of those since the last sync). It is not matched by a hard purge later than its fence, unless the
stamps say so, and is stale exactly if a soft purge matched that was not taken back. What nothing speaks against is
found. In the end, what purges matched is gone, and every row leads where it should.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial, partialmethod
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from banish.errors import StoreError
from banish.purge.names import names_of
from banish.purge.stamps import Verdict
from banish.purge.targets import Target, everything_target, matches, pattern_target, prefix_target, tag_target
from banish.store import disk, shelf
from banish.store.bodies import Body
from banish.store.check import Report, check_index
from banish.store.disk import RETRY_S
from banish.store.diskthreads import DiskThreads
from banish.store.diskwrites import DiskOutcome
from banish.store.records import StoredResponse, VariantKey
from banish.store.rows import SMALL_BODY_BYTES
from banish.testing.index import Call, busy, damage, disk_error, disk_full
from tests.looped import settle
from tests.ondisk import Disk, whole
from tests.stored import HOST, SITE, key_of, stored_response, url_of

NAMES = ("a", "b", "c/1", "c/2")
BLOCK = 1000
T = TypeVar("T")

targets = st.sampled_from(
    [
        *map(url_of, NAMES),
        tag_target(SITE, "t"),
        tag_target("", "u"),
        prefix_target(SITE, f"{HOST}/c/"),
        pattern_target(SITE, "*1"),
        everything_target(SITE),
        everything_target("another"),
    ]
)
batches = st.lists(targets, min_size=1, max_size=2)
errors = st.sampled_from(
    [
        (Call.WRITE, disk_full()),
        (Call.WRITE, busy()),
        (Call.READ, disk_error()),
        (Call.READ, damage()),
        (Call.SYNC, disk_error()),
    ]
)


class State(msgspec.Struct, frozen=True):
    """One thing that may be found of a variant."""

    body: bytes
    fence: int
    tags: tuple[str, ...]


class Purge(msgspec.Struct):
    """One purge, as the model remembers it."""

    index: int
    targets: list[Target]
    hard: bool
    released: bool = False
    undone: bool = False

    def hits(self, record: StoredResponse) -> bool:
        """Whether it matches a response, by what it says alone."""
        names = names_of(record.meta)
        return not self.undone and self.index > record.fence and any(matches(target, names) for target in self.targets)


class Threads:
    """In place of threads: what is called is done at once, and known at once, or later if it is held back."""

    def __init__(self) -> None:
        self.holding: set[str] = set()
        self.held: list[Callable[[], None]] = []

    def submit(self, _: DiskThreads, call: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        try:
            tell = partial(done.set_result, call(*args, **kwargs))
        except StoreError as error:
            tell = partial(done.set_exception, error)
        if call.__name__ in self.holding:
            self.held.append(tell)
        else:
            tell()
        return done

    def let_go(self, name: str) -> None:
        self.holding.discard(name)
        held, self.held = self.held, []
        for tell in held:
            tell()


class DiskMachine(RuleBasedStateMachine):
    """Random steps. One load and one body on its way at a time may take two steps."""

    @initialize(budget_bytes=st.sampled_from([1 << 24, 1 << 24, 120_000]))
    def begin(self, budget_bytes: int) -> None:
        self.patches = ExitStack()
        self.threads = Threads()
        submit = partialmethod(lambda of, *args, **kwargs: self.threads.submit(of, *args, **kwargs))
        self.patches.enter_context(patch.object(DiskThreads, "submit", submit))
        for module in (disk, shelf):
            self.patches.enter_context(patch.object(module, "log"))
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.roomy = budget_bytes > 1 << 20
        self.disk = Disk(Path(self.directory.name), budget_bytes=budget_bytes)
        self.disk.store.reserve(BLOCK)
        self.disk.store.on_settled = self.settled
        self.faulty = self.damaged = self.lost = False
        self.count = 0
        self.purges: list[Purge] = []
        self.bodies: dict[VariantKey, bytes] = {}  # of what was offered last
        self.held: dict[VariantKey, StoredResponse] = {}  # as memory would
        self.allowed: dict[VariantKey, set[State]] = {}
        self.since_sync: dict[VariantKey, set[State]] = {}
        self.certain: dict[VariantKey, StoredResponse] = {}  # which must be found, unless a purge hit them
        self.writing: StoredResponse | None = None
        self.loading: tuple[str, asyncio.Task[list[StoredResponse]]] | None = None

    def settled(self, record: StoredResponse, body: Body, serial: int) -> None:
        record.body = body
        if self.roomy and not self.faulty:
            self.certain[record.variant] = record

    def run(self, what: Awaitable[T]) -> T:
        return self.loop.run_until_complete(what)

    def call(self, what: Callable[[], T]) -> T:
        """Call something on the loop."""

        async def called() -> T:
            return what()

        return self.run(called())

    @property
    def now(self) -> int:
        return self.disk.table.index

    # What is stored

    @rule(
        name=st.sampled_from(NAMES),
        values=st.sampled_from([(), ("1",), ("2",)]),
        tags=st.sampled_from([(), ("t",), ("t", "u")]),
        lag=st.integers(0, 3),
        large=st.booleans(),
        hits=st.integers(0, 1),
    )
    def put(self, name: str, values: tuple[str, ...], tags: tuple[str, ...], lag: int, large: bool, hits: int) -> None:
        if large and (self.writing is not None or self.loading is not None):
            return
        self.count += 1
        body = b"%d." % self.count * (20_000 if large else 1)
        record = stored_response(
            name,
            body=body,
            tags=tags,
            vary=("x",) * len(values),
            selecting=values,
            fence=max(0, self.now - lag),
            received_at=1e9 + self.count / 1000,
        )
        record.hits = hits
        if self.disk.table.verdict(record.names, record.fence) is not Verdict.CLEAN:
            return  # memory would not take it
        record.clean_at = self.now
        self.threads.holding.add("keep")
        self.bodies[record.variant] = body
        self.offered(record, self.call(lambda: self.disk.store.put(record)))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), tags=st.sampled_from([("t",), ("u",)]), lag=st.integers(0, 2))
    def replace(self, data: st.DataObject, tags: tuple[str, ...], lag: int) -> None:
        variant = data.draw(st.sampled_from(sorted(self.held)))
        old, fence = self.held[variant], max(self.held[variant].fence, self.now - lag)
        if (self.writing not in (None, old) or self.loading is not None) and old.body.size > SMALL_BODY_BYTES:
            return
        table = self.disk.table
        if table.verdict(old.names, old.clean_at, fence).dead or table.verdict(old.names, fence) is not Verdict.CLEAN:
            return
        meta = msgspec.structs.replace(old.meta, tags=tags)
        new = StoredResponse(meta, old.body, fence=fence, clean_at=fence, serial=old.serial)
        if table.verdict(new.names, fence) is not Verdict.CLEAN:
            return
        new.clean_at = self.now
        if self.writing is old:
            self.writing = new
        self.offered(new, self.call(lambda: self.disk.store.replace(old, new)))

    def offered(self, record: StoredResponse, outcome: DiskOutcome) -> None:
        variant = record.variant
        taken = outcome in (DiskOutcome.STORED, DiskOutcome.WRITING)
        self.held[variant] = record
        self.allow(variant, record if taken else None)
        self.certain.pop(variant, None)
        if outcome is DiskOutcome.STORED and self.roomy and not self.faulty:
            self.certain[variant] = record
        if outcome is not DiskOutcome.STORED:  # older rivals must not answer before it
            self.certain = {other: record for other, record in self.certain.items() if other[0] != variant[0]}
        if outcome is DiskOutcome.WRITING and self.writing is None:
            self.writing = record
        if self.faulty:
            self.certain.clear()
        assert outcome is not DiskOutcome.FAILED or self.faulty

    def allow(self, variant: VariantKey, record: StoredResponse | None) -> None:
        self.allowed[variant] = set()
        if record is not None:
            self.allowed[variant].add(State(self.bodies[variant], record.fence, record.meta.tags))
        self.since_sync.setdefault(variant, set()).update(self.allowed[variant])

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        variant = data.draw(st.sampled_from(sorted(self.held)))
        record = self.held.pop(variant)
        self.call(lambda: self.disk.store.remove(record))
        self.allow(variant, None)
        self.certain.pop(variant, None)
        if self.faulty:
            self.certain.clear()

    @precondition(lambda self: self.writing is not None)
    @rule()
    def body_arrives(self) -> None:
        self.threads.let_go("keep")
        self.run(self.disk.store.settled())
        self.writing = None

    # Purges

    @rule(hard=batches)
    def purge_hard(self, hard: list[Target]) -> None:
        index = self.call(lambda: self.disk.purge(hard))
        self.purges.append(Purge(index, hard, hard=True))

    @rule(soft=batches)
    def purge_soft(self, soft: list[Target]) -> None:
        index = self.call(lambda: self.disk.purge(soft=soft))
        self.purges.append(Purge(index, soft, hard=False))

    def open_purges(self) -> list[Purge]:
        return [purge for purge in self.purges if not (purge.hard or purge.released or purge.undone)]

    @precondition(lambda self: self.open_purges())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        purge = data.draw(st.sampled_from(self.open_purges()))
        purge.released = True
        self.call(lambda: self.disk.store.release_soft(purge.index))

    @precondition(lambda self: self.open_purges())
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        purge = data.draw(st.sampled_from(self.open_purges()))
        purge.undone = True
        self.call(lambda: self.disk.undo(purge.index))

    @rule(steps=st.integers(1, 4))
    def sweep(self, steps: int) -> None:
        for _ in range(steps):
            self.call(lambda: self.disk.store.sweep(0.0, self.disk.clock.monotonic))

    @rule()
    def settle_floor(self) -> None:
        try:
            self.call(self.disk.settle_floor)
        except StoreError:
            assert self.faulty

    # Looking

    @precondition(lambda self: self.loading is None)
    @rule(name=st.sampled_from(NAMES))
    def load(self, name: str) -> None:
        self.judge(name, self.run(self.disk.load(name)))

    @precondition(lambda self: self.loading is None and self.writing is None)
    @rule(name=st.sampled_from(NAMES))
    def begin_load(self, name: str) -> None:
        self.threads.holding.add("_read")
        task = self.loop.create_task(self.disk.load(name))
        self.run(settle())
        if task.done():
            self.threads.let_go("_read")
            self.judge(name, task.result())
        else:
            self.loading = (name, task)

    @precondition(lambda self: self.loading is not None)
    @rule()
    def end_load(self) -> None:
        assert self.loading is not None
        (name, task), self.loading = self.loading, None
        self.threads.let_go("_read")
        self.judge(name, self.run(task))

    def judge(self, name: str, found: list[StoredResponse]) -> None:
        table, usable = self.disk.table, set()
        for record in found:
            try:
                body = self.run(whole(record))
            except StoreError:
                assert self.lost  # the file was deleted, and then the power failed before its row was
                continue
            assert State(body, record.fence, record.meta.tags) in self.allowed[record.variant]
            finding = table.finding(record.names, record.clean_at)
            if finding.verdict.dead:
                continue
            usable.add(record.variant)
            assert not any(purge.hits(record) for purge in self.purges if purge.hard)
            soft = any(purge.hits(record) for purge in self.purges if not purge.hard)
            assert soft == (bool(record.soft_at) or finding.verdict is Verdict.SOFT)
        for variant, record in self.certain.items():
            if variant[0] == key_of(name) and variant not in usable:
                assert any(purge.hits(record) for purge in self.purges if purge.hard)
        assert len({record.variant for record in found}) == len(found)

    # Time and trouble

    @precondition(lambda self: not self.disk.store.failed)
    @rule()
    def sync(self) -> None:
        try:
            self.run(self.disk.store.sync())
        except StoreError:
            assert self.faulty
        else:
            self.synced()

    def synced(self) -> None:
        if self.faulty:  # what should have gone may be there yet
            return
        self.since_sync = {variant: set(states) for variant, states in self.allowed.items()}

    @rule(power=st.booleans())
    def crash(self, power: bool) -> None:
        self.let_all_go()
        lost = power or self.faulty
        self.call(self.disk.store._writes.behind.cancel_all)
        self.run(self.disk.crash(power=power))
        self.disk.store.on_settled = self.settled
        self.disk.store.reserve(self.now + BLOCK)
        self.faulty = False
        if lost:
            self.lost = True
            self.allowed = {variant: set(states) for variant, states in self.since_sync.items()}
            self.certain.clear()
        self.synced()
        self.held.clear()
        for purge in self.purges:
            if purge.released:
                self.disk.store.release_soft(purge.index)

    @rule(error=errors, after=st.integers(0, 3))
    def trouble(self, error: tuple[Call, StoreError], after: int) -> None:
        self.faulty = True
        self.damaged |= error[0] is Call.READ
        self.certain.clear()
        self.disk.twin.fail(*error, after=after)

    @precondition(lambda self: self.faulty and self.loading is None and self.writing is None)
    @rule()
    def recover(self) -> None:
        for call in Call:
            self.disk.twin._failing[call].clear()
        self.disk.clock.advance(RETRY_S)
        for _ in range(3):  # begin to open it, take it up, go on
            self.call(self.disk.sweep_once)
        assert not self.disk.store.failed
        self.faulty = False

    def let_all_go(self) -> None:
        if self.loading is not None:
            self.end_load()
        if self.writing is not None:
            self.body_arrives()

    def teardown(self) -> None:
        if not hasattr(self, "disk"):
            return
        self.let_all_go()
        if self.faulty:
            self.recover()
        for purge in self.open_purges():
            self.disk.store.release_soft(purge.index)
        self.call(self.disk.sweep)
        assert self.disk.store.swept >= max([purge.index for purge in self.purges], default=0)
        for name in NAMES:
            found = self.run(self.disk.load(name))
            self.judge(name, found)
            for record in found:
                assert not any(purge.hits(record) for purge in self.purges if purge.hard)
                assert record.soft == any(purge.hits(record) for purge in self.purges if not purge.hard)
        self.disk.store.start()  # files whose rows were lost are found at start alone
        report = Report()
        check_index(self.disk.index, self.disk.files, report, repair=self.damaged or self.lost)
        assert report.sound, report.examples
        self.run(self.disk.close())
        self.loop.close()
        self.directory.cleanup()
        self.patches.close()
        del self.disk, self.loop, self.held, self.certain  # hypothesis keeps all machines, and a store is large


TestDiskStore = DiskMachine.TestCase
