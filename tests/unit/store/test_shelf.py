from pathlib import Path

import pytest

from banish.errors import IndexBusy, IndexFailed
from banish.store.files import BodyFiles
from banish.store.shelf import Shelf
from banish.tables import Accounts
from banish.testing.index import Call, MemoryIndex, busy, disk_full
from tests.stored import key_of


@pytest.fixture
def index() -> MemoryIndex:
    return MemoryIndex()


@pytest.fixture
def shelf(index: MemoryIndex, tmp_path: Path) -> Shelf:
    accounts = Accounts()
    shelf = Shelf(index, BodyFiles(tmp_path, accounts=accounts), accounts, lambda key, serial: None)
    shelf.open(key_of("a"), 0)
    return shelf


def test_a_read_is_of_yesterday_once_its_url_has_changed(shelf: Shelf) -> None:
    a, b = shelf.place(key_of("a")), shelf.place(key_of("b"))
    assert a is not None
    assert b is not None
    reading, other = shelf.begin(a), shelf.begin(b)
    edit = shelf.edit()
    edit.scrap(a)
    shelf.commit(edit)
    assert not shelf.end(reading)
    assert shelf.end(other)
    assert shelf.end(shelf.begin(a))


def test_a_read_is_of_yesterday_once_its_generation_was_dropped(shelf: Shelf) -> None:
    place = shelf.place(key_of("a"))
    assert place is not None
    reading = shelf.begin(place)
    shelf.drop(shelf.generations, renewed_at=0)
    assert not shelf.end(reading)
    assert shelf.place(key_of("a")) not in (None, place)


def test_after_a_failure_nothing_is_written_and_nothing_is_found(shelf: Shelf, index: MemoryIndex) -> None:
    place = shelf.place(key_of("a"))
    assert place is not None
    reading = shelf.begin(place)
    index.fail(Call.WRITE, disk_full())
    with pytest.raises(IndexFailed):
        shelf.open("blog#1 https://blog.example/", 0)
    assert shelf.failed
    assert not shelf.end(reading)
    assert not shelf.may_hold(place)
    assert shelf.generations.named("blog#1 https://blog.example/") is None
    for change in (shelf.serial, lambda: shelf.drop(shelf.generations), shelf.empty):
        with pytest.raises(IndexFailed):
            change()
    assert shelf.generations.count == 0
    assert len(list(shelf.generations)) == 1


def test_an_index_that_does_not_keep_up_is_no_failure(shelf: Shelf, index: MemoryIndex) -> None:
    index.fail(Call.WRITE, busy())
    with pytest.raises(IndexBusy):
        shelf.open("blog#1 https://blog.example/", 0)
    assert not shelf.failed
    shelf.open("blog#1 https://blog.example/", 0)


def test_an_index_that_was_opened_again_is_taken_as_it_is(shelf: Shelf, index: MemoryIndex) -> None:
    index.sync()
    shelf.open("blog#1 https://blog.example/", 0)
    newest = shelf.generations.newest
    index.cut_back()
    shelf.fail("write", disk_full())
    shelf.reopened(index.reopened())
    assert not shelf.failed
    assert [generation.key_name for generation in shelf.generations] == ["shop#0123456789ab"]
    assert shelf.open("blog#1 https://blog.example/", 0).gen > newest


def test_once_it_is_closed_nothing_is_begun(shelf: Shelf) -> None:
    shelf.close()
    shelf.behind("unlink", shelf.files.unlink, 1, 1)
    with pytest.raises(IndexFailed):
        shelf.empty()
    shelf.close()
