"""What becomes of a response: the moments between its head and its body, which no client can aim at."""

import asyncio

import pytest

from banish.caching.cache_status import Outcome
from banish.errors import Truncated
from banish.http.fields import Fields
from banish.http.messages import ResponseHead
from banish.proxy.plan import Plan
from banish.purge.stamps import Verdict
from tests.byhand import ByHand, Whole, run

SHORT, FRESH = "Cache-Control: max-age=10", "Cache-Control: max-age=60"
TAG = 'ETag: "1"'


async def answered(
    edge: ByHand, method: str, status: int, *lines: str, target: str = "/a", ask: tuple[str, ...] = ()
) -> Whole:
    """One request and the origin's response to it, without a body."""
    asked = edge.ask(target, *ask, method=method)
    exchange = await edge.origin.next()
    bodyless = status == 304 or method == "HEAD"
    exchange.answer(status, *lines, length=None if bodyless else 0)
    exchange.end()
    whole = await asked
    await edge.settled()
    return whole


def purged(edge: ByHand, target: str) -> bool:
    return edge.stamps.verdict(edge.names(target), 0) is Verdict.HARD


# --- heads


def test_a_response_goes_on_dated_and_with_our_trace() -> None:
    async def scene() -> None:
        edge = ByHand()
        whole = await answered(
            edge, "GET", 200, "Connection: X", "X: 1", "Via: 1.0 x", "Keep-Alive: 1", "Cache-Control: no-store"
        )
        assert whole["date"] == "Tue, 14 Nov 2023 22:13:20 GMT"
        assert whole.answer.fields.get_all("via") == ["1.0 x", "1.1 banish"]
        assert not {"connection", "x", "keep-alive"} & set(whole.answer.fields.names)
        dated = await answered(edge, "GET", 200, "Date: Tue, 14 Nov 2023 22:00:00 GMT", target="/b")
        assert dated.answer.fields.get_all("date") == ["Tue, 14 Nov 2023 22:00:00 GMT"]

    run(scene())


# --- 304


def test_a_304_renews_the_body_that_is_stored() -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a", SHORT, TAG, "X: 1")
        (old,) = edge.store.lookup(edge.key())
        edge.clock.advance(11)
        whole = await answered(edge, "GET", 304, SHORT, TAG, "X: 2")
        assert (whole.outcome, whole.body, whole["x"], whole["age"]) == (Outcome.REVALIDATED, b"hello", "2", "0")
        (new,) = edge.store.lookup(edge.key())
        assert new is not old
        assert new.body is old.body

    run(scene())


def test_a_304_for_a_new_variant_stores_the_same_content_for_it_too() -> None:
    async def scene() -> None:
        edge = ByHand()
        lines = (FRESH, TAG, "Vary: X")
        await edge.store_one("/a", *lines, ask=("X: 1",))
        whole = await answered(edge, "GET", 304, *lines, ask=("X: 2",))
        assert whole.body == b"hello"
        assert len(edge.store) == 2
        for value in (1, 2):
            assert (await edge.ask("/a", f"X: {value}")).outcome is Outcome.HIT

    run(scene())


def test_a_304_says_by_its_tag_which_of_several_it_confirms() -> None:
    async def scene() -> None:
        edge = ByHand()
        for value in (1, 2):
            await edge.store_one("/a", FRESH, f'ETag: "{value}"', "Vary: X", body=b"%d" % value, ask=(f"X: {value}",))
        request = edge.request("/a")
        records = edge.store.lookup(edge.key())
        plan = Plan(request, request.head, edge.site, edge.site.policy("/a"), records[0].meta.key, records)
        for lines, confirmed in (
            ([("ETag", '"1"')], '"1"'), ([("ETag", '"2"')], '"2"'), ([("ETag", '"3"')], None), ([], None),
        ):  # fmt: skip
            found = edge.taker.confirmed(plan, ResponseHead(304, Fields.of(lines)))
            assert (None if found is None else found.meta.etag) == confirmed

    run(scene())


@pytest.mark.parametrize("control", ["no-store", "private", "no-cache, private"])
def test_a_304_that_forbids_storing_takes_the_old_response_out(control: str) -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a", SHORT, TAG)
        edge.clock.advance(11)
        whole = await answered(edge, "GET", 304, f"Cache-Control: {control}", TAG)
        assert whole.body == b"hello"
        assert len(edge.store) == 0

    run(scene())


# --- HEAD


def test_a_head_brings_the_stored_response_up_to_date() -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a", SHORT, TAG)
        edge.clock.advance(11)
        await answered(edge, "HEAD", 200, SHORT, TAG, "X: new")
        hit = await edge.ask("/a")
        assert (hit.outcome, hit.body, hit["x"], hit["age"]) == (Outcome.HIT, b"hello", "new", "0")

    run(scene())


def test_a_head_that_tells_of_other_content_takes_the_stored_response_out() -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a", SHORT, TAG)
        edge.clock.advance(11)
        await answered(edge, "HEAD", 200, SHORT, 'ETag: "2"')
        assert len(edge.store) == 0

    run(scene())


def test_a_group_first_named_by_a_head_purges_what_it_renewed() -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a", SHORT, TAG, 'Cache-Groups: "old"')
        edge.clock.advance(11)
        await answered(edge, "HEAD", 200, FRESH, TAG, 'Cache-Groups: "new"')
        assert (await edge.ask("/a")).outcome is Outcome.HIT
        edge.stamps.apply([edge.group("new")])
        assert edge.store.lookup(edge.key()) == ()

    run(scene())


