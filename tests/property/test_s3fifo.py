"""The eviction queue: within its budget whatever is asked of it, and deaf to scans."""

from hypothesis import given
from hypothesis import strategies as st

from banish.store.s3fifo import S3Fifo

keys = st.integers(0, 15)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), keys, st.integers(0, 120)),
        st.tuples(st.just("touch"), keys, st.just(0)),
        st.tuples(st.just("remove"), keys, st.just(0)),
    ),
    max_size=200,
)


@given(steps)
def test_it_holds_what_was_added_less_what_it_said_it_evicted_within_its_budget(
    plan: list[tuple[str, int, int]],
) -> None:
    queue: S3Fifo[int] = S3Fifo(100)
    model: dict[int, int] = {}
    for step, key, weight in plan:
        if step == "add":
            model[key] = weight
            for evicted in queue.add(key, weight):
                del model[evicted]
        elif step == "touch":
            queue.touch(key)
        else:
            assert queue.remove(key) is (model.pop(key, None) is not None)
        assert set(queue) == set(model)
        assert len(queue) == len(model)
        assert queue.used == sum(model.values()) <= queue.budget
        assert queue.small_used == sum(place.weight for place in queue._small.values())


@given(st.integers(1, 8), st.lists(st.integers(1, 9), min_size=100, max_size=300))
def test_a_hot_set_survives_a_scan(hot_keys: int, scan: list[int]) -> None:
    """Keys asked for twice while new, and now and then after, outlast any number of keys asked for once."""
    queue: S3Fifo[str] = S3Fifo(100)
    hot = [f"hot {n}" for n in range(hot_keys)]
    for key in hot:
        queue.add(key, 5)
        queue.touch(key)
        queue.touch(key)
    for n, weight in enumerate(scan):
        queue.add(f"scan {n}", weight)
        if n % 10 == 0:
            for key in hot:
                queue.touch(key)
    assert set(hot) <= set(queue)
