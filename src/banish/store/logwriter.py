"""The thread that writes the purge log: many changes, one transaction, one sync; and what follows a failure.

    WRITABLE ──── a commit fails ────▶ UNWRITABLE ──── all that waits is written ────▶ WRITABLE

WRITABLE     what waits goes into the next transaction; when that is on disk its waiters are told
UNWRITABLE   waiters are told at once that it failed, those that come later too. Their changes stay, in order, and
             the log is opened anew, read back and given all of them every `retry_s` until that works

A full disk is met by giving up the ballast and trying once more, before anybody is told.

Not here: tables and SQL (`ledger.py`); futures and what `writable` means for purges (`log.py`).
Invariant: changes are written in the order in which they were submitted, each once, and none is left out.
"""

import concurrent.futures
import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import structlog

from banish.errors import LogDamaged, LogUnwritable
from banish.store.ballast import Ballast
from banish.store.ledger import Addition, Change, Ledger, Notes
from banish.store.witness import Witness
from banish.tables import Accounts, Metric

GROUP_BYTES_MAX = 4 * 1024 * 1024
"""Records of one transaction: what a disk takes in well below a second."""

CHANGE_BYTES = 256
"""What a change that is no record counts for."""

WAL_BYTES = 4 * 1024 * 1024
"""Size of the WAL at which it is copied into the tables and begun anew. A restart reads so much."""

COMMIT_BYTES = 16 * 1024
"""What a commit adds to the WAL beside one and a half times its records: a page of each table and index. Measured."""

DAMAGED_RETRIES = 30
"""A log that was read back and found damaged is tried again so many times more rarely: reading all of it takes long."""

IDLE_S = 1.0
"""Nothing to write for so long: time to take disk space for later. Not at once, where it would delay the start."""

CLOSE_S = 10.0
"""How long a close waits for a disk that hangs."""

LOG_BYTES = Metric("banish_log_bytes", "gauge", "Size of the purge log, without room in its file that is used again.")
LOG_RECORDS = Metric("banish_log_records_total", "counter", "Records made durable in the purge log.")
LOG_COMMITS = Metric("banish_log_commits_total", "counter", "Commits of the purge log: each is one sync.")
LOG_COMMIT_SECONDS = Metric("banish_log_commit_seconds_total", "counter", "Time spent in commits of the purge log.")
LOG_FAILED = Metric(
    "banish_log_failures_total", "counter", "Failures of the purge log, by what could not be done.", ("what",)
)
LOG_TRIMS = Metric("banish_log_trims_total", "counter", "Times that entries past their retention left the purge log.")

log = structlog.get_logger(__name__)


class Trim(NamedTuple):
    """Entries up to the apply index `upto` may go: those of before `older_than`, and as many as are too much."""

    upto: int
    older_than: float
    bytes_max: int


