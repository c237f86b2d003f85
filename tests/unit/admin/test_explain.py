import asyncio
from collections.abc import Iterable

import pytest

from banish.admin.explain import TARGETS_SHOWN, Explained, PurgedBy, explain
from banish.edge.receipts import Caller, PurgeRequest
from banish.errors import ClientError
from banish.purge.given import parse_targets
from banish.purge.stamps import Mode
from banish.purge.targets import tag_target
from banish.testing.clock import FakeClock
from tests.stored import stored_response
from tests.unit.admin.subject import FakeEdge

URL = "http://shop.example/a"
KEY = f"{FakeEdge().sites.all[0].key_name} {URL}"


def told(edge: FakeEdge, url: str = URL, lines: Iterable[tuple[str, str]] = ()) -> Explained:
    return asyncio.run(explain(edge, url, lines))


def test_a_fresh_response_is_a_hit() -> None:
    edge = FakeEdge()
    edge.store.put(stored_response(KEY))
    answer = told(edge, "http://SHOP.example:80/./a")
    assert (answer.answer, answer.stored, answer.site, answer.key) == ("hit", True, "default", KEY)
    (variant,) = answer.variants
    assert variant.chosen
    assert variant.fresh
    assert (variant.age_s, variant.ttl_s, variant.lifetime_s) == (60, 540, 600)


def test_what_is_not_stored_says_so() -> None:
    answer = told(FakeEdge())
    assert (answer.answer, answer.why) == ("forward", "nothing is stored for this URL")
    assert answer.variants == []


def test_another_variant_is_shown_and_not_chosen() -> None:
    edge = FakeEdge()
    edge.store.put(stored_response(KEY, vary=("accept-language",), selecting=("de",)))
    answer = told(edge, lines=[("Accept-Language", "fr")])
    assert answer.answer == "forward"
    assert "other values" in answer.why
    assert [variant.chosen for variant in answer.variants] == [False]
    assert answer.variants[0].vary == {"accept-language": "de"}


def purged(edge: FakeEdge, *, targets: int = 1, **how: object) -> str:
    """An entry of the history; its id."""
    given = parse_targets([{"tag": f"news{number or ''}"} for number in range(targets)])
    asked = PurgeRequest(targets=given, reason="a misprint", **how)  # type: ignore[arg-type]
    return asyncio.run(edge.purger.purge(asked, Caller("deploy", "192.0.2.7"))).id


def test_a_soft_purged_response_is_revalidated_and_says_which_purge_it_was() -> None:
    edge = FakeEdge()
    edge.store.put(stored_response(KEY, tags=("news",)))
    id_ = purged(edge, mode=Mode.SOFT)
    edge.store.table.apply(soft=[tag_target("default", "news")])
    answer = told(edge)
    assert answer.answer == "revalidate"
    assert answer.why.endswith("it was purged, softly")
    (variant,) = answer.variants
    assert variant.soft_purged
    assert not variant.fresh
    by = variant.soft_purged_by
    assert by is not None
    assert (by.id, by.mode, by.actor, by.source, by.reason) == (id_, "soft", "deploy", "192.0.2.7", "a misprint")
    assert [target.tag for target in by.targets] == ["news"]


def test_what_a_purge_removed_says_which_one_who_and_why() -> None:
    edge = FakeEdge()
    id_ = purged(edge, targets=TARGETS_SHOWN + 2)
    edge.store.graves.bury(KEY, 1, 0.0)
    answer = told(edge)
    assert (answer.answer, answer.stored) == ("forward", False)
    by = answer.purged_by
    assert by is not None
    assert (by.index, by.id, by.kind, by.mode, by.at) == (1, id_, "purge", "hard", edge.clock.now())
    assert (by.actor, by.source, by.reason) == ("deploy", "192.0.2.7", "a misprint")
    assert (len(by.targets), by.targets_in_all) == (TARGETS_SHOWN, TARGETS_SHOWN + 2)


def test_a_purge_of_the_whole_site_is_named_as_long_as_that_is_news() -> None:
    edge = FakeEdge()
    id_ = purged(edge)
    edge.store.graves.bury_site("default", 1, edge.clock.monotonic())
    by = told(edge).purged_by
    assert by is not None
    assert by.id == id_
    edge.store.put(stored_response(KEY))
    assert told(edge).purged_by is None


@pytest.mark.parametrize("known", [True, False])
def test_a_purge_that_the_log_has_forgotten_is_known_by_its_number(known: bool) -> None:
    edge = FakeEdge()
    edge.store.graves.bury(KEY, 7, 0.0)
    if known:  # …to the service, and gone from the log a moment later
        edge.purger.why = lambda index: "0123456789abcdef.1-89abcdef.7"  # type: ignore[method-assign]
    assert told(edge).purged_by == PurgedBy(index=7)


def test_what_is_on_disk_is_found_there() -> None:
    edge = FakeEdge()
    edge.store.on_disk[KEY] = stored_response(KEY)
    assert told(edge).answer == "hit"


def test_while_the_log_cannot_be_written_nothing_stored_is_trusted() -> None:
    edge = FakeEdge()
    edge.store.put(stored_response(KEY))
    edge.purger.passing = True
    answer = told(edge)
    assert (answer.answer, answer.passing) == ("forward", True)
    assert [variant.chosen for variant in answer.variants] == [False]


def test_a_site_that_the_caller_has_nothing_to_do_with_is_not_told_of() -> None:
    with pytest.raises(ClientError, match='not for the site "default"'):
        asyncio.run(explain(FakeEdge(), URL, (), covers=lambda site: False))


def test_what_is_stale_says_for_how_long() -> None:
    edge = FakeEdge()
    edge.store.put(stored_response(KEY))
    edge.clock = FakeClock(1e9 + 610)
    assert told(edge).why.endswith("it has been stale for 10.0 s")


def test_request_fields_have_their_say() -> None:
    edge = FakeEdge()
    edge.store.put(stored_response(KEY))
    assert told(edge, lines=[("Cache-Control", "no-cache")]).answer == "revalidate"
    assert told(FakeEdge(), lines=[("Cache-Control", "only-if-cached")]).answer == "504"


def test_a_host_of_no_site_is_refused() -> None:
    edge = FakeEdge()
    edge.sites._any = None
    assert told(edge).why == "no site answers the host shop.example"
