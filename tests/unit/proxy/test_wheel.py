import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banish.proxy.wheel import SLOTS, Wheel


class Item:
    """Writes down when it was called."""

    def __init__(self, wheel: Wheel) -> None:
        self.deadline = 0
        self.fired: list[int] = []
        self._wheel = wheel

    def expire(self) -> None:
        self.fired.append(self._wheel.tick)


def turned(wheel: Wheel, ticks: int) -> None:
    for _ in range(ticks):
        wheel.advance()


@given(seconds=st.floats(0.0001, 3000), started=st.integers(0, 200))
def test_a_deadline_is_met_never_early_and_less_than_two_ticks_late(seconds: float, started: int) -> None:
    wheel = Wheel()
    turned(wheel, started)
    item = Item(wheel)
    wheel.watch(item, seconds)
    turned(wheel, int(seconds) + 3)
    assert len(item.fired) == 1
    ticks = item.fired[0] - started
    assert seconds <= ticks - 1 < seconds + 1  # the first tick may have come at once


def test_a_deadline_moved_later_by_hand_is_met_then_and_not_before() -> None:
    wheel = Wheel()
    item = Item(wheel)
    wheel.watch(item, 5)
    for _ in range(50):
        wheel.advance()
        item.deadline = wheel.after(5)
    assert item.fired == []
    turned(wheel, 10)
    assert item.fired == [56]


def test_a_deadline_watched_anew_and_earlier_is_met_at_the_earlier_moment() -> None:
    wheel = Wheel()
    item = Item(wheel)
    wheel.watch(item, 60)
    wheel.watch(item, 5)
    turned(wheel, 7)
    assert item.fired == [6]


def test_what_lies_beyond_the_wheel_comes_round_until_it_is_due() -> None:
    wheel = Wheel()
    item = Item(wheel)
    wheel.watch(item, 5 * SLOTS)
    turned(wheel, 5 * SLOTS)
    assert item.fired == []
    turned(wheel, 2)
    assert item.fired == [5 * SLOTS + 1]


def test_the_forgotten_are_not_called_wherever_they_wait() -> None:
    wheel = Wheel()
    item, other = Item(wheel), Item(wheel)
    for seconds in (3, 30, 300):
        wheel.watch(item, seconds)
    wheel.watch(other, 3)
    wheel.forget(item)
    wheel.forget(Item(wheel))
    turned(wheel, 400)
    assert (item.fired, other.fired) == ([], [4])


def test_who_expires_may_be_watched_again_from_within() -> None:
    class Again(Item):
        def expire(self) -> None:
            super().expire()
            wheel.watch(self, 2)

    wheel = Wheel()
    item = Again(wheel)
    wheel.watch(item, 2)
    turned(wheel, 12)
    assert item.fired == [3, 6, 9, 12]


@pytest.mark.parametrize("seconds", [0, 0.5])
def test_the_shortest_wait_is_a_tick_of_its_own(seconds: float) -> None:
    wheel = Wheel()
    item = Item(wheel)
    wheel.watch(item, seconds)
    assert item.fired == []
    turned(wheel, 2)
    assert len(item.fired) == 1


def test_it_turns_on_the_loop_and_stands_still_when_stopped() -> None:
    async def scene() -> None:
        wheel = Wheel()
        item = Item(wheel)
        wheel.stop()  # not started yet: nothing to do
        wheel.start()
        wheel.watch(item, 1)
        wheel._turn(asyncio.get_running_loop())
        assert wheel.tick == 1
        wheel.stop()
        turned(wheel, SLOTS)
        assert item.fired == []

    asyncio.run(scene())
