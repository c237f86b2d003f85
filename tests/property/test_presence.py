"""Presence against the definition of what a target hits: it may say yes too often, and never no."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from banish.purge.names import Names
from banish.purge.presence import BEGINNINGS_MAX, Presence
from banish.purge.targets import Target, host_target, matches, prefix_target
from tests.property.test_purge_table import some_names, targets

deep = st.integers(0, 2 * BEGINNINGS_MAX).map(lambda depth: "a.example/" + "x/" * depth + "end")
beginnings = st.builds(lambda place, end: place[:end], deep, st.integers(1, 40))
any_target = targets | st.builds(prefix_target, st.just(""), beginnings, boundary=st.booleans())
any_names = some_names() | st.builds(lambda place: Names("shop", f"https://{place}"), deep)


@example([], [Names("shop", "https://a.example:81/")], [host_target("", "a.example"), host_target("", "*.example")])
@given(st.lists(any_names, max_size=3), st.lists(any_names, max_size=3), st.lists(any_target, min_size=1, max_size=20))
@settings(max_examples=300)
def test_what_matches_any_that_is_there_may_hit(gone: list[Names], there: list[Names], asked: list[Target]) -> None:
    presence = Presence()
    for names in (*gone, *there):
        presence.add(names)
    for names in gone:
        presence.remove(names)
    for target in asked:
        if any(matches(target, names) for names in there):
            assert presence.may_hit(target)
        if not there:
            assert not presence.may_hit(target)
