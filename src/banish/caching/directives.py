"""Cache-Control: the directives of a request or response, read so that damage never widens what is allowed.

Not here: targeted fields, which are Structured Fields (`targeted.py`); what the directives lead to
(`freshness.py`, `storing.py`, `reuse.py`).
Source: RFC 9111 sections 5.2 and 1.2.2 (delta-seconds), RFC 5861, RFC 8246.
Units: seconds.
Reading, where the RFC leaves a choice (sections 4.2.1 and 5.2):
  - names without case; token and quoted forms of an argument are the same;
  - a lifetime that is not a whole number, or with space around its "=", is 0: the response is stale;
  - of several lifetimes the shortest counts; damage in what only permits staleness is no permission;
  - a qualified no-cache or private whose list is not field names, or names a field that the stored response
    cannot be kept without, counts as unqualified;
  - flags count whatever argument they carry.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from banish.http.fields import Fields, split_list

SECONDS_MAX = 2**31
"""Larger numbers mean this one (RFC 9111 section 1.2.2)."""

_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
_ESCAPE = re.compile(r"\\(.)")

_FLAGS = frozenset(
    {
        *("no-store", "public", "must-revalidate", "proxy-revalidate", "must-understand", "no-transform"),
        *("immutable", "only-if-cached"),
    }
)
_LIFETIMES = frozenset({"max-age", "s-maxage"})
_WINDOWS = frozenset({"stale-while-revalidate", "stale-if-error"})
_QUALIFIED = frozenset({"no-cache", "private"})

_NEEDED = frozenset(
    {
        *("cache-control", "content-encoding", "content-length", "content-range", "content-type", "date"),
        *("etag", "expires", "last-modified", "vary"),
    }
)
"""Fields a stored response cannot be kept without."""


class Directives(msgspec.Struct, frozen=True, gc=False):
    """What a Cache-Control field asks for. An absent number is None.

    `no_cache` and `private` stand for the unqualified forms; the qualified ones list field names in lower
    case. `max_stale` is infinite when given without a value.
    """

    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    max_stale: float | None = None
    min_fresh: int | None = None
    no_store: bool = False
    no_cache: bool = False
    private: bool = False
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    no_transform: bool = False
    immutable: bool = False
    only_if_cached: bool = False
    no_cache_fields: tuple[str, ...] = ()
    private_fields: tuple[str, ...] = ()


NO_DIRECTIVES = Directives()


def parse_cache_control(values: Iterable[str]) -> Directives:
    """The directives of a Cache-Control field, one value a line."""
    given = tuple(values)
    return _remembered(given) if sum(map(len, given)) <= _REMEMBERED_LENGTH_MAX else _parse(given)


def request_directives(fields: Fields) -> Directives:
    """The directives of a request. Pragma: no-cache stands in where Cache-Control is absent.

    RFC 9111 section 5.4 deprecates Pragma; HTTP/1.0 clients that still reload with it mean it.
    """
    if "cache-control" in fields:
        return parse_cache_control(fields.get_all("cache-control"))
    if "pragma" in fields and any(member.lower() == "no-cache" for member in fields.members("pragma")):
        return Directives(no_cache=True)
    return NO_DIRECTIVES


def delta_seconds(text: str) -> int | None:
    """A whole number of seconds, at most SECONDS_MAX; None if it is anything else."""
    if _DIGITS.fullmatch(text) is None:
        return None
    digits = text.lstrip("0") or "0"
    return min(int(digits), SECONDS_MAX) if len(digits) <= 10 else SECONDS_MAX


def field_names(text: str) -> tuple[str, ...] | None:
    """The field names in a qualified directive, in lower case; None if they cannot be kept out one by one."""
    names = [name.strip(" \t").lower() for name in text.split(",")]
    names = [name for name in names if name]
    if not names or any(name in _NEEDED or _TOKEN.fullmatch(name) is None for name in names):
        return None
    return tuple(names)


def _parse(values: tuple[str, ...]) -> Directives:
    found: dict[str, Any] = {}
    for value in values:
        for member in split_list(value):
            name, equals, argument = member.partition("=")
            _read(found, name.lower(), argument if equals else None)
    for key in ("no_cache_fields", "private_fields"):
        if key in found:
            found[key] = tuple(found[key])
    return Directives(**found) if found else NO_DIRECTIVES


# A pure memo: sites and browsers send the same few values. Bounded in number and length, since clients choose
# them.
_remembered = lru_cache(maxsize=1024)(_parse)
_REMEMBERED_LENGTH_MAX = 256


def _read(found: dict[str, Any], spelled: str, argument: str | None) -> None:
    """Add one directive to those found."""
    name = spelled.rstrip(" \t")
    spaced = name != spelled or (argument is not None and argument[:1] in (" ", "\t"))
    text = None if argument is None else _unquoted(argument.strip(" \t"))
    seconds = None if text is None or spaced else delta_seconds(text)
    key = name.replace("-", "_")
    if name in _FLAGS:
        found[key] = True
    elif name in _LIFETIMES:
        found[key] = min(seconds or 0, found.get(key, SECONDS_MAX))
    elif name in _WINDOWS and seconds is not None:
        found[key] = min(seconds, found.get(key, SECONDS_MAX))
    elif name in _QUALIFIED:
        _read_qualified(found, key, None if spaced else text)
    elif name == "max-stale" and (argument is None or seconds is not None):
        allowed = float("inf") if seconds is None else float(seconds)
        found[key] = min(allowed, found.get(key, allowed))
    elif name == "min-fresh" and seconds is not None:
        found[key] = max(seconds, found.get(key, 0))


def _read_qualified(found: dict[str, Any], key: str, text: str | None) -> None:
    names = None if text is None else field_names(text)
    if names is None:
        found[key] = True
    else:
        found.setdefault(f"{key}_fields", {}).update(dict.fromkeys(names))


def _unquoted(text: str) -> str:
    """The content of a quoted string, or the text itself if it is not one."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return _ESCAPE.sub(r"\1", text[1:-1])
    return text
