"""The pipeline: from a request to its answer.

    a child's? loop? method? site ─▶ hook ─▶ key ─▶ stored responses ─▶ decide ─┬─ Hit ─────────▶ answered, published
                                                                     ├─ Stale ───────▶ answered; revalidated behind
                                                                     ├─ Validate ─┐
                                                                     ├─ Forward ──┴─▶ join a fetch, or start one
                                                                     └─ Unsatisfiable ▶ 504

Every way to end is an `Outcome`; the same word stands in `Cache-Status` details, logs and metrics.

Not here: the rules themselves (`caching/`), exchanges with the origin (`fetches.py`), bytes (`connection.py`).
Source: RFC 9111 section 4; RFC 9211; the answer rule is PURGE rule 9.
"""

from collections.abc import Callable, Collection
from typing import assert_never
from urllib.parse import quote

import msgspec
import structlog

from banish.caching.cache_status import Outcome, cache_status
from banish.caching.directives import request_directives
from banish.caching.keys import cache_key, has_unkeyed_input
from banish.caching.reuse import (
    Decision,
    Forward,
    Forwarded,
    Hit,
    Leeway,
    Stale,
    Unsatisfiable,
    Validate,
    decide,
    stale_on_error,
)
from banish.caching.stored import Metadata, ttl
from banish.caching.storing import StoreReason
from banish.caching.validation import conditional_request
from banish.clock import Clock
from banish.edge.hook_views import HookRequest
from banish.edge.runtime import Runtimes
from banish.errors import BanishError, ClientError, OriginError, StoreError
from banish.http.conditions import has_state_changing_precondition
from banish.http.fields import Fields
from banish.http.hops import end_to_end, via_count
from banish.http.messages import RequestHead
from banish.mesh.lease import Lease
from banish.mesh.tiers import FIELD_LOWER
from banish.proxy.answers import aged_fields, between_edges, from_stored, in_304, within_reach
from banish.proxy.children import Children
from banish.proxy.exchange import Answer, Request
from banish.proxy.fetches import Fetch, Fetcher
from banish.proxy.hot import HotTable, MemoKey
from banish.proxy.plan import Plan, upstream_head
from banish.proxy.taking import Fetched
from banish.proxy.wire import encode_head, error_answer
from banish.purge.stamps import PurgeTable, Verdict
from banish.store.bodies import BodyReader
from banish.store.records import StoredResponse
from banish.store.tiers import Store

FETCHES_PER_REQUEST_MAX = 2
"""Fetches a request may wait for before it starts its own, which always satisfies it (PURGE rule 9)."""
BEHIND = "behind"
"""What Cache-Status says while purges may be missing here."""
METHODS = "GET, HEAD, OPTIONS"
"""What the edge itself can say that it allows; the origin may allow more."""
LOOPS_MAX = 1
"""Times a request may have passed here before; a second edge of the same name in the way is no loop."""

_PART = ("range", "if-range")
_SHAPING = ("if-none-match", "if-modified-since", "range")
"""Request fields that may make a 304 or 206 of a stored 200."""

log = structlog.get_logger(__name__)


