import asyncio
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from banish.errors import IndexFailed, StoreError
from banish.purge.targets import everything_target
from banish.store import writebehind
from banish.store.diskwrites import DiskOutcome
from banish.store.files import BodyFiles, Content, StoredFile
from banish.store.index import Family
from banish.store.records import StoredResponse
from banish.testing.index import Call, busy, disk_full
from tests.looped import looped, settle
from tests.ondisk import LARGE, Disk, opened, threads_idle
from tests.stored import SITE, stored_response, url_of


def nothing_kept(disk: Disk) -> bool:
    return not list(disk.files.names()) and not disk.rows(Family.OBJECTS) and not disk.rows(Family.ORDER)


async def ended(disk: Disk) -> None:
    await disk.store.settled()
    await threads_idle(disk)


@looped
async def test_rule_5_a_purge_while_the_body_is_on_its_way_keeps_it_out(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response(body=LARGE))
        disk.purge([url_of("a")])
        disk.sweep()
        await ended(disk)
        assert nothing_kept(disk)
        assert not disk.settled
        assert disk.tally("banish_disk_puts_total") == {("writing",): 1, ("purged",): 1}


@looped
async def test_rule_5_a_floor_that_has_passed_the_base_keeps_it_out(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response(body=LARGE))
        disk.purge([url_of("another")])
        disk.sweep()
        disk.settle_floor()
        await ended(disk)
        assert nothing_kept(disk)


@looped
async def test_rule_5_a_purge_of_another_does_not(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response(body=LARGE))
        disk.purge([url_of("another")])
        await ended(disk)
        assert await disk.bodies() == [LARGE]


@looped
async def test_rule_16_work_for_the_old_generation_writes_into_neither(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response(body=LARGE))
        disk.purge([everything_target(SITE)])
        await ended(disk)
        assert nothing_kept(disk)


@looped
async def test_a_site_renewed_for_another_reason_keeps_it_out_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response(body=LARGE))
        disk.store.renew(SITE)
        await ended(disk)
        assert nothing_kept(disk)
        assert disk.tally("banish_disk_puts_total")["gone",] == 1


@pytest.mark.parametrize("how", ["removed", "replaced by a small one", "superseded by one that is not let in"])
@looped
async def test_what_is_gone_before_it_was_written_stays_gone(tmp_path: Path, how: str) -> None:
    async with opened(tmp_path, budget_bytes=1 << 17) as disk:
        record = stored_response(body=LARGE, vary=("x",), selecting=("1",))
        disk.store.put(record)
        if how == "removed":
            disk.store.remove(record)
        elif how == "replaced by a small one":
            disk.store.put(stored_response(body=b"small", vary=("x",), selecting=("1",)))
        else:
            disk.store.put(stored_response(body=b"." * (1 << 18)))
        await ended(disk)
        assert await disk.bodies() == ([b"small"] if how == "replaced by a small one" else [])
        assert not list(disk.files.names())


@pytest.mark.parametrize("trouble", [disk_full, busy])
@looped
async def test_what_could_not_be_replaced_for_trouble_does_not_arrive_after_all(
    tmp_path: Path, trouble: Callable[[], IndexFailed]
) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("b"))
        disk.store.put(stored_response(body=LARGE))
        disk.twin.fail(Call.WRITE, trouble())
        assert disk.store.put(stored_response(body=b"newer")) is DiskOutcome.FAILED
        await disk.recover()
        await ended(disk)
        disk.sweep()
        assert not await disk.load()
        assert not list(disk.files.names())


@looped
async def test_the_newer_of_two_on_their_way_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response(body=LARGE))
        disk.store.put(stored_response(body=LARGE + b"!"))
        await ended(disk)
        assert await disk.bodies() == [LARGE + b"!"]
        assert len(list(disk.files.names())) == 1


@looped
async def test_too_many_on_their_way_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writebehind, "WRITES_MAX", 2)
    async with opened(tmp_path) as disk:
        outcomes = [disk.store.put(stored_response(name, body=LARGE)) for name in "abc"]
        assert outcomes == [DiskOutcome.WRITING, DiskOutcome.WRITING, DiskOutcome.BUSY]
        await ended(disk)
        assert len(disk.store) == 2


@looped
async def test_a_body_waits_until_room_is_made_for_it(tmp_path: Path) -> None:
    async with opened(tmp_path, budget_bytes=200_000) as disk:
        for number in range(40):
            disk.store.put(stored_response(str(number), body=b"." * 5000))
        record = stored_response("large", body=b"." * 150_000)
        assert disk.store.put(record) is DiskOutcome.STRANGER
        assert disk.store.put(record) is DiskOutcome.WRITING
        await ended(disk)
        assert not await disk.load("large")
        disk.sweep()
        await ended(disk)
        assert len(await disk.load("large")) == 1
        assert disk.store._writes.used_bytes <= 200_000


@looped
async def test_a_file_that_cannot_be_written_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(files: BodyFiles, gen: int, serial: int, body: Content) -> StoredFile:
        raise StoreError("no space left")

    async with opened(tmp_path) as disk:
        monkeypatch.setattr(BodyFiles, "keep", full)
        disk.store.put(stored_response(body=LARGE))
        await ended(disk)
        assert nothing_kept(disk)
        assert len(disk.store._writes.behind) == 0
        assert not disk.store.failed


@looped
async def test_a_row_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("small"))
        disk.store.put(stored_response(body=LARGE))
        disk.twin.fail(Call.WRITE, disk_full())
        await ended(disk)
        assert disk.store.failed
        assert not list(disk.files.names())
        await disk.recover()
        assert not await disk.load()


@looped
async def test_what_is_on_its_way_when_the_edge_stops_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as disk:
        gate, keep = Event(), BodyFiles.keep

        def slow(files: BodyFiles, gen: int, serial: int, body: Content) -> StoredFile:
            assert gate.wait(30)
            return keep(files, gen, serial, body)

        monkeypatch.setattr(BodyFiles, "keep", slow)
        record: StoredResponse = stored_response(body=LARGE)
        disk.store.put(record)
        stopping = asyncio.create_task(disk.store.settled())
        await settle()
        assert not stopping.done()
        gate.set()
        await stopping
        assert record.serial
