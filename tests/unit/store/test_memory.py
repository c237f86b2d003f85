import asyncio
import gc
import random
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from banish.caching.policy import CachePolicy
from banish.caching.storing import make_metadata
from banish.http.fields import Fields
from banish.http.messages import RequestHead, ResponseHead
from banish.purge.stamps import Finding, PurgeTable
from banish.purge.targets import tag_target
from banish.store.bodies import Body, BodyLimits
from banish.store.files import BodyFiles
from banish.store.memory import MemoryStore, PutOutcome, Removal
from banish.store.records import StoredResponse
from banish.store.spool import SpoolBudget
from banish.tables import Accounts
from tests.stored import SITE, key_of, stored_response, url_of


class Kept:
    """A store, its table, and what it said of removals and purges."""

    def __init__(self, budget_bytes: int = 1 << 20, *, spool: SpoolBudget | None = None, **settings: Any) -> None:
        self.table = PurgeTable()
        self.accounts = Accounts()
        self.removed: list[tuple[str, Removal]] = []
        self.purged: list[tuple[StoredResponse, Finding]] = []
        self.marked: list[tuple[StoredResponse, int]] = []
        self.rivalled: list[StoredResponse] = []
        self.store = MemoryStore(
            budget_bytes,
            table=self.table,
            accounts=self.accounts,
            spool=spool,
            on_removed=lambda record, reason: self.removed.append((record.meta.key, reason)),
            on_marked=lambda record, finding: self.marked.append((record, finding.index)),
            on_purged=lambda record, finding: self.purged.append((record, finding)),
            on_rivalled=self.rivalled.append,
            **settings,
        )

    def lookup(self, name: str = "a") -> tuple[StoredResponse, ...]:
        return self.store.lookup(key_of(name))

    def figure(self, name: str, *labels: str) -> float:
        return next(counts.get(labels, 0) for metric, counts in self.accounts.collect() if metric.name == name)


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_what_is_put_is_found(kept: Kept) -> None:
    record = stored_response("a")
    assert kept.store.put(record) is PutOutcome.STORED
    assert kept.lookup("a") == (record,)
    assert kept.lookup("b") == ()
    assert (len(kept.store), record in kept.store) == (1, True)


def test_the_same_variant_is_replaced_and_others_stay_newest_first(kept: Kept) -> None:
    english = stored_response(vary=("accept-language",), selecting=("en",))
    german = stored_response(vary=("accept-language",), selecting=("de",))
    newer = stored_response(vary=("accept-language",), selecting=("en",), body=b"newer")
    for record in (english, german, newer):
        kept.store.put(record)
    assert kept.lookup("a") == (newer, german)
    assert kept.removed == [(key_of("a"), Removal.REPLACED)]
    assert len(kept.store) == 2


def test_variants_of_a_url_are_bounded() -> None:
    kept = Kept(variants_max=3)
    records = [stored_response(vary=("x",), selecting=(str(n),)) for n in range(5)]
    for record in records:
        kept.store.put(record)
    assert kept.lookup("a") == tuple(records[:1:-1])
    assert kept.removed == [(key_of("a"), Removal.VARIANTS)] * 2
    assert len(kept.store) == 3


def test_the_budget_is_kept_by_eviction() -> None:
    kept = Kept(budget_bytes=20_000)
    for n in range(100):
        kept.store.put(stored_response(str(n), body=b"x" * 1000))
        assert kept.store.memory_bytes <= 20_000
    assert 8 < len(kept.store) < 20
    assert len(kept.removed) == 100 - len(kept.store)
    assert {reason for _, reason in kept.removed} == {Removal.EVICTED}


def test_what_is_touched_outlives_a_scan() -> None:
    kept = Kept(budget_bytes=20_000)
    hot = stored_response("hot")
    kept.store.put(hot)
    kept.store.touch(hot)
    kept.store.touch(hot)
    for n in range(100):
        kept.store.put(stored_response(str(n), body=b"x" * 1000))
    assert kept.lookup("hot") == (hot,)


def test_larger_than_the_budget_is_refused(kept: Kept) -> None:
    assert kept.store.put(stored_response(body=b"x" * (1 << 20))) is PutOutcome.TOO_LARGE
    assert len(kept.store) == 0


def test_a_grown_variant_that_evicts_itself_is_not_called_stored() -> None:
    kept = Kept(budget_bytes=10_000)
    kept.store.put(stored_response("a"))
    kept.store.put(stored_response("b"))
    grown = stored_response("a", body=b"x" * 8500)
    assert kept.store.put(grown) is PutOutcome.EVICTED
    assert grown not in kept.store
    assert kept.store.memory_bytes <= 10_000


