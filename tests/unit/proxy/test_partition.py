"""What an edge does that has not heard from all others: PURGE rule 22, guarantee 4."""

import pytest

from banish.caching.cache_status import Outcome
from banish.errors import ConnectFailed
from tests.byhand import ByHand, run
from tests.tiering import FakeMesh, edge_of, join

LEASE_S = 10.0
FRESH = ("Cache-Control: max-age=600, stale-if-error=600", 'ETag: "1"')


def leased(edge: ByHand) -> ByHand:
    """This edge has heard from all others just now."""
    edge.lease.renew(edge.clock.monotonic() + LEASE_S)
    return edge


async def hot(edge: ByHand) -> None:
    """Something is stored, and answered from the lane in front of the pipeline."""
    await edge.store_one("/a", *FRESH)
    assert (await edge.ask("/a")).outcome is Outcome.HIT
    assert edge.lane_answers() is not None


def cut_off(edge: ByHand) -> None:
    """Time passes, and nobody is heard. Nothing else happens: no timer runs."""
    edge.clock.advance(LEASE_S)


def test_serve_goes_on_answering_and_says_that_purges_may_be_missing() -> None:
    async def scene() -> None:
        edge = leased(ByHand())
        await hot(edge)
        cut_off(edge)
        assert b"detail=behind" in (edge.lane_answers() or b"")
        hit = await edge.ask("/a")
        assert (hit.outcome, "detail=behind" in hit["cache-status"]) == (Outcome.HIT, True)
        asked = edge.ask("/b")
        exchange = await edge.origin.next()
        exchange.answer(200, *FRESH)
        exchange.end(b"")
        assert "detail=behind" in (await asked)["cache-status"]

    run(scene())


def test_heads_made_in_the_same_second_are_made_anew_when_the_state_changes() -> None:
    async def scene() -> None:
        edge = leased(ByHand())
        await hot(edge)
        edge.lease.renew(edge.clock.monotonic())
        assert b"detail=behind" in (edge.lane_answers() or b"")
        leased(edge)
        assert b"behind" not in (edge.lane_answers() or b"behind")

    run(scene())


@pytest.mark.parametrize("policy", ["revalidate", "bypass"])
def test_rule_22_a_hit_that_is_the_first_event_after_the_lease_does_not_come_from_memory(policy: str) -> None:
    async def scene() -> None:
        edge = leased(ByHand(on_partition=policy))
        await hot(edge)
        cut_off(edge)
        assert edge.lane_answers() is None
        leased(edge)
        assert edge.lane_answers() is not None

    run(scene())


def test_revalidate_has_every_stored_response_confirmed_before_it_answers() -> None:
    async def scene() -> None:
        edge = leased(ByHand(on_partition="revalidate"))
        await hot(edge)
        cut_off(edge)
        for _ in range(2):
            asked = edge.ask("/a")
            exchange = await edge.origin.next()
            assert exchange.conditional
            exchange.answer(304, *FRESH)
            whole = await asked
            assert (whole.body, whole.outcome) == (b"hello", Outcome.REVALIDATED)
            assert whole["cache-status"].endswith("detail=behind")
        leased(edge)
        assert (await edge.ask("/a")).outcome is Outcome.HIT

    run(scene())


def test_revalidate_answers_nothing_that_cannot_be_confirmed() -> None:
    async def scene() -> None:
        edge = leased(ByHand(on_partition="revalidate"))
        await hot(edge)
        cut_off(edge)
        asked = edge.ask("/a")
        (await edge.origin.next()).fail(ConnectFailed("down"))
        assert (await asked).status == 502
        asked = edge.ask("/a")
        (await edge.origin.next()).answer(503, length=0)
        edge.origin.exchanges[-1].end()
        assert (await asked).status == 503

    run(scene())


def test_revalidate_joins_no_fetch_that_was_begun_before() -> None:
    async def scene() -> None:
        edge = leased(ByHand(on_partition="revalidate"))
        cut_off(edge)
        one, two = edge.ask("/a"), edge.ask("/a")
        for _ in range(2):
            exchange = await edge.origin.next()
            exchange.answer(200, *FRESH)
            exchange.end(b"x")
        assert [(await asked).outcome for asked in (one, two)] == [Outcome.MISS, Outcome.MISS]

    run(scene())


def test_bypass_passes_and_stores_nothing() -> None:
    async def scene() -> None:
        edge = leased(ByHand(on_partition="bypass"))
        await hot(edge)
        cut_off(edge)
        asked = edge.ask("/a")
        exchange = await edge.origin.next()
        assert not exchange.conditional
        exchange.answer(200, *FRESH)
        exchange.end(b"other")
        whole = await asked
        assert (whole.body, whole.outcome) == (b"other", Outcome.PASS)
        assert whole["cache-status"].endswith('detail="bypass, behind"')
        leased(edge)
        assert (await edge.ask("/a")).body == b"hello"

    run(scene())


def test_without_a_mesh_no_time_is_too_long() -> None:
    async def scene() -> None:
        edge = ByHand(on_partition="bypass")
        await hot(edge)
        edge.clock.advance(300)
        assert edge.lane_answers() is not None

    run(scene())


def test_rule_28_a_check_made_under_revalidate_goes_through_to_the_origin() -> None:
    async def scene() -> None:
        mesh = FakeMesh()
        parent = edge_of(mesh, "paris", on_partition="revalidate")
        child = edge_of(mesh, "kyoto", parents=["paris"], on_partition="revalidate")
        way = join(child, parent)
        await parent.store_one("/a", *FRESH)
        await child.ask("/a")
        await child.settled()
        leased(child)
        cut_off(child)
        asked = child.ask("/a")
        exchange = await parent.origin.next()  # though it is fresh there, and nothing is behind
        assert exchange.conditional
        exchange.answer(304, *FRESH)
        whole = await asked
        assert (whole.body, whole.outcome) == (b"hello", Outcome.REVALIDATED)
        assert len(way.asked) == 2

    run(scene())


def test_rule_28_what_a_parent_serves_for_want_of_news_does_not_travel() -> None:
    async def scene() -> None:
        mesh = FakeMesh()
        parent = edge_of(mesh, "paris")
        child = edge_of(mesh, "kyoto", parents=["paris"])
        join(child, parent)
        await parent.store_one("/a", *FRESH)
        leased(parent)
        cut_off(parent)
        assert (await parent.ask("/a")).outcome is Outcome.HIT  # its own clients get it
        asked = child.ask("/a")
        exchange = await parent.origin.next()
        assert exchange.conditional
        exchange.answer(200, *FRESH)
        exchange.end(b"new")
        assert (await asked).body == b"new"

    run(scene())
