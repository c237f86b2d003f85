"""Asks: which edge is asked for what is missing, how much at once, and what it means that it is not there.

    candidates   those who can be reached and have said that they hold it durably, or that it is in effect there: the
                 issuer first, else whoever has least to do for us
    silent       did not answer in time: left alone for a while, twice as long each time
    gone         answered, holds the number, and has its record no more (cut from its log, damaged, or it never had it
                 and covered it)

A number of which nothing but `gone` is heard is *too old* if it lies below the logs of those who answered (PURGE rule
24), and *lost* if it does not (rule 20). As long as somebody is away who may have it, that waits for
`Settings.gap_limit_s`.

Not here: what is missing (`gaps.py`); what is done with what comes (`replica.py`).
Bounds: `ASKS_MAX` in flight, `ASKS_OF_ONE_MAX` of them of one edge, `PULL_RECORDS` numbers each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from banish.mesh.frontier import Gap, Stream
from banish.mesh.peers import Peer

ASKS_MAX = 16
ASKS_OF_ONE_MAX = 4
PULL_RECORDS = 512

ASK_TIMEOUT_S = 3.0
"""The longest that an answer is waited for, and how long it is while a peer's lag is not known."""
ASK_TIMEOUT_LEAST_S = 0.5
ASK_TIMEOUT_LAGS = 4.0
"""How many times a peer's usual lag its answer may take."""
ASK_GRACE_S = 1.0
"""Whoever carries an ask out has to report it this long after its time at the latest; else it counts as silent."""

AVOID_S = 0.25
AVOID_MAX_S = 5.0
"""How long one that did not answer is left alone: after the first time, and at most."""

GONE_MAX = 4096
"""Of one stream."""

GONE_RETRY_S = 5.0
"""How long it is believed that a holder has a number no more. A log that was opened anew may have it again."""


@dataclass(slots=True)
class Ask:
    """Something asked of somebody."""

    number: int
    edge: str
    gap: Gap
    deadline: float


@dataclass(frozen=True, slots=True)
class Gone:
    """A holder has the record of a number no more."""

    first: int
    at: float
    oldest: int
    """Below it its log has nothing."""
    since: float
    """When it said so first."""


