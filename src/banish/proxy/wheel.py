"""One coarse wheel for the deadlines of all client connections.

Arming a timer of the event loop costs a heap push and, mostly, a cancelled heap entry; a connection that
answers ten thousand hits a second would do that ten thousand times. Here a connection only writes down its
new deadline (an attribute), and the wheel looks at it when the slot it once chose comes round: not due yet,
then it moves to the slot of the new deadline.

Units: ticks of one second. A deadline fires between 0 and 2 ticks late, never early.
"""

import asyncio
import math
from typing import Protocol

TICK_S = 1.0
SLOTS = 64


class Timed(Protocol):
    """Whatever has a deadline. `deadline` is a tick number; moving it later needs no call."""

    deadline: int

    def expire(self) -> None:
        """The deadline has passed."""
        ...


class Wheel:
    """Slots by tick, each a set of those who asked to be looked at then."""

    def __init__(self) -> None:
        self.tick = 0
        self._slots: list[set[Timed]] = [set() for _ in range(SLOTS)]
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to turn, on the running loop."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(TICK_S, self._turn, loop)

    def stop(self) -> None:
        """Stand still and forget everybody."""
        if self._timer is not None:
            self._timer.cancel()
        for slot in self._slots:
            slot.clear()

    def watch(self, item: Timed, seconds: float) -> None:
        """Set the item's deadline, and see that it is looked at by then."""
        item.deadline = self.after(seconds)
        self._slots[min(item.deadline, self.tick + SLOTS - 1) % SLOTS].add(item)

    def after(self, seconds: float) -> int:
        """The deadline that lies so far ahead: what an item already watched may write down itself, if later."""
        return self.tick + 1 + math.ceil(seconds / TICK_S)

    def forget(self, item: Timed) -> None:
        """Never look at this item again."""
        for slot in self._slots:
            slot.discard(item)

    def advance(self) -> None:
        """One tick: look at everybody in the slot that has come round."""
        self.tick += 1
        at = self.tick % SLOTS
        due, self._slots[at] = self._slots[at], set()
        for item in due:
            if item.deadline <= self.tick:
                item.expire()
            else:
                self._slots[min(item.deadline, self.tick + SLOTS - 1) % SLOTS].add(item)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(TICK_S, self._turn, loop)
        self.advance()
