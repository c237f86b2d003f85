"""A disk store for tests: over the twin of the index, with files in a directory, and a table of stamps."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from banish.purge.stamps import Finding, PurgeTable
from banish.purge.targets import Target
from banish.store.disk import DiskStore
from banish.store.files import BodyFiles
from banish.store.index import Family, Index
from banish.store.records import StoredResponse
from banish.tables import Accounts
from banish.testing.clock import FakeClock
from banish.testing.index import MemoryIndex
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
        for _ in range(10_000):
            progress = self.store.sweep(1.0, self.clock.monotonic)
            deleted += progress.deleted
            if progress.idle:
                return deleted
        raise AssertionError("the sweep does not come to an end")

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


async def whole(record: StoredResponse) -> bytes:
    """All bytes of a record's body."""
    pieces = []
    with record.body.reader() as reader:
        while piece := await reader.read():
            pieces.append(piece)
    return b"".join(pieces)


async def threads_idle(disk: Disk) -> None:
    """Wait until the threads have done what they were told so far, two of them at most."""
    shelf = disk.store._shelf
    for _ in range(4):
        await asyncio.gather(*[asyncio.wrap_future(shelf.threads.submit(int)) for _ in range(4)])
