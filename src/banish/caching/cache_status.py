"""Cache-Status: telling how a response came about, and the outcomes that logs and metrics count.

Not here: deciding (`reuse.py`, `storing.py`).
Source: RFC 9211; RFC 9651 for the syntax.
Invariant: every request ends in exactly one outcome, under one name everywhere.
"""

import math
import re
from enum import StrEnum

from banish.caching.reuse import Forwarded
from banish.http.fields import Fields

# sf-token = ( ALPHA / "*" ) *( tchar / ":" / "/" )
_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*", re.ASCII)
_UNPRINTABLE = re.compile(r"[^ -~]")

_INTEGER_MAX = 10**15 - 1  # RFC 9651 section 3.3.1


class Outcome(StrEnum):
    """How a request ended."""

    HIT = "hit"
    """Answered from a fresh stored response."""
    STALE = "stale"
    """Answered from a stale one, under stale-while-revalidate or the request's max-stale."""
    STALE_ERROR = "stale-error"
    """Answered from a stale one because the origin failed."""
    REVALIDATED = "revalidated"
    """Answered from a stored response that the origin confirmed."""
    MISS = "miss"
    """Fetched, in a way that may be stored."""
    COLLAPSED = "collapsed"
    """Answered from the fetch that another request had begun."""
    PASS = "pass"
    """Fetched for this request alone: method, policy or request rule out storing."""
    HIT_FOR_PASS = "hit-for-pass"
    """Fetched for this request alone, since the URL was lately found not to be storable."""
    UNSATISFIABLE = "only-if-cached"
    """504: the client wanted a stored response or nothing."""
    SYNTHETIC = "synthetic"
    """Made by the edge itself: a redirect, a hook's answer, OPTIONS with Max-Forwards 0."""
    REFUSED = "refused"
    """The request broke a rule or a limit."""
    ERROR = "error"
    """The origin failed and nothing stored could stand in."""
    TUNNEL = "tunnel"
    """Became a tunnel."""
    ABORTED = "aborted"
    """The client left before it was answered."""


def cache_status(
    node: str,
    *,
    hit: bool = False,
    fwd: Forwarded | None = None,
    fwd_status: int | None = None,
    stored: bool = False,
    collapsed: bool = False,
    ttl: float | None = None,
    key: str | None = None,
    detail: str | None = None,
) -> str:
    """One member of a Cache-Status field. A hit says nothing about forwarding (RFC 9211 section 2.1)."""
    parts = [_name(node)]
    if hit:
        parts.append("hit")
    elif fwd is not None:
        parts.append(f"fwd={fwd}")
        if fwd_status is not None:
            parts.append(f"fwd-status={fwd_status}")
        if stored:
            parts.append("stored")
        if collapsed:
            parts.append("collapsed")
    if ttl is not None:
        parts.append(f"ttl={max(-_INTEGER_MAX, min(math.floor(ttl), _INTEGER_MAX))}")
    if key is not None:
        parts.append(f"key={_string(key)}")
    if detail is not None:
        parts.append(f"detail={_name(detail)}")
    return "; ".join(parts)


def append(fields: Fields, value: str) -> Fields:
    """These fields with our member last, so that the list reads from origin to client."""
    return fields.plus("Cache-Status", value)


def _name(text: str) -> str:
    """A token if the text is one, a string otherwise."""
    return text if _TOKEN.fullmatch(text) else _string(text)


def _string(text: str) -> str:
    printable = _UNPRINTABLE.sub("?", text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
