"""Refill safety: after a purge, the origin gets back what was purged a few at a time, the hottest first.

A purge that removes much sends the requests that used to be hits to the origin all at once. A fetch of
something that a purge has removed takes a turn here: at most so many at once per site, and of those who wait,
the one that was asked for most goes first. Requests for one URL have been collapsed onto one fetch before.

Not here: what a purge has removed, and how hot it was (`store/graves.py`); collapsing (`proxy/`).
Units: seconds; heat is any number that grows with the demand.
Invariants: never more turns at once than `concurrency`; a turn that is given is taken or given on, whatever
becomes of the waiter. No wait is longer than `wait_s`.
"""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator

from banish.errors import ClientError
from banish.tables import Accounts, Metric

EVERYTHING_CONCURRENCY = 64
"""Turns at once after a purge of everything, where the site sets no bound: that purge is never without one."""

WAITERS_MAX = 10_000
"""Fetches of one site that wait for a turn: as many as there may be client connections by default. Past it 503."""

REFILL_TURNS = Metric(
    "banish_refill_turns_total",
    "counter",
    "Fetches of what a purge had removed, by site and by whether they had to wait: at_once, waited, refused (the wait "
    "ran out, or too many waited).",
    ("site", "outcome"),
)
REFILL_WAITING = Metric(
    "banish_refill_waiting", "gauge", "Fetches that wait for their turn after a purge, by site.", ("site",)
)


class Refill:
    """The turns of one site. `concurrency` 0: no bound but the one after a purge of everything."""

    def __init__(self, site: str, *, concurrency: int, wait_s: float, accounts: Accounts) -> None:
        self._site = site
        self._everywhere = concurrency > 0
        self._free = concurrency or EVERYTHING_CONCURRENCY
        self._wait_s = wait_s
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []  # a heap, those who left among them
        self._waiters = 0
        self._order = itertools.count()
        self._turns = accounts.tally(REFILL_TURNS)
        accounts.read(REFILL_WAITING, lambda: [((site,), self._waiters)])

    def __repr__(self) -> str:
        return f"<Refill {self._site}: {self._free} free, {self._waiters} waiting>"

    @contextlib.asynccontextmanager
    async def turn(self, heat: float, *, everything: bool = False) -> AsyncIterator[None]:
        """One fetch's turn, from when it may begin until the block is left. `everything`: the purge that caused it
        was one of everything.

        Raises ClientError (503) if the wait runs out or too many wait; asking again a little later may do.
        """
        if not (self._everywhere or everything):
            yield
            return
        await self._take(heat)
        try:
            yield
        finally:
            self._give()

    async def _take(self, heat: float) -> None:
        if self._free:
            self._free -= 1
            self._turns.add(self._site, "at_once")
            return
        if self._waiters >= WAITERS_MAX:
            raise self._refused("too many fetches wait for their turn after a purge")
        granted = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-heat, next(self._order), granted))
        self._waiters += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await granted
        except BaseException as error:
            if granted.done() and not granted.cancelled():
                self._give()  # it came too late for us
            granted.cancel()
            if isinstance(error, TimeoutError):
                raise self._refused(f"no turn within {self._wait_s:g} s after a purge") from None
            raise
        finally:
            self._waiters -= 1
            self._tidy()
        self._turns.add(self._site, "waited")

    def _give(self) -> None:
        """A turn is over: the hottest who still waits has the next."""
        while self._waiting:
            granted = heapq.heappop(self._waiting)[2]
            if not granted.done():
                granted.set_result(None)
                return
        self._free += 1

    def _tidy(self) -> None:
        """Let go of those who left, once they are most of the heap."""
        if len(self._waiting) > 2 * self._waiters + 16:
            self._waiting = [place for place in self._waiting if not place[2].done()]
            heapq.heapify(self._waiting)

    def _refused(self, reason: str) -> ClientError:
        self._turns.add(self._site, "refused")
        return ClientError(503, reason, close=False)
