"""Why is this URL answered as it is: the very functions that decide on requests, asked without a request.

Of what a purge removed it tells which purge that was, who asked for it, when and why.

Not here: the rules (`caching/`); how the answer looks on a terminal (`cli/explain.py`).
Units: seconds.
"""

from collections.abc import Callable, Iterable

import msgspec

from banish.admin.purge_forms import TargetForm, form_of
from banish.admin.subject import Subject
from banish.caching import reuse
from banish.caching.keys import cache_key
from banish.caching.stored import Metadata, age, ttl
from banish.edge.receipts import Purge
from banish.errors import ClientError
from banish.http.fields import Fields
from banish.http.messages import RequestHead
from banish.http.targets import request_target
from banish.purge.records import RecordKind
from banish.purge.stamps import Mode
from banish.store.records import StoredResponse

TARGETS_SHOWN = 5
"""Targets of a purge that are told here; /purges/{id} tells all."""


class PurgedBy(msgspec.Struct, frozen=True, kw_only=True):
    """The purge that a stored response met with."""

    index: int
    """Its apply index on this edge."""
    id: str | None = None
    """None, like all that follows: the log of purges does not go back that far."""
    kind: RecordKind | None = None
    mode: Mode | None = None
    at: float | None = None
    actor: str = ""
    source: str = ""
    reason: str = ""
    targets: tuple[TargetForm, ...] = ()
    """The first of them."""
    targets_in_all: int = 0


class StoredSummary(msgspec.Struct, kw_only=True):
    """A stored response in a listing."""

    key: str
    status: int
    age_s: float
    ttl_s: float
    body_bytes: int
    vary: dict[str, str | None]
    tags: tuple[str, ...]


class Variant(StoredSummary, kw_only=True):
    """A stored response of the URL that is asked about."""

    chosen: bool
    fresh: bool
    lifetime_s: float
    lifetime_is_heuristic: bool
    received_at: float
    etag: str | None
    last_modified: str | None
    partial: bool
    soft_purged: bool
    soft_purged_by: PurgedBy | None
    groups: tuple[str, ...]
    content_type: str | None
    cache_control: str | None


class ObjectPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of stored responses."""

    objects: list[StoredSummary]
    stored: int
    """How many there are in all."""
    next: int | None
    """Where the following page begins."""


class Explained(msgspec.Struct, kw_only=True):
    """What a GET would meet."""

    url: str
    site: str | None = None
    key: str | None = None
    stored: bool = False
    answer: str
    """`hit`, `stale`, `revalidate`, `forward`, `504` or `refused`."""
    why: str
    bypass: bool = False
    hooks: bool = False
    """The site has hooks. They were not run."""
    purged_by: PurgedBy | None = None
    """What removed what was stored, if that was a purge not long ago."""
    passing: bool = False
    """The log of purges cannot be written: whatever is stored, the origin is asked."""
    variants: list[Variant] = []


async def explain(
    subject: Subject, url: str, lines: Iterable[tuple[str, str]], *, covers: Callable[[str], bool] = lambda site: True
) -> Explained:
    """What a GET of `url` with these fields would meet. Raises ClientError if the URL cannot be requested, or is of a
    site that the caller's token does not cover.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise ClientError(400, "the URL must begin with http:// or https://")
    target = request_target("GET", url, None, scheme.lower())
    site = subject.sites.match(target.host)
    if site is None:
        return Explained(url=target.url, answer="refused", why=f"no site answers the host {target.host}")
    if not covers(site.name):
        raise ClientError(403, f'this token is not for the site "{site.name}"')
    policy = site.policy(target.path)
    key = cache_key(site.key_name, target, policy)
    records = await _found(subject, key)
    head = RequestHead("GET", target.path_and_query, Fields.of([("Host", target.host), *lines]))
    now = subject.clock.now()
    soft = {at for at, record in enumerate(records) if record.soft}
    decision = reuse.decide(head, [record.meta for record in records], now, policy, soft_purged=soft)
    answer, why, chosen = _told(decision, now)
    if policy.bypass:
        why = "a rule of the site says bypass"
    if subject.passing:
        answer, why, chosen = "forward", "the log of purges cannot be written, so nothing stored is trusted", None
    grave = subject.store.graves.find(key, site.name, subject.clock.monotonic()) if chosen is None else None
    return Explained(
        url=target.url,
        site=site.name,
        key=key,
        stored=bool(records),
        answer=answer,
        why=why,
        bypass=policy.bypass,
        hooks=site.config.hooks is not None,
        passing=subject.passing,
        purged_by=await purged_by(subject, grave.index) if grave is not None else None,
        variants=[await _variant(subject, record, now, chosen=record.meta is chosen) for record in records],
    )


async def _found(subject: Subject, key: str) -> tuple[StoredResponse, ...]:
    """What a request would find: what the disk holds is brought to memory for it, as it would be for a request."""
    records = subject.store.lookup(key)
    if not records and subject.store.may_load(key):
        await subject.store.load(key)
        records = subject.store.lookup(key)
    return records


async def purged_by(subject: Subject, index: int) -> PurgedBy:
    """What the log still knows of the purge with this apply index."""
    id_ = subject.purger.why(index)
    if id_ is None:
        return PurgedBy(index=index)
    try:
        purge: Purge = (await subject.purger.get(id_)).purge
    except ClientError:  # gone from the log since
        return PurgedBy(index=index)
    return PurgedBy(
        index=index,
        id=purge.id,
        kind=purge.kind,
        mode=purge.mode,
        at=purge.at,
        actor=purge.actor,
        source=purge.source,
        reason=purge.reason,
        targets=tuple(form_of(given) for given in purge.targets[:TARGETS_SHOWN]),
        targets_in_all=len(purge.targets),
    )


def summary(record: StoredResponse, now: float) -> StoredSummary:
    """A stored response in a listing."""
    meta = record.meta
    return StoredSummary(
        key=meta.key,
        status=meta.status,
        age_s=round(age(meta, now), 1),
        ttl_s=round(ttl(meta, now), 1),
        body_bytes=record.body.size,
        vary=dict(zip(meta.vary, meta.selecting, strict=True)),
        tags=meta.tags,
    )


async def _variant(subject: Subject, record: StoredResponse, now: float, *, chosen: bool) -> Variant:
    meta = record.meta
    return Variant(
        **msgspec.structs.asdict(summary(record, now)),
        chosen=chosen,
        fresh=ttl(meta, now) > 0 and not record.soft,
        lifetime_s=meta.lifetime,
        lifetime_is_heuristic=meta.heuristic,
        received_at=meta.received_at,
        etag=meta.etag,
        last_modified=meta.last_modified,
        partial=meta.content_range is not None,
        soft_purged=record.soft,
        soft_purged_by=await purged_by(subject, record.soft_at) if record.soft else None,
        groups=meta.groups,
        content_type=meta.fields.get("content-type"),
        cache_control=meta.fields.get("cache-control"),
    )


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
