"""Ranges of bytes: what part a request asks for, and what part a response is.

Not here: cutting bodies (`proxy/`), putting stored parts together (`caching/`).
Source: RFC 9110 sections 14 and 13.1.5.
Units: bytes; positions in fields are inclusive as on the wire, what `resolve` gives is half-open as in
Python.
Invariant: numbers past 2^63 - 1 read as 2^63 - 1, which no representation reaches, so they mean what they
say.
"""

import re

import msgspec

from banish.http.conditions import parse_etag, strong_match
from banish.http.dates import parse_http_date

RANGES_MAX = 64
"""A Range field with more members than this is ignored, which RFC 9110 section 14.2 allows against abuse."""

_POSITION_MAX = 2**63 - 1

# int-range / suffix-range; positions are digits of any count
_SPEC = re.compile(r"([0-9]*)-([0-9]*)", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]+)-([0-9]+)|\*)/([0-9]+|\*)", re.ASCII | re.IGNORECASE)


class ByteRange(msgspec.Struct, frozen=True, gc=False):
    """One member of a Range field. Without `first` it is a suffix: the last `last` bytes."""

    first: int | None
    last: int | None


class ContentRange(msgspec.Struct, frozen=True, gc=False):
    """What a Content-Range says. Without positions it is the `bytes */total` of a 416.

    A `total` of None is unknown, on the wire `*`.
    """

    first: int | None
    last: int | None
    total: int | None

    def __str__(self) -> str:
        span = "*" if self.first is None else f"{self.first}-{self.last}"
        return f"bytes {span}/{'*' if self.total is None else self.total}"


def parse_range(value: str) -> list[ByteRange] | None:
    """The ranges that a Range field asks for, or None if the field is to be ignored.

    Ignored are other units, bad syntax (one bad member spoils all, RFC 9110 section 14.2) and too many
    members.
    """
    unit, equals, specs = value.partition("=")
    if not equals or unit.lower() != "bytes" or specs.count(",") >= RANGES_MAX:
        return None
    ranges: list[ByteRange] = []
    for spec in specs.split(","):
        trimmed = spec.strip(" \t")
        if not trimmed:
            continue
        found = _range(trimmed)
        if found is None:
            return None
        ranges.append(found)
    return ranges or None


def _range(spec: str) -> ByteRange | None:
    found = _SPEC.fullmatch(spec)
    if found is None or spec == "-":
        return None
    first = _position(found[1]) if found[1] else None
    last = _position(found[2]) if found[2] else None
    if first is not None and last is not None and last < first:
        return None
    return ByteRange(first, last)


def _position(digits: str) -> int:
    """A number that may have any count of digits, without the cost of converting them all."""
    digits = digits.lstrip("0") or "0"
    return min(int(digits), _POSITION_MAX) if len(digits) < 20 else _POSITION_MAX


def resolve(byte_range: ByteRange, size: int) -> tuple[int, int] | None:
    """The half-open (start, end) that a range means in `size` bytes; None if it cannot be satisfied.

    Nothing can be satisfied from an empty representation: Content-Range has no way to say "no bytes".
    """
    if byte_range.first is None:
        suffix = byte_range.last or 0
        return (max(0, size - suffix), size) if suffix and size else None
    if byte_range.first >= size:
        return None
    if byte_range.last is None:
        return (byte_range.first, size)
    return (byte_range.first, min(byte_range.last + 1, size))


def parse_content_range(value: str) -> ContentRange | None:
    """What a Content-Range field says, or None if it is damaged, not in bytes, or contradicts itself."""
    found = _CONTENT_RANGE.fullmatch(value.strip(" \t"))
    if found is None:
        return None
    total = None if found[3] == "*" else _position(found[3])
    if found[1] is None:
        return ContentRange(None, None, total) if total is not None else None
    first, last = _position(found[1]), _position(found[2])
    if last < first or (total is not None and last >= total):
        return None
    return ContentRange(first, last, total)


def if_range_matches(value: str, *, etag: str | None, last_modified: str | None, date: float | None) -> bool:
    """True if the stored response is the very one that the client has a part of.

    Only strong validators count (RFC 9110 section 13.1.5): a strong entity tag, or a Last-Modified at least
    one second older than the response's `date` (RFC 9110 section 8.8.2.2).
    """
    value = value.strip(" \t")
    asked = parse_etag(value)
    if asked is not None:
        stored = parse_etag(etag) if etag is not None else None
        return stored is not None and strong_match(asked, stored)
    if last_modified is None or date is None:
        return False
    asked_date = parse_http_date(value, now=date)
    modified = parse_http_date(last_modified, now=date)
    return asked_date is not None and asked_date == modified and modified <= date - 1
