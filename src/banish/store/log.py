"""The purge log: every purge, invalidation, undo and schedule, on disk before it is acknowledged.

    event loop                                     writer thread (`logwriter.py`)
    append ──▶ queue ─────────────────────────────▶ all that waits: one transaction, one sync (`ledger.py`)
      future ◀── one call_soon_threadsafe ◀──────── committed

Order is kept: a record is durable only if all that were appended before it are. While the log cannot be written
appends fail at once and `writable` is False; their records are written all the same as soon as that is
possible, for their stamps are in effect and the next record of the epoch names each by its hash.

If more than `WAITING_BYTES_MAX` wait, what comes last is kept from the log (its stamps last as long as the process)
and counted, and the log takes a new id. So does a log that was found damaged or behind its witness. The store
knows the id of its log: with another one the edge empties the store when it starts.

Not here: tables and SQL (`ledger.py`), the thread (`logwriter.py`), what is logged and when it counts
(`edge/purging.py`), whether the whole directory is an old copy (`identity.py`).
Units: bytes; seconds, moments since 1970; apply indexes.
Invariants: `committed` and `cut` never go back; nothing above the floor given to `trim` is deleted.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import structlog

from banish.clock import Clock
from banish.errors import LogDamaged, LogUnwritable
from banish.purge.positions import Position
from banish.purge.records import Record, RecordKind
from banish.store.ballast import Ballast
from banish.store.ledger import Addition, Entry, Ledger, Notes, Query, Stream, Swept, Undone
from banish.store.logwriter import LogWriter, Told, Trim, Waiting, fresh_id, tell_waiter
from banish.store.witness import WITNESS_NAME, Witness
from banish.tables import Accounts, Metric, Tally

WAITING_BYTES_MAX = 64 * 1024 * 1024
"""Records that wait to be written, all together."""

RETRY_S = 1.0
"""Between two tries to open the log anew after a failure."""

READERS = 2
"""Threads that read, so that a look at old history does not hold up the feed."""

LOG_WRITABLE = Metric("banish_log_writable", "gauge", "1 while purges can be made durable, 0 while they are refused.")
LOG_WAITING = Metric("banish_log_waiting_bytes", "gauge", "Changes that wait to be written to the purge log.")
LOG_LOST = Metric("banish_log_lost_total", "counter", "Records kept from the purge log because too much waited.")
LOG_RENEWED = Metric(
    "banish_log_renewed_total",
    "counter",
    "Times the purge log was found unfit at start and began anew or took a new id, so that the store is emptied.",
    ("reason",),
)

log = structlog.get_logger(__name__)

T = TypeVar("T")


class PurgeLog:
    """The log of one edge. Its methods belong to the event loop, except where they say that they block."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        path: Path | None,
        witness: Witness,
        clock: Clock,
        accounts: Accounts,
        retention_s: float,
        retention_bytes: int,
        retry_s: float,
        waiting_bytes_max: int,
    ) -> None:
        """For `open`. Raises LogDamaged."""
        self.path = path
        self.frontier = ledger.kept("frontier")
        """What `keep_frontier` kept here last, before the log was opened."""
        self.last = ledger.newest()
        """The newest entry when the log was opened."""
        self.cut = int(ledger.note("cut") or 0)
        """The highest apply index of which the entry was ever deleted: history is whole above it."""
        self.reserved = int(ledger.note("reserved") or 0)
        """Apply indexes up to here may be in use."""
        self.seal = ledger.note("seal") or ""
        """What `identity.py` keeps here."""
        self.committed = max(self.cut, self.last.index if self.last is not None else 0)
        """All entries up to this apply index are on disk."""
        self.id = ledger.note("id") or ""
        """16 random hexadecimal digits. The store must belong to a log of this id."""
        self.taken = self.committed
        """The highest apply index of which the entry is on disk or on its way."""
        self.writable = True
        self.on_change: Callable[[bool], None] = lambda writable: None
        """Called on the loop with each new value of `writable`."""
        self._ledger = ledger
        self._clock = clock
        self._retention_s = retention_s
        self._retention_bytes = retention_bytes
        self._waiting_bytes_max = waiting_bytes_max
        self._waiting_bytes = 0
        self._weighing = threading.Lock()  # before there is a loop, the writer's thread counts too
        self._announced = True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._moved: asyncio.Future[None] | None = None
        self._reading = threading.local()
        self._readers = concurrent.futures.ThreadPoolExecutor(READERS, "purge-log-reader")
        self._connections: list[Ledger] = []
        self._closed = False
        self._proof: asyncio.Future[None] | None = None  # a write under way after a reading that failed
        self._lost = accounts.tally(LOG_LOST)
        accounts.read(LOG_WRITABLE, lambda: [((), int(self.writable))])
        accounts.read(LOG_WAITING, lambda: [((), self._waiting_bytes)])
        self._witness = witness
        self._writer = LogWriter(
            ledger,
            tell=self._told,
            witness=self._witness,
            ballast=Ballast(_beside(path, ".ballast")),
            retry_s=retry_s,
            accounts=accounts,
        )

    @staticmethod
    def open(
        path: Path | None,
        *,
        accounts: Accounts,
        clock: Clock,
        retention_s: float,
        retention_bytes: int,
        retry_s: float = RETRY_S,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
        ledger: Callable[[Path | None], Ledger] = Ledger.open,
    ) -> "PurgeLog":
        """The log at `path`, made if it is not there; None: in memory. Blocks. A damaged one is set aside.

        Raises LogUnwritable if it cannot be opened or written, ConfigError if a later release wrote it.
        """

        def opened() -> "PurgeLog":
            tables = ledger(path)
            try:
                witness = Witness(path.with_name(WITNESS_NAME) if path is not None else None)
                return PurgeLog(
                    tables,
                    path=path,
                    witness=witness,
                    clock=clock,
                    accounts=accounts,
                    retention_s=retention_s,
                    retention_bytes=retention_bytes,
                    retry_s=retry_s,
                    waiting_bytes_max=waiting_bytes_max,
                )
            except BaseException as error:
                tables.close()
                if isinstance(error, OSError):
                    raise LogUnwritable(f"the purge log cannot be opened: {error}") from error
                raise

        renewed = accounts.tally(LOG_RENEWED)
        try:
            found = opened()
        except LogDamaged as error:
            if path is None:
                raise
            renewed.add("damaged")
            log.error("the purge log is damaged: it is set aside, and the store is emptied", error=str(error))
            set_aside(path)
            found = opened()
        try:
            found._begin(renewed)
        except BaseException:
            found.close()
            raise
        return found

    def _begin(self, renewed: Tally) -> None:
        """Give a new log its id, and another to one that is behind its witness. Raises LogUnwritable."""
        if not self.id:
            self._note({"id": fresh_id(), "cut": "0"})
        elif self._witness.seen() > self.committed:
            renewed.add("behind")
            log.error("the purge log is an older copy than the one last written here: the store is emptied")
            self.record_seal(self.seal, renew=True)
        self._witness.see(self.committed)

    def close(self) -> None:
        """Write what waits and let go of the file; whoever asks from then on gets LogUnwritable. Blocks."""
        self._closed = True
        ended = self._writer.close()
        self._readers.shutdown()
        for connection in self._connections:
            connection.close()
        if ended:
            self._ledger.close()
            self._witness.close()

    # --- writing ---

    def append(self, index: int, record: bytes, decoded: Record) -> asyncio.Future[None]:
        """Log a record under its apply index, the highest so far. The future ends when it is durable, or with
        LogUnwritable.
        """
        loop = self._attach()
        future = loop.create_future()
        if self._closed:
            tell_waiter(future, LogUnwritable("the purge log is closed"))
        elif not self._submit(Waiting(Addition(index, record, decoded), future if self.writable else None)):
            tell_waiter(future, LogUnwritable("too many purges wait to be written to the log"))
        elif not self.writable:
            tell_waiter(future, LogUnwritable("the purge log cannot be written"))
        return future

    def enqueue(self, index: int, record: bytes, decoded: Record, *, kind: str = "") -> None:
        """The same for a record that nobody waits for. `kind`: what it says of its kind, if that is not known here."""
        self._attach()
        self._submit(Waiting(Addition(index, record, decoded, kind)))

    def mark_swept(self, index: int, at: float, counts: bytes) -> None:
        """Note that what an entry matched is gone, and what that was (JSON). Nobody waits for it."""
        self._submit(Waiting(Swept(index, at, counts)))

    def mark_undone(self, index: int, by: int) -> None:
        """Note that an entry was taken back by the entry `by`. Nobody waits for it."""
        self._submit(Waiting(Undone(index, by)))

    def _submit(self, waiting: Waiting) -> bool:
        """Whether it will be written."""
        if self._waiting_bytes >= self._waiting_bytes_max:
            self._lost.add()
            self._writer.hole = True
            return False
        if isinstance(waiting.change, Addition):
            self.taken = waiting.change.apply_index
        self._hand_over(waiting)
        return True

    @property
    def crowded(self) -> bool:
        """So much waits to be written that what comes from other edges had better wait too: what is issued here has
        the rest of the room.
        """
        return self._waiting_bytes >= self._waiting_bytes_max // 4

    def _hand_over(self, waiting: Waiting) -> None:
        with self._weighing:
            self._waiting_bytes += waiting.weight
        self._writer.submit(waiting)

    def reserve(self, upto: int) -> None:
        """Note that apply indexes up to `upto` may come into use. Blocks until that is durable; LogUnwritable."""
        if upto > self.reserved:
            self._note({"reserved": str(upto)})
            self.reserved = upto

    async def reserve_more(self, upto: int) -> None:
        """The same without blocking."""
        if upto > self.reserved:
            future = self._attach().create_future()
            self._hand_over(Waiting(Notes({"reserved": str(upto)}), future))
            await future
            self.reserved = max(self.reserved, upto)

    def keep_frontier(self, frontier: bytes) -> asyncio.Future[None]:
        """Keep this for the next start, behind all that was appended before. The future ends as that of `append`."""
        future = self._attach().create_future()
        self._hand_over(Waiting(Notes({"frontier": frontier}), future))
        return future

    def record_seal(self, seal: str, *, renew: bool) -> None:
        """Keep `seal` here; `renew`: under a new id, so that the store is emptied. Blocks; LogUnwritable."""
        self.id, self.seal = fresh_id() if renew else self.id, seal
        self._note({"id": self.id, "seal": seal})

    def _note(self, values: dict[str, str]) -> None:
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._hand_over(Waiting(Notes({**values}), future))
        future.result()
        self.id = values.get("id", self.id)

    def trim(self, *, floor: int) -> None:
        """Let entries past the retention go, oldest first, none above `floor` (the last one that the store has
        synced) and never the newest. Bit by bit, behind what is being appended.
        """
        self._submit(Waiting(Trim(floor, self._clock.now() - self._retention_s, self._retention_bytes)))

    # --- what the writer tells ---

    def _attach(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            loop.call_soon(self._announce)
        return loop

    def _told(self, told: Told) -> None:
        """On the writer's thread."""
        for waiting in (*told.written, *told.failed):
            if isinstance(waiting.waiter, concurrent.futures.Future):
                tell_waiter(waiting.waiter, told.error)
        if self._loop is None:
            self._settle(told)
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended before the log
            self._loop.call_soon_threadsafe(self._settle_on_loop, told)

    def _settle_on_loop(self, told: Told) -> None:
        self._settle(told)
        for waiting in (*told.written, *told.failed):
            tell_waiter(waiting.waiter, told.error)
        if told.written and self._moved is not None:
            tell_waiter(self._moved, None)
        self._announce()

    def _settle(self, told: Told) -> None:
        """What is true now. On the loop; before there is one, on the writer's thread."""
        with self._weighing:
            self._waiting_bytes -= sum(waiting.weight for waiting in told.written)
        added = [waiting.change.apply_index for waiting in told.written if isinstance(waiting.change, Addition)]
        self.committed = max([self.committed, *added[-1:]])
        self.cut = max(self.cut, told.cut)
        self.writable = told.writable

    def _announce(self) -> None:
        if self._announced is not self.writable:
            self._announced = self.writable
            self.on_change(self.writable)

    # --- reading ---

    async def read(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        since: float | None = None,
        until: float | None = None,
        actor: str | None = None,
        site: str | None = None,
        kinds: Sequence[RecordKind] | None = None,
        openings: bool = True,
        mentions: str | None = None,
        newest_first: bool = False,
    ) -> list[Entry]:
        """At most `limit` durable entries with apply indexes in (after, before), by apply index.

        `since` and `until` bound their moments; `site`: about that site, or about all; `mentions`: a text that occurs
        in the record, a coarse sieve for targets. When this returns, `cut` is what it was at the moment of the
        reading: who follows the log compares it with `after`. Raises LogDamaged.
        """
        wanted = tuple(kinds) if kinds is not None else None
        query = Query(after, before, since, until, actor, site, wanted, openings, mentions, limit, newest_first)
        entries, cut = await self._on_reader(lambda tables: tables.page(query))
        self.cut = max(self.cut, cut)
        return entries

    async def find(self, position: Position) -> Entry | None:
        """The entry of a position. Raises LogDamaged."""
        return await self._on_reader(lambda tables: tables.at_position(position))

    def find_now(self, position: Position) -> Entry | None:
        """The same, for the start. Blocks."""
        return self._ledger.at_position(position)

    async def find_key(self, key: str, actor: str | None = None) -> Entry | None:
        """The newest entry with this idempotency key, of this actor unless that is None. Raises LogDamaged."""
        return await self._on_reader(lambda tables: tables.with_key(key, actor))

    def above(self, floor: int, kinds: Sequence[RecordKind] | None = None) -> Iterator[Entry]:
        """All entries above `floor`, by apply index, for the start. Blocks. Raises LogDamaged: then the log is to be
        closed, set aside (`set_aside`) and opened anew.
        """
        tables = self._ledger.reader()
        try:
            yield from tables.entries(Query(after=floor, kinds=tuple(kinds) if kinds is not None else None))
        finally:
            if tables is not self._ledger:
                tables.close()

    def last_issued(self, edge: str) -> Position | None:
        """The last that this edge has told others of. Blocks, at start. Raises LogDamaged."""
        return self._ledger.last_issued(edge)

    def runs(self) -> list[tuple[Stream, int, int]]:
        """What there is of each stream, as runs without a gap. Blocks, at start. Raises LogDamaged."""
        return self._ledger.runs()

    def positions_above(self, floor: int) -> list[tuple[int, Position]]:
        """Apply index and position of each entry above `floor`, in order. Blocks, at start. Raises LogDamaged."""
        return self._ledger.positions_above(floor)

    async def run(self, stream: Stream, first: int, last: int, bytes_max: int) -> list[bytes]:
        """Durable records of one stream, from the number `first` on, in order and without a gap: up to `last`, as many
        as fit into `bytes_max`, one at least. Raises LogDamaged.
        """
        return await self._on_reader(lambda tables: tables.run(stream, first, last, bytes_max))

    async def oldest(self, stream: Stream) -> int:
        """The lowest number of a stream that the log still has; 0: it has none. Raises LogDamaged."""
        return await self._on_reader(lambda tables: tables.oldest(stream))

    async def committed_past(self, index: int) -> None:
        """Wait until an entry above `index` is durable."""
        while self.committed <= index:
            if self._moved is None or self._moved.done():
                self._moved = self._attach().create_future()
            await asyncio.shield(self._moved)

    async def _on_reader(self, work: Callable[[Ledger], T]) -> T:
        try:
            reading = asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)
        except RuntimeError as error:
            raise LogUnwritable("the purge log is closed") from error
        try:
            return await reading
        except LogDamaged:
            self._prove()
            raise

    def _prove(self) -> None:
        """What cannot be read may not be writable either: have something written, to find out before a purge does."""
        if self.writable and self._proof is None:
            self._proof = self._attach().create_future()
            self._proof.add_done_callback(self._proven)
            self._hand_over(Waiting(Notes({"unread_at": str(self._clock.now())}), self._proof))

    def _proven(self, proof: asyncio.Future[None]) -> None:
        self._proof = None
        proof.exception()  # `writable` tells

    def _read(self, work: Callable[[Ledger], T]) -> T:
        """On a reader's thread, with its own connection."""
        tables: Ledger | None = getattr(self._reading, "tables", None)
        if tables is None:
            tables = self._reading.tables = self._ledger.reader()
            if tables is not self._ledger:
                self._connections.append(tables)
        return work(tables)


def set_aside(path: Path) -> Path:
    """Give a damaged log another name, so that a new one can be begun; the new name. Raises LogUnwritable."""
    number = 1
    while (name := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    try:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(name.with_name(name.name + suffix))
    except OSError as error:
        raise LogUnwritable(f"the purge log is damaged and cannot be set aside: {error}") from error
    return name


def _beside(path: Path | None, suffix: str) -> Path | None:
    return None if path is None else path.with_name(path.name + suffix)


__all__ = ["Entry", "PurgeLog", "set_aside"]
