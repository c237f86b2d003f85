"""The pool: which connection carries the next request. Decides; never waits, opens or closes anything.

Each connection is in one of two places, and `connections_max` bounds their sum for each address:

    taken   opening, carrying an exchange, or handed out to be closed     (counted only)
    idle    waiting for a request, newest last                            (`_idle`)

It leaves the count by `leave`, `failed` or `gone`, once.

Cases of `take`, in order:
    1. an idle connection that is still usable: the newest, whose round trip is warmest and death least likely
    2. room at an address: the one with fewest connections, in the order configured; addresses that lately
       took no connection only if there is no other
    3. a new connection is asked for and only idle ones stand in the way: the oldest of them must be closed
    4. nothing: the caller waits in `waiting`, first come first served, or is refused once `waiting_max` do

Not here: opening and waiting (`client.py`); when an idle connection has been so too long (`connection.py`).
Invariant: nobody waits while a connection is idle.
"""

from asyncio import Future
from collections import deque
from collections.abc import Collection, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from banish.origin.addresses import Address
from banish.origin.limits import Limits

AVOID_ADDRESS_S = 10.0
"""How long an address that took no connection is the last choice."""


class Pooled(Protocol):
    """What the pool needs to know of a connection."""

    address: Address

    @property
    def usable(self) -> bool:
        """It may carry a request now."""
        ...


C = TypeVar("C", bound=Pooled)


class Turn(NamedTuple, Generic[C]):
    """For a request: close `close`; then use `connection`, or else open one to `address`, or else wait."""

    connection: C | None = None
    address: Address | None = None
    close: tuple[C, ...] = ()


class Pool(Generic[C]):
    """The books of one origin group's connections."""

    def __init__(self, addresses: Sequence[Address], limits: Limits) -> None:
        assert addresses
        self._limits = limits
        self._open = dict.fromkeys(addresses, 0)
        self._failed_at: dict[Address, float] = {}
        self._idle: list[C] = []
        self._waiting: deque[Future[Turn[C]]] = deque()

    def __repr__(self) -> str:
        idle = len(self._idle)
        return f"<Pool: {sum(self._open.values()) - idle} taken, {idle} idle, {self.waiting} waiting>"

    @property
    def idle(self) -> int:
        """Connections kept for later."""
        return len(self._idle)

    @property
    def taken(self) -> int:
        """Connections that are opening or carry an exchange."""
        return sum(self._open.values()) - len(self._idle)

    @property
    def waiting(self) -> int:
        """Requests that wait for a connection."""
        return sum(not future.done() for future in self._waiting)

    def take(self, now: float, *, fresh: bool = False, tried: Collection[Address] = ()) -> Turn[C]:
        """Decide for one request. `fresh`: no idle connection will do. `tried`: addresses out of question."""
        close: list[C] = []
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.usable:
                return Turn(connection, None, tuple(close))
            close.append(connection)
        address = self._address_with_room(now, tried)
        if address is None:
            oldest = next((idle for idle in self._idle if idle.address not in tried), None)
            if oldest is None:
                return Turn(None, None, tuple(close))
            self._idle.remove(oldest)
            close.append(oldest)
            address = oldest.address
        self._open[address] += 1
        return Turn(None, address, tuple(close))

    def wait(self, future: "Future[Turn[C]]") -> bool:
        """Stand in line: the future will be given a plan to carry out. False: the line is full."""
        if len(self._waiting) >= self._limits.waiting_max:
            self._waiting = deque(waiting for waiting in self._waiting if not waiting.done())
            if len(self._waiting) >= self._limits.waiting_max:
                return False
        self._waiting.append(future)
        return True

    def give(self, connection: C) -> tuple[C, ...]:
        """A taken connection may carry another request. Says what must be closed for want of room."""
        if (future := self._next_waiting()) is not None:
            future.set_result(Turn(connection=connection))
            return ()
        self._idle.append(connection)
        same = [other for other in self._idle if other.address == connection.address]
        if len(same) <= self._limits.idle_max:
            return ()
        self._idle.remove(same[0])
        return (same[0],)

    def gone(self, connection: C) -> None:
        """A connection ended, wherever it was."""
        if connection in self._idle:
            self._idle.remove(connection)
        self.leave(connection.address)

    def leave(self, address: Address) -> None:
        """A taken connection is no more; its place goes to the first who waits."""
        self._open[address] -= 1
        if self._open[address] < self._limits.connections_max and (future := self._next_waiting()) is not None:
            self._open[address] += 1
            future.set_result(Turn(address=address))

    def failed(self, address: Address, now: float) -> None:
        """No connection came about: the address is the last choice for a while."""
        self._failed_at[address] = now
        self.leave(address)

    def worked(self, address: Address) -> None:
        """A connection came about."""
        self._failed_at.pop(address, None)

    def _address_with_room(self, now: float, tried: Collection[Address]) -> Address | None:
        best: tuple[bool, int] | None = None
        found = None
        for address, count in self._open.items():
            if address in tried or count >= self._limits.connections_max:
                continue
            avoid = now < self._failed_at.get(address, -AVOID_ADDRESS_S) + AVOID_ADDRESS_S
            if best is None or (avoid, count) < best:
                best, found = (avoid, count), address
        return found

    def _next_waiting(self) -> "Future[Turn[C]] | None":
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                return future
        return None
