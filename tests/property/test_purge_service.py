"""The purge service against a model: whatever is purged, taken back and scheduled, over restarts and a disk that
fails, the stamps are those of the entries in effect, and callers read the same story.

The model keeps a list of effects. A restart rebuilds the table from the log alone, with the floor where it was, and
every verdict must come out as before.
"""

import asyncio
import itertools
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from banish.edge.receipts import Stage
from banish.errors import ClientError, LogUnwritable
from banish.purge.records import RecordKind, chain_holds
from banish.purge.stamps import Mode, Verdict
from banish.purge.targets import tag_target
from banish.testing.clock import FakeClock
from tests.purgelogs import Disk
from tests.unit.edge.services import ALICE, UNDO_WINDOW_S, FakeStore, Service, tag, tagged

TAGS = ("a", "b", "c")

T = TypeVar("T")
tags = st.sets(st.sampled_from(TAGS), min_size=1).map(sorted)
modes = st.sampled_from(list(Mode))


@dataclass
class Effect:
    """A tag purged under an apply index."""

    tag: str
    mode: Mode
    at: int


@dataclass
class Plan:
    """What is to be purged when it is due."""

    due: float
    tags: list[str]
    mode: Mode


class PurgeService(RuleBasedStateMachine):
    """What callers, operators and the disk do to one edge."""

    service: Service

    @initialize()
    def first_start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.disk = Disk()
        self.clock = FakeClock()
        self.store = FakeStore()
        self.effects: list[Effect] = []
        self.soft: dict[str, tuple[int, float]] = {}
        self.scheduled: dict[str, Plan] = {}
        self.acknowledged: list[str] = []
        self.start()

    def start(self) -> None:
        path = Path(self.directory.name) / "log"
        self.service = Service(path, clock=self.clock, store=self.store, floor=0, ledger=self.disk.ledger)
        self.run(self.service.open())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def took_effect(self, tags: list[str], mode: Mode, at: int) -> None:
        self.effects += [Effect(name, mode, at) for name in tags]
        id_ = self.service.purger.why(at)
        assert id_ is not None
        if mode is Mode.SOFT:
            self.soft[id_] = (at, self.clock.now() + UNDO_WINDOW_S)

    @rule(tags=tags, mode=modes)
    def purge(self, tags: list[str], mode: Mode) -> None:
        purge = self.run(self.service.purge(*map(tag, tags), mode=mode))
        self.took_effect(tags, mode, purge.index)
        self.acknowledged.append(purge.id)

    @rule(tags=tags)
    def invalidate(self, tags: list[str]) -> None:
        async def invalidate() -> int:
            return self.service.purger.invalidate([tag_target("shop", name) for name in tags])

        self.took_effect(tags, Mode.HARD, self.run(invalidate()))

    @rule(tags=tags, mode=modes)
    def purge_while_the_disk_fails(self, tags: list[str], mode: Mode) -> None:
        self.disk.broken = LogUnwritable("no")
        with pytest.raises(ClientError) as refused:
            self.run(self.service.purge(*map(tag, tags), mode=mode))
        assert refused.value.status == 503
        assert self.service.purger.passing
        self.took_effect(tags, mode, self.service.table.index)
        self.disk.broken = None
        self.run(self.service.writable())

    @rule(tags=tags, mode=modes, in_s=st.integers(1, 40))
    def schedule(self, tags: list[str], mode: Mode, in_s: int) -> None:
        due = self.clock.now() + in_s
        schedule = self.run(self.service.purge(*map(tag, tags), mode=mode, at=due))
        self.scheduled[schedule.id] = Plan(due, tags, mode)
        self.acknowledged.append(schedule.id)

    @precondition(lambda self: self.soft)
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.soft)))
        at, until = self.soft.pop(id_)
        if self.clock.now() >= until:
            with pytest.raises(ClientError) as refused:
                self.run(self.service.purger.undo(id_, ALICE))
            assert refused.value.status == 409
            return
        assert self.run(self.service.purger.undo(id_, ALICE)).state is Stage.UNDONE
        self.effects = [effect for effect in self.effects if effect.at != at]

    @precondition(lambda self: self.scheduled)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.scheduled)))
        del self.scheduled[id_]
        assert self.run(self.service.purger.undo(id_, ALICE)).state is Stage.CANCELLED

    @rule(by_s=st.integers(1, 50))
    def time_passes(self, by_s: int) -> None:
        self.clock.advance(by_s)
        before = self.service.table.index
        self.run(self.service.purger.tick())
        self.run(self.service.settled())  # whoever undoes what was carried out finds it in the log
        due = {id_: plan for id_, plan in self.scheduled.items() if plan.due <= self.clock.now()}
        told = [each for each in self.store.applied_ if each[0] > before]
        applied = [(sorted(each.value for each in (*hard, *soft)), bool(soft)) for _, hard, soft in told]
        assert sorted(applied) == sorted((plan.tags, plan.mode is Mode.SOFT) for plan in due.values())
        for (at, _, _), (names, softly) in zip(told, applied, strict=True):
            self.took_effect(names, Mode.SOFT if softly else Mode.HARD, at)
        self.scheduled = {id_: plan for id_, plan in self.scheduled.items() if id_ not in due}

    @rule()
    def restart(self) -> None:
        self.service.log.close()
        self.start()

    @invariant()
    def the_stamps_are_those_of_the_entries_in_effect(self) -> None:
        moments = {0, *[effect.at - 1 for effect in self.effects], *[effect.at for effect in self.effects]}
        for name in TAGS:
            for since in moments:
                hit = {effect.mode for effect in self.effects if effect.tag == name and effect.at > since}
                expected = Verdict.HARD if Mode.HARD in hit else Verdict.SOFT if hit else Verdict.CLEAN
                assert self.service.table.verdict(tagged(name), since) is expected

    def teardown(self) -> None:
        if not hasattr(self, "service"):
            return
        self.run(self.service.settled())
        entries = self.run(self.service.entries())
        told = [entry.position.text for entry in entries if entry.kind is not RecordKind.OPEN]
        assert [purge.id for purge in self.run(self.service.purger.feed(None)).purges] == told
        assert set(self.acknowledged) <= set(told)
        starts = [at for at, entry in enumerate(entries) if entry.kind is RecordKind.OPEN]
        for start, end in itertools.pairwise([*starts, len(entries)]):
            some = entries[start:end]
            for here_only in (False, True):
                assert chain_holds([entry.record for entry in some if entry.position.here_only is here_only])
        self.service.log.close()
        self.loop.close()
        self.directory.cleanup()


TestPurgeService = PurgeService.TestCase
TestPurgeService.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
