"""SIEVE over places handed in some at a time, against the algorithm of the paper on a list."""

from hypothesis import given
from hypothesis import strategies as st

from banish.store.sieve import Sieve


class Paper:
    """Figure 3, as it stands: a list, oldest first, with a mark each, and a hand."""

    def __init__(self) -> None:
        self.queue: list[int] = []
        self.marked: set[int] = set()
        self.hand = 0  # the serial from which it looks

    def evict(self) -> int:
        while True:
            first = next((serial for serial in self.queue if serial >= self.hand), self.queue[0])
            self.hand = first + 1
            if first not in self.marked:
                self.queue.remove(first)
                return first
            self.marked.discard(first)


@given(st.lists(st.one_of(st.just("store"), st.just("evict"), st.integers(0, 30))), st.integers(1, 5))
def test_it_takes_whom_the_paper_takes(plan: list[str | int], slice_rows: int) -> None:
    sieve, paper = Sieve(marks=64), Paper()
    rows: list[int] = []
    serial = 0
    for step in plan:
        if step == "store":
            serial = min(serial + 1, 63)
            if serial not in rows:
                rows.append(serial)
                paper.queue.append(serial)
        elif step == "evict":
            if rows:
                assert _evict(sieve, rows, slice_rows) == paper.evict()
        elif step in rows:
            assert isinstance(step, int)
            sieve.touch(step)
            paper.marked.add(step)
        assert rows == paper.queue


def _evict(sieve: Sieve, rows: list[int], slice_rows: int) -> int:
    while True:
        ahead = [serial for serial in rows if serial >= sieve.hand][:slice_rows]
        for serial in ahead:
            if not sieve.passes(serial):
                rows.remove(serial)
                return serial
        if len(ahead) < slice_rows:
            sieve.turn()
