import asyncio
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from structlog.testing import capture_logs

from banish.errors import ConfigError, LogDamaged, LogUnwritable
from banish.purge.positions import Position
from banish.purge.records import RECORD_BYTES_MAX, RecordKind
from banish.store import ballast, logwriter
from banish.store.ledger import TRIM_ROWS_MAX, Ledger
from banish.store.log import Entry, PurgeLog, set_aside
from banish.tables import Accounts
from banish.testing.clock import FakeClock
from tests.purgelogs import EDGE, EPOCH, RETENTION_S, Disk, Issuer, figure, open_log, play, tags

BROKEN = LogUnwritable("input/output error")
FULL = LogUnwritable("database or disk is full", full=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "purges.sqlite"


@pytest.fixture(params=["file", "memory"])
def place(request: pytest.FixtureRequest, path: Path) -> Path | None:
    return path if request.param == "file" else None


async def fill(log: PurgeLog, count: int, *, issuer: Issuer | None = None, **more: Any) -> Issuer:
    """Log so many records under the next apply indexes."""
    issuer = issuer or Issuer()
    first = log.committed + 1
    await asyncio.gather(*(log.append(index, *issuer.record(**more)) for index in range(first, first + count)))
    return issuer


async def changed(log: PurgeLog) -> bool:
    """The next value of `writable`."""
    future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    log.on_change = future.set_result
    value = await future
    log.on_change = lambda writable: None
    return value


async def rest(log: PurgeLog) -> None:
    """Let the writer come to rest."""
    await log.reserve_more(log.reserved + 1)
    while log._writer._trim is not None:
        await log.reserve_more(log.reserved + 1)


async def fill_and_copy(log: PurgeLog, path: Path, copies: Path) -> None:
    """Log something, copy every file of the log, log more."""
    issuer = await fill(log, 3)
    copies.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy2(file, copies)
    await fill(log, 3, issuer=issuer)


def indexes(entries: list[Entry]) -> list[int]:
    return [entry.index for entry in entries]


class TestAppend:
    def test_a_record_is_on_disk_when_its_future_ends(self, path: Path) -> None:
        log = open_log(path)

        async def scene() -> None:
            issuer = Issuer()
            await log.append(7, *issuer.record())
            with sqlite3.connect(path) as other:
                assert other.execute("SELECT idx, record FROM records").fetchall() == [(7, issuer.issued[0])]
            other.close()

        play(log, scene())

    def test_entries_say_who_what_when_and_why_and_hold_the_record_byte_for_byte(self, place: Path | None) -> None:
        log = open_log(place)

        async def scene() -> None:
            issuer = Issuer()
            await log.append(3, *issuer.record(at=5.5, actor="deploy", source="::1", reason="new prices"))
            [entry] = await log.read(limit=10)
            position = Position(EDGE, EPOCH, 1)
            assert entry == Entry(3, position, RecordKind.PURGE, 5.5, "deploy", "::1", "new prices", issuer.issued[0])

        play(log, scene())

    def test_what_is_appended_while_a_commit_is_under_way_shares_the_next_one_in_order(self, path: Path) -> None:
        disk, accounts = Disk(), Accounts()
        log = open_log(path, ledger=disk.ledger, accounts=accounts)
        commits = len(disk.commits)

        async def scene() -> None:
            disk.gate.clear()
            issuer = Issuer()
            first = log.append(1, *issuer.record())
            await asyncio.to_thread(disk.arrived.acquire)
            others = [log.append(index, *issuer.record()) for index in range(2, 102)]
            assert figure(accounts, "banish_log_waiting_bytes") > 0
            disk.gate.set()
            await asyncio.gather(first, *others)
            assert indexes(await log.read(limit=200)) == list(range(1, 102))
            assert figure(accounts, "banish_log_waiting_bytes") == 0

        disk.arrived = threading.Semaphore(0)
        play(log, scene())
        assert [len(commit) for commit in disk.commits[commits:]] == [1, 100]
        assert figure(accounts, "banish_log_records_total") == 101

    def test_a_commit_wakes_the_loop_once_however_many_waited(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk = Disk()
        log = open_log(path, ledger=disk.ledger)

        async def scene() -> None:
            loop = asyncio.get_running_loop()
            wakes = 0
            wake = loop.call_soon_threadsafe

            def counted(*what: Any) -> object:
                nonlocal wakes
                wakes += 1
                return wake(*what)

            monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
            await fill(log, 50)
            assert wakes == len(disk.commits) - commits

        commits = len(disk.commits)
        play(log, scene())

    def test_a_large_group_is_committed_in_parts(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logwriter, "GROUP_BYTES_MAX", 10_000)
        disk = Disk()
        log = open_log(path, ledger=disk.ledger)

        async def scene() -> None:
            await fill(log, 30, targets=tags("x" * 1000))
            assert indexes(await log.read(limit=50)) == list(range(1, 31))
            assert max(len(commit) for commit in disk.commits) <= 10

        play(log, scene())

    def test_the_largest_record_fits(self, place: Path | None) -> None:
        log = open_log(place)

        async def scene() -> None:
            issuer = Issuer()
            data, record = issuer.record(tags(*(f"{n:01000}" for n in range(250))))
            assert len(data) > 0.9 * RECORD_BYTES_MAX
            await log.append(1, data, record)
            assert [entry.record for entry in await log.read(limit=1)] == [data]

        play(log, scene())

    def test_what_nobody_waits_for_is_logged_too(self, place: Path | None) -> None:
        log = open_log(place)

        async def scene() -> None:
            log.enqueue(1, *Issuer().record(kind=RecordKind.INVALIDATION))
            await log.committed_past(0)
            assert [entry.kind for entry in await log.read(limit=5)] == [RecordKind.INVALIDATION]

        play(log, scene())

    def test_one_who_goes_away_does_not_disturb_the_others(self, place: Path | None) -> None:
        log = open_log(place)

        async def scene() -> None:
            issuer = Issuer()
            gone = log.append(1, *issuer.record())
            gone.cancel()
            await log.append(2, *issuer.record())
            assert indexes(await log.read(limit=5)) == [1, 2]

        play(log, scene())

    def test_close_writes_what_waits(self, path: Path) -> None:
        log = open_log(path)

        async def scene() -> None:
            for index in range(1, 20):
                log.enqueue(index, *Issuer().record())

        play(log, scene())
        again = open_log(path)
        assert (again.committed, again.last is not None and again.last.index) == (19, 19)
        again.close()


class TestReading:
    def test_followers_are_woken_by_the_next_commit(self, place: Path | None) -> None:
        log = open_log(place)

        async def scene() -> None:
            follower = asyncio.create_task(log.committed_past(1))
            await log.append(1, *Issuer().record())
            assert not follower.done()
            await log.append(2, *Issuer().record())
            await follower
            assert log.committed == 2
            await log.committed_past(1)

        play(log, scene())

    def test_history_by_time_actor_site_kind_and_index(self, place: Path | None) -> None:
        log = open_log(place)

        async def scene() -> None:
            issuer = Issuer()
            await log.append(1, *issuer.record(kind=RecordKind.OPEN, at=1.0))
            await log.append(2, *issuer.record(at=2.0, actor="deploy", sites=("shop", "blog")))
            await log.append(3, *issuer.record(tags("sale"), at=3.0, actor="editor", sites=("shops",)))
            await log.append(4, *issuer.record(kind=RecordKind.INVALIDATION, at=4.0, sites=("blog",)))
            await log.append(5, *issuer.record(at=5.0, actor="deploy"))
            assert indexes(await log.read(limit=9)) == [1, 2, 3, 4, 5]
            assert indexes(await log.read(limit=2)) == [1, 2]
            assert indexes(await log.read(limit=2, newest_first=True)) == [5, 4]
            assert indexes(await log.read(limit=9, after=1, before=4)) == [2, 3]
            assert indexes(await log.read(limit=9, since=2.0, until=4.0)) == [2, 3]
            assert indexes(await log.read(limit=9, actor="deploy")) == [2, 5]
            assert indexes(await log.read(limit=9, site="shop")) == [1, 2, 5]
            assert indexes(await log.read(limit=9, kinds=[RecordKind.OPEN])) == [1]
            assert indexes(await log.read(limit=9, kinds=[RecordKind.PURGE, RecordKind.INVALIDATION])) == [2, 3, 4, 5]
            assert indexes(await log.read(limit=9, kinds=[])) == []
            assert indexes(await log.read(limit=9, mentions="sale")) == [3]
            assert indexes(await log.read(limit=9, mentions="ñ")) == []

        play(log, scene())

    def test_by_position_and_by_key_of_an_actor(self, place: Path | None) -> None:
        log = open_log(place)

        async def scene() -> None:
            issuer = Issuer()
            await log.append(1, *issuer.record(key="deploy-1", actor="blue"))
            await log.append(2, *issuer.record(key="deploy-1", actor="green"))
            await log.append(3, *issuer.record())
            found = await log.find_key("deploy-1", "blue")
            assert found is not None
            assert found.index == 1
            assert (found := await log.find_key("deploy-1")) is not None
            assert found.index == 2
            assert await log.find_key("deploy-2") is None
            assert await log.find_key("") is None
            assert (found := await log.find(Position(EDGE, EPOCH, 2))) is not None
            assert found.index == 2
            assert await log.find(Position(EDGE, EPOCH, 9)) is None
            assert await log.find(Position(EDGE, "2-89abcdef", 2)) is None

        play(log, scene())

    def test_at_start_all_above_the_floor(self, place: Path | None) -> None:
        log = open_log(place)

        async def scene() -> None:
            issuer = await fill(log, 5)
            await fill(log, 1, issuer=issuer, kind=RecordKind.SCHEDULE)
            assert indexes(list(log.above(3))) == [4, 5, 6]
            assert indexes(list(log.above(0, [RecordKind.SCHEDULE, RecordKind.CANCEL]))) == [6]

        play(log, scene())

    def test_marks_stay_with_the_entry(self, path: Path) -> None:
        log = open_log(path)

        async def scene() -> None:
            await fill(log, 2)
            log.mark_swept(1, 9.5, b'{"matched":3}')
            log.mark_undone(2, 7)
            await rest(log)

        play(log, scene())
        again = open_log(path)
        first, second = again.above(0)
        assert (first.swept_at, first.counts, first.undone_by) == (9.5, b'{"matched":3}', 0)
        assert (second.swept_at, second.counts, second.undone_by) == (None, None, 7)
        again.close()

    def test_nothing_is_read_that_is_not_on_disk_yet(self, path: Path) -> None:
        disk = Disk()
        log = open_log(path, ledger=disk.ledger)

        async def scene() -> None:
            issuer = await fill(log, 1)
            disk.gate.clear()
            late = log.append(2, *issuer.record())
            assert (indexes(await log.read(limit=5)), log.committed) == ([1], 1)
            disk.gate.set()
            await late

        play(log, scene())

    def test_the_sqlite3_tool_shows_it_to_people(self, path: Path) -> None:
        log = open_log(path)

        async def scene() -> None:
            issuer = Issuer()
            await log.append(1, *issuer.record(tags("a", "b", "c", "d", "e"), actor="deploy", at=1.5, sites=("shop",)))
            await log.append(2, *issuer.record([]))

        play(log, scene())
        with sqlite3.connect(path) as tables:
            rows = tables.execute("SELECT id, time, sites, targets, actor FROM purges").fetchall()
        tables.close()
        assert rows == [
            (
                f"{EDGE}.{EPOCH}.1",
                "1970-01-01T00:00:01.500Z",
                "shop",
                "tag a, tag b, tag c, tag d and 1 more",
                "deploy",
            ),
            (f"{EDGE}.{EPOCH}.2", "1970-01-01T00:00:00.000Z", "(all)", "", ""),
        ]
        if (tool := shutil.which("sqlite3")) is not None:
            shown = subprocess.run(
                [tool, path, "SELECT actor FROM purges ORDER BY id"], capture_output=True, text=True, check=True
            )
            assert shown.stdout == "deploy\n\n"

    def test_a_log_that_becomes_unreadable_says_so(self, path: Path) -> None:
        log = open_log(path)

        async def scene() -> None:
            await fill(log, 40, targets=tags("x" * 1000))
            await asyncio.to_thread(log._ledger.checkpoint)
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.seek(4096)
                file.write(b"\xff" * (size - 4096))
            with pytest.raises(LogDamaged):
                await log.read(limit=50, mentions="y")

        play(log, scene())


class TestReservations:
    def test_are_durable_and_never_go_back(self, path: Path) -> None:
        log = open_log(path)
        assert log.reserved == 0
        log.reserve(100)

        async def scene() -> None:
            await log.reserve_more(250)
            await log.reserve_more(200)

        play(log, scene())
        again = open_log(path)
        again.reserve(30)
        assert again.reserved == 250
        again.close()

    def test_in_memory_they_are_as_good_as_the_process(self) -> None:
        log = open_log(None)
        log.reserve(100)
        assert log.reserved == 100
        log.close()


class TestTrimming:
    def scene(self, log: PurgeLog, *, floor: int, count: int = 10) -> Coroutine[Any, Any, None]:
        async def trimmed() -> None:
            await fill(log, count, at=0.0)
            log.trim(floor=floor)
            await rest(log)

        return trimmed()

    def aged(self, by_s: float) -> FakeClock:
        return FakeClock(now=by_s)

    def test_entries_past_the_retention_go_but_none_above_the_floor(self, place: Path | None) -> None:
        log = open_log(place, clock=self.aged(RETENTION_S + 1))

        async def scene() -> None:
            await self.scene(log, floor=6)
            assert indexes(await log.read(limit=20)) == [7, 8, 9, 10]
            assert log.cut == 6

        play(log, scene())

    def test_entries_within_the_retention_stay_and_hold_those_behind_them(self, place: Path | None) -> None:
        log = open_log(place, clock=self.aged(RETENTION_S + 10))

        async def scene() -> None:
            issuer = Issuer()
            for index, at in enumerate((0.0, 5.0, 10.0, 5.0, 20.0), start=1):
                await log.append(index, *issuer.record(at=at))
            log.trim(floor=5)
            await rest(log)
            assert (indexes(await log.read(limit=20)), log.cut) == ([3, 4, 5], 2)

        play(log, scene())

    def test_the_oldest_go_when_the_log_is_too_large(self, place: Path | None) -> None:
        log = open_log(place, clock=self.aged(0), retention_bytes=300_000)

        async def scene() -> None:
            await fill(log, 500, targets=tags("x" * 1000))
            log.trim(floor=400)
            await rest(log)
            left = indexes(await log.read(limit=1000))
            assert 0 < log.cut < 400
            assert left == list(range(log.cut + 1, 501))
            assert log._ledger.used_bytes() < 450_000

        play(log, scene())

    def test_however_large_the_log_nothing_above_the_floor_goes(self, place: Path | None) -> None:
        log = open_log(place, clock=self.aged(RETENTION_S * 9), retention_bytes=1)

        async def scene() -> None:
            await self.scene(log, floor=0)
            assert (indexes(await log.read(limit=20)), log.cut) == (list(range(1, 11)), 0)

        play(log, scene())

    def test_the_newest_entry_stays(self, place: Path | None) -> None:
        log = open_log(place, clock=self.aged(RETENTION_S + 1))

        async def scene() -> None:
            await self.scene(log, floor=99)
            assert indexes(await log.read(limit=20)) == [10]

        play(log, scene())

    def test_is_done_bit_by_bit(self, path: Path) -> None:
        accounts = Accounts()
        log = open_log(path, clock=self.aged(RETENTION_S + 1), accounts=accounts)
        count = 2 * TRIM_ROWS_MAX + 10

        async def scene() -> None:
            await fill(log, count)
            log.trim(floor=count)
            await rest(log)
            assert log.cut == count - 1

        play(log, scene())
        assert figure(accounts, "banish_log_trims_total") == 3

    def test_the_cut_outlives_the_process_and_its_entries(self, path: Path) -> None:
        play(log := open_log(path, clock=self.aged(RETENTION_S + 1)), self.scene(log, floor=6))
        again = open_log(path)
        assert (again.cut, again.committed) == (6, 10)
        again.close()

    def test_who_reads_learns_of_the_cut_as_of_the_reading(self, path: Path) -> None:
        log = open_log(path, clock=self.aged(RETENTION_S + 1))

        async def scene() -> None:
            await fill(log, 10)
            log._ledger.trim(upto=4, older_than=1.0, bytes_max=1 << 30)  # and the loop has not been told
            assert (indexes(await log.read(after=2, limit=3)), log.cut) == ([5, 6, 7], 4)

        play(log, scene())


class TestFailure:
    """PURGE rule 12."""

    def test_waiters_are_told_and_what_they_appended_is_written_later_in_order(self, path: Path) -> None:
        disk, accounts = Disk(), Accounts()
        log = open_log(path, ledger=disk.ledger, accounts=accounts)

        async def scene() -> None:
            issuer = await fill(log, 1)
            disk.broken = BROKEN
            with pytest.raises(LogUnwritable, match="input/output"):
                await log.append(2, *issuer.record())
            assert not log.writable
            assert figure(accounts, "banish_log_writable") == 0
            with pytest.raises(LogUnwritable):
                await log.append(3, *issuer.record())
            log.enqueue(4, *issuer.record())
            log.mark_swept(2, 1.0, b"{}")
            with pytest.raises(LogUnwritable):
                await log.reserve_more(1000)
            assert (log.committed, indexes(await log.read(limit=9))) == (1, [1])
            disk.broken = None
            assert await changed(log)
            assert (log.writable, log.committed) == (True, 4)
            entries = await log.read(limit=9)
            assert [entry.record for entry in entries] == issuer.issued
            assert entries[1].swept_at == 1.0
            await log.append(5, *issuer.record())

        play(log, scene())
        assert figure(accounts, "banish_log_failures_total", "commit") >= 1
        assert figure(accounts, "banish_log_waiting_bytes") == 0

    def test_a_failure_before_there_is_a_loop_is_told_on_it(self, path: Path) -> None:
        disk = Disk()
        log = open_log(path, ledger=disk.ledger, retry_s=1000.0)
        told: list[tuple[bool, threading.Thread]] = []
        log.on_change = lambda writable: told.append((writable, threading.current_thread()))
        disk.broken = BROKEN
        with pytest.raises(LogUnwritable):
            log.reserve(10)
        assert told == []

        async def scene() -> None:
            with pytest.raises(LogUnwritable):
                await log.append(1, *Issuer().record())
            await asyncio.sleep(0)

        play(log, scene())
        assert told == [(False, threading.current_thread())]

    def test_a_trim_asked_for_meanwhile_waits_with_the_others(self, path: Path) -> None:
        disk = Disk()
        log = open_log(path, ledger=disk.ledger, clock=FakeClock(now=RETENTION_S + 1))

        async def scene() -> None:
            issuer = await fill(log, 3)
            disk.faults = [BROKEN] * 3
            with pytest.raises(LogUnwritable):
                await log.append(4, *issuer.record())
            log.trim(floor=2)
            await log.committed_past(3)
            await rest(log)
            assert indexes(await log.read(limit=9)) in ([3, 4], [1, 2, 3, 4])  # asked for again later, at worst

        play(log, scene())

    def test_whoever_listens_is_told_once_each_way(self, path: Path) -> None:
        disk = Disk()
        log = open_log(path, ledger=disk.ledger)

        async def scene() -> None:
            told: list[bool] = []
            log.on_change = told.append
            disk.faults = [BROKEN, BROKEN, BROKEN]
            with pytest.raises(LogUnwritable):
                await log.append(1, *Issuer().record())
            await log.committed_past(0)
            assert told == [False, True]

        play(log, scene())

    def test_a_commit_that_failed_and_is_found_all_the_same_is_not_doubled(self, path: Path) -> None:
        disk = Disk()
        log = open_log(path, ledger=disk.ledger)

        async def scene() -> None:
            issuer = Issuer()
            disk.faults, disk.late = [BROKEN], True
            with pytest.raises(LogUnwritable):
                await log.append(1, *issuer.record())
            await log.committed_past(0)
            assert [entry.record for entry in await log.read(limit=9)] == issuer.issued

        play(log, scene())

    def test_a_full_disk_gets_the_ballast_and_nobody_notices(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ballast, "_FREE_FACTOR", 0)
        monkeypatch.setattr(logwriter, "IDLE_S", 0.0)
        disk = Disk()
        log = open_log(path, ledger=disk.ledger)
        held = path.with_name("purges.sqlite.ballast")

        async def scene() -> None:
            await rest(log)
            assert held.stat().st_blocks * 512 >= ballast.BALLAST_BYTES
            disk.faults = [FULL]
            await log.append(1, *Issuer().record())
            assert log.writable
            assert not held.exists()
            log.trim(floor=0)  # the time to take it again, if there is room
            await rest(log)
            assert held.exists()

        play(log, scene())

    def test_a_disk_that_stays_full_is_a_failure(self, path: Path) -> None:
        disk = Disk()
        log = open_log(path, ledger=disk.ledger)

        async def scene() -> None:
            disk.faults = [FULL, FULL]
            with pytest.raises(LogUnwritable, match="full"):
                await log.append(1, *Issuer().record())
            await log.committed_past(0)

        play(log, scene())

    def test_a_fault_of_our_own_ends_no_thread(self, path: Path) -> None:
        log = open_log(path, retry_s=1000.0)

        async def scene() -> None:
            data, record = Issuer().record()
            with capture_logs() as said:
                with pytest.raises(LogUnwritable):
                    await log.append(2**70, data, record)  # no such number fits
                assert not log.writable
                await asyncio.to_thread(log.close)
            assert said[0]["event"] == "a fault in writing the purge log"

        play(log, scene())

    def test_what_waits_is_bounded_and_a_log_with_a_hole_takes_a_new_id(self, path: Path) -> None:
        disk, accounts = Disk(), Accounts()
        log = open_log(path, ledger=disk.ledger, accounts=accounts, waiting_bytes_max=1000)
        before = log.id

        async def scene() -> None:
            issuer = Issuer()
            disk.gate.clear()
            appended = [log.append(index, *issuer.record(tags("x" * 200))) for index in range(1, 9)]
            log.enqueue(9, *issuer.record())
            disk.gate.set()
            outcomes = await asyncio.gather(*appended, return_exceptions=True)
            kept = sum(outcome is None for outcome in outcomes)
            assert 0 < kept < 8
            assert all(outcome is None for outcome in outcomes[:kept])
            assert all(isinstance(outcome, LogUnwritable) for outcome in outcomes[kept:])
            assert figure(accounts, "banish_log_lost_total") == 9 - kept
            await log.append(10, *issuer.record())
            assert log.id == before

        play(log, scene())
        again = open_log(path)
        assert again.id != before
        again.close()

    def test_close_tries_once_more_and_then_gives_up(self, path: Path) -> None:
        disk = Disk()
        log = open_log(path, ledger=disk.ledger, retry_s=1000.0)

        async def scene() -> None:
            disk.broken = BROKEN
            with pytest.raises(LogUnwritable):
                await log.append(1, *Issuer().record())

        play(log, scene())
        again = open_log(path)
        assert again.last is None
        again.close()

    def test_an_operator_who_holds_the_lock_for_long_is_a_failure_that_passes(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("banish.store.ledger.BUSY_S", 0.01)
        log = open_log(path)

        async def scene() -> None:
            operator = sqlite3.connect(path, isolation_level=None)
            operator.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogUnwritable, match="locked"):
                await log.append(1, *Issuer().record())
            operator.execute("ROLLBACK")
            operator.close()
            await log.committed_past(0)

        play(log, scene())


class TestFoundAtStart:
    def test_a_log_keeps_its_id(self, path: Path) -> None:
        log = open_log(path)
        log.close()
        again = open_log(path)
        assert again.id == log.id
        assert len(log.id) == 16
        again.close()

    def test_logs_in_memory_have_ids_of_their_own(self) -> None:
        one, other = open_log(None), open_log(None)
        assert one.id != other.id
        one.close()
        other.close()

    def test_a_damaged_log_is_set_aside_and_another_begun(self, path: Path) -> None:
        path.write_bytes(b"this was never a database" * 1000)
        accounts = Accounts()
        log = open_log(path, accounts=accounts)
        play(log, TestTrimming().scene(log, floor=0))
        assert path.with_name("purges.sqlite.damaged-1").read_bytes().startswith(b"this was never")
        assert figure(accounts, "banish_log_renewed_total", "damaged") == 1

    def test_setting_aside_never_covers_what_was_set_aside_before(self, path: Path) -> None:
        path.write_bytes(b"one")
        first = set_aside(path)
        path.write_bytes(b"two")
        second = set_aside(path)
        assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")
        assert not path.exists()

    def test_a_log_of_a_later_release_is_refused(self, path: Path) -> None:
        open_log(path).close()
        with sqlite3.connect(path) as tables:
            tables.execute("PRAGMA user_version = 99")
        tables.close()
        with pytest.raises(ConfigError, match="later release"):
            open_log(path)

    def test_so_does_one_put_back_with_all_files_that_are_named_after_it(self, path: Path, tmp_path: Path) -> None:
        log = open_log(path)
        play(log, fill_and_copy(log, path, tmp_path / "copies"))
        for file in (tmp_path / "copies").iterdir():
            shutil.copy2(file, path.with_name(file.name))
        restored = open_log(path)
        assert restored.id != log.id
        restored.close()

    def test_an_older_copy_of_the_log_takes_a_new_id(self, path: Path, tmp_path: Path) -> None:
        log = open_log(path)
        play(log, TestTrimming().scene(log, floor=0, count=3))
        shutil.copy2(path, tmp_path / "copy")
        log = open_log(path)
        play(log, TestTrimming().scene(log, floor=0, count=1))
        shutil.copy2(tmp_path / "copy", path)
        accounts = Accounts()
        restored = open_log(path, accounts=accounts)
        assert restored.id != log.id
        assert figure(accounts, "banish_log_renewed_total", "behind") == 1
        restored.close()
        again = open_log(path)
        assert again.id == restored.id
        again.close()

    def test_a_path_that_cannot_be_used_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(LogUnwritable):
            open_log(tmp_path / "no such directory" / "purges.sqlite")

    def test_nobody_else_may_read_it(self, path: Path) -> None:
        open_log(path).close()
        assert path.stat().st_mode & 0o077 == 0


def test_a_log_that_cannot_be_read_finds_out_whether_it_can_be_written(path: Path) -> None:
    """Else a disk that is gone would have purges refused while hits are answered, and the metric says all is well."""
    disk = Disk()
    log = open_log(path, ledger=disk.ledger)

    async def scene() -> None:
        issuer = await fill(log, 1)
        values: asyncio.Queue[bool] = asyncio.Queue()
        log.on_change = values.put_nowait
        disk.broken = LogUnwritable("no disk")
        with mock.patch.object(Ledger, "with_key", side_effect=LogDamaged("no disk")):
            for _ in range(3):
                with pytest.raises(LogDamaged):
                    await log.find_key("key")
            assert await values.get() is False
        disk.broken = None
        assert await values.get() is True
        await fill(log, 1, issuer=issuer)

    play(log, scene())


def test_whoever_comes_when_the_log_is_closed_is_told_so(path: Path) -> None:
    """The admin listener outlives the log: an edge that is ending still answers."""
    log = open_log(path)

    async def scene() -> None:
        issuer = await fill(log, 3)
        await asyncio.to_thread(log.close)
        with pytest.raises(LogUnwritable, match="closed"):
            await log.append(4, *issuer.record())
        with pytest.raises(LogUnwritable, match="closed"):
            await log.find_key("key")

    play(log, scene())
