import asyncio
import gc
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from banish.errors import LimitExceeded, StoreError, Truncated
from banish.http.fields import Fields
from banish.store import fill as fill_module
from banish.store.bodies import Body, BodyLimits, BodyReader, BodyState
from banish.store.spool import SpoolBudget

SMALL = BodyLimits(memory_bytes_max=100, pending_bytes_max=100, window_bytes=50, lag_bytes_max=100)
NO_SPOOL = SpoolBudget(None, 0)


def run(play: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(play, 20))


async def read_all(reader: BodyReader, n_max: int = 64) -> bytes:
    got = b""
    while chunk := await reader.read(n_max):
        assert len(chunk) <= n_max
        got += chunk
    return got


async def fill(body: Body, chunks: list[bytes]) -> None:
    for chunk in chunks:
        body.write(chunk)
        await body.drain()
    body.finish()
    await body.drain()


def relayed(limits: BodyLimits = SMALL) -> Body:
    return Body.filling(NO_SPOOL, kept=False, limits=limits)


@pytest.fixture
def chunks_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is let go of by the chunk: have small ones, to match the small limits here."""
    monkeypatch.setattr(fill_module, "COALESCE_BYTES", 0)


class TestWholeInMemory:
    def test_a_complete_body_is_its_data(self) -> None:
        body = Body.complete(b"hello")
        assert (body.state, body.size, body.data, body.memory_bytes) == (BodyState.WHOLE, 5, b"hello", 5)
        assert body.kept
        assert body.settled

    def test_reads_need_no_waiting(self) -> None:
        reader = Body.complete(b"hello world").reader(6)
        assert reader.read_nowait(3) == b"wor"
        assert reader.read_nowait(3) == b"ld"
        assert reader.read_nowait(3) == b""

    @pytest.mark.parametrize(
        ("start", "end", "expected"), [(0, None, b"hello"), (1, 3, b"el"), (2, 2, b""), (4, 99, b"o"), (9, 99, b"")]
    )
    def test_a_reader_reads_its_range(self, start: int, end: int | None, expected: bytes) -> None:
        async def play() -> None:
            assert await read_all(Body.complete(b"hello").reader(start, end)) == expected

        run(play())

    def test_one_write_is_kept_without_a_copy(self) -> None:
        data = os.urandom(90)
        body = Body.filling(NO_SPOOL, kept=True, limits=SMALL)
        body.write(data)
        body.finish()
        assert body.data is data

    def test_an_empty_body_is_whole(self) -> None:
        body = Body.filling(NO_SPOOL, kept=True)
        body.finish()
        assert body.data == b""
        assert body.reader().read_nowait() == b""

    def test_dribbled_bytes_are_coalesced(self) -> None:
        body = Body.filling(NO_SPOOL, kept=True)
        for _ in range(9000):
            body.write(b"x")
        assert body._fill is not None
        assert len(body._fill._chunks) == 3
        body.finish()
        assert body.data == b"x" * 9000

    def test_trailers_come_with_the_end(self) -> None:
        body = Body.filling(NO_SPOOL, kept=True)
        body.finish(Fields.of([("X-Sum", "1")]))
        assert body.trailers.get("x-sum") == "1"

    def test_a_stored_body_is_out_of_the_collectors_reach(self) -> None:
        body = Body.filling(NO_SPOOL, kept=True)
        body.write(b"hello")
        body.finish()
        assert not gc.is_tracked(body)
        assert body._fill is None


class TestReadingWhileFilling:
    def test_a_reader_waits_for_bytes_and_for_the_end(self) -> None:
        async def play() -> None:
            body = Body.filling(NO_SPOOL, kept=True)
            reader = body.reader()
            assert reader.read_nowait() is None
            pending = asyncio.ensure_future(reader.read())
            await asyncio.sleep(0)
            body.write(b"one")
            assert await pending == b"one"
            pending = asyncio.ensure_future(reader.read())
            await asyncio.sleep(0)
            body.finish()
            assert await pending == b""

        run(play())

    def test_a_late_joiner_starts_from_the_beginning(self) -> None:
        async def play() -> None:
            body = Body.filling(NO_SPOOL, kept=True)
            early = body.reader()
            body.write(b"one")
            assert await early.read() == b"one"
            late = body.reader()
            body.write(b"two")
            body.finish()
            assert await read_all(early) == b"two"
            assert await read_all(late) == b"onetwo"

        run(play())

    def test_a_failure_comes_after_the_bytes_to_each_reader(self) -> None:
        async def play() -> None:
            body = Body.filling(NO_SPOOL, kept=True)
            readers = [body.reader(), body.reader()]
            body.write(b"partly")
            body.fail(Truncated("cut"))
            assert body.state is BodyState.FAILED
            assert not body.accepts_readers
            for reader in readers:
                assert await reader.read() == b"partly"
                with pytest.raises(Truncated):
                    await reader.read()

        run(play())

    def test_a_range_that_is_had_needs_no_end(self) -> None:
        async def play() -> None:
            body = Body.filling(NO_SPOOL, kept=True)
            reader = body.reader(2, 4)
            body.write(b"abcdef")
            assert await read_all(reader) == b"cd"
            assert body.readers == 0

        run(play())

    def test_a_cancelled_read_loses_nothing(self) -> None:
        async def play() -> None:
            body = Body.filling(NO_SPOOL, kept=True)
            reader = body.reader()
            pending = asyncio.ensure_future(reader.read())
            await asyncio.sleep(0)
            pending.cancel()
            await asyncio.wait([pending])
            body.write(b"here")
            assert await reader.read() == b"here"

        run(play())

    def test_closing_ends_a_waiting_read(self) -> None:
        async def play() -> None:
            body = Body.filling(NO_SPOOL, kept=True)
            with body.reader() as reader:
                pending = asyncio.ensure_future(reader.read())
                await asyncio.sleep(0)
            assert await pending == b""
            assert body.readers == 0

        run(play())


@pytest.mark.usefixtures("chunks_as_written")
class TestSpooling:
    def test_a_large_body_goes_to_the_spool_and_reads_the_same(self, tmp_path: Path) -> None:
        async def play() -> None:
            spool = SpoolBudget(tmp_path, 10_000)
            body = Body.filling(spool, kept=True, limits=SMALL)
            chunks = [os.urandom(70) for _ in range(50)]
            during = body.reader()
            reading = asyncio.ensure_future(read_all(during))
            await fill(body, chunks)
            assert await reading == b"".join(chunks)
            assert await read_all(body.reader(69, 141)) == b"".join(chunks)[69:141]
            assert (body.data, body.memory_bytes, body.spool_bytes) == (None, 0, 3500)
            assert body.kept
            assert body.settled
            del body, during
            spool.close()  # a thread may have been the last to hold the file
            assert spool.used_bytes == 0

        run(play())

    def test_memory_is_bounded_while_no_one_reads(self, tmp_path: Path) -> None:
        async def play() -> None:
            spool = SpoolBudget(tmp_path, 1 << 20)
            body = Body.filling(spool, kept=True, limits=SMALL)
            for _ in range(1000):
                body.write(b"x" * 60)
                assert body.memory_bytes <= 100 + 100 + 50 + 2 * 60
                await body.drain()
            body.finish()
            await body.drain()
            assert (body.size, body.memory_bytes) == (60_000, 0)
            spool.close()

        run(play())

    def test_past_the_budget_it_is_relayed_at_its_readers_pace(self, tmp_path: Path) -> None:
        async def play() -> None:
            spool = SpoolBudget(tmp_path, 500)
            body = Body.filling(spool, kept=True, limits=SMALL)
            reader = body.reader()
            chunks = [bytes([n]) * 60 for n in range(50)]
            for chunk in chunks[:8]:
                await body.drain()
                body.write(chunk)
            assert body.kept
            body.write(chunks[8])
            assert not body.kept
            assert not body.accepts_readers
            draining = asyncio.ensure_future(body.drain())
            await asyncio.sleep(0)
            assert not draining.done()
            reading = asyncio.ensure_future(read_all(reader))
            await draining
            await fill(body, chunks[9:])
            assert await reading == b"".join(chunks)
            assert body.data is None
            assert spool.refused.get() == 1
            spool.close()

        run(play())

    def test_past_the_budget_and_without_readers_it_is_abandoned(self, tmp_path: Path) -> None:
        async def play() -> None:
            calls: list[str] = []
            spool = SpoolBudget(tmp_path, 150)
            body = Body.filling(spool, kept=True, limits=SMALL, on_abandoned=lambda: calls.append("abandoned"))
            for _ in range(10):
                body.write(b"x" * 60)
                await body.drain()
            assert body.abandoned
            assert calls == ["abandoned"]
            assert body.memory_bytes == 0
            body.finish()
            assert body.state is BodyState.ABANDONED
            spool.close()
            assert spool.used_bytes == 0

        run(play())

    def test_a_reader_in_the_gap_is_cut_and_holds_nobody_back(self, tmp_path: Path) -> None:
        async def play() -> None:
            spool = SpoolBudget(tmp_path, 200)
            body = Body.filling(spool, kept=True, limits=SMALL)
            fast, slow = body.reader(), body.reader()
            writing = asyncio.ensure_future(fill(body, [bytes([n]) * 60 for n in range(50)]))
            whole = b"".join(bytes([n]) * 60 for n in range(50))
            assert await read_all(fast) == whole
            await writing
            got = await slow.read(200)
            assert got
            with pytest.raises(LimitExceeded, match="too far behind"):
                await read_all(slow)
            assert whole.startswith(got)
            assert spool.readers_cut.get() == 1
            spool.close()

        run(play())

    def test_a_failing_disk_costs_keeping_but_no_bytes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        async def play() -> None:
            spool = SpoolBudget(tmp_path, 10_000)
            body = Body.filling(spool, kept=True, limits=SMALL)
            reader = body.reader()
            monkeypatch.setattr(os, "pwritev", full)
            writing = asyncio.ensure_future(fill(body, [bytes([n]) * 60 for n in range(20)]))
            assert await read_all(reader) == b"".join(bytes([n]) * 60 for n in range(20))
            await writing
            assert not body.kept
            assert spool.errors.get() == 1
            spool.close()
            assert spool.used_bytes == 0

        run(play())

    def test_a_disk_that_fails_after_the_end_is_seen_by_who_drains(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def play() -> None:
            spool = SpoolBudget(tmp_path / "missing", 10_000)
            body = Body.filling(spool, kept=True, limits=SMALL)
            body.write(b"x" * 200)
            body.finish()
            assert body.kept
            assert not body.settled
            await body.drain()
            assert body.settled
            assert not body.kept
            spool.close()

        run(play())

    def test_a_spool_that_cannot_be_read_back_is_the_stores_fault(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> bytes:
            raise OSError(5, "Input/output error")

        async def play() -> None:
            spool = SpoolBudget(tmp_path, 10_000)
            body = Body.filling(spool, kept=True, limits=SMALL)
            await fill(body, [b"x" * 200])
            one, other = body.reader(), body.reader()
            monkeypatch.setattr(os, "pread", broken)
            with pytest.raises(StoreError):
                await one.read()
            monkeypatch.setattr(os, "pread", lambda *_: b"")
            with pytest.raises(StoreError):
                await other.read()
            assert not body.accepts_readers  # damage is a miss from now on
            spool.close()

        run(play())


@pytest.mark.usefixtures("chunks_as_written")
class TestRelaying:
    def test_the_writer_waits_for_its_reader(self) -> None:
        async def play() -> None:
            body = relayed()
            reader = body.reader()
            body.write(b"x" * 60)
            draining = asyncio.ensure_future(body.drain())
            await asyncio.sleep(0)
            assert not draining.done()
            assert await reader.read(10) == b"x" * 10
            await draining
            assert await reader.read() == b"x" * 50
            assert body.memory_bytes == 0

        run(play())

    def test_a_reader_that_begins_further_on_lets_a_waiting_writer_go_on(self) -> None:
        async def play() -> None:
            body = relayed()
            body.write(b"x" * 60)
            draining = asyncio.ensure_future(body.drain())
            await asyncio.sleep(0)
            reader = body.reader(60)
            await draining
            body.write(b"here")
            assert await reader.read() == b"here"

        run(play())

    def test_it_takes_one_reader(self) -> None:
        body = relayed()
        assert body.accepts_readers
        body.reader()
        assert not body.accepts_readers
        with pytest.raises(AssertionError):
            body.reader()

    def test_its_last_reader_leaving_abandons_it_and_wakes_the_writer(self) -> None:
        async def play() -> None:
            calls: list[str] = []
            body = Body.filling(NO_SPOOL, kept=False, limits=SMALL, on_abandoned=lambda: calls.append("abandoned"))
            reader = body.reader()
            body.write(b"x" * 100)
            draining = asyncio.ensure_future(body.drain())
            await asyncio.sleep(0)
            reader.close()
            await draining
            reader.close()
            assert calls == ["abandoned"]
            assert (body.abandoned, body.memory_bytes) == (True, 0)
            body.write(b"into the void")
            await body.drain()
            body.fail(Truncated("cut"))
            assert body.abandoned

        run(play())

    def test_a_short_one_is_whole_in_memory_but_not_kept(self) -> None:
        body = relayed()
        body.write(b"short")
        body.finish()
        assert body.data == b"short"
        assert not body.kept

    def test_who_leaves_after_the_end_abandons_nothing(self) -> None:
        calls: list[str] = []
        body = Body.filling(NO_SPOOL, kept=False, on_abandoned=lambda: calls.append("abandoned"))
        reader = body.reader()
        body.write(b"short")
        body.finish()
        reader.close()
        assert calls == []
        assert body.state is BodyState.WHOLE


class TestStopKeeping:
    def test_a_kept_body_goes_on_when_its_reader_leaves(self) -> None:
        body = Body.filling(NO_SPOOL, kept=True)
        body.reader().close()
        assert body.state is BodyState.FILLING

    def test_without_readers_it_is_abandoned(self) -> None:
        calls: list[str] = []
        body = Body.filling(NO_SPOOL, kept=True, on_abandoned=lambda: calls.append("abandoned"))
        body.reader().close()
        body.stop_keeping()
        assert body.abandoned
        assert calls == ["abandoned"]

    def test_readers_get_the_rest(self, tmp_path: Path) -> None:
        async def play() -> None:
            spool = SpoolBudget(tmp_path, 10_000)
            body = Body.filling(spool, kept=True, limits=SMALL)
            reader = body.reader()
            body.write(b"a" * 150)
            body.stop_keeping()
            assert not body.kept
            writing = asyncio.ensure_future(fill(body, [b"b" * 60] * 20))
            assert await read_all(reader) == b"a" * 150 + b"b" * 1200
            await writing
            spool.close()

        run(play())


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
@pytest.mark.parametrize("kept", [True, False])
def test_a_gigabyte_streams_through_64_megabytes(tmp_path: Path, kept: bool) -> None:
    chunk_bytes, chunks = 256 << 10, 4096

    async def write(body: Body) -> None:
        for n in range(chunks):
            body.write(bytes([n & 255]) * chunk_bytes)
            await body.drain()
        body.finish()
        await body.drain()

    async def play() -> None:
        spool = SpoolBudget(tmp_path, 2 << 30)
        body = Body.filling(spool, kept=kept)
        reader = body.reader()
        before = peak = resident_bytes()
        writing = asyncio.ensure_future(write(body))
        size = 0
        while chunk := await reader.read():
            assert chunk[0] == size // chunk_bytes & 255
            size += len(chunk)
            if size % (64 << 20) < len(chunk):
                peak = max(peak, resident_bytes())
        await writing
        assert size == 1 << 30
        assert body.spool_bytes == (size if kept else 0)
        assert peak - before < 64 << 20
        spool.close()

    run(play())


def test_a_body_that_failed_goes_with_its_last_holder_though_a_reader_met_the_error(tmp_path: Path) -> None:
    """Body is out of the collector's reach: an error that kept the frames it passed would keep the body for ever."""

    async def read_on(body: Body, reader: BodyReader) -> None:
        while await reader.read():
            assert not body.data  # this frame holds the body

    async def meet(body: Body, reader: BodyReader) -> None:
        with pytest.raises(Truncated):
            await read_on(body, reader)

    async def play(spool: SpoolBudget) -> None:
        body = Body.filling(spool, kept=True, limits=SMALL)
        reader = body.reader()
        body.write(b"x" * 200)
        await body.drain()
        try:
            raise Truncated("the origin left")
        except Truncated as error:
            body.fail(error)
        await meet(body, reader)

    spool = SpoolBudget(tmp_path, 10_000)
    run(play(spool))
    spool.close()
    gc.collect()
    assert spool.used_bytes == 0
