"""What the purge service is asked, and what it tells: the values that the admin API and the command line speak.

    PurgeRequest + Caller ──▶ purge    ──▶ Purge          accepted, in effect and durable, or scheduled
    Filters               ──▶ history  ──▶ Page           what was purged, newest first
    id                    ──▶ state    ──▶ PurgeState     how far it is, with what each target matched
    cursor                ──▶ feed     ──▶ Feed           what was purged since, in order
    PurgeRequest          ──▶ dry run  ──▶ DryRun         what it would match

Not here: how any of it comes about (`purging.py`, `dryrun.py`); the records as logged (`purge/records.py`).
Units: moments are seconds since 1970 by the edge's wall clock, for people; order is told by positions and
cursors alone.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from banish.mesh.effects import Standing
from banish.purge.given import Given
from banish.purge.records import RecordKind
from banish.purge.stamps import Mode


class Stage(StrEnum):
    """How far a purge is."""

    SCHEDULED = "scheduled"
    """Logged, without effect until it is due."""

    CANCELLED = "cancelled"
    """A schedule taken back before it was due. Final."""

    APPLIED = "applied"
    """In effect: nothing that it matches is answered any more. What it matched is still being deleted."""

    SWEPT = "swept"
    """Everything it matched is gone (a soft one: marked as stale) from memory and disk. Final."""

    UNDONE = "undone"
    """A soft purge taken back. Final."""

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self in (Stage.CANCELLED, Stage.SWEPT, Stage.UNDONE)


class Wait(StrEnum):
    """What a caller waits for."""

    APPLIED = "applied"
    SWEPT = "swept"

    def holds(self, stage: Stage) -> bool:
        """Whether one who waits for this need wait no longer at `stage`: it is reached, or never will be."""
        return stage.final or (self is Wait.APPLIED and stage is Stage.APPLIED)


class Reach(NamedTuple):
    """On how many edges a purge is to be durable: who waits for that."""

    edges: int = 0
    """0: all that belong, or a quorum of them."""
    quorum: bool = False
    """On more than half. A count, and no promise of anything more."""

    def holds(self, receipts: Sequence["EdgeReceipt"]) -> bool:
        """Whether so many have it. All: those that joined later do without; those that cannot be reached do not."""
        if not (self.edges or self.quorum):
            return all(one.complete for one in receipts)
        need = self.edges or len(receipts) // 2 + 1
        return sum(one.complete for one in receipts) >= need


def reach_of(text: str) -> Reach | None:
    """What one who writes `all`, `quorum` or a number waits for; None: it is none of these."""
    if text == "all":
        return Reach()
    if text == "quorum":
        return Reach(quorum=True)
    if text.isascii() and text.isdecimal() and 0 < int(text) < 10_000:
        return Reach(int(text))
    return None


class Caller(NamedTuple):
    """Who asks."""

    name: str
    """Of the token, for the history."""
    source: str
    """Address of the peer, for the history."""
    sites: tuple[str, ...] | None = None
    """The sites that the caller may purge; None: all."""


class EdgeReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """How far one edge is with one purge, as the edge that is asked has it."""

    name: str
    edge: str
    """Its id."""
    state: Standing
    lag_s: float | None = None
    """From publishing to that edge's ack, as the issuer has seen it."""
    matched: int | None = None
    bytes: int | None = None
    """What it matched there, if that was asked for and answered."""

    @property
    def complete(self) -> bool:
        """Whether no response that it matches can be answered there any more."""
        return self.state in (Standing.APPLIED, Standing.SWEPT, Standing.CLEAN)


class PurgeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be purged, as asked."""

    targets: tuple[Given, ...]
    mode: Mode = Mode.HARD
    """Of the targets that name none."""
    site: str | None = None
    """The one site it is about; None: all that the caller may purge."""
    reason: str = ""
    at: float | None = None
    """When to purge; None: now."""
    key: str = ""
    """Idempotency key: the same key with the same request gives the first one's answer. Empty: none."""
    body: bytes = b""
    """The request as it came, to tell another one under the same key: a moment given as \"in five minutes\" is the
    same request the next time. Empty: the other fields tell.
    """


