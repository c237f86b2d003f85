import pytest

from banish.store import s3fifo
from banish.store.s3fifo import S3Fifo


def test_what_fits_stays() -> None:
    queue: S3Fifo[str] = S3Fifo(10)
    assert queue.add("a", 4) == []
    assert queue.add("b", 6) == []
    assert (queue.used, set(queue)) == (10, {"a", "b"})


def test_the_first_in_goes_first_if_nobody_asked() -> None:
    queue: S3Fifo[str] = S3Fifo(3)
    for key in "abc":
        queue.add(key, 1)
    assert queue.add("d", 2) == ["a", "b"]


def test_what_was_asked_for_twice_moves_to_main_and_outlives_the_scan() -> None:
    queue: S3Fifo[str] = S3Fifo(10)
    queue.add("hot", 1)
    queue.touch("hot")
    queue.touch("hot")
    for n in range(1000):
        queue.add(f"scan {n}", 1)
    assert "hot" in queue
    assert queue.used == 10


def test_what_was_asked_for_once_does_not() -> None:
    queue: S3Fifo[str] = S3Fifo(10)
    queue.add("warm", 1)
    queue.touch("warm")
    for n in range(10):
        queue.add(f"scan {n}", 1)
    assert "warm" not in queue


def test_what_comes_back_soon_goes_straight_to_main() -> None:
    queue: S3Fifo[str] = S3Fifo(10)
    for n in range(11):
        queue.add(str(n), 1)
    assert "0" not in queue
    queue.add("0", 1)
    for n in range(1000):
        queue.add(f"scan {n}", 1)
    assert "0" in queue


def test_heavier_than_the_budget_is_refused_and_evicts_nothing_else() -> None:
    queue: S3Fifo[str] = S3Fifo(10)
    queue.add("a", 5)
    assert queue.add("b", 11) == ["b"]
    assert queue.add("a", 11) == ["a"]
    assert (queue.used, len(queue)) == (0, 0)


def test_a_key_may_change_its_weight() -> None:
    queue: S3Fifo[str] = S3Fifo(10)
    queue.add("a", 5)
    queue.add("b", 5)
    assert queue.add("b", 2) == []
    assert queue.used == 7
    assert queue.add("b", 6) == ["a"]
    assert queue.used == 6


def test_removal_gives_back_the_weight_and_leaves_no_ghost() -> None:
    queue: S3Fifo[str] = S3Fifo(10)
    queue.add("a", 5)
    assert queue.remove("a")
    assert not queue.remove("a")
    assert (queue.used, queue.small_used) == (0, 0)
    queue.add("a", 5)
    assert queue.small_used == 5


def test_ghosts_are_bounded() -> None:
    queue: S3Fifo[int] = S3Fifo(1)
    for n in range(1000):
        queue.add(n, 1)
    assert len(queue._ghost_order) <= s3fifo.GHOSTS_MIN
    assert len(queue._ghosts) <= s3fifo.GHOSTS_MIN


def test_a_walk_over_a_queue_of_hot_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3fifo, "REINSERTS_MAX", 2)
    queue: S3Fifo[str] = S3Fifo(4)
    for key in "abcd":
        queue.add(key, 1)
        queue.touch(key)
        queue.touch(key)
    queue.add("e", 1)  # all four move to main; the first of them goes
    for key in "bcd":
        for _ in range(3):
            queue.touch(key)
    assert queue.add("f", 1) == ["e"]
    assert queue.add("g", 4)[-1] in "bcd"
