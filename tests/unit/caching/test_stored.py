import gc

from banish.caching.stored import age, ttl

from .exchanges import NOW, cached, stored


def test_age_grows_with_time() -> None:
    meta = stored(cached("max-age=60", ("Age", "10")))
    assert age(meta, NOW) == 10
    assert age(meta, NOW + 5.5) == 15.5


def test_a_clock_set_back_does_not_rejuvenate() -> None:
    meta = stored(cached("max-age=60", ("Age", "10")))
    assert age(meta, NOW - 100) == 10


def test_ttl_goes_below_zero() -> None:
    meta = stored(cached("max-age=60"))
    assert (ttl(meta, NOW + 59), ttl(meta, NOW + 60), ttl(meta, NOW + 61)) == (1, 0, -1)


def test_freshness_ends_when_age_reaches_the_lifetime() -> None:
    meta = stored(cached("max-age=60"))
    assert ttl(meta, NOW + 59.9) > 0
    assert not ttl(meta, NOW + 60) > 0


def test_metadata_is_not_tracked_by_the_cyclic_collector() -> None:
    assert not gc.is_tracked(stored(cached("max-age=60")))
