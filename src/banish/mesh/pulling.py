"""Pulling: asks for what is missing until it is here, and finds out what is nowhere any more.

    missing ── a holder can be asked ──▶ AskFor ──▶ records: taken, and what is missing still is asked for
       │                                   ├──────▶ silent: another holder, this one later
       │                                   └──────▶ gone there: another holder
       └── all who can be reached say it is gone
              ├── it lies below their logs: too old ── take a holder's frontier, purge everything, adopt, go on
              └── it does not: lost ── once it is missing for `gap_limit_s`: purge everything in its place

An edge that is new, and of which others hold much, adopts a frontier in the same way, without an alarm: it has nothing
that could be stale.

Not here: what is missing (`gaps.py`), whom to ask (`asks.py`), what a record does (`replica.py`).
Source: PURGE rules 20, 24, 25.
Bounds: `UNLOGGED_MAX`: no more is asked for while so many records wait for the disk here.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import inf

from banish.mesh.asks import Asks, Reach, timeout_s
from banish.mesh.effects import Adopt, Alarm, AskFor, CoverAll, Effect, Raise
from banish.mesh.frontier import Gap, Stream
from banish.mesh.gaps import Gaps
from banish.mesh.members import Members
from banish.mesh.messages import MESSAGE_VERSION, NO_STREAM, Kind, Mark, Pull, Pulled, Sign, encode
from banish.mesh.peers import Peer

UNLOGGED_MAX = 4096
"""Records in effect that wait for the disk."""

NOBODY_S = 0.25
"""After nobody could be asked, until that is tried again."""

WHO_S = 1.0
"""Between two questions who an edge is. Mostly the record that says so is on its way."""

NEWCOMER_PULLS_MAX = 10_000
"""Records that an edge without any pulls one by one. If others hold more, it adopts their frontier."""


@dataclass(frozen=True, slots=True)
class Self:
    """Who asks."""

    edge: str
    epoch: str
    sign: Sign


class Pulling:
    """What is asked for, and what became of it."""

    def __init__(
        self,
        me: Self,
        members: Members,
        peers: Mapping[str, Peer],
        counted: Collection[str],
        gaps: Gaps,
        reach: Reach,
        *,
        gap_limit_s: float,
    ) -> None:
        self.asks = Asks()
        self.newcomer = False
        """This edge held nothing of others when it started, and has not caught up yet."""
        self.adopting = False
        """It waits for a frontier to adopt."""
        self.covering = False
        """Everything is being purged here; nothing is asked for meanwhile."""
        self.due = inf
        """When to ask again, whatever happens."""
        self._me = me
        self._members = members
        self._peers = peers
        self._counted = counted
        self._gaps = gaps
        self._reach = reach
        self._gap_limit_s = gap_limit_s
        self._asked_who_at = -inf
        self._lists: dict[str, Pulled] = {}
        """What those who are without a record hold, and whom they know."""

    # --- asking

    def ask(self, unlogged: int, now: float) -> list[Effect]:
        """Ask for what can be asked for now."""
        self.due = inf
        if self.covering:
            return []
        if self.adopting:
            return self._ask_for_list(now)
        effects: list[Effect] = []
        for stream, missing in list(self._gaps.streams.items()):
            if missing.ask_at > now:
                self.due = min(self.due, missing.ask_at)
            elif not self.asks.room or unlogged >= UNLOGGED_MAX:
                self.due = min(self.due, now + NOBODY_S)
                break
            elif self._members.key(stream[0]) is None:  # the record that makes it a member is on its way
                self._believe(stream)
                effects += self._ask_who_it_is(stream, now)
                missing.ask_at = now + NOBODY_S
                self.due = min(self.due, missing.ask_at)
            elif not self._ask_of(stream, effects, now):
                missing.ask_at = now + NOBODY_S
                self.due = min(self.due, missing.ask_at)
                if self.covering:
                    break
        return effects

    def _ask_of(self, stream: Stream, effects: list[Effect], now: float) -> bool:
        """Ask for all of one stream; False if nobody can be asked for some of it."""
        for gap in self.asks.to_ask(self._gaps.of(stream), stream):
            if not self.asks.room:
                return True
            peer = self.asks.holder(gap, self._peers, self._reach, now)
            if peer is None:
                effects += self._judge(gap, now)
                return False
            effects.append(self._ask_for(peer, gap, now))
        return True

    def _ask_for(self, peer: Peer, gap: Gap, now: float) -> AskFor:
        ask = self.asks.ask(peer, gap, now)
        me = self._me
        pull = Pull(MESSAGE_VERSION, Kind.PULL, me.edge, me.epoch, gap.stream, gap.first, gap.last)
        return AskFor(ask.number, peer.edge, gap, encode(pull, me.sign), timeout_s(peer))

    def ask_list_of(self, peer: Peer, now: float) -> list[Effect]:
        """Ask one edge who belongs."""
        if self.covering or self.asks.in_flight_of(NO_STREAM):
            return []
        return [self._ask_for(peer, Gap(NO_STREAM, 1, 1), now)]

    def _ask_who_it_is(self, stream: Stream, now: float) -> list[Effect]:
        """Of an edge that is not known here, or was forgotten before it was, others have the key."""
        able = (p for p in self._peers.values() if p.held(stream) and p.avoid_until <= now)
        peer = next((peer for peer in able if self._reach.reaches(peer, now)), None)
        return [] if peer is None or now - self._asked_who_at < WHO_S else self._asked_who(peer, now)

    def _asked_who(self, peer: Peer, now: float) -> list[Effect]:
        self._asked_who_at = now
        return self.ask_list_of(peer, now)

    def _ask_for_list(self, now: float) -> list[Effect]:
        self.due = now + NOBODY_S
        able = [
            p for p in self._peers.values() if p.whole_seen and p.avoid_until <= now and self._reach.reaches(p, now)
        ]
        if not able or self.asks.in_flight_of(NO_STREAM):
            return []
        return self.ask_list_of(min(able, key=lambda peer: (peer.lag_s or 1.0, peer.edge)), now)

    def can_be_had(self, stream: Stream, first: int, now: float) -> bool:
        """Whether somebody who can be reached may give this."""
        return bool(self.asks.in_flight_of(stream)) or any(
            peer.held(stream) >= first
            and self._reach.reaches(peer, now)
            and not self.asks.is_gone(peer.edge, stream, first, now)
            for peer in self._peers.values()
        )

    # --- what is nowhere

    def lacks(self, peer: Peer, gap: Gap, answer: Pulled, now: float) -> None:
        """It answered, and not with the first record that was asked for."""
        stream = gap.stream
        if answer.held < gap.first:
            peer.correct(stream, answer.held)
            return
        self.asks.gone(peer.edge, gap, answer.oldest, now)
        if answer.marks:
            self._lists[peer.edge] = answer

    def _judge(self, gap: Gap, now: float) -> list[Effect]:
        """Nobody can be asked for the first number of this gap: whether that is so for good."""
        stream, first = gap.stream, gap.first
        said = self.asks.gone_of(stream, first)
        others = [p for p in self._peers.values() if p.edge not in said and p.held(stream) >= first]
        if not said and not others:
            return self._of_nobody(gap, now)
        if not said or any(self._reach.reaches(peer, now) for peer in others):
            return []
        waited = now - min(gone.since for gone in said.values()) >= self._gap_limit_s
        if others and not waited:
            return []
        too_old = [edge for edge, gone in said.items() if gone.oldest > first and edge in self._lists]
        if too_old:
            return self._cover_for_age(self._lists[max(too_old, key=lambda edge: (said[edge].at, edge))], str(stream))
        if waited:
            what = f"{stream[0]}.{stream[1]}: {first} to {gap.last}"
            return self._cover("lost", (Mark(stream, gap.last),), Raise(Alarm.LOST, what))
        return []

    def _of_nobody(self, gap: Gap, now: float) -> list[Effect]:
        """Nobody says that it holds this, though it was said to exist: whether that is so for good."""
        missing = self._gaps.streams[gap.stream]
        counted = [self._peers[edge] for edge in self._counted]
        if not all(peer.whole_seen and self._reach.reaches(peer, now) for peer in counted):
            missing.nobody_since = inf
            return []
        missing.nobody_since = min(missing.nobody_since, now)
        if now - missing.nobody_since < self._gap_limit_s:
            return []
        what = f"{gap.stream[0]}.{gap.stream[1]}: {gap.first} to {gap.last}, of which nobody knows"
        return self._cover("lost", (Mark(gap.stream, gap.last),), Raise(Alarm.LOST, what))

    def believe_members(self) -> None:
        """Somebody belongs no more: of what it said, and of what those who belong no more issued, that alone is
        believed to exist which somebody says who belongs.
        """
        for stream in list(self._gaps.streams):
            if stream[0] not in self._members:
                self._believe(stream)

    def _believe(self, stream: Stream) -> None:
        self._gaps.unlearn(stream, max((peer.held(stream) for peer in self._peers.values()), default=0))

    def _cover_for_age(self, answer: Pulled, what: str) -> list[Effect]:
        marks = tuple(mark for mark in answer.marks if mark.stream != (self._me.edge, self._me.epoch))
        adopted = self.new_members(answer)
        if self.newcomer:
            return [*adopted, *self._cover("newcomer", marks)]
        return [*adopted, *self._cover("too-old", marks, Raise(Alarm.TOO_OLD, what))]

    def _cover(self, why: str, marks: tuple[Mark, ...], *alarms: Raise) -> list[Effect]:
        self.covering = True
        return [CoverAll(why, marks), *alarms]

    def covered(self) -> None:
        """Done: what is missing is to be asked for at once."""
        self.covering = self.adopting = False
        self._lists.clear()
        self._gaps.settle_all()
        self.asks.settle(self._gaps.streams)
        for missing in self._gaps.streams.values():
            missing.ask_at = -inf

    # --- lists of members

    def listed(self, answer: Pulled) -> list[Effect]:
        """An edge has said all that it holds and whom it knows."""
        if self.adopting and not self.covering:
            return self._cover_for_age(answer, "")
        return self.new_members(answer)

    def new_members(self, answer: Pulled) -> list[Effect]:
        """What its list has that ours has not."""
        new = not all(self._members.knows(member) for member in answer.members)
        gone = not self._members.forgotten.issuperset(answer.forgotten)
        return [Adopt(answer.members, answer.forgotten)] if new or gone else []
