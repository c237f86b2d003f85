"""Records as the purge service would log them, and logs to put them in."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from banish.errors import LogUnwritable
from banish.purge.given import Given
from banish.purge.positions import Position
from banish.purge.records import RECORD_VERSION, Record, RecordKind, digest, encode
from banish.purge.stamps import Mode
from banish.purge.targets import Kind
from banish.store.ledger import Change, Ledger
from banish.store.log import PurgeLog
from banish.tables import Accounts
from banish.testing.clock import FakeClock

EDGE = "00112233445566aa"
EPOCH = "1-89abcdef"
RETENTION_S = 86_400.0
RETRY_S = 0.01


def tags(*values: str) -> tuple[Given, ...]:
    """Targets."""
    return tuple(Given(Kind.TAG, value) for value in values)


class Issuer:
    """An edge that issues one record after another, each with the hash of the one before."""

    def __init__(
        self, *, edge: str = EDGE, epoch: str = EPOCH, sign: Callable[[bytes], bytes] = lambda data: bytes(64)
    ) -> None:
        self.edge = edge
        self.epoch = epoch
        self.issued: list[bytes] = []
        self._sign = sign

    def record(
        self,
        targets: Sequence[Given] = tags("news"),
        *,
        kind: RecordKind = RecordKind.PURGE,
        at: float = 0.0,
        **more: Any,
    ) -> tuple[bytes, Record]:
        """The next record: as signed, and as it is."""
        record = Record(
            version=RECORD_VERSION,
            kind=kind,
            sites=more.pop("sites", ()),
            mode=more.pop("mode", Mode.HARD),
            position=Position(self.edge, self.epoch, len(self.issued) + 1),
            previous=digest(self.issued[-1]) if self.issued else b"",
            at=at,
            targets=tuple(targets),
            **more,
        )
        self.issued.append(encode(record, self._sign))
        return self.issued[-1], record


def open_log(path: Path | None, **changes: Any) -> PurgeLog:
    """A log with small waits."""
    settings: dict[str, Any] = {
        "accounts": Accounts(),
        "clock": FakeClock(),
        "retention_s": RETENTION_S,
        "retention_bytes": 1 << 30,
        "retry_s": RETRY_S,
    }
    return PurgeLog.open(path, **{**settings, **changes})


def play(log: PurgeLog, scene: Coroutine[Any, Any, None]) -> None:
    """Run a scene with a log, then close it."""
    try:
        asyncio.run(scene)
    finally:
        log.close()


def figure(accounts: Accounts, name: str, *labels: str) -> float:
    """One figure of the books."""
    return next(samples[labels] for metric, samples in accounts.collect() if metric.name == name)


class Disk:
    """A disk that obeys the test: `Disk().ledger` is given to `PurgeLog.open`.

    Writes wait while `gate` is not set. `faults` are raised by the next ones, in order, None being no fault;
    `late` ones only after the commit has been made.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Semaphore(0)
        self.faults: list[LogUnwritable | None] = []
        self.late = False
        self.broken: LogUnwritable | None = None
        self.commits: list[list[Change]] = []

    def ledger(self, path: Path | None) -> Ledger:
        """A ledger on this disk."""
        ledger = _OnDisk.open(path)
        ledger.disk = self
        return ledger


class _OnDisk(Ledger):
    disk: Disk

    def write(self, changes: Sequence[Change]) -> None:
        self.disk.arrived.release()
        assert self.disk.gate.wait(20)
        fault = self.disk.broken or (self.disk.faults.pop(0) if self.disk.faults else None)
        if fault is not None and not self.disk.late:
            raise fault
        super().write(changes)
        self.disk.commits.append(list(changes))
        if fault is not None:
            raise fault
