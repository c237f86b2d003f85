"""Fetches whose owners leave, whose purges come late and whose origins misbehave, step by step."""

import asyncio
from contextlib import suppress
from unittest import mock

import pytest
import structlog.testing

from banish.caching.cache_status import Outcome
from banish.caching.policy import CachePolicy
from banish.errors import Truncated
from banish.origin.client import Tunnel
from banish.proxy import fetches
from banish.proxy.fetches import FENCED
from banish.proxy.taking import Taker
from tests.byhand import ByHand, run

FRESH = "Cache-Control: max-age=60"


async def cancelled(task: "asyncio.Task[object]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def count(edge: ByHand, name: str) -> float:
    return next(sum(samples.values()) for metric, samples in edge.accounts.collect() if metric.name == name)


# --- owners who leave


def test_a_fetch_worth_keeping_outlives_the_client_that_caused_it() -> None:
    async def scene() -> None:
        edge = ByHand()
        asked = edge.ask("/a")
        exchange = await edge.origin.next()
        await cancelled(asked)
        exchange.answer(200, FRESH)
        exchange.end(b"hello")
        await edge.settled()
        assert len(edge.store) == 1
        assert (await edge.ask("/a")).outcome is Outcome.HIT

    run(scene())


def test_a_request_that_only_reads_past_the_cache_is_broken_off_when_its_owner_leaves() -> None:
    async def scene() -> None:
        edge = ByHand(cache=CachePolicy(bypass=True))
        asked = edge.ask("/a")
        await edge.origin.next()
        await cancelled(asked)
        await edge.settled()
        assert count(edge, "banish_fetches_running") == 0

    run(scene())


def test_what_an_unsafe_request_made_invalid_is_purged_though_its_owner_has_left() -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a")
        asked = edge.ask("/a", method="POST")
        exchange = await edge.origin.next()
        await cancelled(asked)
        await edge.settled()
        exchange.answer(200, length=0)
        exchange.end()
        await edge.settled()
        assert edge.store.lookup(edge.key()) == ()
        assert exchange.closed

    run(scene())


def test_a_response_that_turns_out_not_worth_keeping_is_closed_if_nobody_is_left() -> None:
    async def scene() -> None:
        edge = ByHand()
        asked = edge.ask("/a")
        exchange = await edge.origin.next()
        await cancelled(asked)
        exchange.answer(200, "Cache-Control: no-store")
        await edge.settled()
        assert exchange.closed
        assert count(edge, "banish_fetches_running") == 0

    run(scene())


def test_an_owner_who_leaves_in_the_body_stops_a_relayed_fetch_and_not_a_kept_one() -> None:
    async def scene() -> None:
        for control, kept in (("no-store", False), ("max-age=60", True)):
            edge = ByHand()
            asked = edge.ask("/a")
            exchange = await edge.origin.next()
            exchange.answer(200, f"Cache-Control: {control}")
            exchange.write(b"he")
            await edge.settled()
            await cancelled(asked)
            exchange.end(b"llo")
            await edge.settled()
            assert (len(edge.store) == 1) == kept
            assert exchange.closed

    run(scene())


@pytest.mark.parametrize("turns", range(8))
def test_a_tunnel_is_closed_whenever_its_owner_leaves(turns: int) -> None:
    """Also in the very turn in which the origin's 101 came: then the fetch is over, and nobody holds the tunnel."""

    async def scene() -> None:
        edge, tunnel = ByHand(), mock.Mock(spec=Tunnel)
        asked = asyncio.ensure_future(edge.pipeline.answer(edge.request("/a", upgrade=True)))
        exchange = await edge.origin.next()
        exchange.answer(101, "Upgrade: websocket", tunnel=tunnel)
        await edge.turn(turns)
        if asked.done():
            assert asked.result().tunnel is tunnel  # it has an owner, who will close it
            return
        await cancelled(asked)
        await edge.settled()
        assert tunnel.close.called or exchange.closed
        assert count(edge, "banish_fetches_running") == 0

    run(scene())


def test_stopping_breaks_off_what_is_under_way_and_answers_with_an_error() -> None:
    async def scene() -> None:
        edge = ByHand()
        waiting, reading = edge.ask("/a"), edge.ask("/b")
        await edge.origin.next()
        exchange = await edge.origin.next()
        exchange.answer(200, FRESH)
        exchange.write(b"he")
        await edge.settled()
        await edge.fetcher.stop()
        assert (await waiting).status == 502
        broken = await reading
        assert (broken.status, broken.body) == (200, b"he")
        assert broken.error is not None
        assert len(edge.store) == 0

    run(scene())


# --- purges and failures


def test_what_a_purge_kept_out_of_the_store_is_counted() -> None:
    async def scene() -> None:
        edge = ByHand()
        asked = edge.ask("/a")
        exchange = await edge.origin.next()
        exchange.answer(200, FRESH)
        await edge.settled()
        edge.stamps.apply([edge.url()])
        exchange.end(b"hello")
        assert (await asked).body == b"hello"
        await edge.settled()
        assert (len(edge.store), count(edge, FENCED.name)) == (0, 1)

    run(scene())


def test_a_body_that_breaks_off_is_not_stored_and_tells_all_its_readers() -> None:
    async def scene() -> None:
        edge = ByHand()
        first = edge.ask("/a")
        exchange = await edge.origin.next()
        exchange.answer(200, FRESH)
        exchange.write(b"he")
        second = edge.ask("/a")
        await edge.settled()
        exchange.fail(Truncated("cut off"))
        for whole in (await first, await second):
            assert (whole.body, isinstance(whole.error, Truncated)) == (b"he", True)
        await edge.settled()
        assert len(edge.store) == 0
        assert exchange.closed

    run(scene())


def test_a_part_that_ends_early_is_kept_as_what_it_holds() -> None:
    async def scene() -> None:
        edge = ByHand()
        asked = edge.ask("/a", "Range: bytes=0-4")
        exchange = await edge.origin.next()
        exchange.answer(206, FRESH, "Content-Range: bytes 0-4/10")
        exchange.end(b"012")
        await asked
        await edge.settled()
        assert (await edge.ask("/a", "Range: bytes=1-2")).body == b"12"
        beyond = edge.ask("/a", "Range: bytes=1-3")
        assert (await edge.origin.next()).asked.fields.get("range") == "bytes=1-3"
        await cancelled(beyond)

    run(scene())


def test_a_fault_of_ours_becomes_an_error_and_leaves_the_key_free() -> None:
    async def scene() -> None:
        edge = ByHand()
        with mock.patch.object(Taker, "take", side_effect=RuntimeError("a fault")):
            asked, joined = edge.ask("/a"), edge.ask("/a")
            exchange = await edge.origin.next()
            exchange.answer(200, FRESH)
            assert [(await task).status for task in (asked, joined)] == [502, 502]
        assert exchange.closed
        await edge.store_one("/a")

    with structlog.testing.capture_logs() as logs:
        run(scene())
    assert [entry["event"] for entry in logs] == ["fetch failed"]


# --- conditional requests


def test_a_304_about_something_else_is_asked_again_without_conditions() -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a", "Cache-Control: max-age=10", 'ETag: "1"')
        edge.clock.advance(11)
        asked = edge.ask("/a")
        first = await edge.origin.next()
        assert first.asked.fields.get("if-none-match") == '"1"'
        first.answer(304, 'ETag: "2"', FRESH)
        second = await edge.origin.next()
        assert "if-none-match" not in second.asked.fields
        assert first.closed
        second.answer(200, 'ETag: "2"', FRESH)
        second.end(b"two")
        assert (await asked).body == b"two"

    run(scene())


def test_a_304_that_nobody_asked_for_is_an_error() -> None:
    async def scene() -> None:
        edge = ByHand()
        asked = edge.ask("/a")
        exchange = await edge.origin.next()
        exchange.answer(304, 'ETag: "1"')
        assert (await asked).status == 502
        assert exchange.closed

    run(scene())


def test_a_304_to_the_clients_own_condition_goes_to_the_client() -> None:
    async def scene() -> None:
        edge = ByHand()
        asked = edge.ask("/a", 'If-None-Match: "1"', "Range: bytes=0-1", method="HEAD")
        exchange = await edge.origin.next()
        assert exchange.asked.fields.get("if-none-match") == '"1"'
        exchange.answer(304, 'ETag: "1"')
        assert (await asked).status == 304
        assert len(edge.store) == 0

    run(scene())


# --- sharing


def test_a_key_found_not_to_be_shareable_is_remembered_for_a_while() -> None:
    async def scene() -> None:
        edge = ByHand()
        for _ in range(2):
            asked = edge.ask("/a")
            exchange = await edge.origin.next()
            exchange.answer(200, "Cache-Control: no-store", length=0)
            exchange.end()
            await asked
            await edge.settled()
        assert edge.fetcher.is_unshared(edge.key())
        side_by_side = [edge.ask("/a") for _ in range(3)]
        await edge.settled()
        assert len(edge.origin.exchanges) == 5
        for task in side_by_side:
            await cancelled(task)
        edge.clock.advance(fetches.UNSHARED_S)
        assert not edge.fetcher.is_unshared(edge.key())

    run(scene())


def test_only_so_many_keys_are_remembered_so() -> None:
    async def scene() -> None:
        edge = ByHand()
        with mock.patch.object(fetches, "UNSHARED_KEYS_MAX", 2):
            for target in ("/1", "/2", "/3"):
                asked = edge.ask(target)
                exchange = await edge.origin.next()
                exchange.answer(200, "Cache-Control: no-store", length=0)
                exchange.end()
                await asked
        found = [edge.fetcher.is_unshared(edge.key(target)) for target in ("/1", "/2", "/3")]
        assert found == [False, True, True]

    run(scene())


def test_a_fetch_begun_before_a_purge_is_joined_only_by_who_arrived_before_it() -> None:
    async def scene() -> None:
        edge = ByHand()
        before = edge.request("/a")
        asked = edge.ask("/a")
        exchange = await edge.origin.next()
        edge.stamps.apply([edge.url()])
        assert edge.fetcher.joinable(edge.key(), before.arrived_index) is not None
        assert edge.fetcher.joinable(edge.key(), edge.stamps.index) is None
        assert edge.fetcher.joinable("another", 0) is None
        late = asyncio.ensure_future(edge.whole_answer(before))
        await edge.settled()
        exchange.answer(200, FRESH)
        exchange.end(b"old")
        assert [(await task).body for task in (asked, late)] == [b"old", b"old"]
        assert len(edge.origin.exchanges) == 1

    run(scene())
