"""S3-FIFO eviction over byte weights: which keys stay within a budget.

New keys enter a small queue; only what is asked for again while there moves to the main queue, so a scan of
keys that nobody asks for twice flows through the small queue and leaves the main one alone. Both are plain
first-in first-out queues; a hit changes one small number. A ghost queue remembers keys that left the small
queue unasked-for: if one comes back, it goes straight to main.

              asked for twice or more
    ──▶ small ───────────────────────▶ main ──▶ out     (asked for: back to main's end, one less to its name)
          └──▶ out, remembered in ghost ──▶ main, when it comes back

Source: Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP 2023, algorithm
1, with sizes in bytes. Our additions: a key's weight may change, keys may be removed, an eviction's walk is
bounded.
Not here: what the keys stand for. Not safe for threads.
Invariants: `used <= budget` after every call; every key is in exactly one queue; ghosts are bounded in
number.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)

SMALL_SHARE = 0.1
"""The small queue's share of the budget: the paper's choice."""

COUNT_MAX = 3
"""Hits are counted up to this: two bits, as in the paper."""

PROMOTE_COUNT = 2
"""Hits in the small queue that move a key to main (`freq > 1` in the paper)."""

REINSERTS_MAX = 1024
"""Keys of main that one eviction may send round again before it takes the next as it is: about 0.2 ms. Where
every key is hot, the choice matters little and the walk would be three times the queue."""

GHOSTS_MIN = 64
"""Ghosts remembered even if fewer keys are held; else as many as keys are held, as in the paper."""


class _Place(msgspec.Struct, gc=False):
    weight: int
    count: int = 0


class S3Fifo(Generic[K]):
    """Keys with weights, within a budget."""

    __slots__ = ("_ghost_order", "_ghosts", "_main", "_small", "budget", "small_used", "used")

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self.small_used = 0
        self._small: OrderedDict[K, _Place] = OrderedDict()
        self._main: OrderedDict[K, _Place] = OrderedDict()
        self._ghosts: set[int] = set()  # hashes: a collision costs one undeserved place in main
        self._ghost_order: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._small) + len(self._main)

    def __contains__(self, key: object) -> bool:
        return key in self._small or key in self._main

    def __iter__(self) -> Iterator[K]:
        yield from self._small
        yield from self._main

    def __repr__(self) -> str:
        return f"<S3Fifo {self.used} of {self.budget}: {len(self._small)} small, {len(self._main)} main>"

    def add(self, key: K, weight: int) -> list[K]:
        """Add a key, or change its weight; the keys that had to go for it.

        `key` itself is among them if it is heavier than the whole budget, and it may be if it only grew.
        """
        if weight > self.budget:
            self.remove(key)
            return [key]
        if key in self:
            self._reweigh(key, weight)
            return self._fit(0)
        evicted = self._fit(weight)
        self.used += weight
        if hash(key) in self._ghosts:
            self._ghosts.discard(hash(key))
            self._main[key] = _Place(weight)
        else:
            self.small_used += weight
            self._small[key] = _Place(weight)
        return evicted

    def touch(self, key: K) -> None:
        """The key was asked for. Nothing happens if it is not held."""
        place = self._small.get(key) or self._main.get(key)
        if place is not None and place.count < COUNT_MAX:
            place.count += 1

    def remove(self, key: K) -> bool:
        """Take a key out, if it is held; it leaves no ghost."""
        place = self._small.pop(key, None)
        if place is not None:
            self.small_used -= place.weight
        else:
            place = self._main.pop(key, None)
        if place is None:
            return False
        self.used -= place.weight
        return True

    def _reweigh(self, key: K, weight: int) -> None:
        place = self._small.get(key)
        if place is not None:
            self.small_used += weight - place.weight
        else:
            place = self._main[key]
        self.used += weight - place.weight
        place.weight = weight

    def _fit(self, weight: int) -> list[K]:
        """Evict until `weight` more fits."""
        evicted: list[K] = []
        while self.used + weight > self.budget:
            if self._small and (self.small_used > self.budget * SMALL_SHARE or not self._main):
                self._evict_small(evicted)
            else:
                self._evict_main(evicted)
        return evicted

    def _evict_small(self, evicted: list[K]) -> None:
        """Take the oldest key out of small: to main if it was asked for, else out."""
        key, place = self._small.popitem(last=False)
        self.small_used -= place.weight
        if place.count >= PROMOTE_COUNT:
            place.count = 0
            self._main[key] = place
            return
        self.used -= place.weight
        evicted.append(key)
        self._remember(hash(key))

    def _evict_main(self, evicted: list[K]) -> None:
        """Take the oldest key out of main that has no hits left to its name."""
        for _ in range(REINSERTS_MAX):
            key, place = next(iter(self._main.items()))
            if place.count == 0:
                break
            place.count -= 1
            self._main.move_to_end(key)
        key, place = self._main.popitem(last=False)
        self.used -= place.weight
        evicted.append(key)

    def _remember(self, ghost: int) -> None:
        if ghost not in self._ghosts:
            self._ghosts.add(ghost)
            self._ghost_order.append(ghost)
        while len(self._ghost_order) > max(GHOSTS_MIN, len(self)):
            self._ghosts.discard(self._ghost_order.popleft())
