"""The table of stamps against a list of all purges ever made, read by the definition of what a target hits."""

from dataclasses import dataclass, field
from functools import partial
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from banish.purge import stamps
from banish.purge.names import Names
from banish.purge.stamps import Finding, Mode, PurgeTable, Reason, Verdict
from banish.purge.targets import (
    Target,
    everything_target,
    group_target,
    host_target,
    matches,
    pattern_target,
    prefix_target,
    tag_target,
    url_target,
)

SITES = ["", "shop", "blog"]
HOSTS = ["a.example", "w.a.example", "w.a.example:81", "[::1]:81"]
PATHS = ["/", "/x", "/x/", "/x/y", "/xy", "/x?y", "/x/y?z"]
WORDS = ["t", "u", "v"]
HEADERS = [(), (("dnt", "0"),), (("dnt", "1"),), (("dnt", "1"), ("te", "x")), (("te", "x"),)]

places = st.builds(str.__add__, st.sampled_from(HOSTS), st.sampled_from(PATHS))
sites = st.sampled_from(SITES)
words = st.lists(st.sampled_from(WORDS), unique=True, max_size=3).map(tuple)
origins = st.builds("{}://{}".format, st.sampled_from(["http", "https"]), st.sampled_from(HOSTS))

targets = st.one_of(
    st.builds(url_target, sites, places, st.sampled_from(HEADERS)),
    st.builds(prefix_target, sites, places, boundary=st.booleans()),
    st.builds(host_target, sites, st.sampled_from([*HOSTS, "*.a.example", "*.example", "[::1]", "*.w.a.example"])),
    st.builds(tag_target, sites, st.sampled_from(WORDS)),
    st.builds(group_target, sites, origins, st.sampled_from(WORDS)),
    st.builds(pattern_target, sites, st.sampled_from(["*", "*/x*", "https://*", "w.*", "*?y", "("])),
    st.builds(pattern_target, sites, st.sampled_from(["x$", "^https", "[0-9]", "("]), regex=st.just(True)),
    st.builds(everything_target, sites),
)
varied = st.sampled_from([((), ()), (("dnt",), ("1",)), (("dnt",), (None,)), (("dnt", "te"), ("1", "x"))])


@st.composite
def some_names(draw: st.DrawFn) -> Names:
    url = f"{draw(st.sampled_from(['http', 'https']))}://{draw(places)}"
    vary, selecting = draw(varied)
    return Names(draw(st.sampled_from(SITES[1:])), url, draw(words), draw(words), vary, selecting)


batches = st.lists(targets, max_size=6)


@dataclass
class Ledger:
    """All stamps ever made, in order."""

    rows: list[tuple[int, Mode, Target]] = field(default_factory=list)

    def add(self, index: int, mode: Mode, batch: tuple[Target, ...]) -> None:
        self.rows += [(index, mode, target) for target in batch]

    def undo(self, index: int) -> bool:
        kept = [row for row in self.rows if row[:2] != (index, Mode.SOFT)]
        undone = len(kept) < len(self.rows)
        self.rows = kept
        return undone

    def finding(self, names: Names, since: int, upto: int) -> tuple[Verdict, int]:
        """The truth: look at every purge in (since, upto]."""
        for mode in Mode:
            hits = [
                index
                for index, made, target in self.rows
                if made is mode and since < index <= upto and matches(target, names)
            ]
            if hits:
                return Verdict(mode.value), min(hits)
        return Verdict.CLEAN, 0


