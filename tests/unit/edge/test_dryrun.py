"""Dry runs: what would match, by the rules that purges obey, and what it would cost the origin."""

import math

import pytest

from banish.edge import dryrun
from banish.edge.receipts import PurgeRequest
from banish.errors import ClientError
from banish.purge.given import Given
from banish.purge.names import Names
from banish.purge.stamps import Mode
from banish.purge.targets import Kind
from banish.store.tiers import Held
from tests.looped import looped
from tests.unit.edge.services import ALICE, SHOPKEEPER, serving, tag


def held(path: str, *tags: str, rate: float = 0.0, site: str = "shop") -> Held:
    return Held(Names(site, f"https://example.com{path}", tags), 100, rate)


@looped
async def test_it_counts_what_a_purge_would_match_and_changes_nothing() -> None:
    async with serving() as service:
        service.store.held = [held("/a", "news"), held("/blog/b", "news"), held("/blog/c"), held("/d", site="wiki")]
        before = (service.table.index, len(service.table), len(await service.entries()))
        asked = PurgeRequest(
            targets=(tag("news"), Given(Kind.PREFIX, "example.com/blog/"), tag("none", Mode.SOFT)), site="shop"
        )
        found = await service.purger.dry_run(asked, ALICE)
        assert (found.matched, found.bytes, found.complete, found.sites) == (3, 300, True, ("shop",))
        assert sorted(count.matched for count in found.targets) == [0, 1, 2]
        assert [count.target.value for count in found.targets] == ["news", "example.com/blog/", "none"]
        assert (service.table.index, len(service.table), len(await service.entries())) == before


@looped
async def test_its_scope_is_the_callers() -> None:
    async with serving() as service:
        service.store.held = [held("/a"), held("/b", site="wiki")]
        everything = PurgeRequest(targets=(Given(Kind.EVERYTHING),))
        assert (await service.purger.dry_run(everything, ALICE)).matched == 2
        assert (await service.purger.dry_run(everything, SHOPKEEPER)).matched == 1
        with pytest.raises(ClientError):
            await service.purger.dry_run(PurgeRequest(targets=(tag("a"),), site="wiki"), SHOPKEEPER)


@looped
async def test_the_origin_gets_one_request_for_each_url_that_is_asked_for() -> None:
    rates = (0.01, 1.0, 500.0, 0.0)
    async with serving() as service:
        service.store.held = [held(f"/{at}", rate=rate) for at, rate in enumerate(rates)]
        found = await service.purger.dry_run(PurgeRequest(targets=(Given(Kind.EVERYTHING),)), ALICE)
        expected = [sum(1 - math.exp(-rate * for_s) for rate in rates) for for_s in (1, 60)]
        assert found.origin_requests_first_second == pytest.approx(expected[0], abs=0.01)
        assert found.origin_requests_first_minute == pytest.approx(expected[1], abs=0.01)


@looped
async def test_the_hottest_are_named() -> None:
    async with serving() as service:
        service.store.held = [held(f"/{at}", rate=at % 50) for at in range(200)]
        found = await service.purger.dry_run(PurgeRequest(targets=(Given(Kind.EVERYTHING),)), ALICE)
        assert [sample.hits_per_s for sample in found.samples] == [49.0] * 4 + [48.0] * 4 + [47.0] * 4 + [46.0] * 4 + [
            45.0
        ] * 4
        assert found.samples[0].url == "https://example.com/49"


@looped
async def test_one_that_could_not_look_at_everything_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dryrun, "EXAMINED_MAX", 3)
    async with serving() as service:
        service.store.held = [held(f"/{at}") for at in range(4)]
        found = await service.purger.dry_run(PurgeRequest(targets=(Given(Kind.EVERYTHING),)), ALICE)
        assert (found.matched, found.complete) == (3, False)
