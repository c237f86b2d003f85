"""Storing: may this response be kept, and what is kept of it.

Not here: how long it stays fresh (`freshness.py`); where it is kept (`store/`).
Source: RFC 9111 sections 3, 3.1, 3.3, 3.5 and 5.2.2; RFC 9110 section 9.3.3 for POST.
Invariant: every refusal has its reason, and reasons are tried in the order of the table, so that the one
reported is the first an operator would have to change.
"""

from enum import StrEnum

import msgspec

from banish.caching.directives import Directives, request_directives
from banish.caching.freshness import (
    HEURISTICALLY_CACHEABLE,
    Lifetime,
    date_field,
    freshness_lifetime,
    generated_at,
    initial_age,
)
from banish.caching.keys import has_unkeyed_input
from banish.caching.policy import CachePolicy
from banish.caching.stored import Metadata
from banish.caching.tags import GROUPS_MAX, groups, tags, within_limits
from banish.caching.targeted import Control, control
from banish.caching.vary import selecting_values, vary_names
from banish.errors import ClientError
from banish.http.dates import format_http_date
from banish.http.fields import Fields
from banish.http.hops import end_to_end
from banish.http.messages import RequestHead, ResponseHead
from banish.http.ranges import parse_content_range
from banish.http.targets import Target, request_target, resolve

UNDERSTOOD_STATUSES = frozenset(
    {
        *(200, 203, 204, 206, 300, 301, 302, 303, 307, 308),
        *(400, 402, 403, 404, 405, 406, 409, 410, 414, 415, 422, 451, 500, 501, 502, 503, 504, 505),
    }
)
"""Statuses whose caching requirements are implemented here, which is what must-understand asks about."""

NEVER_STORED_STATUSES = frozenset({304, 401, 407, 408, 411, 412, 413, 416, 417, 421, 425, 426, 428, 429, 431, 511})
"""Statuses that answer something outside the cache key: a condition, a range, credentials, the size or pace
of one request. RFC 6585 forbids storing 428, 429, 431 and 511; stored, the others would let one client's odd
request become everybody's answer."""

_NEVER_MATCHING = ("*",)
"""One name and no value: `selecting` is then shorter than any request's."""


class StoreReason(StrEnum):
    """Why a response is stored, or is not."""

    STORE = "store"
    """It may be stored."""
    BYPASS = "bypass"
    """The operator said not to."""
    METHOD = "method"
    """Responses to this method are not reused, or not without Content-Location and freshness."""
    UNKEYED_INPUT = "unkeyed-input"
    """The request carried what no cache key covers: content in a GET, a method override."""
    STATUS = "status"
    """This status is never stored, or only with explicit freshness."""
    MUST_UNDERSTAND = "must-understand"
    """must-understand with a status that is not known here."""
    NO_STORE = "no-store"
    """The response says so."""
    REQUEST_NO_STORE = "request-no-store"
    """The request says so."""
    PRIVATE = "private"
    """The response is meant for one user."""
    AUTHORIZATION = "authorization"
    """The request had Authorization and the response does not say that it may be shared."""
    SET_COOKIE = "set-cookie"
    """The response sets a cookie."""
    VARY_STAR = "vary-star"
    """Vary says that no other request matches."""
    TAGS = "tags"
    """More or longer tags than can be indexed, so that purges would miss it."""
    PARTIAL = "partial"
    """A part that cannot be placed: several ranges, no range asked for, or a damaged Content-Range."""
    STALE_ABOVE = "stale-above"
    """Neither parent nor origin had anything but what is stale at the parent."""
    NO_FRESHNESS_OR_VALIDATOR = "no-freshness-or-validator"
    """It could never be reused: not fresh for any time, and nothing to validate it with."""

    @property
    def storable(self) -> bool:
        return self is StoreReason.STORE

    @property
    def lies_in_request(self) -> bool:
        """True if the response might be stored for another request: what is stored of it already may stay."""
        return self in _IN_REQUEST


_IN_REQUEST = frozenset(
    {
        StoreReason.METHOD,
        StoreReason.UNKEYED_INPUT,
        StoreReason.REQUEST_NO_STORE,
        StoreReason.AUTHORIZATION,
    }
)


