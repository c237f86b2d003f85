"""The memory store against a dictionary and a list of all purges."""

from hypothesis import given
from hypothesis import strategies as st

from banish.purge.stamps import Mode, PurgeTable
from banish.store.memory import MemoryStore, PutOutcome
from banish.store.records import StoredResponse
from banish.tables import Accounts
from tests.stored import stored_response, url_of

keys = st.sampled_from("abc")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, st.sampled_from("12"), st.integers(0, 5)),
        st.tuples(st.just("purge"), keys, st.sampled_from(Mode), st.none()),
        st.tuples(st.just("lookup"), keys, st.none(), st.none()),
        st.tuples(st.just("sweep"), st.none(), st.none(), st.sampled_from([0.0, 9.0])),
    ),
    max_size=60,
)


class Model:
    """Every response offered, every purge made; nothing is ever deleted, only looked past."""

    def __init__(self) -> None:
        self.newest: dict[tuple[str, str], StoredResponse] = {}
        self.purges: list[tuple[str, Mode]] = []

    def matched(self, record: StoredResponse, mode: Mode) -> bool:
        return (record.meta.key, mode) in self.purges[record.fence :]

    def usable(self, key: str) -> set[int]:
        held = [record for (known, _), record in self.newest.items() if known == key]
        return {id(record) for record in held if not self.matched(record, Mode.HARD)}


@given(steps)
def test_lookup_gives_the_newest_of_each_variant_that_no_hard_purge_matched(
    plan: list[tuple[str, str, str, float]],
) -> None:
    table, model, time_s = PurgeTable(), Model(), [0.0]
    store = MemoryStore(1 << 24, table=table, accounts=Accounts(), stamp_age_min_s=5)
    for step, key, what, number in plan:
        if step == "purge":
            table.apply([url_of(key)], Mode(what))
            model.purges.append((key, Mode(what)))
        elif step == "sweep":
            store.sweep(1.0, lambda: time_s[0])
            time_s[0] += number
        elif step == "put":
            fence = max(0, table.index - int(number))
            record = stored_response(key, vary=("x",), selecting=(what,), fence=fence)
            outcome = store.put(record)
            clean = not (model.matched(record, Mode.HARD) or model.matched(record, Mode.SOFT))
            forgotten = table.floor > fence < table.index
            assert outcome.stored is (clean and not forgotten)
            assert forgotten is (outcome is PutOutcome.TOO_OLD)
            if outcome.stored:
                model.newest[key, what] = record
        else:
            found = store.lookup(key)
            assert {id(record) for record in found} == model.usable(key)
            assert all(record.soft is model.matched(record, Mode.SOFT) for record in found)
    store.sweep(1.0, lambda: time_s[0])
    assert {id(record) for record in store.walk()} == set().union(*map(model.usable, "abc"))
    assert len(store) == len(list(store.walk()))
