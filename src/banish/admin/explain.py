"""Why is this URL answered as it is: the very functions that decide on requests, asked without a request.

Not here: the rules (`caching/`); how the answer looks on a terminal (`cli/explain.py`).
Units: seconds.
"""

from collections.abc import Iterable
from typing import Any

from banish.admin.subject import Subject
from banish.caching import reuse
from banish.caching.keys import cache_key
from banish.caching.stored import Metadata, age, ttl
from banish.errors import ClientError
from banish.http.fields import Fields
from banish.http.messages import RequestHead
from banish.http.targets import request_target
from banish.store.records import StoredResponse


def explain(subject: Subject, url: str, lines: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What a GET of `url` with these fields would meet. Raises ClientError if the URL cannot be requested."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise ClientError(400, "the URL must begin with http:// or https://")
    target = request_target("GET", url, None, scheme.lower())
    found: dict[str, Any] = {"url": target.url, "site": None, "stored": False, "variants": []}
    site = subject.sites.match(target.host)
    if site is None:
        return {**found, "answer": "refused", "why": f"no site answers the host {target.host}"}
    policy = site.policy(target.path)
    key = cache_key(site.key_name, target, policy)
    records = subject.store.lookup(key)
    head = RequestHead("GET", target.path_and_query, Fields.of([("Host", target.host), *lines]))
    now = subject.clock.now()
    soft = {at for at, record in enumerate(records) if record.soft}
    decision = reuse.decide(head, [record.meta for record in records], now, policy, soft_purged=soft)
    answer, why, chosen = _told(decision, now)
    if policy.bypass:
        why = "a rule of the site says bypass"
    found |= {
        "site": site.name,
        "key": key,
        "stored": bool(records),
        "answer": answer,
        "why": why,
        "bypass": policy.bypass,
        "hooks": site.config.hooks is not None,
        "variants": [_variant(record, now, chosen=record.meta is chosen) for record in records],
    }
    return found


def summary(record: StoredResponse, now: float) -> dict[str, Any]:
    """A stored response in a listing."""
    meta = record.meta
    return {
        "key": meta.key,
        "status": meta.status,
        "age_s": round(age(meta, now), 1),
        "ttl_s": round(ttl(meta, now), 1),
        "body_bytes": record.body.size,
        "vary": dict(zip(meta.vary, meta.selecting, strict=True)),
        "tags": list(meta.tags),
    }


def _variant(record: StoredResponse, now: float, *, chosen: bool) -> dict[str, Any]:
    meta = record.meta
    return {
        **summary(record, now),
        "chosen": chosen,
        "fresh": ttl(meta, now) > 0 and not record.soft,
        "lifetime_s": meta.lifetime,
        "lifetime_is_heuristic": meta.heuristic,
        "received_at": meta.received_at,
        "etag": meta.etag,
        "last_modified": meta.last_modified,
        "partial": meta.content_range is not None,
        "soft_purged": record.soft,
        "groups": list(meta.groups),
        "content_type": meta.fields.get("content-type"),
        "cache_control": meta.fields.get("cache-control"),
    }


def _told(decision: reuse.Decision, now: float) -> tuple[str, str, Metadata | None]:
    """A decision in words: what would be done, why, and with which stored response."""
    match decision:
        case reuse.Hit(meta=meta):
            return "hit", "a stored response matches and may be used as it is", meta
        case reuse.Stale(meta=meta, window=window):
            why = f"stale-while-revalidate ({window:g} s): served at once, the origin is asked behind it"
            return "stale", why, meta
        case reuse.Validate(meta=meta, reason=reason):
            asked = reason is reuse.Forwarded.REQUEST
            because = "the request's Cache-Control asks for that" if asked else _why_stale(meta, now)
            return "revalidate", f"the origin is asked whether it still holds: {because}", meta
        case reuse.Unsatisfiable():
            return "504", "only-if-cached, and nothing stored will do", None
        case reuse.Forward(reason=reason):
            return "forward", _WHY_FORWARDED[reason], None


def _why_stale(meta: Metadata, now: float) -> str:
    if meta.directives.no_cache:
        return "it says no-cache"
    past_s = -ttl(meta, now)
    return f"it has been stale for {past_s:.1f} s" if past_s >= 0 else "it was purged, softly"


_WHY_FORWARDED = {
    reuse.Forwarded.BYPASS: "the request carries something that no cache key holds",
    reuse.Forwarded.METHOD: "no stored response answers this method",
    reuse.Forwarded.URI_MISS: "nothing is stored for this URL",
    reuse.Forwarded.VARY_MISS: "responses are stored, but for other values of the fields they vary on",
    reuse.Forwarded.MISS: "nothing stored will do",
    reuse.Forwarded.REQUEST: "the request's own fields ask for the origin",
    reuse.Forwarded.STALE: "what is stored is stale",
    reuse.Forwarded.PARTIAL: "only a part is stored, and more is asked for",
}
