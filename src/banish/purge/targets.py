"""Targets: what a purge names, in the spelling in which this edge applies it.

A purge is a batch of targets, each of one kind, within one site or every site. `matches` defines what a target
hits; the table of stamps (`stamps.py`) finds the same by looking up a response's own names.

Purges disregard the scheme: the *place* of a URL is the URL less `scheme://`, and a purge of a place means its
http and its https copy. Only a cache group stays with one origin, scheme included.

Not here: targets as callers write them (`given.py`); which URLs an unsafe request makes invalid
(`caching/invalidation.py`).
Source: RFC 9111 section 4.4 for `url`; RFC 9875 section 2 for `group`.
Invariant: two different (origin, group) pairs never give the same value, since an origin holds no space.
"""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import lru_cache

import msgspec

from banish.caching.vary import normal_form
from banish.purge.names import Names
from banish.purge.patterns import Pattern, fixed_prefix

COMPILED_MAX = 2048
"""Compiled patterns remembered: twice what a table of stamps may hold (`stamps.PATTERNS_MAX`)."""


class Kind(StrEnum):
    """What a target's value is."""

    URL = "url"
    """One place, with all its variants or with the one that given request fields select."""

    PREFIX = "prefix"
    """Every place that begins with this text: a host, a slash and maybe more."""

    HOST = "host"
    """One host, on the given port or on any; or `*.example.com`: every name below, at any depth."""

    TAG = "tag"
    """One tag that responses carry."""

    GROUP = "group"
    """One cache group of one origin."""

    PATTERN = "pattern"
    """Every URL that a glob or a regular expression matches."""

    EVERYTHING = "everything"
    """All that is stored."""


class Target(msgspec.Struct, frozen=True, gc=False, order=True, omit_defaults=True):
    """One thing that can be purged, in canonical spelling.

    A struct and not a named tuple: tuples of a subclass stay in the cyclic collector's reach for ever, and a table
    of stamps may hold a million of these.
    """

    kind: Kind
    site: str = ""
    """The site it is confined to; empty for every site."""

    value: str = ""
    """By kind: a place; the beginning of one; `host[:port]` or `*.host`; a tag; `origin group`; a pattern; empty."""

    boundary: bool = False
    """Of a prefix: whole segments only. `/blog` is then `/blog`, `/blog/x` and `/blog?x`, and not `/blogs`."""

    regex: bool = False
    """Of a pattern: an RE2 expression searched for in the URL; else a glob (`patterns.py`)."""

    headers: tuple[tuple[str, str], ...] = ()
    """Of a URL: only the variant that a request with these fields selects; lower-case names, sorted, with values in
    the normal form of `caching/vary.py`. Fields not named are absent from that request. Empty: all variants."""

    def __str__(self) -> str:
        scope = f" of {self.site}" if self.site else ""
        kind = "regex" if self.regex else self.kind.value
        segments = " (whole segments)" if self.boundary else ""
        variant = f" ({', '.join([f'{name}: {value}' for name, value in self.headers])})" if self.headers else ""
        return f"{kind} {self.value}".rstrip() + segments + variant + scope


# Making


def url_target(site: str, url: str, headers: Iterable[tuple[str, str]] = ()) -> Target:
    """All variants of one normalised URL or place, or the one that a request with these fields selects."""
    return Target(Kind.URL, site, place_of(url), headers=normal_headers(headers))


def prefix_target(site: str, prefix: str, *, boundary: bool = False) -> Target:
    """Every place that begins with `prefix`, a place with at least the slash after its host."""
    return Target(Kind.PREFIX, site, place_of(prefix), boundary=boundary)


def host_target(site: str, host: str) -> Target:
    """`host[:port]`, or `*.host` for all names below."""
    return Target(Kind.HOST, site, host)


def tag_target(site: str, tag: str) -> Target:
    """Every response that carries the tag."""
    return Target(Kind.TAG, site, tag)


def group_target(site: str, origin: str, group: str) -> Target:
    """Every response of `origin` (`scheme://host`) that is in the cache group."""
    return Target(Kind.GROUP, site, group_value(origin, group))


def pattern_target(site: str, pattern: str, *, regex: bool = False) -> Target:
    """Every URL that a glob or a regular expression matches."""
    return Target(Kind.PATTERN, site, pattern, regex=regex)


