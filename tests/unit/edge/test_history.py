"""What callers read of purges: the feed, the listing, the export, and how far each purge is."""

import asyncio
import random
from pathlib import Path

import pytest

from banish.edge import history, progress
from banish.edge.progress import PURGE_MATCHED, PURGE_MATCHED_BYTES, PURGE_WAITERS, PURGE_WAITERS_REFUSED
from banish.edge.receipts import Feed, Filters, Stage, Wait
from banish.errors import ClientError, LimitExceeded, LogUnwritable
from banish.purge.records import RecordKind, decode
from banish.purge.stamps import Mode
from banish.purge.targets import tag_target
from tests.looped import looped, settle
from tests.purgelogs import Disk
from tests.unit.edge.services import ALICE, BOB, SHOPKEEPER, Service, serving, tag

LONG_S = 60.0
ALL = Filters()


def ids(feed: Feed) -> list[str]:
    return [purge.id for purge in feed.purges]


async def waiting(service: Service, count: int = 1) -> None:
    """That many callers wait."""
    while service.figure(PURGE_WAITERS) != count:  # noqa: ASYNC110
        await asyncio.sleep(0)


# --- the feed


@looped
async def test_the_feed_tells_everything_once_and_in_order_however_it_is_cut(tmp_path: Path) -> None:
    """Callers purge side by side, followers take pieces of any size at any moment."""
    draw = random.Random(7)
    async with serving(tmp_path / "log") as service:
        made: list[str] = []

        async def purge(number: int) -> None:
            for at in range(20):
                purge = await service.purge(tag(f"{number}.{at}"))
                made.append(purge.id)
                for _ in range(draw.randrange(3)):
                    await asyncio.sleep(0)

        async def follow() -> list[str]:
            told: list[str] = []
            cursor: str | None = None
            while len(told) < 100:
                feed = await service.purger.feed(cursor, wait_s=LONG_S, limit=draw.randrange(1, 8))
                assert feed.purges
                assert all(purge.index <= service.log.committed for purge in feed.purges)
                told += ids(feed)
                cursor = feed.cursor
            return told

        *followed, _ = await asyncio.gather(
            *[follow() for _ in range(4)], asyncio.gather(*[purge(n) for n in range(5)])
        )
        logged = [entry.position.text for entry in await service.entries() if entry.kind is RecordKind.PURGE]
        assert sorted(made) == sorted(logged)
        assert all(told == logged for told in followed)


@looped
async def test_the_feed_shows_only_what_is_durable() -> None:
    disk = Disk()
    async with serving(ledger=disk.ledger) as service:
        first = await service.purge()
        disk.gate.clear()
        asked = asyncio.create_task(service.purge())
        await settle()
        feed = await service.purger.feed(None)
        assert ids(feed) == [first.id]
        disk.gate.set()
        second = await asked
        assert ids(await service.purger.feed(feed.cursor)) == [second.id]


@looped
async def test_who_waits_for_news_gets_it_when_it_is_durable() -> None:
    async with serving() as service:
        empty = await service.purger.feed(None)
        assert empty.purges == ()
        follower = asyncio.create_task(service.purger.feed(empty.cursor, wait_s=LONG_S))
        await waiting(service)
        purge = await service.purge()
        assert ids(await follower) == [purge.id]


@looped
async def test_a_wait_without_news_ends_with_a_cursor_that_goes_on() -> None:
    async with serving() as service:
        feed = await service.purger.feed(None, wait_s=0.001)
        assert feed.purges == ()
        purge = await service.purge()
        assert ids(await service.purger.feed(feed.cursor, wait_s=LONG_S)) == [purge.id]


@looped
async def test_a_follower_who_leaves_leaves_nothing_behind() -> None:
    async with serving() as service:
        cursor = (await service.purger.feed(None)).cursor
        followers = [asyncio.create_task(service.purger.feed(cursor, wait_s=LONG_S)) for _ in range(20)]
        await waiting(service, 20)
        for follower in followers:
            follower.cancel()
        await settle()
        assert service.figure(PURGE_WAITERS) == 0
        assert all(task.done() for task in followers)
        purge = await service.purge()
        assert ids(await service.purger.feed(cursor)) == [purge.id]


