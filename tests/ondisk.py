"""A disk store for tests: over the twin of the index, with files in a directory, and a table of stamps."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Barrier, Event

from banish.purge.stamps import Finding, PurgeTable
from banish.purge.targets import Target
from banish.store.disk import RETRY_S, DiskStore
from banish.store.files import BodyFiles
from banish.store.index import Batch, Family, Index
from banish.store.records import StoredResponse
from banish.store.shelf import WRITE_THREADS
from banish.tables import Accounts
from banish.testing.clock import FakeClock
from banish.testing.index import MemoryIndex, disk_full
from tests.stored import key_of

NOW = 1e9 + 1.0
"""A second after what `stored_response` makes was received."""

LARGE = b"large body." * 4000
"""More than a row takes."""


class Disk:
    """One edge's disk: store, stamps and clock, which can be crashed and started again."""

    def __init__(self, directory: Path, *, budget_bytes: int = 1 << 24, index: Index | None = None) -> None:
        self.directory = directory
        self.budget_bytes = budget_bytes
        self.clock = FakeClock(NOW)
        self.index: Index = index if index is not None else MemoryIndex()
        self.purged: list[tuple[str, int, Finding]] = []
        self.emptied: list[tuple[Target, int, int, int]] = []
        self.settled: list[StoredResponse] = []
        self.unfiled: list[tuple[str, int]] = []
        self.log: list[tuple[int, tuple[Target, ...], tuple[Target, ...]]] = []
        self.undone: set[int] = set()
        self.failing_opens = 0
        self._open()

    def _open(self) -> None:
        self.accounts = Accounts()
        self.table = PurgeTable()
        self.files = BodyFiles(self.directory / "bodies", accounts=self.accounts)
        self.store = DiskStore(
            self.index,
            self.files,
            table=self.table,
            clock=self.clock,
            budget_bytes=self.budget_bytes,
            accounts=self.accounts,
            reopen=self.reopened,
        )
        self.store.on_purged = lambda key, n_bytes, finding: self.purged.append((key, n_bytes, finding))
        self.store.on_emptied = lambda *what: self.emptied.append(what)
        self.store.on_settled = lambda record, body, serial: self.settled.append(record)
        self.store.on_unfiled = lambda key, serial: self.unfiled.append((key, serial))

    @property
    def twin(self) -> MemoryIndex:
        """The index, as one that fails when told to."""
        assert isinstance(self.index, MemoryIndex)
        return self.index

    def reopened(self) -> Index:
        """The index, opened again."""
        if self.failing_opens:
            self.failing_opens -= 1
            raise disk_full()
        self.index = self.twin.reopened()
        return self.index

    def begin(self) -> None:
        """As at start: apply what the log has above the floor again."""
        last = max([0, *[index for index, _, _ in self.log]])
        self.table.begin(max(last, self.store.reserved), self.store.floor)
        for index, hard, soft in self.log:
            if index > self.store.floor:
                self.table.apply(hard, () if index in self.undone else soft, index=index)
        for index, _, _ in self.log:
            if index > self.store.floor:
                self.store.applied(index, *self.table.stamped(index))

    async def crash(self, *, power: bool = False) -> None:
        """Stop at once and start again; with `power`, what was not synced is lost."""
        await self.store.settled()
        self.store.close()
        if power:
            self.twin.cut_back()
        self.index = self.twin.reopened()
        self._open()
        self.begin()

    def purge(self, hard: Iterable[Target] = (), soft: Iterable[Target] = ()) -> int:
        """Apply a purge, as the edge does."""
        index = self.table.apply(hard, soft)
        self.log.append((index, *self.table.stamped(index)))
        self.store.applied(index, *self.table.stamped(index))
        return index

    def undo(self, index: int) -> None:
        """Take the soft part of a purge back."""
        self.table.undo(index)
        self.store.undo(index)
        self.undone.add(index)

    def sweep(self) -> int:
        """Sweep until nothing is left; how many were deleted."""
        deleted = 0
        for _ in range(1_000_000):
            progress = self.store.sweep(1.0, self.clock.monotonic)
            deleted += progress.deleted
            if progress.idle:
                return deleted
            self.store._shelf.threads.submit(int).result()  # it may wait for what threads do
        raise AssertionError("the sweep does not come to an end")

    def sweep_once(self) -> None:
        """Sweep as far as it goes without waiting."""
        self.store.sweep(1.0, self.clock.monotonic)

    async def recover(self, *, advance_s: float = RETRY_S) -> None:
        """Let some time pass after a failure, and have the index opened again if it is time."""
        self.clock.advance(advance_s)
        self.sweep_once()
        await threads_idle(self)
        self.sweep_once()

    def overwrite(self, family: Family, value: bytes) -> None:
        """Damage all rows of a family."""
        batch = Batch()
        for key in self.rows(family):
            batch.put(family, key, value)
        self.index.write(batch)

    def settle_floor(self) -> None:
        """Let the floor follow as far as it may, and forget the stamps."""
        floor = min(self.store.swept, self.table.index)
        if floor > self.table.floor:
            self.store.persist_floor(floor)
            while self.table.prune(floor):
                pass

    async def load(self, name: str = "a") -> list[StoredResponse]:
        """What is stored under a name."""
        return await self.store.load(key_of(name))

    async def bodies(self, name: str = "a") -> list[bytes]:
        """The bodies of what is stored under a name, read through."""
        return [await whole(record) for record in await self.load(name)]

    def rows(self, family: Family) -> dict[bytes, bytes]:
        """All rows of a family."""
        return dict(self.index.scan(family, b"", b"\xff" * 32, 100_000))

    def tally(self, name: str) -> dict[tuple[str, ...], float]:
        """What was counted under a name."""
        return next((figures for metric, figures in self.accounts.collect() if metric.name == name), {})

    async def close(self) -> None:
        """Stop."""
        await self.store.settled()
        self.store.close()
        self.files.close()


