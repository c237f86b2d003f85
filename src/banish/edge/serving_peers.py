"""What other edges ask this one: records of its log, and what a purge matched here.

Not here: whether they may (the signature, `mesh/replica.py`); how the question came (`mesh/transport.py`).
Units: bytes. Invariant: an answer is a bounded piece of work between two turns of the event loop, and bounded in all.
"""

import asyncio
from collections.abc import Awaitable, Callable

from banish.edge.receipts import PurgeState
from banish.errors import ClientError, RecordError
from banish.mesh.messages import (
    MESSAGE_VERSION,
    NO_STREAM,
    Counts,
    CountsAsked,
    Kind,
    Sign,
    Verify,
    decode,
    encode,
)
from banish.mesh.replica import Replica
from banish.store.log import PurgeLog
from banish.tables import Accounts, Metric

PART_BYTES_MAX = 256 * 1024
"""Records of one part of an answer: a millisecond's work to sign. One record, at least, always fits."""

PULL_BYTES_MAX = 4 * 1024 * 1024
"""Records of one answer. Whoever wants more asks again."""

RUN_MAX = 10_000
"""Records of one part."""

SERVED = Metric("banish_mesh_served_records_total", "counter", "Records given to other edges that had missed them.")
SERVED_BYTES = Metric("banish_mesh_served_bytes_total", "counter", "Bytes of them.")


class Answerer:
    """Answers for one edge."""

    def __init__(
        self,
        replica: Replica,
        log: PurgeLog,
        *,
        state_of: Callable[[str], Awaitable[PurgeState]],
        sign: Sign,
        verify: Verify,
        accounts: Accounts,
    ) -> None:
        self._replica = replica
        self._log = log
        self._state_of = state_of
        self._sign = sign
        self._verify = verify
        self._served = accounts.tally(SERVED)
        self._served_bytes = accounts.tally(SERVED_BYTES)

    async def pull(self, data: bytes) -> list[bytes]:
        """Records of one stream, in parts. Raises RecordError, LogDamaged."""
        stream, first, last = self._replica.pull_range(data)
        if stream == NO_STREAM:
            return [self._replica.pull_answer(stream, (), 0)]
        oldest = await self._log.oldest(stream)
        parts: list[bytes] = []
        left = PULL_BYTES_MAX
        while first <= last and left > 0:
            upto = min(last, first + RUN_MAX - 1)
            records = await self._log.run(stream, first, upto, min(left, PART_BYTES_MAX))
            if not records:
                break
            parts.append(self._replica.pull_answer(stream, tuple(records), oldest))
            size = sum(map(len, records))
            self._served.add(n=len(records))
            self._served_bytes.add(n=size)
            first += len(records)
            left -= size
            await asyncio.sleep(0)
        return parts or [self._replica.pull_answer(stream, (), oldest)]

    async def counts(self, data: bytes) -> bytes:
        """What a purge matched here so far. Raises RecordError."""
        asked = decode(data, CountsAsked, self._verify)
        if asked.edge not in self._replica.members:
            raise RecordError(f"{asked.edge} is no member: nothing is told to it")
        me = (MESSAGE_VERSION, Kind.COUNTS, self._replica.edge, self._replica.epoch, asked.id)
        try:
            state = await self._state_of(asked.id)
        except ClientError:
            return encode(Counts(*me, found=False), self._sign)
        told = Counts(*me, True, state.state, state.matched, state.bytes, state.swept_at)
        return encode(told, self._sign)

    def ask_counts(self, id: str) -> bytes:  # noqa: A002
        """The question, to be sent to another edge."""
        asked = CountsAsked(MESSAGE_VERSION, Kind.COUNTS, self._replica.edge, self._replica.epoch, id)
        return encode(asked, self._sign)

    def read_counts(self, edge: str, data: bytes | None) -> Counts | None:
        """The answer of that edge; None if it is none."""
        try:
            counts = None if data is None else decode(data, Counts, self._verify)
        except RecordError:
            return None
        return counts if counts is not None and counts.edge == edge else None