@looped
async def test_a_filter_leaves_out_entries_and_the_cursor_passes_them() -> None:
    async with serving() as service:
        await service.purge(caller=ALICE)
        bobs = await service.purge(caller=BOB)
        await service.purge(caller=ALICE)
        feed = await service.purger.feed(None, filters=Filters(actor="bob"))
        assert ids(feed) == [bobs.id]
        assert (await service.purger.feed(feed.cursor)).purges == ()


@looped
async def test_a_follower_of_some_waits_on_while_others_purge() -> None:
    async with serving() as service:
        follower = asyncio.create_task(service.purger.feed(None, wait_s=LONG_S, filters=Filters(site="shop")))
        await waiting(service)
        await service.purge(site="blog")
        await settle()
        own = await service.purge(site="shop")
        assert ids(await follower) == [own.id]


@looped
async def test_the_feed_tells_all_kinds_but_the_openings_of_epochs() -> None:
    async with serving() as service:
        soft = await service.purge(mode=Mode.SOFT)
        await service.purger.undo(soft.id, ALICE)
        schedule = await service.purge(at=service.clock.now() + 10)
        await service.purger.undo(schedule.id, ALICE)
        service.purger.invalidate([tag_target("shop", "a")])
        await service.settled()
        feed = await service.purger.feed(None)
        assert [purge.kind.value for purge in feed.purges] == ["purge", "undo", "schedule", "cancel", "invalidation"]
        assert [purge.about for purge in feed.purges] == ["", soft.id, "", schedule.id, ""]


@looped
async def test_rule_18_a_cursor_before_the_start_of_the_log_is_gone(tmp_path: Path) -> None:
    async with serving(tmp_path / "log", retention_s=1.0) as service:
        start = (await service.purger.feed(None)).cursor
        purges = [await service.purge() for _ in range(3)]
        at_the_cut = service.log.id + f".{purges[1].index}"
        service.clock.advance(100)
        service.store.synced_floor = purges[1].index
        await service.trimmed()
        with pytest.raises(ClientError, match="further than the log") as gone:
            await service.purger.feed(start)
        assert gone.value.status == 410
        assert ids(await service.purger.feed(at_the_cut)) == [purges[2].id]
        assert ids(await service.purger.feed(None)) == [purges[2].id]


@looped
async def test_rule_18_a_cursor_that_is_trimmed_away_under_a_waiting_follower_is_gone() -> None:
    async with serving(retention_s=1.0) as service:
        cursor = (await service.purger.feed(None)).cursor
        follower = asyncio.create_task(service.purger.feed(cursor, wait_s=LONG_S, filters=Filters(actor="nobody")))
        await waiting(service)
        service.log.cut = service.log.committed + 1  # as if much had come and gone since
        await service.purge()
        with pytest.raises(ClientError) as gone:
            await follower
        assert gone.value.status == 410


@looped
@pytest.mark.parametrize(
    ("cursor", "status"),
    [
        ("", 400),
        ("7", 400),
        ("x.y", 400),
        (".7", 400),
        ("0123456789abcdef.1", 410),
        ("{id}.999999999", 410),
        ("{id}.-1", 400),
    ],
)
async def test_rule_18_a_cursor_of_another_log_is_refused(cursor: str, status: int) -> None:
    async with serving() as service:
        with pytest.raises(ClientError) as refused:
            await service.purger.feed(cursor.format(id=service.log.id))
        assert refused.value.status == status


@looped
async def test_the_feed_goes_on_over_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path / "log") as service:
        first = await service.purge()
        feed = await service.purger.feed(None)
    async with serving(tmp_path / "log", floor=0) as service:
        second = await service.purge()
        assert ids(feed) == [first.id]
        assert ids(await service.purger.feed(feed.cursor)) == [second.id]


