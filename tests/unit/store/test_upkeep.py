from pathlib import Path

import pytest

from banish.store import upkeep
from banish.store.diskwrites import DiskOutcome
from banish.store.edits import STALE_KEPT_S
from banish.store.index import Batch, Family
from banish.store.rows import encode_pointer, order_key
from banish.testing.index import Call, busy, damage
from tests.looped import looped
from tests.ondisk import LARGE, NOW, Disk, opened, threads_idle
from tests.stored import SITE, key_of, stored_response

BODY = b"." * 1000


async def there(disk: Disk, names: range) -> list[int]:
    """Which of these are stored."""
    return [number for number in names if disk.store.peek(key_of(str(number)))]


def fill(disk: Disk, names: range) -> None:
    """Store responses that are each worth being let in."""
    for number in names:
        record = stored_response(str(number), body=BODY)
        record.hits = 1
        assert disk.store.put(record) is DiskOutcome.STORED


# Room


@looped
async def test_the_budget_holds_whatever_is_stored(tmp_path: Path) -> None:
    async with opened(tmp_path, budget_bytes=20_000) as disk:
        for number in range(100):
            record = stored_response(str(number), body=b"." * (number * 37 % 3000), tags=("t",) * (number % 3))
            record.hits = 1
            disk.store.put(record)
            assert disk.store._writes.used_bytes <= 20_000
        assert len(disk.store) > 5
        assert len(disk.store) == len(disk.rows(Family.ORDER)) == len(disk.rows(Family.SMALL))


@looped
async def test_what_nobody_asked_for_goes_first_and_the_rest_keeps_its_place(tmp_path: Path) -> None:
    async with opened(tmp_path, budget_bytes=14_000) as disk:
        fill(disk, range(8))
        (record,) = await disk.load("2")
        disk.store.touch(record)
        fill(disk, range(8, 12))
        left = await there(disk, range(12))
        assert 2 in left
        assert not {0, 1, 3} & set(left)


@looped
async def test_the_hand_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path, budget_bytes=14_000) as disk:
        fill(disk, range(12))
        hand = disk.store._upkeep.sieve.hand
        assert hand > 0
        await disk.crash()
        assert disk.store._upkeep.sieve.hand == hand


@looped
async def test_once_full_only_who_was_seen_before_is_let_in(tmp_path: Path) -> None:
    async with opened(tmp_path, budget_bytes=14_000) as disk:
        fill(disk, range(10))
        assert disk.store.put(stored_response("new", body=BODY)) is DiskOutcome.STRANGER
        assert disk.store.put(stored_response("new", body=BODY)) is DiskOutcome.STORED  # asked for again
        left = await there(disk, range(10))
        assert disk.store.put(stored_response(str(left[-1]), body=BODY)) is DiskOutcome.STORED  # is there already


@looped
async def test_a_scan_leaves_alone_what_is_in_use(tmp_path: Path) -> None:
    async with opened(tmp_path, budget_bytes=14_000) as disk:
        fill(disk, range(6))
        for number in range(1000):
            disk.store.put(stored_response(f"scan {number}", body=BODY))
            disk.sweep_once()
        assert await there(disk, range(6)) == list(range(6))


@looped
async def test_a_large_body_that_goes_takes_its_file_along_and_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path, budget_bytes=150_000) as disk:
        for name in "abcd":
            record = stored_response(name, body=LARGE)
            record.hits = 1
            disk.store.put(record)
            await disk.store.settled()
            disk.sweep()
            await disk.store.settled()
        await threads_idle(disk)
        assert [key for key, _ in disk.unfiled] == [key_of("a")]
        assert len(list(disk.files.names())) == len(disk.store) == 3
        assert disk.tally("banish_disk_removed_total")["evicted",] == 1


@looped
async def test_an_elder_rival_does_not_outlive_what_is_newer(tmp_path: Path) -> None:
    async with opened(tmp_path, budget_bytes=14_000) as disk:
        elder = stored_response("0", body=BODY, vary=("x",), selecting=("1",))
        disk.store.put(newer := stored_response("0", body=BODY, received_at=2e9))
        disk.store.put(elder)  # was evicted from memory later than it
        assert newer.serial < elder.serial
        assert len(await disk.load("0")) == 2
        fill(disk, range(1, 9))
        assert not disk.store.peek(key_of("0"))


