"""Breakages: guarantees taken out of the edge one at a time, each of which the model must find.

Not here: looking for them (`test_breakages.py`, `run.py --break NAME`).
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec

from banish.edge import datadir, purging
from banish.proxy import taking
from banish.proxy.fetches import Fetcher
from banish.proxy.hot import Lane
from banish.proxy.pipeline import Pipeline
from banish.proxy.serve import Edge
from banish.proxy.taking import Taker
from banish.purge.presence import Presence
from banish.purge.stamps import PurgeTable
from banish.store.disk import DiskStore
from banish.store.diskreads import DiskReads
from banish.store.disksweep import DiskSweep
from banish.store.diskwrites import DiskWrites
from banish.store.memory import MemoryStore
from banish.store.shelf import Shelf
from banish.store.tiers import Store

Change = Callable[[], Iterator[None]]


class Breakage(NamedTuple):
    """One guarantee taken out while `broken` holds. `often` are steps to be taken more often to find it soon."""

    broken: Callable[[], contextlib.AbstractContextManager[None]]
    often: tuple[str, ...] = ()
    first: int = 0
    """A seed from which on it is found soon, as things are."""
    rare: bool = False
    """Whether so much has to come together that it takes some hundred thousand steps from other seeds."""


BREAKAGES: dict[str, Breakage] = {}


def breakage(*often: str, first: int = 0, rare: bool = False) -> Callable[[Change], Change]:
    """Enter a breakage under its name, which says what it does."""

    def entered(change: Change) -> Change:
        name = change.__name__.strip("_").replace("_", "-")
        BREAKAGES[name] = Breakage(contextlib.contextmanager(change), often, first, rare)
        return change

    return entered


@contextlib.contextmanager
def _instead(owner: Any, name: str, value: Any) -> Iterator[None]:
    with patch.object(owner, name, value):
        yield


# Bases and fences


@breakage()
def _a_disk_read_counts_as_clean_up_to_its_end() -> Iterator[None]:
    """Rule 5: a disk read is matched from the floor of its beginning on."""
    record = DiskReads._record

    def broken(self: DiskReads, *args: Any) -> Any:
        found = record(self, *args)
        found.clean_at = self._table.index
        return found

    with _instead(DiskReads, "_record", broken):
        yield


@breakage()
def _what_was_fetched_is_put_without_its_fence() -> Iterator[None]:
    """Rule 5: what a fetch brings is matched against the stamps since it was sent."""
    put = Store.put

    def broken(self: Store, record: Any) -> Any:
        record.fence = record.clean_at = self._table.index
        return put(self, record)

    with _instead(Store, "put", broken):
        yield


@breakage(first=30)
def _a_304_gets_the_fence_of_its_response() -> Iterator[None]:
    """Rule 10: a 304 gives its own request's fence."""
    replace = Store.replace

    def broken(self: Store, old: Any, new: Any) -> Any:
        new.fence = new.clean_at = self._table.index
        return replace(self, old, new)

    with _instead(Store, "replace", broken):
        yield


@breakage(first=75)
def _a_304_revives_what_was_purged() -> Iterator[None]:
    """Rule 10: what was hard-purged before the origin was asked is not asked about, and not renewed."""

    def replace(self: MemoryStore, old: Any, new: Any) -> Any:
        return self._counted(self._admit(new))

    with _instead(MemoryStore, "replace", replace), _instead(Pipeline, "_unpurged", lambda *_: True):
        yield


@breakage(first=21)
def _a_large_body_is_not_matched_again_when_it_is_written() -> Iterator[None]:
    """Rule 5: what waits for the disk is matched again."""
    write_row = DiskWrites._write_row

    def broken(self: DiskWrites, write: Any, file: Any) -> Any:
        write.base = write.record.fence = self._table.index
        return write_row(self, write, file)

    with _instead(DiskWrites, "_write_row", broken):
        yield


@breakage()
def _requests_join_fetches_that_began_before_a_purge() -> Iterator[None]:
    """Rule 9: whoever arrived after a purge does not wait for a fetch of before."""
    joinable = Fetcher.joinable

    def broken(self: Fetcher, key: str, arrived_index: int) -> Any:
        return joinable(self, key, 0)

    with _instead(Fetcher, "joinable", broken), _instead(Pipeline, "_unpurged", lambda *_: True):
        yield


@breakage()
def _hot_responses_are_not_matched() -> Iterator[None]:
    """Rule 11: whoever answers has passed the apply index."""
    with _instead(Lane, "_still_clean", lambda self, record: True):
        yield


@breakage()
def _purges_are_taken_to_name_nothing_that_is_hot() -> Iterator[None]:
    """Rule 11: a purge passes over hot responses only if it is about none of them."""
    with _instead(Presence, "may_hit", lambda self, target: False):
        yield


