"""Progress of purges: what each has matched so far, until everything it matched is gone, and who waits for that.

    begin ──▶ followed ── matched, matched … ──▶ swept: final counts, handed out to be logged ──▶ recent

Counts are kept in memory while a purge is followed: a crash begins them anew. What is past a bound below is in
effect like any other, and only less is told of it.

Not here: what matches (`purge/stamps.py`), deleting it (`store/`), the final counts in the log (`store/log.py`).
Units: bytes of bodies; apply indexes.
Invariants: a purge is swept only when the store says so. Who waits is woken for every change of stage, and a wait that
is given up leaves nothing behind.
"""

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence

import msgspec

from banish.errors import LimitExceeded
from banish.purge.targets import Target
from banish.tables import Accounts, Metric

FOLLOWED_MAX = 100_000
"""Purges followed at once. Past it a purge is told without counts."""

FOLLOWED_TARGETS_MAX = 1_000_000
"""Targets of followed purges that are counted apart. Past it a purge has only its sums."""

RECENT_MAX = 10_000
"""Entries of which the end is remembered here until it is surely in the log: more than wait for it at once."""

FINISHED_AT_ONCE = 256
"""Purges finished by one call of `finish`: about a millisecond's worth."""

WAITERS_MAX = 1000
"""Callers that wait at once, for purges or for the feed. Past it 503."""

PURGES_FOLLOWED = Metric(
    "banish_purges_unswept", "gauge", "Purges in effect whose matches are not all deleted (or, softly, marked) yet."
)
PURGES_UNCOUNTED = Metric(
    "banish_purges_uncounted_total",
    "counter",
    "Purges told with less than counts per target, since too many were unswept: sums only (targets), nothing (purges).",
    ("bound",),
)
PURGE_MATCHED = Metric(
    "banish_purge_matched_total", "counter", "Stored responses that purges have removed or, softly, marked."
)
PURGE_MATCHED_BYTES = Metric("banish_purge_matched_bytes_total", "counter", "Bytes of their bodies.")
PURGE_WAITERS = Metric("banish_purge_waiters", "gauge", "Callers that wait for a purge or for news of the feed.")
PURGE_WAITERS_REFUSED = Metric(
    "banish_purge_waiters_refused_total", "counter", "Callers told to come back later: too many wait already."
)


class Counts(msgspec.Struct, omit_defaults=True):
    """What a purge matched, as it is written to the log."""

    matched: int = 0
    bytes: int = 0
    targets: dict[int, tuple[int, int]] | None = None
    """Number of the target in the purge → responses and bytes, where there are any. None: not counted apart."""
    widened: tuple[str, ...] = ()


class Followed:
    """A purge on its way. `canonical` holds, for each of its targets, what it became here."""

    __slots__ = ("_canonical", "_numbers", "counts", "index", "swept_at")

    def __init__(self, index: int, canonical: Sequence[tuple[Target, ...]] | None, widened: Sequence[str]) -> None:
        self.index = index
        self.counts = Counts(widened=tuple(widened), targets=None if canonical is None else {})
        self.swept_at: float | None = None
        self._canonical = canonical
        self._numbers: dict[Target, int] | None = None

    @property
    def weight(self) -> int:
        """Targets counted apart."""
        return len(self._canonical or ())

    def add(self, target: Target | None, responses: int, n_bytes: int) -> None:
        """Responses were matched, by this canonical target if that is known."""
        counts = self.counts
        counts.matched += responses
        counts.bytes += n_bytes
        if counts.targets is None or target is None:
            return
        if self._numbers is None:  # most purges match nothing here: made for the others only
            self._numbers = {one: at for at, many in enumerate(self._canonical or ()) for one in many}
        number = self._numbers.get(target)
        if number is not None:
            matched, matched_bytes = counts.targets.get(number, (0, 0))
            counts.targets[number] = (matched + responses, matched_bytes + n_bytes)

    def end(self, now: float) -> None:
        """Everything it matched is gone."""
        self.swept_at = now
        self._canonical = self._numbers = None


