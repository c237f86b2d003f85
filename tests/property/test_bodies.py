"""Bodies: whatever the interleaving, each reader gets exactly the bytes of its range, then the end or the error."""

import asyncio
import gc
import random
import tempfile
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from banish.errors import LimitExceeded, Truncated
from banish.store import fill
from banish.store.bodies import Body, BodyLimits
from banish.store.spool import SpoolBudget

LIMITS = BodyLimits(memory_bytes_max=64, pending_bytes_max=48, window_bytes=32, lag_bytes_max=40)

pauses = st.integers(0, 3)
writes = st.lists(st.tuples(st.integers(0, 70), pauses), max_size=20)


class ReaderPlan:
    """When a reader comes, what it wants, how it reads, when it leaves early."""

    def __init__(self, joins_after: int, span: tuple[int, int | None], n_max: int, pause: int, leaves: bool) -> None:
        self.joins_after, self.span, self.n_max, self.pause, self.leaves = joins_after, span, n_max, pause, leaves
        self.got = b""
        self.joined = False
        self.ended: str | None = None

    def __repr__(self) -> str:
        return f"<{self.joins_after} {self.span} {self.n_max} {self.pause} {self.leaves}>"

    async def read(self, body: Body) -> None:
        await breathe(self.joins_after)
        if not body.accepts_readers:
            return
        self.joined = True
        with body.reader(*self.span) as reader:
            try:
                while chunk := await reader.read(self.n_max):
                    assert len(chunk) <= self.n_max
                    self.got += chunk
                    await breathe(self.pause)
                    if self.leaves:
                        return
                self.ended = "end"
            except Truncated:
                self.ended = "failed"
            except LimitExceeded:
                self.ended = "cut"


spans = st.tuples(st.integers(0, 100), st.one_of(st.none(), st.integers(0, 400)))
reader_plans = st.lists(
    st.builds(ReaderPlan, st.integers(0, 12), spans, st.integers(1, 90), pauses, st.booleans()), max_size=4
)


async def breathe(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def write_all(body: Body, chunks: list[tuple[bytes, int]], fails: bool) -> None:
    for chunk, pause in chunks:
        body.write(chunk)
        await breathe(pause)
        await body.drain()
    if fails:
        body.fail(Truncated("the origin left"))
    else:
        body.finish()
    await body.drain()


@settings(max_examples=60, deadline=None)
@given(
    writes, reader_plans, st.booleans(), st.booleans(), st.sampled_from([0, 100, 10_000]), st.sampled_from([0, 4096])
)
def test_each_reader_gets_exactly_the_bytes(
    plan: list[tuple[int, int]],
    readers: list[ReaderPlan],
    kept: bool,
    fails: bool,
    spool_bytes: int,
    coalesce_bytes: int,
) -> None:
    chunks = [(random.Random(n).randbytes(size), pause) for n, (size, pause) in enumerate(plan)]
    whole = b"".join(chunk for chunk, _ in chunks)

    async def play(spool: SpoolBudget) -> Body:
        body = Body.filling(spool, kept=kept, limits=LIMITS)
        writing = asyncio.ensure_future(write_all(body, chunks, fails))
        await asyncio.gather(*(reader.read(body) for reader in readers))
        if not kept and body.readers == 0:
            body.stop_keeping()  # as nobody will come to read it
        elif not body.kept and not writing.done():
            body.stop_keeping()
        await writing
        return body

    with tempfile.TemporaryDirectory() as directory, patch.object(fill, "COALESCE_BYTES", coalesce_bytes):
        spool = SpoolBudget(Path(directory), spool_bytes)
        body = asyncio.run(asyncio.wait_for(play(spool), 1))
        for reader in readers:
            start, end = reader.span
            wanted = whole[start:end]
            assert wanted.startswith(reader.got)
            if reader.ended == "end":
                assert reader.got == wanted
            elif reader.ended == "failed":
                assert fails
                assert reader.got == wanted
            elif reader.ended == "cut":
                assert len(readers) > 1
            if body.kept and reader.joined and not reader.leaves:
                assert reader.ended == "end"
        if kept and not fails and spool_bytes > len(whole):
            assert body.kept
            assert body.size == len(whole)
            assert body.data == (whole if len(whole) <= LIMITS.memory_bytes_max else None)
        if fails:
            assert not body.kept
        del body
        spool.close()
        if fails:
            gc.collect()  # the error's traceback holds the frames that met it, and the loop ended mid-flush
        assert spool.used_bytes == 0
