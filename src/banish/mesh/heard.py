"""Heard: until when each member counts as heard, by echoes of our own digests (PURGE rule 22).

    ours   ── digest 17, sent at t ──▶ theirs
    ours   ◀── a digest that echoes 17 ── theirs        heard until t + lease, whenever it arrives

So no clock is compared with another, and a message that was under way for an hour proves nothing.

Not here: gaps, the other reason for being behind (`gaps.py`); who counts (`replica.py` says).
Units: seconds of the clock handed in.
Invariant: what a member is heard until never goes back while it counts.
"""

import heapq
from math import inf


class Heard:
    """The leases of those who count."""

    __slots__ = ("_heap", "_until")

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __contains__(self, edge: object) -> bool:
        return edge in self._until

    def count(self, edge: str, until: float) -> None:
        """From now on this edge counts: it is heard until then, at least."""
        if edge not in self._until:
            self._until[edge] = until
            heapq.heappush(self._heap, (until, edge))
        else:
            self.echoed(edge, until)

    def echoed(self, edge: str, until: float) -> None:
        """It is heard until then, if it counts."""
        if until > self._until.get(edge, inf):
            self._until[edge] = until

    def drop(self, edge: str) -> None:
        """It counts no more: it has said goodbye, or belongs no more."""
        self._until.pop(edge, None)

    def until(self, edge: str) -> float:
        """Until when it is heard; the past if it never was, or does not count."""
        return self._until.get(edge, -inf)

    @property
    def earliest(self) -> float:
        """Until when all of them are heard; infinite if none counts."""
        heap, until = self._heap, self._until
        while heap:
            noted, edge = heap[0]
            true = until.get(edge)
            if true is None:
                heapq.heappop(heap)
            elif true > noted:
                heapq.heapreplace(heap, (true, edge))
            else:
                return noted
        return inf