@breakage("ask otherwise", "evict", first=187)
def _a_read_does_not_see_what_changed_meanwhile() -> Iterator[None]:
    """Rule 5: what is read from disk while it changes is read again, and what memory got meanwhile wins."""
    end, promote = Shelf.end, MemoryStore.promote

    def ended(self: Shelf, reading: Any) -> bool:
        end(self, reading)
        return True

    def promoted(self: MemoryStore, records: Any) -> bool:
        variants = {record.variant for record in records}
        for record in [record for record in self.walk() if record.variant in variants]:
            self.remove(record)
        return promote(self, records)

    with _instead(Shelf, "end", ended), _instead(MemoryStore, "promote", promoted):
        yield


# Floor and sweep


@breakage("wait")
def _the_floor_does_not_wait_for_sweeps() -> Iterator[None]:
    """Rule 3: no stamp is forgotten before every tier is swept."""
    with (
        _instead(DiskStore, "swept", property(lambda self: self._table.index)),
        _instead(MemoryStore, "swept", property(lambda self: self._table.index)),
        _instead(DiskSweep, "waits", lambda self, upto: False),
    ):
        yield


@breakage()
def _the_sweep_of_the_disk_passes_over_what_is_purged() -> Iterator[None]:
    """Rule 3: what is swept is gone."""
    with _instead(DiskSweep, "_judge_one", lambda *_: None):
        yield


# Restarts


@breakage("kill", "evict")
def _stamps_are_not_rebuilt_at_start() -> Iterator[None]:
    """Rule 3: at start, every log entry above the floor is applied again."""

    def recover(*args: Any, **more: Any) -> None:
        pass

    with _instead(purging, "recover", recover):
        yield


@breakage()
def _purges_are_acknowledged_before_they_are_durable() -> Iterator[None]:
    """Guarantee 2: an acknowledged purge is on disk."""

    async def durable(issued: Any) -> None:
        pass

    with _instead(purging, "_durable", durable):
        yield


@breakage("copy", "restore")
def _old_copies_are_believed() -> Iterator[None]:
    """Rules 2 and 18: a store beside another log is emptied."""
    with _instead(datadir, "_distrust", lambda purges, disk: None):
        yield


@breakage("post", "kill", rare=True)
def _apply_indexes_begin_anew_with_each_start() -> Iterator[None]:
    """Rule 2: the apply index never goes back."""
    begin = PurgeTable.begin

    def broken(self: PurgeTable, index: int, floor: int) -> None:
        begin(self, floor, floor)

    with _instead(PurgeTable, "begin", broken):
        yield


@breakage("index fails", "wait", "sweep disk", rare=True)
def _an_index_opened_again_is_not_swept_anew() -> Iterator[None]:
    """Rule 3: deletions that a failed disk has lost are done again."""

    def catch_up(self: DiskStore) -> None:
        pass

    with _instead(DiskStore, "_catch_up", catch_up):
        yield


# Soft purges, invalidation, rules


@breakage()
def _soft_purges_mark_nothing() -> Iterator[None]:
    """A soft purge makes stale."""
    match = MemoryStore._match

    def broken(self: MemoryStore, record: Any) -> Any:
        finding = match(self, record)
        record.soft_at = 0
        return finding

    with _instead(MemoryStore, "_match", broken):
        yield


@breakage("undo", "purge")
def _undo_takes_back_other_purges_too() -> Iterator[None]:
    """Rule 14: an undo takes back that position only."""
    undo = PurgeTable.undo

    def broken(self: PurgeTable, index: int) -> bool:
        others = range(max(self.floor, index - 8) + 1, index + 9)
        return sum(undo(self, other) for other in others) > 0

    with _instead(PurgeTable, "undo", broken):
        yield


@breakage("post")
def _unsafe_requests_invalidate_nothing() -> Iterator[None]:
    """Rule 13: what an unsafe request changed is purged."""
    with _instead(Taker, "_invalidate", lambda self, plan, fence, head: fence):
        yield


@breakage("reload", "post")
def _former_key_rules_come_back_with_what_was_stored_under_them() -> Iterator[None]:
    """Rule 6: what was stored under other rules is absent, for good."""
    with _instead(Edge, "_forget_former_rules", lambda self, former: None):
        yield


@breakage("reload", "post")
def _invalidation_is_spelt_by_the_rules_of_its_request() -> Iterator[None]:
    """Rule 6: targets are made canonical when they are applied."""
    invalidate = Taker._invalidate

    def broken(self: Taker, *args: Any) -> int:
        self._site_of = lambda host: None
        return invalidate(self, *args)

    with _instead(Taker, "_invalidate", broken):
        yield


@breakage()
def _tags_of_a_304_are_not_names() -> Iterator[None]:
    """Rule 10: what is renewed is matched by old and new tags."""
    with _instead(taking, "_named_by_both", lambda old, new: msgspec.structs.replace(new, tags=old.tags)):
        yield
