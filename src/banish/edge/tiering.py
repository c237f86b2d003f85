"""Tiers: an edge as another's origin, so that nothing a purge has hit comes back from above.

    child                                         parent
    ask: what is in effect here that   ────────▶  is it a member's, about this request, said now, not repeated?
    it has not confirmed               request    then all of it has to be in effect here first: pulled if need
                                                  be; or else it is passed on, and nothing stored
    is it the parent's, about this     ◀────────  statement: what this answer is worth
    very answer, and does it cover?    response
    no: then the origin itself

Why the child's fence may stay its own apply index of when its request was sent: every purge up to that index is either
confirmed by the parent in its present epoch or named in the ask, so in effect there before the request arrived there;
and by the parent's own answer rule (PURGE rule 9) nothing that such a purge matches has answered since.

Not here: bytes and signatures (`mesh/tiers.py`), whom to ask (`proxy/upstream.py`), what may answer
(`proxy/pipeline.py`).
Source: PURGE rules 28 to 30. Units: seconds; apply indexes are this edge's own.
Invariants: without a mesh nobody is believed and nobody is asked. A nonce is taken once.
"""

import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from banish.clock import Clock
from banish.edge.complaints import Complaints
from banish.edge.config import Tier as Settings
from banish.errors import RecordError
from banish.http.fields import Fields
from banish.mesh.frontier import Marks
from banish.mesh.tiers import (
    NONCE_BYTES,
    PATH_MAX,
    POSITIONS_MAX,
    TIER_VERSION,
    Ask,
    Asked,
    Statement,
    Worth,
    answered,
    ask_holds,
    encode_ask,
    encode_statement,
    read_ask,
    read_statement,
    statement_holds,
)
from banish.purge.positions import Position
from banish.tables import Accounts, Metric

CLOCK_S_MAX = 30.0
"""How far the clocks of two edges may be apart, the way between them included: older asks may be repeated ones."""
NONCES_MAX = 100_000
"""Asks remembered so that none counts twice. Past it the oldest are forgotten, and whatever is as old is refused."""

TIER_ASKED = Metric(
    "banish_tier_asked_total",
    "counter",
    "Requests to parents, by what came of them: fresh, passed and stale were used as such; failed: it had no answer; "
    "unreachable; unproved: no valid statement that it covers what this edge has purged; too_long: the causal header "
    "would have been, and the origin was asked.",
    ("parent", "outcome"),
)
TIER_ANSWERED = Metric(
    "banish_tier_answered_total",
    "counter",
    "Requests that say they come from a child: covered, caught_up (purges were fetched first), passed (they could not "
    "be), refused (the signature, the moment or the nonce did not hold).",
    ("outcome",),
)

log = structlog.get_logger(__name__)


class Tier(Protocol):
    """What tiers need of the mesh. The methods that do not wait belong to the event loop."""

    @property
    def edge(self) -> str:
        """This edge's id."""
        ...

    @property
    def epoch(self) -> str:
        """This edge's present epoch."""
        ...

    def sign(self, payload: bytes) -> bytes:
        """This edge's signature."""
        ...

    def verify(self, edge: str, signature: bytes, payload: bytes) -> bool:
        """Whether it is that edge's. False for whoever is no member."""
        ...

    def named(self, name: str) -> str | None:
        """The id of the member of this name."""
        ...

    def has_member(self, edge: str) -> bool:
        """Whether it belongs to the mesh now: the signatures of one that was forgotten are still known."""
        ...

    def epoch_of(self, edge: str) -> str:
        """The present epoch of an edge, as far as is known here; empty: it was never heard."""
        ...

    def unconfirmed(self, edge: str) -> Marks:
        """What is in effect here, above gaps too, and that edge has not confirmed in its present epoch. Of one that was
        never heard: everything."""
        ...

    def covers(self, marks: Marks) -> bool:
        """Whether everything up to these marks is in effect here."""
        ...

    async def catch_up(self, marks: Marks, by: str, timeout_s: float) -> bool:
        """Have everything up to these marks, which are in effect at the edge `by`, in effect here, from whoever holds
        it; whether that came about: then it is so in the step in which this returns."""
        ...

    def index_of(self, position: Position) -> int | None:
        """The apply index that a purge got here; None: it is not known (any more)."""
        ...


@dataclass(frozen=True, slots=True)
class Asking:
    """An ask on its way: what has to be compared with what comes back."""

    parent: str
    epoch: str
    nonce: bytes
    value: str
    """The field's."""


@dataclass(slots=True)
class Child:
    """A request of a child, as this edge sees it. `covers` and `fence_min` are set when it counts as arrived."""

    ask: Ask
    covers: bool = False
    fence_min: int = 0
    """What answers has to have been asked for after this apply index was reached here."""


