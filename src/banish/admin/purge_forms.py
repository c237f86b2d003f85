"""Purges in JSON: what a caller sends, what it is told.

    TargetForm   {"tag": "news"}, {"prefix": "https://h/blog/", "boundary": true}: a target, asked for and told alike
    PurgeForm    {"targets": […], "mode": "soft", "reason": "…"}: a request; one target may stand without the list
    PurgeTold    an entry of the history, and how far it is

Read strictly: a name that is not known is refused, since a misspelt `boundary` would purge something else.

Not here: what targets mean (`purge/targets.py`) and which are well formed (`purge/given.py`).
Units: moments are seconds since 1970.
"""

import builtins
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from banish.admin.moments import moment
from banish.edge.receipts import (
    DryRun,
    EdgeReceipt,
    Feed,
    Page,
    Purge,
    PurgeRequest,
    PurgeState,
    Sample,
    Stage,
    TargetCount,
)
from banish.errors import ClientError
from banish.mesh.effects import Standing
from banish.purge.given import TARGETS_MAX, Given, item_of, parse_targets
from banish.purge.positions import parse_position
from banish.purge.records import RecordKind
from banish.purge.stamps import Mode


class TargetForm(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing to purge: exactly one of url, prefix, host, tag, group, pattern, regex and everything."""

    url: str | None = None
    """A URL, with all its variants. Its scheme does not matter: http and https go together."""
    headers: dict[str, str] | None = None
    """With url: only the variant that a request with these fields would get."""
    prefix: str | None = None
    """Every URL that begins so: https://host/blog/."""
    boundary: bool = False
    """With prefix: whole path segments only. /blog is then /blog, /blog/x and /blog?x, not /blogs."""
    host: str | None = None
    """Everything of a host: www.example.com, or *.example.com for all below it."""
    tag: str | None = None
    """Everything that the origin has tagged so."""
    group: str | None = None
    """Everything of a cache group (RFC 9875): the origin, a space, the group."""
    pattern: str | None = None
    """Every URL that this glob matches whole: * is any text, ? is one character."""
    regex: str | None = None
    """Every URL in which this RE2 expression is found."""
    everything: bool = False
    """Everything of the sites that the purge is about."""
    mode: Mode | None = None
    """Only for this target, where it is not that of the whole batch."""


class PurgeForm(TargetForm, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A purge: one atomic batch of targets. A single target may be written at the top, without `targets`."""

    targets: (
        Annotated[list[TargetForm], Meta(min_length=1, extra_json_schema={"maxItems": TARGETS_MAX})] | UnsetType
    ) = UNSET
    """All that is purged at one moment."""
    mode: Mode | None = None
    """hard: unusable from now on. soft: stale from now on. hard if left out."""
    site: str | None = None
    """The one site it is about. All that the token covers if left out."""
    reason: str = ""
    """For the history."""
    at: str | float | None = None
    """When: a time with its zone, seconds since 1970, or +5m. Now if left out."""
    dry_run: bool = False
    """Purge nothing; say what would be purged."""


class TargetTold(TargetForm, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A target and, where that is counted, what it matched."""

    matched: int | UnsetType = UNSET
    """Stored responses."""
    bytes: int | UnsetType = UNSET
    """Of their bodies."""


class PositionTold(msgspec.Struct, frozen=True):
    """What a purge is known by on every edge: who took it, in which of its lives, as which number."""

    edge: str
    epoch: str
    seq: int


class EdgeTold(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far one edge is with a purge, as the edge that was asked has it."""

    name: str
    edge: str
    """Its id."""
    state: Standing
    """swept, applied (in effect, and on its disk), behind, unreachable, joined-clean (it came later, empty)."""
    lag_ms: float | None = None
    """From publishing to that edge's ack, as the issuer has seen it."""
    matched: int | UnsetType = UNSET
    """What it matched there, if that was asked for and answered."""
    bytes: int | UnsetType = UNSET


class PurgeTold(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One entry of the log of purges."""

    id: str
    position: PositionTold
    kind: RecordKind
    state: Stage
    """scheduled, applied (in effect), swept (all it matched is gone), undone, cancelled."""
    mode: Mode
    """soft only if every target is."""
    sites: tuple[str, ...]
    """Which sites it is about; none named: all."""
    targets: tuple[TargetTold, ...]
    at: float
    """When it was taken."""
    due: float | None = None
    """When a scheduled one is to be carried out."""
    actor: str = ""
    source: str = ""
    reason: str = ""
    key: str = ""
    """Idempotency key."""
    about: str = ""
    """The id of what this undoes, cancels or carries out."""
    followed_by: str = ""
    """The id of the purge that a schedule became, of the undo or of the cancellation."""
    widened: tuple[str, ...] = ()
    """Targets that could not be held exactly, each with what was purged instead."""
    index: int = 0
    """Its number among the purges applied on this edge."""
    replayed: bool = False
    """This is the answer to an earlier request with the same idempotency key."""
    matched: int | UnsetType = UNSET
    """Stored responses that it matched so far, over all targets."""
    bytes: int | UnsetType = UNSET
    swept_at: float | None = None
    cursor: str | UnsetType = UNSET
    """Names this very state: hand it back as `after` to wait for another."""
    copies: int | None = None
    """On how many edges it was durable when it was answered."""
    complete: bool | UnsetType = UNSET
    """Whether every edge of the mesh has it."""
    missing: tuple[str, ...] | UnsetType = UNSET
    """Names of those that do not."""
    edges: tuple[EdgeTold, ...] = ()
    """Every edge of the mesh."""
    membership: str = ""
    """Version of the list of members that `edges` is of."""
    record: builtins.bytes | UnsetType = UNSET
    """In an export: the signed record, in base64."""
    links: dict[str, str] = {}


class PageTold(msgspec.Struct, kw_only=True):
    """A piece of the history, newest first."""

    purges: list[PurgeTold]
    before: str | None
    """Hand it back for the next older piece; null: there is none."""
    cursor: str
    """Where a feed begins that tells all that came after this was read."""


class FeedTold(msgspec.Struct, kw_only=True):
    """A piece of the feed, oldest first."""

    purges: list[PurgeTold]
    cursor: str
    """Hand it back as `after` for the next piece, also if this one is empty."""


class DryRunTold(msgspec.Struct, kw_only=True):
    """What a purge would do. Nothing was purged."""

    dry_run: bool = True
    mode: Mode
    sites: tuple[str, ...]
    matched: int
    bytes: int
    targets: tuple[TargetTold, ...]
    samples: tuple[Sample, ...]
    origin_requests_first_second: float
    """Requests that the origin is likely to get beside the usual, within a second of such a purge."""
    origin_requests_first_minute: float
    widened: tuple[str, ...]
    complete: bool
    """False: there was more than could be looked at. The figures are lower bounds."""


_form_decoder = msgspec.json.Decoder(PurgeForm)


def read_form(data: bytes) -> PurgeForm:
    """The body of a request. Raises ClientError(400) that says where it is wrong."""
    try:
        return _form_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ClientError(400, f"the body is not a purge: {error}") from error


def asked(form: PurgeForm, *, key: str, now: float, body: bytes = b"") -> PurgeRequest:
    """What the purge service is asked, `form` having been read from `body`. Raises ClientError: 400, 413 too much."""
    written = msgspec.to_builtins(form)
    top = {name: value for name, value in written.items() if name in _TARGET_FIELDS}
    if top and "targets" in written:
        raise ClientError(400, f'write "{next(iter(top))}" within "targets", or leave "targets" out')
    return PurgeRequest(
        targets=parse_targets(written.get("targets", [top])),
        mode=form.mode or Mode.HARD,
        site=form.site,
        reason=form.reason,
        at=moment(form.at, now, "at") if form.at is not None else None,
        key=key,
        body=body,
    )


_TARGET_FIELDS = frozenset(TargetForm.__struct_fields__) - {"mode"}


def form_of(given: Given) -> TargetForm:
    """A target as it would be asked for."""
    return msgspec.convert(item_of(given), TargetForm)


def told(purge: Purge, *, record: bytes | UnsetType = UNSET) -> PurgeTold:
    """An entry of the log as callers read it."""
    position = parse_position(purge.id)
    return PurgeTold(
        position=PositionTold(position.edge, position.epoch, position.seq),
        targets=msgspec.convert([item_of(given) for given in purge.targets], tuple[TargetTold, ...]),
        record=record,
        links=_links(purge),
        **{name: getattr(purge, name) for name in Purge.__struct_fields__ if name != "targets"},
    )


def state_told(state: PurgeState) -> PurgeTold:
    """An entry of the log, with how far it is."""
    entry = told(state.purge)
    entry.state, entry.matched, entry.bytes = state.state, state.matched, state.bytes
    entry.swept_at, entry.cursor = state.swept_at, state.cursor
    entry.copies = state.purge.copies
    entry.complete = not state.missing
    if state.edges:
        entry.edges = tuple([_edge_told(edge) for edge in state.edges])
        entry.missing, entry.membership = state.missing, state.membership
    if state.targets:
        entry.targets = _counted(state.targets)
    return entry


def _edge_told(edge: EdgeReceipt) -> EdgeTold:
    return EdgeTold(
        name=edge.name,
        edge=edge.edge,
        state=edge.state,
        lag_ms=None if edge.lag_s is None else round(edge.lag_s * 1000, 3),
        matched=UNSET if edge.matched is None else edge.matched,
        bytes=UNSET if edge.bytes is None else edge.bytes,
    )


def page_told(page: Page) -> PageTold:
    """A piece of the history as callers read it."""
    return PageTold(purges=[told(purge) for purge in page.purges], before=page.before, cursor=page.cursor)


def feed_told(feed: Feed) -> FeedTold:
    """A piece of the feed as callers read it."""
    return FeedTold(purges=[told(purge) for purge in feed.purges], cursor=feed.cursor)


def dry_run_told(run: DryRun) -> DryRunTold:
    """A dry run as callers read it."""
    parts = {name: getattr(run, name) for name in DryRun.__struct_fields__ if name != "targets"}
    return DryRunTold(targets=_counted(run.targets), **parts)


def _counted(counts: Iterable[TargetCount]) -> tuple[TargetTold, ...]:
    return tuple([TargetTold(**item_of(one.target), matched=one.matched, bytes=one.bytes) for one in counts])


def _links(purge: Purge) -> dict[str, str]:
    here = f"/purges/{purge.id}"
    links = {"self": here}
    if purge.kind is RecordKind.PURGE and not purge.state.final:
        links["swept"] = f"{here}?wait=swept"
    if purge.about:
        links["about"] = f"/purges/{purge.about}"
    if purge.followed_by:
        links["followed_by"] = f"/purges/{purge.followed_by}"
    return links