class Asks:
    """What is asked of whom."""

    __slots__ = ("_busy", "_gone", "_number", "in_flight")

    def __init__(self) -> None:
        self.in_flight: dict[int, Ask] = {}
        self._busy: dict[str, int] = {}
        self._gone: dict[Stream, dict[tuple[str, int], Gone]] = {}
        """By edge and number."""
        self._number = 0

    @property
    def room(self) -> int:
        """How many more may be asked."""
        return ASKS_MAX - len(self.in_flight)

    def ask(self, peer: Peer, gap: Gap, now: float) -> Ask:
        """Note that this is asked of it."""
        self._number += 1
        ask = Ask(self._number, peer.edge, gap, now + timeout_s(peer) + ASK_GRACE_S)
        self.in_flight[ask.number] = ask
        self._busy[peer.edge] = self._busy.get(peer.edge, 0) + 1
        return ask

    def end(self, number: int) -> Ask | None:
        """An answer, or none; what had been asked. None if that was given up, or never was."""
        ask = self.in_flight.pop(number, None)
        if ask is not None:
            self._busy[ask.edge] -= 1
            if not self._busy[ask.edge]:
                del self._busy[ask.edge]
        return ask

    def overdue(self, now: float) -> list[int]:
        """Asks of which nothing was reported in time."""
        return [ask.number for ask in self.in_flight.values() if ask.deadline <= now]

    @property
    def next_deadline(self) -> float:
        """When the first ask is overdue; infinite if none is in flight."""
        return min((ask.deadline for ask in self.in_flight.values()), default=float("inf"))

    def in_flight_of(self, stream: Stream) -> list[Gap]:
        """What is asked of one stream."""
        return [ask.gap for ask in self.in_flight.values() if ask.gap.stream == stream]

    def to_ask(self, gaps: Iterable[Gap], stream: Stream) -> Iterable[Gap]:
        """Of what is missing, what is not asked for yet, in pieces of a size to be asked for."""
        asked = self.in_flight_of(stream)
        for gap in gaps:
            first = gap.first
            while first <= gap.last:
                over = next((other for other in asked if other.first <= first <= other.last), None)
                if over is not None:
                    first = over.last + 1
                    continue
                last = min([gap.last, first + PULL_RECORDS - 1] + [o.first - 1 for o in asked if o.first > first])
                yield Gap(stream, first, last)
                first = last + 1

    def holder(self, gap: Gap, peers: Mapping[str, Peer], reach: "Reach", now: float) -> Peer | None:
        """Whom to ask for the first number of a gap; None: nobody just now."""
        issuer = peers.get(gap.stream[0])
        if issuer is not None and self._can(issuer, gap, reach, now):
            return issuer
        others = [peer for peer in peers.values() if self._can(peer, gap, reach, now)]
        return min(others, key=lambda peer: (self._busy.get(peer.edge, 0), peer.lag_s or 1.0, peer.edge), default=None)

    def _can(self, peer: Peer, gap: Gap, reach: "Reach", now: float) -> bool:
        return (
            self._busy.get(peer.edge, 0) < ASKS_OF_ONE_MAX
            and peer.avoid_until <= now
            and max(peer.held(gap.stream), peer.claims.get(gap.stream, 0)) >= gap.first
            and reach.reaches(peer, now)
            and not self.is_gone(peer.edge, gap.stream, gap.first, now)
        )

    # --- what comes of it

    def silent(self, peer: Peer, now: float) -> None:
        """It did not answer in time, or with nothing that could be used."""
        peer.avoid_until = now + min(AVOID_S * 2**peer.failures, AVOID_MAX_S)
        peer.failures = min(peer.failures + 1, 10)

    def answered(self, peer: Peer) -> None:
        """It did."""
        peer.failures = 0
        peer.avoid_until = float("-inf")

    def gone(self, edge: str, gap: Gap, oldest: int, now: float) -> None:
        """It answered, and has the first number of this gap no more."""
        said = self._gone.setdefault(gap.stream, {})
        before = said.pop((edge, gap.first), None)
        said[edge, gap.first] = Gone(gap.first, now, oldest, before.since if before is not None else now)
        if len(said) > GONE_MAX:
            del said[next(iter(said))]

    def is_gone(self, edge: str, stream: Stream, first: int, now: float) -> bool:
        """Whether it is believed to have the record of this number no more."""
        gone = self._gone.get(stream, {}).get((edge, first))
        return gone is not None and now - gone.at <= GONE_RETRY_S

    def gone_of(self, stream: Stream, first: int) -> dict[str, Gone]:
        """Who said, at any time since this number was the first that is missing, that it is gone."""
        return {edge: gone for (edge, number), gone in self._gone.get(stream, {}).items() if number == first}

    def settle(self, streams: Mapping[Stream, object]) -> None:
        """Forget who has what no more of streams that miss nothing now."""
        for stream in [stream for stream in self._gone if stream not in streams]:
            del self._gone[stream]


def timeout_s(peer: Peer) -> float:
    """How long an answer of this peer is waited for."""
    if peer.lag_s is None:
        return ASK_TIMEOUT_S
    return min(max(ASK_TIMEOUT_LAGS * peer.lag_s, ASK_TIMEOUT_LEAST_S), ASK_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Reach:
    """Who can be reached: those linked with this edge, and those heard of late by way of others (relays)."""

    silence_s: float

    def reaches(self, peer: Peer, now: float) -> bool:
        """Whether it makes sense to ask it."""
        return not peer.gone and (peer.linked or now - peer.digest_at < self.silence_s)
