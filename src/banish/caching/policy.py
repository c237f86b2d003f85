"""Policy: what the operator of a site decides about caching, beside what HTTP says.

Not here: how these are written in the configuration and checked (`edge/`).
Units: seconds, last in each name.
Invariant: with the defaults, the rules do what RFC 9111 requires of a shared cache. Nothing here lets a
response be stored that says `no-store` or `private`, or that belongs to an Authorization.
"""

import msgspec

DEFAULT_TAG_FIELDS = ("cache-tag", "surrogate-key", "xkey", "x-cache-tags", "x-magento-tags")


class CachePolicy(msgspec.Struct, frozen=True):
    """The caching settings of one site, or of a rule within it."""

    bypass: bool = False
    """Neither store nor reuse."""

    store_set_cookie: bool = False
    """Store responses that carry Set-Cookie, cookie and all."""

    ignore_cookies: bool = False
    """Cookies have no say: Cookie selects no variant, and Set-Cookie is left out of what is stored."""

    targeted_fields: tuple[str, ...] = ("cdn-cache-control",)
    """RFC 9213 fields to obey in place of Cache-Control; the first that is present and valid applies."""

    surrogate_control: bool = True
    """Obey Surrogate-Control where no targeted field applies."""

    override_ttl_s: float | None = None
    """Freshness lifetime instead of the one the response gives."""

    default_ttl_s: float | None = None
    """Freshness lifetime of responses that give none and may be stored all the same."""

    heuristic_fraction: float = 0.1
    """Without an explicit lifetime: this share of the time since Last-Modified (RFC 9111 section 4.2.2)."""

    heuristic_max_s: float = 86400.0
    """Upper bound of a heuristic lifetime."""

    stale_when_unreachable_s: float = 86400.0
    """How long past freshness a response may be served when the origin cannot be reached and nothing
    forbids it (RFC 9111 section 4.2.4)."""

    stale_while_revalidate_s: float | None = None
    """Window for responses that give none (RFC 5861 section 3)."""

    stale_if_error_s: float | None = None
    """Window for responses that give none (RFC 5861 section 4)."""

    tag_fields: tuple[str, ...] = DEFAULT_TAG_FIELDS
    """Response fields that carry tags to purge by."""

    vary_on: tuple[str, ...] = ()
    """Request fields that select a variant even where Vary does not say so. Lower case."""

    vary_ignore: tuple[str, ...] = ()
    """Request fields that select nothing even where Vary says so. Lower case."""

    query_sort: bool = False
    """Sort the query's parameters by name in the cache key."""

    query_drop: tuple[str, ...] = ()
    """Leave parameters whose names match these globs out of the cache key."""


DEFAULT_POLICY = CachePolicy()
