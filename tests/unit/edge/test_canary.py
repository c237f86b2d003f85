"""Canaries: purged and looked for, on each edge that a canary purge reaches, and alarming when they survive it."""

import asyncio

from banish.edge.canary import CANARIES, CANARY_AGE, CANARY_SITE, Canaries
from banish.edge.receipts import Caller, EdgeReceipt, Filters, Purge, PurgeRequest
from banish.mesh.effects import Standing
from banish.purge.given import Given
from banish.purge.positions import Position
from banish.purge.records import Record, RecordKind
from banish.purge.stamps import Mode, PurgeTable
from banish.purge.targets import Kind, Target
from banish.store.tiers import Store
from banish.tables import Accounts, Metric
from banish.testing.clock import FakeClock
from tests.unit.edge.services import ALICE, serving

HERE, THERE = "0" * 15 + "1", "0" * 15 + "2"
POSITION = Position(HERE, "1-00000000", 7)


class Scene:
    """Canaries over a real table and store, with receipts as the test has them."""

    def __init__(self) -> None:
        self.accounts, self.clock, self.table = Accounts(), FakeClock(), PurgeTable()
        self.store = Store(
            memory_bytes=1 << 20, disk=None, table=self.table, clock=self.clock, accounts=Accounts(),
            stamp_min_age_s=60.0, undo_window_s=60.0,
        )  # fmt: skip
        self.receipts: list[EdgeReceipt] = []
        self.asked: list[tuple[PurgeRequest, Caller]] = []
        self.canaries = Canaries(
            HERE, store=self.store, purging=self, receipts=lambda position: self.receipts,
            index=lambda: self.table.index, clock=self.clock, accounts=self.accounts,
        )  # fmt: skip

    async def purge(self, asked: PurgeRequest, caller: Caller) -> Purge:
        self.asked.append((asked, caller))
        return Purge(
            id=POSITION.text, kind=RecordKind.PURGE, state="applied", mode=Mode.HARD, sites=(CANARY_SITE,),  # type: ignore[arg-type]
            targets=asked.targets, at=0.0,
        )  # fmt: skip

    def arrives(self, edge: str, *, effective: bool = True, site: str = CANARY_SITE) -> None:
        """A canary purge of an edge takes effect here."""
        if effective:
            self.table.apply([Target(Kind.TAG, CANARY_SITE, edge)])
        position = Position(edge, "1-00000000", 1)
        record = Record(1, RecordKind.PURGE, (site,), Mode.HARD, position, b"", 0.0, (Given(Kind.TAG, edge),))
        self.canaries.in_effect(record)

    def figure(self, metric: Metric) -> dict[tuple[str, ...], float]:
        return next(figures for row, figures in self.accounts.collect() if row is metric)


def receipt(name: str, standing: Standing) -> EdgeReceipt:
    return EdgeReceipt(name=name, edge=THERE, state=standing)


def test_each_purge_finds_the_canary_of_its_edge_gone_and_leaves_another() -> None:
    scene = Scene()
    for _ in range(3):
        scene.arrives(HERE)
        scene.arrives(THERE)
    assert scene.figure(CANARIES) == {("new",): 2, ("gone",): 4}
    assert len(scene.store) == 2


def test_one_that_would_still_answer_is_counted_as_stale() -> None:
    scene = Scene()
    scene.arrives(THERE)
    scene.arrives(THERE, effective=False)
    assert scene.figure(CANARIES) == {("new",): 1, ("stale",): 1}


def test_purges_of_other_sites_are_none_of_its_business() -> None:
    scene = Scene()
    scene.arrives(THERE, site="shop")
    assert scene.figure(CANARIES) == {}
    assert len(scene.store) == 0


def test_the_age_of_the_last_one_that_a_member_confirmed_grows_until_it_confirms_another() -> None:
    async def body() -> None:
        scene = Scene()
        scene.receipts = [receipt("ber", Standing.APPLIED), receipt("cph", Standing.BEHIND)]
        await scene.canaries.send()
        scene.clock.advance(5.0)
        assert scene.figure(CANARY_AGE) == {("ber",): 5.0}
        scene.receipts = [receipt("ber", Standing.UNREACHABLE), receipt("cph", Standing.SWEPT)]
        assert scene.figure(CANARY_AGE) == {("ber",): 5.0, ("cph",): 5.0}
        scene.clock.advance(5.0)
        scene.receipts = [receipt("cph", Standing.UNREACHABLE)]  # ber was forgotten
        assert scene.figure(CANARY_AGE) == {("cph",): 10.0}

    asyncio.run(body())


def test_it_is_purged_as_anything_is_and_told_in_no_history_unless_asked_for() -> None:
    async def body() -> None:
        async with serving() as made:
            asked = PurgeRequest(targets=(Given(Kind.TAG, HERE),), reason="canary")
            await made.purger.purge(asked, Caller("canary", "", (CANARY_SITE,)))
            other = await made.purger.purge(PurgeRequest(targets=(Given(Kind.TAG, "news"),)), ALICE)
            page = await made.purger.list(Filters())
            assert [purge.id for purge in page.purges] == [other.id]
            assert len((await made.purger.list(Filters(site=CANARY_SITE))).purges) == 2  # one of all sites among them
            assert [purge.id for purge in (await made.purger.feed(None)).purges] == [other.id]

    asyncio.run(body())
