import pytest

from banish.purge import stamps
from banish.purge.names import Names
from banish.purge.stamps import Finding, Mode, PurgeTable, Reason, Verdict, Widening
from banish.purge.targets import (
    Target,
    everything_target,
    host_target,
    pattern_target,
    prefix_target,
    tag_target,
    url_target,
)
from banish.tables import Accounts

A = Names("shop", "https://a.example/a", ("news", "sport"))
B = Names("shop", "https://a.example/b")
OF_A = url_target("shop", A.url)
OF_B = url_target("shop", B.url)
NEWS = tag_target("", "news")


def numbered(count: int) -> list[Target]:
    return [url_target("shop", f"a.example/{n}") for n in range(count)]


def crowded(table: PurgeTable) -> PurgeTable:
    """The table with so many newer stamps that nobody goes through them one by one."""
    table.apply([tag_target("other", str(n)) for n in range(20)])
    return table


def test_a_new_table_has_purged_nothing() -> None:
    table = PurgeTable()
    assert (table.index, table.floor, len(table)) == (0, 0, 0)
    assert table.finding(A, since=0) == Finding(Verdict.CLEAN)


def test_a_hard_purge_hits_what_was_fetched_before_it_and_nothing_later() -> None:
    table = PurgeTable()
    fence = table.index
    assert table.apply([OF_A]) == 1
    assert table.verdict(A, since=fence) is Verdict.HARD
    assert table.verdict(A, since=table.index) is Verdict.CLEAN
    assert table.verdict(B, since=fence) is Verdict.CLEAN


def test_a_batch_has_one_index_and_may_mix_modes() -> None:
    table = PurgeTable()
    assert table.apply([OF_A], [OF_B]) == table.index == 1
    assert table.verdict(A, since=0) is Verdict.HARD
    assert table.verdict(B, since=0) is Verdict.SOFT
    assert table.stamped(1) == ((OF_A,), (OF_B,))
    assert table.stamped(2) == ((), ())


def test_a_target_twice_in_a_batch_is_stamped_once() -> None:
    table = PurgeTable()
    table.apply([OF_A, NEWS, OF_A])
    assert len(table) == 2


def test_hard_outweighs_soft_whichever_came_last() -> None:
    table = PurgeTable()
    table.apply(soft=[OF_A])
    assert table.verdict(A, since=0) is Verdict.SOFT
    table.apply([OF_A])
    table.apply(soft=[OF_A])
    assert table.verdict(A, since=0) is Verdict.HARD
    assert table.verdict(A, since=2) is Verdict.SOFT


@pytest.mark.parametrize("busy", [False, True])
def test_a_finding_names_the_oldest_purge_that_matched(busy: bool) -> None:
    table = PurgeTable()
    table.apply(soft=[tag_target("", "sport")])
    table.apply(soft=[NEWS, OF_B])
    table.apply(soft=[OF_A])
    if busy:
        crowded(table)
    assert table.finding(A, since=0) == Finding(Verdict.SOFT, 1, tag_target("", "sport"))
    assert table.finding(A, since=1) == Finding(Verdict.SOFT, 2, NEWS)
    assert table.finding(A, since=2) == Finding(Verdict.SOFT, 3, OF_A)


def test_a_finding_names_targets_of_every_form() -> None:
    names = Names("shop", "https://w.a.example/x/y", ("t",), ("g",), ("dnt",), ("1",))
    targets = [
        url_target("", names.url, [("dnt", "1")]),
        prefix_target("shop", "w.a.example/"),
        prefix_target("shop", "w.a.example/x", boundary=True),
        host_target("", "*.a.example"),
        pattern_target("", "*/y"),
        pattern_target("shop", "y$", regex=True),
        everything_target("shop"),
        everything_target(),
    ]
    for target in targets:
        for filler in ([], [tag_target("shop", str(n)) for n in range(20)]):
            table = PurgeTable()
            table.apply([target, *filler])
            assert table.finding(names, since=0) == Finding(Verdict.HARD, 1, target)


def test_a_purge_of_another_site_does_not_reach_over() -> None:
    table = PurgeTable()
    table.apply([tag_target("blog", "news"), everything_target("blog")])
    assert table.verdict(A, since=0) is Verdict.CLEAN
    table.apply([everything_target()])
    assert table.verdict(A, since=0) is Verdict.HARD


