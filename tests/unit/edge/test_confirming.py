"""Waits for other edges, and how long purges take to get there."""

import asyncio
from dataclasses import dataclass, field

import pytest

from banish.edge import confirming
from banish.edge.confirming import COPIES_WANTING, LAG_BOUNDS_S, MESH_LAG, Confirming
from banish.edge.receipts import EdgeReceipt, Reach, reach_of
from banish.mesh.effects import Receipt, Standing
from banish.purge.positions import Position
from banish.tables import Accounts
from tests.looped import looped
from tests.purgelogs import EDGE, EPOCH, figure


@dataclass
class Core:
    """What is known of positions, as the test says."""

    counted: frozenset[str] = frozenset({"berlin", "tokyo"})
    heard: dict[str, float] = field(default_factory=lambda: {"berlin": 100.0, "tokyo": 100.0})
    held: dict[int, int] = field(default_factory=dict)

    def heard_until(self, edge: str) -> float:
        return self.heard[edge]

    def copies(self, position: Position) -> int:
        return self.held.get(position.seq, 1)

    def receipts(self, position: Position, now: float) -> list[Receipt]:
        return [Receipt("berlin", "berlin", Standing.APPLIED, 0.012)]


class Around:
    def __init__(self) -> None:
        self.replica = Core()
        self.at = 10.0

    def name(self, edge: str) -> str:
        return edge.title()

    def now(self) -> float:
        return self.at


def made(copies: int = 2, wait_s: float = 10.0) -> tuple[Confirming, Around, Accounts]:
    around, accounts = Around(), Accounts()
    return Confirming(around, copies=copies, copies_wait_s=wait_s, accounts=accounts), around, accounts  # type: ignore[arg-type]


def position(seq: int) -> Position:
    return Position(EDGE, EPOCH, seq)


@looped
async def test_answers_wait_for_copies_in_the_order_of_their_positions() -> None:
    waits, around, accounts = made()
    answers = [asyncio.ensure_future(waits.copies(position(seq))) for seq in (1, 2, 3)]
    await asyncio.sleep(0)
    around.replica.held = {1: 2, 2: 3}
    waits.moved()
    assert await asyncio.gather(*answers[:2]) == [2, 3]
    assert not answers[2].done()
    around.replica.held[3] = 2
    waits.moved()
    assert await answers[2] == 2
    assert figure(accounts, COPIES_WANTING.name) == 0


@looped
async def test_who_is_not_heard_is_not_waited_for_and_a_lack_is_counted() -> None:
    waits, around, accounts = made(copies=3)
    around.replica.heard = {"berlin": 0.0, "tokyo": 0.0}
    assert await waits.copies(position(1)) == 1
    assert figure(accounts, COPIES_WANTING.name) == 1


@looped
async def test_copies_are_waited_for_no_longer_than_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, _, accounts = made(wait_s=0.01)
    assert await waits.copies(position(1)) == 1
    assert figure(accounts, COPIES_WANTING.name) == 1
    monkeypatch.setattr(confirming, "AWAITED_MAX", 0)
    waits, _, _ = made(wait_s=1000.0)
    assert await waits.copies(position(1)) == 1, "too many wait already"


@looped
async def test_conditions_are_looked_at_when_something_has_come() -> None:
    waits, _, _ = made()
    come: list[int] = []
    waiting = asyncio.ensure_future(waits.until(lambda: bool(come), 10.0))
    await asyncio.sleep(0)
    waits.moved()
    come.append(1)
    assert await waiting
    assert not await waits.until(lambda: False, 0.01)
    assert not await waits.until(lambda: False, 0.0)


def test_lags_are_counted_up_to_each_bound() -> None:
    waits, _, accounts = made()
    for lag_s in (0.0005, 0.004, 0.004, 99.0):
        waits.measured("berlin", lag_s)
    samples = next(samples for metric, samples in accounts.collect() if metric is MESH_LAG)
    assert [samples["Berlin", str(bound)] for bound in LAG_BOUNDS_S[:3]] == [1, 1, 3]
    assert samples["Berlin", "+Inf"] == 4
    assert samples["Berlin", "sum"] == pytest.approx(99.0085)


def test_receipts_of_all_of_a_quorum_and_of_a_number() -> None:
    states = ("applied", "swept", "behind", "joined-clean", "unreachable")
    receipts = [EdgeReceipt(name=name, edge=name, state=Standing(name)) for name in states]
    assert [receipt.complete for receipt in receipts] == [True, True, False, True, False]
    assert not Reach().holds(receipts)
    assert Reach(quorum=True).holds(receipts)
    assert not Reach(quorum=True).holds(receipts[2:])
    assert Reach(3).holds(receipts)
    assert not Reach(4).holds(receipts)
    found = [reach_of(text) for text in ("all", "quorum", "3", "0", "-1", "some", "٣")]
    assert found == [Reach(), Reach(quorum=True), Reach(3), None, None, None, None]