class Tiers:
    """One edge's dealings with its children and parents. `tier` is set once it belongs to a mesh."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        accounts: Accounts,
        nonce: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.tier: Tier | None = None
        self.settings = settings
        self._clock = clock
        self._new_nonce = nonce
        self._nonces: set[tuple[str, bytes]] = set()
        self._in_order: deque[tuple[float, tuple[str, bytes]]] = deque()
        self._refused_until = 0.0
        """Asks that were received up to this moment may have been forgotten."""
        self._asked = accounts.tally(TIER_ASKED)
        self._answered = accounts.tally(TIER_ANSWERED)
        self._complaints = Complaints(log, clock)

    # --- as a child

    def ask(
        self,
        parent: str,
        about: tuple[str, str, str],
        *,
        scheme: str,
        rules: bytes,
        child: Child | None = None,
        through: bool = False,
        since: Sequence[Position] = (),
    ) -> Asking | None:
        """What to send to a parent with a request for `about` (method, target, host), on behalf of `child` if it came
        from one; None if it cannot be sent: the header would be too long, or the way is, or the mesh is gone.
        """
        tier = self.tier
        if tier is None:
            return None
        marks = dict(tier.unconfirmed(parent))
        path: tuple[str, ...] = (tier.edge,)
        if child is not None:
            for stream, seq in child.ask.frontier.items():
                marks[stream] = max(seq, marks.get(stream, 0))
            path = (*child.ask.path, tier.edge)
            since = tuple(dict.fromkeys((*child.ask.since, *since)))
            through = through or child.ask.through
        if len(path) > PATH_MAX or len(since) > POSITIONS_MAX:
            return None
        nonce = self._new_nonce(NONCE_BYTES)
        told = tuple([Position(edge, epoch, seq) for (edge, epoch), seq in sorted(marks.items())])
        at_ms = int(self._clock.now() * 1000)
        ask = Ask(TIER_VERSION, tier.edge, at_ms, nonce, scheme, rules, path, told, through, tuple(since))
        value = encode_ask(ask, Asked(parent, *about), tier.sign)
        if len(value) > self.settings.header_limit_bytes:
            return None
        return Asking(parent, tier.epoch_of(parent), nonce, value)

    def proven(self, asking: Asking, status: int, fields: Fields, value: str | None, *, since: bool) -> Worth | None:
        """What a parent's answer is worth; None if nothing proves that it may be used at all. `since`: the ask named
        purges that it must not be older than."""
        tier = self.tier
        if tier is None or value is None:
            return None
        about = answered(tier.edge, asking.nonce, status, fields, fields.get("content-length") or "")
        try:
            said = read_statement(value)
            worth = Worth(said.worth)
            holds = statement_holds(value, about, lambda signed, data: tier.verify(asking.parent, signed, data))
        except (RecordError, ValueError):
            return None
        if not holds or said.edge != asking.parent or (asking.epoch and said.epoch != asking.epoch):
            return None
        if worth in (Worth.FRESH, Worth.STALE) and not (said.covers and (said.since or not since)):
            return None
        return worth

    def count(self, parent: str, outcome: str) -> None:
        """A parent was asked, and this came of it."""
        self._asked.add(parent, outcome)

    def complain(self, what: str, parent: str) -> None:
        """Tell the operator why a parent is of no use."""
        self._complaints.make(what, parent, parent=parent)

    # --- as a parent

    def recognise(self, value: str, about: tuple[str, str, str]) -> Child | None:
        """The child that sends this value with a request for `about` (method, target, host); None: nobody known."""
        child = self._recognise(value, about)
        if child is None:
            self._answered.add("refused")
        return child

    def _recognise(self, value: str, about: tuple[str, str, str]) -> Child | None:
        tier, now = self.tier, self._clock.now()
        if tier is None or len(value) > self.settings.header_limit_bytes:
            return None
        try:
            ask = read_ask(value)
            if abs(now - ask.at_ms / 1000) > CLOCK_S_MAX or ask.at_ms / 1000 <= self._refused_until:
                return None
            if tier.edge in ask.path or (ask.child, ask.nonce) in self._nonces or not tier.has_member(ask.child):
                return None
            holds = ask_holds(value, Asked(tier.edge, *about), lambda sig, data: tier.verify(ask.child, sig, data))
        except RecordError:
            return None
        if not holds:
            return None
        self._remember((ask.child, ask.nonce), ask.at_ms / 1000, now)
        return Child(ask)

    def _remember(self, nonce: tuple[str, bytes], at: float, now: float) -> None:
        """Take no other ask for this one. One said at `at` is refused by its moment alone `CLOCK_S_MAX` later."""
        self._nonces.add(nonce)
        self._in_order.append((at, nonce))
        while self._in_order and (self._in_order[0][0] < now - CLOCK_S_MAX or len(self._in_order) > NONCES_MAX):
            said_at, forgotten = self._in_order.popleft()
            self._nonces.discard(forgotten)
            if said_at >= now - CLOCK_S_MAX:
                self._refused_until = max(self._refused_until, said_at)

    async def admit(self, child: Child) -> None:
        """Have in effect here what was in effect at the child, if that can be had in time."""
        tier, marks = self.tier, child.ask.frontier
        if tier is None:
            return
        outcome = "covered"
        if not tier.covers(marks):
            caught_up = await tier.catch_up(marks, child.ask.child, self.settings.catchup_wait_s)
            outcome = "caught_up" if caught_up else "passed"
        child.covers = outcome != "passed"
        self._answered.add(outcome)

    def fence_min(self, child: Child, index: int) -> int:
        """The apply index that a response's fence has to have reached to answer a child, of whom the request arrived
        at `index`. What a purge that is not known here has hit, or when, nobody can tell: then nothing will do that was
        asked for before the request, though no purge has come since."""
        tier = self.tier
        known = [tier.index_of(position) if tier is not None else None for position in child.ask.since]
        return max([index + 1 if at is None else at for at in known], default=0)

    def statement(self, child: Child, worth: Worth, status: int, fields: Fields, length: str) -> str | None:
        """The field value that goes with an answer to a child; None if the mesh is gone meanwhile."""
        tier = self.tier
        if tier is None:
            return None
        about = answered(child.ask.child, child.ask.nonce, status, fields, length)
        said = Statement(TIER_VERSION, tier.edge, tier.epoch, worth, child.covers, child.covers)
        return encode_statement(said, about, tier.sign)
