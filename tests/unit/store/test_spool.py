import os
from pathlib import Path

import pytest

from banish.store import spool
from banish.store.checksums import CHUNK_BYTES, Checksums
from banish.store.spool import SpoolBudget, SpoolFile


def test_the_budget_is_given_whole_or_not_at_all(tmp_path: Path) -> None:
    budget = SpoolBudget(tmp_path, 10)
    assert budget.reserve(6)
    assert not budget.reserve(5)
    assert budget.used_bytes == 6
    budget.release(6)
    assert budget.reserve(10)


def test_without_a_directory_there_is_no_room() -> None:
    assert not SpoolBudget(None, 10).reserve(1)


def test_a_file_has_no_name_and_its_bytes_come_back(tmp_path: Path) -> None:
    budget = SpoolBudget(tmp_path, 100)
    file = SpoolFile(budget)
    assert file.reserve(11)
    assert file.write([b"hello ", b"world"], 0) == 11
    assert list(tmp_path.iterdir()) == []
    assert file.read(100, 6) == b"world"
    assert file.read(100, 11) == b""


def test_more_chunks_than_one_call_takes_are_written_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "IOV_MAX", 2)
    file = SpoolFile(SpoolBudget(tmp_path, 100))
    file.write([b"a", b"b", b"c", b"d", b"e"], 0)
    assert file.read(9, 0) == b"abcde"


def test_a_short_write_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwritev", lambda fd, chunks, offset: os.pwrite(fd, chunks[0][:1], offset))
    file = SpoolFile(SpoolBudget(tmp_path, 100))
    assert file.write([b"abc", b"def"], 0) == 6
    assert file.read(9, 0) == b"abcdef"


def test_letting_go_of_a_file_gives_back_budget_and_descriptor(tmp_path: Path) -> None:
    budget = SpoolBudget(tmp_path, 100)
    file = SpoolFile(budget)
    file.reserve(50)
    budget.submit(file.write, [b"x"], 0).result()
    descriptor = file._descriptor
    del file
    budget.close()
    assert budget.used_bytes == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_shrinking_gives_back_the_surplus(tmp_path: Path) -> None:
    budget = SpoolBudget(tmp_path, 100)
    file = SpoolFile(budget)
    file.reserve(50)
    file.shrink(60)
    file.shrink(20)
    assert budget.used_bytes == 20


def test_a_file_may_be_given_a_name_and_stays(tmp_path: Path) -> None:
    budget = SpoolBudget(tmp_path, 100)
    file = SpoolFile(budget)
    file.write([b"hello ", b"world"], 0)
    file.link(tmp_path / "kept")
    del file
    assert (tmp_path / "kept").read_bytes() == b"hello world"
    with pytest.raises(FileExistsError):
        linked(budget, tmp_path / "kept")


def linked(budget: SpoolBudget, path: Path) -> None:
    file = SpoolFile(budget)
    file.write([b"other"], 0)
    file.link(path)


def test_checksums_are_of_what_was_written_and_pieces_give_it_back(tmp_path: Path) -> None:
    data = os.urandom(CHUNK_BYTES + 5)
    file = SpoolFile(SpoolBudget(tmp_path, 100))
    for at in range(0, len(data), 300_000):
        file.write([data[at : at + 100_000], data[at + 100_000 : at + 300_000]], at)
    sums = Checksums()
    sums.add(data)
    assert file.checksums == sums.so_far()
    assert b"".join(file.pieces()) == data