def everything_target(site: str = "") -> Target:
    """All that is stored for a site, or for every site."""
    return Target(Kind.EVERYTHING, site)


def place_of(url: str) -> str:
    """A URL less its scheme; a place is its own."""
    before, mark, after = url.partition("://")
    return after if mark and "/" not in before else url


def group_value(origin: str, group: str) -> str:
    """The value of a cache group's target."""
    return f"{origin} {group}"


def normal_headers(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Request fields as the targets that name variants have them: see `Target.headers`."""
    if headers == ():
        return ()
    joined: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return tuple(sorted((name, normal_form(name, value)) for name, value in joined.items()))


def wider(target: Target) -> Target:
    """The next wider target, for when this one cannot be held or understood (PURGE rule 7)."""
    if target.kind is Kind.URL and target.headers:
        return Target(Kind.URL, target.site, target.value)
    if target.kind is Kind.PATTERN and (prefix := fixed_prefix(target.value, regex=target.regex)) is not None:
        return Target(Kind.PREFIX, target.site, prefix)
    if target.kind in (Kind.URL, Kind.PREFIX):
        return Target(Kind.HOST, target.site, target.value.partition("/")[0])
    return Target(Kind.EVERYTHING, "" if target.kind is Kind.EVERYTHING else target.site)


# Matching


def matches(target: Target, names: Names) -> bool:
    """Whether a purge of `target` hits the response with these names. This is the definition.

    A pattern that cannot be compiled hits what the next wider target does.
    """
    if target.site and target.site != names.site:
        return False
    return _MATCHES[target.kind](target, names)


def _url_matches(target: Target, names: Names) -> bool:
    return names.place == target.value and (not target.headers or selects(target.headers, names))


def selects(headers: tuple[tuple[str, str], ...], names: Names) -> bool:
    """Whether a request with these fields, in normal form, and no others selects this variant."""
    sent = dict(headers)
    return tuple([sent.get(name) for name in names.vary]) == names.selecting


def _prefix_matches(target: Target, names: Names) -> bool:
    place = names.place
    return place.startswith(target.value) and (not target.boundary or at_boundary(place, len(target.value)))


def at_boundary(place: str, length: int) -> bool:
    """Whether a segment of `place` ends at `length`: so that `/blog` is no prefix of `/blogs`."""
    return len(place) == length or place[length] in "/?" or place[length - 1] == "/"


def _host_matches(target: Target, names: Names) -> bool:
    return target.value in host_values(names.host)


def host_values(host: str) -> Iterator[str]:
    """All values by which a target can name this host: with and without its port, and every wildcard above it."""
    yield host
    colon = host.rfind(":")
    if colon >= 0 and not host.endswith("]"):
        host = host[:colon]
        yield host
    if host[:1] != "[":
        dot = host.find(".")
        while dot >= 0:
            yield f"*{host[dot:]}"
            dot = host.find(".", dot + 1)


def _tag_matches(target: Target, names: Names) -> bool:
    return target.value in names.tags


def _group_matches(target: Target, names: Names) -> bool:
    origin, _, group = target.value.partition(" ")
    return group in names.groups and origin == names.origin


def _pattern_matches(target: Target, names: Names) -> bool:
    try:
        pattern = compiled(target.value, target.regex)
    except ValueError:
        return matches(wider(target), names)
    return pattern.hits(names.url, names.place)


def _everything_matches(target: Target, names: Names) -> bool:
    return True


_MATCHES: dict[str, Callable[[Target, Names], bool]] = {
    Kind.URL: _url_matches,
    Kind.PREFIX: _prefix_matches,
    Kind.HOST: _host_matches,
    Kind.TAG: _tag_matches,
    Kind.GROUP: _group_matches,
    Kind.PATTERN: _pattern_matches,
    Kind.EVERYTHING: _everything_matches,
}


# Compiling takes some 50 µs, and targets are plain data that travel and compare: so their patterns are kept here.
@lru_cache(maxsize=COMPILED_MAX)
def compiled(value: str, regex: bool) -> Pattern:
    """A pattern ready to be matched; raises ValueError if it cannot be."""
    return Pattern(value, regex=regex)
