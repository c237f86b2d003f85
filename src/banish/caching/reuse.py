"""Reuse: what to do with a request, given the responses stored for its URL.

    candidates ── same selecting fields? ── holds what is asked? ── purged, no-cache, request directives?
        │ none: uri-miss      │ none: vary-miss     │ none: partial        │
        ▼                     ▼                     ▼                      ▼ fresh, or stale but allowed?
      Forward              Forward               Forward          Hit · Stale · Validate

Not here: preconditions of the client and cutting ranges out of a stored whole, which shape the answer made
from a Hit (`http/conditions.py`, `http/ranges.py`); hard purges, which remove candidates before this.
Source: RFC 9111 sections 4, 4.2.4 and 5.2; RFC 5861; RFC 8246; RFC 9211 section 2.2 for the reasons.
Departure: RFC 9111 has s-maxage forbid serving stale. It does here too, except within a window that the same
response opens by stale-while-revalidate or stale-if-error: origins write the two side by side and mean both.
"""

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Literal

import msgspec

from banish.caching.directives import Directives, request_directives
from banish.caching.keys import has_unkeyed_input
from banish.caching.policy import CachePolicy
from banish.caching.stored import Metadata, age, ttl
from banish.caching.vary import matches, selecting_values
from banish.http.conditions import has_state_changing_precondition, parse_etag
from banish.http.messages import RequestHead
from banish.http.ranges import ByteRange, if_range_matches, parse_range, resolve

ERROR_STATUSES = frozenset({500, 502, 503, 504})
"""What counts as an error for stale-if-error (RFC 5861 section 4)."""


class Forwarded(StrEnum):
    """Why a request goes to the origin: the `fwd` values of RFC 9211 section 2.2."""

    BYPASS = "bypass"
    """The operator, a hook or the request's own form rules the cache out."""
    METHOD = "method"
    """Only GET and HEAD are answered from the store."""
    URI_MISS = "uri-miss"
    """Nothing is stored under this URL."""
    VARY_MISS = "vary-miss"
    """What is stored was selected by other request fields."""
    MISS = "miss"
    """Nothing stored could be used, for no reason more precise."""
    REQUEST = "request"
    """The request's own directives or conditions ask for the origin."""
    STALE = "stale"
    """What is stored must be validated first."""
    PARTIAL = "partial"
    """Only another part of it is stored."""


class Leeway(StrEnum):
    """What may answer beside what is fresh."""

    STALE = "stale"
    """Stale responses too, as response, request and policy allow."""
    FRESH = "fresh"
    """Nothing else: between edges. Who faces the client decides on stale ones (PURGE rule 28)."""
    CONFIRMED = "confirmed"
    """Not even that: only what the origin has confirmed for this very request."""


class Hit(msgspec.Struct, frozen=True):
    """Answer from this stored response. It may be past its freshness if the request allows that."""

    meta: Metadata


class Stale(msgspec.Struct, frozen=True):
    """Answer from this stale response now and validate it in the background; `window` in seconds."""

    meta: Metadata
    window: float


class Validate(msgspec.Struct, frozen=True):
    """Ask the origin whether this stored response still holds."""

    meta: Metadata
    reason: Forwarded


class Forward(msgspec.Struct, frozen=True):
    """Send the request to the origin.

    `variants` are stored responses whose entity tags may go along: a 304 then says which of them answers
    (RFC 9111 section 4.1).
    """

    reason: Forwarded
    variants: tuple[Metadata, ...] = ()


class Unsatisfiable(msgspec.Struct, frozen=True):
    """only-if-cached, and nothing stored will do: 504 (RFC 9111 section 5.2.1.7)."""


Decision = Hit | Stale | Validate | Forward | Unsatisfiable


def decide(
    request: RequestHead,
    candidates: Sequence[Metadata],
    now: float,
    policy: CachePolicy,
    *,
    soft_purged: Collection[int] = (),
    leeway: Leeway = Leeway.STALE,
) -> Decision:
    """What to do with this request. `soft_purged` are indices of candidates that count as stale."""
    if policy.bypass:
        return Forward(Forwarded.BYPASS)
    if request.method not in ("GET", "HEAD"):
        return Forward(Forwarded.METHOD)
    if has_unkeyed_input(request):
        return Forward(Forwarded.BYPASS)
    wanted = request_directives(request.fields)
    decision = _decide(request, wanted, candidates, now, policy, soft_purged, leeway)
    if wanted.only_if_cached and not isinstance(decision, Hit | Stale):
        return Unsatisfiable()
    return decision


def _decide(
    request: RequestHead,
    wanted: Directives,
    candidates: Sequence[Metadata],
    now: float,
    policy: CachePolicy,
    soft_purged: Collection[int],
    leeway: Leeway,
) -> Decision:
    if not candidates:
        return Forward(Forwarded.URI_MISS)
    if wanted.no_store or has_state_changing_precondition(request.fields):
        return Forward(Forwarded.REQUEST)
    matching = _matching(request, candidates, policy)
    if not matching:
        return Forward(Forwarded.VARY_MISS, _told_apart(candidates))
    suitable = [at for at in matching if _holds_answer(request, candidates[at])]
    if not suitable:
        return Forward(Forwarded.PARTIAL)
    # section 4: of several suitable responses the most recent by Date must be used
    chosen = max(suitable, key=lambda at: (candidates[at].date, candidates[at].received_at))
    return _reuse(candidates[chosen], wanted, now, policy, purged=chosen in soft_purged, leeway=leeway)


