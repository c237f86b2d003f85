"""The table of stamps against a list of all purges ever made."""

from hypothesis import given
from hypothesis import strategies as st

from banish.purge.stamps import Mode, PurgeTable, Verdict
from banish.purge.targets import Target, url_target

TARGETS = [url_target("shop", name) for name in "abcd"]
STRICTNESS = [Verdict.CLEAN, Verdict.SOFT, Verdict.HARD, Verdict.UNKNOWN]

batches = st.lists(
    st.tuples(st.lists(st.sampled_from(TARGETS), max_size=3), st.sampled_from(Mode)), min_size=1, max_size=25
)
History = list[tuple[list[Target], Mode]]


def remembered(history: History, targets: list[Target], since: int, upto: int) -> Verdict:
    """The truth: look at every purge in (since, upto]."""
    modes = {
        mode
        for index, (batch, mode) in enumerate(history, start=1)
        if since < index <= upto and not set(batch).isdisjoint(targets)
    }
    return Verdict.HARD if Mode.HARD in modes else Verdict.SOFT if Mode.SOFT in modes else Verdict.CLEAN


@given(batches, st.lists(st.sampled_from(TARGETS), max_size=2), st.data())
def test_up_to_the_present_the_table_knows_the_truth(
    history: History, targets: list[Target], data: st.DataObject
) -> None:
    table = PurgeTable()
    for batch, mode in history:
        table.apply(batch, mode)
    floor = data.draw(st.integers(0, table.index))
    table.prune(floor)
    since = data.draw(st.integers(0, table.index))
    expected = remembered(history, targets, since, table.index)
    if since < floor:
        expected = Verdict.UNKNOWN
    assert table.verdict(targets, since) is expected


@given(batches, st.lists(st.sampled_from(TARGETS), max_size=2), st.data())
def test_up_to_an_earlier_index_the_table_is_never_milder_than_the_truth(
    history: History, targets: list[Target], data: st.DataObject
) -> None:
    table = PurgeTable(stamps_max=data.draw(st.sampled_from([2, 100])))
    for batch, mode in history:
        table.apply(batch, mode)
    table.prune(data.draw(st.integers(0, table.index)))
    since, upto = data.draw(st.tuples(st.integers(0, table.index), st.integers(0, table.index)))
    truth = remembered(history, targets, since, upto)
    verdict = table.verdict(targets, since, upto)
    assert STRICTNESS.index(verdict) >= STRICTNESS.index(truth)
    if since >= upto:
        assert verdict is Verdict.CLEAN
