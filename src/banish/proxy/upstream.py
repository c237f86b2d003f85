"""Upstream: whom to ask for what is not stored here. A parent, the next one, the origin.

    GET, HEAD ──▶ parents of this URL, heaviest first (`origin/rendezvous.py`), less those it came through
                    │ fresh, or passed ──▶ that is the answer
                    │ unreachable ──▶ the next parent
                    │ unproved, failed, header too long ──▶ the origin
                    └ only stale ──▶ the origin; if that fails, the stale response is passed on under this site's policy
    all others ──▶ the origin: nothing is stored of them, and they cannot be sent twice

Not here: what is said between edges (`edge/tiering.py`); connections (`origin/`); what becomes of it (`taking.py`).
Source: PURGE rules 28 to 30. Invariant: whatever a parent does or leaves, the origin can still be asked.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from banish.caching.reuse import ERROR_STATUSES, Leeway, stale_on_error
from banish.caching.storing import make_metadata
from banish.clock import Clock
from banish.edge.runtime import ParentRuntime
from banish.edge.tiering import Asking, Tiers
from banish.errors import ClientError, ConnectFailed, OriginError
from banish.http.fields import Fields
from banish.http.messages import RequestHead
from banish.mesh.tiers import FIELD, FIELD_LOWER, POSITIONS_MAX, Worth
from banish.origin.client import OriginResponse
from banish.origin.rendezvous import ranked
from banish.proxy.plan import Plan
from banish.purge.positions import Position, parse_position
from banish.purge.stamps import PurgeTable, Verdict

AVOID_PARENT_S = 10.0
"""How long a parent that could not be reached, or proved nothing, is not asked."""
FAILURES_MAX = 3
"""Answers in a row that did not come, or were cut off, before it is not asked. One may be its origin's slowness with
one URL, which no client is to use to keep all the others from their parent."""

_USED = (Worth.FRESH, Worth.PASSED)


@dataclass(slots=True)
class _Reply:
    """What a parent answered, and what it is worth; no response: it is not to be used, or there is none."""

    response: OriginResponse | None = None
    worth: Worth | None = None
    reached: bool = True


class Upstream:
    """The way to content, for one edge. `purge_id` names the purge of an apply index."""

    def __init__(
        self, *, tiers: Tiers, stamps: PurgeTable, clock: Clock, purge_id: Callable[[int], str | None]
    ) -> None:
        self._tiers = tiers
        self._stamps = stamps
        self._clock = clock
        self._purge_id = purge_id

    async def fetch(self, plan: Plan, head: RequestHead) -> OriginResponse:
        """Send a request; the response, once its head is here. The caller closes it. Raises OriginError."""
        plan.stale_above = False
        stale: OriginResponse | None = None
        if self._may_ask_parents(plan):
            for parent, edge in self._parents(plan):
                reply = await self._ask(parent, edge, plan, head)
                if reply.worth in _USED and reply.response is not None:
                    return reply.response
                stale = reply.response
                if reply.reached:
                    break
        if stale is None:
            return await self._origin(plan, head)
        return await self._origin_or(stale, plan, head)

    async def _origin(self, plan: Plan, head: RequestHead) -> OriginResponse:
        request, body = plan.request, plan.request.body
        return await plan.site.origin.fetch(
            head,
            None if body is None else aiter(body),
            trailers=None if body is None else lambda: body.trailers,
            on_interim=plan.pass_interim,
            expect_upgrade=request.upgrade,
        )

    async def _origin_or(self, stale: OriginResponse, plan: Plan, head: RequestHead) -> OriginResponse:
        """The origin's answer, unless it fails and what is stale at a parent may be passed on instead."""
        try:
            response = await self._origin(plan, head)
        except OriginError:
            if self._may_pass_on(stale, plan, None):
                plan.stale_above = True
                return stale
            stale.close()
            raise
        except BaseException:
            stale.close()
            raise
        if response.head.status in ERROR_STATUSES and self._may_pass_on(stale, plan, response.head.status):
            plan.stale_above = True
            response, stale = stale, response
        stale.close()
        return response

    def _may_pass_on(self, stale: OriginResponse, plan: Plan, status: int | None) -> bool:
        """Whether this site's policy lets a stale response of a parent's stand in; never for one of our own that does:
        that is decided where it is stored."""
        if stale.head.status == 304 or plan.leeway is Leeway.CONFIRMED or plan.records:
            return False
        meta = make_metadata(
            plan.key, plan.head, stale.head, plan.policy,
            requested_at=stale.requested_at, received_at=stale.received_at,
        )  # fmt: skip
        return stale_on_error(meta, self._clock.now(), plan.policy, plan.head, status or "unreachable")

    # --- parents

    def _may_ask_parents(self, plan: Plan) -> bool:
        request = plan.request
        if not plan.site.parents or plan.direct or self._tiers.tier is None:
            return False
        return plan.head.method in ("GET", "HEAD") and request.body is None and not request.upgrade

    def _parents(self, plan: Plan) -> Iterator[tuple[ParentRuntime, str]]:
        """The parents that may be asked for this URL now, in order, with their edge ids."""
        tier, path = self._tiers.tier, plan.child.ask.path if plan.child is not None else ()
        assert tier is not None
        for name in ranked(plan.key.rpartition(" ")[2], plan.site.parents):
            parent, edge = plan.site.parents[name], tier.named(name)
            if edge is None:
                self._tiers.complain("a parent is no member of the mesh", name)
            elif edge != tier.edge and edge not in path and parent.avoided_until <= self._clock.monotonic():
                yield parent, edge

    async def _ask(self, parent: ParentRuntime, edge: str, plan: Plan, head: RequestHead) -> _Reply:
        """Ask one parent. What is not to be used is closed."""
        host, since = plan.target.host, self._since(plan)
        asking = self._tiers.ask(
            edge, (head.method, head.target, host), scheme=plan.target.scheme, rules=plan.site.site.rules_digest,
            child=plan.child, through=plan.leeway is Leeway.CONFIRMED, since=since,
        )  # fmt: skip
        if asking is None:
            self._tiers.count(parent.name, "too_long")
            return _Reply()
        lines = [line for line, name in zip(head.fields.lines, head.fields.names, strict=True) if name != "host"]
        told = Fields.of([("Host", host), *lines, (FIELD, asking.value)])
        try:
            response = await parent.group.fetch(
                msgspec.structs.replace(head, fields=told), None, on_interim=plan.pass_interim
            )
        except OriginError as error:
            parent.failures += 1
            self._tiers.count(parent.name, "unreachable")
            if isinstance(error, ConnectFailed) or parent.failures >= FAILURES_MAX:
                self._avoid(parent)
            return _Reply(reached=False)
        parent.failures = 0
        return self._judged(parent, plan, asking, response, since=bool(since))

    def _judged(
        self, parent: ParentRuntime, plan: Plan, asking: Asking, response: OriginResponse, *, since: bool
    ) -> _Reply:
        """What a parent's answer is worth. One that did not get as far as reading the ask (the head was too large for
        it, say) is not at fault for other requests: no client is to keep those from it.
        """
        fields, status = response.head.fields, response.head.status
        asked_since = since or (plan.child is not None and bool(plan.child.ask.since))
        worth = self._tiers.proven(asking, status, fields, fields.get(FIELD_LOWER), since=asked_since)
        self._tiers.count(parent.name, worth or "unproved")
        if worth is None and (status < 400 or FIELD_LOWER in fields):
            self._avoid(parent)
            self._tiers.complain("a parent does not prove that it has all purges", parent.name)
        elif worth is Worth.FAILED and status == 421:
            self._avoid(parent)
            self._tiers.complain("a parent has other rules for a site, or has it not", parent.name)
        if worth is None or worth is Worth.FAILED:
            response.close()
            return _Reply()
        return _Reply(response, worth)

    def _avoid(self, parent: ParentRuntime) -> None:
        parent.avoided_until = self._clock.monotonic() + AVOID_PARENT_S

    def _since(self, plan: Plan) -> tuple[Position, ...]:
        """The purges that caused the asking, and those that are known to have hit the URL: what the parent has may be
        named otherwise than what was stored here (PURGE rule 30)."""
        indexes, names, since = {plan.purge} - {0}, plan.names, self._stamps.floor
        while len(indexes) < POSITIONS_MAX:
            finding = self._stamps.finding(names, since)
            if finding.verdict is Verdict.CLEAN or finding.index <= since:
                break
            since = finding.index
            indexes.add(since)
        return tuple([position for index in sorted(indexes) if (position := self._position(index)) is not None])

    def _position(self, index: int) -> Position | None:
        try:
            return parse_position(self._purge_id(index) or "")
        except ClientError:
            return None