def _reuse(
    meta: Metadata, wanted: Directives, now: float, policy: CachePolicy, *, purged: bool, leeway: Leeway
) -> Decision:
    """Whether the selected response may be used as it is."""
    left = ttl(meta, now)
    fresh = left > 0 and not purged
    if meta.directives.no_cache or leeway is Leeway.CONFIRMED:
        return Validate(meta, Forwarded.STALE)
    if wanted.no_cache or _too_old_for_client(meta, wanted, now, fresh=fresh):
        return Validate(meta, Forwarded.REQUEST)
    if fresh:
        return Hit(meta)
    if leeway is Leeway.FRESH:
        return Validate(meta, Forwarded.STALE)
    if not purged and wanted.max_stale is not None and -left <= wanted.max_stale and not _must_be_fresh(meta):
        return Hit(meta)
    window, given = _window(meta.directives.stale_while_revalidate, policy.stale_while_revalidate_s)
    if -left <= window and window > 0 and not _must_be_fresh(meta, window_given=given):
        return Stale(meta, window)
    return Validate(meta, Forwarded.STALE)


def _too_old_for_client(meta: Metadata, wanted: Directives, now: float, *, fresh: bool) -> bool:
    """True if max-age or min-fresh of the request ask for something younger.

    A fresh immutable response is not worth a reload's max-age=0 (RFC 8246 section 2.1); no-cache still is.
    """
    if wanted.min_fresh is not None and ttl(meta, now) < wanted.min_fresh:
        return True
    if wanted.max_age is None or (meta.directives.immutable and fresh):
        return False
    return age(meta, now) > wanted.max_age


def _must_be_fresh(meta: Metadata, *, window_given: bool = False) -> bool:
    """True if the response forbids serving it stale (section 4.2.4).

    `window_given`: it opened a window for that itself, which outweighs what s-maxage implies.
    """
    directives = meta.directives
    if directives.no_cache or directives.must_revalidate or directives.proxy_revalidate:
        return True
    return directives.s_maxage is not None and not window_given


def _window(given_s: int | None, default_s: float | None) -> tuple[float, bool]:
    """A window's length, and whether the response itself gave it."""
    return (default_s or 0.0, False) if given_s is None else (float(given_s), True)


def stale_on_error(
    meta: Metadata,
    now: float,
    policy: CachePolicy,
    request: RequestHead,
    error: Literal["unreachable"] | int,
) -> bool:
    """Whether a stored response may stand in for an origin that failed: only one that this request selects, and that
    holds what it asks for: a stored part answers nobody who wants another part or the whole.

    "unreachable": no response came, or it was cut off. Then the default is yes, for a bounded time; after an
    error status it takes a stale-if-error window, of the response, the request or the policy.
    """
    if error != "unreachable" and error not in ERROR_STATUSES:
        return False
    if not (matches(meta, request.fields, policy) and _holds_answer(request, meta)):
        return False
    wanted = request_directives(request.fields)
    window, given = _window(meta.directives.stale_if_error, policy.stale_if_error_s)
    if wanted.stale_if_error is not None:
        window = max(window, float(wanted.stale_if_error))
    if error == "unreachable" and not given:
        window = max(window, policy.stale_when_unreachable_s)
    if wanted.no_cache or _must_be_fresh(meta, window_given=given):
        return False
    return window > 0 and -ttl(meta, now) <= window


def _matching(request: RequestHead, candidates: Sequence[Metadata], policy: CachePolicy) -> list[int]:
    """Indices of the candidates that this request selects. Variants mostly vary on the same fields."""
    found: list[int] = []
    names: tuple[str, ...] = ()
    values: tuple[str | None, ...] = ()
    for at, meta in enumerate(candidates):
        if meta.vary != names:
            names = meta.vary
            values = selecting_values(names, request.fields, policy)
        if meta.selecting == values:
            found.append(at)
    return found


def _told_apart(candidates: Sequence[Metadata]) -> tuple[Metadata, ...]:
    """Those whose entity tags name one variant and no other.

    Weak ones may be the same for all. Nor is the coding told by a tag: servers that compress as they send (nginx,
    Apache) compare with the tag of the file, and their 304 would give one client what was coded for another.
    """
    return tuple([meta for meta in candidates if not meta.partial and _names_one(meta)])


def _names_one(meta: Metadata) -> bool:
    if meta.etag is None or "accept-encoding" in meta.vary:
        return False
    tag = parse_etag(meta.etag)
    return tag is not None and not tag.weak


def _holds_answer(request: RequestHead, meta: Metadata) -> bool:
    """A stored whole holds every answer; a stored part, only ranges within it (section 3.3)."""
    return not meta.partial or contained_range(request, meta) is not None


def contained_range(request: RequestHead, meta: Metadata) -> tuple[int, int] | None:
    """The half-open (start, end), in the whole representation, that this request wants from a stored part.

    None if the request wants anything that the part does not hold.
    """
    if meta.content_range is None or request.method != "GET" or "range" not in request.fields:
        return None
    condition = request.fields.get("if-range")
    if condition is not None and not if_range_matches(
        condition, etag=meta.etag, last_modified=meta.last_modified, date=meta.date
    ):
        return None
    asked = parse_range(request.fields.get("range") or "")
    if asked is None or len(asked) != 1:
        return None
    first, last, total = meta.content_range
    span = _span(asked[0], total)
    return span if span is not None and first <= span[0] and span[1] <= last + 1 else None


def _span(asked: ByteRange, total: int | None) -> tuple[int, int] | None:
    if total is not None:
        return resolve(asked, total)
    if asked.first is None or asked.last is None:
        return None
    return (asked.first, asked.last + 1)
