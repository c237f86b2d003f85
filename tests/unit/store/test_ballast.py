import os
from pathlib import Path

import pytest

from banish.store.ballast import Ballast

SIZE = 256 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ballast"


def test_the_space_is_really_taken_and_really_given_up(path: Path) -> None:
    ballast = Ballast(path, SIZE)
    ballast.take()
    assert ballast.held
    assert path.stat().st_blocks * 512 >= SIZE
    assert ballast.give_up()
    assert not path.exists()


def test_there_is_nothing_to_give_up_twice(path: Path) -> None:
    ballast = Ballast(path, SIZE)
    assert not ballast.give_up()
    ballast.take()
    assert (ballast.give_up(), ballast.give_up()) == (True, False)


def test_it_is_found_again_after_a_restart(path: Path) -> None:
    Ballast(path, SIZE).take()
    ballast = Ballast(path, SIZE)
    ballast.take()
    assert ballast.held


def test_it_is_not_taken_from_under_those_who_fill_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        f_bavail, f_frsize = 10, 4096

    monkeypatch.setattr(os, "statvfs", lambda directory: Full)
    ballast = Ballast(path, SIZE)
    ballast.take()
    assert not ballast.held
    assert not path.exists()


def test_a_disk_that_is_full_after_all_leaves_no_pieces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    ballast = Ballast(path, SIZE)
    ballast.take()
    assert not ballast.held
    assert path.stat().st_size == 0


def test_a_log_in_memory_has_none() -> None:
    ballast = Ballast(None)
    ballast.take()
    assert not ballast.give_up()
