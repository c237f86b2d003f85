"""Targets: what a purge names, and what a stored response can be named by.

A target is equal to another only if kind, site and value are: purges never reach across sites. Each stored
response carries the targets it can be purged by; a purge is a batch of targets (`stamps.py`).

Not here: which targets a response or an unsafe request names (`caching/invalidation.py`, `caching/tags.py`).
Source: RFC 9111 section 4.4 for `url`; RFC 9875 section 2 for `group`, which is scoped to one origin.
Invariant: two different (origin, group) pairs never give the same value, since an origin holds no space.
"""

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a target's value is."""

    URL = "url"
    """One normalised absolute URL, with all its variants."""

    GROUP = "group"
    """One cache group of one origin."""


class Target(msgspec.Struct, frozen=True, gc=False, order=True):
    """One thing that can be purged: `value` of the given kind, within one site.

    A struct and not a named tuple: tuples of a subclass stay in the cyclic collector's reach for ever, and a
    million stored responses carry at least one target each.
    """

    kind: Kind
    site: str
    value: str


def url_target(site: str, url: str) -> Target:
    """The target that names all variants of one URL. `url` is normalised (`http/targets.py`)."""
    return Target(Kind.URL, site, url)


def group_target(site: str, origin: str, group: str) -> Target:
    """The target that names one cache group of `origin` (`scheme://host`)."""
    return Target(Kind.GROUP, site, f"{origin} {group}")