def test_answer_rule_a_purge_after_the_requests_arrival_does_not_forbid_the_answer() -> None:
    table = PurgeTable()
    fence = table.index
    table.apply([OF_B])
    arrival = table.index
    table.apply([OF_A])
    assert table.verdict(A, since=fence, upto=arrival) is Verdict.CLEAN
    assert table.verdict(A, since=fence) is Verdict.HARD


def test_answer_rule_a_purge_between_fetch_and_arrival_forbids_the_answer() -> None:
    table = PurgeTable()
    fence = table.index
    table.apply([OF_A])
    arrival = table.index
    for _ in range(5):
        table.apply([OF_A])
    assert table.verdict(A, since=fence, upto=arrival) is Verdict.HARD


def test_answer_rule_a_fetch_begun_at_arrival_always_satisfies() -> None:
    table = PurgeTable()
    for _ in range(5):
        table.apply([OF_A])
    assert table.verdict(A, since=2, upto=2) is Verdict.CLEAN
    assert table.verdict(A, since=3, upto=2) is Verdict.CLEAN


def test_answer_rule_every_stamp_is_known_exactly() -> None:
    table = PurgeTable()
    for target in (OF_A, OF_B, OF_A, OF_B, OF_A, OF_A):  # A at 1, 3, 5, 6
        table.apply([target])
    crowded(table)
    hits = [table.verdict(A, since, since + 1) is Verdict.HARD for since in range(6)]
    assert hits == [True, False, True, False, True, True]


def test_pruning_forgets_in_order_and_answers_unknown_below_the_floor() -> None:
    table = PurgeTable()
    for target in (OF_A, OF_B, OF_A):
        table.apply([target])
    assert table.prune(2) == 2
    assert (table.floor, len(table)) == (2, 1)
    assert table.verdict(A, since=2) is Verdict.HARD
    assert table.verdict(B, since=2) is Verdict.CLEAN
    assert table.finding(B, since=1) == Finding(Verdict.UNKNOWN)
    assert table.prune(3) == 1
    assert len(table) == 0


def test_the_floor_never_goes_back_nor_passes_the_index() -> None:
    table = PurgeTable()
    table.apply([OF_A])
    table.prune(1)
    table.prune(0)
    assert table.floor == 1
    with pytest.raises(AssertionError):
        table.prune(2)


def test_pruning_is_done_in_bounded_steps_though_the_floor_moves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "PRUNE_BATCH", 2)
    table = PurgeTable()
    table.apply(numbered(5))
    assert [table.prune(1) for _ in range(4)] == [2, 2, 1, 0]
    assert table.floor == 1


def test_a_full_table_widens_and_drops_nothing() -> None:
    table = PurgeTable(stamps_max=2)
    for target in numbered(3):
        table.apply([target])
    assert table.widened[Reason.STAMPS] == 1
    assert table.stamped(3) == ((everything_target(),), ())
    assert table.finding(B, since=2) == Finding(Verdict.HARD, 3, everything_target())
    assert table.verdict(B, since=1, upto=2) is Verdict.HARD  # what was stamped then is known no more
    assert table.verdict(B, since=3) is Verdict.CLEAN
    table.apply([OF_A])
    assert table.verdict(A, since=3) is Verdict.HARD
    table.prune(3)
    assert table.verdict(B, since=3) is Verdict.CLEAN


def test_rule_7_patterns_past_their_number_are_widened() -> None:
    table = PurgeTable(patterns_max=2)
    first, second, third = (pattern_target("shop", f"a.example/{n}*") for n in range(3))
    table.apply([first], [second])
    table.apply([first, third])
    assert table.widenings == (Widening(third, prefix_target("shop", "a.example/2"), Reason.PATTERNS),)
    assert table.stamped(2)[0] == (first, prefix_target("shop", "a.example/2"))
    assert table.widened[Reason.PATTERNS] == 1
    table.apply([OF_A])
    assert not table.widenings
    table.prune(1)
    table.apply([third])  # the second has gone, and made room
    assert table.stamped(4)[0] == (third,)


def test_rule_7_a_pattern_that_does_not_compile_is_widened() -> None:
    table = PurgeTable()
    table.apply([pattern_target("shop", "(", regex=True)])
    assert table.widenings[0][1:] == (everything_target("shop"), Reason.PATTERN)
    assert table.verdict(A, since=0) is Verdict.HARD


