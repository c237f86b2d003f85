import pytest

from banish.purge import stamps
from banish.purge.stamps import Mode, PurgeTable, Verdict
from banish.purge.targets import url_target
from banish.tables import Accounts

A = url_target("shop", "https://a.example/a")
B = url_target("shop", "https://a.example/b")


def test_a_new_table_has_purged_nothing() -> None:
    table = PurgeTable()
    assert (table.index, table.floor, len(table)) == (0, 0, 0)
    assert table.verdict([A], since=0) is Verdict.CLEAN


def test_a_hard_purge_hits_what_was_fetched_before_it_and_nothing_later() -> None:
    table = PurgeTable()
    fence = table.index
    assert table.apply([A]) == 1
    assert table.verdict([B, A], since=fence) is Verdict.HARD
    assert table.verdict([A], since=table.index) is Verdict.CLEAN
    assert table.verdict([B], since=fence) is Verdict.CLEAN


def test_a_batch_has_one_index() -> None:
    table = PurgeTable()
    table.apply([A, B])
    assert table.index == 1
    assert table.verdict([A], since=0) is table.verdict([B], since=0) is Verdict.HARD


def test_hard_outweighs_soft_whichever_came_last() -> None:
    table = PurgeTable()
    table.apply([A], Mode.SOFT)
    assert table.verdict([A], since=0) is Verdict.SOFT
    table.apply([A], Mode.HARD)
    table.apply([A], Mode.SOFT)
    assert table.verdict([A], since=0) is Verdict.HARD
    assert table.verdict([A], since=2) is Verdict.SOFT


def test_answer_rule_a_purge_after_the_requests_arrival_does_not_forbid_the_answer() -> None:
    table = PurgeTable()
    fence = table.index
    table.apply([B])
    arrival = table.index
    table.apply([A])
    assert table.verdict([A], since=fence, upto=arrival) is Verdict.CLEAN
    assert table.verdict([A], since=fence) is Verdict.HARD


def test_answer_rule_a_purge_between_fetch_and_arrival_forbids_the_answer() -> None:
    table = PurgeTable()
    fence = table.index
    table.apply([A])
    arrival = table.index
    for _ in range(5):
        table.apply([A])
    assert table.verdict([A], since=fence, upto=arrival) is Verdict.HARD


def test_answer_rule_a_fetch_begun_at_arrival_always_satisfies() -> None:
    table = PurgeTable()
    for _ in range(5):
        table.apply([A])
    assert table.verdict([A], since=2, upto=2) is Verdict.CLEAN
    assert table.verdict([A], since=3, upto=2) is Verdict.CLEAN


def test_answer_rule_two_stamps_around_the_span_are_told_from_one_inside() -> None:
    table = PurgeTable()
    table.apply([A])
    table.apply([B])
    table.apply([B])
    table.apply([A])
    assert table.verdict([A], since=1, upto=3) is Verdict.CLEAN


def test_answer_rule_what_is_not_known_exactly_is_answered_strictly() -> None:
    table = PurgeTable()
    for target in (A, B, A, B, A, A):  # A at 1, 3, 5, 6: the stamp at 3 is no longer kept
        table.apply([target])
    assert table.verdict([A], since=2, upto=4) is Verdict.HARD
    assert table.verdict([A], since=1, upto=2) is Verdict.HARD  # stricter than the truth


def test_pruning_forgets_in_order_and_answers_unknown_below_the_floor() -> None:
    table = PurgeTable()
    for target in (A, B, A):
        table.apply([target])
    assert table.prune(2) == 1
    assert table.floor == 2
    assert table.verdict([A], since=2) is Verdict.HARD
    assert table.verdict([B], since=2) is Verdict.CLEAN
    assert table.verdict([B], since=1) is Verdict.UNKNOWN
    assert table.prune(3) == 1
    assert len(table) == 0


def test_the_floor_never_goes_back_nor_passes_the_index() -> None:
    table = PurgeTable()
    table.apply([A])
    table.prune(1)
    table.prune(0)
    assert table.floor == 1
    with pytest.raises(AssertionError):
        table.prune(2)


def test_pruning_is_done_in_bounded_steps_though_the_floor_moves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "PRUNE_BATCH", 2)
    table = PurgeTable()
    table.apply([url_target("shop", str(n)) for n in range(5)])
    assert [table.prune(1) for _ in range(4)] == [2, 2, 1, 0]
    assert table.floor == 1


def test_a_full_table_widens_and_drops_nothing() -> None:
    table = PurgeTable(stamps_max=2)
    for n in range(3):
        table.apply([url_target("shop", str(n))])
    assert (table.widened, len(table)) == (1, 0)
    assert table.verdict([B], since=2) is Verdict.HARD
    assert table.verdict([B], since=3) is Verdict.CLEAN
    table.apply([A])
    assert table.verdict([A], since=3) is Verdict.HARD


def test_the_books_show_purges_and_stamps() -> None:
    accounts = Accounts()
    table = PurgeTable(accounts)
    table.apply([A, B])
    table.apply([A], Mode.SOFT)
    figures = {metric.name: counts for metric, counts in accounts.collect()}
    assert figures["banish_purges_applied_total"] == {("hard",): 1, ("soft",): 1}
    assert figures["banish_purge_stamps"] == {("hard",): 2, ("soft",): 1}
    assert figures["banish_purges_widened_total"] == {(): 0}
