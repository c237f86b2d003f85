import asyncio
from pathlib import Path

import msgspec
import pytest

from banish.errors import IndexFailed, StoreError
from banish.purge.targets import tag_target
from banish.store import diskreads, diskwrites
from banish.store.disk import GIVE_UP_S, RETRY_S
from banish.store.diskwrites import DiskOutcome
from banish.store.index import Family
from banish.store.memory import VARIANTS_MAX
from banish.store.records import StoredResponse
from banish.testing.index import Call, busy, damage, disk_error, disk_full
from tests.looped import looped, settle
from tests.ondisk import LARGE, Disk, GatedIndex, opened, threads_idle, whole
from tests.stored import SITE, key_of, stored_response, url_of

QUEUES = (Family.OBJECTS, Family.TAGS, Family.EXPIRY, Family.ORDER, Family.SMALL)


def nothing_left(disk: Disk) -> bool:
    return not any(disk.rows(family) for family in QUEUES)


def renewed(old: StoredResponse, *, fence: int, **changes: object) -> StoredResponse:
    """What a 304 makes of a record."""
    meta = msgspec.structs.replace(old.meta, **changes)
    return StoredResponse(meta, old.body, fence=fence, clean_at=fence, serial=old.serial, hits=old.hits)


# Storing and loading


