"""An index in memory which fails and forgets when told to: the twin of RocksDB's, for tests of what stands on it.

    index.fail(Call.WRITE, disk_full(), after=2)    the third write from now fails, and writing ends
    index.cut_back()                                the power failed: what was not synced is gone
    index = index.reopened()                        a new process, or a try to begin anew, finds the rows again

It fails as RocksDB does. After a failed write or sync nothing is written any more until it is opened anew, and what
had failed is not there; reading goes on. IndexBusy refuses one write and has no other effect. Damage met by a read
changes nothing.

Not here: the contract (`banish.store.index`).
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from enum import StrEnum

from banish.errors import IndexBusy, IndexDamaged, IndexFailed, StoreError
from banish.store.index import Batch, Family, Index, Row


class Call(StrEnum):
    """What can be told to fail."""

    READ = "read"
    """`get`, `get_many` and `scan`."""

    WRITE = "write"
    SYNC = "sync"


def disk_full() -> IndexFailed:
    """What RocksDB says with ENOSPC."""
    return IndexFailed("IO error: No space left on device: While appending to file: index/000042.log")


def disk_error() -> IndexFailed:
    """What RocksDB says with EIO."""
    return IndexFailed("IO error: While fdatasync: index/000042.log: Input/output error")


def damage() -> IndexDamaged:
    """What RocksDB says of a block whose checksum is wrong."""
    return IndexDamaged("Corruption: block checksum mismatch in index/000043.sst offset 113997 size 4066")


def busy() -> IndexBusy:
    """What a write meets while the disk does not keep up."""
    return IndexBusy("the disk does not keep up with what is written")


class _Table:
    """The rows of one family, in order."""

    __slots__ = ("keys", "rows")

    def __init__(self, rows: dict[bytes, bytes] | None = None) -> None:
        self.rows = dict(rows or {})
        self.keys = sorted(self.rows)

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.rows:
            insort(self.keys, key)
        self.rows[key] = value

    def delete(self, key: bytes) -> None:
        if self.rows.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]

    def delete_range(self, start: bytes, end: bytes) -> None:
        inside = slice(bisect_left(self.keys, start), bisect_left(self.keys, end))
        for key in self.keys[inside]:
            del self.rows[key]
        del self.keys[inside]


class MemoryIndex(Index):
    """Rows in sorted lists."""

    def __init__(self) -> None:
        self._tables = {family: _Table() for family in Family}
        self._unsynced: list[Batch] = []
        self._synced = {family: _Table() for family in Family}
        self._failing: dict[Call, dict[int, StoreError]] = {call: {} for call in Call}
        self._broken: IndexFailed | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<MemoryIndex of {sum(len(table.rows) for table in self._tables.values())} rows>"

    # Told by the test

    def fail(self, call: Call, error: StoreError, *, after: int = 0) -> None:
        """Have the next such call raise `error`, or the one that comes `after` so many others."""
        self._failing[call][after] = error

    def cut_back(self) -> None:
        """Lose what was written since the last `sync`, as a loss of power may."""
        self._unsynced.clear()
        self._tables = {family: _Table(table.rows) for family, table in self._synced.items()}

    def reopened(self) -> "MemoryIndex":
        """Close this one; the same rows in a new one, which nothing is wrong with."""
        self.close()
        index = MemoryIndex()
        index._tables, index._unsynced, index._synced = self._tables, self._unsynced, self._synced
        return index

    # The contract

    def get(self, family: Family, key: bytes) -> bytes | None:
        self._enter(Call.READ)
        return self._tables[family].rows.get(key)

    def get_many(self, family: Family, keys: Sequence[bytes]) -> list[bytes | None]:
        self._enter(Call.READ)
        return [self._tables[family].rows.get(key) for key in keys]

    def may_hold(self, family: Family, key: bytes) -> bool:
        self._enter()
        return key in self._tables[family].rows

    def scan(self, family: Family, start: bytes, end: bytes, limit: int) -> list[Row]:
        self._enter(Call.READ)
        table = self._tables[family]
        first, last = bisect_left(table.keys, start), bisect_left(table.keys, end)
        return [(key, table.rows[key]) for key in table.keys[first : min(last, first + limit)]]

    def write(self, batch: Batch) -> None:
        self._enter(Call.WRITE)
        kept = Batch()
        kept.changes = list(batch)
        self._unsynced.append(kept)
        _make(kept, self._tables)

    def sync(self) -> None:
        self._enter(Call.SYNC)
        for batch in self._unsynced:
            _make(batch, self._synced)
        self._unsynced.clear()

    def reclaim(self, family: Family, start: bytes, end: bytes) -> None:
        self._enter()

    def figures(self) -> dict[str, int]:
        self._enter()
        rows = [row for table in self._tables.values() for row in table.rows.items()]
        return {"disk_bytes": sum(len(key) + len(value) for key, value in rows)}

    def close(self) -> None:
        self._closed = True

    def _enter(self, call: Call | None = None) -> None:
        if self._closed:
            raise IndexFailed("the index is closed")
        if call is None:
            return
        error = self._failing[call].pop(0, None)
        self._failing[call] = {after - 1: later for after, later in self._failing[call].items()}
        if call is not Call.READ:
            if self._broken is not None:
                raise IndexFailed(f"IO error: Writer has previous error: {self._broken}")
            if isinstance(error, IndexFailed) and not isinstance(error, IndexBusy):
                self._broken = error
        if error is not None:
            raise error


def _make(batch: Batch, tables: dict[Family, _Table]) -> None:
    for family, key, value, end in batch:
        if value is not None:
            tables[family].put(key, value)
        elif end is not None:
            tables[family].delete_range(key, end)
        else:
            tables[family].delete(key)