def test_a_revalidation_behind_a_head_is_a_get_and_its_response_no_news_of_the_old_one() -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a", "Cache-Control: max-age=10, stale-while-revalidate=100")
        edge.clock.advance(11)
        assert (await edge.ask("/a", method="HEAD")).outcome is Outcome.STALE
        exchange = await edge.origin.next()
        assert exchange.asked.method == "GET"
        exchange.answer(200, FRESH, length=5)
        exchange.write(b"wor")
        await edge.settled()
        (old,) = edge.store.lookup(edge.key())
        assert old.meta.lifetime == 10, "the old body was given the new head"
        exchange.fail(Truncated("cut off"))
        await edge.settled()
        assert (await edge.ask("/a")).outcome is Outcome.STALE

    run(scene())


# --- errors hidden


def test_an_error_is_hidden_by_a_stored_response_that_allows_it() -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a", "Cache-Control: max-age=10, stale-if-error=100", TAG)
        edge.clock.advance(11)
        hidden = await answered(edge, "GET", 503, FRESH)
        assert (hidden.status, hidden.body, hidden.outcome) == (200, b"hello", Outcome.STALE_ERROR)
        assert "origin-503" in hidden["cache-status"]
        assert len(edge.store) == 1, "the error was stored"
        seen = await answered(edge, "GET", 404, "Cache-Control: no-store")
        assert seen.status == 404

    run(scene())


# --- what a response makes invalid


@pytest.mark.parametrize(
    ("method", "status", "lines", "gone"),
    [
        ("POST", 200, (), {"/a"}),
        ("PURGE", 200, (), {"/a"}),
        ("DELETE", 204, (), {"/a"}),
        ("POST", 303, ("Location: /b",), {"/a", "/b"}),
        ("POST", 201, ("Location: http://site.example/b?x=1", "Content-Location: /c"), {"/a", "/b?x=1", "/c"}),
        ("POST", 200, ("Location: http://other.example/b",), {"/a"}),
        ("POST", 400, ("Location: /b",), set()),
        ("POST", 500, (), set()),
        ("GET", 200, ("Location: /b",), set()),
        ("OPTIONS", 200, (), set()),
    ],
)
def test_unsafe_methods_purge_what_they_change(
    method: str, status: int, lines: tuple[str, ...], gone: set[str]
) -> None:
    async def scene() -> None:
        edge = ByHand()
        await answered(edge, method, status, *lines)
        assert {target for target in ("/a", "/b", "/b?x=1", "/c") if purged(edge, target)} == gone
        assert (edge.invalidations, edge.stamps.index) == ((1, 1) if gone else (0, 0))

    run(scene())


def test_a_purge_is_in_force_before_the_client_hears_of_it() -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a")
        posted = edge.ask("/a", method="POST")
        exchange = await edge.origin.next()
        exchange.answer(200)
        await edge.turn(3)
        assert not posted.done()
        assert edge.store.lookup(edge.key()) == ()
        exchange.end()
        await posted

    run(scene())


def test_groups_are_purged_by_name_and_through_what_was_changed() -> None:
    async def scene() -> None:
        edge = ByHand()
        for target, group in (("/a", "one"), ("/b", "one"), ("/c", "two"), ("/d", "three")):
            await edge.store_one(target, FRESH, f'Cache-Groups: "{group}"')
        await answered(edge, "POST", 200, 'Cache-Group-Invalidation: "two"')
        left = [target for target in "abcd" if edge.store.lookup(edge.key(f"/{target}"))]
        assert left == ["d"]

    run(scene())


def test_a_post_that_says_what_a_get_would_is_stored_past_its_own_purge() -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a", body=b"old")
        posted = edge.ask("/a", method="POST")
        exchange = await edge.origin.next()
        exchange.answer(200, FRESH, "Content-Location: /a")
        exchange.end(b"new")
        await posted
        await edge.settled()
        assert (await edge.ask("/a")).body == b"new"

    run(scene())


@pytest.mark.parametrize("by_group", [True, False])
def test_a_post_overtaken_by_a_purge_is_not_stored(by_group: bool) -> None:
    async def scene() -> None:
        edge = ByHand()
        posted = edge.ask("/a", method="POST")
        exchange = await edge.origin.next()
        edge.stamps.apply([edge.group() if by_group else edge.url()])
        exchange.answer(200, FRESH, "Content-Location: /a", 'Cache-Groups: "g"')
        exchange.end(b"overtaken")
        assert (await posted).body == b"overtaken"
        await edge.settled()
        assert len(edge.store) == 0

    run(scene())


def test_of_two_posts_at_once_neither_is_stored_by_the_fence_of_the_other() -> None:
    """Each purges what the other says: which of them the origin did last, nobody here can know."""

    async def scene() -> None:
        edge = ByHand()
        tasks = [edge.ask("/a", method="POST") for _ in range(2)]
        exchanges = [await edge.origin.next() for _ in range(2)]
        for at, exchange in enumerate(exchanges):
            exchange.answer(200, FRESH, "Content-Location: /a")
            await edge.settled()
            exchange.write(b"%d" % at)
        for exchange in exchanges:
            exchange.end()
        await asyncio.gather(*tasks)
        await edge.settled()
        assert len(edge.store) == 0

    run(scene())
