"""Cache keys: the name under which the responses of one URL are stored, and what must not go around it.

Not here: variants of a URL (`vary.py`); normalisation of a request target (`http/targets.py`).
Source: RFC 9111 section 2: the primary key is the target URI; the method is always GET here.
Invariant: distinct (site, URL) never share a key. A URL holds no space, so the last space of a key ends the
site's part, which is the site's name, `#`, a digest of the site's key rules (`edge/sites.py`), and what hooks add
to the key, each part behind a `+`. A name may hold `#` or `+`; digest and additions do not hold `#`.
"""

from typing import NamedTuple

import msgspec

from banish.caching.policy import CachePolicy
from banish.http.messages import RequestHead
from banish.http.targets import Target, normalise_query


def cache_key(site: str, target: Target, policy: CachePolicy) -> str:
    """The printable key of a target within a site."""
    return f"{site} {key_target(target, policy).url}"


class KeyParts(NamedTuple):
    """A cache key taken apart. `rules` is empty in a key without a digest; `extra` begins with its `+`."""

    site: str
    rules: str
    extra: str
    url: str


def split_key(key: str) -> KeyParts:
    """The parts that a cache key was made of."""
    part, _, url = key.rpartition(" ")
    site, mark, rules = part.rpartition("#")
    if not mark:
        return KeyParts(part, "", "", url)
    rules, plus, extra = rules.partition("+")
    return KeyParts(site, rules, plus + extra, url)


def key_target(target: Target, policy: CachePolicy) -> Target:
    """The target less what the policy keeps out of keys; purges by URL go through this too."""
    if target.query is None or not (policy.query_sort or policy.query_drop):
        return target
    query = normalise_query(target.query, sort=policy.query_sort, drop=policy.query_drop)
    return msgspec.structs.replace(target, query=query)


_OVERRIDES = frozenset({"x-http-method", "x-http-method-override", "x-method-override"})
"""Request fields that make frameworks act on another method than the request line names."""


def has_unkeyed_input(request: RequestHead) -> bool:
    """True if a GET or HEAD carries something outside key and Vary that may well change the answer.

    Content in a GET and method overrides are read by some origins and by no cache key: what they bring about
    must not be served to others, nor may they be answered from what others brought about.
    """
    fields = request.fields
    if "transfer-encoding" in fields or (fields.get("content-length") or "0") != "0":
        return True
    return not _OVERRIDES.isdisjoint(fields.names)
