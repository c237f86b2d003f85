from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from banish.origin.rendezvous import ranked

NAMES = st.sets(st.text("abcdefgh", min_size=1, max_size=4), max_size=8)


@given(st.text(max_size=40), NAMES)
def test_everybody_is_asked_once_and_all_who_ask_agree(key: str, names: set[str]) -> None:
    order = ranked(key, names)
    assert sorted(order) == sorted(names)
    assert order == ranked(key, sorted(names, reverse=True))


@given(st.text(max_size=40), NAMES, st.text("abcdefgh", min_size=1, max_size=4))
def test_who_comes_or_goes_moves_nobody_elses_place(key: str, names: set[str], other: str) -> None:
    without = ranked(key, names - {other})
    assert [name for name in ranked(key, names | {other}) if name != other] == without


def test_shares_are_about_equal_and_so_are_those_of_one_that_is_gone() -> None:
    names = ["paris", "quito", "delhi", "kyoto"]
    orders = [ranked(f"http://site.example/{at}", names) for at in range(8000)]
    first = Counter(order[0] for order in orders)
    assert all(1800 < first[name] < 2200 for name in names)
    heirs = Counter(order[1] for order in orders if order[0] == "paris")
    assert all(550 < heirs[name] < 790 for name in names[1:])
