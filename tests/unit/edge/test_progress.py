"""Counts of purges on their way, and the bounds on what is kept of them."""

import pytest

from banish.edge import progress
from banish.edge.progress import PURGES_FOLLOWED, PURGES_UNCOUNTED, Progress
from banish.purge.targets import tag_target
from banish.tables import Accounts, Metric
from tests.looped import looped, settle

A, B = tag_target("", "a"), tag_target("", "b")


def figure(accounts: Accounts, metric: Metric, *labels: str) -> float:
    return next(samples.get(labels, 0) for each, samples in accounts.collect() if each.name == metric.name)


def test_past_the_bound_on_targets_only_sums_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FOLLOWED_TARGETS_MAX", 2)
    accounts = Accounts()
    followed = Progress(accounts)
    for index in (1, 2):
        followed.begin(index, [(A,), (B,)], (), soft=False)
        followed.matched(index, A, 1, 10)
    counts = [followed.find(index) for index in (1, 2)]
    assert [each and (each.counts.matched, each.counts.targets) for each in counts] == [(1, {0: (1, 10)}), (1, None)]
    assert figure(accounts, PURGES_UNCOUNTED, "targets") == 1
    followed.finish(lambda index: True, 5.0)
    followed.begin(3, [(A,), (B,)], (), soft=False)
    assert figure(accounts, PURGES_UNCOUNTED, "targets") == 1, "what is swept makes room"


def test_past_the_bound_on_purges_none_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FOLLOWED_MAX", 1)
    accounts = Accounts()
    followed = Progress(accounts)
    for index in (1, 2):
        followed.begin(index, [(A,)], (), soft=False)
    followed.matched(2, A, 1, 10)
    assert (len(followed), followed.find(2), figure(accounts, PURGES_FOLLOWED)) == (1, None, 1)
    assert figure(accounts, PURGES_UNCOUNTED, "purges") == 1


def test_they_end_in_order_the_soft_ones_apart() -> None:
    followed = Progress(Accounts())
    for index, soft in ((1, True), (2, False), (3, True), (4, False)):
        followed.begin(index, [(A,)], (), soft=soft)
    assert [each.index for each in followed.finish(lambda index: index in (2, 3), 5.0)] == [2]
    followed.drop(1)
    assert [each.index for each in followed.finish(lambda index: index in (2, 3), 6.0)] == [3]
    assert len(followed) == 1


def test_what_ended_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "RECENT_MAX", 2)
    followed = Progress(Accounts())
    for index in (1, 2, 3):
        followed.begin(index, [(A,)], (), soft=False)
        followed.follow(index, index + 10)
    followed.finish(lambda index: True, 5.0)
    assert [followed.find(index) is None for index in (1, 2, 3)] == [True, False, False]
    assert [followed.follower(index) for index in (1, 2, 3)] == [0, 12, 13]


@looped
async def test_a_watch_sees_every_change_after_it_began_and_leaves_nothing_behind() -> None:
    followed = Progress(Accounts())
    with followed.watch(1, 2) as changed:
        followed.changed(3)
        assert not changed.done()
        followed.changed(2)
        assert changed.done()
    with followed.watch(1) as changed, followed.watch(1) as other:
        followed.changed(1)
        assert changed.done()
        assert other.done()
    await settle()
    assert followed._waiting == {}