class TestPurges:
    def test_a_hard_purge_ends_use_at_once(self, kept: Kept) -> None:
        kept.store.put(stored_response("a"))
        other = stored_response("b")
        kept.store.put(other)
        kept.table.apply([url_of("a")])
        assert kept.lookup("a") == ()
        assert kept.lookup("b") == (other,)
        assert kept.removed == [(key_of("a"), Removal.PURGED)]

    def test_what_a_purge_removed_is_told_with_the_purge(self, kept: Kept) -> None:
        record = stored_response("a", tags=("news",))
        kept.store.put(record)
        kept.table.apply([url_of("b")])
        kept.table.apply([tag_target(SITE, "news")])
        kept.lookup("a")
        [(told, finding)] = kept.purged
        assert told is record
        assert (finding.verdict, finding.index, finding.target) == ("hard", 2, tag_target(SITE, "news"))

    def test_a_soft_purge_marks_with_the_oldest_that_matched(self, kept: Kept) -> None:
        record = stored_response("a", tags=("news",))
        kept.store.put(record)
        kept.table.apply([url_of("b")])
        kept.table.apply(soft=[url_of("a")])
        kept.table.apply(soft=[tag_target(SITE, "news")])
        assert kept.lookup("a") == (record,)
        assert (record.soft, record.soft_at) == (True, 2)
        kept.table.apply(soft=[url_of("a")])
        kept.lookup("a")
        assert record.soft_at == 2
        assert (kept.removed, kept.purged, kept.marked) == ([], [], [(record, 2)])

    def test_an_undone_soft_purge_leaves_no_mark(self, kept: Kept) -> None:
        record = stored_response("a")
        kept.store.put(record)
        kept.table.apply(soft=[url_of("a")])
        kept.lookup("a")
        assert kept.table.undo(1)
        kept.store.undone(1)
        assert kept.lookup("a") == (record,)
        assert (record.soft, record.clean_at) == (False, kept.table.index)

    def test_undoing_one_of_two_soft_purges_leaves_the_other_in_effect(self, kept: Kept) -> None:
        record = stored_response("a", tags=("news",))
        kept.store.put(record)
        kept.table.apply(soft=[url_of("a")])
        kept.lookup("a")
        kept.table.apply(soft=[tag_target(SITE, "news")])
        kept.lookup("a")
        kept.table.undo(1)
        kept.lookup("a")
        assert record.soft_at == 2
        kept.table.undo(2)
        kept.lookup("a")
        assert not record.soft

    def test_a_soft_purge_undone_before_it_was_looked_for_never_marks(self, kept: Kept) -> None:
        record = stored_response("a")
        kept.store.put(record)
        kept.table.apply(soft=[url_of("a")])
        kept.table.undo(1)
        kept.lookup("a")
        assert not record.soft

    def test_fetch_fence_what_was_purged_in_flight_is_not_stored(self, kept: Kept) -> None:
        fence = kept.table.index
        kept.table.apply([url_of("a")])
        assert kept.store.put(stored_response("a", fence=fence)) is PutOutcome.PURGED
        assert kept.store.put(stored_response("b", fence=fence)) is PutOutcome.STORED
        assert kept.store.put(stored_response("a", fence=kept.table.index)) is PutOutcome.STORED
        assert kept.figure("banish_store_puts_total", "purged") == 1

    def test_fetch_fence_from_before_the_floor_nothing_is_stored(self, kept: Kept) -> None:
        fence = kept.table.index
        kept.table.apply([url_of("b")])
        kept.table.prune(1)
        assert kept.store.put(stored_response("a", fence=fence)) is PutOutcome.TOO_OLD

    def test_a_refused_put_leaves_the_old_response(self, kept: Kept) -> None:
        kept.table.apply([url_of("b")])
        old = stored_response("a", fence=1)
        kept.store.put(old)
        kept.table.apply([url_of("c")])
        kept.table.prune(1)
        assert kept.store.put(stored_response("a", fence=0)) is PutOutcome.TOO_OLD
        assert kept.lookup("a") == (old,)


