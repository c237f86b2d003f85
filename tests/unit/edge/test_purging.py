"""The purge service, on one edge: each rule of purging that it keeps has a test named after it."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from banish.caching.policy import CachePolicy
from banish.edge import issuing, purging
from banish.edge.config import Purge as Settings
from banish.edge.issuing import PASSING, PURGES_PENDING
from banish.edge.purging import PURGES_REFUSED, PURGES_REPLAYED
from banish.edge.receipts import Caller, Filters, PurgeRequest, Stage, Wait
from banish.errors import ClientError, LimitExceeded, LogUnwritable
from banish.purge.given import TARGETS_MAX, Given
from banish.purge.positions import parse_position
from banish.purge.records import RecordKind, chain_holds, decode, signature_holds
from banish.purge.stamps import Mode, PurgeTable, Verdict
from banish.purge.targets import Kind, Target, everything_target, group_target, tag_target, url_target
from banish.testing.clock import FakeClock
from tests.looped import looped, settle
from tests.purgelogs import Disk
from tests.unit.edge.services import (
    ALICE,
    BOB,
    SHOPKEEPER,
    UNDO_WINDOW_S,
    FakeStore,
    Service,
    serving,
    tag,
    tagged,
    url,
)

NEWS = tagged("news")
BROKEN = LogUnwritable("no")


def refusal(status: int, words: str | None = None) -> "pytest.RaisesExc[ClientError]":
    return pytest.raises(ClientError, match=words, check=lambda error: error.status == status)


# --- effect, order, answer


@looped
async def test_a_purge_is_in_effect_and_durable_when_it_is_answered() -> None:
    async with serving() as service:
        fetched = service.table.index
        purge = await service.purge(tag("news"), reason="typo")
        assert service.verdict(NEWS, fetched) is Verdict.HARD
        assert service.verdict(NEWS, purge.index) is Verdict.CLEAN
        logged = (await service.entries())[-1]
        assert (logged.position.text, logged.index, logged.actor) == (purge.id, purge.index, "alice")
        assert (purge.state, purge.mode, purge.reason, purge.source) == (Stage.APPLIED, Mode.HARD, "typo", "192.0.2.1")


@looped
async def test_effect_and_place_in_the_log_come_about_in_one_step() -> None:
    async with serving() as service:
        before = service.table.index
        asked = [asyncio.create_task(service.purge(tag(f"t{at}"))) for at in range(50)]
        asked[0].get_loop().call_soon(lambda: seen.append(service.table.index))
        seen: list[int] = []
        purges = await asyncio.gather(*asked)
        entries = (await service.entries())[1:]
        assert [entry.index for entry in entries] == [before + 1 + at for at in range(50)]
        assert [entry.position.text for entry in entries] == [purge.id for purge in purges]
        assert seen == [before + 50], "all were in effect before the first was on the disk"
        assert chain_holds([entry.record for entry in await service.entries()])
        assert all(signature_holds(entry.record, service.identity.verify) for entry in entries)


@looped
async def test_the_store_is_told_of_every_index_in_order_as_it_is_applied() -> None:
    async with serving() as service:
        await service.purge(tag("a"), tag("b", Mode.SOFT))
        await service.purge(url("https://example.com/x?b=1&a=2"))
        start = service.table.index - 2
        assert service.store.applied_[-3:] == [
            (start, (), ()),
            (start + 1, (tag_target("", "a"),), (tag_target("", "b"),)),
            (start + 2, (url_target("", "https://example.com/x?b=1&a=2"),), ()),
        ]


@looped
async def test_a_caller_who_leaves_changes_nothing() -> None:
    disk = Disk()
    async with serving(ledger=disk.ledger) as service:
        disk.gate.clear()
        asked = asyncio.create_task(service.purge(tag("news")))
        await settle()
        asked.cancel()
        await settle()
        disk.gate.set()
        await service.settled()
        assert (await service.entries())[-1].kind is RecordKind.PURGE
        assert service.figure(PURGES_PENDING) == 0


@looped
async def test_who_asks_for_what_is_not_theirs_is_refused() -> None:
    async with serving() as service:
        applied = service.table.index
        with refusal(403, "shop"):
            await service.purge(caller=SHOPKEEPER, site="blog")
        with refusal(403):
            await service.purge(caller=Caller("nobody", "", ()))
        with refusal(400):
            await service.purge(site="")
        assert service.table.index == applied
        own = await service.purge(caller=SHOPKEEPER)
        assert own.sites == ("shop",)
        assert service.verdict(tagged("news", site="shop")) is Verdict.HARD
        assert service.verdict(tagged("news", site="blog")) is Verdict.CLEAN


@looped
async def test_what_has_no_meaning_is_refused_before_anything_happens() -> None:
    async with serving() as service:
        applied = service.table.index
        for asked in (
            PurgeRequest(targets=()),
            PurgeRequest(targets=(tag("a"), Given(Kind.PATTERN, "(", regex=True))),
            PurgeRequest(targets=(tag("a"),), reason="x" * 1001),
            PurgeRequest(targets=(tag("a"),), key="x" * 256),
            PurgeRequest(targets=(tag("a"),), at=float("nan")),
        ):
            with refusal(400):
                await service.purger.purge(asked, ALICE)
        with refusal(400, "^target 2: regex: "):
            await service.purge(tag("a"), Given(Kind.PATTERN, "(", regex=True))
        assert service.table.index == applied
        assert service.figure(PURGES_REFUSED, "request") == 6


# --- rule 1


@looped
async def test_rule_1_every_start_opens_an_epoch_that_says_where_the_last_one_ended(tmp_path: Path) -> None:
    async with serving(tmp_path / "log") as service:
        last = await service.purge()
    async with serving(tmp_path / "log", floor=0) as service:
        await service.purge()
        *before, opening, purge = [decode(entry.record) for entry in await service.entries()]
        assert (opening.kind, opening.about, opening.previous) == (RecordKind.OPEN, last.id, b"")
        assert opening.position.epoch == purge.position.epoch != before[-1].position.epoch
        assert [record.position.seq for record in (opening, purge)] == [1, 2]


# --- rule 2


@looped
async def test_rule_2_no_apply_index_is_used_before_log_and_store_have_reserved_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(issuing, "INDEX_BLOCK", 4)
    async with serving() as service:
        for _ in range(4):
            assert not service.purger.passing
            purge = await service.purge()
            assert purge.index <= min(service.log.reserved, service.store.reserved)
            if service.purger.passing:
                break
        assert service.purger.passing
        assert service.table.index == service.log.reserved
        with refusal(503):
            await service.purge()
        assert service.table.index == service.log.reserved
        await service.purger._issuer.reserve()
        assert service.passed == [False, True, False]
        assert service.log.reserved == service.store.reserved == service.table.index + 4
        await service.purge()


@looped
async def test_rule_2_a_reservation_that_only_the_log_holds_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuing, "INDEX_BLOCK", 2)
    async with serving() as service:
        await service.purge()
        assert service.purger.passing
        await service.log.reserve_more(service.log.reserved + 100)
        with refusal(503):
            await service.purge()


@looped
async def test_rule_2_after_a_start_the_apply_index_goes_on_beyond_both(tmp_path: Path) -> None:
    store = FakeStore()
    async with serving(tmp_path / "log", store=store) as service:
        used = (await service.purge()).index
        reserved = service.log.reserved
    async with serving(tmp_path / "log", store=store, floor=0) as service:
        assert (await service.purge()).index > reserved > used
        assert service.log.reserved > reserved


# --- rule 3


@looped
async def test_rule_3_stamps_are_rebuilt_from_every_entry_above_the_floor(tmp_path: Path) -> None:
    async with serving(tmp_path / "log") as service:
        purges = [await service.purge(tag(name)) for name in ("a", "b", "c")]
    store = FakeStore()
    async with serving(tmp_path / "log", store=store, floor=purges[0].index) as service:
        since = purges[0].index
        assert service.verdict(tagged("b"), since) is Verdict.HARD
        assert service.verdict(tagged("c"), purges[1].index) is Verdict.HARD
        assert service.verdict(tagged("c"), purges[2].index) is Verdict.CLEAN
        assert service.verdict(tagged("a"), since) is Verdict.CLEAN, "what is up to the floor was swept"
        told = [(index, hard) for index, hard, _ in store.applied_ if hard]
        assert told == [(purge.index, (tag_target("", purge.targets[0].value),)) for purge in purges[1:]]


@looped
async def test_rule_3_the_log_is_never_cut_above_the_floor_that_a_loss_of_power_leaves(tmp_path: Path) -> None:
    async with serving(tmp_path / "log", retention_s=1.0) as service:
        purges = [await service.purge() for _ in range(4)]
        service.clock.advance(100)
        service.store.synced_floor = purges[1].index
        await service.trimmed()
        left = [entry.index for entry in await service.entries()]
        assert left == [purge.index for purge in purges[2:]]


@looped
async def test_what_was_not_swept_before_a_crash_is_followed_anew(tmp_path: Path) -> None:
    async with serving(tmp_path / "log") as service:
        purge = await service.purge(tag("a"), tag("b"))
        service.purger.matched(purge.index, tag_target("", "a"), 1, 10)
    async with serving(tmp_path / "log", floor=0) as service:
        state = await service.purger.get(purge.id)
        assert (state.state, state.matched) == (Stage.APPLIED, 0)
        service.purger.matched(purge.index, tag_target("", "b"), 1, 7)
        service.store.swept_upto = purge.index
        service.purger.swept()
        state = await service.purger.get(purge.id)
        assert (state.state, state.matched, state.targets[1].bytes) == (Stage.SWEPT, 1, 7)


# --- rule 6


@looped
async def test_rule_6_targets_are_logged_as_given_and_applied_by_the_rules_in_force(tmp_path: Path) -> None:
    written = "HTTPS://EXAMPLE.com:443/Shop/../a?b=1&utm_x=2&a=1"
    sorts = CachePolicy(query_sort=True, query_drop=("utm_*",))
    here = Target(Kind.URL, "", "example.com/a?a=1&b=1")
    async with serving(tmp_path / "log", policy=sorts) as service:
        await service.purge(url(written))
        assert decode((await service.entries())[-1].record).targets == (url(written),)
        assert service.store.applied_[-1][1] == (here,)
    async with serving(tmp_path / "log", floor=0) as service:  # the site's rules have changed meanwhile
        assert (Target(Kind.URL, "", "example.com/a?b=1&utm_x=2&a=1"),) in [told[1] for told in service.store.applied_]


@looped
async def test_rule_6_rules_that_change_while_a_batch_is_made_canonical_count_for_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(issuing, "STEP_TARGETS", 1)
    async with serving() as service:
        asked = asyncio.create_task(service.purge(*[url(f"http://example.com/{name}?x") for name in "abcdef"]))
        await settle(3)  # some of them are spelled
        service.policy = CachePolicy(query_drop=("x",))
        await asked
        assert [target.value for target in service.store.applied_[-1][1]] == [
            f"example.com/{name}" for name in "abcdef"
        ]


@looped
async def test_a_large_batch_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuing, "STEP_TARGETS", 10)
    async with serving() as service:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        running = asyncio.create_task(others())
        before = turns
        await service.purge(*[tag(str(at)) for at in range(1000)])
        running.cancel()
        await settle()
        assert turns - before >= 100, "a turn after every ten that are spelled"


@looped
async def test_rule_6_nothing_is_dropped_for_being_unknown_here() -> None:
    async with serving() as service:
        purge = await service.purge(url("http://elsewhere.example/"), tag("never-seen"), site="no-such-site")
        assert (purge.sites, purge.state) == (("no-such-site",), Stage.APPLIED)
        assert len(service.store.applied_[-1][1]) == 2


# --- rule 7


@looped
async def test_rule_7_what_the_table_cannot_hold_is_widened_told_and_swept_as_applied() -> None:
    async with serving(table=PurgeTable(patterns_max=1)) as service:
        await service.purge(Given(Kind.PATTERN, "*/a"), site="shop")
        purge = await service.purge(tag("x"), Given(Kind.PATTERN, "*/b"), site="shop")
        assert len(purge.widened) == 1
        assert "everything of shop" in purge.widened[0]
        assert service.verdict(tagged("unrelated")) is Verdict.HARD
        assert everything_target("shop") in service.store.applied_[-1][1]
        service.purger.matched(purge.index, everything_target("shop"), 3, 30)
        state = await service.purger.get(purge.id)
        assert [(count.matched, count.bytes) for count in state.targets] == [(0, 0), (3, 30)]
        assert state.purge.widened == purge.widened


@looped
async def test_rule_7_a_record_that_cannot_be_read_purges_everything_of_its_sites(tmp_path: Path) -> None:
    async with serving(tmp_path / "log") as service:
        soft = await service.purge(tag("a"), mode=Mode.SOFT, site="shop")
        hard = await service.purge(tag("a"), site="blog")
        torn = await service.purge(tag("a"), site="wiki")
        records = {entry.index: entry.record for entry in await service.entries()}
        later = {index: records[index].replace(b"\x01", b"\x7f", 1) for index in (soft.index, hard.index)}
    with contextlib.closing(sqlite3.connect(tmp_path / "log")) as tables, tables:
        for index, record in (*later.items(), (torn.index, b"\xc1" * 100)):
            tables.execute("UPDATE records SET record = ? WHERE idx = ?", (record, index))
    async with serving(tmp_path / "log", floor=0) as service:
        applied = {index: (hard, soft) for index, hard, soft in service.store.applied_}
        assert applied[soft.index] == ((), (everything_target("shop"),))
        assert applied[hard.index] == ((everything_target("blog"),), ())
        assert applied[torn.index] == ((everything_target(),), ())
        page = await service.purger.list(Filters())
        assert {soft.id, hard.id, torn.id} <= {purge.id for purge in page.purges}


# --- rule 8


@looped
async def test_rule_8_one_batch_is_one_record_whatever_it_mixes() -> None:
    everything = (
        url("https://example.com/x"),
        Given(Kind.PREFIX, "https://example.com/blog/", boundary=True),
        Given(Kind.HOST, "*.example.com"),
        tag("news", Mode.SOFT),
        Given(Kind.PATTERN, "*/a/*"),
        Given(Kind.PATTERN, "^https", regex=True, mode=Mode.SOFT),
        Given(Kind.EVERYTHING, mode=Mode.SOFT),
    )
    async with serving() as service:
        purge = await service.purge(*everything)
        (logged,) = (await service.entries())[1:]
        assert purge.mode is Mode.HARD, "whoever cannot read its targets goes by the worst of them"
        assert decode(logged.record).targets == everything
        ((index, hard, soft),) = service.store.applied_[1:]
        assert (index, len(hard), len(soft)) == (purge.index, 4, 3)


@looped
async def test_rule_8_a_mode_of_the_request_is_that_of_targets_that_name_none() -> None:
    async with serving() as service:
        purge = await service.purge(tag("a", Mode.HARD), tag("b"), mode=Mode.SOFT)
        assert [(target.value, target.mode) for target in purge.targets] == [("a", None), ("b", Mode.SOFT)]
        assert purge.mode is Mode.HARD
        assert service.store.applied_[-1][1:] == ((tag_target("", "a"),), (tag_target("", "b"),))


@looped
async def test_rule_8_a_batch_too_large_for_one_record_is_refused_whole() -> None:
    async with serving() as service:
        applied = service.table.index
        many = tuple(tag(f"{'x' * 1000}{at}") for at in range(300))
        with refusal(413, "split"):
            await service.purge(*many)
        assert (service.table.index, len(await service.entries())) == (applied, 1)
        await service.purge(*many[:200])
        assert service.figure(PURGES_REFUSED, "size") == 1


@looped
async def test_a_batch_of_more_targets_than_take_effect_in_one_step_is_refused() -> None:
    async with serving() as service:
        many = tuple(tag(str(at)) for at in range(TARGETS_MAX + 1))
        applied = service.table.index
        with refusal(413, "send several"):
            await service.purge(*many)
        assert (service.table.index, service.figure(PURGES_REFUSED, "size")) == (applied, 1)
        await service.purge(*many[1:])
        groups = [group_target("shop", "https://example.com", str(at)) for at in range(TARGETS_MAX + 1)]
        assert service.purger.invalidate(groups) == applied + 3, "invalidations are not refused: these are two entries"


# --- rule 12


@looped
async def test_rule_12_while_the_log_cannot_be_written_purges_are_refused_and_everything_is_passed() -> None:
    disk = Disk()
    async with serving(ledger=disk.ledger) as service:
        fetched = service.table.index
        disk.broken = BROKEN
        with refusal(503, "may be in effect"):
            await service.purge(tag("news"))
        assert service.purger.passing
        assert service.verdict(NEWS, fetched) is Verdict.HARD, "its stamps stay"
        applied = service.table.index
        with refusal(503, "log"):
            await service.purge(tag("other"))
        assert service.table.index == applied
        assert (service.figure(PASSING), service.figure(PURGES_REFUSED, "log")) == (1, 2)
        disk.broken = None
        await service.writable()
        assert not service.purger.passing
        assert service.passed == [False, True, False]
        assert [entry.kind for entry in await service.entries()] == [RecordKind.OPEN, RecordKind.PURGE]
        await service.purge(tag("other"))
        assert chain_holds([entry.record for entry in await service.entries()])


@looped
async def test_rule_12_a_store_whose_log_may_lose_invalidations_belongs_to_no_log_meanwhile() -> None:
    disk = Disk()
    async with serving(ledger=disk.ledger) as service:
        await service.purger._issuer.bind()
        assert service.store.bound == []
        disk.broken = BROKEN
        with refusal(503):
            await service.purge()
        await service.purger._issuer.bind()
        assert service.store.bound == [""]
        disk.broken = None
        await service.writable()
        await service.purger._issuer.bind()
        assert service.store.bound == ["", service.log.id]


@looped
async def test_rule_12_nothing_is_taken_before_this_start_is_in_the_log() -> None:
    service = Service()
    try:
        service.purger.recover()
        assert service.purger.passing
        with refusal(503):
            await service.purge()
        await service.purger.start()
        assert not service.purger.passing
        await service.purge()
    finally:
        service.log.close()


@looped
async def test_rule_12_an_edge_whose_log_cannot_be_written_at_start_passes_until_it_can() -> None:
    disk = Disk()
    service = Service(ledger=disk.ledger)
    try:
        service.purger.recover()
        disk.broken = BROKEN
        await service.purger.start()
        assert service.purger.passing
        disk.broken = None
        await service.writable()
        assert not service.purger.passing
        await service.purge()
        assert [entry.kind for entry in await service.entries()] == [RecordKind.OPEN, RecordKind.PURGE]
    finally:
        service.log.close()


@looped
async def test_more_purges_than_may_wait_for_the_disk_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuing, "PENDING_MAX", 2)
    disk = Disk()
    async with serving(ledger=disk.ledger) as service:
        disk.gate.clear()
        waiting = [asyncio.create_task(service.purge()) for _ in range(2)]
        await settle()
        with pytest.raises(LimitExceeded, match="too many purges wait"):
            await service.purge()
        disk.gate.set()
        await asyncio.gather(*waiting)
        await service.purge()


# --- rule 13


@looped
async def test_rule_13_an_invalidation_is_in_effect_at_once_and_logged_without_waiting(tmp_path: Path) -> None:
    targets = (url_target("shop", "https://example.com/a?b=1"), group_target("shop", "https://example.com", "g"))
    disk = Disk()
    async with serving(tmp_path / "log", ledger=disk.ledger) as service:
        disk.gate.clear()
        fetched = service.table.index
        index = service.purger.invalidate(targets)
        assert index == fetched + 1
        assert service.verdict(tagged(url="https://example.com/a?b=1"), fetched) is Verdict.HARD
        assert service.verdict(tagged(url="https://example.com/a?b=1", site="blog"), fetched) is Verdict.CLEAN
        assert service.store.applied_[-1] == (index, targets, ())
        disk.gate.set()
        await service.settled()
        logged = (await service.entries())[-1]
        assert (logged.kind, logged.index) == (RecordKind.INVALIDATION, index)
    async with serving(tmp_path / "log", floor=0) as service:
        (hard,) = [hard for at, hard, _ in service.store.applied_ if at == index]
        assert set(targets) <= set(hard)


@looped
async def test_rule_13_it_is_in_effect_even_while_the_log_cannot_be_written() -> None:
    disk = Disk()
    async with serving(ledger=disk.ledger) as service:
        disk.broken = BROKEN
        with refusal(503):
            await service.purge()
        fetched = service.table.index
        service.purger.invalidate((tag_target("shop", "news"),))
        assert service.verdict(NEWS, fetched) is Verdict.HARD
        disk.broken = None
        await service.writable()
        assert (await service.entries())[-1].kind is RecordKind.INVALIDATION


@looped
async def test_more_cache_groups_than_fit_into_a_record_make_several() -> None:
    targets = [group_target("shop", "https://example.com", f"{'x' * 2000}{at}") for at in range(300)]
    async with serving() as service:
        fetched = service.table.index
        assert service.purger.invalidate(targets) == service.table.index > fetched + 1
        await service.settled()
        logged = [decode(entry.record).targets for entry in (await service.entries())[1:]]
        assert sum(map(len, logged)) == 300


# --- rule 14


@looped
async def test_rule_14_an_undo_takes_back_its_purge_and_no_other() -> None:
    async with serving() as service:
        fetched = service.table.index
        first = await service.purge(mode=Mode.SOFT)
        second = await service.purge(mode=Mode.SOFT)
        undone = await service.purger.undo(first.id, BOB, "not that one")
        assert (undone.id, undone.state) == (first.id, Stage.UNDONE)
        assert service.verdict(NEWS, fetched) is Verdict.SOFT
        assert service.verdict(NEWS, second.index) is Verdict.CLEAN
        await service.purger.undo(second.id, ALICE)
        assert service.verdict(NEWS, fetched) is Verdict.CLEAN
        assert service.store.taken_back == [first.index, second.index]
        undo = decode((await service.entries())[-2].record)
        assert (undo.kind, undo.about, undo.actor, undo.reason) == (RecordKind.UNDO, first.id, "bob", "not that one")
        assert undone.followed_by == undo.position.text
        assert undo.position.text == service.purger.why(second.index + 1)


@looped
async def test_rule_14_a_soft_purge_is_kept_from_the_sweep_until_its_window_is_over() -> None:
    async with serving() as service:
        soft = await service.purge(mode=Mode.SOFT)
        service.clock.advance(UNDO_WINDOW_S - 1)
        await service.purger.tick()
        assert service.store.released == []
        service.clock.advance(1)
        await service.purger.tick()
        assert service.store.released == [soft.index]
        with refusal(409, "60 s, and that is over"):
            await service.purger.undo(soft.id, ALICE)
        assert service.verdict(NEWS) is Verdict.SOFT


@looped
async def test_rule_14_what_is_hard_cannot_be_undone() -> None:
    async with serving() as service:
        hard = await service.purge()
        mixed = await service.purge(tag("a"), tag("b", Mode.SOFT))
        for purge in (hard, mixed):
            with refusal(409, "hard purge"):
                await service.purger.undo(purge.id, ALICE)
        assert service.store.released == [mixed.index], "its soft targets need not wait"


@looped
async def test_rule_14_an_undo_follows_its_purge_over_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving(tmp_path / "log", clock=clock) as service:
        undone = await service.purge(tag("a"), mode=Mode.SOFT)
        kept = await service.purge(tag("b"), mode=Mode.SOFT)
        old = service.table.index
        await service.purger.undo(undone.id, ALICE)
    clock.advance(UNDO_WINDOW_S - 1)
    async with serving(tmp_path / "log", clock=clock, floor=0) as service:
        assert service.verdict(tagged("a"), 0) is Verdict.CLEAN
        assert undone.index in service.table.undone
        assert service.verdict(tagged("b"), kept.index - 1) is Verdict.SOFT
        assert (await service.purger.get(undone.id)).state is Stage.UNDONE
        assert service.store.moments[kept.index] == pytest.approx(clock.monotonic() - UNDO_WINDOW_S + 1)
        assert (await service.purger.undo(kept.id, ALICE)).state is Stage.UNDONE
        assert service.verdict(tagged("b"), 0) is Verdict.CLEAN
        assert old < service.table.index
    clock.advance(2)
    async with serving(tmp_path / "log", clock=clock, floor=0) as service:
        assert service.verdict(tagged("b"), 0) is Verdict.CLEAN
        assert service.store.released == []


@looped
async def test_rule_14_a_window_that_passed_while_the_edge_was_down_is_over(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving(tmp_path / "log", clock=clock) as service:
        soft = await service.purge(mode=Mode.SOFT)
    clock.advance(UNDO_WINDOW_S)
    async with serving(tmp_path / "log", clock=clock, floor=0) as service:
        assert service.store.released == [soft.index]
        with refusal(409):
            await service.purger.undo(soft.id, ALICE)


@looped
async def test_two_who_undo_at_once_get_one_undo_and_both_wait_for_it() -> None:
    disk = Disk()
    async with serving(ledger=disk.ledger) as service:
        soft = await service.purge(mode=Mode.SOFT)
        disk.gate.clear()
        service.store.told.clear()
        asked = [asyncio.create_task(service.purger.undo(soft.id, caller)) for caller in (ALICE, BOB)]
        await service.store.told.wait()
        await settle()
        assert not any(task.done() for task in asked)
        disk.gate.set()
        first, second = await asyncio.gather(*asked)
        assert first == second
        assert await service.purger.undo(soft.id, ALICE) == first
        assert [entry.kind for entry in await service.entries()].count(RecordKind.UNDO) == 1


@looped
async def test_an_undo_is_for_those_who_may_purge_all_that_it_is_about() -> None:
    async with serving() as service:
        everywhere = await service.purge(mode=Mode.SOFT)
        elsewhere = await service.purge(mode=Mode.SOFT, site="blog")
        own = await service.purge(mode=Mode.SOFT, caller=SHOPKEEPER)
        with refusal(403):
            await service.purger.undo(everywhere.id, SHOPKEEPER)
        with refusal(404):
            await service.purger.undo(elsewhere.id, SHOPKEEPER)
        await service.purger.undo(own.id, SHOPKEEPER)
        with refusal(404):
            await service.purger.undo(own.id[:-1] + "9999", ALICE)
        with refusal(400):
            await service.purger.undo("7", ALICE)
        with refusal(400):
            await service.purger.undo(own.id, ALICE, "x" * 1001)
        assert service.store.taken_back == [own.index]


# --- rule 15


@looped
async def test_rule_15_a_schedule_has_no_effect_until_it_is_due() -> None:
    async with serving() as service:
        due = service.clock.now() + 300
        schedule = await service.purge(tag("news"), at=due, reason="embargo", mode=Mode.SOFT)
        assert (schedule.state, schedule.kind, schedule.due) == (Stage.SCHEDULED, RecordKind.SCHEDULE, due)
        fetched = service.table.index
        service.clock.advance(299)
        await service.purger.tick()
        assert service.verdict(NEWS, fetched) is Verdict.CLEAN
        service.clock.advance(1)
        await service.purger.tick()
        assert service.verdict(NEWS, fetched) is Verdict.SOFT
        await service.settled()
        purge = decode((await service.entries())[-1].record)
        assert (purge.kind, purge.about, purge.actor) == (RecordKind.PURGE, schedule.id, "alice")
        assert (purge.reason, purge.targets, purge.mode) == ("embargo", schedule.targets, Mode.SOFT)
        assert purge.position != parse_position(schedule.id)
        state = await service.purger.get(schedule.id)
        assert (state.state, state.purge.followed_by) == (Stage.APPLIED, purge.position.text)
        await service.purger.tick()
        assert service.verdict(NEWS, purge.position.seq + fetched) is Verdict.CLEAN
        with refusal(409, purge.position.text):
            await service.purger.undo(schedule.id, ALICE)
        assert (await service.purger.undo(purge.position.text, ALICE)).state is Stage.UNDONE


@looped
async def test_rule_15_schedules_outlive_a_restart_and_are_carried_out_once(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving(tmp_path / "log", clock=clock) as service:
        soon = await service.purge(tag("a"), at=clock.now() + 10)
        later = await service.purge(tag("b"), at=clock.now() + 20)
        cancelled = await service.purge(tag("c"), at=clock.now() + 10)
        assert (await service.purger.undo(cancelled.id, ALICE)).state is Stage.CANCELLED
    clock.advance(10)
    # the floor has passed the schedules: they are found all the same
    async with serving(tmp_path / "log", clock=clock) as service:
        await service.purger.tick()
        await service.settled()
        assert [hard for _, hard, _ in service.store.applied_ if hard] == [(tag_target("", "a"),)]
    clock.advance(10)
    async with serving(tmp_path / "log", clock=clock) as service:
        await service.purger.tick()
        await service.settled()
        assert [hard for _, hard, _ in service.store.applied_ if hard] == [(tag_target("", "b"),)]
        states = [(await service.purger.get(each.id)).state for each in (soon, later, cancelled)]
        assert states == [Stage.SWEPT, Stage.APPLIED, Stage.CANCELLED]


@looped
async def test_marks_that_a_crash_has_lost_are_set_again(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving(tmp_path / "log", clock=clock) as service:
        schedule = await service.purge(tag("a"), at=clock.now() + 10)
        cancelled = await service.purge(tag("b"), at=clock.now() + 10)
        await service.purger.undo(cancelled.id, ALICE)
        clock.advance(10)
        await service.purger.tick()
        soft = await service.purge(tag("c"), mode=Mode.SOFT)
        await service.purger.undo(soft.id, ALICE)
        story = [(purge.state, purge.followed_by) for purge in (await service.purger.feed(None)).purges]
    with contextlib.closing(sqlite3.connect(tmp_path / "log")) as tables, tables:
        tables.execute("UPDATE entries SET undone_by = 0")
    async with serving(tmp_path / "log", clock=clock, floor=0) as service:
        applied = service.table.index
        await service.purger.tick()
        assert service.table.index == applied, "nothing is carried out twice"
        await service.settled()
        assert [(purge.state, purge.followed_by) for purge in (await service.purger.feed(None)).purges] == story
        assert (await service.purger.get(schedule.id)).state is Stage.APPLIED


@looped
async def test_rule_15_the_edge_that_is_late_carries_it_out_late(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving(tmp_path / "log", clock=clock) as service:
        await service.purge(tag("a"), at=clock.now() + 10)
    clock.advance(3600)
    async with serving(tmp_path / "log", clock=clock) as service:
        await service.purger.tick()
        assert service.store.applied_[-1][1] == (tag_target("", "a"),)


@looped
async def test_rule_15_a_schedule_due_while_the_log_cannot_be_written_waits_for_it() -> None:
    disk = Disk()
    async with serving(ledger=disk.ledger) as service:
        await service.purge(tag("news"), at=service.clock.now() + 10)
        disk.broken = BROKEN
        with refusal(503):
            await service.purge(tag("x"))
        service.clock.advance(10)
        applied = service.table.index
        await service.purger.tick()
        assert service.table.index == applied
        disk.broken = None
        await service.writable()
        await service.purger.tick()
        assert service.table.index == applied + 1


@looped
async def test_rule_15_many_that_are_due_at_once_hold_nobody_up() -> None:
    async with serving() as service:
        for number in range(20):
            await service.purge(tag(str(number)), at=service.clock.now() + 1)
        service.clock.advance(1)
        applied, seen = service.table.index, set()
        ticking = asyncio.create_task(service.purger.tick())
        while not ticking.done():
            await asyncio.sleep(0)
            seen.add(service.table.index - applied)
        assert seen == set(range(1, 21)), "others get a turn after each"


@looped
async def test_a_moment_that_is_past_means_now() -> None:
    async with serving() as service:
        assert (await service.purge(at=service.clock.now() - 5)).state is Stage.APPLIED


@looped
async def test_run_carries_out_what_is_due_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "HOUSEKEEPING_S", 0.01)  # by the real clock
    async with serving() as service:
        running = asyncio.create_task(service.purger.run())
        await settle()
        schedule = await service.purge(at=service.clock.now() + 5)
        service.clock.advance(5)
        state = await service.purger.get(schedule.id, wait=Wait.APPLIED, timeout_s=30)
        assert state.state is Stage.APPLIED
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


# --- rule 18


@looped
async def test_rule_18_the_same_key_gives_the_same_answer_also_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path / "log") as service:
        first = await service.purge(tag("a"), key="deploy-1")
        applied = service.table.index
        again = await service.purge(tag("a"), key="deploy-1")
        assert (again.id, again.replayed, first.replayed) == (first.id, True, False)
        assert service.table.index == applied
        assert service.figure(PURGES_REPLAYED) == 1
    async with serving(tmp_path / "log", floor=0) as service:
        again = await service.purge(tag("a"), key="deploy-1")
        assert (again.id, again.replayed) == (first.id, True)


@looped
async def test_rule_18_the_same_key_with_another_request_is_refused() -> None:
    async with serving() as service:
        await service.purge(tag("a"), key="k")
        applied = service.table.index
        same = PurgeRequest(targets=(tag("a"),), key="k")
        others: list[dict[str, Any]] = [
            {"targets": (tag("b"),)},
            {"mode": Mode.SOFT},
            {"site": "shop"},
            {"reason": "x"},
        ]
        for other in others:
            with refusal(422):
                await service.purger.purge(msgspec.structs.replace(same, **other), ALICE)
        assert service.table.index == applied


@looped
async def test_rule_18_a_request_is_the_same_if_its_body_is() -> None:
    async with serving() as service:
        now = service.clock.now()
        first = await service.purge(tag("a"), key="k", body=b'{"at": "+5m"}', at=now + 300)
        service.clock.advance(1)
        again = await service.purge(tag("a"), key="k", body=b'{"at": "+5m"}', at=now + 301)
        assert (again.id, again.due) == (first.id, now + 300)
        with refusal(422):
            await service.purge(tag("a"), key="k", body=b'{"at": "+6m"}', at=now + 300)


@looped
async def test_rule_18_keys_of_different_callers_have_nothing_to_do_with_each_other() -> None:
    async with serving() as service:
        first = await service.purge(tag("a"), key="k", caller=ALICE)
        second = await service.purge(tag("b"), key="k", caller=BOB)
        assert first.id != second.id


@looped
async def test_rule_18_who_repeats_a_key_while_the_first_is_being_committed_waits_for_its_answer() -> None:
    disk = Disk()
    async with serving(ledger=disk.ledger) as service:
        disk.gate.clear()
        service.store.told.clear()
        first = asyncio.create_task(service.purge(tag("a"), key="k"))
        await service.store.told.wait()
        second = asyncio.create_task(service.purge(tag("a"), key="k"))
        other = asyncio.create_task(service.purge(tag("b"), key="k"))
        await settle()
        assert (first.done(), second.done()) == (False, False)
        with refusal(422):
            await other
        disk.gate.set()
        one, two = await asyncio.gather(first, second)
        assert (one.id, one.replayed, two.replayed) == (two.id, False, True)
        assert len(await service.entries()) == 2


@looped
async def test_rule_18_the_answer_does_not_depend_on_the_first_caller_staying() -> None:
    disk = Disk()
    async with serving(ledger=disk.ledger) as service:
        disk.gate.clear()
        first = asyncio.create_task(service.purge(tag("a"), key="k"))
        await settle()
        second = asyncio.create_task(service.purge(tag("a"), key="k"))
        await settle()
        first.cancel()
        await settle()
        disk.gate.set()
        assert (await second).state is Stage.APPLIED
        assert len(await service.entries()) == 2


@looped
async def test_rule_18_a_key_whose_purge_could_not_be_confirmed_finds_it_once_it_is_logged() -> None:
    disk = Disk()
    async with serving(ledger=disk.ledger) as service:
        disk.broken = BROKEN
        asked = [asyncio.create_task(service.purge(tag("a"), key="k")) for _ in range(2)]
        for each in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(each, ClientError)
            assert each.status == 503
        disk.broken = None
        await service.writable()
        applied = service.table.index
        assert (await service.purge(tag("a"), key="k")).replayed
        assert service.table.index == applied


@looped
async def test_rule_18_a_schedule_may_not_be_due_after_the_log_has_forgotten_it() -> None:
    async with serving(settings=Settings(retention_s=3600.0)) as service:
        with refusal(400, "3600 s"):
            await service.purge(at=service.clock.now() + 3601)
        await service.purge(at=service.clock.now() + 3600)


@looped
async def test_rule_18_a_schedule_that_waits_is_not_trimmed(tmp_path: Path) -> None:
    async with serving(tmp_path / "log", retention_s=1.0) as service:
        gone = await service.purge()
        schedule = await service.purge(at=service.clock.now() + 1000)
        kept = await service.purge()
        service.clock.advance(100)
        service.store.synced_floor = kept.index
        await service.trimmed()
        left = [entry.index for entry in await service.entries()]
        assert left == [schedule.index, kept.index]
        assert gone.index not in left


# --- provenance


@looped
async def test_a_purge_can_be_named_by_its_apply_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path / "log") as service:
        purge = await service.purge()
        assert service.purger.why(purge.index) == purge.id
        assert service.purger.why(purge.index + 1) is None
    async with serving(tmp_path / "log", floor=0) as service:
        assert service.purger.why(purge.index) == purge.id
        monkeypatch.setattr(issuing, "WHY_MAX", 2)
        await service.purge()
        await service.purge()
        assert service.purger.why(purge.index) is None
