"""Frontiers against a set of numbers, and messages through their bytes."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from banish.mesh.frontier import Frontier, dump, fold_of, load
from banish.mesh.messages import Ack, Digest, Echo, Far, Mark, Pull, Pulled, decode, encode
from banish.purge.positions import Position

EDGE, EPOCH = "00" * 8, "1-00000000"
STREAM = (EDGE, EPOCH)

sequences = st.integers(1, 40)
steps = st.lists(st.tuples(st.sampled_from(["add", "advance"]), sequences), max_size=60)


def played(steps: list[tuple[str, int]]) -> tuple[Frontier, set[int]]:
    frontier, held = Frontier(), set[int]()
    for what, seq in steps:
        if what == "add":
            assert frontier.add(Position(EDGE, EPOCH, seq)) is (seq not in held)
            held.add(seq)
        else:
            frontier.advance(STREAM, seq)
            held.update(range(1, seq + 1))
    return frontier, held


@given(steps)
def test_a_frontier_holds_what_was_added_and_nothing_else(steps: list[tuple[str, int]]) -> None:
    frontier, held = played(steps)
    assert {seq for seq in range(1, 50) if frontier.has(Position(EDGE, EPOCH, seq))} == held
    assert frontier.mark(STREAM) == max((n for n in range(41) if held.issuperset(range(1, n + 1))), default=0)
    assert frontier.highest(STREAM) == max(held, default=0)


@given(steps, sequences)
def test_gaps_are_what_is_not_held(steps: list[tuple[str, int]], upto: int) -> None:
    frontier, held = played(steps)
    missing = [seq for gap in frontier.gaps(STREAM, upto) for seq in range(gap.first, gap.last + 1)]
    assert missing == sorted(set(range(1, upto + 1)) - held)


@given(steps)
def test_a_frontier_comes_back_as_it_was_kept(steps: list[tuple[str, int]]) -> None:
    frontier, held = played(steps)
    for again in (load(dump(frontier)), frontier.copy()):
        assert {seq for seq in range(1, 50) if again.has(Position(EDGE, EPOCH, seq))} == held
        assert again.marks == frontier.marks


@given(st.lists(st.integers(1, 6)), st.lists(st.integers(1, 6)))
def test_folds_never_go_back_and_outlive_whatever_comes(starts: list[int], folds: list[int]) -> None:
    frontier = Frontier({(EDGE, f"{start}-0000000{start}"): start for start in starts})
    for start in folds:
        frontier.fold(EDGE, start)
    last = max(folds, default=0)
    assert frontier.folds.get(EDGE, 0) == last
    assert [stream for stream in frontier.marks if stream[1].endswith("-")] == ([fold_of(EDGE, last)] if last else [])
    for start in range(1, last):
        assert frontier.has(Position(EDGE, f"{start}-ffffffff", 10**9))
    assert load(dump(frontier)).folds == frontier.folds


texts = st.text(max_size=8)
streams = st.tuples(texts, texts)
numbers = st.integers(0, 2**63 - 1)
fars = st.builds(Far, numbers, numbers)
marks = st.dictionaries(streams, fars, max_size=4)
heads = (numbers, texts, texts, texts)
echoes = st.dictionaries(texts, st.builds(Echo, texts, numbers), max_size=3)
covered = st.tuples(st.builds(Mark, streams, numbers))
messages = st.one_of(
    st.builds(Digest, *heads, numbers, numbers, marks, st.booleans(), echoes),
    st.builds(Ack, *heads, marks, st.booleans()),
    st.builds(Pull, *heads, streams, numbers, numbers),
    st.builds(Pulled, *heads, streams, st.tuples(st.binary(max_size=8)), numbers, numbers, covered),
)


@given(messages)
def test_a_message_is_read_as_it_was_said(message: Any) -> None:
    data = encode(message, lambda payload: payload[:1] * 64)
    assert decode(data, type(message), lambda edge, signature, payload: edge == message.edge) == message
