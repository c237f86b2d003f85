"""What is measured: records brought into the purge log in several ways, and the same bytes written without it.

Each case runs in a fresh log for so many seconds and gives latencies, from when a record was due to when it was
durable, and CPU time by thread. Not here: where logs lie (disks.py); rounds, results (run.py).
"""

import asyncio
import itertools
import math
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from banish.clock import SystemClock
from banish.purge.given import Given
from banish.purge.positions import Position
from banish.purge.records import RECORD_VERSION, Record, RecordKind, digest, encode
from banish.purge.stamps import Mode
from banish.purge.targets import Kind
from banish.store.identity import Identity
from banish.store.ledger import Ledger
from banish.store.log import PurgeLog
from banish.store.logwriter import WAL_BYTES
from banish.tables import Accounts

BATCH: Final = 100
"""Targets of a batch."""

BATCHES_PER_S: Final = 100
"""Of the steady case: 10 000 targets a second."""

IN_FLIGHT: Final = 64
"""Records that wait at a time, in the case that goes as fast as it can."""

FIRST: Final = 150
"""Batches that fit in a WAL before it begins anew."""

READY: Final = 512
"""Records made before the clock starts, logged again and again under new apply indexes."""


class Case(NamedTuple):
    """One way to bring records in."""

    name: str
    what: str
    targets: int
    in_flight: int = 1
    room: bool = True
    """Whether the log has taken disk space for its WAL, as it does after a second of quiet."""
    records_max: float = math.inf


CASES: Final = (
    Case("bare", "no log: the bytes of a batch written in place and synced, one after the other", BATCH),
    Case("one", "purges of one target, one after the other", 1),
    Case("batch", f"batches of {BATCH} targets, one after the other", BATCH),
    Case("first", f"the same, the first {FIRST} of a log", BATCH, records_max=FIRST),
    Case("roomless", "the same before the log has taken its room", BATCH, room=False, records_max=FIRST),
    Case("steady", f"{BATCHES_PER_S} batches of {BATCH} targets a second, at even distances", BATCH),
    Case("full", f"batches of {BATCH} targets, {IN_FLIGHT} waiting at a time", BATCH, in_flight=IN_FLIGHT),
)


class Sample(NamedTuple):
    """One run of a case."""

    seconds: float
    latencies_s: list[float]
    commits: float = 0
    append_cpu_s: float = 0
    """Of the calls of `append` alone."""
    loop_cpu_s: float = 0
    """Of the whole thread of the event loop: it makes nothing but these calls and waits for them."""
    writer_cpu_s: float = 0


class Prepared(NamedTuple):
    """Records to log, and what it took to make one."""

    records: list[tuple[bytes, Record]]
    encode_cpu_s: float


def prepare(identity: Identity, targets: int) -> Prepared:
    """Signed records of so many targets each."""
    made: list[tuple[bytes, Record]] = []
    previous = b""
    began = time.thread_time()
    for number in range(READY):
        given = tuple(Given(Kind.TAG, f"article-{number}-{target}") for target in range(targets))
        position = Position(identity.edge, identity.epoch, number + 1)
        record = Record(
            RECORD_VERSION, RecordKind.PURGE, ("shop",), Mode.HARD, position, previous, 1.0, given, "deploy"
        )
        data = encode(record, identity.sign)
        previous = digest(data)
        made.append((data, record))
    return Prepared(made, (time.thread_time() - began) / READY)


async def measure(case: Case, directory: Path, prepared: Prepared, seconds: float) -> Sample:
    """Run one case in `directory`, which is empty."""
    if case.name == "bare":
        return _bare(directory, len(prepared.records[0][0]), seconds)
    async with _Run.begun(directory, prepared, case) as run:
        began, loop_began, writer_began = time.perf_counter(), time.thread_time(), run.writer_cpu_s()
        if case.name == "steady":
            await run.steady(seconds)
        else:
            await run.closed(case, seconds)
        return Sample(
            seconds=time.perf_counter() - began,
            latencies_s=run.latencies_s,
            commits=run.commits(),
            append_cpu_s=run.append_cpu_s,
            loop_cpu_s=time.thread_time() - loop_began,
            writer_cpu_s=run.writer_cpu_s() - writer_began,
        )


class _Run:
    """A log, and who appends to it."""

    def __init__(self, log: PurgeLog, accounts: Accounts, prepared: Prepared) -> None:
        self.latencies_s: list[float] = []
        self.append_cpu_s = 0.0
        self._log = log
        self._accounts = accounts
        self._records: Iterator[tuple[bytes, Record]] = itertools.cycle(prepared.records)
        self._index = 0

    @classmethod
    @asynccontextmanager
    async def begun(cls, directory: Path, prepared: Prepared, case: Case) -> AsyncIterator["_Run"]:
        accounts = Accounts()
        log = PurgeLog.open(
            directory / "purges.sqlite",
            accounts=accounts,
            clock=SystemClock(),
            retention_s=1e9,
            retention_bytes=1 << 40,
            ledger=_roomy if case.room else Ledger.open,
        )
        try:
            run = cls(log, accounts, prepared)
            await run._append(time.perf_counter())
            run.latencies_s.clear()
            run.append_cpu_s = 0.0
            yield run
        finally:
            log.close()

    def commits(self) -> float:
        return sum(
            sum(figures.values())
            for metric, figures in self._accounts.collect()
            if metric.name == "banish_log_commits_total"
        )

    def writer_cpu_s(self) -> float:
        ident = self._log._writer._thread.ident
        assert ident is not None
        return time.clock_gettime(time.pthread_getcpuclockid(ident))

    async def _append(self, due: float) -> None:
        data, record = next(self._records)
        self._index += 1
        began = time.thread_time()
        durable = self._log.append(self._index, data, record)
        self.append_cpu_s += time.thread_time() - began
        await durable
        self.latencies_s.append(time.perf_counter() - due)

    async def closed(self, case: Case, seconds: float) -> None:
        """So many at a time, each followed by the next."""
        until = time.perf_counter() + seconds

        async def one_after_the_other() -> None:
            while (now := time.perf_counter()) < until and self._index <= case.records_max:
                await self._append(now)

        await asyncio.gather(*(one_after_the_other() for _ in range(case.in_flight)))

    async def steady(self, seconds: float) -> None:
        """When it is due, however long the others take."""
        began = time.perf_counter()
        waiting = set()
        for number in range(int(seconds * BATCHES_PER_S)):
            due = began + number / BATCHES_PER_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self._append(due))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        await asyncio.gather(*waiting)


def _roomy(path: Path | None) -> Ledger:
    ledger = Ledger.open(path)
    ledger.make_room(WAL_BYTES)
    return ledger


def _bare(directory: Path, size: int, seconds: float) -> Sample:
    """What the disk takes: the same bytes over the same place, and a sync."""
    data = os.urandom(size)
    descriptor = os.open(directory / "bare", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    latencies: list[float] = []
    try:
        os.pwrite(descriptor, data, 0)
        os.fsync(descriptor)
        began = now = time.perf_counter()
        while now < began + seconds:
            os.pwrite(descriptor, data, 0)
            os.fdatasync(descriptor)
            before, now = now, time.perf_counter()
            latencies.append(now - before)
        return Sample(now - began, latencies)
    finally:
        os.close(descriptor)
