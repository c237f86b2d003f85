"""Links: which edges can be spoken to, made of what a session says of its connections.

    a connection comes up ──▶ linked ──▶ told, once the other end has answered a greeting, or after READY_S
    its last one goes     ──▶ told

Between the two an edge is connected, and nothing that is published reaches it: zenoh sends what the other end has
asked for, and that is on its way. What is published as soon as a link is told of arrives.

Not here: sessions (`zenoh_sessions.py`). Units: seconds. Belongs to the event loop.
Invariant: of one edge, up and down are told by turns.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Hashable

READY_S = 2.0
"""How long the other end may take to answer. A link is told of then in any case: it may be deaf."""


class Links:
    """Those there are."""

    def __init__(self, tell: Callable[[str, bool], None]) -> None:
        self._tell = tell
        self._links: dict[str, set[Hashable]] = {}
        self._ready: set[str] = set()
        self._waiting: dict[str, asyncio.TimerHandle] = {}
        self._told: set[str] = set()
        self._changed = asyncio.Event()

    def count(self, edge: str) -> int:
        """Connections with an edge."""
        return len(self._links.get(edge, ()))

    @property
    def told(self) -> frozenset[str]:
        """Edges that can be spoken to."""
        return frozenset(self._told)

    def connected(self, edge: str, link: Hashable, up: bool) -> None:
        """A connection has come up, or gone down."""
        links = self._links.setdefault(edge, set())
        (links.add if up else links.discard)(link)
        if not links:
            self._down(edge)
        elif edge in self._ready:
            self._up(edge)
        elif edge not in self._told and edge not in self._waiting:
            self._waiting[edge] = asyncio.get_running_loop().call_later(READY_S, self._up, edge)

    def listens(self, edge: str, ready: bool) -> None:
        """An edge has answered, or is not there any more."""
        (self._ready.add if ready else self._ready.discard)(edge)
        if ready and self._links.get(edge):
            self._up(edge)

    def end(self) -> None:
        """All of them are gone."""
        for edge in list(self._links):
            self._down(edge)
        self._ready.clear()

    async def back(self, edges: Collection[str], timeout_s: float) -> None:
        """Wait until these can be spoken to, or so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self._told.issuperset(edges):
                    self._changed.clear()
                    await self._changed.wait()

    def _up(self, edge: str) -> None:
        self._settle(edge)
        if edge not in self._told:
            self._told.add(edge)
            self._changed.set()
            self._tell(edge, True)

    def _down(self, edge: str) -> None:
        self._settle(edge)
        self._links.pop(edge, None)
        if edge in self._told:
            self._told.discard(edge)
            self._tell(edge, False)

    def _settle(self, edge: str) -> None:
        if (timer := self._waiting.pop(edge, None)) is not None:
            timer.cancel()