class Pipeline:
    """Answers requests. One per edge."""

    def __init__(
        self,
        *,
        runtimes: Runtimes,
        store: Store,
        stamps: PurgeTable,
        fetcher: Fetcher,
        hot: HotTable,
        clock: Clock,
        node: str,
        purge_id: Callable[[int], str | None],
        passing: Callable[[], bool],
        children: Children,
        lease: Lease,
    ) -> None:
        self.runtimes = runtimes
        self._store = store
        self._stamps = stamps
        self._fetcher = fetcher
        self._hot = hot
        self._clock = clock
        self._node = node
        self._purge_id = purge_id
        self._passing = passing
        self._children = children
        self._lease = lease
        self._behind: set[str] = set()
        """Keys being revalidated while stale responses answer for them."""

    async def answer(self, request: Request) -> Answer:
        """The answer to a request. Never raises: whatever goes wrong becomes a page that says so."""
        if FIELD_LOWER in request.head.fields:
            await self._children.admit(request)
        answer = await self._answer(request)
        if request.head.method == "HEAD" and answer.body is not None:
            answer.close_body()
            answer.body = None
        if request.child is not None:
            self._children.tell(request.child, answer)
        return answer

    async def _answer(self, request: Request) -> Answer:
        try:
            try:
                return await self._begun(await self._route(request))
            except StoreError:  # what is stored was found damaged before anything was sent: then it is a miss
                if request.head.method not in ("GET", "HEAD") or request.body is not None:
                    raise
                return await self._begun(await self._route(request))
        except ClientError as error:
            return self._error(error.status, error, None, outcome=Outcome.REFUSED, close=error.close)
        except OriginError as error:
            return self._error(error.status, error, Forwarded.MISS)
        except BanishError as error:
            return self._error(502, error, Forwarded.MISS)
        except Exception as error:
            log.exception("request failed", url=request.target.url)
            fault = BanishError(f"a fault inside the edge: {type(error).__name__}")
            return self._error(500, fault, Forwarded.BYPASS, close=True)

    async def _begun(self, answer: Answer) -> Answer:
        """The answer once the first of its body is known to be there."""
        if isinstance(answer.body, BodyReader):
            try:
                await answer.body.ready()
                answer.first = answer.body.read_nowait()
            except BanishError:
                answer.close_body()
                raise
        return answer

    # --- where the request goes

    async def _route(self, request: Request) -> Answer:
        head = request.head
        if "connection" in head.fields:  # what the origin will not see must not select or decide anything either
            head = msgspec.structs.replace(head, fields=end_to_end(head.fields))
        if request.connection.https_port is not None and request.child is None:
            return self._to_https(request, request.connection.https_port)
        if head.method == "TRACE":  # it would show a client what the edge and its neighbours add
            refusal = self._error(405, ClientError(405, "TRACE is not served here"), None, outcome=Outcome.REFUSED)
            refusal.fields = refusal.fields.plus("Allow", METHODS)
            return refusal
        if request.child is None and via_count(head.fields, self._node) > LOOPS_MAX:
            raise ClientError(508, "the request has passed here before", close=False)
        site = self.runtimes.match(request.target.host)
        if site is None:
            raise ClientError(421, f"no site here serves the host {request.target.host}", close=False)
        request.site = site.name
        if request.child is not None and request.child.ask.rules != site.site.rules_digest:
            raise ClientError(421, "the rules of this site are others than the child's", close=False)
        view: HookRequest | None = None
        target = request.target
        if site.hooks is not None:
            view = site.hooks.request(head, target, peer=request.connection.peer)
            if view.answer is not None:
                return self._synthetic(head, view)
            head, target = view.head(), view.target
        policy = site.policy(target.path)
        behind = self._lease.past()
        if (view is not None and view.bypassed) or self._passing() or (behind and site.config.on_partition == "bypass"):
            policy = msgspec.structs.replace(policy, bypass=True)
        hops = head.fields.get("max-forwards") or ""
        if head.method == "OPTIONS" and hops.isdecimal() and not int(hops[:9]):
            fields = Fields.of([("Allow", METHODS), ("Cache-Status", cache_status(self._node, detail="max-forwards"))])
            return Answer(204, fields, Outcome.SYNTHETIC)
        if request.upgrade and not site.config.websocket:
            raise ClientError(501, "WebSocket is switched off for this site", close=False)
        extra = "".join([f"+{quote(value, safe='')}" for value in view.key_extra]) if view is not None else ""
        key = cache_key(site.key_name + extra, target, policy)
        plan = Plan(request, head, site, policy, key, view=view, behind=behind, direct=policy.bypass)
        plan.leeway = _leeway(plan)
        if request.child is not None and not request.child.covers:  # upstream, with what it says; nothing is stored
            plan.policy = msgspec.structs.replace(policy, bypass=True)
        if head.method not in ("GET", "HEAD"):
            return await self._fetch(plan, Forwarded.METHOD)
        if request.body is not None or request.upgrade:
            # Content in a GET has no meaning, yet some origins give it one: unkeyed, so never stored.
            plan.policy = msgspec.structs.replace(policy, bypass=True)
        if plan.policy.bypass:
            return await self._fetch(plan, Forwarded.BYPASS)
        return await self._from_cache(plan)

    def _to_https(self, request: Request, port: int) -> Answer:
        """308: the same request, method and body too, over TLS (RFC 9110 section 15.4.9)."""
        host = request.target.host
        if not host.endswith("]"):
            host = host.rpartition(":")[0] or host
        where = f"https://{host}{'' if port == 443 else f':{port}'}{request.target.path_and_query}"
        fields = Fields.of([("Location", where), ("Cache-Status", cache_status(self._node, detail="https"))])
        return Answer(308, fields, Outcome.SYNTHETIC, body=b"", length=0)

    def _synthetic(self, head: RequestHead, view: HookRequest) -> Answer:
        made = view.answer
        assert made is not None
        fields = made.fields.plus("Cache-Status", cache_status(self._node, detail="hook"))
        body = None if head.method == "HEAD" or made.status in (204, 304) else made.body
        return Answer(made.status, fields, Outcome.SYNTHETIC, body=body, length=len(made.body))

    async def _from_cache(self, plan: Plan) -> Answer:
        """GET and HEAD: what is stored, if it may be used; else the origin."""
        now = self._clock.now()
        records, decision = self._decide(plan, now)
        if isinstance(decision, Forward | Unsatisfiable) and self._store.may_load(plan.key):
            await self._store.load(plan.key)
            if self._passing():
                plan.policy, plan.direct = msgspec.structs.replace(plan.policy, bypass=True), True
                return await self._fetch(plan, Forwarded.BYPASS)
            now = self._clock.now()
            records, decision = self._decide(plan, now)
        match decision:
            case Hit(meta):
                record = _record(records, meta)
                self._store.touch(record)
                self._publish(plan, record, records, now)
                return self._stored(plan, record, now, Outcome.HIT)
            case Stale(meta):
                record = _record(records, meta)
                self._store.touch(record)
                plan.purge = record.soft_at
                self._revalidate_behind(plan, record)
                return self._stored(
                    plan, record, now, Outcome.STALE, detail=self._purged_by(plan) or "stale-while-revalidate"
                )
            case Validate(meta, reason):
                plan.records = (_record(records, meta),)
                plan.purge = plan.records[0].soft_at
                return await self._fetch(plan, reason)
            case Forward(reason, variants):
                self._remember_purge(plan)
                if plan.head.method == "GET":
                    plan.records = tuple([_record(records, meta) for meta in variants])
                return await self._fetch(plan, reason)
            case Unsatisfiable():
                error = ClientError(504, "only-if-cached, and nothing usable is stored", close=False)
                return self._error(504, error, None, outcome=Outcome.UNSATISFIABLE)
            case _:
                assert_never(decision)

    def _decide(self, plan: Plan, now: float) -> tuple[tuple[StoredResponse, ...], Decision]:
        records = self._lookup(plan.key)
        if plan.child is not None and plan.child.fence_min:
            records = tuple([record for record in records if record.fence >= plan.child.fence_min])
        soft = [at for at, record in enumerate(records) if record.soft]
        metas = [record.meta for record in records]
        return records, decide(plan.head, metas, now, plan.policy, soft_purged=soft, leeway=plan.leeway)

    def _remember_purge(self, plan: Plan) -> None:
        """Note on the plan whether a purge is what sends this request to the origin."""
        plan.grave = self._store.graves.find(plan.key, plan.site.name, self._clock.monotonic())
        if plan.grave is not None:
            plan.purge = plan.grave.index

    def _purged_by(self, plan: Plan) -> str | None:
        """The purge that sent this request to the origin, as `Cache-Status` names it."""
        known = self._purge_id(plan.purge) if plan.purge else None
        return f"purge:{known}" if known is not None else None

    def _lookup(self, key: str) -> tuple[StoredResponse, ...]:
        """What is stored under a key, less what has a spool file that cannot be read back: damage is a miss."""
        records = self._store.lookup(key)
        damaged = [record for record in records if not record.body.accepts_readers]
        for record in damaged:
            self._store.remove(record)
        return tuple([record for record in records if record not in damaged]) if damaged else records

    # --- by way of the origin

    async def _fetch(self, plan: Plan, reason: Forwarded) -> Answer:
        """Join a fetch under way if one can serve this request, else start one."""
        may_join = not plan.policy.bypass and _is_like_others(plan.head)
        share = may_join and ("range" not in plan.head.fields or bool(plan.records))
        fence_min = plan.child.fence_min if plan.child is not None else 0
        if may_join and reason is not Forwarded.REQUEST and plan.leeway is not Leeway.CONFIRMED:
            for _ in range(FETCHES_PER_REQUEST_MAX):
                running = self._fetcher.joinable(plan.key, plan.request.arrived_index, fence_min)
                if running is None:
                    break
                shared = await self._join(plan, running)
                if shared is not None:
                    return shared
        unshared = share and self._fetcher.is_unshared(plan.key)
        fetch = self._start(plan, reason, share=share)
        fetched = await fetch.own()
        if isinstance(fetched, BanishError):
            return self._failed(plan, fetched, reason)
        return self._fetched(plan, fetched, reason, unshared=unshared)

    def _start(self, plan: Plan, reason: Forwarded, *, share: bool) -> Fetch:
        """Begin a fetch: about what is stored, or for a whole that can be stored, or just as the client asked.

        What was hard-purged since it was looked up is not asked about: a 304 must not revive it (PURGE rule 10).
        """
        plan.records = tuple([record for record in plan.records if self._unpurged(record, self._stamps.index)])
        if plan.grave is not None:  # it may have to wait before it is sent, and who knows what is purged by then
            plan.records = ()
        asked = plan.head
        asks_of_stored = plan.head.method == "GET" and not plan.policy.bypass and bool(plan.records)
        if asks_of_stored or (share and not self._fetcher.is_unshared(plan.key)):
            metas = [record.meta for record in plan.records]
            plan.validating = bool(metas)
            asked = conditional_request(plan.head, metas, selected=reason is not Forwarded.VARY_MISS)
            asked = msgspec.structs.replace(asked, fields=asked.fields.without(_PART))
        outgoing = upstream_head(plan, asked, self._node)
        return self._fetcher.start(plan, outgoing, share=share)

    async def _join(self, plan: Plan, running: Fetch) -> Answer | None:
        """Wait for another request's fetch; None if what comes of it cannot answer this one."""
        fetched = await running.join()
        now = self._clock.now()
        if isinstance(fetched, BanishError):
            plan.records = plan.records or running.plan.records
            return self._failed(plan, fetched, Forwarded.MISS)
        record = fetched.record
        if record is None or not record.body.accepts_readers:
            return None
        if not (fetched.reason.storable or fetched.hides_error):
            return None  # a 304 may have made it private
        verdict = self._stamps.verdict(record.names, record.clean_at, plan.request.arrived_index)
        if verdict.dead or (verdict is Verdict.SOFT and plan.leeway is not Leeway.STALE):
            return None
        if fetched.hides_error:
            if not self._unpurged(record, self._stamps.index):
                return None
            if not stale_on_error(record.meta, now, plan.policy, plan.head, fetched.status):
                return None
            return self._stored(plan, record, now, Outcome.STALE_ERROR, detail=f"origin-{fetched.status}")
        if not isinstance(decide(plan.head, [record.meta], now, plan.policy), Hit):
            return None
        if not within_reach(plan.head, record):
            return None
        status = cache_status(
            self._node, hit=False, fwd=Forwarded.STALE if fetched.revalidated else Forwarded.MISS,
            fwd_status=fetched.status, collapsed=True, ttl=ttl(record.meta, now),
        )  # fmt: skip
        return from_stored(plan.head, record, now, outcome=Outcome.COLLAPSED, cache_status=status, also=_repeated(plan))

    def _revalidate_behind(self, plan: Plan, record: StoredResponse) -> None:
        """Renew a stale response while the client already has it, unless that is under way."""
        if plan.key in self._behind or self._fetcher.joinable(plan.key, self._stamps.index) is not None:
            return
        head = RequestHead("GET", plan.head.target, plan.head.fields.without(_SHAPING), plan.head.version)
        behind = Plan(plan.request.repeated(), head, plan.site, plan.policy, plan.key, (record,), view=plan.view)
        fetch = self._start(behind, Forwarded.STALE, share=True)
        self._behind.add(plan.key)
        fetch.ready.add_done_callback(lambda _: self._behind.discard(plan.key))

    def _fetched(self, plan: Plan, fetched: Fetched, reason: Forwarded, *, unshared: bool) -> Answer:
        """The answer from this request's own fetch."""
        now = self._clock.now()
        if fetched.tunnel is not None:
            return Answer(101, fetched.head.fields, Outcome.TUNNEL, fetched.head.reason, tunnel=fetched.tunnel)
        if fetched.hides_error and fetched.record is not None:
            return self._stored(plan, fetched.record, now, Outcome.STALE_ERROR, detail=f"origin-{fetched.status}")
        stored = fetched.record is not None and fetched.reason.storable
        outcome = _outcome(fetched, stored=stored, unshared=unshared)
        detail = None if stored else fetched.reason.value
        if stored and fetched.record is not None:
            overtaken = self._stamps.finding(fetched.record.names, fetched.record.clean_at)
            stored = overtaken.verdict is Verdict.CLEAN
            plan.purge = overtaken.index or plan.purge
            detail = self._purged_by(plan) or (None if stored else "purged")
        detail = _and_behind(plan, detail)
        status = cache_status(
            self._node, hit=False, fwd=reason, fwd_status=fetched.status, stored=stored,
            ttl=ttl(fetched.record.meta, now) if fetched.record is not None else None, detail=detail,
        )  # fmt: skip
        may_shape = fetched.head.status == 200 and plan.head.method in ("GET", "HEAD")
        shaped = may_shape and any(name in plan.head.fields for name in _SHAPING)
        record = fetched.record
        if record is not None and (fetched.revalidated or shaped) and record.body.accepts_readers:
            answer = from_stored(plan.head, record, now, outcome=outcome, cache_status=status, also=_repeated(plan))
            if fetched.reader is not None:
                fetched.reader.close()
            return answer
        return self._relayed(plan, fetched, outcome, status)

    def _relayed(self, plan: Plan, fetched: Fetched, outcome: Outcome, status: str) -> Answer:
        """The origin's response as it came."""
        head, body, reader = fetched.head, fetched.body, fetched.reader
        fields = head.fields.plus("Cache-Status", status)
        if body is None or reader is None:
            if plan.head.method != "HEAD" and head.status != 304:
                fields = fields.without(("content-length",))
            return Answer(head.status, fields, outcome, head.reason)
        fields = fields.without(("content-length",))
        if body.data is not None:
            reader.close()
            return Answer(head.status, fields, outcome, head.reason, body=body.data, length=len(body.data))
        return Answer(
            head.status, fields, outcome, head.reason,
            body=reader, length=fetched.length, trailers=lambda: body.trailers,
        )  # fmt: skip

    def _failed(self, plan: Plan, error: BanishError, reason: Forwarded) -> Answer:
        """The origin gave no response: a stored one, if nothing forbids it, else a page that says so."""
        now = self._clock.now()
        for record in plan.records:
            if (
                record.body.accepts_readers
                and plan.leeway is not Leeway.CONFIRMED
                and self._unpurged(record, self._stamps.index)  # what was purged is dead, also here (PURGE rule 10)
                and stale_on_error(record.meta, now, plan.policy, plan.head, "unreachable")
            ):
                return self._stored(plan, record, now, Outcome.STALE_ERROR, detail=error.code)
        status = error.status if isinstance(error, OriginError | ClientError) else 502
        return self._error(status, error, reason)

    def _unpurged(self, record: StoredResponse, index: int) -> bool:
        """The answer rule: no hard purge lies between a record's fence and this apply index (PURGE rule 9)."""
        return not self._stamps.verdict(record.names, record.clean_at, index).dead

    # --- answers

    def _stored(
        self, plan: Plan, record: StoredResponse, now: float, outcome: Outcome, *, detail: str | None = None
    ) -> Answer:
        status = cache_status(self._node, hit=True, ttl=ttl(record.meta, now), detail=_and_behind(plan, detail))
        return from_stored(plan.head, record, now, outcome=outcome, cache_status=status, also=_repeated(plan))

    def _error(
        self,
        status: int,
        error: BanishError,
        fwd: Forwarded | None,
        *,
        outcome: Outcome = Outcome.ERROR,
        close: bool = False,
    ) -> Answer:
        text = cache_status(self._node, hit=False, fwd=fwd, detail=error.code)
        return error_answer(status, error, cache_status=text, outcome=outcome, close=close)

    # --- the hot table

    def hot_head(self, record: StoredResponse, now: float, status: int) -> bytes:
        """The head of a hit as the hot table writes it: what `from_stored` would give, status 304 or the stored."""
        meta, data = record.meta, record.body.data
        assert data is not None
        fields = aged_fields(meta, now)
        report = cache_status(self._node, hit=True, ttl=ttl(meta, now), detail=BEHIND if self._lease.past() else None)
        if status == 304:
            answer = Answer(304, in_304(fields).plus("Cache-Status", report), Outcome.HIT)
        else:
            fields = fields.plus("Cache-Status", report)
            answer = Answer(meta.status, fields, Outcome.HIT, meta.reason, length=len(data))
        return encode_head(answer, keep=True, chunked=False, version="1.1")

    def _publish(self, plan: Plan, record: StoredResponse, records: tuple[StoredResponse, ...], now: float) -> None:
        """Let the hot table repeat this hit, if all that it depended on is in the memo's key.

        It was chosen among `records`, and so depends on every field that selects any of them.
        """
        request, meta = plan.request, record.meta
        if (
            record.body.data is None or meta.content_range is not None or meta.status in (204, 304)
            or request.head.method != "GET" or request.head.version != "1.1" or not request.raw_host
            or request.child is not None
            or request.raw_target[:1] != b"/"
            or (request.head.fields.get("connection") or "keep-alive").lower() != "keep-alive"
        ):  # fmt: skip
            return
        selecting = dict.fromkeys([name for rival in records for name in rival.meta.vary])
        if plan.view is not None:
            if plan.view.read_outside:
                return
            selecting.update(dict.fromkeys(plan.view.read_fields - {"host"}))
        lines = [request.head.fields.get_all(name) for name in selecting]
        if any(len(values) > 1 for values in lines):
            return
        key = MemoKey(
            request.connection.listener,
            request.raw_host,
            request.raw_target,
            tuple([name.encode("latin-1") for name in selecting]),
            tuple([values[0].encode("latin-1") if values else None for values in lines]),
        )
        leased = plan.site.config.on_partition != "serve"
        self._hot.publish(key, record, now + ttl(meta, now), leased=leased)