class TableAgainstLedger(RuleBasedStateMachine):
    """Purges, undone ones, pruning and restarts in any order. What the table answers is what the ledger says."""

    @initialize(
        patterns=st.sampled_from([2, 100]), variants=st.sampled_from([1, 100]), batch=st.sampled_from([1, 3, 50])
    )
    def start(self, patterns: int, variants: int, batch: int) -> None:
        self.new_table = partial(PurgeTable, patterns_max=patterns, variants_max=variants)
        self.table = self.new_table()
        self.ledger = Ledger()
        self.batch = batch

    @rule(hard=batches, soft=batches)
    def purge(self, hard: list[Target], soft: list[Target]) -> None:
        index = self.table.apply(hard, soft)
        asked = {Mode.HARD: hard, Mode.SOFT: soft}
        for mode, batch in zip(Mode, self.table.stamped(index), strict=True):
            self.ledger.add(index, mode, batch)
            widened = {widening.asked: widening.applied for widening in self.table.widenings}
            assert set(batch) <= {widened.get(target, target) for target in asked[mode]} | set(asked[mode])

    @rule(times=st.integers(1, 40), repeated=targets)
    def purge_the_same_over_and_over(self, times: int, repeated: Target) -> None:
        for _ in range(times):
            self.purge([repeated], [])

    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, self.table.index + 1))
        if index > self.table.floor:
            assert self.table.undo(index) is self.ledger.undo(index)

    @rule(data=st.data())
    def prune(self, data: st.DataObject) -> None:
        floor = data.draw(st.integers(0, self.table.index))
        with patch.object(stamps, "PRUNE_BATCH", self.batch):
            self.table.prune(floor)

    @rule(spare=st.integers(0, 5))
    def start_anew(self, spare: int) -> None:
        floor = self.table.floor
        self.ledger.rows = [row for row in self.ledger.rows if row[0] > floor]
        again = self.new_table()
        again.begin(self.table.index + spare, floor)
        for index in sorted({row[0] for row in self.ledger.rows}):
            hard, soft = ([t for i, made, t in self.ledger.rows if (i, made) == (index, mode)] for mode in Mode)
            again.apply(hard, soft, index=index)
            self.ledger.rows = [row for row in self.ledger.rows if row[0] != index]
            for mode, batch in zip(Mode, again.stamped(index), strict=True):
                self.ledger.add(index, mode, batch)
        self.table = again

    @rule(names=some_names(), data=st.data())
    def ask(self, names: Names, data: st.DataObject) -> None:
        since = data.draw(st.integers(0, self.table.index))
        upto = data.draw(st.none() | st.integers(0, self.table.index))
        found = self.table.finding(names, since, upto)
        end = self.table.index if upto is None else upto
        if since < end and since < self.table.floor:
            assert found == Finding(Verdict.UNKNOWN)
            return
        assert (found.verdict, found.index) == self.ledger.finding(names, since, end)
        if found.target is not None:
            mode = Mode(found.verdict.value)
            assert matches(found.target, names)
            assert (found.index, mode, found.target) in self.ledger.rows

    @invariant()
    def holds_what_the_floor_has_not_passed(self) -> None:
        if hasattr(self, "table"):
            assert len(self.table) >= len({row for row in self.ledger.rows if row[0] > self.table.floor})


TableAgainstLedger.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTableAgainstLedger = TableAgainstLedger.TestCase


STRICTNESS = [Verdict.CLEAN, Verdict.SOFT, Verdict.HARD, Verdict.UNKNOWN]


@given(st.lists(st.tuples(batches, batches), min_size=1, max_size=12), some_names(), st.data())
def test_a_table_past_its_bounds_is_never_milder_than_what_was_asked(
    history: list[tuple[list[Target], list[Target]]], names: Names, data: st.DataObject
) -> None:
    bound = st.integers(0, 8)
    table = PurgeTable(stamps_max=data.draw(bound), patterns_max=data.draw(bound), variants_max=data.draw(bound))
    ledger = Ledger()
    for hard, soft in history:
        index = table.apply(hard, soft)
        for mode, batch in ((Mode.HARD, hard), (Mode.SOFT, soft)):
            ledger.add(index, mode, tuple(batch))
    table.prune(data.draw(st.integers(0, table.index)))
    since, upto = data.draw(st.tuples(st.integers(0, table.index), st.integers(0, table.index)))
    verdict = table.verdict(names, since, upto)
    truth, _ = ledger.finding(names, since, upto)
    assert STRICTNESS.index(verdict) >= STRICTNESS.index(truth)
    if since >= upto:
        assert verdict is Verdict.CLEAN
    if since >= table.floor and not any(table.widened.values()):
        assert verdict is truth
    assert table.widened[Reason.STAMPS] or table.floor or len(table) == len({*_stamps(table)})


def _stamps(table: PurgeTable) -> list[tuple[int, Mode, Target]]:
    return [
        (index, mode, target)
        for index in range(table.index + 1)
        for mode, batch in zip(Mode, table.stamped(index), strict=True)
        for target in batch
    ]
