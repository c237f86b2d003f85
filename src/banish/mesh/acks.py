"""Acks: what is confirmed to whoever issued it, in batches (PURGE rule 26).

The first confirmation after a quiet moment goes at once; what follows within `ACK_LEAST_S` goes together.

Not here: how far this edge is (`digests.py`).
Bound: one batch an issuer, each of as many streams as it has.
"""

from collections.abc import Iterator

from banish.mesh.frontier import Stream

ACK_LEAST_S = 0.02
"""Between two acks to one edge: a signature here and one checked there cost a fifth of a millisecond together."""


class Acks:
    """What waits to be confirmed."""

    __slots__ = ("_due", "_sent", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[str, set[Stream]] = {}
        self._due: dict[str, float] = {}
        self._sent: dict[str, float] = {}

    def note(self, stream: Stream, now: float) -> None:
        """There is something to confirm to the edge of this stream."""
        edge = stream[0]
        waiting = self._waiting.get(edge)
        if waiting is None:
            self._waiting[edge] = {stream}
            self._due[edge] = max(now, self._sent.get(edge, float("-inf")) + ACK_LEAST_S)
        else:
            waiting.add(stream)

    def ready(self, now: float) -> Iterator[tuple[str, set[Stream]]]:
        """What is to be sent now: the edge, and the streams of it."""
        for edge in [edge for edge, due in self._due.items() if due <= now]:
            self._sent[edge] = now
            del self._due[edge]
            yield edge, self._waiting.pop(edge)

    def forget(self, edge: str) -> None:
        """Nothing is to be confirmed to it any more."""
        for noted in (self._waiting, self._due, self._sent):
            noted.pop(edge, None)

    @property
    def due(self) -> float:
        """When the next batch is to be sent."""
        return min(self._due.values(), default=float("inf"))
