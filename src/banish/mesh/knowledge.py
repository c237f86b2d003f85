"""Knowledge: what one edge holds, and what it knows of the others; shared by the parts of the core.

    received   in effect here            mark of 9 and above {12}: 10 and 11 are missing
    held       in effect and durable     what others are told
    swept      deleted, all it matched
    peers      the other members; `counted`: those of which any record is in effect here

Not here: what is said and asked (`replica.py`, `pulling.py`).
Invariants: held ⊆ received. Whoever is counted is a member. A frontier never goes back.
"""

from collections.abc import Iterable

from banish.mesh.asks import Reach
from banish.mesh.digests import Digests
from banish.mesh.effects import Receipt, Settings, Standing
from banish.mesh.frontier import Frontier, Marks, Stream, is_fold, start_of
from banish.mesh.gaps import Gaps
from banish.mesh.heard import Heard
from banish.mesh.members import Members
from banish.mesh.messages import Far, Mark
from banish.mesh.peers import Peer
from banish.purge.positions import Position

PUBLISHED_MAX = 10_000
"""Own records whose moment of publishing is remembered: for lags."""

NEVER = float("-inf")


class Knowledge:
    """What is held here and what is known of others."""

    def __init__(
        self, edge: str, epoch: str, members: Members, frontier: Frontier, swept: Marks | None, settings: Settings
    ) -> None:
        self.edge = edge
        self.epoch = epoch
        self.own: Stream = (edge, epoch)
        self.members = members
        self.settings = settings
        self.held = frontier
        self.received = frontier.copy()
        self.swept = Frontier(frontier.marks if swept is None else swept)
        for each in (self.held, self.received, self.swept):
            each.issue(self.own)
        self.peers = {member.edge: Peer(member.edge) for member in members if member.edge != edge}
        self.counted: set[str] = set()
        self.opened: set[Stream] = set()
        """Epochs that a fold would speak of by their number, and does not."""
        self.heard = Heard()
        self.gaps = Gaps(self.received)
        self.reach = Reach(3 * settings.period_s)
        self.digests = Digests(self.held, self.swept, period_s=settings.period_s, lease_s=settings.lease_s)
        self.published: dict[int, float] = {}
        """When each of our own was published."""
        self._noted_streams: set[Stream] = set()
        self._last_start: dict[str, int] = {}
        self.ended_at: dict[str, float] = {}
        """When all are sure to have heard that an edge's epochs before its last have ended, or that it was forgotten: a
        lease after this edge has.
        """
        for stream in frontier.marks:
            self._noted(stream, NEVER)
        for stream, above in frontier.above().items():  # what lies below them was missing already before this start
            self.gaps.learn(stream, max(above) - 1, NEVER, NEVER)

    # --- who counts

    def present(self, stream: Stream, now: float) -> None:
        """Something of this stream is in effect: its edge counts, if it belongs."""
        if stream not in self._noted_streams:
            self._noted(stream, now + self.settings.lease_s)

    def _noted(self, stream: Stream, until: float) -> None:
        if not is_fold(stream):
            start = start_of(stream)
            self._noted_streams.add(stream)
            if start > self._last_start.get(stream[0], 0):
                self._last_start[stream[0]] = start
                self.ended_at[stream[0]] = until
            peer = self.peers.get(stream[0])
            if peer is not None and peer.gone and start > start_of((stream[0], peer.gone)):
                peer.gone = ""  # it has started again
        self.count_in(stream[0], until)

    def count_in(self, edge: str, until: float) -> None:
        """From now on it counts, and as heard until then: it came, or came back."""
        peer = self.peers.get(edge)
        if peer is None:
            return
        if edge not in self.counted:
            self.counted.add(edge)
            if until > NEVER:
                peer.clean = dict(self.received.marks)
            if not peer.gone:
                self.heard.count(edge, until)
        elif edge not in self.heard and not peer.gone:
            self.heard.count(edge, until)

    def belongs(self, edge: str, now: float) -> None:
        """It has joined: it counts if anything of it is in effect already."""
        if edge != self.edge and edge not in self.peers:
            self.peers[edge] = Peer(edge)
            if any(stream[0] == edge for stream in self.received.marks):
                self.count_in(edge, now + self.settings.lease_s)

    def belongs_no_more(self, edge: str) -> None:
        """It was forgotten."""
        self.peers.pop(edge, None)
        self.counted.discard(edge)
        self.heard.drop(edge)
        self.digests.forget(edge)

    def is_last(self, edge: str, epoch: str) -> bool:
        """Whether nothing of a later epoch of this edge is known."""
        return start_of((edge, epoch)) >= self._last_start.get(edge, 0)

    # --- what exists

    def learn(self, stream: Stream, upto: int, by: str, now: float) -> bool:
        """An edge has said that it holds numbers up to here; whether any is missing here."""
        if is_fold(stream):
            if self.received.is_folded(stream):
                return False
            stream = self.unfolded(stream)
        if stream == self.own:
            return False
        return self.gaps.learn(stream, upto, now, self.missing_since(stream[0], now), hearsay=by != stream[0])

    def missing_since(self, edge: str, now: float) -> float:
        """How old that may be of which we learn only now that this edge has issued it: it was not there when the edge
        last proved that it was heard. So whoever is not behind misses nothing that is older than a lease.
        """
        return min(now, self.heard.until(edge) - self.settings.lease_s) if edge in self.heard else now

    def is_complete(self, stream: Stream) -> bool:
        """Whether all that is known to exist of this epoch, and of those of its edge before it, is durable here."""
        edge, start = stream[0], start_of(stream)
        return not self.gaps.any_up_to(stream) and all(
            self.held.mark(each) == mark and each not in self.received.above()
            for each, mark in self.received.marks.items()
            if each[0] == edge and start_of(each) <= start
        )

    def open(self, stream: Stream, now: float) -> None:
        """This epoch is alive, or told of beside a fold: its number is low only because a disk was restored."""
        for frontier in (self.received, self.held, self.swept):
            frontier.open(stream)
        self.opened.add(stream)

    def far(self, peer: Peer, stream: Stream) -> Far:
        """How far a peer is, as far as can be known of it here."""
        return peer.told(stream) if stream in self.opened else peer.far(stream)

    def unfolded(self, stream: Stream) -> Stream:
        """The epoch here that a fold ends with; the fold itself if there is none."""
        if not is_fold(stream):
            return stream
        edge, start = stream[0], start_of(stream)
        same = [s for s in self.received.marks if s[0] == edge and start_of(s) == start and not is_fold(s)]
        return max(same, key=self.received.mark, default=stream)

    def adopt(self, marks: Iterable[Mark], now: float) -> None:
        """All of this is covered by something wider, durably: it counts as held and swept."""
        told = {mark.stream: mark.held for mark in marks if mark.stream != self.own}
        for frontier in (self.received, self.held, self.swept):
            frontier.take(told)
        for stream in told:
            self.digests.changed(stream)
            self.present(stream, now)

    # --- what is known of a position

    def copies(self, position: Position) -> int:
        """How many edges are known to hold it durably."""
        stream = position.edge, position.epoch
        known = self.received.has(position)
        peers = [self.peers[edge] for edge in self.counted]
        others = sum((self.far(peer, stream) if known else peer.told(stream)).held >= position.seq for peer in peers)
        return others + self.held.has(position)

    def receipts(self, position: Position, now: float) -> list[Receipt]:
        """How far every other member that counts is with it, by name."""
        found = []
        for member in self.members:
            if member.edge in self.counted:
                peer = self.peers[member.edge]
                found.append(
                    Receipt(member.edge, member.name, self._standing(peer, position, now), self._lag(peer, position))
                )
        return sorted(found, key=lambda receipt: receipt.name)

    def _standing(self, peer: Peer, position: Position, now: float) -> Standing:
        stream = position.edge, position.epoch
        far = self.far(peer, stream) if self.received.has(position) else peer.told(stream)
        if far.swept >= position.seq:
            return Standing.SWEPT
        if far.held >= position.seq:
            return Standing.APPLIED
        if peer.clean.get(stream, 0) >= position.seq:
            return Standing.CLEAN
        return Standing.BEHIND if self.heard.until(peer.edge) > now else Standing.UNREACHABLE

    def _lag(self, peer: Peer, position: Position) -> float | None:
        if (position.edge, position.epoch) != self.own:
            return None
        published, confirmed = self.published.get(position.seq), peer.confirmed_at(position.seq)
        return confirmed - published if published is not None and confirmed is not None else None

    def unconfirmed(self, edge: str) -> dict[Stream, int]:
        """What is in effect here that this edge has not confirmed in its present epoch."""
        peer = self.peers.get(edge)
        received = self.received
        found = {}
        for stream in received.marks:
            highest = received.highest(stream)
            if not is_fold(stream) and highest > (0 if peer is None else self.far(peer, stream).held):
                found[stream] = highest
        return found
