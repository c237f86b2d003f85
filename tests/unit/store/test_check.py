from pathlib import Path

import pytest

from banish.errors import IndexFailed
from banish.store.check import Fault, Report, check_index, check_store
from banish.store.files import BodyFiles
from banish.store.index import Batch, Family, Index
from banish.store.rocks import open_index
from banish.store.rows import encode_meta, order_key, site_key, small_key
from banish.tables import Accounts
from tests.looped import looped
from tests.ondisk import LARGE, Disk, opened
from tests.stored import SITE, stored_response


async def fill(disk: Disk) -> None:
    for number in range(5):
        disk.store.put(stored_response(str(number), tags=("t", f"u{number}"), groups=("g",)))
    disk.store.put(stored_response("0", vary=("x",), selecting=("1",)))
    disk.store.put(stored_response("large", body=LARGE))
    disk.store.reserve(100)
    await disk.store.settled()


def checked(disk: Disk, *, repair: bool = False) -> Report:
    report = Report()
    check_index(disk.index, disk.files, report, repair=repair)
    return report


def first(disk: Disk, family: Family) -> bytes:
    return next(iter(disk.rows(family)))


def delete(disk: Disk, family: Family, key: bytes) -> None:
    batch = Batch()
    batch.delete(family, key)
    disk.index.write(batch)


def put(disk: Disk, family: Family, key: bytes, value: bytes) -> None:
    batch = Batch()
    batch.put(family, key, value)
    disk.index.write(batch)


