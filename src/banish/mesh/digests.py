"""Digests: what this edge says of itself to all, and when.

    every period · when asked, at once but no oftener than `ANSWER_LEAST_S` · at start and goodbye
    what changed since the digest before; twice a lease all there is, for whoever has missed one

Not here: what is made of the digests of others (`replica.py`).
Units: seconds of the clock handed in.
Invariant: numbers ascend within an epoch, and when each was sent is known for as long as a lease.
"""

from collections.abc import Collection, Mapping

from banish.mesh.frontier import Frontier, Stream
from banish.mesh.messages import MESSAGE_VERSION, Digest, Echo, Far, Kind

ANSWER_LEAST_S = 0.2
"""Between two digests, however many ask."""

MARKS_MAX = 8192
"""Marks in one digest: half a MiB. More follow in another."""


class Digests:
    """What is said, and what was."""

    def __init__(self, held: Frontier, swept: Frontier, *, period_s: float, lease_s: float) -> None:
        self._held = held
        self._swept = swept
        self._period_s = period_s
        self._whole_s = lease_s / 2
        self._number = 0
        self._sent: dict[int, float] = {}
        self._changed: set[Stream] = set()
        self._echoes: dict[str, Echo] = {}
        self._whole_at = float("-inf")
        self._whole_wanted = False
        self.due = float("inf")
        """When the next is to be sent."""

    @property
    def number(self) -> int:
        """That of the last that was sent."""
        return self._number

    def changed(self, stream: Stream) -> None:
        """More of it is held, or swept."""
        self._changed.add(stream)

    def heard(self, edge: str, echo: Echo) -> None:
        """The last digest of an edge, to be echoed in the next of ours."""
        self._echoes[edge] = echo

    def forget(self, edge: str) -> None:
        """Say no more of it."""
        self._echoes.pop(edge, None)

    def sent_at(self, number: int) -> float | None:
        """When the digest of this number was sent; None if that was longer ago than a lease, or never."""
        return self._sent.get(number)

    def wanted(self, now: float, *, whole: bool = False) -> None:
        """Somebody asks for one, or there is something to tell."""
        self._whole_wanted = self._whole_wanted or whole
        self.due = min(self.due, max(now, self._sent.get(self._number, float("-inf")) + ANSWER_LEAST_S))

    def far(self, stream: Stream) -> Far:
        """How far this edge is with a stream."""
        held = self._held.mark(stream)
        return Far(held, min(held, self._swept.mark(stream)))

    def whole_is_due(self, now: float) -> bool:
        """Whether the next one has to say all there is."""
        return self._whole_wanted or now - self._whole_at >= self._whole_s

    def make(
        self,
        own: Stream,
        now: float,
        *,
        whole: bool,
        members: str,
        gone: Mapping[str, Echo],
        missing: Collection[str],
        behind: bool,
        asks: bool = False,
        goodbye: bool = False,
    ) -> list[Digest]:
        """The next digest: more than one only if it would be too large."""
        whole = whole or self.whole_is_due(now)
        streams = list(self._held.marks) if whole else sorted(s for s in self._changed if s in self._held.marks)
        made = []
        for at in range(0, max(len(streams), 1), MARKS_MAX):
            self._number += 1
            self._sent[self._number] = now
            made.append(
                Digest(
                    version=MESSAGE_VERSION,
                    kind=Kind.DIGEST,
                    edge=own[0],
                    epoch=own[1],
                    number=self._number,
                    issued=self._held.mark(own),
                    marks={stream: self.far(stream) for stream in streams[at : at + MARKS_MAX]},
                    whole=whole and at == 0,
                    echoes=self._echoes if at == 0 else {},
                    members=members,
                    goodbye=goodbye,
                    behind=behind,
                    asks=asks,
                    gone=dict(gone) if whole and at == 0 else {},
                    missing=tuple(sorted(missing)) if whole and at == 0 else (),
                )
            )
        self._said(now, whole=whole)
        return made

    def _said(self, now: float, *, whole: bool) -> None:
        self._changed.clear()
        self._echoes = {}
        self.due = now + self._period_s
        if whole:
            self._whole_at = now
            self._whole_wanted = False
        for number, sent in list(self._sent.items()):
            if now - sent < 2 * self._whole_s:
                break
            del self._sent[number]
