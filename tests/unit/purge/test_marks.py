import pytest

from banish.purge import marks
from banish.purge.marks import Marks
from banish.purge.names import Names
from banish.purge.targets import Target, pattern_target, prefix_target, tag_target, url_target

A = Names("shop", "https://a.example/a/b")


def crowd(table: Marks, index: int) -> None:
    for n in range(10):
        table.stamp(tag_target("blog", str(n)), index)


def test_nothing_is_left_of_what_is_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "ROWS_KEPT_MAX", 4)
    table = Marks()
    kinds: list[Target] = [
        tag_target("", "x"),
        url_target("", A.url, [("a", "b")]),
        prefix_target("shop", "a.example/"),
        prefix_target("shop", "a.example/a", boundary=True),
        pattern_target("", "*"),
    ]
    for index in (1, 2, 3):
        for target in kinds:
            table.stamp(target, index)
    assert (len(table), table.patterns) == (15, 1)
    assert table.prune(2, 7) == 7
    assert table.of(3) == tuple(kinds)
    assert table.prune(2, 7) == 3
    assert table.prune(2, 7) == 0
    assert table.patterns == 1
    assert table.prune(3, 100) == 5
    assert (len(table), table.patterns, table._scopes) == (0, 0, {})


def test_one_target_stamped_over_and_over_keeps_only_what_is_above_the_floor() -> None:
    table = Marks()
    target = tag_target("", "x")
    for index in range(1, 101):
        table.stamp(target, index)
    table.prune(90, 10)
    (family,) = table._scopes[""].values()
    assert family.stamps == {"x": list(range(91, 101))}


def test_patterns_are_found_after_the_newest_stamp_of_one_is_taken_back() -> None:
    table = Marks()
    table.stamp(pattern_target("", "*/a/*"), 1)
    table.stamp(pattern_target("", "*/x"), 2)
    table.stamp(pattern_target("", "*/b"), 3)
    table.stamp(pattern_target("", "*/x"), 4)
    crowd(table, 5)
    table.take_back(4)
    assert table.oldest(A, 2, 5) == (3, pattern_target("", "*/b"))
    assert table.oldest(A, 0, 5) == (1, pattern_target("", "*/a/*"))


def test_lengths_of_prefixes_that_are_gone_are_not_asked_for() -> None:
    table = Marks()
    table.stamp(prefix_target("shop", "a.example/a"), 1)
    table.stamp(prefix_target("shop", "b.example/b"), 1)
    table.stamp(prefix_target("shop", "a.example/a/b"), 2)
    family = next(iter(table._scopes["shop"].values()))
    assert isinstance(family, marks.Prefixes)
    assert family.lengths == {11: 2, 13: 1}
    table.prune(1, 100)
    assert family.lengths == {13: 1}


def test_lengths_of_prefixes_not_stamped_since_are_not_asked_for() -> None:
    family = marks.Prefixes("")
    for index, length in enumerate([3, 4, 5, 3], 1):
        family.stamp(prefix_target("", "a.example/"[:length]), index)
    names = Names("shop", "https://a.example/x")
    assert list(family.keys(names, 0)) == ["a.e", "a.exa", "a.ex"]
    assert list(family.keys(names, 2)) == ["a.e", "a.exa"]
    assert list(family.keys(names, 4)) == []