@looped
async def test_more_who_wait_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WAITERS_MAX", 2)
    async with serving() as service:
        purge = await service.purge()
        cursor = (await service.purger.feed(None)).cursor
        waiters = [
            asyncio.create_task(service.purger.feed(cursor, wait_s=LONG_S)),
            asyncio.create_task(service.purger.get(purge.id, wait=Wait.SWEPT, timeout_s=LONG_S)),
        ]
        await waiting(service, 2)
        with pytest.raises(LimitExceeded):
            await service.purger.feed(cursor, wait_s=LONG_S)
        with pytest.raises(LimitExceeded):
            await service.purger.get(purge.id, wait=Wait.SWEPT, timeout_s=LONG_S)
        assert service.figure(PURGE_WAITERS_REFUSED) == 2
        assert (await service.purger.feed(cursor)).purges == ()
        for waiter in waiters:
            waiter.cancel()
        await settle()


# --- how far a purge is


@looped
async def test_counts_are_told_per_target_and_are_final_once_swept() -> None:
    async with serving() as service:
        purge = await service.purge(tag("a"), tag("b"), tag("c"))
        for name, responses, n_bytes in (("a", 1, 10), ("a", 2, 20), ("c", 1, 5)):
            service.purger.matched(purge.index, tag_target("", name), responses, n_bytes)
        service.purger.matched(purge.index, None, 1, 1)
        state = await service.purger.get(purge.id)
        assert (state.state, state.matched, state.bytes, state.swept_at) == (Stage.APPLIED, 5, 36, None)
        assert [(count.target.value, count.matched, count.bytes) for count in state.targets] == [
            ("a", 3, 30),
            ("b", 0, 0),
            ("c", 1, 5),
        ]
        service.clock.advance(3)
        service.store.swept_upto = purge.index
        service.purger.swept()
        swept = await service.purger.get(purge.id)
        assert (swept.state, swept.swept_at) == (Stage.SWEPT, service.clock.now())
        assert swept.targets == state.targets
        assert (service.figure(PURGE_MATCHED), service.figure(PURGE_MATCHED_BYTES)) == (5, 36)


@looped
async def test_final_counts_outlive_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path / "log") as service:
        purge = await service.purge(tag("a"), tag("b"))
        service.purger.matched(purge.index, tag_target("", "b"), 2, 20)
        service.store.swept_upto = purge.index
        service.purger.swept()
        before = await service.purger.get(purge.id)
    async with serving(tmp_path / "log") as service:
        assert await service.purger.get(purge.id) == before


@looped
async def test_a_purge_swept_before_a_crash_that_lost_its_mark_is_swept(tmp_path: Path) -> None:
    async with serving(tmp_path / "log") as service:
        purge = await service.purge()
    async with serving(tmp_path / "log") as service:  # the floor has passed it
        state = await service.purger.get(purge.id)
        assert (state.state, state.swept_at, state.targets) == (Stage.SWEPT, None, ())


@looped
async def test_who_waits_until_it_is_swept_is_told_then() -> None:
    async with serving() as service:
        purge = await service.purge()
        waiters = [
            asyncio.create_task(service.purger.get(purge.id, wait=Wait.SWEPT, timeout_s=LONG_S)) for _ in range(3)
        ]
        await waiting(service, 3)
        applied = await service.purger.get(purge.id, wait=Wait.APPLIED, timeout_s=LONG_S)
        assert applied.state is Stage.APPLIED
        service.store.swept_upto = purge.index
        service.purger.swept()
        assert {state.state for state in await asyncio.gather(*waiters)} == {Stage.SWEPT}
        assert service.purger._progress._waiting == {}


@looped
async def test_a_wait_that_runs_out_tells_how_far_it_is() -> None:
    async with serving() as service:
        purge = await service.purge()
        state = await service.purger.get(purge.id, wait=Wait.SWEPT, timeout_s=0.001)
        assert state.state is Stage.APPLIED
        assert (service.purger._progress._waiting, service.figure(PURGE_WAITERS)) == ({}, 0)


@looped
async def test_a_waiter_who_leaves_leaves_nothing_behind() -> None:
    async with serving() as service:
        purge = await service.purge()
        waiter = asyncio.create_task(service.purger.get(purge.id, wait=Wait.SWEPT, timeout_s=LONG_S))
        await waiting(service)
        while not service.purger._progress._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
        waiter.cancel()
        await settle()
        assert (service.purger._progress._waiting, service.figure(PURGE_WAITERS)) == ({}, 0)


