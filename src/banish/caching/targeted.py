"""Targeted cache control: which field says how a response may be cached.

RFC 9213 lets an origin speak to one class of caches in a field of their own, such as CDN-Cache-Control. The
first field of the target list that is present, valid and not empty replaces Cache-Control and Expires.
Surrogate-Control (W3C note "Edge Architecture Specification") is its elder: same idea, Cache-Control syntax.

Not here: what Cache-Control syntax means (`directives.py`).
Source: RFC 9213 sections 2.1 and 2.2; RFC 9651 for the syntax.
Our reading: a member whose value has the wrong type is as if absent, and a field with nothing left is empty;
so `max-age="60"` beside Cache-Control: no-store does not lift the latter.
"""

import re
from typing import Any, NamedTuple

import http_sf

from banish.caching.directives import NO_DIRECTIVES, SECONDS_MAX, Directives, field_names, parse_cache_control
from banish.caching.policy import CachePolicy
from banish.http.fields import Fields, split_list

_SECONDS = {
    "max-age": "max_age",
    "s-maxage": "s_maxage",
    "stale-while-revalidate": "stale_while_revalidate",
    "stale-if-error": "stale_if_error",
}
_FLAGS = {
    "no-store": "no_store",
    "public": "public",
    "must-revalidate": "must_revalidate",
    "proxy-revalidate": "proxy_revalidate",
    "must-understand": "must_understand",
    "no-transform": "no_transform",
    "immutable": "immutable",
}
_QUALIFIED = {"no-cache": "no_cache", "private": "private"}

# max-age=600+30: fresh for 600 s, and for 30 s more where the origin cannot be asked
_SURROGATE_MAX_AGE = re.compile(r"max-age=([0-9]+)(?:\+([0-9]+))?", re.ASCII | re.IGNORECASE)


class Control(NamedTuple):
    """The directives that apply to a response, and the field they came from (None: Cache-Control).

    Where `source` names a field, Expires is ignored along with Cache-Control.
    """

    directives: Directives
    source: str | None = None


def control(fields: Fields, policy: CachePolicy) -> Control:
    """The cache control that applies to a response with these fields."""
    for name in policy.targeted_fields:
        if name in fields:
            found = parse_targeted(fields.get(name) or "")
            if found is not None:
                return Control(found, name)
    if policy.surrogate_control and "surrogate-control" in fields:
        found = _parse_surrogate(fields.get_all("surrogate-control"))
        if found is not None:
            return Control(found, "surrogate-control")
    if "cache-control" in fields:
        return Control(parse_cache_control(fields.get_all("cache-control")))
    return Control(NO_DIRECTIVES)


def parse_targeted(value: str) -> Directives | None:
    """The directives of a targeted field; None if it is invalid or empty and must be ignored."""
    try:
        members: Any = http_sf.parse(value.encode("latin-1"), tltype="dictionary")
    except http_sf.StructuredFieldError:
        return None
    found: dict[str, Any] = {}
    usable = False
    for name, (member, _parameters) in members.items():
        usable |= _read(found, name, member)
    return Directives(**found) if usable else None


def _read(found: dict[str, Any], name: str, member: object) -> bool:
    """Add one member to the directives found; False if its type is wrong. Unknown names are usable."""
    if name in _SECONDS:
        if not isinstance(member, int) or isinstance(member, bool):
            return False
        found[_SECONDS[name]] = min(max(member, 0), SECONDS_MAX)
    elif name in _FLAGS:
        if not isinstance(member, bool):
            return False
        found[_FLAGS[name]] = member
    elif name in _QUALIFIED:
        return _read_qualified(found, _QUALIFIED[name], member)
    return True


def _read_qualified(found: dict[str, Any], key: str, member: object) -> bool:
    if isinstance(member, bool):
        found[key] = member
        return True
    if not isinstance(member, str | http_sf.Token):
        return False
    names = field_names(str(member))
    if names is None:
        found[key] = True
    else:
        found[f"{key}_fields"] = names
    return True


def _parse_surrogate(values: list[str]) -> Directives | None:
    """Surrogate-Control; None if it says nothing about caching (it may only announce a content language).

    Directives addressed to another surrogate by a `;name` parameter are left alone.
    """
    kept: list[str] = []
    extension = None
    for member in [member for value in values for member in split_list(value)]:
        directive, addressed, _ = member.partition(";")
        directive = directive.strip(" \t")
        found = _SURROGATE_MAX_AGE.fullmatch(directive)
        if addressed:
            continue
        if found is not None:
            kept.append(f"max-age={found[1]}")
            extension = found[2] or extension
        elif directive.lower().partition("=")[0] in ("max-age", "no-store", "no-cache", "private"):
            kept.append(directive)
    if not kept:
        return None
    if extension is not None:
        kept.append(f"stale-if-error={extension}")
    return parse_cache_control(kept)
