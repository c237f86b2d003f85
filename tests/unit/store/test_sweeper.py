import pytest

from banish.purge.stamps import PurgeTable, Verdict
from banish.store import sweeper
from banish.store.memory import MemoryStore, PutOutcome
from banish.tables import Accounts
from tests.stored import stored_response, url_of


class Hands:
    """A clock that moves a little each time it is read."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.time_s = 1e12
        self.step_s = step_s

    def __call__(self) -> float:
        self.time_s += self.step_s
        return self.time_s


def store_of(table: PurgeTable, keys: int) -> MemoryStore:
    store = MemoryStore(1 << 24, table=table, accounts=Accounts(), stamp_age_min_s=60)
    for n in range(keys):
        store.put(stored_response(str(n)))
    return store


def test_without_purges_there_is_nothing_to_do() -> None:
    store = store_of(PurgeTable(), 10)
    assert store.sweep(1.0, Hands()) == (0, 0, True)


def test_a_pass_deletes_what_was_purged_and_checks_the_rest() -> None:
    table = PurgeTable()
    store = store_of(table, 100)
    table.apply([url_of("7"), url_of("8"), url_of("nothing")])
    assert store.sweep(1.0, Hands()) == (100, 2, True)
    assert len(store) == 98
    assert all(record.clean_at == 1 for record in store.walk())
    assert store.sweep(1.0, Hands()) == (0, 0, True)


def test_the_floor_follows_when_the_stamps_are_old_enough() -> None:
    table = PurgeTable()
    store = store_of(table, 10)
    clock = Hands()
    table.apply([url_of("7")])
    store.sweep(1.0, clock)
    clock.time_s += 59
    store.sweep(1.0, clock)
    assert (table.floor, len(table)) == (0, 1)
    assert store.put(stored_response("8", fence=0)) is PutOutcome.STORED
    clock.time_s += 1
    store.sweep(1.0, clock)
    assert (table.floor, len(table)) == (1, 0)
    assert store.put(stored_response("8", fence=0)) is PutOutcome.TOO_OLD
    assert len(store.lookup("9")) == 1


def test_a_pass_gives_way_and_goes_on_where_it_was() -> None:
    table = PurgeTable()
    store = store_of(table, 200)
    table.apply([url_of("7")])
    clock = Hands(step_s=0.01)
    examined = deleted = calls = 0
    idle = False
    while not idle:
        progress = store.sweep(0.02, clock)
        assert progress.examined <= 2 * sweeper.CLOCK_EVERY
        examined, deleted, idle = examined + progress.examined, deleted + progress.deleted, progress.idle
        calls += 1
    assert (examined, deleted) == (200, 1)
    assert calls > 5


def test_a_purge_during_a_pass_waits_for_the_next_and_its_stamp_with_it() -> None:
    table = PurgeTable()
    store = store_of(table, 200)
    clock = Hands(step_s=0.01)
    table.apply([url_of("7")])
    assert not store.sweep(0.02, clock).idle
    table.apply([url_of(str(n)) for n in range(200)])
    while not store.sweep(0.02, clock).idle:
        pass
    assert len(store) == 0
    clock.time_s += 60
    store.sweep(1.0, clock)
    assert (table.floor, len(table)) == (2, 0)


def test_ended_passes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "GOALS_MAX", 2)
    table = PurgeTable()
    store = store_of(table, 1)
    clock = Hands()
    for _ in range(5):
        table.apply([url_of("gone")])
        store.sweep(1.0, clock)
        clock.time_s += 10
    clock.time_s += 10
    store.sweep(1.0, clock)
    assert table.floor == 1
    clock.time_s += 60
    store.sweep(1.0, clock)
    assert table.floor == 5
    assert table.verdict([url_of("gone")], 5) is Verdict.CLEAN
