"""Confirming: who waits until other edges hold a purge, and what is known of each.

    copies     the answer to a purge waits until it is durable on so many edges, as far as so many are heard
    until      whoever waits for all edges, for a quorum, for any change: looked at when something has come
    receipts   how far each member is with one position

Answers wait in the order of their positions, as edges confirm them: an ack costs a look at the first of them. All other
waits are looked at together, `LOOK_S` apart at least.

Not here: what is known (`mesh/replica.py`); the long poll (`purging.py`).
Units: seconds.
"""

import asyncio
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from banish.edge.receipts import EdgeReceipt
from banish.mesh.replica import Replica
from banish.purge.positions import Position
from banish.tables import Accounts, Metric

LOOK_S = 0.01
"""Between two looks at who waits."""

LOOK_BUDGET_S = 0.001
"""How long one look may take from requests."""

AWAITED_MAX = 10_000
"""Answers that wait for copies. Past it they say at once how many there are."""

HEARD_S = 0.25
"""For how long the count of members that are heard is good."""

LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

MESH_LAG = Metric(
    "banish_mesh_purge_lag_seconds",
    "histogram",
    "From publishing a purge to each member's ack that it is in effect and on its disk: way there, disk, way back.",
    ("member",),
)
COPIES_WANTING = Metric(
    "banish_purge_copies_wanting_total",
    "counter",
    "Purges answered while they were durable on fewer edges than `purge.copies`.",
)


class _Awaited(NamedTuple):
    position: Position
    need: int
    future: "asyncio.Future[None]"


class Around(Protocol):
    """The mesh, as far as it is needed here (`meshing.py`)."""

    replica: Replica

    def name(self, edge: str) -> str: ...
    def now(self) -> float: ...


class Confirming:
    """Receipts and waits of one edge. Belongs to the event loop."""

    def __init__(self, mesh: Around, *, copies: int, copies_wait_s: float, accounts: Accounts) -> None:
        self._mesh = mesh
        self._copies = copies
        self._copies_wait_s = copies_wait_s
        self._awaited: deque[_Awaited] = deque()
        self._conditions: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self._look_wanted = False
        self._heard = 0
        self._heard_until = 0.0
        self._lags: dict[str, list[float]] = {}
        self._wanting = accounts.tally(COPIES_WANTING)
        accounts.read(MESH_LAG, self._lag_samples)

    # --- how long it takes

    def measured(self, edge: str, lag_s: float) -> None:
        """A purge got to an edge, and its ack back."""
        counts = self._lags.setdefault(self._mesh.name(edge), [0.0] * (len(LAG_BOUNDS_S) + 2))
        counts[bisect_left(LAG_BOUNDS_S, lag_s)] += 1
        counts[-1] += lag_s

    def _lag_samples(self) -> list[tuple[tuple[str, ...], float]]:
        """Of each member: how many up to each bound, all of them, and their sum."""
        samples: list[tuple[tuple[str, ...], float]] = []
        for name, (*counts, total_s) in self._lags.items():
            below = 0.0
            for bound, count in zip((*map(str, LAG_BOUNDS_S), "+Inf"), counts, strict=True):
                below += count
                samples.append(((name, bound), below))
            samples.append(((name, "sum"), total_s))
        return samples

    # --- copies

    def heard(self) -> int:
        """Other members that are heard now."""
        now = self._mesh.now()
        if now >= self._heard_until:
            replica = self._mesh.replica
            self._heard = sum(replica.heard_until(edge) > now for edge in replica.counted)
            self._heard_until = now + HEARD_S
        return self._heard

    async def copies(self, position: Position) -> int:
        """On how many edges a position of this one's is durable, once that is as many as there are to be; at the latest
        after `purge.copies_wait_s`.
        """
        replica = self._mesh.replica
        need = min(self._copies, 1 + self.heard())
        if need > 1 and len(self._awaited) < AWAITED_MAX and replica.copies(position) < need:
            future = asyncio.get_running_loop().create_future()
            self._awaited.append(_Awaited(position, need, future))
            await asyncio.wait((future,), timeout=self._copies_wait_s)
            future.cancel()
        found = replica.copies(position)
        if found < self._copies:
            self._wanting.add()
        return max(1, found)

    # --- waiting

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until it holds; whether it does."""
        if condition() or timeout_s <= 0:
            return condition()
        future = asyncio.get_running_loop().create_future()
        self._conditions[future] = condition
        try:
            await asyncio.wait((future,), timeout=timeout_s)
        finally:
            self._conditions.pop(future, None)
        return condition()

    def moved(self) -> None:
        """Something has come that may be waited for."""
        awaited = self._awaited
        while awaited and (
            awaited[0].future.done() or self._mesh.replica.copies(awaited[0].position) >= awaited[0].need
        ):
            one = awaited.popleft()
            if not one.future.done():
                one.future.set_result(None)
        self._look_soon()

    def _look_soon(self) -> None:
        if self._conditions and not self._look_wanted:
            self._look_wanted = True
            asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """Let go of those for whom it holds. Whoever there was no time for comes first the next time."""
        self._look_wanted = False
        until = time.monotonic() + LOOK_BUDGET_S
        for future in list(self._conditions):
            condition = self._conditions.pop(future)
            self._conditions[future] = condition
            if not future.done() and condition():
                future.set_result(None)
            if time.monotonic() >= until:
                self._look_soon()
                return

    # --- receipts

    def receipts(self, position: Position) -> list[EdgeReceipt]:
        """How far every other member that counts is, by name."""
        found = self._mesh.replica.receipts(position, self._mesh.now())
        return [EdgeReceipt(name=one.name, edge=one.edge, state=one.standing, lag_s=one.lag_s) for one in found]
