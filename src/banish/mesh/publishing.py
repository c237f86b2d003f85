"""Publishing: records of this edge's own, from the disk to all others, and the last one again for those who lack it.

Not here: what they mean; how often the last is said again (`tail.py`).
Bounds: `UNSENT_MAX` before the transport is open; on their way to the disk as many as the log takes.
"""

from collections.abc import Sequence

from banish.mesh.effects import Effect, Publish
from banish.mesh.knowledge import PUBLISHED_MAX, Knowledge
from banish.mesh.tail import BYTES_MAX, Tail
from banish.purge.positions import Position
from banish.tables import Accounts, Metric

UNSENT_MAX = 64
"""Own records kept until the transport is open. More are told of by the first digest, and pulled."""

SAID_AGAIN = Metric("banish_mesh_said_again_total", "counter", "Last records published again, for want of an ack.")


class Publishing:
    """What this edge issues."""

    def __init__(self, known: Knowledge, accounts: Accounts) -> None:
        self.last = 0
        """The last number that was issued."""
        self.running = False
        self._known = known
        self._tail = Tail()
        self._own: dict[int, bytes] = {}
        """Records on their way to the disk."""
        self._unsent: list[bytes] = []
        self._said_again = accounts.tally(SAID_AGAIN)

    def start(self) -> Sequence[Effect]:
        """The transport is open."""
        self.running = True
        published = [Publish(record) for record in self._unsent]
        self._unsent.clear()
        return published

    def issued(self, position: Position, record: bytes) -> None:
        """It is in effect here, and on its way to the disk."""
        self._known.received.add(position)
        self.last = max(self.last, position.seq)
        self._own[position.seq] = record

    def durable(self, seq: int, now: float) -> list[Effect]:
        """It is there."""
        record = self._own.pop(seq, None)
        if record is None:
            return []
        if not self.running:
            if len(self._unsent) < UNSENT_MAX:
                self._unsent.append(record)
            return []
        published = self._known.published
        published[seq] = now
        if len(published) > PUBLISHED_MAX:
            del published[next(iter(published))]
        self._tail.published(seq, record, now)
        return [Publish(record)]

    def lags(self, slowest_s: float | None) -> None:
        """What the slowest of those who are heard usually takes to confirm."""
        self._tail.lags(slowest_s)

    @property
    def due(self) -> float:
        """When to look who has confirmed the last one."""
        return self._tail.due

    def say_again(self, now: float) -> list[Effect]:
        """Publish the last one again, if somebody who is heard has not confirmed it in time."""
        known, tail = self._known, self._tail
        if tail.due > now:
            return []
        peers = [known.peers[edge] for edge in known.counted]
        if not any(peer.held(known.own) < tail.seq and known.heard.until(peer.edge) > now for peer in peers):
            tail.done()
            return []
        tail.again(now)
        if len(tail.record) > BYTES_MAX:
            known.digests.wanted(now)
            return []
        self._said_again.add()
        return [Publish(tail.record)]
