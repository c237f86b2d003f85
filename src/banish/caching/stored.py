"""Stored responses, as the rules see them: everything needed to decide on reuse, without the body.

Not here: bodies and where they are kept (`store/`); how the values come about (`storing.py`).
Source: RFC 9111 sections 3 and 4.2.3.
Units: moments are seconds since the epoch, durations seconds.
Invariant: for one stored response, `age` never falls and `ttl` never rises as `now` rises.
"""

import msgspec

from banish.caching.directives import NO_DIRECTIVES, Directives
from banish.http.fields import Fields


class Metadata(msgspec.Struct, frozen=True, gc=False):
    """A stored response without its body.

    `fields` is what may be served: end-to-end, without Age and without what a qualified no-cache or private
    names. `initial_age` is the corrected age at `received_at`. `directives` are the effective ones: those of
    the targeted field, if one applied. `content_range` is (first, last, total) of a stored part, positions
    inclusive, total None if unknown.
    """

    key: str
    status: int
    reason: str
    fields: Fields
    requested_at: float
    received_at: float
    date: float
    initial_age: float
    lifetime: float
    heuristic: bool = False
    directives: Directives = NO_DIRECTIVES
    vary: tuple[str, ...] = ()
    selecting: tuple[str | None, ...] = ()
    etag: str | None = None
    last_modified: str | None = None
    content_range: tuple[int, int, int | None] | None = None
    request_had_authorization: bool = False
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def partial(self) -> bool:
        """True for a stored 206."""
        return self.content_range is not None


def age(meta: Metadata, now: float) -> float:
    """current_age of RFC 9111 section 4.2.3. A clock that was set back does not make a response younger."""
    return meta.initial_age + max(0.0, now - meta.received_at)


def ttl(meta: Metadata, now: float) -> float:
    """Freshness left; negative once stale."""
    return meta.lifetime - age(meta, now)
