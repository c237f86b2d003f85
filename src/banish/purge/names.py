"""Names: everything that a stored response can be purged by.

A purge names targets, a stored response has names, and `targets.matches` says whether one hits the other. The
names are derived from what is stored anyway, so nothing can be stored that purges would not find.

Not here: what a purge names (`targets.py`); where tags and groups come from (`caching/tags.py`); cache
keys (`caching/keys.py`).
Invariant: `place` and `origin` are those of the cache key's URL, in its normalised spelling.
"""

import msgspec

from banish.caching.stored import Metadata


class Names(msgspec.Struct, frozen=True, gc=False):
    """What one stored response can be purged by, within its site."""

    site: str
    url: str
    """The URL it is stored under, scheme and all, as in the cache key."""

    tags: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    """Its cache groups: each names it only together with its origin (RFC 9875 section 2)."""

    vary: tuple[str, ...] = ()
    selecting: tuple[str | None, ...] = ()
    """Names and normal forms of the request fields that select it, as in its metadata."""

    @property
    def place(self) -> str:
        """The URL less its scheme: purges by URL, prefix and host mean the http and the https copy alike."""
        return self.url.partition("://")[2]

    @property
    def host(self) -> str:
        """The host, with its port if it is not the scheme's own."""
        return self.place.partition("/")[0]

    @property
    def origin(self) -> str:
        """Scheme and host (RFC 6454)."""
        scheme, mark, place = self.url.partition("://")
        return scheme + mark + place.partition("/")[0]


def names_of(meta: Metadata) -> Names:
    """The names of what is stored with this metadata; site and URL are those of its key."""
    # `split_key` in two steps: records are checked anew after each purge, and it is a quarter of the price.
    part, _, url = meta.key.rpartition(" ")
    site, mark, _ = part.rpartition("#")
    return Names(site if mark else part, url, meta.tags, meta.groups, meta.vary, meta.selecting)
