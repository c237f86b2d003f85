from banish.purge.stamps import PurgeTable
from banish.store import sweeper
from banish.store.memory import MemoryStore
from banish.tables import Accounts
from tests.stored import key_of, stored_response, url_of


class Hands:
    """A clock that moves a little each time it is read."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.time_s = 1e12
        self.step_s = step_s

    def __call__(self) -> float:
        self.time_s += self.step_s
        return self.time_s


def store_of(table: PurgeTable, keys: int) -> MemoryStore:
    store = MemoryStore(1 << 24, table=table, accounts=Accounts())
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
    assert store.swept == 0
    assert store.sweep(1.0, Hands()) == (100, 2, True)
    assert len(store) == 98
    assert all(record.clean_at == 1 for record in store.walk())
    assert store.swept == 1
    assert store.sweep(1.0, Hands()) == (0, 0, True)


def test_an_empty_store_is_swept_in_one_go() -> None:
    table = PurgeTable()
    store = store_of(table, 0)
    table.begin(500, 400)
    assert store.sweep(1.0, Hands()) == (0, 0, True)
    assert store.swept == 500


def test_a_pass_gives_way_and_goes_on_where_it_was() -> None:
    table = PurgeTable()
    store = store_of(table, 200)
    table.apply([url_of("7")])
    clock = Hands(step_s=0.01)
    examined = deleted = calls = 0
    idle = False
    while not idle:
        assert store.swept == 0 or examined == 200
        progress = store.sweep(0.02, clock)
        assert progress.examined <= 2 * sweeper.CLOCK_EVERY
        examined, deleted, idle = examined + progress.examined, deleted + progress.deleted, progress.idle
        calls += 1
    assert (examined, deleted, store.swept) == (200, 1, 1)
    assert calls > 5


def test_a_purge_during_a_pass_waits_for_the_next() -> None:
    table = PurgeTable()
    store = store_of(table, 200)
    clock = Hands(step_s=0.01)
    table.apply([url_of("7")])
    assert not store.sweep(0.02, clock).idle
    table.apply([url_of(str(n)) for n in range(200)])
    assert store.swept == 0
    while not store.sweep(0.02, clock).idle:
        assert all(record.clean_at >= store.swept for record in store.walk())
        clock.time_s += 1.0  # let it rest
    assert (store.swept, len(store)) == (2, 0)


def test_purges_without_end_take_half_a_percent_of_the_time() -> None:
    table = PurgeTable()
    store = store_of(table, 400)
    clock = Hands(step_s=0.0001)
    began, worked_s = clock.time_s, 0.0
    for n in range(20_000):
        table.apply([url_of(f"none-{n}")])
        before = clock.time_s
        if store.sweep(0.005, clock).examined:
            worked_s += clock.time_s - before
        clock.time_s += 0.001
    assert store.swept > 5000
    assert 0.002 < worked_s / (clock.time_s - began) < 0.008


def test_it_never_rests_for_longer_than_a_bound_however_long_a_pass_takes() -> None:
    table = PurgeTable()
    store = store_of(table, 200)
    clock = Hands(step_s=1.0)
    table.apply([url_of("7")])
    assert store.sweep(1000.0, clock).idle
    table.apply([url_of("8")])
    clock.time_s += sweeper.REST_S_MAX
    assert store.sweep(1000.0, clock).deleted == 1


def test_while_it_rests_it_says_that_something_is_left() -> None:
    table = PurgeTable()
    store = store_of(table, 200)
    clock = Hands(step_s=0.01)
    table.apply([url_of("7")])
    assert store.sweep(1000.0, clock).idle
    table.apply([url_of("8")])
    assert store.sweep(1000.0, clock) == (0, 0, False)
    clock.time_s += 1000.0
    assert store.sweep(1000.0, clock).deleted == 1


class TestUndo:
    def test_what_a_purge_had_marked_is_looked_at_again_before_it_counts_as_swept(self) -> None:
        table = PurgeTable()
        store = store_of(table, 3)
        table.apply([url_of("none")])
        table.apply(soft=[url_of("1")])
        store.sweep(1.0, Hands())
        [record] = store.lookup(key_of("1"))
        assert (store.swept, record.soft) == (2, True)
        table.undo(2)
        store.undone(2)
        assert store.swept == 1
        assert store.sweep(1.0, Hands()) == (3, 0, True)
        assert (store.swept, record.soft) == (2, False)

    def test_during_a_pass_it_makes_another_needed(self) -> None:
        table = PurgeTable()
        store = store_of(table, 200)
        clock = Hands(step_s=0.01)
        table.apply(soft=[url_of(str(n)) for n in range(200)])
        while sum(record.soft for record in store.walk()) < 100:
            store.sweep(0.02, clock)
        table.undo(1)
        store.undone(1)
        while any(record.soft for record in store.walk()):
            assert store.swept == 0
            assert not store.sweep(0.02, clock).idle
        while not store.sweep(0.02, clock).idle:
            pass
        assert store.swept == 1