class TestReplace:
    def test_a_freshened_response_takes_the_place_of_the_old(self, kept: Kept) -> None:
        old = stored_response("a")
        kept.store.put(old)
        new = stored_response("a", body=old.body)
        assert kept.store.replace(old, new) is PutOutcome.STORED
        assert kept.lookup("a") == (new,)
        assert len(kept.store) == 1

    def test_with_other_selecting_values_too(self, kept: Kept) -> None:
        old = stored_response("a", vary=("x",), selecting=("1",))
        new = stored_response("a", vary=("x",), selecting=("2",))
        kept.store.put(old)
        assert kept.store.replace(old, new) is PutOutcome.STORED
        assert kept.lookup("a") == (new,)

    def test_a_304_does_not_revive_what_was_purged_before_it_was_asked_for(self, kept: Kept) -> None:
        old = stored_response("a")
        kept.store.put(old)
        kept.table.apply([url_of("a")])
        new = stored_response("a", fence=kept.table.index)
        assert kept.store.replace(old, new) is PutOutcome.GONE

    def test_a_304_is_matched_by_old_and_new_tags_from_its_own_fence(self, kept: Kept) -> None:
        for purged in ("old", "new"):
            old = stored_response("a", tags=("old",), fence=kept.table.index)
            assert kept.store.put(old).stored
            new = stored_response("a", tags=("new",), fence=kept.table.index)
            kept.table.apply([tag_target(SITE, purged)])
            assert kept.store.replace(old, new) is PutOutcome.PURGED

    def test_what_was_evicted_meanwhile_stays_away(self, kept: Kept) -> None:
        old = stored_response("a")
        kept.store.put(old)
        assert kept.store.remove(old)
        assert not kept.store.remove(old)
        assert kept.store.replace(old, stored_response("a")) is PutOutcome.GONE

    def test_freshening_ends_a_soft_purge(self, kept: Kept) -> None:
        old = stored_response("a")
        kept.store.put(old)
        kept.table.apply(soft=[url_of("a")])
        new = stored_response("a", fence=kept.table.index)
        assert kept.store.replace(old, new).stored
        assert not kept.lookup("a")[0].soft


class TestSpooledBodies:
    LIMITS = BodyLimits(memory_bytes_max=100)

    async def spooled(self, spool: SpoolBudget, n_bytes: int) -> Body:
        body = Body.filling(spool, kept=True, limits=self.LIMITS)
        body.write(b"x" * n_bytes)
        body.finish()
        await body.drain()
        return body

    def test_they_have_a_budget_of_their_own_and_give_back_on_eviction(self, tmp_path: Path) -> None:
        async def play() -> None:
            spool = SpoolBudget(tmp_path, 100_000)
            kept = Kept(budget_bytes=2_000, spool=spool)
            for n in range(20):
                body = await self.spooled(spool, 10_000)
                assert kept.store.put(stored_response(str(n), body=body)).stored
                del body
                assert kept.figure("banish_store_bytes", "spool") <= 75_000
            assert kept.figure("banish_store_responses", "spool") == len(kept.store) == 6
            assert kept.store.memory_bytes == 0
            spool.close()
            assert spool.used_bytes == 60_000

        asyncio.run(play())

    def test_a_variant_may_move_between_the_tiers(self, tmp_path: Path) -> None:
        async def play() -> None:
            spool = SpoolBudget(tmp_path, 100_000)
            kept = Kept(spool=spool)
            kept.store.put(stored_response("a", body=await self.spooled(spool, 10_000)))
            kept.store.put(stored_response("a"))
            assert kept.figure("banish_store_responses", "spool") == 0
            assert kept.figure("banish_store_responses", "memory") == len(kept.lookup("a")) == 1
            spool.close()  # a thread may have been the last to hold the file
            assert spool.used_bytes == 0

        asyncio.run(play())

    def test_a_body_not_yet_settled_or_not_kept_is_not_stored(self, tmp_path: Path) -> None:
        async def play() -> None:
            spool = SpoolBudget(tmp_path, 100_000)
            kept = Kept(spool=spool)
            body = Body.filling(spool, kept=True, limits=self.LIMITS)
            assert kept.store.put(stored_response(body=body)) is PutOutcome.INCOMPLETE
            body.write(b"x" * 200)
            body.finish()
            assert kept.store.put(stored_response(body=body)) is PutOutcome.INCOMPLETE
            await body.drain()
            body.stop_keeping()
            assert kept.store.put(stored_response(body=body)) is PutOutcome.INCOMPLETE
            spool.close()

        asyncio.run(play())