def decide_storing(
    request: RequestHead,
    response: ResponseHead,
    policy: CachePolicy,
    *,
    target: Target | None = None,
    received_at: float | None = None,
) -> StoreReason:
    """Whether this final response to this request may be stored.

    `target` is the request's target URI; without it, only a relative Content-Location makes a POST storable.
    `received_at` tells whether an Expires without a Date is over already.
    """
    applied = control(response.fields, policy)
    return (
        _refused_by_request(request, response, applied, policy, target)
        or _refused_by_directives(request, response, applied.directives, policy)
        or _refused_by_fields(request, response, applied, policy)
        or _refused_as_useless(response, applied, policy, received_at)
        or StoreReason.STORE
    )


def decide_keeping(request: RequestHead, meta: Metadata, policy: CachePolicy) -> StoreReason:
    """Whether a stored response that this request has just freshened may go on being stored as it is now.

    A reason that lies in the request says: leave what was stored before as it was. Any other: remove it.
    """
    as_get = msgspec.structs.replace(request, method="GET")
    return decide_storing(as_get, ResponseHead(meta.status, meta.fields, meta.reason), policy)


def _refused_by_request(
    request: RequestHead, response: ResponseHead, applied: Control, policy: CachePolicy, target: Target | None
) -> StoreReason | None:
    if request.method == "GET" and has_unkeyed_input(request):
        return StoreReason.UNKEYED_INPUT
    if policy.bypass:
        return StoreReason.BYPASS
    if request.method == "GET":
        return None
    if request.method not in ("POST", "PATCH") or not _stands_for_get(request, response, applied, target):
        return StoreReason.METHOD
    return None


def _stands_for_get(request: RequestHead, response: ResponseHead, applied: Control, target: Target | None) -> bool:
    """True if a POST's response is what a GET would get, and says for how long (RFC 9110 section 9.3.3)."""
    location = response.fields.get("content-location")
    given = (applied.directives.max_age, applied.directives.s_maxage)
    explicit = given != (None, None) or (applied.source is None and "expires" in response.fields)
    if response.status != 200 or location is None or not explicit:
        return False
    if target is None:
        try:
            target = request_target("GET", request.target, request.fields.get("host"), "http")
        except ClientError:
            return False
    return resolve(target, location) == target


def _refused_by_directives(
    request: RequestHead, response: ResponseHead, directives: Directives, policy: CachePolicy
) -> StoreReason | None:
    if response.status < 200 or response.status in NEVER_STORED_STATUSES:
        return StoreReason.STATUS
    if directives.must_understand and response.status not in UNDERSTOOD_STATUSES:
        return StoreReason.MUST_UNDERSTAND
    # must-understand with a known status lifts the no-store meant for caches that do not know it (5.2.2.3)
    if directives.no_store and not directives.must_understand:
        return StoreReason.NO_STORE
    if request_directives(request.fields).no_store:
        return StoreReason.REQUEST_NO_STORE
    if directives.private:
        return StoreReason.PRIVATE
    if "authorization" in request.fields and not _may_be_shared(directives):
        return StoreReason.AUTHORIZATION
    return None


def _may_be_shared(directives: Directives) -> bool:
    """Section 3.5: what lets a shared cache keep the response to a request with Authorization."""
    return directives.public or directives.must_revalidate or directives.s_maxage is not None


def _refused_by_fields(
    request: RequestHead, response: ResponseHead, applied: Control, policy: CachePolicy
) -> StoreReason | None:
    fields = response.fields
    if "set-cookie" in fields and not policy.store_set_cookie:
        left_out = (*applied.directives.no_cache_fields, *applied.directives.private_fields)
        if not policy.ignore_cookies and "set-cookie" not in left_out:
            return StoreReason.SET_COOKIE
    if vary_names(fields, policy) is None:
        return StoreReason.VARY_STAR
    if not within_limits(tags(fields, policy)) or len(groups(fields)) > GROUPS_MAX:
        return StoreReason.TAGS
    if response.status == 206 and ("range" not in request.fields or held_range(fields) is None):
        return StoreReason.PARTIAL
    return None


