from collections.abc import Iterable
from typing import Any

from banish.admin.explain import explain
from banish.testing.clock import FakeClock
from tests.stored import stored_response
from tests.unit.admin.subject import FakeEdge

URL = "http://shop.example/a"
KEY = f"{FakeEdge().sites.all[0].key_name} {URL}"


def told(edge: FakeEdge, url: str = URL, lines: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
    return explain(edge, url, lines)


def test_a_fresh_response_is_a_hit() -> None:
    edge = FakeEdge()
    edge.store.put(stored_response(KEY))
    answer = told(edge, "http://SHOP.example:80/./a")
    assert (answer["answer"], answer["stored"], answer["site"], answer["key"]) == ("hit", True, "default", KEY)
    (variant,) = answer["variants"]
    assert variant["chosen"]
    assert variant["fresh"]
    assert (variant["age_s"], variant["ttl_s"], variant["lifetime_s"]) == (60, 540, 600)


def test_what_is_not_stored_says_so() -> None:
    answer = told(FakeEdge())
    assert (answer["answer"], answer["why"]) == ("forward", "nothing is stored for this URL")
    assert answer["variants"] == []


def test_another_variant_is_shown_and_not_chosen() -> None:
    edge = FakeEdge()
    edge.store.put(stored_response(KEY, vary=("accept-language",), selecting=("de",)))
    answer = told(edge, lines=[("Accept-Language", "fr")])
    assert answer["answer"] == "forward"
    assert "other values" in answer["why"]
    assert [variant["chosen"] for variant in answer["variants"]] == [False]
    assert answer["variants"][0]["vary"] == {"accept-language": "de"}


def test_a_soft_purged_response_is_revalidated() -> None:
    edge = FakeEdge()
    record = stored_response(KEY)
    edge.store.put(record)
    record.soft = True
    answer = told(edge)
    assert answer["answer"] == "revalidate"
    assert answer["why"].endswith("it was purged, softly")
    assert answer["variants"][0]["soft_purged"]
    assert not answer["variants"][0]["fresh"]


def test_what_is_stale_says_for_how_long() -> None:
    edge = FakeEdge()
    edge.store.put(stored_response(KEY))
    edge.clock = FakeClock(1e9 + 610)
    assert told(edge)["why"].endswith("it has been stale for 10.0 s")


def test_request_fields_have_their_say() -> None:
    edge = FakeEdge()
    edge.store.put(stored_response(KEY))
    assert told(edge, lines=[("Cache-Control", "no-cache")])["answer"] == "revalidate"
    assert told(FakeEdge(), lines=[("Cache-Control", "only-if-cached")])["answer"] == "504"


def test_a_host_of_no_site_is_refused() -> None:
    edge = FakeEdge()
    edge.sites._any = None
    assert told(edge)["why"] == "no site answers the host shop.example"