class TestAboveADisk:
    """Memory is a working set of the disk: what is not here can be promoted again."""

    @staticmethod
    def variant(name: str, received_at: float, body: bytes = b"x" * 1000, **more: Any) -> StoredResponse:
        return stored_response("a", vary=("x",), selecting=(name,), received_at=1e9 + received_at, body=body, **more)

    @pytest.fixture
    def above(self) -> Kept:
        return Kept(disk_below=True)

    def test_what_was_evicted_comes_back_newest_first(self, above: Kept) -> None:
        records = [self.variant(str(n), n) for n in range(3)]
        assert above.store.promote([records[1], records[0], records[2]])
        assert above.lookup() == (records[2], records[1], records[0])
        assert above.figure("banish_store_promotions_total", "stored") == 3

    def test_of_one_moment_the_disk_s_order_holds_and_memory_comes_first(self, above: Kept) -> None:
        held, first, second = (self.variant(name, 1) for name in ("held", "first", "second"))
        above.store.put(held)
        above.store.promote([first, second])
        assert above.lookup() == (held, first, second)

    def test_what_memory_holds_of_a_variant_wins(self, above: Kept) -> None:
        held = self.variant("1", 5)
        above.store.put(held)
        assert above.store.promote([self.variant("1", 9), older := self.variant("2", 3)])
        assert above.lookup() == (held, older)
        assert above.figure("banish_store_promotions_total", "outrun") == 1

    def test_a_newer_one_from_disk_rivals_those_it_stands_before(self, above: Kept) -> None:
        newest, oldest = self.variant("1", 9), self.variant("2", 1)
        above.store.promote([newest, oldest])
        assert above.rivalled == []
        above.store.promote([self.variant("3", 5)])
        assert above.rivalled == [oldest]

    def test_fetch_fence_a_purge_during_the_read_keeps_a_response_out(self, above: Kept) -> None:
        read = self.variant("1", 1, tags=("news",))
        above.table.apply([tag_target(SITE, "news")])
        assert above.store.promote([read])
        assert above.lookup() == ()
        assert [(record, finding.index) for record, finding in above.purged] == [(read, 1)]
        assert above.figure("banish_store_promotions_total", "purged") == 1

    def test_a_soft_purge_during_the_read_marks(self, above: Kept) -> None:
        read = self.variant("1", 1)
        above.table.apply(soft=[url_of("a")])
        assert above.store.promote([read])
        assert above.lookup() == (read,)
        assert read.soft_at == 1

    def test_fetch_fence_a_read_from_below_the_floor_is_to_be_made_again(self, above: Kept) -> None:
        above.table.apply([url_of("b")])
        above.table.prune(1)
        assert not above.store.promote([self.variant("1", 1)])
        assert above.lookup() == ()

    def test_a_mark_from_disk_that_was_taken_back_goes(self, above: Kept) -> None:
        above.table.apply(soft=[url_of("a")])
        above.table.undo(1)
        marked = self.variant("1", 1)
        marked.soft_at = marked.clean_at = 1
        above.table.apply([url_of("b")])
        assert above.store.promote([marked])
        assert above.lookup() == (marked,)
        assert not marked.soft

    def test_nor_is_one_from_below_the_floor_taken_for_clean_since_its_mark_was_taken_back(self, above: Kept) -> None:
        above.table.apply([url_of("a")])
        above.table.apply(soft=[url_of("a")])
        above.table.undo(2)
        above.table.prune(1)
        marked = self.variant("1", 1)
        marked.soft_at = 2
        assert not above.store.promote([marked])
        assert above.lookup() == ()

    def test_an_evicted_variant_takes_its_elders_along(self) -> None:
        kept = Kept(budget_bytes=10_000, disk_below=True)
        old, new = self.variant("old", 1), self.variant("new", 2)
        for record in (old, new):
            kept.store.put(record)
        for _ in range(3):
            kept.store.touch(old)
        for n in range(20):
            kept.store.put(stored_response(str(n), body=b"x" * 1000))
            held = kept.lookup("a")
            assert held in ((new, old), (new,), ())
        assert held == ()
        assert len(kept.store) == len(list(kept.store.walk()))
        assert kept.store.memory_bytes <= 10_000

    def test_without_a_disk_each_variant_is_evicted_by_itself(self) -> None:
        kept = Kept(budget_bytes=10_000)
        old, new = self.variant("old", 1), self.variant("new", 2)
        for record in (old, new):
            kept.store.put(record)
        for _ in range(3):
            kept.store.touch(old)
        for n in range(20):
            kept.store.put(stored_response(str(n), body=b"x" * 1000))
        assert kept.lookup("a") == (old,)

    def test_a_response_too_large_for_memory_leaves_none_to_answer_in_its_place(self) -> None:
        kept = Kept(budget_bytes=10_000, disk_below=True)
        kept.store.put(self.variant("1", 1))
        assert kept.store.put(self.variant("2", 2, body=b"x" * 20_000)) is PutOutcome.TOO_LARGE
        assert kept.lookup("a") == ()
        large, small = self.variant("2", 2, body=b"x" * 20_000), self.variant("1", 1)
        assert kept.store.promote([large, small])
        assert kept.lookup("a") == ()

    def test_variants_of_a_url_stay_bounded_and_the_newest_stay(self) -> None:
        kept = Kept(disk_below=True, variants_max=3)
        records = [self.variant(str(n), n) for n in range(6)]
        kept.store.put(records[3])
        kept.store.promote([records[5], records[4], *records[:3]])
        assert kept.lookup("a") == (records[5], records[4], records[3])
        assert len(kept.store) == 3

    def test_a_promoted_response_weighs_and_evicts_like_any(self) -> None:
        kept = Kept(budget_bytes=10_000, disk_below=True)
        for n in range(30):
            kept.store.promote([stored_response(str(n), body=b"x" * 1000)])
            assert kept.store.memory_bytes <= 10_000
        assert len(kept.store) == len(list(kept.store.walk())) > 3

    def test_what_makes_way_while_a_url_comes_back_leaves_no_trace_in_the_queues(self) -> None:
        kept = Kept(budget_bytes=7_000, disk_below=True)
        kept.store.put(self.variant("held", 9))
        kept.store.put(stored_response("b", body=b"x" * 1000))
        kept.store.promote([self.variant(str(n), n, body=b"x" * 1800) for n in (3, 2, 1)])
        assert len(kept.store) == len(list(kept.store.walk()))
        for record in list(kept.store.walk()):
            kept.store.remove(record)
        assert kept.store.memory_bytes == 0


