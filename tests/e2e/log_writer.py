"""A process that logs purges as fast as it can and says which are durable, until it is killed.

    python -m tests.e2e.log_writer DIRECTORY SEED

It prints `start RESTORED LOG_ID RESERVED` when it begins, `durable INDEX` for each record, `writable 0` or `1`.
A line is out before the next step. Not here: who kills it and what is checked then (test_log_crash.py).
"""

import asyncio
import os
import random
import sys
from pathlib import Path

import structlog
from tests.purgelogs import Issuer, tags

from banish.clock import SystemClock
from banish.errors import LogUnwritable
from banish.purge.records import RecordKind
from banish.store import logwriter
from banish.store.identity import Identity
from banish.store.log import PurgeLog
from banish.tables import Accounts

BLOCK = 1000
"""Apply indexes reserved at a time."""


def say(*words: object) -> None:
    """Out at once, in one write."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def append(log: PurgeLog, index: int, issuer: Issuer, draw: random.Random) -> None:
    """One record, and word of it once it is durable."""
    targets = tags(*(f"tag-{draw.random()}" for _ in range(draw.choice((1, 5, 100)))))
    try:
        await log.append(index, *issuer.record(targets, key=f"key-{index}"))
        say("durable", index)
    except LogUnwritable:
        await asyncio.sleep(0.001)


async def work(log: PurgeLog, issuer: Issuer, draw: random.Random) -> None:
    """Records in bursts, with everything else that is written among them."""
    log.on_change = lambda writable: say("writable", int(writable))
    index = log.reserved
    while True:
        if index + 30 > log.reserved:
            try:
                await log.reserve_more(index + BLOCK)
            except LogUnwritable:
                await asyncio.sleep(0.001)
                continue
        burst = []
        for _ in range(draw.randrange(1, 20)):
            index += 1
            burst.append(append(log, index, issuer, draw))
        await asyncio.gather(*burst)
        if draw.random() < 0.3:
            log.mark_swept(index, 1.0, b'{"matched":1}')
        if draw.random() < 0.05:
            log.trim(floor=index - 500)
        if draw.random() < 0.1:
            index += 1
            log.enqueue(index, *issuer.record(kind=RecordKind.INVALIDATION))


def main() -> None:
    """Until killed."""
    logwriter.IDLE_S = 0.0  # so that what is done when there is nothing to do is done too
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    directory, seed = Path(sys.argv[1]), int(sys.argv[2])
    identity = Identity.open(directory)
    log = PurgeLog.open(
        directory / "purges.sqlite",
        accounts=Accounts(),
        clock=SystemClock(),
        retention_s=86_400.0,
        retention_bytes=1 << 20,
        retry_s=0.01,
    )
    restored = identity.seal(log)
    say("start", int(restored), log.id, log.reserved)
    log.reserve(log.reserved + BLOCK)
    issuer = Issuer(edge=identity.edge, epoch=identity.epoch, sign=identity.sign)
    asyncio.run(work(log, issuer, random.Random(seed)))


if __name__ == "__main__":
    main()
