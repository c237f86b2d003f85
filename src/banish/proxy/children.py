"""Children: requests that other edges send, and what is told them beside the answer.

    head with Banish-Tier ──▶ taken off ──▶ a member's, now, for the first time? ──▶ what is in effect there, is so here
                                              no: it is a client's request like any other         │
    answer ◀── Banish-Tier: what it is worth ◀───────── answered under stricter rules ◀──── it has arrived

Whoever sends the field, it is taken off before anything else looks at the request: no hook, key or origin ever sees it.

Not here: proofs and purges (`edge/tiering.py`), what is stricter (`pipeline.py`).
Source: PURGE rules 28 to 30.
"""

from collections.abc import Callable

import msgspec
import structlog

from banish.caching.cache_status import Outcome
from banish.clock import Clock
from banish.edge.tiering import Child, Tiers
from banish.errors import ClientError
from banish.http.dates import format_http_date
from banish.http.targets import request_target
from banish.mesh.tiers import FIELD, FIELD_LOWER, Worth
from banish.proxy.exchange import Answer, Request

_STALE = frozenset({Outcome.STALE, Outcome.STALE_ERROR})
_FAILED = frozenset({Outcome.ERROR, Outcome.REFUSED, Outcome.UNSATISFIABLE})
_NO_LENGTH = frozenset({204, 304})

log = structlog.get_logger(__name__)


class Children:
    """The children of one edge. `index` gives the apply index of now."""

    def __init__(self, tiers: Tiers, *, index: Callable[[], int], clock: Clock) -> None:
        self._tiers = tiers
        self._index = index
        self._clock = clock

    async def admit(self, request: Request) -> None:
        """Find out whether the request is a child's. If so, it arrives once this edge has what the child has."""
        head = request.head
        told = head.fields.get_all(FIELD_LOWER)
        request.head = msgspec.structs.replace(head, fields=head.fields.without((FIELD_LOWER,)))
        if len(told) != 1:
            return
        host = head.fields.get("host") or ""
        child = self._tiers.recognise(told[0], (head.method, head.target, host))
        if child is None:
            return
        try:  # the scheme is the client's, whatever lies between edges
            request.target = request_target(head.method, head.target, host, child.ask.scheme)
        except ClientError:
            return
        try:
            await self._tiers.admit(child)
        except Exception:  # the mesh's fault is not the request's: it is a client's then
            log.exception("a child's request cannot be taken in as one")
            return
        request.arrived_index = self._index()
        child.fence_min = self._tiers.fence_min(child, request.arrived_index)
        request.child = child

    def tell(self, child: Child, answer: Answer) -> None:
        """Say what an answer is worth. Nothing of it may be changed afterwards."""
        fields = answer.fields.without((FIELD_LOWER,))
        if "date" not in fields:
            fields = fields.plus("Date", format_http_date(self._clock.now()))
        length = fields.get("content-length") or ""
        if not length and answer.length is not None and answer.status not in _NO_LENGTH:
            length = str(answer.length)
        value = self._tiers.statement(child, _worth(child, answer.outcome), answer.status, fields, length)
        answer.fields = fields if value is None else fields.plus(FIELD, value)


def _worth(child: Child, outcome: Outcome) -> Worth:
    if outcome in _FAILED:
        return Worth.FAILED
    if outcome in _STALE:
        return Worth.STALE
    return Worth.FRESH if child.covers else Worth.PASSED
