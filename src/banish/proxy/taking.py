"""Taking a response: what becomes of what the origin sent, once its head is known.

    what is stale at a parent, for want of anything else ──▶ passed on; nothing is stored or renewed
    an error that a stored response may hide ──▶ that response, stale; nothing is stored
    a 304 about a stored response ──▶ that response, renewed
    anything else ──▶ purges what it makes invalid; brings up to date (HEAD); is stored, or only passed on

Everything here happens in one go, without awaiting, so between a look at the stamps and what follows from it no
purge can come. `fence` is the apply index at which the request was sent.

Not here: the exchange and the body (`fetches.py`); the rules (`caching/`).
Source: RFC 9111 sections 3, 4.3.4, 4.3.5 and 4.4; RFC 5861 section 4; PURGE rules 10 and 13.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from banish.caching.invalidation import invalidated, invalidated_groups
from banish.caching.keys import cache_key, key_target
from banish.caching.policy import CachePolicy
from banish.caching.reuse import ERROR_STATUSES, Leeway, stale_on_error
from banish.caching.stored import Metadata
from banish.caching.storing import StoreReason, decide_keeping, decide_storing, make_metadata
from banish.caching.tags import groups, tags, within_limits
from banish.caching.validation import freshen, select_validated, update_from_head
from banish.clock import Clock
from banish.edge.runtime import SiteRuntime
from banish.http.dates import format_http_date
from banish.http.framing import FramingKind
from banish.http.hops import end_to_end, via
from banish.http.messages import ResponseHead
from banish.http.targets import resolve
from banish.mesh.tiers import FIELD_LOWER
from banish.origin.client import OriginResponse, Tunnel
from banish.proxy.plan import Plan
from banish.purge.names import Names
from banish.purge.stamps import PurgeTable, Verdict
from banish.purge.targets import Target, group_target, url_target
from banish.store.bodies import Body, BodyReader
from banish.store.records import StoredResponse
from banish.store.tiers import Store


@dataclass(slots=True)
class Fetched:
    """What became of a response.

    `head`, `body` and its `reader` are for the one who asked. `record` may answer others as well; its body may still be
    filling. `hides_error` says that `record` is an old one standing in for the error status the origin gave.
    """

    status: int
    head: ResponseHead
    reason: StoreReason
    body: Body | None = None
    reader: BodyReader | None = None
    length: int | None = None
    record: StoredResponse | None = None
    revalidated: bool = False
    hides_error: bool = False
    tunnel: Tunnel | None = None

    def drop(self) -> None:
        """The one who asked has gone: want no more of it."""
        if self.reader is not None:
            self.reader.close()
        if self.tunnel is not None:
            self.tunnel.close()


@dataclass(slots=True)
class _Shaped:
    """A response's head as the site's hook left it, and what the hook decided."""

    head: ResponseHead
    policy: CachePolicy
    tags: tuple[str, ...] = ()
    may_store: bool = True

    def tagged(self, meta: Metadata) -> Metadata:
        """With the tags that the hook adds."""
        tags = tuple(dict.fromkeys((*meta.tags, *self.tags)))
        return msgspec.structs.replace(meta, tags=tags) if self.tags else meta


class Taker:
    """Takes responses for one edge. `invalidate` purges what a response has made invalid, hard; it gives the
    apply index of that. `site_of` gives the site that a host belongs to now, after reloads."""

    def __init__(
        self,
        *,
        store: Store,
        stamps: PurgeTable,
        clock: Clock,
        node: str,
        invalidate: Callable[[Sequence[Target]], int],
        site_of: Callable[[str], SiteRuntime | None] = lambda host: None,
    ) -> None:
        self._store = store
        self._stamps = stamps
        self._clock = clock
        self._node = node
        self._purge = invalidate
        self._site_of = site_of

    def received(self, response: OriginResponse) -> ResponseHead:
        """The origin's head as it is passed on: end to end, dated, with our trace."""
        fields = end_to_end(response.head.fields, also=(FIELD_LOWER,))
        if "date" not in fields:
            fields = fields.plus("Date", format_http_date(response.received_at))
        return msgspec.structs.replace(response.head, fields=via(fields, response.head.version, self._node))

    def confirmed(self, plan: Plan, head: ResponseHead) -> StoredResponse | None:
        """Which of the stored responses asked about a 304 confirms; None if it speaks of another, or of a body that
        was found damaged since."""
        records = [record for record in plan.records if record.body.accepts_readers]
        meta = select_validated([record.meta for record in records], head)
        return next((record for record in records if record.meta is meta), None)

    def take(self, plan: Plan, fence: int, response: OriginResponse, make_body: Callable[[bool], Body]) -> Fetched:
        """Decide what becomes of a response. `make_body` gives an empty body, to be kept or only relayed.

        A 304 must be one that `confirmed`, if it answers to validators of ours.
        """
        head = self.received(response)
        if plan.stale_above:
            return _passed(Fetched(head.status, head, StoreReason.STALE_ABOVE), response, make_body)
        if (standing_in := self._hiding(plan, head.status)) is not None:
            return Fetched(head.status, head, StoreReason.STATUS, record=standing_in, hides_error=True)
        shaped = self._shape(plan, head)
        if head.status == 304 and plan.validating:
            return self._freshened(plan, fence, shaped, response)
        fence = self._invalidate(plan, fence, shaped.head)
        if plan.head.method == "HEAD":
            self._update_from_head(plan, fence, shaped, response)
        return self._stored_or_passed(plan, fence, shaped, response, make_body)

    def _hiding(self, plan: Plan, status: int) -> StoredResponse | None:
        """The stored response that may stand in for this error."""
        if status not in ERROR_STATUSES or plan.leeway is Leeway.CONFIRMED:
            return None
        now = self._clock.now()
        for record in plan.records:
            may_hide = not self._stamps.verdict(record.names, record.clean_at).dead and record.body.accepts_readers
            if may_hide and stale_on_error(record.meta, now, plan.policy, plan.head, status):
                return record
        return None

    def _shape(self, plan: Plan, head: ResponseHead) -> _Shaped:
        """Let the site's hook change the response."""
        if plan.view is None or plan.site.hooks is None:
            return _Shaped(head, plan.policy)
        view = plan.site.hooks.response(plan.view, head)
        return _Shaped(view.head(), view.policy(plan.policy), view.tags, view.stored)

    def _stored_or_passed(
        self, plan: Plan, fence: int, shaped: _Shaped, response: OriginResponse, make_body: Callable[[bool], Body]
    ) -> Fetched:
        head, policy = shaped.head, shaped.policy
        reason = StoreReason.BYPASS
        if shaped.may_store:
            reason = decide_storing(plan.head, head, policy, target=plan.target, received_at=response.received_at)
        meta = None
        if reason.storable:
            meta = shaped.tagged(make_metadata(
                plan.key, plan.head, head, policy, requested_at=response.requested_at, received_at=response.received_at
            ))  # fmt: skip
            if not within_limits(meta.tags):  # with those that the hook adds
                meta, reason = None, StoreReason.TAGS
        fetched = _passed(Fetched(head.status, head, reason), response, make_body)
        if meta is not None:
            assert fetched.body is not None
            fetched.record = StoredResponse(meta, fetched.body, fence, fence)
        return fetched

    def _freshened(self, plan: Plan, fence: int, shaped: _Shaped, response: OriginResponse) -> Fetched:
        """The stored response that a 304 confirms, renewed.

        The record keeps its body and gets the fence of this request, since it was not purged when that was
        sent; a purge since then keeps it from being stored (PURGE rule 10).
        """
        old = self.confirmed(plan, self.received(response))
        assert old is not None, "a 304 about something else is not taken"
        meta = freshen(
            old.meta, shaped.head, plan.head, shaped.policy,
            requested_at=response.requested_at, received_at=response.received_at,
        )  # fmt: skip
        if meta is None:  # the hook has changed the validator: what is stored is not what it speaks of
            meta = old.meta
        meta = _named_by_both(old.meta, shaped.tagged(meta))
        record = StoredResponse(meta, old.body, fence, fence)
        reason = decide_keeping(plan.head, meta, shaped.policy) if shaped.may_store else StoreReason.BYPASS
        if reason.storable and not within_limits(meta.tags):
            reason = StoreReason.TAGS
        if reason.storable and record.variant == old.variant:
            self._store.replace(old, record)
        elif reason.storable:  # the same content, found to serve these selecting values too
            if self._stamps.verdict(old.names, fence) is Verdict.CLEAN:
                self._store.put(record)
        elif not reason.lies_in_request:
            self._store.remove(old)
        return Fetched(304, shaped.head, reason, record=record, revalidated=True)

    def _update_from_head(self, plan: Plan, fence: int, shaped: _Shaped, response: OriginResponse) -> None:
        """Bring the stored response up to date with what a HEAD said of it, or drop it (RFC 9111 section 4.3.5)."""
        for old in plan.records:
            meta = update_from_head(
                old.meta, shaped.head, plan.head, shaped.policy,
                requested_at=response.requested_at, received_at=response.received_at, body_size=old.body.size,
            )  # fmt: skip
            if meta is old.meta:
                continue
            if meta is not None:
                meta = _named_by_both(old.meta, shaped.tagged(meta))
            if meta is None or not within_limits(meta.tags):
                self._store.remove(old)
            else:
                self._store.replace(old, StoredResponse(meta, old.body, fence, fence))

    def _invalidate(self, plan: Plan, fence: int, head: ResponseHead) -> int:
        """What this response makes invalid is purged, hard, before anybody sees the response (PURGE rule 13).

        Returns the response's own fence. What made the old answers invalid is itself newer than they are, so it
        is fenced by its own purge, unless another came in between. It is spelt by the rules in force now, as all
        that can be found is.
        """
        site, method = self._site_of(plan.target.host) or plan.site, plan.head.method
        urls = [url for text in invalidated(method, plan.target, head) if (url := resolve(plan.target, text))]
        stored = [
            meta for url in urls for meta in self._store.metas(cache_key(site.key_name, url, site.policy(url.path)))
        ]
        gone = invalidated_groups(method, head, stored)
        targets = [url_target(site.name, key_target(url, site.policy(url.path)).url) for url in urls]
        targets += [group_target(site.name, plan.target.origin, group) for group in gone]
        if not targets:
            return fence
        own = msgspec.structs.replace(plan.names, tags=tags(head.fields, plan.policy), groups=groups(head.fields))
        named = [own, *(Names(site.name, key_target(url, site.policy(url.path)).url, groups=gone) for url in urls)]
        undisturbed = all(self._stamps.verdict(names, fence) is Verdict.CLEAN for names in named)
        index = self._purge(targets)
        return index if undisturbed else fence


def _passed(fetched: Fetched, response: OriginResponse, make_body: Callable[[bool], Body]) -> Fetched:
    """A response with a body to be filled, if it has any or is to be stored."""
    framing = response.framing
    if framing is not None and framing.kind is FramingKind.NONE and not fetched.reason.storable:
        return fetched
    if framing is not None and framing.kind is FramingKind.LENGTH:
        fetched.length = framing.length
    fetched.body = make_body(fetched.reason.storable)
    return fetched


def _named_by_both(old: Metadata, new: Metadata) -> Metadata:
    """What is renewed can be purged by its old names as well as by its new ones (PURGE rule 10)."""
    return msgspec.structs.replace(
        new,
        tags=tuple(dict.fromkeys((*old.tags, *new.tags))),
        groups=tuple(dict.fromkeys((*old.groups, *new.groups))),
    )
