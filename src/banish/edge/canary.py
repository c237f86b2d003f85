"""Canaries: a small response that every edge stores, and that is purged and looked for again all the time.

    every mesh.canary_s   this edge purges the tag of its own canary, as any purge is made
    on every edge         it comes as any purge comes: log, mesh, stamps. Is that canary gone from the store? Then it is
                          stored anew, for the next time
    receipts              which members have confirmed which canary: how old the last one is, is what to be alarmed by

So what is shown to work is the whole way from intake to store, on every pair of edges, whether or not anybody purges.

Not here: receipts themselves (`confirming.py`). Canaries are not told in the history unless their site is asked for.
Units: seconds of the clock that goes on while the machine sleeps.
Invariant: a canary that answers after its purge is counted as stale, and logged.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import structlog

from banish.caching.stored import Metadata
from banish.clock import Clock
from banish.edge.receipts import Caller, EdgeReceipt, Purge, PurgeRequest
from banish.errors import BanishError
from banish.http.fields import Fields
from banish.purge.given import Given
from banish.purge.positions import Position, parse_position
from banish.purge.records import Record
from banish.purge.targets import Kind
from banish.store.bodies import Body
from banish.store.records import StoredResponse
from banish.tables import Accounts, Metric

CANARY_SITE = "banish-canary"
"""The site that canaries are of. It has no hosts: no request gets there."""

LIFETIME_S = 86_400.0
FLYING_MAX = 16
"""Canaries of this edge that are watched until all members have confirmed them."""

CANARIES = Metric(
    "banish_canaries_total",
    "counter",
    "Canary purges by what was found on this edge when they took effect: gone (as it should be), stale (the canary "
    "would still have answered: a fault), new (there was none yet).",
    ("outcome",),
)
CANARY_AGE = Metric(
    "banish_mesh_canary_age_seconds",
    "gauge",
    "Since the newest canary purge of this edge was sent that each member has confirmed. Above three times "
    "mesh.canary_s purges do not get there.",
    ("member",),
)

log = structlog.get_logger(__name__)


class Store(Protocol):
    """What is needed of the store."""

    def lookup(self, key: str) -> tuple[StoredResponse, ...]: ...
    def put(self, record: StoredResponse) -> object: ...


class Purging(Protocol):
    """What is needed of the purge service."""

    async def purge(self, asked: PurgeRequest, caller: Caller) -> Purge: ...


class _Flying(NamedTuple):
    position: Position
    sent_at: float


class Canaries:
    """The canaries of one edge. Belongs to the event loop.

    `receipts` tells of each member how far it is with a position; `index` is the apply index.
    """

    def __init__(
        self,
        edge: str,
        *,
        store: Store,
        purging: Purging,
        receipts: Callable[[Position], Iterable[EdgeReceipt]],
        index: Callable[[], int],
        clock: Clock,
        accounts: Accounts,
    ) -> None:
        self._edge = edge
        self._store = store
        self._purging = purging
        self._receipts = receipts
        self._index = index
        self._clock = clock
        self._kept: set[str] = set()
        """Edges whose canaries are stored here."""
        self._flying: deque[_Flying] = deque(maxlen=FLYING_MAX)
        self._confirmed: dict[str, float] = {}
        """Name of a member → when the newest canary was sent that it has confirmed."""
        self._found = accounts.tally(CANARIES)
        accounts.read(CANARY_AGE, self._ages)

    async def run(self, period_s: float) -> None:
        """Send one every `period_s`, until cancelled."""
        while True:
            await asyncio.sleep(period_s)
            try:
                await self.send()
            except BanishError as error:  # purges are refused: the log says why, and the age of the last one grows
                log.debug("no canary was sent", error=str(error))

    async def send(self) -> None:
        """Purge this edge's canary everywhere. Raises ClientError as a purge does."""
        sent_at = self._clock.boottime()
        asked = PurgeRequest(targets=(Given(Kind.TAG, self._edge),), reason="canary")
        purge = await self._purging.purge(asked, Caller("canary", "", (CANARY_SITE,)))
        self._flying.append(_Flying(parse_position(purge.id), sent_at))

    def in_effect(self, record: Record) -> None:
        """A record is in effect here: if it purges a canary, see that it is gone, and store another."""
        if record.sites != (CANARY_SITE,):
            return
        edge = record.position.edge
        stale = self._store.lookup(_key(edge))
        if stale:
            log.error("a canary was purged and would still be answered", edge=edge, purge=record.position.text)
        self._found.add("stale" if stale else "gone" if edge in self._kept else "new")
        self._kept.add(edge)
        self._store.put(_canary(edge, self._index(), self._clock.now()))

    def _ages(self) -> list[tuple[tuple[str, ...], float]]:
        now = self._clock.boottime()
        for flying in self._flying:
            for receipt in self._receipts(flying.position):
                if receipt.complete:
                    latest = self._confirmed.get(receipt.name, -math.inf)
                    self._confirmed[receipt.name] = max(latest, flying.sent_at)
        members = [receipt.name for receipt in self._receipts(self._flying[-1].position)] if self._flying else []
        return [((name,), now - self._confirmed[name]) for name in members if name in self._confirmed]


def _key(edge: str) -> str:
    return f"{CANARY_SITE}#{'0' * 8} http://{CANARY_SITE}/{edge}"


def _canary(edge: str, fence: int, now: float) -> StoredResponse:
    meta = Metadata(
        key=_key(edge),
        status=200,
        reason="OK",
        fields=Fields(),
        requested_at=now,
        received_at=now,
        date=now,
        initial_age=0.0,
        lifetime=LIFETIME_S,
        vary=(),
        selecting=(),
        tags=(edge,),
        groups=(),
    )
    return StoredResponse(meta, Body.complete(b"canary"), fence=fence, clean_at=fence)