class Purge(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the log, as told."""

    id: str
    """The text of its position."""
    kind: RecordKind
    """`purge`, `invalidation` (by an unsafe method), `schedule`; `undo` and `cancel` are told by `about`."""
    state: Stage
    mode: Mode
    """Soft only if every target is."""
    sites: tuple[str, ...]
    """The sites it is about; empty: all."""
    targets: tuple[Given, ...]
    at: float
    """When it was accepted."""
    due: float | None = None
    """When a schedule is to be carried out."""
    actor: str = ""
    source: str = ""
    reason: str = ""
    key: str = ""
    about: str = ""
    """The id of the purge that this undoes, of the schedule that it cancels or carries out."""
    followed_by: str = ""
    """The id of what came of it: the purge that a schedule became; the undo, the cancel."""
    widened: tuple[str, ...] = ()
    """Targets that could not be held exactly, each with what was purged instead."""
    index: int = 0
    """Its apply index here."""
    replayed: bool = False
    """The answer to an earlier request with the same idempotency key."""
    copies: int | None = None
    """On how many edges it was durable when it was answered; None: it is told later."""


class TargetCount(msgspec.Struct, frozen=True, kw_only=True):
    """What one target of a purge matched. A response that several targets match counts for one of them."""

    target: Given
    matched: int = 0
    """Stored responses."""
    bytes: int = 0
    """Of their bodies."""


class PurgeState(msgspec.Struct, frozen=True, kw_only=True):
    """How far one purge is. Counts grow until it is swept, and are final then."""

    purge: Purge
    state: Stage
    matched: int = 0
    bytes: int = 0
    targets: tuple[TargetCount, ...] = ()
    """In the order of `purge.targets`. Empty if counts were not kept (a purge that a crash has interrupted begins
    its counts anew; one with more targets than are counted apart has only the sums)."""
    swept_at: float | None = None
    cursor: str = ""
    """Names this very state: who hands it back waits for another one."""
    edges: tuple[EdgeReceipt, ...] = ()
    """Every member, this edge among them, by name; none where there is no mesh."""
    membership: str = ""
    """Version of the list of members that `edges` is of."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of those that do not have it."""
        return tuple([edge.name for edge in self.edges if not edge.complete])


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries of the log are wanted: those that fit everything that is not None."""

    since: float | None = None
    until: float | None = None
    actor: str | None = None
    site: str | None = None
    """Entries about this site, those about all sites among them."""
    sites: tuple[str, ...] | None = None
    """Entries about any of these sites: what a caller limited to sites may see."""
    target: str | None = None
    """Entries with a target of which this is the value, or the whole of `kind:value`."""
    kinds: tuple[RecordKind, ...] | None = None
    """None: all but the openings of epochs."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the history, newest first."""

    purges: tuple[Purge, ...]
    before: str | None = None
    """Where the next older piece begins; None: there is none."""
    cursor: str = ""
    """Where a feed begins that tells all that was not yet there when this was read."""


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the change feed, oldest first: every durable entry behind a cursor, once, in order."""

    purges: tuple[Purge, ...]
    cursor: str
    """Where the next piece begins, also if this one is empty."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A stored response that would be purged."""

    url: str
    site: str
    bytes: int
    hits_per_s: float
    """How often it answered lately; 0 if that is not known (not in memory)."""


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a purge would match now, and what that would cost the origin."""

    mode: Mode
    sites: tuple[str, ...]
    matched: int
    bytes: int
    targets: tuple[TargetCount, ...]
    samples: tuple[Sample, ...]
    """Some of them, the hottest found."""
    origin_requests_first_second: float
    """Requests that the origin is likely to get more than without the purge, within a second of it."""
    origin_requests_first_minute: float
    widened: tuple[str, ...] = ()
    complete: bool = True
    """False: there was more than could be looked at; the figures are lower bounds."""