@looped
async def test_a_store_in_use_is_sound(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        await fill(disk)
        report = checked(disk)
        assert report.sound
        assert (report.responses, report.bytes) == (7, disk.store._shelf.generations.bytes)
        disk.store.renew(SITE)
        disk.store.put(stored_response("a"))
        assert checked(disk).sound  # though much is yet to be cleared away


def break_row(disk: Disk) -> None:
    put(disk, Family.OBJECTS, first(disk, Family.OBJECTS), b"\x01garbage")


def break_body(disk: Disk) -> None:
    put(disk, Family.SMALL, first(disk, Family.SMALL), b"\x01garbage")


def lose_body(disk: Disk) -> None:
    delete(disk, Family.SMALL, first(disk, Family.SMALL))


def break_file(disk: Disk) -> None:
    ((gen, serial),) = disk.files.names()
    path = disk.files.path(gen, serial)
    path.write_bytes(b"!" + path.read_bytes()[1:])


def lose_file(disk: Disk) -> None:
    disk.files.unlink(*next(disk.files.names()))


def lose_tag(disk: Disk) -> None:
    delete(disk, Family.TAGS, first(disk, Family.TAGS))


def lose_place_in_queue(disk: Disk) -> None:
    delete(disk, Family.ORDER, first(disk, Family.ORDER))


def lead_nowhere(disk: Disk) -> None:
    put(disk, Family.ORDER, order_key(99), disk.rows(Family.ORDER)[order_key(1)])


def leave_a_body(disk: Disk) -> None:
    put(disk, Family.SMALL, small_key(1, 99), b"\x01whatever")


def leave_a_row(disk: Disk) -> None:
    put(disk, Family.OBJECTS, b"\0\0\0\x63example\0/\0https", b"\x01whatever")


def leave_a_file(disk: Disk) -> None:
    disk.files.keep(1, 99, stored_response(body=b"nobody's").body)


def miscount(disk: Disk) -> None:
    generation = next(iter(disk.store._shelf.generations))
    generation.bytes += 1
    batch = Batch()
    disk.store._shelf.generations.save(batch, generation)
    disk.index.write(batch)


def forget_the_reservation(disk: Disk) -> None:
    put(disk, Family.META, b"reserved", encode_meta(-1))


BREAKAGES = [
    (break_row, Fault.ROW),
    (break_body, Fault.BODY),
    (lose_body, Fault.BODY),
    (break_file, Fault.BODY),
    (lose_file, Fault.BODY),
    (lose_tag, Fault.MISSING),
    (lose_place_in_queue, Fault.MISSING),
    (lead_nowhere, Fault.DANGLING),
    (leave_a_body, Fault.DANGLING),
    (leave_a_row, Fault.DANGLING),
    (leave_a_file, Fault.ORPHAN),
    (miscount, Fault.COUNT),
    (forget_the_reservation, Fault.FENCE),
]


@pytest.mark.parametrize(("breakage", "fault"), BREAKAGES, ids=[breakage.__name__ for breakage, _ in BREAKAGES])
@looped
async def test_each_fault_is_found_told_and_repaired(tmp_path: Path, breakage: object, fault: Fault) -> None:
    assert callable(breakage)
    async with opened(tmp_path) as disk:
        await fill(disk)
        breakage(disk)
        before = {family: disk.rows(family) for family in Family}
        report = checked(disk)
        assert not report.sound
        assert report.faults[fault] > 0
        assert report.examples[fault]
        assert {family: disk.rows(family) for family in Family} == before
        assert checked(disk, repair=True).sound
        again = checked(disk)
        assert again.sound
        assert not again.faults
        assert again.responses >= (0 if fault is Fault.FENCE else 5)


@looped
async def test_an_index_that_does_not_say_what_is_in_it_is_emptied(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        await fill(disk)
        put(disk, Family.META, site_key("shop#0123456789ab"), b"\x01\xc1")
        assert checked(disk).faults == {Fault.INDEX: 1}
        report = checked(disk, repair=True)
        assert report.emptied
        assert report.sound
        assert not any(disk.rows(family) for family in Family)
        assert not list(disk.files.names())


@looped
async def test_the_rest_is_as_good_as_before_after_a_repair(tmp_path: Path) -> None:
    async with opened(tmp_path) as disk:
        await fill(disk)
        break_row(disk)
        lose_tag(disk)
        checked(disk, repair=True)
        await disk.crash()
        found = [len(await disk.load(name)) for name in ("0", "1", "2", "3", "4", "large")]
        assert found == [0, 1, 1, 1, 1, 1]
        assert len(disk.store) == 5


# By way of the data directory


def a_data_directory(path: Path) -> Index:
    path.mkdir()
    return open_index(path / "index")


@looped
async def test_a_data_directory_is_checked_while_no_edge_is_running(tmp_path: Path) -> None:
    index = a_data_directory(tmp_path / "data")
    async with opened(tmp_path / "data", index=index) as disk:
        await fill(disk)
        with pytest.raises(IndexFailed):
            check_store(tmp_path / "data", repair=False)
    seen: list[str] = []
    report = check_store(tmp_path / "data", repair=False, progress=lambda what, done, of: seen.append(what))
    assert (report.sound, report.responses) == (True, 7)
    assert "responses" in seen


def test_where_nothing_is_stored_nothing_is_wrong(tmp_path: Path) -> None:
    assert check_store(tmp_path, repair=True).sound
    assert not list(tmp_path.iterdir())


def test_an_index_that_cannot_be_opened_is_emptied_by_a_repair(tmp_path: Path) -> None:
    a_data_directory(tmp_path / "data").close()
    BodyFiles(tmp_path / "data" / "bodies", accounts=Accounts()).keep(1, 1, stored_response().body)
    for manifest in (tmp_path / "data" / "index").glob("MANIFEST-*"):
        manifest.write_bytes(b"")
    report = check_store(tmp_path / "data", repair=False)
    assert (report.sound, report.faults) == (False, {Fault.INDEX: 1})
    report = check_store(tmp_path / "data", repair=True)
    assert (report.sound, report.emptied) == (True, True)
    assert not list(BodyFiles(tmp_path / "data" / "bodies", accounts=Accounts()).names())
    assert check_store(tmp_path / "data", repair=False).sound
