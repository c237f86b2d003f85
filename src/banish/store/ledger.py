"""The ledger: the tables of the purge log in SQLite, written in transactions and read back.

    entries   one row for each logged record: apply index, who, when, why, how far it is. Narrow, so that
              history is read and marks are set without touching records
    records   apply index → the signed record, byte for byte
    meta      format, id, reserved, cut, seal; frontier: what is held of other edges' records, below the cut too
    purges    a view of it all for people: sqlite3 purges.sqlite 'select * from purges'

Everything here blocks and belongs on a thread. A commit has reached the disk when `write` returns: WAL mode with
`synchronous=FULL` syncs the WAL in each. Checkpoints are made apart from commits (`checkpoint`), so that nobody
waits for one.

After a failed sync the kernel calls pages clean that never reached the disk. What a WAL still shows of them
would be taken up by the next recovery, and commits behind such a hole would be lost with the power. So
before a WAL is used that this process has not written, every byte of it is written once more and synced.

Not here: the thread, the waiting and what follows a failure (`log.py`); what is in a record (`purge/records.py`).
Units: bytes; moments in seconds since 1970; apply indexes.
Invariants: apply indexes of entries are unique; all rows up to `cut` are gone, no row above it is. SQLite's errors are
translated where they enter.
"""

import contextlib
import errno
import math
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote

import msgspec

from banish.errors import ConfigError, LogDamaged, LogUnwritable
from banish.purge.positions import Position
from banish.purge.records import Record, RecordKind

FORMAT = 1
"""Of the tables, and of the kinds of records they may hold. A ledger of a later format is refused."""

BUSY_S = 5.0
"""How long to wait for somebody else's lock: an operator's sqlite3 that writes."""

TRIM_ROWS_MAX = 256
"""Entries deleted in one transaction, so that no commit waits long behind it."""

TRIM_BYTES_MAX = 4 * 1024 * 1024
"""Bytes of records deleted in one transaction, for the same reason."""

SWEPT_MAX = 500
"""Entries marked as swept in one statement: half of the variables that the oldest SQLite takes."""

SUMMARY_TARGETS = 4
"""Targets that the view for people names; the rest is counted."""