@looped
async def test_a_broken_wait_is_resumed_by_its_cursor_and_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "LOOK_S", 0.001)
    async with serving() as service:
        purge = await service.purge(tag("a"))
        seen = await service.purger.get(purge.id)
        again = asyncio.create_task(service.purger.get(purge.id, after=seen.cursor, timeout_s=LONG_S))
        await waiting(service)
        service.purger.matched(purge.index, tag_target("", "a"), 1, 1)
        grown = await again
        assert grown.matched == 1
        # what happened between two requests is told at once
        service.store.swept_upto = purge.index
        service.purger.swept()
        assert (await service.purger.get(purge.id, after=grown.cursor, timeout_s=LONG_S)).state is Stage.SWEPT


@looped
async def test_a_schedule_is_followed_until_its_purge_is_swept() -> None:
    async with serving() as service:
        schedule = await service.purge(tag("a"), at=service.clock.now() + 5)
        follower = asyncio.create_task(service.purger.get(schedule.id, wait=Wait.SWEPT, timeout_s=LONG_S))
        await waiting(service)
        service.clock.advance(5)
        await service.purger.tick()
        await service.settled()
        index = service.table.index
        assert not follower.done()
        service.purger.matched(index, tag_target("", "a"), 4, 40)
        service.store.swept_upto = index
        service.purger.swept()
        state = await follower
        assert (state.purge.id, state.state, state.matched) == (schedule.id, Stage.SWEPT, 4)
        assert state.targets[0].matched == 4


@looped
async def test_who_waits_for_what_is_taken_back_is_told() -> None:
    async with serving() as service:
        soft = await service.purge(mode=Mode.SOFT)
        schedule = await service.purge(at=service.clock.now() + 5)
        waiters = [
            asyncio.create_task(service.purger.get(purge.id, wait=Wait.SWEPT, timeout_s=LONG_S))
            for purge in (soft, schedule)
        ]
        await waiting(service, 2)
        await service.purger.undo(soft.id, ALICE)
        await service.purger.undo(schedule.id, ALICE)
        assert [state.state for state in await asyncio.gather(*waiters)] == [Stage.UNDONE, Stage.CANCELLED]


@looped
async def test_a_soft_purge_that_can_be_undone_holds_up_no_hard_one() -> None:
    async with serving() as service:
        soft = await service.purge(mode=Mode.SOFT)
        hard = await service.purge()
        service.store.swept_upto = hard.index
        service.purger.swept()
        assert [(await service.purger.get(purge.id)).state for purge in (soft, hard)] == [Stage.APPLIED, Stage.SWEPT]
        service.clock.advance(60)
        await service.purger.tick()
        service.purger.swept()
        assert (await service.purger.get(soft.id)).state is Stage.SWEPT


@looped
async def test_what_an_undo_is_about_needs_no_sweep() -> None:
    async with serving() as service:
        soft = await service.purge(mode=Mode.SOFT)
        undone = await service.purger.undo(soft.id, ALICE)
        state = await service.purger.get(undone.followed_by, wait=Wait.SWEPT, timeout_s=LONG_S)
        assert (state.purge.kind, state.purge.about) == (RecordKind.UNDO, soft.id)


@looped
async def test_many_purges_are_ended_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FINISHED_AT_ONCE", 3)
    monkeypatch.setattr("banish.edge.purging.FINISHED_AT_ONCE", 3)
    async with serving() as service:
        purges = [await service.purge() for _ in range(8)]
        service.store.swept_upto = purges[-1].index
        service.purger.swept()
        assert len(service.purger._progress) == 5
        await settle()
        assert len(service.purger._progress) == 0
        await service.settled()
        assert all(entry.swept_at for entry in await service.entries() if entry.kind is RecordKind.PURGE)


