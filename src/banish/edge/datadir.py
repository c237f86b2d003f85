"""The data directory: what an edge finds there when it starts, and whether that may be believed.

    data/
      identity…    who this edge is, its key, the lock that keeps a second process out   store/identity.py
      purges.sqlite the log of purges: the truth                                          store/log.py
      index/       stored responses: RocksDB; may be dropped at any time                 store/rocks.py
      bodies/      their large bodies, a file each                                       store/files.py
      spool/       bodies on their way; nothing here outlives the process                store/spool.py

What is stored may be believed only beside the log that knows every purge since it was stored. If either was
restored from an older copy, or replaced, or the log no longer goes back as far as the store's floor, the store
is emptied before anything is served from it. The apply index goes on beyond whatever either has reserved, so
that no number is used twice (PURGE rules 2, 3, 18 and 19).

Without a data directory the log is in memory, there is no disk tier, and every start is a first one.

Not here: rebuilding the stamps from the log (`purging.py`).
"""

import contextlib
import shutil
from pathlib import Path

import structlog

from banish.clock import Clock
from banish.edge.config import Config
from banish.errors import IndexDamaged, StoreError
from banish.purge.stamps import PurgeTable
from banish.store.disk import DiskStore
from banish.store.files import BodyFiles
from banish.store.identity import Identity
from banish.store.log import PurgeLog
from banish.store.rocks import open_index
from banish.tables import Accounts, Metric

LOG_NAME = "purges.sqlite"
"""Of the log of purges, in the data directory."""

INDEX_BLOCK = 100_000
"""Apply indexes reserved at a time. Those of a block that are not used are skipped at the next start."""

STORE_EMPTIED = Metric(
    "banish_store_emptied_total",
    "counter",
    "Times the store was emptied at start since it could not be believed: new (nothing there yet), log (another log, "
    "or a directory that was copied), ahead (the log is older), behind (the store is older), damaged, failed (it "
    "cannot be opened, and is left alone).",
    ("why",),
)

log = structlog.get_logger(__name__)


class DataDirectory:
    """What an edge keeps. Made by `open_data`."""

    def __init__(self, identity: Identity, purges: PurgeLog, disk: DiskStore | None, files: BodyFiles | None) -> None:
        self.identity = identity
        self.log = purges
        self.disk = disk
        self._files = files

    def close(self) -> None:
        """Close everything, the lock last. Blocks."""
        for part in (self.log, self.disk, self._files, self.identity):
            if part is not None:
                part.close()


def open_data(config: Config, *, table: PurgeTable, clock: Clock, accounts: Accounts) -> DataDirectory:
    """Open what the configured directory holds, and let `table` begin where it ended.

    Blocks, at start. Raises ConfigError if another process holds the directory, LogUnwritable if the log cannot be
    opened: without it no purge can be kept. A store that is damaged is dropped.
    """
    directory = Path(config.data) if config.data is not None else None
    with contextlib.ExitStack() as opened:
        identity = Identity.open(directory)
        opened.callback(identity.close)
        purges = PurgeLog.open(
            directory / LOG_NAME if directory is not None else None,
            accounts=accounts,
            clock=clock,
            retention_s=config.purge.retention_s,
            retention_bytes=config.purge.retention_bytes,
        )
        opened.callback(purges.close)
        identity.seal(purges)
        disk = files = None
        if directory is not None and config.disk.budget_bytes:
            files = BodyFiles(directory / "bodies", accounts=accounts)
            opened.callback(files.close)
            disk = _open_disk(directory / "index", files, config, table=table, clock=clock, accounts=accounts)
        try:
            _begin(purges, disk, table, accounts)
        except StoreError as error:
            log.error("stored responses are kept in memory alone: the disk fails", error=str(error))
            accounts.tally(STORE_EMPTIED).add("failed")
            assert disk is not None, "only a disk gives way here"
            disk.close()
            disk = None
            _begin(purges, disk, table, accounts)
        opened.pop_all()
    return DataDirectory(identity, purges, disk, files)


def _open_disk(
    path: Path, files: BodyFiles, config: Config, *, table: PurgeTable, clock: Clock, accounts: Accounts
) -> DiskStore | None:
    """The disk tier. A damaged index begins anew; None if the disk fails, and the edge does without until a restart."""

    def opened() -> DiskStore:
        return DiskStore(
            open_index(path),
            files,
            table=table,
            clock=clock,
            budget_bytes=config.disk.budget_bytes,
            accounts=accounts,
            reopen=lambda: open_index(path),
        )

    try:
        try:
            return opened()
        except IndexDamaged as error:
            log.error("the store's index is damaged: it begins anew", path=str(path), error=str(error))
            accounts.tally(STORE_EMPTIED).add("damaged")
            shutil.rmtree(path)
            return opened()
    except (StoreError, OSError) as error:
        log.error("stored responses are kept in memory alone: the disk fails", path=str(path), error=str(error))
        accounts.tally(STORE_EMPTIED).add("failed")
        return None


def _begin(purges: PurgeLog, disk: DiskStore | None, table: PurgeTable, accounts: Accounts) -> None:
    """Let the apply index go on where both log and store have ended, over a store that may be believed."""
    emptied = accounts.tally(STORE_EMPTIED)
    start = max(purges.reserved, disk.reserved if disk is not None else 0)
    why = _distrust(purges, disk) if disk is not None else None
    purges.reserve(start + INDEX_BLOCK)
    if disk is None or why is not None:
        table.begin(start, start)
    else:
        table.begin(start, disk.floor)
    if disk is not None:
        if why is not None:
            if why != "new":
                log.warning("the store is emptied: it cannot be believed", why=why)
            emptied.add(why)
            disk.empty()
            disk.persist_floor(start)
        disk.reserve(start + INDEX_BLOCK)
        disk.bind(purges.id)


def _distrust(purges: PurgeLog, disk: DiskStore) -> str | None:
    """Why what is stored cannot be believed beside this log; None if it can."""
    if disk.log_id != purges.id:
        return "log" if disk.reserved else "new"
    if disk.reserved > purges.reserved:
        return "ahead"  # the log is an older copy
    if disk.floor < purges.cut:
        return "behind"  # the store is an older copy, and the log no longer tells all that came since
    return None