def _refused_as_useless(
    response: ResponseHead, applied: Control, policy: CachePolicy, received_at: float | None
) -> StoreReason | None:
    """Section 3 asks for freshness or a status that may be guessed at; sense asks for a way to reuse it."""
    fields, directives = response.fields, applied.directives
    # Only whether there is a lifetime matters here, not how long it is; Date will do as the present.
    present = date_field(fields, "date", now=0.0) if received_at is None else received_at
    lifetime = _lifetime(response, applied, policy, received_at=present or 0.0)
    guessable = response.status in HEURISTICALLY_CACHEABLE or directives.public
    if not lifetime.explicit and not guessable:
        return StoreReason.STATUS
    if "etag" in fields or "last-modified" in fields:
        return None
    window = directives.stale_while_revalidate or directives.stale_if_error
    if directives.no_cache or not (lifetime.seconds > 0 or window):
        return StoreReason.NO_FRESHNESS_OR_VALIDATOR
    return None


def _lifetime(response: ResponseHead, applied: Control, policy: CachePolicy, *, received_at: float) -> Lifetime:
    return freshness_lifetime(response.status, response.fields, applied, policy, received_at=received_at)


def make_metadata(
    key: str,
    request: RequestHead,
    response: ResponseHead,
    policy: CachePolicy,
    *,
    requested_at: float,
    received_at: float,
) -> Metadata:
    """What is kept of a response that may be stored, its body aside.

    `requested_at` and `received_at`: when the request was sent, and when the response's head arrived.
    """
    applied = control(response.fields, policy)
    fields = storable_fields(response.fields, applied.directives, policy, received_at=received_at)
    names = vary_names(response.fields, policy)
    lifetime = _lifetime(response, applied, policy, received_at=received_at)
    return Metadata(
        key=key,
        status=response.status,
        reason=response.reason,
        fields=fields,
        requested_at=requested_at,
        received_at=received_at,
        date=generated_at(response.fields, received_at=received_at),
        initial_age=initial_age(response.fields, requested_at=requested_at, received_at=received_at),
        lifetime=lifetime.seconds,
        heuristic=lifetime.heuristic,
        directives=applied.directives,
        vary=_NEVER_MATCHING if names is None else names,
        selecting=() if names is None else selecting_values(names, request.fields, policy),
        etag=fields.get("etag") or None,
        last_modified=_usable_last_modified(fields, received_at),
        content_range=held_range(fields) if response.status == 206 else None,
        request_had_authorization="authorization" in request.fields,
        groups=groups(response.fields),
        tags=tags(response.fields, policy),
    )


def _usable_last_modified(fields: Fields, now: float) -> str | None:
    return None if date_field(fields, "last-modified", now=now) is None else fields.get("last-modified")


def storable_fields(fields: Fields, directives: Directives, policy: CachePolicy, *, received_at: float) -> Fields:
    """The fields that may be kept and served again (section 3.1), with a valid Date.

    Age is left out, since it is worked out anew for each reuse; so is what a qualified no-cache or private
    names, which RFC 9111 allows to be served only after validation, or not at all.
    """
    left_out = {"age", *directives.no_cache_fields, *directives.private_fields}
    if policy.ignore_cookies or not policy.store_set_cookie:
        left_out.add("set-cookie")
    kept = end_to_end(fields, also=left_out)
    if date_field(kept, "date", now=received_at) is None:
        return kept.with_field("Date", format_http_date(received_at))
    return kept


def held_range(fields: Fields) -> tuple[int, int, int | None] | None:
    """The (first, last, total) that a 206 holds, positions inclusive; None if it cannot be placed.

    A 206 whose content is shorter than its Content-Range says is an incomplete part (section 3.3): what it
    holds ends with its content. One whose content is longer contradicts itself.
    """
    lines = fields.get_all("content-range")
    found = parse_content_range(lines[0]) if len(lines) == 1 else None
    if found is None or found.first is None or found.last is None:
        return None
    length = fields.get("content-length")
    if length is None or not length.isdecimal():
        return (found.first, found.last, found.total)
    return _placed(found.first, found.last, found.total, int(length))


def _placed(first: int, last: int, total: int | None, size: int) -> tuple[int, int, int | None] | None:
    if size == 0 or first + size - 1 > last:
        return None
    return (first, first + size - 1, total)


def confirm_size(meta: Metadata, size: int) -> Metadata | None:
    """The metadata of a part once its content has ended after `size` bytes; None if it cannot be kept.

    For a part without Content-Length only now is known how much of its Content-Range it holds.
    """
    if meta.content_range is None:
        return meta
    first, last, total = meta.content_range
    placed = _placed(first, last, total, size)
    return None if placed is None else msgspec.structs.replace(meta, content_range=placed)