class TestReseating:
    LIMITS = BodyLimits(memory_bytes_max=100)

    async def spooled(self, spool: SpoolBudget) -> Body:
        body = Body.filling(spool, kept=True, limits=self.LIMITS)
        body.write(b"x" * 10_000)
        body.finish()
        await body.drain()
        return body

    def test_a_body_that_is_on_disk_leaves_the_spool(self, tmp_path: Path) -> None:
        async def play() -> None:
            spool = SpoolBudget(tmp_path, 100_000)
            kept = Kept(spool=spool, disk_below=True)
            record = stored_response("a", body=await self.spooled(spool))
            kept.store.put(record)
            assert kept.store.reseat(record, Body.complete(b""), 7)
            assert (kept.lookup("a"), record.serial) == ((record,), 7)
            assert kept.figure("banish_store_bytes", "spool") == 0
            assert kept.figure("banish_store_responses", "memory") == 1
            spool.close()
            assert spool.used_bytes == 0

        asyncio.run(play())

    def test_one_that_was_renewed_meanwhile_gets_the_place_too(self, kept: Kept) -> None:
        old = stored_response("a")
        kept.store.put(old)
        new = stored_response("a", body=old.body)
        kept.store.replace(old, new)
        assert kept.store.reseat(old, Body.complete(b"hello"), 7)
        assert new.serial == 7

    def test_one_that_is_in_memory_stays_there(self, kept: Kept) -> None:
        record = stored_response("a")
        in_memory = record.body
        kept.store.put(record)
        assert kept.store.reseat(record, Body.complete(b"hello"), 7)
        assert (record.body, record.serial) == (in_memory, 7)

    def test_one_that_is_gone_or_has_another_body_is_left_alone(self, kept: Kept) -> None:
        record, other = stored_response("a"), stored_response("a", body=b"another")
        kept.store.put(record)
        kept.store.put(other)
        assert not kept.store.reseat(record, Body.complete(b"hello"), 7)
        assert other.serial == 0
        kept.store.remove(other)
        assert not kept.store.reseat(other, Body.complete(b"another"), 7)


class TestUnseating:
    """A file that is about to go takes along what reads from it."""

    @staticmethod
    def filed(name: str, serial: int, directory: Path) -> StoredResponse:
        files = BodyFiles(directory, accounts=Accounts())
        record = stored_response(name, body=Body.stored(files.file(1, serial, 10, b"")))
        record.serial = serial
        files.close()
        return record

    def test_only_that_one_goes(self, tmp_path: Path) -> None:
        kept = Kept(disk_below=True)
        filed, other = self.filed("a", 7, tmp_path), self.filed("b", 8, tmp_path)
        in_memory = stored_response("c")
        in_memory.serial = 9
        for record in (filed, other, in_memory):
            assert kept.store.put(record).stored
        for name, serial in (("a", 8), ("a", 7), ("c", 9), ("none", 7)):
            kept.store.unseat(key_of(name), serial)
        assert kept.removed == [(key_of("a"), Removal.EVICTED)]
        assert (kept.lookup("b"), kept.lookup("c")) == ((other,), (in_memory,))