class Waiter(Protocol):
    """Who waits: a future, of the loop or of a thread."""

    def done(self) -> bool: ...
    def set_result(self, result: None, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...
    def exception(self) -> BaseException | None: ...


class Waiting(NamedTuple):
    """A change on its way, and who waits for it."""

    change: Change | Trim
    waiter: Waiter | None = None

    @property
    def weight(self) -> int:
        """Bytes, about."""
        return len(self.change.record) if isinstance(self.change, Addition) else CHANGE_BYTES


class Told(NamedTuple):
    """What the thread has to say."""

    written: tuple[Waiting, ...] = ()
    """On disk now."""
    failed: tuple[Waiting, ...] = ()
    """Not on disk; they will be written as soon as that is possible."""
    error: LogUnwritable | None = None
    writable: bool = True
    cut: int = 0


class LogWriter:
    """The writer of one ledger. `tell` is called on its thread."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        tell: Callable[[Told], None],
        witness: Witness,
        ballast: Ballast,
        retry_s: float,
        accounts: Accounts,
    ) -> None:
        self.hole = False
        """Set by whoever keeps a record from the log: with its next commit the log takes a new id."""
        self._ledger = ledger
        self._tell = tell
        self._witness = witness
        self._ballast = ballast
        self._retry_s = retry_s
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._stopping = False
        self._trim: Trim | None = None  # under way
        self._wal_bytes = 0
        self._bytes = ledger.used_bytes()
        self._records = accounts.tally(LOG_RECORDS)
        self._commits = accounts.tally(LOG_COMMITS)
        self._seconds = accounts.tally(LOG_COMMIT_SECONDS)
        self._failed = accounts.tally(LOG_FAILED)
        self._trims = accounts.tally(LOG_TRIMS)
        accounts.read(LOG_BYTES, lambda: [((), self._bytes)])
        self._thread = threading.Thread(target=self._work, name="purge-log", daemon=True)
        self._thread.start()

    def submit(self, waiting: Waiting) -> None:
        """Hand over a change. From any thread; never waits."""
        self._queue.put(waiting)

    def close(self) -> bool:
        """Write what waits and stop. Blocks, at most `CLOSE_S`; whether the thread has ended."""
        self._queue.put(None)
        self._thread.join(CLOSE_S)
        return not self._thread.is_alive()

    # --- on the thread ---

    def _work(self) -> None:
        roomy = False
        while not self._stopping:
            group = self._gather(None if roomy else IDLE_S)
            if not group and not roomy and self._trim is None:
                roomy = True
                self._take_room()
            try:
                self._write(group, writable=True)
            except (LogUnwritable, LogDamaged) as error:
                self._hold(group, error)
            self._tidy()

    def _take_room(self) -> None:
        """Disk space for what is to come. Without it all works as well, until the disk is full."""
        self._ballast.take()
        try:
            self._ledger.make_room(WAL_BYTES)
        except (LogUnwritable, LogDamaged) as error:
            self._failed.add("upkeep")
            log.warning("no room can be taken for the purge log", error=str(error))

    def _gather(self, timeout_s: float | None) -> list[Waiting]:
        """What waits, as much of it as one transaction takes. If nothing does, waits itself, unless there is a trim
        to go on with."""
        group: list[Waiting] = []
        weight = 0
        with contextlib.suppress(queue.Empty):
            waiting = self._queue.get(self._trim is None, timeout_s)
            while waiting is not None:
                group.append(waiting)
                weight += waiting.weight
                if weight >= GROUP_BYTES_MAX:
                    return group
                waiting = self._queue.get_nowait()
            self._stopping = True
        return group

    def _write(self, group: list[Waiting], *, writable: bool) -> None:
        """One transaction. Raises LogUnwritable or LogDamaged."""
        changes: list[Change] = []
        for waiting in group:
            if isinstance(waiting.change, Trim):
                self._trim = waiting.change
            else:
                changes.append(waiting.change)
        hole = self.hole
        if hole:
            changes.append(Notes({"id": fresh_id()}))
        if changes:
            self._commit(changes)
            self.hole = self.hole and not hole
        if group:
            self._tell(Told(written=tuple(group), writable=writable))

    def _commit(self, changes: list[Change]) -> None:
        began = time.perf_counter()
        try:
            self._ledger.write(changes)
        except LogUnwritable as error:
            if not (error.full and self._ballast.give_up()):
                raise
            log.warning("the disk is full: the purge log has given up the space it held", error=str(error))
            self._ledger.write(changes)
        except LogDamaged:
            raise
        except Exception as error:  # a fault of ours: without this thread appends would wait for ever
            log.exception("a fault in writing the purge log")
            raise LogUnwritable(f"a fault in writing the purge log: {error!r}") from error
        self._seconds.add(n=time.perf_counter() - began)
        self._commits.add()
        added = [change for change in changes if isinstance(change, Addition)]
        self._records.add(n=len(added))
        self._wal_bytes += COMMIT_BYTES + sum(len(change.record) for change in added) * 3 // 2
        if added:
            self._witness.see(added[-1].apply_index)

    def _tidy(self) -> None:
        """What can be done once the waiters are told: a piece of a trim, a checkpoint."""
        try:
            if self._trim is not None:
                self._trim_some(self._trim)
            if self._wal_bytes >= WAL_BYTES:
                self._wal_bytes = 0
                self._ledger.checkpoint()
                self._bytes = self._ledger.used_bytes()
        except (LogUnwritable, LogDamaged) as error:  # a trim is asked for again, and the next commit meets the rest
            self._trim = None
            self._failed.add("upkeep")
            log.warning("old entries of the purge log cannot be deleted or moved", error=str(error))

    def _trim_some(self, trim: Trim) -> None:
        self._ballast.take()
        cut, more = self._ledger.trim(upto=trim.upto, older_than=trim.older_than, bytes_max=trim.bytes_max)
        if not more:
            self._trim = None
            self._bytes = self._ledger.used_bytes()
        if cut:
            self._trims.add()
            self._wal_bytes += COMMIT_BYTES
            self._tell(Told(cut=cut))

    # --- while the log cannot be written ---

    def _hold(self, unwritten: list[Waiting], error: LogUnwritable | LogDamaged) -> None:
        """Keep `unwritten` and all that comes, until it is written or the edge stops."""
        log.error("the purge log cannot be written: purges are refused and nothing is cached", error=str(error))
        self._fail(unwritten, error)
        while unwritten:
            last_try = self._stopping
            self._trim = None  # for a quieter time: it would not let us wait
            self._wait(unwritten, error)
            try:
                self._ledger.mend()
                self._write_held(unwritten)
            except (LogUnwritable, LogDamaged) as again:
                error = again
                self._fail([], error)
                if last_try:
                    log.error("records were never written to the purge log", count=len(unwritten), error=str(error))
                    return
        log.info("the purge log can be written again")

    def _fail(self, failed: list[Waiting], error: LogUnwritable | LogDamaged) -> None:
        self._failed.add("commit")
        self._tell(Told(failed=tuple(failed), error=_unwritable(error), writable=False))

    def _wait(self, unwritten: list[Waiting], error: LogUnwritable | LogDamaged) -> None:
        """Let some time pass. Who comes meanwhile is told at once."""
        pause_s = self._retry_s * (DAMAGED_RETRIES if isinstance(error, LogDamaged) else 1)
        until = time.monotonic() + pause_s
        while not self._stopping and (left_s := until - time.monotonic()) > 0:
            if came := self._gather(left_s):
                unwritten += came
                self._tell(Told(failed=tuple(came), error=_unwritable(error), writable=False))

    def _write_held(self, unwritten: list[Waiting]) -> None:
        """Write all of `unwritten`, a group at a time; what is written leaves the list."""
        while unwritten:
            count, weight = 0, 0
            while count < len(unwritten) and weight < GROUP_BYTES_MAX:
                weight += unwritten[count].weight
                count += 1
            self._write(unwritten[:count], writable=count == len(unwritten))
            del unwritten[:count]


def fresh_id() -> str:
    """An id for a log: 16 random hexadecimal digits."""
    return secrets.token_hex(8)


def tell_waiter(waiter: Waiter | None, error: LogUnwritable | None) -> None:
    """Give a waiter its result, unless it has gone away."""
    if waiter is None or waiter.done():
        return
    with contextlib.suppress(concurrent.futures.InvalidStateError):
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
            waiter.exception()  # looked at: it is logged and counted here, whoever waits or has gone


def _unwritable(error: LogUnwritable | LogDamaged) -> LogUnwritable:
    return error if isinstance(error, LogUnwritable) else LogUnwritable(str(error))
