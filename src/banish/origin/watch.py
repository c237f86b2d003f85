"""One coarse timer for all waits of an origin group.

Setting a deadline on the miss path is one float stored on the connection; a timer per wait would cost a heap
operation and a handle each time. The watch looks at every connection once a tick: with a tick of a second and
a thousand connections that is about 0.1 ms a second.

Not here: what a deadline means and what happens when it passes (`connection.py`).
Units: `due` and `now` are seconds by the event loop's clock.
Invariant: the timer runs only while something is watched.
"""

import asyncio
from typing import Protocol

from banish.origin.timeouts import Timeouts

_TICK_S_MAX = 1.0
_TICK_S_MIN = 0.005


class Watched(Protocol):
    """Something that can be overdue."""

    def check(self, now: float) -> None:
        """Act if a wait has run out at `now`."""
        ...


def tick_s(timeouts: Timeouts) -> float:
    """A quarter of the shortest watched wait, within reason."""
    shortest = min(
        timeouts.write_s,
        timeouts.first_byte_s,
        timeouts.between_bytes_s,
        timeouts.total_s,
        timeouts.idle_s,
        timeouts.tunnel_idle_s,
    )
    return max(_TICK_S_MIN, min(_TICK_S_MAX, shortest / 4))


class Watch:
    """Looks at each watched thing every `tick_s` seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tick_s: float) -> None:
        self._loop = loop
        self._tick_s = tick_s
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Watch over {len(self._watched)}, {'ticking' if self._timer else 'still'}>"

    def add(self, watched: Watched) -> None:
        """Look at `watched` from now on."""
        self._watched.add(watched)
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_s, self._tick)

    def discard(self, watched: Watched) -> None:
        """Look at `watched` no more."""
        self._watched.discard(watched)
        if not self._watched and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        for watched in list(self._watched):
            watched.check(now)
        if self._watched and self._timer is None:
            self._timer = self._loop.call_later(self._tick_s, self._tick)
