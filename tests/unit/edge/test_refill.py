"""Turns after a purge: how many at once, who is next, and what becomes of those who leave."""

import asyncio

import pytest

from banish.edge import refill
from banish.edge.refill import REFILL_TURNS, REFILL_WAITING, Refill
from banish.errors import ClientError
from banish.tables import Accounts
from tests.looped import looped, settle

LONG_S = 60.0


def turns(concurrency: int = 1, *, wait_s: float = LONG_S, accounts: Accounts | None = None) -> Refill:
    return Refill("shop", concurrency=concurrency, wait_s=wait_s, accounts=accounts or Accounts())


class Fetch:
    """One who takes a turn, and keeps it until told to go."""

    def __init__(self, refill: Refill, heat: float = 1.0, *, everything: bool = False) -> None:
        self.began = False
        self.leave = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run(refill, heat, everything))

    async def _run(self, refill: Refill, heat: float, everything: bool) -> None:
        async with refill.turn(heat, everything=everything):
            self.began = True
            await self.leave.wait()

    async def end(self) -> None:
        self.leave.set()
        await self.task


@looped
async def test_no_more_fetch_at_once_than_there_are_turns() -> None:
    refill = turns(2)
    fetches = [Fetch(refill) for _ in range(5)]
    await settle()
    assert [fetch.began for fetch in fetches] == [True, True, False, False, False]
    await fetches[0].end()
    await settle()
    assert sum(fetch.began for fetch in fetches) == 3
    for fetch in fetches:
        await fetch.end()
    assert repr(refill) == "<Refill shop: 2 free, 0 waiting>"


@looped
async def test_the_hottest_who_waits_is_next() -> None:
    refill = turns()
    first = Fetch(refill)
    await settle()
    cold, hot, warm = Fetch(refill, 1), Fetch(refill, 100), Fetch(refill, 10)
    await settle()
    begun = []
    for ended in (first, hot, warm):
        await ended.end()
        await settle()
        begun.append((hot.began, warm.began, cold.began))
    assert begun == [(True, False, False), (True, True, False), (True, True, True)]
    await cold.end()


@looped
async def test_a_wait_that_runs_out_is_refused_and_counted() -> None:
    accounts = Accounts()
    refill = turns(wait_s=0.001, accounts=accounts)
    holder = Fetch(refill)
    await settle()
    with pytest.raises(ClientError) as refused:
        async with refill.turn(1.0):
            raise AssertionError("there was no turn to have")
    assert (refused.value.status, refused.value.close) == (503, False)
    figures = {metric.name: samples for metric, samples in accounts.collect()}
    assert figures[REFILL_TURNS.name] == {("shop", "at_once"): 1, ("shop", "refused"): 1}
    assert figures[REFILL_WAITING.name] == {("shop",): 0}
    await holder.end()


@looped
async def test_more_waiters_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refill, "WAITERS_MAX", 1)
    site = turns()
    fetches = [Fetch(site), Fetch(site)]
    await settle()
    with pytest.raises(ClientError, match="too many"):
        async with site.turn(1.0):
            pass
    for fetch in fetches:
        await fetch.end()


@looped
async def test_a_waiter_that_leaves_takes_no_turn_with_it() -> None:
    refill = turns()
    holder, leaver, last = Fetch(refill), Fetch(refill, 9), Fetch(refill)
    await settle()
    leaver.task.cancel()
    await settle()
    await holder.end()
    await settle()
    assert (leaver.began, last.began) == (False, True)
    await last.end()


@looped
async def test_a_turn_given_to_one_who_is_just_leaving_is_given_on() -> None:
    refill = turns()
    holder, leaver, last = Fetch(refill), Fetch(refill, 9), Fetch(refill)
    await settle()
    holder.leave.set()
    await asyncio.sleep(0)  # the holder leaves in this step and gives its turn to `leaver`
    leaver.task.cancel()
    await settle()
    assert (leaver.began, last.began) == (False, True)
    await last.end()
    assert repr(refill) == "<Refill shop: 1 free, 0 waiting>"


@looped
async def test_those_who_left_are_let_go_of() -> None:
    refill = turns()
    holder = Fetch(refill)
    await settle()
    for _ in range(200):
        leaver = Fetch(refill)
        await settle()
        leaver.task.cancel()
        await settle()
    assert len(refill._waiting) <= 20
    await holder.end()


@looped
async def test_a_failed_fetch_gives_its_turn_back() -> None:
    refill = turns()
    with pytest.raises(ZeroDivisionError):
        async with refill.turn(1.0):
            raise ZeroDivisionError
    async with refill.turn(1.0):
        pass


@looped
async def test_without_a_bound_only_a_purge_of_everything_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refill, "EVERYTHING_CONCURRENCY", 1)
    site = turns(0)
    fetches = [Fetch(site) for _ in range(3)]
    after_everything = [Fetch(site, everything=True) for _ in range(2)]
    await settle()
    assert all(fetch.began for fetch in fetches)
    assert [fetch.began for fetch in after_everything] == [True, False]
    for fetch in (*fetches, *after_everything):
        await fetch.end()
