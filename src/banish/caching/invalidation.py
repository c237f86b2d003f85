"""Invalidation: what a successful change at the origin makes unusable in the cache.

Not here: how it is carried out, by stamps (`purge/`).
Source: RFC 9111 section 4.4; RFC 9875 section 3 for Cache-Group-Invalidation.
Invariant: a response can invalidate nothing outside its own origin; otherwise one site could empty another's
cache.
"""

from collections.abc import Iterable

from banish.caching.stored import Metadata
from banish.caching.tags import groups
from banish.http.messages import SAFE_METHODS, ResponseHead
from banish.http.targets import Target, resolve


def is_unsafe(method: str) -> bool:
    """True if a request may have changed something: any method not known to be safe."""
    return method not in SAFE_METHODS


def invalidated(method: str, target: Target, response: ResponseHead) -> tuple[str, ...]:
    """The URLs that this response makes unusable: the target, and Location and Content-Location beside it."""
    if not is_unsafe(method) or not 200 <= response.status < 400:
        return ()
    urls = {target.url: None}
    for name in ("location", "content-location"):
        reference = response.fields.get(name)
        found = None if reference is None else resolve(target, reference)
        if found is not None and found.origin == target.origin:
            urls[found.url] = None
    return tuple(urls)


def invalidated_groups(method: str, response: ResponseHead, stored: Iterable[Metadata] = ()) -> tuple[str, ...]:
    """The cache groups, of the response's origin, that this response makes unusable.

    Cache-Group-Invalidation counts on responses to unsafe methods only. `stored` are the responses that
    `invalidated` hits: those who share a group with them go too (RFC 9875 section 2.2), one step, no further.
    """
    if not is_unsafe(method):
        return ()
    named = dict.fromkeys(groups(response.fields, "cache-group-invalidation"))
    if 200 <= response.status < 400:
        for meta in stored:
            named.update(dict.fromkeys(meta.groups))
    return tuple(named)