class Progress:
    """All purges on their way on one edge, by apply index."""

    def __init__(self, accounts: Accounts) -> None:
        self._followed: dict[int, Followed] = {}
        self._hard: deque[int] = deque()  # in the order of their indexes, as they are swept
        self._soft: deque[int] = deque()
        self._recent: OrderedDict[int, Followed] = OrderedDict()
        self._followers: OrderedDict[int, int] = OrderedDict()
        self._weight = 0
        self._waiting: dict[int, set[asyncio.Future[None]]] = {}
        self._waiters = 0
        self._uncounted = accounts.tally(PURGES_UNCOUNTED)
        self._matched = accounts.tally(PURGE_MATCHED)
        self._matched_bytes = accounts.tally(PURGE_MATCHED_BYTES)
        self._refused = accounts.tally(PURGE_WAITERS_REFUSED)
        accounts.read(PURGES_FOLLOWED, lambda: [((), len(self._followed))])
        accounts.read(PURGE_WAITERS, lambda: [((), self._waiters)])

    def __len__(self) -> int:
        return len(self._followed)

    # --- following

    def begin(self, index: int, canonical: Sequence[tuple[Target, ...]], widened: Sequence[str], *, soft: bool) -> None:
        """A purge took effect. `soft`: it has soft targets, so it is swept apart from hard ones."""
        if len(self._followed) >= FOLLOWED_MAX:
            self._uncounted.add("purges")
            return
        counted = self._weight + len(canonical) <= FOLLOWED_TARGETS_MAX
        if not counted:
            self._uncounted.add("targets")
        followed = self._followed[index] = Followed(index, canonical if counted else None, widened)
        self._weight += followed.weight
        (self._soft if soft else self._hard).append(index)

    def matched(self, index: int, target: Target | None, responses: int, n_bytes: int) -> None:
        """Stored responses were removed, or marked, because of the purge `index`."""
        self._matched.add(n=responses)
        self._matched_bytes.add(n=n_bytes)
        followed = self._followed.get(index)
        if followed is not None:
            followed.add(target, responses, n_bytes)

    def drop(self, index: int) -> None:
        """A purge was taken back: it is followed no more."""
        followed = self._followed.pop(index, None)
        if followed is not None:
            self._weight -= followed.weight
        self.changed(index)

    def finish(self, has_swept: Callable[[int], bool], now: float) -> list[Followed]:
        """Those whose matches are all gone by now: at most `FINISHED_AT_ONCE`; call again if that many."""
        finished: list[Followed] = []
        for queue in (self._hard, self._soft):
            while queue and len(finished) < FINISHED_AT_ONCE:
                followed = self._followed.get(queue[0])
                if followed is not None and not has_swept(queue[0]):
                    break
                queue.popleft()
                if followed is not None:
                    finished.append(followed)
        for followed in finished:
            self._end(followed, now)
        return finished

    def _end(self, followed: Followed, now: float) -> None:
        del self._followed[followed.index]
        self._weight -= followed.weight
        followed.end(now)
        self._recent[followed.index] = followed
        if len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)
        self.changed(followed.index)

    def find(self, index: int) -> Followed | None:
        """A purge that is followed, or was a moment ago; None: the log knows all there is to know."""
        return self._followed.get(index) or self._recent.get(index)

    def follow(self, index: int, by: int) -> None:
        """The entry `by` undoes, cancels or carries out the entry `index`."""
        self._followers[index] = by
        if len(self._followers) > RECENT_MAX:
            self._followers.popitem(last=False)

    def follower(self, index: int) -> int:
        """Which entry followed from this one a moment ago; 0: the log knows."""
        return self._followers.get(index, 0)

    # --- waiting

    def changed(self, index: int) -> None:
        """Wake all who wait for this entry."""
        for waiter in self._waiting.pop(index, ()):
            if not waiter.done():
                waiter.set_result(None)

    @contextlib.contextmanager
    def watch(self, *indexes: int) -> Iterator[asyncio.Future[None]]:
        """A future that is done at the next change of any of these, from now on. Look at the state after this has
        begun, and nothing is missed.
        """
        waiter = asyncio.get_running_loop().create_future()
        for index in indexes:
            self._waiting.setdefault(index, set()).add(waiter)
        try:
            yield waiter
        finally:
            waiter.cancel()
            for index in indexes:
                waiters = self._waiting.get(index)
                if waiters is not None:
                    waiters.discard(waiter)
                    if not waiters:
                        del self._waiting[index]

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place among those who wait; raises LimitExceeded (503) if there is none."""
        if self._waiters >= WAITERS_MAX:
            self._refused.add()
            raise LimitExceeded(503, "WAITERS_MAX", f"{WAITERS_MAX} callers wait already; ask again without waiting")
        self._waiters += 1
        try:
            yield
        finally:
            self._waiters -= 1
