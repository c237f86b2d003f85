"""A purge service for tests: the real table, log and identity, over a store that only takes notes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from banish.caching.policy import DEFAULT_POLICY, CachePolicy
from banish.edge.config import Purge as Settings
from banish.edge.purging import Purger
from banish.edge.receipts import Caller, Purge, PurgeRequest
from banish.http.targets import Target as UrlTarget
from banish.purge.given import Given
from banish.purge.names import Names
from banish.purge.stamps import Mode, PurgeTable, Verdict
from banish.purge.targets import Kind, Target
from banish.store.identity import Identity
from banish.store.ledger import Entry
from banish.store.log import PurgeLog
from banish.store.tiers import Held
from banish.tables import Accounts, Metric
from banish.testing.clock import FakeClock
from tests.purgelogs import open_log

ALICE = Caller("alice", "192.0.2.1")
BOB = Caller("bob", "192.0.2.2")
SHOPKEEPER = Caller("shopkeeper", "192.0.2.3", ("shop",))

UNDO_WINDOW_S = 60.0


_KNOWN: dict[Path, tuple[str, Ed25519PrivateKey]] = {}


def _identity_at(path: Path | None) -> Identity:
    """An edge: the same one for the same log, whatever else is there."""
    found = Identity.open(None)
    if path is None:
        return found
    return Identity(None, *_KNOWN.setdefault(path, (found.edge, found._key)), -1)


class FakeStore:
    """Takes notes. `swept_upto` is how far it has swept, in order but for soft purges not released."""

    def __init__(self) -> None:
        self.synced_floor = 0
        self.reserved = 0
        self.bound: list[str] = []
        self.applied_: list[tuple[int, tuple[Target, ...], tuple[Target, ...]]] = []
        self.moments: dict[int, float] = {}
        self.released: list[int] = []
        self.taken_back: list[int] = []
        self.swept_upto = 0
        self.held: list[Held] = []
        self.syncs = 0
        self.told = asyncio.Event()
        """Set with each purge that it is told of."""
        self._soft: set[int] = set()

    def reserve(self, upto: int) -> None:
        self.reserved = upto

    def bind(self, log_id: str) -> None:
        self.bound.append(log_id)

    def applied(self, index: int, hard: Sequence[Target], soft: Sequence[Target], now: float) -> None:
        self.applied_.append((index, tuple(hard), tuple(soft)))
        self.moments[index] = now
        self.told.set()
        if soft:
            self._soft.add(index)

    def release_soft(self, index: int) -> None:
        self.released.append(index)
        self._soft.discard(index)

    def undone(self, index: int) -> None:
        self.taken_back.append(index)
        self._soft.discard(index)

    def has_swept(self, index: int) -> bool:
        return index <= self.swept_upto and index not in self._soft

    async def survey(self, targets: Sequence[Target]) -> AsyncIterator[Held]:
        for held in self.held:
            yield held

    async def sync(self) -> None:
        self.syncs += 1


class Service:
    """One start of an edge's purge service. `floor` is what the store is said to have swept before."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        store: FakeStore | None = None,
        clock: FakeClock | None = None,
        floor: int | None = None,
        table: PurgeTable | None = None,
        policy: CachePolicy = DEFAULT_POLICY,
        settings: Settings | None = None,
        invalidates_all: Callable[[str], bool] = lambda site: False,
        **log: Any,
    ) -> None:
        self.clock = clock or FakeClock()
        self.store = store or FakeStore()
        self.accounts = Accounts()
        self.log: PurgeLog = open_log(path, clock=self.clock, **log)
        self.identity = _identity_at(path)
        self.identity.seal(self.log)
        self.table = PurgeTable() if table is None else table
        start = max(self.log.reserved, self.store.reserved)
        self.table.begin(start, start if floor is None else floor)
        self.passed: list[bool] = []
        self._taking = asyncio.Event()
        self.policy = policy
        self.purger = Purger(
            table=self.table,
            log=self.log,
            identity=self.identity,
            store=self.store,
            policy_of=self._policy_of,
            rules=lambda: self.policy,
            invalidates_all=invalidates_all,
            settings=settings or Settings(undo_window_s=UNDO_WINDOW_S),
            clock=self.clock,
            accounts=self.accounts,
            on_passing=self._passing_changed,
        )

    def _passing_changed(self, passing: bool) -> None:
        self.passed.append(passing)
        if passing:
            self._taking.clear()
        else:
            self._taking.set()

    def _policy_of(self, target: UrlTarget) -> CachePolicy:
        return self.policy

    async def open(self) -> "Service":
        """Recover and start."""
        self.purger.recover()
        await self.purger.start()
        return self

    async def purge(self, *targets: Given, caller: Caller = ALICE, **asked: Any) -> Purge:
        """Purge these targets."""
        return await self.purger.purge(PurgeRequest(targets=targets or (tag("news"),), **asked), caller)

    async def entries(self) -> list[Entry]:
        """All that is in the log."""
        return await self.log.read(limit=100_000)

    async def settled(self) -> None:
        """All that waits for the log is written."""
        await self.log.reserve_more(self.log.reserved + 1)

    async def trimmed(self) -> None:
        """The log has let go of what it may."""
        await self.purger._trim()
        await self.settled()
        while self.log._writer._trim is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await self.settled()

    async def writable(self) -> None:
        """The log has caught up after a failure."""
        await self._taking.wait()

    def verdict(self, names: Names, since: int = 0) -> Verdict:
        """What the table says of a response fetched at `since`."""
        return self.table.verdict(names, max(since, self.table.floor))

    def figure(self, metric: Metric, *labels: str) -> float:
        """One figure of the books."""
        return next(samples.get(labels, 0) for each, samples in self.accounts.collect() if each.name == metric.name)


@contextlib.asynccontextmanager
async def serving(path: Path | None = None, **changes: Any) -> AsyncIterator[Service]:
    """A service that is open; closed behind."""
    service = Service(path, **changes)
    try:
        yield await service.open()
    finally:
        await asyncio.to_thread(service.log.close)


def tag(value: str, mode: Mode | None = None) -> Given:
    """A tag, as given."""
    return Given(Kind.TAG, value, mode=mode)


def url(value: str, mode: Mode | None = None) -> Given:
    """A URL, as given."""
    return Given(Kind.URL, value, mode=mode)


def tagged(*tags: str, site: str = "shop", url: str = "https://example.com/a") -> Names:
    """The names of a stored response."""
    return Names(site, url, tags)
