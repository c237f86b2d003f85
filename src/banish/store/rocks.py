"""The index on RocksDB, by way of rocksdict: its options, its traps, and what its errors mean.

Each trap was met with rocksdict 0.3.29 (RocksDB 9.8.4), and `test_rocks.py` holds the way round it:

  - `items()` and `keys()` end early at a damaged block and say nothing; only an iterator's `status()` tells.
  - Filters kept in the block cache make reads ten times slower once one is larger than a shard of the cache. And
    with a prefix extractor iterators have been seen to skip rows. Neither is used.
  - The GIL is held in everything but `flush_wal`, `compact_range`, `flush` and a `get` of a list: one get or write
    is a few microseconds, a stalled write would stop the whole edge. So writes never wait (`no_slowdown`).
  - A failed write or sync is the end of writing until the database is opened anew; then what had failed is not
    there. Reading goes on meanwhile. `close` raises what had failed before.
  - Compaction that failed on a full disk is not taken up again when there is room: writes come to a stand much later.
  - A `delete_range` whose end comes before its start counts as a failed write. `Batch` leaves such out.
  - The LOCK stays held while any family, family handle, batch or iterator lives, be it in a traceback's frame.
  - Closing a family while a thread reads from it raises; so closing waits for such threads.
  - Opening holds the GIL while it reads the log again and writes it to files, 5 ms a MiB: on a full disk for nothing.
  - A log or manifest that is damaged inside opens all the same, as it was before: families maybe at different times.
    So the number of the last synced change stands in a file of its own, and opening asks whether it was reached.
  - `repair` knows nothing of blob files, and may bring back what was deleted.

Not here: the contract (`index.py`); what the rows mean (`rows.py`).
Units: bytes.
"""

import shutil
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from zlib import crc32

