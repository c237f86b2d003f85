"""Preconditions: entity tags, and whether a stored response is what the client already has.

Not here: If-Range (`ranges.py`); asking the origin about a stored response (`caching/validation.py`).
If-Match and If-Unmodified-Since guard a change of state, which only the origin can judge: such requests are
forwarded.
Source: RFC 9110 sections 8.8.3, 13.1 and 13.2.2; RFC 9111 section 4.3.2.
Units: moments are seconds since the epoch.
"""

import re
from typing import NamedTuple

from banish.http.dates import parse_http_date
from banish.http.fields import Fields

# entity-tag = [ %s"W/" ] DQUOTE *etagc DQUOTE ; etagc = %x21 / %x23-7E / obs-text
_ETAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_SEPARATOR = re.compile(r"[ \t]*(?:,[ \t]*)+")


class EntityTag(NamedTuple):
    """A validator for one representation; weak means equivalent rather than equal byte for byte."""

    opaque: str
    weak: bool = False


def parse_etag(text: str) -> EntityTag | None:
    """The entity tag that `text` is, or None."""
    found = _ETAG.fullmatch(text)
    return EntityTag(found[2], found[1] is not None) if found else None


def parse_etags(text: str) -> list[EntityTag] | None:
    """The members of a list of entity tags, or None if it is damaged.

    Commas and backslashes are ordinary characters inside a tag, so the general list rule does not apply.
    """
    text = text.strip(" \t,")
    tags: list[EntityTag] = []
    at = 0
    while at < len(text):
        found = _ETAG.match(text, at)
        if found is None:
            return None
        tags.append(EntityTag(found[2], found[1] is not None))
        at = found.end()
        if at < len(text):
            gap = _SEPARATOR.match(text, at)
            if gap is None:
                return None
            at = gap.end()
    return tags


def strong_match(one: EntityTag, other: EntityTag) -> bool:
    """Equal, and neither weak: the same bytes (RFC 9110 section 8.8.3.2)."""
    return not one.weak and not other.weak and one.opaque == other.opaque


def weak_match(one: EntityTag, other: EntityTag) -> bool:
    """Equal when weakness is left aside (RFC 9110 section 8.8.3.2)."""
    return one.opaque == other.opaque


def lists_etag(value: str, etag: str | None) -> bool:
    """True if an If-None-Match value names the stored `etag`, so that the client already has the response.

    `*` names any stored response. Values equal byte for byte match even where they break the grammar: a
    client that echoes an origin's unquoted tag means that tag. Anything else damaged names nothing.
    """
    value = value.strip(" \t")
    if value == "*":
        return True
    if not value or etag is None:
        return False
    if value == etag:
        return True
    stored = parse_etag(etag)
    return stored is not None and any(weak_match(stored, tag) for tag in parse_etags(value) or ())


def not_modified(request_fields: Fields, stored_fields: Fields, *, date: float, now: float) -> bool:
    """True if a GET or HEAD may be answered 304 from a stored 200.

    `date` is the stored response's Date, or when it was received if it has none: it stands in for a missing
    Last-Modified (RFC 9111 section 4.3.2). If-None-Match, when present, alone decides (RFC 9110 section
    13.2.2).
    """
    listed = request_fields.get("if-none-match")
    if listed is not None:
        return lists_etag(listed, stored_fields.get("etag"))
    since_text = request_fields.get("if-modified-since")
    if since_text is None:
        return False
    since = parse_http_date(since_text, now=now)
    if since is None:
        return False
    modified_text = stored_fields.get("last-modified")
    modified = parse_http_date(modified_text, now=now) if modified_text is not None else None
    return (date if modified is None else modified) <= since


def has_state_changing_precondition(fields: Fields) -> bool:
    """True if the request carries a condition that only the origin can judge."""
    return "if-match" in fields or "if-unmodified-since" in fields
