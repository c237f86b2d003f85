"""The index: ordered rows of bytes in a few families, changed in batches that come about whole or not at all.

    write(batch) ──▶ readable at once ──▶ sync() ──▶ survives a loss of power
                     survives kill -9

What is written survives the end of the process, however it ends; after a loss of power, the rows are as they
were after some batch, none before the last `sync` missing. Batches are never torn and never swap places.

Not here: what the rows mean (`rows.py`), RocksDB (`rocks.py`), the twin that fails when told to
(`banish.testing.index`). Both keep one contract, and `tests/unit/store/test_index.py` holds them to it.
Errors: IndexDamaged where bytes are not what was written, IndexFailed where the disk or the index gives way.
Threads: any call may come from any thread; writes are the event loop's alone, so that their order is its own.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol


class Family(StrEnum):
    """A space of keys of its own. Keys and values are drawn in `rows.py`."""

    OBJECTS = "objects"
    """What is stored under each URL."""

    TAGS = "tags"
    """Which objects carry a tag or a cache group."""

    EXPIRY = "expiry"
    """Objects by the time at which they are of no more use."""

    ORDER = "order"
    """Objects by serial number: eviction's queue."""

    SMALL = "small"
    """Small bodies."""

    META = "meta"
    """What the store knows of itself."""


Row = tuple[bytes, bytes]
"""Key and value."""


class Range(NamedTuple):
    """All keys from `start` on and before `end`."""

    start: bytes
    end: bytes


class Change(NamedTuple):
    """One change of a batch: `value` put under `key`, or `key` deleted, or all from `key` to before `end`."""

    family: Family
    key: bytes
    value: bytes | None = None
    end: bytes | None = None


class Batch:
    """Changes that come about together, in the order given: a put after a `delete_range` over its key stays."""

    __slots__ = ("changes",)

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def __len__(self) -> int:
        return len(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __repr__(self) -> str:
        return f"<Batch of {len(self.changes)}>"

    def put(self, family: Family, key: bytes, value: bytes) -> None:
        """Set the row of that key."""
        self.changes.append(Change(family, key, value))

    def delete(self, family: Family, key: bytes) -> None:
        """Take the row of that key away, if there is one."""
        self.changes.append(Change(family, key))

    def delete_range(self, family: Family, start: bytes, end: bytes) -> None:
        """Take away every row from `start` on and before `end`; none if `end` does not come after `start`."""
        if start < end:  # RocksDB takes a range that is the wrong way round for a failure of its own
            self.changes.append(Change(family, start, end=end))


class Index(Protocol):
    """What the disk tier needs of a store of rows."""

    def get(self, family: Family, key: bytes) -> bytes | None:
        """The value of one key; None if there is no such row."""

    def get_many(self, family: Family, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of some keys, in their order. For a thread: other threads go on meanwhile."""

    def may_hold(self, family: Family, key: bytes) -> bool:
        """False if there is certainly no such row; from memory alone."""

    def scan(self, family: Family, start: bytes, end: bytes, limit: int) -> list[Row]:
        """At most `limit` rows from `start` on and before `end`, by key. To go on: from the last key + b"\\0"."""

    def write(self, batch: Batch) -> None:
        """Make all changes of a batch at once. After IndexFailed it may have been made or not."""

    def sync(self) -> None:
        """Have all that was written before this call survive a loss of power. Takes a disk's time: for a thread."""

    def reclaim(self, family: Family, start: bytes, end: bytes) -> None:
        """Give the disk back what rows deleted in a range took. Takes long if they were many: for a thread."""

    def figures(self) -> dict[str, int]:
        """How the index is doing, by name: `disk_bytes` is what it takes on disk; see `rocks.py` for the others."""

    def close(self) -> None:
        """Let go of the files. Every later call raises IndexFailed; closing again does nothing."""
