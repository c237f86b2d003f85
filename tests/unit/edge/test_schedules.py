"""Schedules and undo windows: what is due when, and the bounds on how many wait."""

import msgspec
import pytest

from banish.edge import schedules, undoing
from banish.edge.schedules import SCHEDULES, Schedules
from banish.edge.undoing import PURGES_UNDO_LOST, PURGES_UNDOABLE, Undoable
from banish.errors import LimitExceeded
from banish.purge.records import Record
from banish.tables import Accounts
from tests.purgelogs import Issuer, figure

RECORD = Issuer().record()[1]


def due(at: float) -> Record:
    return msgspec.structs.replace(RECORD, due=at)


def test_the_earliest_is_due_first_and_stays_until_it_is_taken() -> None:
    accounts = Accounts()
    waiting = Schedules(accounts)
    for index, at in ((1, 30.0), (2, 10.0), (3, 20.0)):
        waiting.add(index, due(at))
    assert (waiting.next_due(), waiting.oldest(), figure(accounts, SCHEDULES.name)) == (10.0, 1, 3)
    assert [index for index, _ in waiting.due(9.0)] == []
    assert [index for index, _ in waiting.due(20.0)] == [2, 3]
    assert [index for index, _ in waiting.due(20.0)] == [2, 3]
    assert waiting.take(2) == due(10.0)
    assert waiting.take(2) is None
    assert (2 in waiting, waiting.next_due()) == (False, 20.0)


def test_no_more_wait_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "SCHEDULES_MAX", 1)
    waiting = Schedules(Accounts())
    waiting.check_room()
    waiting.add(1, due(1.0))
    with pytest.raises(LimitExceeded):
        waiting.check_room()


def test_what_is_cancelled_is_let_go_of() -> None:
    waiting = Schedules(Accounts())
    for index in range(1000):
        waiting.add(index, due(float(index)))
        waiting.take(index)
    assert len(waiting._due) <= 17
    assert (waiting.next_due(), waiting.oldest(), len(waiting)) == (None, None, 0)


def test_undo_windows_end_in_order() -> None:
    accounts = Accounts()
    released: list[int] = []
    undoable = Undoable(released.append, accounts)
    for index, until in ((1, 10.0), (2, 20.0), (3, 30.0), (4, 5.0)):
        undoable.add(index, until, now=5.0, id=str(index))
    assert released == [4], "its window is over already"
    undoable.take(2)
    undoable.expire(29.0)
    assert released == [4, 1]
    assert (3 in undoable, figure(accounts, PURGES_UNDOABLE.name)) == (True, 1)


def test_past_the_bound_the_oldest_can_be_undone_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undoing, "UNDOABLE_MAX", 2)
    accounts = Accounts()
    released: list[int] = []
    undoable = Undoable(released.append, accounts)
    for index in (1, 2, 3):
        undoable.add(index, 10.0, now=0.0, id=str(index))
    assert (released, figure(accounts, PURGES_UNDO_LOST.name)) == ([1], 1)