@looped
async def test_what_nobody_may_see_or_nobody_made_is_not_found() -> None:
    async with serving() as service:
        purge = await service.purge(site="blog")
        opening = (await service.entries())[0].position.text
        for id_, sites in ((purge.id, ("shop",)), (opening, None), (purge.id + "0", None)):
            with pytest.raises(ClientError) as refused:
                await service.purger.get(id_, sites=sites)
            assert refused.value.status == 404
        assert (await service.purger.get(purge.id, sites=("shop", "blog"))).purge.id == purge.id
        with pytest.raises(ClientError) as refused:
            await service.purger.get("no id")
        assert refused.value.status == 400


# --- listing and export


@looped
async def test_the_listing_is_newest_first_and_goes_on_where_it_stopped() -> None:
    async with serving() as service:
        made = [(await service.purge()).id for _ in range(7)]
        listed: list[str] = []
        before: str | None = None
        for _ in range(4):
            page = await service.purger.list(ALL, limit=2, before=before)
            listed += [purge.id for purge in page.purges]
            before = page.before
        assert listed == made[::-1]
        assert before is None
        with pytest.raises(ClientError):
            await service.purger.list(ALL, before="x")


@looped
async def test_a_feed_from_a_listings_cursor_tells_what_came_since() -> None:
    async with serving() as service:
        await service.purge()
        page = await service.purger.list(ALL)
        since = await service.purge()
        assert ids(await service.purger.feed(page.cursor)) == [since.id]


@looped
async def test_the_listing_finds_by_time_target_actor_and_site() -> None:
    async with serving() as service:
        start = service.clock.now()
        news = await service.purge(tag("news"), caller=ALICE, site="shop")
        service.clock.advance(10)
        sport = await service.purge(tag("sport"), tag("https://x"), caller=BOB)
        service.clock.advance(10)
        hidden = await service.purge(tag("news-archive"), caller=ALICE, site="blog")

        async def found(filters: Filters) -> list[str]:
            return [purge.id for purge in (await service.purger.list(filters)).purges]

        assert await found(Filters(target="news")) == [news.id]
        assert await found(Filters(target="tag:news")) == [news.id]
        assert await found(Filters(target="url:news")) == []
        assert await found(Filters(target="https://x")) == [sport.id]
        assert await found(Filters(actor="alice")) == [hidden.id, news.id]
        assert await found(Filters(site="shop")) == [sport.id, news.id]
        assert await found(Filters(sites=("shop",))) == [sport.id, news.id]
        assert await found(Filters(since=start + 5, until=start + 15)) == [sport.id]
        assert await found(Filters(kinds=(RecordKind.UNDO,))) == []
        assert SHOPKEEPER.sites == ("shop",)


@looped
async def test_a_filter_that_few_pass_does_not_hold_the_listing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SCANNED_MAX", 4)
    monkeypatch.setattr(history, "READ_AT_ONCE", 2)
    async with serving() as service:
        wanted = await service.purge(tag("x"), tag("y"))
        for _ in range(9):
            await service.purge(tag("xy"))
        filters = Filters(target="x")
        pages = [await service.purger.list(filters)]
        while pages[-1].before is not None:
            pages.append(await service.purger.list(filters, before=pages[-1].before))
        assert len(pages) > 2
        assert [purge.id for page in pages for purge in page.purges] == [wanted.id]
        feeds = [await service.purger.feed(None, filters=filters)]
        while not feeds[-1].purges:
            feeds.append(await service.purger.feed(feeds[-1].cursor, filters=filters))
        assert ids(feeds[-1]) == [wanted.id]


@looped
async def test_the_export_has_every_record_as_it_was_signed() -> None:
    async with serving() as service:
        made = [await service.purge(caller=caller) for caller in (ALICE, BOB, ALICE)]
        exported = [each async for each in service.purger.export(Filters(actor="alice"))]
        assert [purge.id for purge, _ in exported] == [made[0].id, made[2].id]
        assert all(decode(record).position.text == purge.id for purge, record in exported)


@looped
async def test_a_log_that_cannot_be_written_can_be_read() -> None:
    disk = Disk()
    async with serving(ledger=disk.ledger) as service:
        purge = await service.purge()
        disk.broken = LogUnwritable("no")
        with pytest.raises(ClientError):
            await service.purge()
        assert ids(await service.purger.feed(None)) == [purge.id]
        disk.broken = None
        await service.writable()
