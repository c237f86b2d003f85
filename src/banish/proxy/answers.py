"""Answers made from stored responses: whole, not modified, or a part.

Not here: whether a stored response may be used (`caching/reuse.py`).
Source: RFC 9110 sections 13.2.2, 14.2, 15.3.7, 15.4.5 and 15.5.17; RFC 9111 sections 4.3.2 and 5.1.
"""

from collections.abc import Collection

from banish.caching.cache_status import Outcome
from banish.caching.policy import CachePolicy
from banish.caching.reuse import contained_range
from banish.caching.stored import Metadata, age
from banish.http.conditions import not_modified
from banish.http.fields import Fields
from banish.http.messages import RequestHead
from banish.http.ranges import ContentRange, if_range_matches, parse_range, resolve
from banish.proxy.exchange import Answer
from banish.store.bodies import Body, BodyReader, BodyState
from banish.store.records import StoredResponse

REACH_BYTES = 4 << 20
"""How far ahead of what has come a range may begin and still be waited for: less than a second of a busy origin."""

_IN_304 = frozenset({
    "age", "cache-control", "cdn-cache-control", "content-location", "content-security-policy", "date", "etag",
    "expires", "last-modified", "vary", "via",
})  # fmt: skip
"""What a 304 repeats: what the client needs to refresh its own copy (RFC 9110 section 15.4.5)."""

_BETWEEN_EDGES = frozenset({"cache-groups", "surrogate-control"})
"""What a 304 repeats beside that for another edge, which keeps it as a cache of ours does (PURGE rule 30)."""


def from_stored(
    request: RequestHead,
    record: StoredResponse,
    now: float,
    *,
    outcome: Outcome,
    cache_status: str,
    also: Collection[str] = (),
) -> Answer:
    """The answer that a stored response gives to this request: conditions first, then ranges. `also`: what a 304
    repeats beside the usual.
    """
    meta, body = record.meta, record.body
    fields = aged_fields(meta, now)
    if meta.status == 200 and not_modified(request.fields, meta.fields, date=meta.date, now=now):
        return Answer(304, in_304(fields, also).plus("Cache-Status", cache_status), outcome)
    fields = fields.plus("Cache-Status", cache_status)
    size = _size(meta, body)
    if meta.content_range is not None:
        return _part_of_part(request, record, fields, outcome)
    if request.method == "GET" and meta.status == 200 and "range" in request.fields and size:
        answer = _part(request, record, fields, size, outcome)
        if answer is not None:
            return answer
    if request.method == "HEAD":
        if size is not None:
            fields = fields.plus("Content-Length", str(size))
        return Answer(meta.status, fields, outcome, meta.reason)
    return Answer(meta.status, fields, outcome, meta.reason, body=_bytes(body, 0, None), length=size)


def aged_fields(meta: Metadata, now: float) -> Fields:
    """A stored response's fields with its Age as it is now; the length is that of the answer's body, written later."""
    return meta.fields.without(("content-length", "age")).plus("Age", str(int(age(meta, now))))


def in_304(fields: Fields, also: Collection[str] = ()) -> Fields:
    """Those of a stored response's fields that a 304 repeats."""
    names = _IN_304.union(also)
    return Fields.of([line for line, name in zip(fields.lines, fields.names, strict=True) if name in names])


def between_edges(policy: CachePolicy) -> Collection[str]:
    """What a 304 to another edge repeats beside the usual: tags, groups and the control of caches like ours."""
    return _BETWEEN_EDGES.union(policy.tag_fields, policy.targeted_fields)


def _size(meta: Metadata, body: Body) -> int | None:
    """The whole body's size, also while it is still being filled if the origin has told."""
    if body.state is BodyState.WHOLE:
        return body.size
    told = meta.fields.get("content-length")
    return int(told) if told is not None and told.isdecimal() else None


def within_reach(request: RequestHead, record: StoredResponse) -> bool:
    """Whether a range of a body that is still being filled will be there soon, so that waiting beats asking."""
    ranges = parse_range(request.fields.get("range") or "")
    size = _size(record.meta, record.body)
    if not ranges or record.body.state is BodyState.WHOLE:
        return True
    if size is None:  # the origin has not told the size: the answer would be the whole
        return False
    span = resolve(ranges[0], size)
    return span is None or span[0] <= record.body.size + REACH_BYTES


def _bytes(body: Body, start: int, end: int | None) -> bytes | BodyReader:
    if body.data is not None:
        return body.data if start == 0 and end is None else body.data[start:end]
    return body.reader(start, end)


def _part(request: RequestHead, record: StoredResponse, fields: Fields, size: int, outcome: Outcome) -> Answer | None:
    """206 or 416 from a whole stored response that is not empty; None if the whole is to be sent."""
    meta = record.meta
    ranges = parse_range(request.fields.get("range") or "")
    if ranges is None or len(ranges) != 1:  # several ranges may be ignored (RFC 9110 section 14.2)
        return None
    condition = request.fields.get("if-range")
    if condition is not None and not if_range_matches(
        condition, etag=meta.etag, last_modified=meta.last_modified, date=meta.date
    ):
        return None
    span = resolve(ranges[0], size)
    if span is None:
        unmet = fields.without(("content-type", "content-encoding", "etag", "last-modified"))
        return Answer(
            416, unmet.plus("Content-Range", str(ContentRange(None, None, size))), outcome, body=b"", length=0
        )
    start, end = span
    fields = fields.plus("Content-Range", str(ContentRange(start, end - 1, size)))
    return Answer(206, fields, outcome, body=_bytes(record.body, start, end), length=end - start)


def _part_of_part(request: RequestHead, record: StoredResponse, fields: Fields, outcome: Outcome) -> Answer:
    """206 from a stored part, which is known to contain what is asked for."""
    held = record.meta.content_range
    assert held is not None
    first, last, total = held
    start, end = contained_range(request, record.meta) or (first, last + 1)
    fields = fields.without(("content-range",)).plus("Content-Range", str(ContentRange(start, end - 1, total)))
    body = _bytes(record.body, start - first, end - first)
    return Answer(206, fields, outcome, body=body, length=end - start)
