"""The index in memory and RocksDB's are twins: whatever is written, they read alike."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from banish.store.index import Batch, Family, Index
from banish.store.rocks import open_index
from banish.testing.index import MemoryIndex

MEMORY = Path("/dev/shm")

families = st.sampled_from([Family.OBJECTS, Family.TAGS, Family.SMALL])
keys = st.binary(max_size=2).map(lambda key: bytes([byte % 3 for byte in key]))
values = st.one_of(st.binary(max_size=3), st.integers(1023, 1025).map(bytes))
changes = st.one_of(
    st.tuples(st.just(Batch.put), families, keys, values),
    st.tuples(st.just(Batch.delete), families, keys),
    st.tuples(st.just(Batch.delete_range), families, keys, keys),
)


class Twins(RuleBasedStateMachine):
    """Batches, restarts and compactions in any order; both are read in every way after each."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="banish-", dir=MEMORY if MEMORY.is_dir() else None)
        self.twin = MemoryIndex()

    @initialize()
    def open(self) -> None:
        self.rocks = open_index(Path(self.directory.name))

    def teardown(self) -> None:
        self.rocks.close()
        self.directory.cleanup()

    @rule(plan=st.lists(changes, max_size=6))
    def write(self, plan: list[tuple]) -> None:  # type: ignore[type-arg]
        batch = Batch()
        for change, *arguments in plan:
            change(batch, *arguments)
        for index in (self.rocks, self.twin):
            index.write(batch)

    @rule(synced=st.booleans())
    def reopen(self, synced: bool) -> None:
        if synced:
            self.rocks.sync()
            self.twin.sync()
        self.rocks.close()
        self.open()
        self.twin = self.twin.reopened()

    @rule(family=families, start=keys, end=keys)
    def reclaim(self, family: Family, start: bytes, end: bytes) -> None:
        self.rocks.reclaim(family, start, end)

    @rule(family=families, asked=st.lists(keys, max_size=4))
    def read(self, family: Family, asked: list[bytes]) -> None:
        expected = self.twin.get_many(family, asked)
        assert self.rocks.get_many(family, asked) == expected
        assert [self.rocks.get(family, key) for key in asked] == expected
        assert all(
            self.rocks.may_hold(family, key) for key, value in zip(asked, expected, strict=True) if value is not None
        )

    @rule(family=families, start=keys, end=keys, limit=st.integers(0, 4))
    def scan(self, family: Family, start: bytes, end: bytes, limit: int) -> None:
        def rows(index: Index) -> list[tuple[bytes, bytes]]:
            return index.scan(family, start, end, limit)

        assert rows(self.rocks) == rows(self.twin)


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=20, stateful_step_count=30)