@looped
async def test_what_is_put_is_loaded_as_it_was(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        record = stored_response(body=b"small", tags=("t",), groups=("g",), vary=("x",), selecting=("1",))
        assert disk.store.put(record) is DiskOutcome.STORED
        (found,) = await disk.load()
        assert (found.meta, found.fence, found.serial) == (record.meta, record.fence, record.serial)
        assert await whole(found) == b"small"
        assert len(disk.store) == 1


@looped
async def test_an_empty_body_is_a_body(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response(body=b""))
        assert await disk.bodies() == [b""]


@looped
async def test_a_large_body_follows_in_a_file_and_takes_the_place_of_the_spools(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        record = stored_response(body=LARGE)
        assert disk.store.put(record) is DiskOutcome.WRITING
        assert not await disk.load()
        await disk.store.settled()
        assert disk.settled == [record]
        assert record.serial
        assert await disk.bodies() == [LARGE]
        assert not disk.rows(Family.SMALL)


@looped
async def test_all_variants_are_loaded_newest_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        for number, at in ((1, 5.0), (2, 9.0), (3, 7.0)):
            disk.store.put(stored_response(vary=("x",), selecting=(str(number),), received_at=1e9 + at))
        assert [record.meta.selecting for record in await disk.load()] == [("2",), ("3",), ("1",)]


@looped
async def test_the_oldest_variant_goes_for_one_too_many(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        for number in range(VARIANTS_MAX + 1):
            disk.store.put(stored_response(vary=("x",), selecting=(str(number),), received_at=1e9 + number))
        found = await disk.load()
        assert len(found) == len(disk.store) == VARIANTS_MAX
        assert ("0",) not in [record.meta.selecting for record in found]


@pytest.mark.parametrize("body", [b"small", LARGE])
@looped
async def test_the_same_variant_put_again_leaves_nothing_of_the_former(tmp_path: Path, body: bytes) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response(body=body, tags=("old",)))
        await disk.store.settled()
        former = disk.store._shelf.generations.bytes
        again = stored_response(body=body, tags=("new",))
        disk.store.put(again)
        await disk.store.settled()
        await threads_idle(disk)
        (found,) = await disk.load()
        assert found.serial == again.serial
        assert [len(disk.rows(family)) for family in QUEUES[:4]] == [1, 1, 1, 1]
        assert len(list(disk.files.names())) == (body is LARGE)
        assert disk.store._shelf.generations.bytes == former


@looped
async def test_removing_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        for body in (b"small", LARGE):
            record = stored_response(body=body, tags=("t", "u"), groups=("g",))
            disk.store.put(record)
            await disk.store.settled()
            disk.store.remove(record)
            await threads_idle(disk)
            assert nothing_left(disk)
            assert not list(disk.files.names())
            assert (len(disk.store), disk.store._shelf.generations.bytes) == (0, 0)


@looped
async def test_removing_takes_this_very_response_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        former, other = stored_response(), stored_response(vary=("x",), selecting=("1",))
        disk.store.put(former)
        disk.store.put(other)
        disk.store.put(again := stored_response(received_at=2e9))
        disk.store.remove(former)
        assert {record.serial for record in await disk.load()} == {again.serial, other.serial}


@looped
async def test_what_is_newer_than_the_url_on_disk_takes_its_rivals_along_even_if_it_is_not_let_in(
    tmp_path: Path,
) -> None:
    # RFC 9111 section 4: of several suitable responses the most recent is used. It must not go and leave older ones.
    async with opened(tmp_path, budget_bytes=2_000) as disk:
        disk.store.put(stored_response(vary=("x",), selecting=("1",)))
        disk.store.put(stored_response(vary=("x",), selecting=("2",)))
        assert disk.store.put(stored_response(body=b"." * 4000, received_at=2e9)) is DiskOutcome.TOO_LARGE
        assert not await disk.load()


@looped
async def test_a_key_that_was_never_stored_costs_no_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a"))
        assert disk.store.may_have(key_of("a"))
        assert not disk.store.may_have(key_of("b"))
        assert not disk.store.may_have("other#1 https://shop.example/a")


@looped
async def test_peek_tells_what_is_known_without_bodies(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        record = stored_response()
        disk.store.put(record)
        assert disk.store.peek(key_of("a")) == [record.meta]
        assert disk.store.peek(key_of("b")) == []


# After a 304 (rule 10)


@looped
async def test_rule_10_a_304_changes_fence_and_tags_in_one_batch_and_keeps_the_body(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        old = stored_response(tags=("old", "both"))
        disk.store.put(old)
        for _ in range(3):
            disk.purge([tag_target(SITE, "other")])
        new = renewed(old, fence=3, tags=("new", "both"))
        assert disk.store.replace(old, new) is DiskOutcome.STORED
        (found,) = await disk.load()
        assert (found.fence, found.serial, found.meta.tags) == (3, old.serial, ("new", "both"))
        assert len(disk.rows(Family.TAGS)) == 2
        disk.purge([tag_target(SITE, "old")])
        disk.sweep()
        assert len(disk.store) == 1
        disk.purge([tag_target(SITE, "new")])
        disk.sweep()
        assert nothing_left(disk)


@looped
async def test_a_304_while_the_body_is_on_its_way_is_what_gets_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        old = stored_response(body=LARGE, tags=("old",))
        disk.store.put(old)
        disk.purge()
        new = renewed(old, fence=1, tags=("new",))
        assert disk.store.replace(old, new) is DiskOutcome.WRITING
        await disk.store.settled()
        (found,) = await disk.load()
        assert (found.meta.tags, found.fence) == (("new",), 1)
        assert disk.settled == [new]


@looped
async def test_a_304_to_what_is_not_on_disk_stores_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        old = stored_response()
        assert disk.store.replace(old, renewed(old, fence=0)) is DiskOutcome.STORED
        assert await disk.bodies() == [b"hello"]


@looped
async def test_a_304_may_change_which_variant_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response(vary=("x",), selecting=("2",)))
        old = stored_response(vary=("x",), selecting=("1",))
        disk.store.put(old)
        disk.store.replace(old, renewed(old, fence=0, selecting=("2",)))
        (found,) = await disk.load()
        assert (found.serial, found.meta.selecting) == (old.serial, ("2",))


# Loads under way (rule 5)


@looped
async def test_rule_5_what_was_removed_during_a_load_does_not_come_back(tmp_path: Path) -> None:
    index = GatedIndex()
    async with opened(tmp_path, index=index) as disk:
        record = stored_response()
        disk.store.put(record)
        index.gated = True
        load = asyncio.create_task(disk.load())
        await index.arrived()
        disk.store.remove(record)
        index.let_go()
        assert await load == []
        assert disk.tally("banish_disk_loads_total")["again",] == 1


@looped
async def test_rule_5_what_was_replaced_during_a_load_is_read_again(tmp_path: Path) -> None:
    index = GatedIndex()
    async with opened(tmp_path, index=index) as disk:
        disk.store.put(stored_response(body=b"old"))
        index.gated = True
        load = asyncio.create_task(disk.bodies())
        await index.arrived()
        disk.store.put(stored_response(body=b"new"))
        index.let_go()
        assert await load == [b"new"]


@looped
async def test_rule_5_a_site_renewed_during_a_load_is_read_again(tmp_path: Path) -> None:
    index = GatedIndex()
    async with opened(tmp_path, index=index) as disk:
        disk.store.put(stored_response())
        index.gated = True
        load = asyncio.create_task(disk.load())
        await index.arrived()
        disk.store.renew(SITE)
        index.let_go()
        assert await load == []


@looped
async def test_rule_5_a_load_is_clean_up_to_the_floor_at_which_it_began(tmp_path: Path) -> None:
    index = GatedIndex()
    async with opened(tmp_path, index=index) as disk:
        disk.store.put(stored_response("a"))
        disk.purge([url_of("b")])
        disk.sweep()
        disk.settle_floor()
        index.gated = True
        load = asyncio.create_task(disk.load())
        await index.arrived()
        disk.purge([url_of("c")])
        disk.sweep()
        disk.settle_floor()
        index.let_go()
        (found,) = await load
        assert (found.fence, found.clean_at) == (0, 1)
        assert disk.table.floor == 2


@looped
async def test_a_url_that_changes_faster_than_it_is_read_is_a_miss(tmp_path: Path) -> None:
    index = GatedIndex()
    async with opened(tmp_path, index=index) as disk:
        disk.store.put(stored_response())
        index.gated = True
        load = asyncio.create_task(disk.load())
        for turn in range(diskreads.READS_MAX):
            await index.arrived()
            disk.store.put(stored_response())
            index.let_go(gated=turn + 1 < diskreads.READS_MAX)
        assert await load == []
        assert disk.tally("banish_disk_loads_total")["restless",] == 1


@looped
async def test_a_load_that_is_cancelled_leaves_nothing_behind(tmp_path: Path) -> None:
    index = GatedIndex()
    async with opened(tmp_path, index=index) as disk:
        disk.store.put(stored_response())
        index.gated = True
        load = asyncio.create_task(disk.load())
        await index.arrived()
        load.cancel()
        await settle()
        index.let_go()
        with pytest.raises(asyncio.CancelledError):
            await load
        assert not disk.store._shelf._readings
        assert len(await disk.load()) == 1


# Starting again (rules 2, 3, 6, 19)


@pytest.mark.parametrize("power", [False, True])
@looped
async def test_what_was_synced_is_there_after_a_crash(tmp_path: Path, power: bool) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a"))
        disk.store.put(stored_response("b", body=LARGE))
        await disk.store.settled()
        await disk.store.sync()
        disk.store.put(stored_response("c"))
        await disk.crash(power=power)
        assert await disk.bodies("a") == [b"hello"]
        assert await disk.bodies("b") == [LARGE]
        assert len(await disk.load("c")) == (not power)
        assert len(disk.store) == len(disk.rows(Family.ORDER))


@looped
async def test_rule_2_and_3_log_reservation_and_floor_are_remembered(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        assert (disk.store.log_id, disk.store.reserved, disk.store.floor) == (None, 0, 0)
        disk.store.bind("log-1")
        disk.store.reserve(100_000)
        await disk.crash(power=True)
        assert (disk.store.log_id, disk.store.reserved) == ("log-1", 100_000)
        disk.store.bind("")
        await disk.crash(power=True)
        assert disk.store.log_id is None


@looped
async def test_rule_3_deletes_and_floor_come_back_or_get_lost_together(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response())
        await disk.store.sync()
        disk.purge([url_of("a")])
        disk.sweep()
        disk.settle_floor()
        assert (disk.store.floor, disk.store.synced_floor) == (1, 0)
        await disk.crash(power=True)
        assert disk.store.floor == 0
        assert len(await disk.load()) == 1  # and the stamp, rebuilt from the log, still hits it
        assert disk.table.verdict((await disk.load())[0].names, 0).dead
        disk.sweep()
        disk.settle_floor()
        await disk.store.sync()
        assert disk.store.synced_floor == 1
        await disk.crash(power=True)
        assert disk.store.floor == 1
        assert not await disk.load()


@looped
async def test_rule_3_the_synced_floor_is_that_of_before_the_sync(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.purge([url_of("a")])
        disk.sweep()
        disk.settle_floor()
        syncing = asyncio.create_task(disk.store.sync())
        await asyncio.sleep(0)
        disk.purge([url_of("a")])
        disk.sweep()
        disk.settle_floor()
        await syncing
        assert (disk.store.floor, disk.store.synced_floor) == (2, 1)


@looped
async def test_rule_6_what_belongs_to_other_rules_is_dropped_and_not_taken(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        former = "shop#1 https://shop.example/a"
        disk.store.put(stored_response(former))
        disk.store.put(stored_response("other#1 https://other.example/a", body=LARGE, tags=("t",)))
        await disk.store.settled()
        disk.store.in_force(["shop#2"])
        assert not await disk.load(former)
        assert disk.store.put(stored_response(former)) is DiskOutcome.NO_SITE
        assert disk.store.put(stored_response("shop#2 https://shop.example/a")) is DiskOutcome.STORED
        while disk.store._shelf.generations.dropped:
            disk.sweep_once()
            await threads_idle(disk)
        assert [len(disk.rows(family)) for family in QUEUES] == [1, 0, 1, 1, 1]
        assert not list(disk.files.names())


@looped
async def test_rule_19_serials_are_never_given_twice(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        seen = set()
        for start in range(3):
            disk.store.reserve(start)  # as at every start, and it syncs
            disk.store.put(record := stored_response(body=LARGE))
            await disk.store.settled()
            assert record.serial not in seen
            seen.add(record.serial)
            await disk.crash(power=True)


@looped
async def test_rule_19_a_file_without_a_row_is_deleted_at_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.reserve(1)
        disk.store.put(stored_response("a", body=LARGE))
        await disk.store.settled()
        await disk.store.sync()
        disk.store.put(stored_response("b", body=LARGE))
        await disk.store.settled()
        await disk.crash(power=True)
        assert len(list(disk.files.names())) == 2
        disk.store.put(stored_response("c", body=LARGE))
        disk.store.start()
        await disk.store.settled()
        await threads_idle(disk)
        assert len(list(disk.files.names())) == 2
        assert await disk.bodies("a") == await disk.bodies("c") == [LARGE]


@looped
async def test_rule_19_an_index_that_begins_anew_finds_no_file_in_its_way(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a", body=LARGE))
        await disk.store.settled()
    async with opened(tmp_path) as disk:
        assert not await disk.load("a")
        disk.store.put(stored_response("a", body=LARGE))
        await disk.store.settled()
        disk.store.start()
        await threads_idle(disk)
        assert await disk.bodies("a") == [LARGE]
        assert len(list(disk.files.names())) == 1


@pytest.mark.parametrize("power", [False, True])
@looped
async def test_emptying_is_durable_and_leaves_nothing(tmp_path: Path, power: bool) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a", tags=("t",)))
        disk.store.put(stored_response("b", body=LARGE))
        await disk.store.settled()
        await disk.store.sync()
        disk.store.empty()
        assert nothing_left(disk)
        await disk.crash(power=power)
        assert nothing_left(disk)
        assert len(disk.store) == 0
        while disk.store._shelf.generations.dropped:
            disk.sweep_once()
            await threads_idle(disk)
        assert not list(disk.files.names())


# Damage


@looped
async def test_a_damaged_row_is_a_miss_and_goes(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response())
        disk.overwrite(Family.OBJECTS, b"\x01garbage")
        assert not await disk.load()
        assert disk.tally("banish_disk_damaged_total") == {(): 1}
        assert not disk.rows(Family.OBJECTS)
        disk.store.put(stored_response(body=b"again"))
        assert await disk.bodies() == [b"again"]


@looped
async def test_a_damaged_body_takes_its_variant_along_and_no_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response(vary=("x",), selecting=("1",)))
        disk.overwrite(Family.SMALL, b"\x01garbage")
        disk.store.put(stored_response(vary=("x",), selecting=("2",)))
        assert [record.meta.selecting for record in await disk.load()] == [("2",)]
        assert len(disk.store) == len(disk.rows(Family.ORDER)) == 1
        assert disk.tally("banish_disk_damaged_total") == {(): 1}


@looped
async def test_a_missing_file_is_found_out_by_its_reader_and_then_a_miss(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response(body=LARGE))
        await disk.store.settled()
        ((gen, serial),) = disk.files.names()
        disk.files.unlink(gen, serial)
        (found,) = await disk.load()
        with pytest.raises(StoreError):
            await whole(found)
        assert not found.body.accepts_readers
        disk.store.remove(found)
        assert not await disk.load()


@looped
async def test_a_row_that_cannot_be_read_now_is_a_miss(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response())
        disk.twin.fail(Call.READ, disk_error())
        assert not await disk.load()
        assert disk.tally("banish_disk_loads_total")["failed",] == 1
        assert len(await disk.load()) == 1


@looped
async def test_a_damaged_block_of_bodies_costs_those_that_are_in_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response(vary=("x",), selecting=("1",)))
        disk.store.put(stored_response(vary=("x",), selecting=("2",)))
        disk.twin.fail(Call.READ, damage(), after=1)  # the bodies, together
        disk.twin.fail(Call.READ, damage(), after=2)  # the first of them
        assert len(await disk.load()) == 1


@looped
async def test_a_damaged_row_met_by_a_change_is_taken_for_empty(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response(vary=("x",), selecting=("1",)))
        disk.twin.fail(Call.READ, damage())
        assert disk.store.put(stored_response(body=b"new")) is DiskOutcome.STORED
        assert await disk.bodies() == [b"new"]
        assert disk.tally("banish_disk_damaged_total") == {(): 1}


@looped
async def test_what_cannot_be_deleted_for_damage_holds_up_nothing_else(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a"))
        disk.store.put(stored_response("b"))
        disk.twin.fail(Call.WRITE, busy())
        disk.store.put(stored_response("a"))  # owed now
        index = disk.purge([url_of("b")])
        for _ in range(3):
            disk.twin.fail(Call.READ, disk_error())
            disk.store.sweep(0.0, disk.clock.monotonic)
        assert disk.store.has_swept(index)


# The disk fails


@looped
async def test_a_full_disk_is_left_alone_and_tried_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a"))
        disk.twin.fail(Call.WRITE, disk_full())
        assert disk.store.put(stored_response("b")) is DiskOutcome.FAILED
        assert disk.store.failed
        assert disk.store.put(stored_response("c")) is DiskOutcome.FAILED
        assert not await disk.load("a")
        assert not disk.store.may_have(key_of("a"))
        await disk.recover()
        assert not disk.store.failed
        assert len(await disk.load("a")) == 1
        assert disk.store.put(stored_response("c")) is DiskOutcome.STORED


@looped
async def test_what_is_renewed_while_its_row_cannot_be_read_is_not_as_before_once_it_can(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        old = stored_response()
        disk.store.put(old)
        disk.twin.fail(Call.READ, damage())
        disk.store.replace(old, renewed(old, fence=0, status=203))
        assert [record.meta.status for record in await disk.load("a")] == [203]
        assert len(disk.store) == 1


@looped
async def test_a_disk_that_cannot_be_opened_again_is_tried_every_so_often(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.twin.fail(Call.WRITE, disk_full())
        disk.store.put(stored_response())
        disk.failing_opens = 2
        for tries in (1, 2):
            await disk.recover()
            assert disk.store.failed
            assert disk.tally("banish_disk_reopened_total") == {("failed",): tries}
            await disk.recover(advance_s=RETRY_S / 2)  # not yet
            assert disk.tally("banish_disk_reopened_total") == {("failed",): tries}
        await disk.recover()
        assert not disk.store.failed


@looped
async def test_a_disk_that_stays_failed_is_given_up_and_emptied_before_it_is_used(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a"))
        disk.store.put(stored_response("b"))
        disk.twin.fail(Call.WRITE, disk_full())
        disk.store.put(stored_response("c"))
        disk.failing_opens = 2
        index = disk.purge([url_of("a")])
        await disk.recover()
        disk.settle_floor()
        assert (disk.store.swept, disk.store.synced_floor, disk.store.has_swept(index)) == (0, 0, False)
        await disk.recover(advance_s=GIVE_UP_S)
        assert disk.store.failed
        assert disk.tally("banish_disk_given_up_total") == {(): 1}
        disk.settle_floor()
        assert (disk.store.swept, disk.store.synced_floor, disk.store.has_swept(index)) == (index, index, True)
        assert (disk.table.floor, len(disk.table)) == (index, 0)
        await disk.recover()
        assert (disk.store.failed, disk.store.given_up) == (False, False)
        assert (len(disk.store), await disk.load("b")) == (0, [])
        assert disk.store.put(stored_response("d", fence=index)) is DiskOutcome.STORED
        later = disk.purge([url_of("d")])
        assert not disk.store.has_swept(later)
        disk.sweep()
        assert (disk.store.swept, len(disk.store)) == (later, 0)


@looped
async def test_a_disk_given_up_before_purges_came_is_used_again_as_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a"))
        disk.twin.fail(Call.WRITE, disk_full())
        disk.store.put(stored_response("b"))
        disk.failing_opens = 2
        await disk.recover()
        await disk.recover(advance_s=GIVE_UP_S)
        assert disk.store.given_up
        await disk.recover()
        assert len(await disk.load("a")) == 1


@looped
async def test_a_soft_purge_that_can_be_taken_back_is_not_swept_by_giving_the_disk_up(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("a"))
        disk.twin.fail(Call.WRITE, disk_full())
        disk.store.put(stored_response("b"))
        disk.failing_opens = 2
        index = disk.purge(soft=[url_of("a")])
        await disk.recover()
        await disk.recover(advance_s=GIVE_UP_S)
        assert disk.store.given_up
        assert not disk.store.has_swept(index)
        disk.store.release_soft(index)
        assert disk.store.has_swept(index)


@pytest.mark.parametrize("change", ["put", "replace", "remove"])
@looped
async def test_what_should_have_gone_while_the_disk_failed_is_never_found_again(tmp_path: Path, change: str) -> None:
    async with opened(tmp_path) as disk:
        old = stored_response(body=b"old")
        disk.store.put(old)
        disk.twin.fail(Call.WRITE, disk_full())
        disk.store.put(stored_response("b"))
        if change == "put":
            disk.store.put(stored_response(body=b"new"))
        elif change == "replace":
            disk.store.replace(old, renewed(old, fence=0, status=203))
        else:
            disk.store.remove(old)
        await disk.recover()
        assert not await disk.load()
        disk.sweep()
        assert not await disk.load()
        disk.store.put(stored_response(body=b"new"))
        assert await disk.bodies() == [b"new"]


@looped
async def test_too_much_to_remember_empties_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diskwrites, "OWED_MAX", 2)
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response("kept"))
        disk.twin.fail(Call.WRITE, disk_full())
        for name in "abcd":
            disk.store.put(stored_response(name))
        await disk.recover()
        assert not await disk.load("kept")
        disk.sweep()
        assert not disk.rows(Family.OBJECTS)
        assert disk.store.put(stored_response("a")) is DiskOutcome.STORED
        assert len(await disk.load("a")) == 1


@looped
async def test_a_disk_that_does_not_keep_up_refuses_and_hides_what_it_should_have_replaced(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response(body=b"old"))
        used = disk.store._shelf.generations.bytes
        disk.twin.fail(Call.WRITE, busy())
        assert disk.store.put(stored_response(body=b"new")) is DiskOutcome.FAILED
        assert not disk.store.failed
        assert disk.store._shelf.generations.bytes == used
        assert not await disk.load()
        disk.sweep()
        assert nothing_left(disk)
        assert disk.store._shelf.generations.bytes == 0


@looped
async def test_a_failed_sync_is_a_failure(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.purge([url_of("a")])
        disk.sweep()
        disk.settle_floor()
        disk.twin.fail(Call.SYNC, disk_error())
        with pytest.raises(IndexFailed):
            await disk.store.sync()
        assert disk.store.failed
        assert disk.store.synced_floor == 0
        with pytest.raises(IndexFailed):
            disk.store.persist_floor(1)


@looped
async def test_rule_3_an_index_that_comes_back_older_than_the_stamps_is_emptied(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response())
        await disk.store.sync()
        disk.purge([url_of("a")])
        disk.sweep()
        disk.settle_floor()
        disk.twin.fail(Call.WRITE, disk_full())
        disk.store.put(stored_response("b", fence=1))
        disk.twin.cut_back()
        await disk.recover()
        assert not await disk.load()
        assert disk.store.floor == disk.table.floor == 1


@looped
async def test_an_index_that_lost_deletions_above_the_floor_is_swept_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(stored_response())
        await disk.store.sync()
        disk.purge([url_of("a")])
        disk.sweep()
        assert disk.store.swept == 1
        disk.twin.fail(Call.WRITE, disk_full())
        disk.store.put(stored_response("b", fence=1))
        disk.twin.cut_back()
        assert len(disk.rows(Family.ORDER)) == 1
        await disk.recover()
        disk.sweep()
        assert disk.store.swept == 1
        assert nothing_left(disk)


@looped
async def test_after_a_failure_no_serial_is_given_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        disk.store.put(first := stored_response("a"))
        disk.twin.fail(Call.WRITE, disk_full())
        disk.store.put(stored_response("b"))
        disk.twin.cut_back()
        await disk.recover()
        disk.store.put(second := stored_response("a"))
        assert second.serial > first.serial
