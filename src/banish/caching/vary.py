"""Variants: which request fields select among the responses stored for one URL, and when two values match.

Not here: the cache key of a URL (`keys.py`).
Source: RFC 9111 section 4.1; RFC 9110 sections 12.5.3 to 12.5.5.
Invariant: two requests whose values differ in meaning never get equal normal forms. Values are normalised
only in ways that the field's own definition calls equivalent: white space, splitting over lines, letter case
of codings and language ranges, and the order of members of one weight.
"""

import re
from functools import lru_cache

from banish.caching.policy import CachePolicy
from banish.caching.stored import Metadata
from banish.http.fields import Fields, split_list

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
_WEIGHT = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)

_WRITTEN_BY_PROXIES = frozenset({"forwarded", "via", "x-forwarded-for"})
_WEIGHTED = frozenset({"accept-encoding", "accept-language"})


def vary_names(fields: Fields, policy: CachePolicy) -> tuple[str, ...] | None:
    """The request fields that select this response, sorted; None if no request matches: `*`, damage, or a field
    that proxies write anew for each client, ourselves included, so that what the client sent selects nothing.
    """
    names = set(policy.vary_on)
    for member in fields.members("vary"):
        if member == "*" or _TOKEN.fullmatch(member) is None or member.lower() in _WRITTEN_BY_PROXIES:
            return None
        names.add(member.lower())
    names.difference_update(policy.vary_ignore)
    if policy.ignore_cookies:
        names.discard("cookie")
    return tuple(sorted(names))


def selecting_values(names: tuple[str, ...], request_fields: Fields, policy: CachePolicy) -> tuple[str | None, ...]:
    """The normal form of each of the named request fields; None where absent."""
    return tuple([_selecting_value(name, request_fields) for name in names])


def matches(meta: Metadata, request_fields: Fields, policy: CachePolicy) -> bool:
    """True if the stored response was selected by the same values as this request gives."""
    return not meta.vary or selecting_values(meta.vary, request_fields, policy) == meta.selecting


def _selecting_value(name: str, request_fields: Fields) -> str | None:
    value = request_fields.get(name)
    return None if value is None else normal_form(name, value)


def normal_form(name: str, value: str) -> str:
    """The form in which values of this field are compared."""
    return _remembered(name, value) if len(value) <= _REMEMBERED_LENGTH_MAX else _normal_form(name, value)


def _normal_form(name: str, value: str) -> str:
    if name in _WEIGHTED:
        weighted = _weighted_form(name, value)
        if weighted is not None:
            return weighted
    if '"' in value:  # white space in a quoted string is content
        return value.strip(" \t")
    return ",".join([member.strip(" \t") for member in value.split(",")])


# A pure memo: browsers of one make send the same few values. Bounded in number and length, since clients
# choose them.
_remembered = lru_cache(maxsize=1024)(_normal_form)
_REMEMBERED_LENGTH_MAX = 256


def _weighted_form(name: str, value: str) -> str | None:
    """Members by falling weight, then by name; None if damaged, and then compared as it stands."""
    members: list[tuple[float, str]] = []
    for member in split_list(value):
        choice, semicolon, parameter = member.partition(";")
        choice = choice.rstrip(" \t").lower()
        weight = _weight(parameter) if semicolon else 1.0
        if weight is None or _TOKEN.fullmatch(choice) is None:
            return None
        if name == "accept-encoding" and choice in ("x-gzip", "x-compress"):
            choice = choice[2:]  # RFC 9110 sections 8.4.1.1 and 8.4.1.3: to be considered equivalent
        members.append((-weight, choice))
    return ",".join(f"{choice};q={-weight:g}" if weight != -1.0 else choice for weight, choice in sorted(members))


def _weight(parameter: str) -> float | None:
    key, _, text = parameter.strip(" \t").partition("=")
    return float(text) if key in ("q", "Q") and _WEIGHT.fullmatch(text) else None