@looped
async def test_an_elder_that_went_with_what_is_newer_is_counted_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        elder = stored_response("0", body=BODY, vary=("x",), selecting=("1",))
        disk.store.put(stored_response("0", body=BODY, received_at=2e9))
        disk.store.put(elder)
        fill(disk, range(1, 3))
        disk.store._upkeep.evict(0, 3)
        assert len(disk.store) == len(disk.rows(Family.ORDER)) == 1


@looped
async def test_rows_of_the_queue_that_lead_nowhere_go_when_the_hand_meets_them(tmp_path: Path) -> None:
    async with opened(tmp_path, budget_bytes=14_000) as disk:
        fill(disk, range(1))
        batch = Batch()
        batch.put(Family.ORDER, order_key(0) + b"odd", b"\x01nothing")
        batch.put(Family.ORDER, order_key(0), encode_pointer(b"\0\0\0\x63another generation's"))
        disk.index.write(batch)
        fill(disk, range(1, 30))
        assert len(disk.rows(Family.ORDER)) == len(disk.store)
        assert disk.tally("banish_disk_dangling_total")["order",] == 2


@looped
async def test_if_no_room_can_be_made_nothing_is_let_in(tmp_path: Path) -> None:
    async with opened(tmp_path, budget_bytes=14_000) as disk:
        fill(disk, range(10))
        record = stored_response("new", body=BODY * 3)
        record.hits = 1
        disk.twin.fail(Call.WRITE, busy())
        assert disk.store.put(record) is DiskOutcome.FAILED
        assert not disk.store.failed
        disk.sweep()
        assert disk.store.put(record) is DiskOutcome.STORED


@looped
async def test_what_was_scrapped_unread_is_counted_out_when_the_hand_meets_it(tmp_path: Path) -> None:
    async with opened(tmp_path, budget_bytes=14_000) as disk:
        fill(disk, range(8))
        disk.overwrite(Family.OBJECTS, b"\x01garbage")
        for number in range(8):
            assert not await disk.load(str(number))
        assert len(disk.store) == 8  # as far as it knows
        fill(disk, range(100, 130))
        assert len(disk.store) == len(disk.rows(Family.ORDER)) == len(disk.rows(Family.SMALL)) > 5


# Time


@looped
async def test_what_is_of_no_more_use_goes(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("early"))
        disk.store.put(stored_response("late", received_at=NOW + 500, tags=("t",)))
        disk.clock.advance(600 + STALE_KEPT_S - 2)
        disk.sweep()
        assert len(disk.store) == 2
        disk.clock.advance(2)
        disk.sweep()
        assert not await disk.load("early")
        assert len(await disk.load("late")) == 1
        disk.clock.advance(501)
        disk.sweep()
        assert not any(disk.rows(family) for family in Family if family is not Family.META)
        assert disk.tally("banish_disk_removed_total") == {("expired",): 2}


@looped
async def test_a_moment_that_moved_is_minded(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a"))
        disk.store.put(stored_response("a", received_at=NOW + 5000))
        disk.clock.advance(600 + STALE_KEPT_S + 10)
        disk.sweep()
        assert len(await disk.load("a")) == 1


# Dropped generations


@looped
async def test_a_dropped_generation_leaves_nothing_after_a_while_restarts_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "CLEAR_SLICE", 4)
    async with opened(tmp_path) as disk:
        fill(disk, range(20))
        disk.store.put(stored_response("large", body=LARGE))
        await disk.store.settled()
        disk.store.renew(SITE)
        fill(disk, range(3))
        assert len(disk.rows(Family.ORDER)) == 24
        disk.store.sweep(0.0, disk.clock.monotonic)
        await disk.crash()
        assert disk.store._shelf.generations.dropped
        while disk.store._shelf.generations.dropped:
            disk.sweep_once()
            await threads_idle(disk)
        assert len(disk.rows(Family.ORDER)) == len(disk.rows(Family.EXPIRY)) == 3
        assert not list(disk.files.names())
        assert len(disk.rows(Family.META)) == 3  # serials, generations, the site


@looped
async def test_clearing_up_that_meets_an_error_begins_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        fill(disk, range(3))
        disk.store.renew(SITE)
        disk.twin.fail(Call.READ, damage())
        assert not disk.store.sweep(1.0, disk.clock.monotonic).idle
        while disk.store._shelf.generations.dropped:
            disk.sweep_once()
            await threads_idle(disk)
        assert not disk.rows(Family.ORDER)
