"""Tags and cache groups: the names under which stored responses are purged together.

Tags are what CMSs already send (Cache-Tag, Surrogate-Key, xkey …). Cache groups are their standard: RFC 9875,
a List of Strings, scoped to one origin.

Not here: what a purge by tag does (`purge/`).
Invariant: nothing is dropped silently. A response with more or longer tags than can be indexed is not stored
(`storing.py`), since a purge would miss it.
"""

from typing import Any

import http_sf

from banish.caching.policy import CachePolicy
from banish.http.fields import Fields

TAGS_MAX = 1000
"""Tags a response may carry. Fastly and Cloudflare bound the field instead, to 16 KiB: about as many."""

TAG_BYTES_MAX = 1024
"""Length of one tag: Cloudflare's and Fastly's limit."""

GROUPS_MAX = 128
"""Cache groups a response may carry; RFC 9875 section 2 asks for at least 32."""

_COMMAS_ONLY = frozenset({"cache-tag", "x-magento-tags"})
_SPACES_ONLY = frozenset({"surrogate-key"})


def tags(fields: Fields, policy: CachePolicy) -> tuple[str, ...]:
    """All tags of a response, each once, in order of appearance."""
    found: dict[str, None] = {}
    for name in policy.tag_fields:
        if name in fields:
            for value in fields.get_all(name):
                found.update(dict.fromkeys(_split(name, value)))
    return tuple(found)


def _split(name: str, value: str) -> list[str]:
    """The tags in one line: commas for Cache-Tag and X-Magento-Tags, spaces for Surrogate-Key.

    xkey, X-Cache-Tags and fields of the operator's own are written either way in the wild: both separate.
    """
    if name in _COMMAS_ONLY:
        return [tag for part in value.split(",") if (tag := part.strip(" \t"))]
    if name in _SPACES_ONLY:
        return value.split()
    return value.replace(",", " ").split()


def within_limits(names: tuple[str, ...]) -> bool:
    """True if all of these tags can be indexed."""
    return len(names) <= TAGS_MAX and all(len(name) <= TAG_BYTES_MAX for name in names)


def groups(fields: Fields, name: str = "cache-groups") -> tuple[str, ...]:
    """The members of Cache-Groups or Cache-Group-Invalidation; none if the field is not a List of Strings."""
    if name not in fields:
        return ()
    try:
        members: Any = http_sf.parse((fields.get(name) or "").encode("latin-1"), tltype="list")
    except http_sf.StructuredFieldError:
        return ()
    if not all(type(member) is str for member, _parameters in members):
        return ()
    return tuple(dict.fromkeys(member for member, _parameters in members))