def _leeway(plan: Plan) -> Leeway:
    """What may answer this request beside what is fresh. To another edge not even what is served for want of news."""
    child = plan.child
    if plan.behind and (child is not None or plan.site.config.on_partition == "revalidate"):
        return Leeway.CONFIRMED
    if child is None:
        return Leeway.STALE
    return Leeway.CONFIRMED if child.ask.through else Leeway.FRESH


def _and_behind(plan: Plan, detail: str | None) -> str | None:
    """The detail in Cache-Status, with the word that purges may be missing here."""
    if not plan.behind:
        return detail
    return BEHIND if detail is None else f"{detail}, {BEHIND}"


def _repeated(plan: Plan) -> Collection[str]:
    """What a 304 repeats beside the usual."""
    return () if plan.child is None else between_edges(plan.policy)


def _is_like_others(head: RequestHead) -> bool:
    """Whether what comes of this request may be hoped to serve others: nothing in it rules out storing."""
    return (
        head.method == "GET"
        and "authorization" not in head.fields
        and not has_unkeyed_input(head)
        and not has_state_changing_precondition(head.fields)
        and not request_directives(head.fields).no_store
    )


def _outcome(fetched: Fetched, *, stored: bool, unshared: bool) -> Outcome:
    if fetched.reason is StoreReason.STALE_ABOVE:
        return Outcome.STALE_ERROR
    if fetched.revalidated:
        return Outcome.REVALIDATED
    if stored:
        return Outcome.MISS
    return Outcome.HIT_FOR_PASS if unshared else Outcome.PASS


def _record(records: tuple[StoredResponse, ...], meta: Metadata) -> StoredResponse:
    return next(record for record in records if record.meta is meta)