def test_rule_17_single_variants_past_their_number_are_the_whole_url() -> None:
    table = PurgeTable(variants_max=2)
    variants = [url_target("shop", A.url, [("dnt", str(n))]) for n in range(3)]
    table.apply(variants[:2])
    table.apply(variants)
    assert table.stamped(2)[0] == (*variants[:2], OF_A)
    assert table.widenings == (Widening(variants[2], OF_A, Reason.VARIANTS),)
    other = url_target("shop", B.url, [("dnt", "1")])
    table.apply([other])
    assert table.stamped(3)[0] == (other,)


def test_undo_takes_back_the_soft_stamps_of_one_purge_and_no_others() -> None:
    table = PurgeTable()
    table.apply(soft=[OF_A])
    table.apply([OF_B], [OF_A, NEWS])
    table.apply(soft=[OF_A])
    assert table.undo(2)
    assert table.undone == {2}
    assert table.verdict(A, since=1, upto=2) is Verdict.CLEAN
    assert table.finding(A, since=0).index == 1
    assert table.finding(A, since=1).index == 3
    assert table.verdict(B, since=1) is Verdict.HARD


def test_undo_of_what_has_no_soft_stamps_here_is_refused() -> None:
    table = PurgeTable()
    table.apply([OF_A])
    table.apply(soft=[OF_A])
    table.apply(soft=[OF_B])
    table.prune(2)
    assert [table.undo(index) for index in (1, 2, 3, 3, 4)] == [False, False, True, False, False]


def test_what_was_undone_is_forgotten_when_the_floor_passes_it() -> None:
    table = PurgeTable()
    table.apply(soft=[OF_A])
    table.apply(soft=[OF_A])
    table.undo(1)
    table.undo(2)
    table.prune(1)
    assert table.undone == {2}


def test_a_start_takes_up_where_the_last_one_ended() -> None:
    table = PurgeTable()
    table.begin(index=1000, floor=40)
    assert table.verdict(A, since=39) is Verdict.UNKNOWN
    table.apply([OF_B], index=41)
    table.apply(soft=[OF_A], index=57)
    table.apply(soft=[NEWS], index=58)
    table.undo(57)
    assert (table.index, table.floor) == (1000, 40)
    assert table.finding(A, since=40) == Finding(Verdict.SOFT, 58, NEWS)
    assert table.undone == {57}
    assert table.apply([OF_A]) == 1001
    assert table.verdict(A, since=1000) is Verdict.HARD


def test_purges_are_applied_again_in_their_order_and_above_the_floor() -> None:
    table = PurgeTable()
    table.begin(index=10, floor=4)
    table.apply([OF_A], index=6)
    for index in (4, 5, 6):
        with pytest.raises(AssertionError):
            table.apply([OF_A], index=index)
    with pytest.raises(AssertionError):
        table.begin(index=20, floor=10)


def test_the_books_show_purges_and_stamps() -> None:
    accounts = Accounts()
    table = PurgeTable(accounts, patterns_max=1)
    table.apply([OF_A, OF_B])
    table.apply(soft=[pattern_target("", "*a"), pattern_target("", "*b")])
    figures = {metric.name: counts for metric, counts in accounts.collect()}
    assert figures["banish_purges_applied_total"] == {(Mode.HARD,): 1, (Mode.SOFT,): 1}
    assert figures["banish_purge_stamps"] == {("hard",): 2, ("soft",): 2}
    assert figures["banish_purge_patterns"] == {("hard",): 0, ("soft",): 1}
    assert figures["banish_purges_widened_total"] == {
        ("stamps",): 0,
        ("patterns",): 1,
        ("variants",): 0,
        ("pattern",): 0,
    }


def test_purges_from_before_this_start_are_not_counted_again() -> None:
    table = PurgeTable()
    table.begin(index=5, floor=0)
    table.apply([OF_A], index=3)
    assert table.applied[Mode.HARD] == 0


class TestNewer:
    def test_it_names_the_targets_of_both_modes_stamped_since(self) -> None:
        table = PurgeTable()
        for number in range(3):
            table.apply([tag_target("", f"h{number}")], [tag_target("", f"s{number}")])
        assert table.newer(1, 2) == [tag_target("", name) for name in ("h1", "h2", "s1", "s2")]
        assert table.newer(3, 0) == []

    def test_it_does_not_if_they_are_too_many_or_may_be_forgotten(self) -> None:
        table = PurgeTable()
        for number in range(3):
            table.apply([tag_target("", f"h{number}")])
        assert table.newer(0, 2) is None
        table.prune(2)
        assert table.newer(1, 2) is None
        assert table.newer(2, 2) == [tag_target("", "h2")]