SUMMARY_CHARS = 100
"""Of each target in that view."""

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (
    idx INTEGER PRIMARY KEY,
    edge TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL,
    kind TEXT NOT NULL, mode TEXT NOT NULL, sites TEXT NOT NULL, at REAL NOT NULL,
    actor TEXT NOT NULL, source TEXT NOT NULL, reason TEXT NOT NULL, key TEXT NOT NULL, targets TEXT NOT NULL,
    swept_at REAL, counts BLOB, undone_by INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE records (idx INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE INDEX entries_position ON entries (edge, epoch, seq);
CREATE INDEX entries_rare ON entries (kind) WHERE kind <> 'purge' AND kind <> 'invalidation';
CREATE INDEX entries_key ON entries (key) WHERE key <> '';
CREATE VIEW purges AS SELECT
    edge || '.' || epoch || '.' || seq AS id, strftime('%Y-%m-%dT%H:%M:%fZ', at, 'unixepoch') AS time,
    kind, mode, CASE sites WHEN '' THEN '(all)' ELSE trim(sites) END AS sites, targets, actor, source, reason,
    strftime('%Y-%m-%dT%H:%M:%fZ', swept_at, 'unixepoch') AS swept, undone_by <> 0 AS undone, idx AS apply_index
FROM entries;
"""

_ADD_ENTRY = (
    "INSERT INTO entries (idx, edge, epoch, seq, kind, mode, sites, at, actor, source, reason, key, targets)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_ADD_RECORD = "INSERT INTO records VALUES (?, ?) ON CONFLICT DO NOTHING"
_NOTE = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_ENTRY = (
    "SELECT idx, edge, epoch, seq, kind, at, actor, source, reason, record, swept_at, counts, undone_by"
    " FROM entries JOIN records USING (idx)"
)


_RARE = frozenset(set(RecordKind) - {RecordKind.PURGE, RecordKind.INVALIDATION})
"""Kinds that have an index. An index of the others would cost a page in each commit and find nearly everything."""

_RUNS = (
    "SELECT edge, epoch, min(seq), max(seq) FROM (SELECT edge, epoch, seq,"
    " seq - dense_rank() OVER (PARTITION BY edge, epoch ORDER BY seq) AS run FROM entries)"
    " GROUP BY edge, epoch, run ORDER BY edge, epoch, run"
)
_ISSUED = "SELECT edge, epoch, seq FROM entries WHERE +edge = ? ORDER BY idx DESC"  # the first rows will do
_RUN = (
    "SELECT seq, record FROM entries JOIN records USING (idx)"
    " WHERE edge = ? AND epoch = ? AND seq BETWEEN ? AND ? ORDER BY seq, idx"
)

_HARMLESS = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
"""Failures after which SQLite's own rollback leaves nothing open."""


class Entry(msgspec.Struct, frozen=True):
    """One entry of the log: a record, and what is known of it on this edge."""

    index: int
    """Its apply index here."""
    position: Position
    kind: RecordKind
    at: float
    actor: str
    source: str
    reason: str
    record: bytes
    """As signed by the edge that issued it."""
    swept_at: float | None = None
    counts: bytes | None = None
    """What it matched here, as JSON."""
    undone_by: int = 0
    """The apply index of the record that took it back; 0: none did."""


class Addition(NamedTuple):
    """A record to be logged."""

    apply_index: int
    record: bytes
    decoded: Record
    kind: str = ""
    """What the record says of its kind, if that is one not known here."""


class Swept(NamedTuple):
    """What an entry matched is gone."""

    apply_index: int
    at: float
    counts: bytes


class Undone(NamedTuple):
    """An entry was taken back by the one with the apply index `by`."""

    apply_index: int
    by: int


class Notes(NamedTuple):
    """Rows of `meta`: name → value."""

    values: dict[str, str | bytes]


Change = Addition | Swept | Undone | Notes

Stream = tuple[str, str]
"""(edge id, epoch): records numbered one after the other."""


class Query(NamedTuple):
    """Which entries are wanted: those that fit everything that is not None."""

    after: int = 0
    before: int | None = None
    since: float | None = None
    until: float | None = None
    actor: str | None = None
    site: str | None = None
    """About this site, or about all sites."""
    kinds: tuple[RecordKind, ...] | None = None
    openings: bool = True
    """Whether the openings of epochs are wanted."""
    mentions: str | None = None
    """Records that hold this text somewhere: a coarse sieve for targets, at the speed of memory."""
    limit: int = -1
    newest_first: bool = False


class Ledger:
    """One connection to the tables. For one thread at a time; in memory, for all of them behind a lock."""

    def __init__(self, path: Path | None, connection: sqlite3.Connection, lock: threading.Lock) -> None:
        self._path = path
        self._connection = connection
        self._lock = lock
        self._doubtful = False  # a failure has left open what is on the disk

    @classmethod
    def open(cls, path: Path | None) -> Self:
        """The ledger at `path`, made if it is not there; None: in memory.

        Raises LogDamaged if the file is no ledger or broken, LogUnwritable if it cannot be opened, ConfigError if it
        is of a later format.
        """
        with _translated():
            if path is not None:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            ledger = cls._connect(path)
        ledger._prepare()
        return ledger

    @classmethod
    def _connect(cls, path: Path | None) -> Self:
        if path is not None:
            write_again(_wal(path))
        connection = sqlite3.connect(
            ":memory:" if path is None else f"file:{quote(str(path))}?mode=rw",
            uri=path is not None,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0", "trusted_schema=OFF"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        return cls(path, connection, threading.Lock())

    def _prepare(self) -> None:
        with _translated():
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version > FORMAT:
                raise ConfigError(f"{self._path} was written by a later release (format {version}, here {FORMAT})")
            if version == 0:
                self._connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {FORMAT}; COMMIT")

    def mend(self) -> None:
        """After a failed `write`: if that left open what is on the disk, make durable what the file holds, open it
        again and read all of it back. Raises LogUnwritable if that fails, LogDamaged if what is read is broken.
        """
        if self._path is None or not self._doubtful:
            return
        with _translated():
            write_again(_wal(self._path))  # before the close, which would copy it into the tables
            self._connection.close()
            self._connection = self._connect(self._path)._connection
            found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise LogDamaged(f"the purge log is damaged: {found}")
        self._doubtful = False

    def reader(self) -> "Ledger":
        """A connection for reading beside this one, which sees only what is committed. Raises LogDamaged."""
        if self._path is None:
            return self
        with _translated(reading=True):
            connection = sqlite3.connect(
                f"file:{quote(str(self._path))}?mode=ro",
                uri=True,
                timeout=BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
        return Ledger(self._path, connection, threading.Lock())

    def close(self) -> None:
        """Let go of the file. What is committed stays so."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    # --- writing ---

    def write(self, changes: Sequence[Change]) -> None:
        """All of `changes`, in order, in one transaction; on disk when this returns. Raises LogUnwritable: then
        none of it may be counted on, though all of it may be found after `mend`. An entry that is there stays.
        """
        with self._lock, _translated(), self._transaction():
            for alike in _runs(changes):
                self._apply(alike)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._commit()
        except BaseException as error:
            self._doubtful |= getattr(error, "sqlite_errorcode", 0) & 0xFF not in _HARMLESS
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise

    def _commit(self) -> None:
        self._connection.execute("COMMIT")

    def _apply(self, alike: Sequence[Change]) -> None:
        execute = self._connection.execute
        match alike[0]:
            case Addition(index, record) as addition:
                execute(_ADD_ENTRY, _row(addition))
                execute(_ADD_RECORD, (index, record))
            case Swept(_, at, counts):
                indexes = [change.apply_index for change in alike if isinstance(change, Swept)]
                marks = ", ".join("?" * len(indexes))
                execute(f"UPDATE entries SET swept_at = ?, counts = ? WHERE idx IN ({marks})", (at, counts, *indexes))
            case Undone(index, by):
                execute("UPDATE entries SET undone_by = ? WHERE idx = ?", (by, index))
            case Notes(values):
                self._connection.executemany(_NOTE, values.items())

    def make_room(self, wal_bytes: int) -> None:
        """Let the WAL take up so much disk now, and the tables as much more than they need.

        A commit that finds its blocks taken syncs data alone: on ext4 in about half the time of one that makes the
        file longer (bench/log). And it goes through on a full disk. Raises LogUnwritable.
        """
        if self._path is None:
            return
        with self._lock, _translated():
            if os.stat(_wal(self._path)).st_size < wal_bytes:
                with self._transaction():
                    self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('room', zeroblob(?))", (wal_bytes,))
            with self._transaction():  # another one: what comes and goes in one is never written
                self._connection.execute("DELETE FROM meta WHERE name = 'room'")
        self.checkpoint()

    def checkpoint(self) -> None:
        """Copy the WAL into the tables as far as readers allow, so that it can begin anew. Raises LogUnwritable."""
        with self._lock, _translated():
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def trim(self, *, upto: int, older_than: float, bytes_max: int) -> tuple[int, bool]:
        """Delete some of the oldest entries: of those up to the apply index `upto`, the ones of before `older_than`,
        and as many as it takes to come below `bytes_max`. The newest entry stays.

        Returns the highest index gone (0: nothing went), and whether to call again. Raises LogUnwritable.
        """
        with self._lock, _translated():
            used = self._used_bytes()
            rows = self._connection.execute(
                "SELECT idx, at, length(record) FROM entries JOIN records USING (idx)"
                " WHERE idx <= min(?, (SELECT max(idx) FROM entries) - 1) ORDER BY idx LIMIT ?",
                (upto, TRIM_ROWS_MAX),
            ).fetchall()
            cut = trimmed = 0
            for index, at, size in rows:
                if trimmed >= TRIM_BYTES_MAX or not (at < older_than or used - trimmed > bytes_max):
                    break
                cut = index
                trimmed += size
            if cut:
                with self._transaction():
                    self._connection.execute("DELETE FROM entries WHERE idx <= ?", (cut,))
                    self._connection.execute("DELETE FROM records WHERE idx <= ?", (cut,))
                    self._connection.execute(_NOTE, ("cut", str(cut)))
        return cut, bool(cut) and (trimmed >= TRIM_BYTES_MAX or (cut == rows[-1][0] and len(rows) == TRIM_ROWS_MAX))

    # --- reading ---

    def used_bytes(self) -> int:
        """Bytes that the tables take up; the file may be larger, by room that will be used again."""
        with self._lock, _translated(reading=True):
            return self._used_bytes()

    def _used_bytes(self) -> int:
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def note(self, name: str) -> str | None:
        """A row of `meta`. Raises LogDamaged."""
        with self._lock, _translated(reading=True):
            row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def kept(self, name: str) -> bytes:
        """The same of one that is bytes; none if it is not there. Raises LogDamaged."""
        found: str | bytes | None = self.note(name)
        return found if isinstance(found, bytes) else b""

    def page(self, query: Query) -> tuple[list[Entry], int]:
        """The entries asked for, by apply index, and `cut` as of the same moment. Raises LogDamaged."""
        with self._lock, _translated(reading=True):
            self._connection.execute("BEGIN")
            try:
                entries = list(self._select(*_sql(query)))
                (cut,) = self._connection.execute("SELECT value FROM meta WHERE name = 'cut'").fetchone() or (0,)
            finally:
                self._connection.execute("ROLLBACK")
        return entries, int(cut)

    def entries(self, query: Query) -> Iterator[Entry]:
        """The same, read as they are taken: for a connection that nobody else uses. Raises LogDamaged."""
        if self._path is None:  # the one connection is the writer's too
            yield from self.page(query)[0]
            return
        with _translated(reading=True):
            yield from self._select(*_sql(query))

    def at_position(self, position: Position) -> Entry | None:
        """The entry of one position. Raises LogDamaged."""
        sql = f"{_ENTRY} WHERE edge = ? AND epoch = ? AND seq = ? ORDER BY idx LIMIT 1"
        return self._one(sql, position.edge, position.epoch, position.seq)

    def with_key(self, key: str, actor: str | None) -> Entry | None:
        """The newest entry with this idempotency key, of this actor unless that is None. Raises LogDamaged."""
        sql = f"{_ENTRY} WHERE key = ? AND key <> '' AND actor = coalesce(?, actor) ORDER BY idx DESC LIMIT 1"
        return self._one(sql, key, actor)

    def newest(self) -> Entry | None:
        """The entry with the highest apply index. Raises LogDamaged."""
        return self._one(f"{_ENTRY} ORDER BY idx DESC LIMIT 1")

    def last_issued(self, edge: str) -> Position | None:
        """The newest position of an edge that it has told others of. Raises LogDamaged."""
        with self._lock, _translated(reading=True):
            rows = self._connection.execute(_ISSUED, (edge,))
            return next((found for row in rows if not (found := Position(*row)).here_only), None)

    def runs(self) -> list[tuple[Stream, int, int]]:
        """What there is of each stream: its runs of numbers without a gap, first and last. Raises LogDamaged."""
        with self._lock, _translated(reading=True):
            rows = self._connection.execute(_RUNS).fetchall()
        return [((edge, epoch), first, last) for edge, epoch, first, last in rows]

    def positions_above(self, floor: int) -> list[tuple[int, Position]]:
        """Apply index and position of all entries above `floor`, by apply index. Raises LogDamaged."""
        with self._lock, _translated(reading=True):
            rows = self._connection.execute(
                "SELECT idx, edge, epoch, seq FROM entries WHERE idx > ? ORDER BY idx", (floor,)
            )
            return [(index, Position(*row)) for index, *row in rows]

    def run(self, stream: Stream, first: int, last: int, bytes_max: int) -> list[bytes]:
        """The records of one stream from the number `first` on, without a gap, up to `last`: as many as are there and
        fit into `bytes_max`, one at least. Raises LogDamaged.
        """
        found: list[bytes] = []
        with self._lock, _translated(reading=True), contextlib.closing(self._connection.cursor()) as rows:
            for seq, record in rows.execute(_RUN, (*stream, first, last)):
                if seq == first + len(found) - 1:
                    continue  # two have one number: a fork, and one of them is enough to tell
                bytes_max -= len(record)
                if seq != first + len(found) or (bytes_max < 0 and found):
                    break
                found.append(record)
        return found

    def oldest(self, stream: Stream) -> int:
        """The lowest number of a stream that is there; 0: none is. Raises LogDamaged."""
        with self._lock, _translated(reading=True):
            sql = "SELECT min(seq) FROM entries WHERE edge = ? AND epoch = ?"
            (seq,) = self._connection.execute(sql, stream).fetchone()
        return seq or 0

    def _one(self, sql: str, *values: object) -> Entry | None:
        with self._lock, _translated(reading=True):
            return next(self._select(sql, values), None)

    def _select(self, sql: str, values: Sequence[object]) -> Iterator[Entry]:
        return map(_entry, self._connection.execute(sql, values))


def write_again(path: Path) -> None:
    """Write every byte of a file over itself and sync it: what can be read is then on the disk. Nothing happens if
    there is no such file. Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        offset = 0
        while data := os.pread(descriptor, 1 << 20, offset):
            offset += os.pwrite(descriptor, data, offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _runs(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """Changes that can be made in one statement, in order: entries swept at one moment that matched the same, which is
    nothing for most. Each statement costs two turns at the interpreter's lock, and requests are answered meanwhile.
    """
    run: list[Change] = []
    for change in changes:
        last = run[-1] if run else None
        if isinstance(change, Swept) and isinstance(last, Swept) and change[1:] == last[1:] and len(run) < SWEPT_MAX:
            run.append(change)
        else:
            if run:
                yield run
            run = [change]
    if run:
        yield run


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _row(addition: Addition) -> tuple[object, ...]:
    record = addition.decoded
    position = record.position
    sites = "".join(f" {site} " for site in record.sites)
    targets = ", ".join(
        f"{given.kind} {given.value}".strip()[:SUMMARY_CHARS] for given in record.targets[:SUMMARY_TARGETS]
    )
    if len(record.targets) > SUMMARY_TARGETS:
        targets += f" and {len(record.targets) - SUMMARY_TARGETS} more"
    return (
        *(
            addition.apply_index,
            position.edge,
            position.epoch,
            position.seq,
            addition.kind or record.kind,
            record.mode,
            sites,
            record.at if math.isfinite(record.at) else 0.0,
        ),
        *(record.actor, record.source, record.reason, record.key, targets),
    )


_KINDS = frozenset(kind.value for kind in RecordKind)


def _entry(row: tuple[object, ...]) -> Entry:
    index, edge, epoch, seq, kind, *rest = row
    known = RecordKind(kind) if kind in _KINDS else RecordKind.PURGE  # its record is widened by whoever reads it
    return Entry(index, Position(edge, epoch, seq), known, *rest)  # type: ignore[arg-type]


def _sql(query: Query) -> tuple[str, list[object]]:
    """The statement that asks for this, and its values."""
    terms: list[tuple[str, Sequence[object]]] = [("idx > ?", (query.after,))]
    if query.before is not None:
        terms.append(("idx < ?", (query.before,)))
    if query.since is not None:
        terms.append(("at >= ?", (query.since,)))
    if query.until is not None:
        terms.append(("at < ?", (query.until,)))
    if query.actor is not None:
        terms.append(("actor = ?", (query.actor,)))
    if query.site is not None:
        terms.append(("(sites = '' OR instr(sites, ?))", (f" {query.site} ",)))
    if query.mentions is not None:
        terms.append(("instr(record, ?)", (query.mentions.encode(),)))
    if not query.openings:
        terms.append(("kind <> ?", (RecordKind.OPEN,)))
    if query.kinds is not None:
        terms.append((f"kind IN ({', '.join('?' * len(query.kinds))})", query.kinds))
        if _RARE.issuperset(query.kinds):
            terms.append(("kind <> 'purge' AND kind <> 'invalidation'", ()))  # in the index's own words
    where = " AND ".join(term for term, _ in terms)
    order = "DESC" if query.newest_first else "ASC"
    values = [value for _, values in terms for value in values]
    return f"{_ENTRY} WHERE {where} ORDER BY idx {order} LIMIT ?", [*values, query.limit]


@contextlib.contextmanager
def _translated(*, reading: bool = False) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if reading or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise LogDamaged(f"the purge log cannot be read: {error}") from error
        raise LogUnwritable(f"the purge log cannot be written: {error}", full=code == sqlite3.SQLITE_FULL) from error
    except OSError as error:
        raise LogUnwritable(f"the purge log cannot be written: {error}", full=error.errno == errno.ENOSPC) from error
