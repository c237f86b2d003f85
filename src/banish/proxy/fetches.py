"""Fetches in flight: one exchange with the origin each, in a task of its own, shared by all it can serve.

A fetch outlives the client that caused it when its response is worth keeping. It carries its *fence*, the
apply index at which it was sent; what comes of it is matched against the purges since, before it is stored
and before it answers a request that came later (the answer rule).

    start ──▶ sent ──▶ head known ──┬─ 304: a stored response freshened ──────────────▶ stored
                         (ready)    ├─ storable: record, body filling, joinable ──────▶ stored when whole
                                    ├─ an error the stored response may hide ─────────▶ nothing
                                    └─ anything else: relayed to the one who asked ───▶ nothing

Not here: whether to fetch, and what a client is answered (`pipeline.py`); the exchange itself (`origin/`).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from banish.caching.invalidation import invalidated, invalidated_groups
from banish.caching.keys import cache_key, key_target
from banish.caching.policy import CachePolicy
from banish.caching.reuse import stale_on_error
from banish.caching.storing import StoreReason, decide_keeping, decide_storing, make_metadata
from banish.caching.validation import freshen, select_validated, update_from_head
from banish.clock import Clock
from banish.edge.hook_views import HookRequest
from banish.edge.runtime import SiteRuntime
from banish.errors import BadResponse, BanishError
from banish.http.dates import format_http_date
from banish.http.fields import Fields
from banish.http.framing import FramingKind
from banish.http.hops import end_to_end, forwarded, via
from banish.http.messages import RequestHead, ResponseHead
from banish.http.targets import Target, resolve
from banish.origin.client import OriginResponse, Tunnel
from banish.proxy.exchange import Request
from banish.purge.stamps import PurgeTable, Verdict
from banish.purge.targets import Target as PurgeTarget
from banish.purge.targets import group_target, url_target
from banish.store.bodies import Body
from banish.store.memory import MemoryStore, PutOutcome
from banish.store.records import StoredResponse
from banish.tables import Accounts, Metric

UNSHARED_KEYS_MAX = 10_000
"""Keys remembered as not worth waiting for."""
UNSHARED_S = 30.0
"""How long such a key is remembered: requests for it go to the origin side by side."""
HIDDEN_STATUSES = frozenset({500, 502, 503, 504})
"""Errors that a stored response may stand in for (RFC 5861 section 4)."""

FETCHES = Metric("banish_fetches_total", "counter", "Exchanges begun with origins, by site.", ("site",))
FETCHES_RUNNING = Metric("banish_fetches_running", "gauge", "Exchanges with origins under way.")
FENCED = Metric(
    "banish_fetches_fenced_total",
    "counter",
    "Responses that were not stored because a purge matched them after their fetch began.",
)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Fetched:
    """What is known once the origin's head is in.

    `head` and `body` are for the one who asked. `record` may answer others as well; its body may still be
    filling. `hides_error` says that `record` is an old one standing in for the error status the origin gave.
    """

    status: int
    head: ResponseHead
    reason: StoreReason
    body: Body | None = None
    length: int | None = None
    record: StoredResponse | None = None
    revalidated: bool = False
    hides_error: bool = False
    tunnel: Tunnel | None = None


@dataclass(slots=True)
class Plan:
    """What a fetch is to do. `records` are the stored responses it asks the origin about, if any."""

    request: Request
    head: RequestHead
    site: SiteRuntime
    policy: CachePolicy
    key: str
    records: tuple[StoredResponse, ...] = ()
    view: HookRequest | None = None

    @property
    def target(self) -> Target:
        """What the request is about, as the hook left it."""
        return self.request.target if self.view is None else self.view.target

    @property
    def url(self) -> PurgeTarget:
        """The target that a purge of this URL names."""
        return url_target(self.site.name, key_target(self.target, self.policy).url)


@dataclass(slots=True, eq=False)
class Fetch:
    """One exchange under way. `ready` gives what came of it, or the error."""

    plan: Plan
    outgoing: RequestHead
    fence: int
    ready: "asyncio.Future[Fetched | BanishError]"
    waiters: int = 0
    task: "asyncio.Task[None] | None" = None

    async def outcome(self) -> Fetched | BanishError:
        """Wait for what comes of it. Who leaves first leaves the fetch to the others, or to the store."""
        self.waiters += 1
        try:
            return await asyncio.shield(self.ready)
        finally:
            self.waiters -= 1
            if not self.waiters and _cancelling():
                self._unwanted()

    def _unwanted(self) -> None:
        """Nobody waits any more: go on only if the outcome may be worth keeping."""
        if self.task is None:
            return
        if not self.ready.done():
            if self.plan.head.method != "GET" or self.plan.policy.bypass:
                self.task.cancel()
        elif isinstance(fetched := self.ready.result(), Fetched) and fetched.record is None:
            self.task.cancel()


class Fetcher:
    """All fetches of one edge."""

    def __init__(
        self,
        *,
        store: MemoryStore,
        stamps: PurgeTable,
        clock: Clock,
        make_body: Callable[[bool, Callable[[], object]], Body],
        purged: Callable[[], None],
        node: str,
        accounts: Accounts,
    ) -> None:
        self._store = store
        self._stamps = stamps
        self._clock = clock
        self._make_body = make_body
        self._purged = purged
        self._node = node
        self._shared: dict[str, Fetch] = {}
        self._running: set[Fetch] = set()
        self._unshared: OrderedDict[str, float] = OrderedDict()
        self._fetches = accounts.tally(FETCHES)
        self._fenced = accounts.tally(FENCED)
        accounts.read(FETCHES_RUNNING, lambda: [((), len(self._running))])

    def joinable(self, key: str, arrived_index: int) -> Fetch | None:
        """A fetch under way for this key that may answer a request that arrived at that apply index."""
        fetch = self._shared.get(key)
        if fetch is None:
            return None
        if self._stamps.verdict((fetch.plan.url,), fetch.fence, arrived_index) is not Verdict.CLEAN:
            return None
        return fetch

    def start(self, plan: Plan, outgoing: RequestHead, *, share: bool) -> Fetch:
        """Begin an exchange. `share`: let later requests for the key join it, unless the key is known better."""
        loop = asyncio.get_running_loop()
        fetch = Fetch(plan, outgoing, self._stamps.index, loop.create_future())
        if share and not self.is_unshared(plan.key):
            self._shared[plan.key] = fetch
        self._running.add(fetch)
        self._fetches.add(plan.site.name)
        fetch.task = loop.create_task(self._run(fetch))
        return fetch

    async def stop(self) -> None:
        """Break off whatever is still under way."""
        tasks = [fetch.task for fetch in self._running if fetch.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, fetch: Fetch) -> None:
        plan = fetch.plan
        try:
            await self._exchange(fetch)
        except BanishError as error:
            self._settle(fetch, error)
        except Exception as error:
            log.exception("fetch failed", url=plan.target.url)
            self._settle(fetch, BadResponse(f"a fault inside the edge: {type(error).__name__}"))
        finally:
            self._running.discard(fetch)
            if self._shared.get(plan.key) is fetch:
                del self._shared[plan.key]
            self._settle(fetch, BadResponse("the fetch was broken off"))

    def _settle(self, fetch: Fetch, outcome: Fetched | BanishError) -> None:
        if not fetch.ready.done():
            fetch.ready.set_result(outcome)

    async def _exchange(self, fetch: Fetch) -> None:
        """Send, decide, carry the body."""
        plan, request = fetch.plan, fetch.plan.request
        response = await plan.site.origin.fetch(
            fetch.outgoing,
            aiter(request.body) if request.body is not None else None,
            on_interim=request.interim,
            expect_upgrade=request.upgrade,
        )
        if response.tunnel is not None:
            head = self._received(response)
            self._settle(fetch, Fetched(101, head, StoreReason.STATUS, tunnel=response.tunnel))
            return
        try:
            fetched = self._take(fetch, response)
            if fetched.record is None or fetched.hides_error or fetched.record.meta.lifetime <= 0:
                self._unshare(fetch)
            self._settle(fetch, fetched)
            if fetched.body is not None and (fetched.body.kept or fetch.waiters):
                await self._fill(response, fetched)
        finally:
            response.close()

    # --- the head is in

    def _take(self, fetch: Fetch, response: OriginResponse) -> Fetched:
        """Decide what becomes of a response, now that its head is known."""
        plan = fetch.plan
        head = self._received(response)
        if head.status == 304 and plan.records:
            fetched = self._freshened(fetch, head, response)
            if fetched is not None:
                return fetched
        if head.status in HIDDEN_STATUSES:
            for record in plan.records:
                if record.body.accepts_readers and stale_on_error(
                    record.meta, self._clock.now(), plan.policy, plan.head, head.status
                ):
                    return Fetched(head.status, head, StoreReason.STATUS, record=record, hides_error=True)
        policy, may_store = plan.policy, True
        if plan.view is not None and plan.site.hooks is not None:
            changed = plan.site.hooks.response(plan.view, head)
            head, policy, may_store = changed.head(), changed.policy(policy), changed.stored
        fence = self._invalidate(fetch, head)
        if plan.request.head.method == "HEAD":
            self._update_from_head(fetch, head, response)
        reason = decide_storing(plan.head, head, policy, target=plan.target) if may_store else StoreReason.BYPASS
        fetched = Fetched(head.status, head, reason)
        framing = response.framing
        if framing is not None and framing.kind is FramingKind.NONE and not reason.storable:
            return fetched
        fetched.length = framing.length if framing is not None and framing.kind is FramingKind.LENGTH else None
        fetched.body = self._make_body(reason.storable, lambda: fetch.task and fetch.task.cancel())
        if reason.storable:
            meta = make_metadata(
                plan.key, plan.head, head, policy, requested_at=response.requested_at, received_at=response.received_at
            )
            targets = self.targets(plan, meta.groups)
            fetched.record = StoredResponse(meta, fetched.body, targets, fence, fence)
        return fetched

    def _received(self, response: OriginResponse) -> ResponseHead:
        """The origin's head as it is passed on: end to end, dated, with our trace."""
        fields = end_to_end(response.head.fields)
        if "date" not in fields:
            fields = fields.plus("Date", format_http_date(response.received_at))
        fields = via(fields, response.head.version, self._node)
        return msgspec.structs.replace(response.head, fields=fields)

    def targets(self, plan: Plan, groups: tuple[str, ...]) -> tuple[PurgeTarget, ...]:
        """What a response to this plan can be purged by."""
        site, origin = plan.site.name, plan.target.origin
        return (plan.url, *[group_target(site, origin, group) for group in groups])

    def _freshened(self, fetch: Fetch, head: ResponseHead, response: OriginResponse) -> Fetched | None:
        """A 304 about one of the stored responses: that response, renewed; None if it is about none of them.

        The record keeps its body and gets the fence of this request, since it was not purged when that was
        sent; a purge since then keeps it from being stored (PURGE rule 10).
        """
        plan = fetch.plan
        metas = [record.meta for record in plan.records]
        chosen = select_validated(metas, head)
        if chosen is None:
            return None
        old = next(record for record in plan.records if record.meta is chosen)
        meta = freshen(
            chosen, head, plan.head, plan.policy, requested_at=response.requested_at, received_at=response.received_at
        )
        if meta is None:
            return None
        targets = tuple(dict.fromkeys((*old.targets, *self.targets(plan, meta.groups))))
        record = StoredResponse(meta, old.body, targets, fetch.fence, fetch.fence)
        reason = decide_keeping(plan.head, meta, plan.policy)
        if reason.storable:
            self._store.replace(old, record)
        elif not reason.lies_in_request:
            self._store.remove(old)
        return Fetched(304, head, reason, record=record, revalidated=True)

    def _update_from_head(self, fetch: Fetch, head: ResponseHead, response: OriginResponse) -> None:
        """Bring the stored response up to date with what a HEAD said of it, or drop it (RFC 9111 section 4.3.5)."""
        plan = fetch.plan
        for old in plan.records:
            meta = update_from_head(
                old.meta, head, plan.head, plan.policy,
                requested_at=response.requested_at, received_at=response.received_at, body_size=old.body.size,
            )  # fmt: skip
            if meta is None:
                self._store.remove(old)
            elif meta is not old.meta:
                self._store.replace(old, StoredResponse(meta, old.body, old.targets, fetch.fence, fetch.fence))

    def _invalidate(self, fetch: Fetch, head: ResponseHead) -> int:
        """What this response makes invalid is purged, hard, before anybody sees the response (PURGE rule 13).

        Returns the response's own fence. What made the old answers invalid is itself newer than they are, so it
        is fenced by its own purge, unless another came in between.
        """
        plan, site, method = fetch.plan, fetch.plan.site, fetch.plan.head.method
        urls = [url for text in invalidated(method, plan.target, head) if (url := resolve(plan.target, text))]
        stored = [
            record.meta
            for url in urls
            for record in self._store.lookup(cache_key(site.name, url, site.policy(url.path)))
        ]
        targets = [url_target(site.name, key_target(url, site.policy(url.path)).url) for url in urls]
        targets += [
            group_target(site.name, plan.target.origin, group) for group in invalidated_groups(method, head, stored)
        ]
        if not targets:
            return fetch.fence
        undisturbed = self._stamps.verdict(targets, fetch.fence) is Verdict.CLEAN
        index = self._stamps.apply(targets)
        self._purged()
        return index if undisturbed else fetch.fence

    # --- the body

    async def _fill(self, response: OriginResponse, fetched: Fetched) -> None:
        """Carry the body from the origin to its readers and, if it is to be kept, to the store."""
        body = fetched.body
        assert body is not None
        try:
            while data := await response.read():
                body.write(data)
                await body.drain()
            body.finish(response.trailers)
        except BanishError as error:
            body.fail(error)
            return
        except asyncio.CancelledError:
            if not body.abandoned:
                body.fail(BadResponse("the edge is stopping"))
            raise
        await body.drain()
        if fetched.record is not None and body.kept and _as_announced(fetched.record):
            self._fenced.add(n=self._store.put(fetched.record) is PutOutcome.PURGED)

    # --- keys not worth waiting for

    def is_unshared(self, key: str) -> bool:
        """Whether responses under this key were lately found to serve only those who ask."""
        until = self._unshared.get(key)
        if until is None:
            return False
        if until > self._clock.monotonic():
            return True
        del self._unshared[key]
        return False

    def _unshare(self, fetch: Fetch) -> None:
        """This key's responses serve only those who ask: let nobody wait for the next one."""
        key = fetch.plan.key
        if self._shared.get(key) is fetch:
            del self._shared[key]
            self._unshared[key] = self._clock.monotonic() + UNSHARED_S
            if len(self._unshared) > UNSHARED_KEYS_MAX:
                self._unshared.popitem(last=False)


def _as_announced(record: StoredResponse) -> bool:
    """A part whose size is not that of its Content-Range is in some other place than it says: not to be kept."""
    held = record.meta.content_range
    return held is None or record.body.size == held[1] - held[0] + 1


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def upstream_head(request: Request, head: RequestHead, target: Target, site: SiteRuntime, node: str) -> RequestHead:
    """The request as it goes to the origin: end to end, saying who asked, in HTTP/1.1.

    The target goes in the spelling it is keyed by, so that the origin answers what will be stored.
    """
    fields = end_to_end(head.fields, also=("expect", "host") if request.body is not None else _NO_BODY)
    fields = via(fields, request.head.version, node)
    fields = forwarded(
        fields,
        peer=request.connection.peer or None,
        host=request.target.host,
        scheme=request.connection.scheme,
        trust_incoming=site.config.trust_forwarded,
    )
    if request.upgrade:
        fields = fields.plus("Connection", "Upgrade").plus("Upgrade", "websocket")
    return RequestHead(
        head.method, target.path_and_query, Fields.of([("Host", site.host_header(target)), *fields.lines])
    )


_NO_BODY = ("expect", "host", "content-length")
