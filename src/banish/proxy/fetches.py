"""Fetches in flight: one exchange with the origin each, in a task of its own, shared by all it can serve.

A fetch outlives the client that caused it when its response is worth keeping. It carries its *fence*, the
apply index at which it was sent; what comes of it is matched against the purges since, before it is stored
and before it answers a request that came later (the answer rule).

    start ──▶ sent ──▶ head known ──┬─ storable: a record whose body fills, joinable ──▶ stored when whole
                         (ready)    └─ else: one reader, or nothing to read

Not here: whether to fetch, and what a client is answered (`pipeline.py`); what becomes of a response
(`taking.py`); whom to ask (`upstream.py`); the exchange itself (`origin/`).
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from banish.caching.storing import StoreReason, confirm_size
from banish.clock import Clock
from banish.edge.complaints import Complaints
from banish.errors import BadResponse, BanishError, OriginError
from banish.http.messages import SAFE_METHODS, RequestHead
from banish.origin.client import OriginResponse
from banish.proxy.plan import Plan, upstream_head
from banish.proxy.taking import Fetched, Taker
from banish.proxy.upstream import Upstream
from banish.purge.stamps import PurgeTable, Verdict
from banish.store.bodies import Body
from banish.store.graves import Grave
from banish.store.memory import PutOutcome
from banish.store.records import StoredResponse
from banish.store.tiers import Store
from banish.tables import Accounts, Metric

UNSHARED_KEYS_MAX = 10_000
"""Keys remembered as not worth waiting for."""
UNSHARED_S = 30.0
"""How long such a key is remembered: requests for it go to the origin side by side."""

FETCHES = Metric("banish_fetches_total", "counter", "Exchanges begun with origins, by site.", ("site",))
FETCHES_RUNNING = Metric("banish_fetches_running", "gauge", "Exchanges with origins under way.")
FENCED = Metric(
    "banish_fetches_fenced_total",
    "counter",
    "Responses that were not stored because a purge matched them after their fetch began.",
)

_CONDITIONS = ("if-none-match", "if-modified-since")
"""What a 304 can be an answer to (RFC 9110 section 13.2.2)."""

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Fetch:
    """One exchange under way. `ready` gives what came of it, or the error. Until it is `sent`, no purge is too late
    for it: its fence is yet to be."""

    plan: Plan
    outgoing: RequestHead
    fence: int
    ready: "asyncio.Future[Fetched | BanishError]"
    sent: bool = True
    turn: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    """Of the refill after a purge. Given back early where nothing comes of it that can be kept."""

    owned: bool = False
    task: "asyncio.Task[None] | None" = None

    async def own(self) -> Fetched | BanishError:
        """Wait for what comes of it, as the one who began it and will read the response itself.

        If the owner leaves, the fetch goes on only if its outcome may be worth keeping.
        """
        self.owned = True
        try:
            return await asyncio.shield(self.ready)
        except asyncio.CancelledError:
            self.owned = False
            if not self.ready.done():
                # An unsafe request may have its effect all the same: its response is awaited, for what it invalidates.
                if self.plan.policy.bypass and self.plan.head.method in SAFE_METHODS:
                    self.break_off()
            elif isinstance(fetched := self.ready.result(), Fetched):
                fetched.drop()
            raise

    async def join(self) -> Fetched | BanishError:
        """Wait for what comes of it, hoping that it can be shared."""
        return await asyncio.shield(self.ready)

    def break_off(self) -> None:
        """Nobody wants it any more."""
        if self.task is not None:
            self.task.cancel()


class Fetcher:
    """All fetches of one edge."""

    def __init__(
        self,
        *,
        store: Store,
        stamps: PurgeTable,
        clock: Clock,
        taker: Taker,
        make_body: Callable[[bool, Callable[[], None]], Body],
        upstream: Upstream,
        node: str,
        accounts: Accounts,
    ) -> None:
        self._store = store
        self._stamps = stamps
        self._clock = clock
        self._taker = taker
        self._upstream = upstream
        self._make_body = make_body
        self._node = node
        self._complaints = Complaints(log, clock)
        self._shared: dict[str, Fetch] = {}
        self._running: set[Fetch] = set()
        self._unshared: OrderedDict[str, float] = OrderedDict()
        self._fetches = accounts.tally(FETCHES)
        self._fenced = accounts.tally(FENCED)
        accounts.read(FETCHES_RUNNING, lambda: [((), len(self._running))])

    def joinable(self, key: str, arrived_index: int, fence_min: int = 0) -> Fetch | None:
        """A fetch under way for this key that may answer a request that arrived at that apply index, and wants nothing
        that was asked for before `fence_min`."""
        fetch = self._shared.get(key)
        if fetch is None or not fetch.sent:
            return fetch
        if fetch.fence < fence_min:
            return None
        if self._stamps.verdict(fetch.plan.names, fetch.fence, arrived_index) is not Verdict.CLEAN:
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
            if plan.grave is None:
                await self._exchange(fetch)
            else:
                await self._refill(fetch, plan.grave)
        except BanishError as error:
            self._complain(plan, error)
            self._settle(fetch, error)
        except Exception as error:
            log.exception("fetch failed", url=plan.target.url)
            self._settle(fetch, BadResponse(f"a fault inside the edge: {type(error).__name__}"))
        finally:
            self._running.discard(fetch)
            if self._shared.get(plan.key) is fetch:
                del self._shared[plan.key]
            self._settle(fetch, BadResponse("the fetch was broken off"))

    def _complain(self, plan: Plan, error: BanishError) -> None:
        """Say in the log what the client is told only in outline."""
        if isinstance(error, OriginError):
            site, code = plan.site.name, error.code
            details = {"site": site, "code": code, "reason": error.reason, "url": plan.target.url}
            self._complaints.make("origin failed", site, code, **details)

    def _settle(self, fetch: Fetch, outcome: Fetched | BanishError) -> None:
        if not fetch.ready.done():
            fetch.ready.set_result(outcome)

    async def _refill(self, fetch: Fetch, grave: Grave) -> None:
        """An exchange that a purge has caused: the site may bound how many of those there are at a time."""
        fetch.sent = False
        async with fetch.turn:
            await fetch.turn.enter_async_context(fetch.plan.site.refill.turn(grave.heat, everything=grave.everything))
            fetch.sent, fetch.fence = True, self._stamps.index
            await self._exchange(fetch)

    async def _exchange(self, fetch: Fetch) -> None:
        """Send, decide, carry the body."""
        plan = fetch.plan
        sent = fetch.outgoing
        response = await self._upstream.fetch(plan, sent)
        if response.head.status == 304 and plan.validating and self._taker.confirmed(plan, response.head) is None:
            # It speaks of a response that was not asked about. The client's own conditions it may answer.
            response.close()
            plan.records, plan.validating = (), False
            sent = upstream_head(plan, plan.head, self._node)
            response = await self._upstream.fetch(plan, sent)
        if response.head.status == 304 and not any(name in sent.fields for name in _CONDITIONS):
            response.close()
            raise BadResponse("the origin answered 304 to a request without a condition")
        if response.tunnel is not None:
            if (response.head.fields.get("upgrade") or "").lower() != "websocket":
                response.tunnel.close()
                raise BadResponse("the origin switched to another protocol than was asked for")
            head = self._taker.received(response)
            fetched = Fetched(101, head, StoreReason.STATUS, tunnel=response.tunnel)
            if not fetch.owned:
                fetched.drop()
            self._settle(fetch, fetched)
            return
        try:
            fetched = self._taker.take(plan, fetch.fence, response, lambda kept: self._make_body(kept, fetch.break_off))
            if fetched.record is None or not fetched.reason.storable or fetched.record.meta.lifetime <= 0:
                self._unshare(fetch)
                if (
                    fetched.status < 500 and not plan.stale_above
                ):  # what a purge removed will not be stored again: this is no refill
                    self._store.graves.exhume(plan.key)
                await fetch.turn.aclose()
            if fetched.body is not None and fetch.owned:
                fetched.reader = fetched.body.reader()
            self._settle(fetch, fetched)
            if fetched.body is not None and (fetched.body.kept or fetch.owned):
                await self._fill(plan, response, fetched)
            elif fetched.body is not None:
                # Nobody wants it. A body that never ended would keep what it is to call, and so all of this, for ever.
                fetched.body.fail(BadResponse("nobody is left to read it"))
        finally:
            response.close()

    # --- the body

    async def _fill(self, plan: Plan, response: OriginResponse, fetched: Fetched) -> None:
        """Carry the body from the origin to its readers and, if it is to be kept, to the store."""
        body = fetched.body
        assert body is not None
        try:
            while data := await response.read():
                body.write(data)
                await body.drain()
            body.finish(response.trailers)
        except BanishError as error:
            self._complain(plan, error)
            body.fail(error)
            return
        except asyncio.CancelledError:
            if not body.abandoned:
                body.fail(BadResponse("the edge is stopping"))
            raise
        await body.drain()
        record = fetched.record
        if record is None or not body.kept:
            return
        meta = confirm_size(record.meta, body.size)
        if meta is None or (meta.partial and self._holds_whole(record)):
            return
        record.meta = meta
        self._fenced.add(n=self._store.put(record) is PutOutcome.PURGED)

    def _holds_whole(self, part: StoredResponse) -> bool:
        """Whether the whole that this is a part of is stored: a part must not take its place."""
        stored = self._store.lookup(part.meta.key)
        return any(record.variant == part.variant and not record.meta.partial for record in stored)

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