@asynccontextmanager
async def opened(directory: Path, *, budget_bytes: int = 1 << 24, index: Index | None = None) -> AsyncIterator[Disk]:
    """A disk, closed in the end."""
    disk = Disk(directory, budget_bytes=budget_bytes, index=index)
    try:
        yield disk
    finally:
        await disk.close()


class GatedIndex(MemoryIndex):
    """A twin whose reads on threads wait at a gate: `came` says that one is there, `open` lets it read and go."""

    def __init__(self) -> None:
        super().__init__()
        self.gated = False
        self.came = Event()
        self.open = Event()

    def reopened(self) -> "GatedIndex":
        index, plain = GatedIndex(), super().reopened()
        index._tables, index._unsynced, index._synced = plain._tables, plain._unsynced, plain._synced
        return index

    def get_many(self, family: Family, keys: Sequence[bytes]) -> list[bytes | None]:
        found = super().get_many(family, keys)
        if self.gated and family is Family.OBJECTS:
            self.came.set()
            assert self.open.wait(30)
            self.open.clear()
        return found

    async def arrived(self) -> None:
        """Wait until a read has seen what it sees, and waits to go."""
        assert await asyncio.to_thread(self.came.wait, 30)
        self.came.clear()

    def let_go(self, *, gated: bool = False) -> None:
        """Let the read go; the next one waits too if `gated`."""
        self.gated = gated
        self.open.set()


async def whole(record: StoredResponse) -> bytes:
    """All bytes of a record's body."""
    pieces = []
    with record.body.reader() as reader:
        while piece := await reader.read():
            pieces.append(piece)
    return b"".join(pieces)


async def threads_idle(disk: Disk) -> None:
    """Wait until the threads have done what they were told so far: all of them meet."""
    meeting = Barrier(WRITE_THREADS)
    threads = disk.store._shelf.threads
    await asyncio.gather(*[asyncio.wrap_future(threads.submit(meeting.wait, 30)) for _ in range(WRITE_THREADS)])
    await asyncio.sleep(0)
