"""Validation: asking the origin whether a stored response still holds, and using what it says.

Not here: the client's own preconditions (`http/conditions.py`); when to ask (`reuse.py`).
Source: RFC 9111 sections 3.2, 4.3.1, 4.3.3 to 4.3.5.
Invariant: a 304 or HEAD changes what is known about the stored content, never which content it is: fields
that say how to read the stored bytes stay as they were.
Departures, both because origins do it every day and the 304 answers a question about one tag:
  - a 304 without any validator confirms the response that was asked about;
  - a 304 confirms by weak comparison. nginx sends W/"x" with a compressed 200 and "x" with the 304. The
    stored tag is then kept, since the strong one would be a claim about other bytes.
"""

from collections.abc import Sequence

import msgspec

from banish.caching.policy import CachePolicy
from banish.caching.stored import Metadata
from banish.caching.storing import decide_keeping, make_metadata
from banish.http.conditions import parse_etag, weak_match
from banish.http.fields import Fields
from banish.http.hops import end_to_end
from banish.http.messages import RequestHead, ResponseHead

ETAGS_MAX = 16
"""Entity tags sent in one If-None-Match; more variants than that are not worth the field's size."""

_CONDITIONS = frozenset({"if-none-match", "if-modified-since"})

_NOT_UPDATED = frozenset({"content-encoding", "content-length", "content-range"})
"""Fields that say how to read the stored bytes (section 3.2)."""


def conditional_request(request: RequestHead, metas: Sequence[Metadata], *, selected: bool = True) -> RequestHead:
    """This request, made conditional on the stored responses having changed; the client's conditions go.

    The first of `metas` is the one that the request selected; pass `selected=False` if none was, so that only
    entity tags are sent: a date cannot tell one variant from another.
    """
    fields = request.fields.without(_CONDITIONS)
    etags = list(dict.fromkeys([meta.etag for meta in metas if meta.etag is not None]))
    if len(etags) > 1:  # a damaged tag can be echoed alone, but would spoil a list
        etags = [etag for etag in etags if parse_etag(etag) is not None]
    if etags:
        fields = fields.plus("If-None-Match", ", ".join(etags[:ETAGS_MAX]))
    if selected and metas and metas[0].last_modified is not None:
        fields = fields.plus("If-Modified-Since", metas[0].last_modified)
    return msgspec.structs.replace(request, fields=fields)


def select_validated(metas: Sequence[Metadata], response: ResponseHead) -> Metadata | None:
    """Which of the responses asked about a 304 confirms; the most recent one if several."""
    if "etag" not in response.fields and len(metas) > 1:
        return None
    confirmed = [meta for meta in metas if _confirms(response.fields, meta)]
    return max(confirmed, key=lambda meta: meta.date, default=None)


def freshen(
    meta: Metadata,
    response: ResponseHead,
    request: RequestHead,
    policy: CachePolicy,
    *,
    requested_at: float,
    received_at: float,
) -> Metadata | None:
    """The stored response as updated by a 304 to this request; None if the 304 is about another response.

    Ask `storing.decide_keeping` whether the outcome may go on being stored.
    """
    if not _confirms(response.fields, meta):
        return None
    return _updated(meta, response, request, policy, requested_at=requested_at, received_at=received_at)


def update_from_head(
    meta: Metadata,
    response: ResponseHead,
    request: RequestHead,
    policy: CachePolicy,
    *,
    requested_at: float,
    received_at: float,
    body_size: int | None = None,
) -> Metadata | None:
    """The stored response as updated by the response to a HEAD (section 4.3.5).

    None if that shows the stored response to be outdated: then it is to be invalidated. A response that says
    nothing about the stored one (a server error, a 304 not asked for) leaves it as it was.
    """
    if response.status >= 500 or response.status == 304:
        return meta
    if response.status != meta.status or not _describes(response.fields, meta, body_size):
        return None
    updated = _updated(meta, response, request, policy, requested_at=requested_at, received_at=received_at)
    reason = decide_keeping(request, updated, policy)
    if reason.storable:
        return updated
    return meta if reason.lies_in_request else None


def _describes(fields: Fields, meta: Metadata, body_size: int | None) -> bool:
    """True if validators, length and coding in a HEAD's response are those of the stored response."""
    stored_length = meta.fields.get("content-length")
    if stored_length is None and body_size is not None:
        stored_length = str(body_size)
    known = (
        ("etag", meta.etag),
        ("last-modified", meta.last_modified),
        ("content-length", stored_length),
        ("content-encoding", meta.fields.get("content-encoding")),
    )
    return all(stored is None or (fields.get(name) or stored) == stored for name, stored in known)


def _confirms(fields: Fields, meta: Metadata) -> bool:
    """True if the validators of a 304, as far as it has any, are those of the stored response (4.3.4)."""
    etag = fields.get("etag")
    if etag is not None:
        if meta.etag is None:
            return False
        theirs, ours = parse_etag(etag), parse_etag(meta.etag)
        return etag == meta.etag or (theirs is not None and ours is not None and weak_match(theirs, ours))
    last_modified = fields.get("last-modified")
    return last_modified is None or meta.last_modified is None or last_modified == meta.last_modified


def _updated(
    meta: Metadata,
    response: ResponseHead,
    request: RequestHead,
    policy: CachePolicy,
    *,
    requested_at: float,
    received_at: float,
) -> Metadata:
    merged = ResponseHead(meta.status, _merged(meta, response.fields), meta.reason)
    made = make_metadata(meta.key, request, merged, policy, requested_at=requested_at, received_at=received_at)
    return msgspec.structs.replace(
        made,
        content_range=meta.content_range,
        request_had_authorization=made.request_had_authorization or meta.request_had_authorization,
        # What a response was purged by before, it is purged by still, unless the origin named something else.
        groups=made.groups or meta.groups,
        tags=made.tags or meta.tags,
    )


def _merged(meta: Metadata, newer: Fields) -> Fields:
    """The stored fields, each replaced by the newer message's lines of that name (section 3.2)."""
    kept_back = set(_NOT_UPDATED)
    if meta.etag is not None:
        kept_back.add("etag")
    newer = end_to_end(newer, also=kept_back)
    older = meta.fields.without({"date", *newer.names})
    return Fields.of([*older, *newer])
