import pytest

from banish.store import graves as module
from banish.store.graves import GRAVE_SITE_S, Grave, Graves
from banish.tables import Accounts


@pytest.fixture
def accounts() -> Accounts:
    return Accounts()


@pytest.fixture
def graves(accounts: Accounts) -> Graves:
    return Graves(accounts)


def forgotten(accounts: Accounts) -> float:
    return next(
        counts[()] for metric, counts in accounts.collect() if metric.name == "banish_purge_graves_forgotten_total"
    )


def test_the_purge_that_removed_a_response_is_found_until_it_is_stored_anew(graves: Graves) -> None:
    graves.bury("k", 7, 2.5)
    assert graves.find("k", "shop", 0) == Grave(7, 2.5)
    assert graves.find("other", "shop", 0) is None
    graves.exhume("k")
    assert graves.find("k", "shop", 0) is None
    graves.exhume("k")


def test_variants_and_tiers_share_a_grave_with_the_newest_purge_and_the_greatest_heat(graves: Graves) -> None:
    graves.bury("k", 7, 2.5)
    graves.bury("k", 7, 0.0)
    graves.bury("k", 9, 1.0)
    graves.bury("k", 8, 0.5)
    assert graves.find("k", "shop", 0) == Grave(9, 2.5)


def test_a_site_purged_whole_explains_its_misses_for_a_while(graves: Graves) -> None:
    graves.bury_site("shop", 7, 100)
    assert graves.find("k", "shop", 100) == Grave(7, everything=True)
    assert graves.find("k", "other", 100) is None
    assert graves.find("k", "shop", 100 + GRAVE_SITE_S) is None


def test_all_sites_purged_explain_every_miss(graves: Graves) -> None:
    graves.bury_site("shop", 7, 100)
    graves.bury_site("", 9, 130)
    assert graves.find("k", "shop", 130) == Grave(9, everything=True)
    assert graves.find("k", "other", 130) == Grave(9, everything=True)


def test_a_key_s_own_grave_goes_before_its_site_s_and_tells_whether_they_are_one(graves: Graves) -> None:
    graves.bury_site("shop", 9, 130)
    graves.bury("k", 5, 2.5)
    assert graves.find("k", "shop", 130) == Grave(5, 2.5)
    graves.bury("k", 9, 1.0)
    assert graves.find("k", "shop", 130) == Grave(9, 2.5, everything=True)


def test_the_longest_unasked_for_are_forgotten_past_the_bound_and_counted(accounts: Accounts) -> None:
    graves = Graves(accounts, graves_max=3)
    for n in range(3):
        graves.bury(str(n), n + 1, 0.0)
    graves.find("0", "shop", 0)
    graves.bury("3", 4, 0.0)
    assert len(graves) == 3
    assert graves.find("0", "shop", 0) is not None
    assert graves.find("1", "shop", 0) is None
    assert forgotten(accounts) == 1


def test_marks_of_sites_are_bounded(graves: Graves, accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MARKS_MAX", 2)
    for n in range(3):
        graves.bury_site(str(n), n + 1, 0)
    assert [graves.find("k", str(n), 0) for n in range(3)] == [
        None,
        Grave(2, everything=True),
        Grave(3, everything=True),
    ]
    assert forgotten(accounts) == 1
