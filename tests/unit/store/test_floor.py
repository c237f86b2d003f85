from dataclasses import dataclass

import pytest

from banish.errors import StoreError
from banish.purge.stamps import PurgeTable, Verdict
from banish.store import floor
from banish.store.floor import Floor
from banish.tables import Accounts
from tests.stored import stored_response, url_of


@dataclass
class Tier:
    swept: int = 0


class Kept:
    """A floor over two tiers. Hard stamps wait 60 s, soft ones 600."""

    def __init__(self) -> None:
        self.table = PurgeTable()
        self.memory, self.disk = Tier(), Tier()
        self.persisted: list[int] = []
        self.full = False
        self.accounts = Accounts()
        self.floor = Floor(
            self.table,
            (self.memory, self.disk),
            persist=self.persist,
            stamp_min_age_s=60,
            undo_window_s=600,
            accounts=self.accounts,
        )

    def persist(self, index: int) -> None:
        if self.full:
            raise StoreError("no space left")
        assert self.table.floor < index, "durable first"
        self.persisted.append(index)

    def purge(self, now: float, *, soft: bool = False) -> int:
        index = self.table.apply(soft=[url_of("a")]) if soft else self.table.apply([url_of("a")])
        self.floor.applied(index, now, soft=soft)
        return index

    def swept(self, index: int) -> None:
        self.memory.swept = self.disk.swept = index

    def figure(self, name: str) -> float:
        return next(counts[()] for metric, counts in self.accounts.collect() if metric.name == name)


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_the_floor_passes_a_stamp_that_is_swept_everywhere_and_old_enough(kept: Kept) -> None:
    kept.purge(0)
    kept.swept(1)
    assert kept.floor.advance(59) == 0
    assert (kept.table.floor, len(kept.table)) == (0, 1)
    assert kept.floor.advance(60) == 1
    assert (kept.table.floor, len(kept.table), kept.persisted) == (1, 0, [1])
    assert kept.floor.advance(61) == 0
    assert kept.persisted == [1]
    assert kept.figure("banish_purge_floor") == 1


@pytest.mark.parametrize("tier", ["memory", "disk"])
def test_it_waits_for_the_last_tier(kept: Kept, tier: str) -> None:
    kept.purge(0)
    kept.swept(1)
    getattr(kept, tier).swept = 0
    assert kept.floor.advance(1000) == 0
    assert kept.table.floor == 0
    getattr(kept, tier).swept = 1
    assert kept.floor.advance(1000) == 1


def test_a_soft_stamp_waits_for_its_undo_window_and_holds_later_ones(kept: Kept) -> None:
    for now, soft in enumerate([False, True, False]):
        kept.purge(now, soft=soft)
    kept.swept(3)
    kept.floor.advance(70)
    assert kept.table.floor == 1
    kept.floor.advance(600)
    assert kept.table.floor == 1
    kept.floor.advance(601)
    assert kept.table.floor == 3


def test_rule_3_a_floor_that_is_not_durable_forgets_nothing(kept: Kept) -> None:
    kept.purge(0)
    kept.swept(1)
    kept.full = True
    assert kept.floor.advance(60) == 0
    assert kept.table.verdict(stored_response("a").names, 0) is Verdict.HARD
    assert kept.figure("banish_purge_floor_failures_total") == 1
    kept.full = False
    assert kept.floor.advance(61) == 1


def test_the_floor_never_goes_back_with_a_tier_that_does(kept: Kept) -> None:
    kept.purge(0)
    kept.purge(0)
    kept.swept(2)
    kept.floor.advance(60)
    kept.purge(60)
    kept.swept(1)
    assert kept.floor.advance(200) == 0
    assert (kept.table.floor, kept.persisted) == (2, [2])


def test_many_stamps_go_a_batch_at_a_time(kept: Kept) -> None:
    index = kept.table.apply([url_of(str(n)) for n in range(10_000)])
    kept.floor.applied(index, 0, soft=False)
    kept.swept(index)
    went = []
    while (gone := kept.floor.advance(60)) > 0:
        went.append(gone)
    assert sum(went) == 10_000
    assert len(went) > 1
    assert kept.persisted == [1]


def test_what_was_applied_before_a_restart_waits_only_for_what_is_left(kept: Kept) -> None:
    kept.table.begin(100, 90)
    kept.table.apply(soft=[url_of("a")], index=95)
    kept.floor.applied(95, -500, soft=True)
    kept.swept(100)
    kept.floor.advance(99)
    assert kept.table.floor == 90
    kept.floor.advance(100)
    assert kept.table.floor == 95


def test_due_tells_what_has_waited_long_enough_swept_or_not(kept: Kept) -> None:
    kept.purge(0)
    kept.purge(10, soft=True)
    assert [kept.floor.due(now) for now in (0, 60, 609, 610)] == [0, 1, 1, 2]


def test_purges_in_quick_succession_share_a_wait_and_none_goes_too_soon(kept: Kept) -> None:
    for n in range(10_000):
        kept.purge(n / 100)
    kept.swept(10_000)
    assert len(kept.floor._waits) < 100
    for now in range(50, 200, 5):
        kept.floor.advance(now)
        passed = [n for n in range(10_000) if n < kept.table.floor]
        assert all(n / 100 + 60 <= now for n in passed)
        assert len(passed) >= min(10_000, (now - 60 - 2) * 100)


def test_waits_are_bounded(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "WAITS_MAX", 2)
    for n in range(5):
        kept.purge(n * 10)
    assert kept.figure("banish_purge_floor_waits_merged_total") == 3
    kept.swept(5)
    kept.floor.advance(60)
    assert kept.table.floor == 1
    kept.floor.advance(99)
    assert kept.table.floor == 1
    kept.floor.advance(100)
    assert kept.table.floor == 5