from rocksdict import (
    BlockBasedOptions,
    Cache,
    ColumnFamily,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from banish.errors import IndexBusy, IndexDamaged, IndexFailed, StoreError
from banish.store.index import Batch, Family, Index, Row

INDEX_MEMORY_BYTES = 128 << 20
"""What RocksDB may take for rows not yet in files and for blocks read, half each. Filters and the index blocks of
files come on top: about 3 bytes a row."""

WRITE_BUFFER_BYTES = 32 << 20
"""Rows of one family in memory before they go to a file."""

WAL_BYTES = 64 << 20
"""What a restart has to read again at most: a third of a second."""

BLOB_BYTES_MIN = 1024
"""Bodies from this size on lie in blob files: compaction then moves 20 bytes, not the body. Measured with bodies of
0.6 to 32 KiB coming and going: 1.4 times the disk of what is stored, against 2 to 3 times without."""

BLOB_FILE_BYTES = 64 << 20
BLOB_GARBAGE_SHARE = 0.5
"""Blob files older than this share of all, or with this share of garbage, are written anew when compaction meets
them. RocksDB's own 0.25 let twice the bodies stand on disk."""

LEVEL_ZERO_FILES_SLOW = 48
LEVEL_ZERO_FILES_MAX = 64
"""Files not yet compacted at which writes are refused. Roomier than RocksDB's 20 and 36: reads get slower first."""

ROOM_BYTES_MIN = 1 << 20
"""Free space without which the index is not opened; twice what is to be read again comes on top."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _in_our_words(call: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have what RocksDB raises come out as StoreError, without the frames it passed: they hold the LOCK."""

    @wraps(call)
    def translated(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return call(*args, **kwargs)
        except StoreError:
            raise
        except Exception as error:
            raise _translated(error) from error.with_traceback(None)

    return translated


def _translated(error: Exception) -> StoreError:
    text = str(error)
    if text.startswith("Result incomplete"):
        return IndexBusy("the disk does not keep up with what is written")
    if text.startswith("Corruption") or "No such file" in text:
        return IndexDamaged(text)
    return IndexFailed(text)


class RocksIndex(Index):
    """An open RocksDB database. Made by `open_index`."""

    def __init__(self, path: Path, memory_bytes: int) -> None:
        cache = Cache(memory_bytes // 2)
        families: dict[str, Options] = {family: _options(family, cache) for family in Family}
        self._db = Rdict(str(path), _database_options(memory_bytes // 2, cache), families)
        self._synced = _Synced(path)
        if self._db.latest_sequence_number() < self._synced.number:
            self._db.close()
            raise IndexDamaged(f"changes that had been synced are missing in {path}")
        self._families = {family: self._db.get_column_family(family) for family in Family}
        self._handles: dict[Family, ColumnFamily] = {
            family: self._db.get_column_family_handle(family) for family in Family
        }
        self._writing = WriteOptions()
        self._writing.no_slowdown = True
        self._away = 0
        """Calls under way that have let go of the GIL."""
        self._back = threading.Condition()
        self._closed = False

    def __repr__(self) -> str:
        return f"<RocksIndex {'closed' if self._closed else 'open'}>"

    @_in_our_words
    def get(self, family: Family, key: bytes) -> bytes | None:
        value: bytes | None = self._families[family].get(key)
        return value

    @_in_our_words
    def get_many(self, family: Family, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._leaving():
            values: Any = self._families[family].get(list(keys))
        return list(values)

    @_in_our_words
    def may_hold(self, family: Family, key: bytes) -> bool:
        return bool(self._families[family].key_may_exist(key))

    @_in_our_words
    def scan(self, family: Family, start: bytes, end: bytes, limit: int) -> list[Row]:
        bounds = ReadOptions()
        bounds.set_iterate_upper_bound(end)
        rows: list[Row] = []
        at = self._families[family].iter(bounds)
        at.seek(start)
        while len(rows) < limit and at.valid():
            rows.append((at.key(), at.value()))
            at.next()
        at.status()
        return rows

    def write(self, batch: Batch) -> None:
        try:
            self._write(batch)
        except IndexBusy as busy:
            if _property(self._db, "background-errors"):
                raise IndexFailed("the disk failed in the background, and RocksDB does not try again") from busy
            raise

    @_in_our_words
    def _write(self, batch: Batch) -> None:
        if self._closed:
            raise IndexFailed("the index is closed")
        handles = self._handles
        changes = WriteBatch(raw_mode=True)
        for family, key, value, end in batch:
            if value is not None:
                changes.put(key, value, handles[family])
            elif end is not None:
                changes.delete_range(key, end, handles[family])
            else:
                changes.delete(key, handles[family])
        self._db.write(changes, self._writing)

    @_in_our_words
    def sync(self) -> None:
        with self._leaving():
            written = self._db.latest_sequence_number()
            self._db.flush_wal(True)
            self._synced.reached(written)

    @_in_our_words
    def reclaim(self, family: Family, start: bytes, end: bytes) -> None:
        with self._leaving():
            self._families[family].compact_range(start, end)

    @_in_our_words
    def figures(self) -> dict[str, int]:
        files = ("total-sst-files-size", "total-blob-file-size")
        each = self._families.values()
        return {
            "disk_bytes": sum(_property(family, name) for family in each for name in files),
            "memory_bytes": sum(_property(family, "cur-size-all-mem-tables") for family in each)
            + _property(self._db, "block-cache-usage"),
            "pending_compaction_bytes": sum(_property(family, "estimate-pending-compaction-bytes") for family in each),
            "delayed_write_rate": _property(self._db, "actual-delayed-write-rate"),
            "write_stopped": _property(self._db, "is-write-stopped"),
            "background_errors": _property(self._db, "background-errors"),
            "objects": _property(self._families[Family.OBJECTS], "estimate-num-keys"),
        }

    def close(self) -> None:
        with self._back:
            if self._closed:
                return
            self._closed = True
            self._back.wait_for(lambda: not self._away)
        self._handles.clear()
        for handle in (*self._families.values(), self._db):
            with suppress(Exception):  # it says once more what had failed before
                handle.close()

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        with self._back:
            if self._closed:
                raise IndexFailed("the index is closed")
            self._away += 1
        try:
            yield
        finally:
            with self._back:
                self._away -= 1
                self._back.notify_all()


class _Synced:
    """The number of a change up to which all are synced, in a file of 12 bytes: the number and its checksum.

    Written after the sync and not synced itself: it may lag behind the truth, and never be ahead.
    """

    _LAYOUT = struct.Struct(">QI")

    def __init__(self, path: Path) -> None:
        self._file = path / "synced"
        self._lock = threading.Lock()
        self.number = self._read()

    def _read(self) -> int:
        with suppress(OSError, struct.error):
            data = self._file.read_bytes()
            number, checksum = self._LAYOUT.unpack(data)
            if crc32(data[:8]) == checksum:
                return int(number)
        return 0

    def reached(self, number: int) -> None:
        with self._lock:
            if number <= self.number:
                return
            self.number = number
            data = number.to_bytes(8, "big")
            with suppress(OSError):  # then it lags behind
                self._file.write_bytes(self._LAYOUT.pack(number, crc32(data)))

    def forget(self) -> None:
        self._file.unlink(missing_ok=True)


@_in_our_words
def open_index(path: Path, *, memory_bytes: int = INDEX_MEMORY_BYTES) -> RocksIndex:
    """The index in the directory `path`, made if it is not there.

    Raises IndexDamaged if it cannot be opened as it is (`repair` may help), IndexFailed if the disk gives way or
    another process has it open. Takes as long as reading `WAL_BYTES` again if the last process was killed.
    """
    path.mkdir(parents=True, exist_ok=True)
    _require_room(path)
    return RocksIndex(path, memory_bytes)


@_in_our_words
def repair(path: Path) -> None:
    """Make a damaged index open again, from what its files still hold. It must not be open.

    Small bodies are lost, and what was deleted may be back: whoever goes on with it must drop every response
    whose fence is below the floor, since nothing else says any more that it was purged.
    """
    _Synced(path).forget()
    Rdict.repair(str(path), _database_options(0, Cache(0)))
    shutil.rmtree(path / "lost", ignore_errors=True)
    cache = Cache(0)
    database = Rdict(str(path), _database_options(0, cache), {family: _options(family, cache) for family in Family})
    database.drop_column_family(Family.SMALL)  # its rows lead to blob files that repair does not know
    database.close()


def _require_room(path: Path) -> None:
    """Raise IndexFailed if the disk has no room for what opening writes, before it holds everything up in vain."""
    needed = ROOM_BYTES_MIN + 2 * sum(log.stat().st_size for log in path.glob("*.log"))
    free = shutil.disk_usage(path).free
    if free < needed:
        raise IndexFailed(f"No space left on device: {path} needs {needed} bytes to be opened, {free} are free")


def _property(handle: Rdict, name: str) -> int:
    return handle.property_int_value(f"rocksdb.{name}") or 0


def _database_options(buffers_bytes: int, cache: Cache) -> Options:
    options = _common_options(cache)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_db_write_buffer_size(buffers_bytes)
    options.set_max_total_wal_size(WAL_BYTES)
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    options.set_max_background_jobs(2)
    options.set_bytes_per_sync(1 << 20)
    options.set_wal_bytes_per_sync(1 << 20)
    options.set_avoid_unnecessary_blocking_io(True)
    options.set_skip_stats_update_on_db_open(True)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_max_log_file_size(1 << 20)
    options.set_keep_log_file_num(2)
    return options


def _options(family: Family, cache: Cache) -> Options:
    options = _common_options(cache, filtered=family in (Family.OBJECTS, Family.META))
    if family is Family.SMALL:
        options.set_enable_blob_files(True)
        options.set_min_blob_size(BLOB_BYTES_MIN)
        options.set_blob_file_size(BLOB_FILE_BYTES)
        options.set_enable_blob_gc(True)
        options.set_blob_gc_age_cutoff(BLOB_GARBAGE_SHARE)
        options.set_blob_gc_force_threshold(BLOB_GARBAGE_SHARE)
    return options


def _common_options(cache: Cache, *, filtered: bool = False) -> Options:
    options = Options(raw_mode=True)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(4)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_level_zero_slowdown_writes_trigger(LEVEL_ZERO_FILES_SLOW)
    options.set_level_zero_stop_writes_trigger(LEVEL_ZERO_FILES_MAX)
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    if filtered:
        table.set_bloom_filter(10, False)
    options.set_block_based_table_factory(table)
    return options