def test_hits_are_counted_as_they_are_told(kept: Kept) -> None:
    record = stored_response("a")
    kept.store.put(record)
    kept.store.touch(record)
    kept.store.touch(record, hits=10)
    assert record.hits == 11


def test_what_is_kept_beside_a_record_counts_too(kept: Kept) -> None:
    record = stored_response("a")
    kept.store.put(record)
    before = kept.store.memory_bytes
    for memo_bytes in (2000, 500):
        kept.store.reweigh(record, memo_bytes)
        assert kept.store.memory_bytes == before + memo_bytes
    kept.store.remove(record)
    assert kept.store.memory_bytes == 0
    kept.store.reweigh(record, 100)
    assert kept.store.memory_bytes == 0


def test_growing_beside_a_record_evicts() -> None:
    kept = Kept(budget_bytes=20_000)
    records = [stored_response(str(n)) for n in range(10)]
    for record in records:
        kept.store.put(record)
    kept.store.reweigh(records[-1], 15_000)
    assert kept.store.memory_bytes <= 20_000
    assert records[-1] in kept.store
    assert {reason for _, reason in kept.removed} == {Removal.EVICTED}
    kept.store.reweigh(records[-1], 30_000)
    assert records[-1] not in kept.store


def test_walking_sees_every_record_and_minds_no_change(kept: Kept) -> None:
    for n in range(200):
        kept.store.put(stored_response(str(n)))
    walk = kept.store.walk()
    seen = {next(walk).meta.key}
    for n in range(200, 400):
        kept.store.put(stored_response(str(n)))
    seen |= {record.meta.key for record in walk}
    assert seen >= {key_of(str(n)) for n in range(200)}


def test_a_walk_goes_on_from_any_place(kept: Kept) -> None:
    for n in range(200):
        for language in ("en", "de"):
            kept.store.put(stored_response(str(n), vary=("accept-language",), selecting=(language,)))
    whole = list(kept.store.walk_from(0))
    assert [record for _, record in whole] == list(kept.store.walk())
    for passed, (place, _) in enumerate(whole, 1):
        assert next(kept.store.walk_from(place), None) == next(iter(whole[passed:]), None)


def received(n: int, body_bytes: int) -> StoredResponse:
    """A response as the rules leave it: moments, validators and names of its own. Some are on disk as well."""
    lines = [(f"x-field-{m}".encode(), f"some value {m} of response {n}".encode()) for m in range(n % 20)]
    lines += [
        (b"date", b"Sun, 09 Sep 2001 01:46:%02d GMT" % (n % 60)),
        (b"cache-control", b"max-age=%d" % (600 + n % 10)),
        (b"etag", b'"%d"' % n),
        (b"vary", b"accept-encoding"),
        (b"cache-tag", b", ".join([b"tag-%d-of-%d" % (m, n) for m in range(n % 4)])),
    ]
    request = RequestHead("GET", f"/{n}", Fields.of([("Accept-Encoding", f"gzip{n}")]))
    meta = make_metadata(
        key_of(str(n)), request, ResponseHead(200, Fields.decode(lines)), CachePolicy(),
        requested_at=1e9 + n + 0.1, received_at=1e9 + n + 0.2,
    )  # fmt: skip
    record = StoredResponse(meta, Body.complete(random.Random(n).randbytes(body_bytes)), 0, 0)
    record.serial = 1_000_000 + n if n % 2 else 0
    return record


@pytest.mark.parametrize(("responses", "body_bytes"), [(2000, 10), (1000, 1000), (100, 100_000)])
def test_the_accounts_match_the_allocator_within_a_tenth(responses: int, body_bytes: int) -> None:
    kept = Kept(1 << 30)
    received(0, body_bytes)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for n in range(responses):
            assert kept.store.put(received(n, body_bytes)).stored
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The constants are measured on 3.11, where the promise is a tenth; later versions make smaller objects.
    tolerance = 0.1 if sys.version_info < (3, 12) else 0.15
    assert kept.store.memory_bytes == pytest.approx(after - before, rel=tolerance)
