"""The shelf: the index with its counters, and the one place through which what is on disk changes.

    edit ──▶ commit ──▶ written, or failed: from then on nothing is written until the index was opened again
               ├──▶ reads under way of the same URLs are told: what they bring is of yesterday
               └──▶ files that nothing leads to any more are deleted, on a thread

Not here: what is read and written (`disk.py`); opening again (`disk.py`).
Invariants: a batch is written whole or not at all, and after a failure none is until `reopened`; a read that was
under way when its URL changed is told so before it can be used.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from threading import Lock

import structlog

from banish.errors import IndexBusy, IndexFailed, StoreError
from banish.store.diskthreads import DiskThreads
from banish.store.edits import Edit, Place
from banish.store.files import BodyFiles
from banish.store.generations import Generation, Generations, Serials
from banish.store.index import Batch, Family, Index
from banish.store.rows import ALL_ROWS, generation_of, object_key, split_key_name
from banish.tables import Accounts, Metric

WRITE_THREADS = 2
"""Threads that put bodies into files, delete files, and sync: one of each at a time, mostly."""

DISK_FAILED = Metric("banish_disk_failed", "gauge", "1 while the disk's index is given up after an error, else 0.")
DISK_FAILURES = Metric(
    "banish_disk_failures_total", "counter", "Times the disk failed, by what it was asked to do.", ("to",)
)
DISK_DAMAGED = Metric(
    "banish_disk_damaged_total",
    "counter",
    "Rows and bodies on disk that were not what had been written. Each is a miss, and removed.",
)

log = structlog.get_logger(__name__)


class Reading:
    """One read under way. `stale`: its URL has changed since it began."""

    __slots__ = ("place", "stale")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.stale = False


class Shelf:
    """Index, generations and serials of one edge, kept together. Belongs to the event loop. Raises StoreError.

    `on_unfiled` is told cache key and serial of each response whose file is about to be deleted.
    """

    def __init__(
        self, index: Index, files: BodyFiles, accounts: Accounts, on_unfiled: Callable[[str, int], None]
    ) -> None:
        self.files = files
        self._on_unfiled = on_unfiled
        self.failed = False
        """Whether the index is given up for now."""

        self.threads = DiskThreads(WRITE_THREADS, "banish-store")
        self._failures = accounts.tally(DISK_FAILURES)
        self.damages = accounts.tally(DISK_DAMAGED)
        accounts.read(DISK_FAILED, lambda: [((), int(self.failed))])
        self._readings: dict[bytes, list[Reading]] = {}
        self._closed = False
        self._counting = Lock()  # failures are met on threads too
        self.index = index
        self.generations = Generations(index, files.generations())
        self.serials = Serials(index)

    def reopened(self, index: Index) -> None:
        """Take up what an index says that was opened again. Numbers given before are not given again."""
        generations = Generations(index, range(self.generations.newest, self.generations.newest + 1))
        self.serials = Serials(index, self.serials.next)
        self.index, self.generations = index, generations
        self.failed = False

    def fail(self, to: str, error: StoreError) -> None:
        """Give the index up: it could not be written or synced."""
        self.count_failure(to)
        if not self.failed:
            self.failed = True
            log.error("the disk failed; stored responses are kept in memory alone", to=to, error=str(error))
        for readings in list(self._readings.values()):
            for reading in readings:
                reading.stale = True

    def stale(self, place: Place) -> None:
        """Whatever is being read of this place is not as it should be any more."""
        for reading in self._readings.get(place.key, ()):
            reading.stale = True

    def close(self) -> None:
        """Stop, once what the threads do is done. Blocks."""
        self._closed = True
        self.threads.stop()
        self.index.close()

    # Writing

    def edit(self) -> Edit:
        """An edit, empty as yet."""
        return Edit(self.index, self.generations)

    def commit(self, edit: Edit) -> None:
        """Write what an edit holds. Raises IndexBusy, and then nothing came about; IndexFailed, and then it may have
        or not, and nothing more is written until the index was opened again."""
        if edit.damaged:
            self.damages.add(n=edit.damaged)
            edit.damaged = 0
        batch = edit.finished()
        try:
            self.write(batch)
        except IndexBusy:
            edit.taken_back()
            raise
        for place in edit.touched.values():
            self.stale(place)
        for cache_key, gen, serial in edit.dropped:
            self._on_unfiled(cache_key, serial)
            self.behind("unlink", self.files.unlink, gen, serial)

    def write(self, batch: Batch) -> None:
        """Write a batch that is about no URL. Raises IndexBusy, IndexFailed."""
        if self.failed:
            raise IndexFailed("the disk has failed")
        if not batch:
            return
        try:
            self.index.write(batch)
        except IndexBusy:
            self.count_failure("keep up")
            raise
        except StoreError as error:
            self.fail("write", error)
            raise

    def open(self, cache_key: str, at: int) -> Generation:
        """Open a generation for the site and rules of this key; `at` is the apply index now. Raises IndexFailed."""
        batch = Batch()
        generation = self.generations.opening(batch, split_key_name(cache_key)[0], at)
        self.write(batch)
        self.generations.enter(generation)
        return generation

    def drop(self, old: Iterable[Generation], *, renewed_at: int | None = None) -> None:
        """Drop generations in one batch, each with what is being read of it; open the next of each in the same batch,
        if `renewed_at`, the apply index now, is given. Raises IndexFailed."""
        batch, gone, new = Batch(), list(old), []
        for generation in gone:
            self.generations.closing(batch, generation)
            if renewed_at is not None:
                new.append(self.generations.opening(batch, generation.key_name, renewed_at))
        self.write(batch)
        for generation in gone:
            self.generations.leave(generation)
        for generation in new:
            self.generations.enter(generation)

    def empty(self) -> None:
        """Drop all generations, and every row of a response, whatever it belonged to. Raises IndexFailed."""
        batch, gone = Batch(), list(self.generations)
        for generation in gone:
            self.generations.closing(batch, generation)
        for family in Family:
            if family is not Family.META:
                batch.delete_range(family, *ALL_ROWS)
        self.write(batch)
        for generation in gone:
            self.generations.leave(generation)

    def serial(self) -> int:
        """A name for what is about to be stored. Raises IndexFailed."""
        if self.failed:
            raise IndexFailed("the disk has failed")
        try:
            return self.serials.take(self.index)
        except IndexBusy:
            self.count_failure("keep up")
            raise
        except StoreError as error:
            self.fail("write", error)
            raise

    def behind(self, to: str, call: Callable[..., object], *args: object) -> "Future[object]":
        """Run `call` on a thread; that it failed is counted. Not once the store is closed: the next start clears up."""
        if self._closed:
            return Future()
        done = self.threads.submit(call, *args)
        done.add_done_callback(lambda done: self._ended(to, done))
        return done

    def _ended(self, to: str, done: "Future[object]") -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            self.count_failure(to)
            log.warning("the disk failed", to=to, error=str(error))

    # Reading

    def place(self, cache_key: str) -> Place | None:
        """Where the responses under a cache key are, if its site has anything on disk."""
        generation = self.generations.named(cache_key)
        return None if generation is None else Place(generation, object_key(generation.gen, cache_key))

    def place_at(self, key: bytes) -> Place | None:
        """The place of an object's row, if its generation is in force. Raises IndexDamaged."""
        generation = self.generations.numbered(generation_of(key))
        return None if generation is None else Place(generation, key)

    def begin(self, place: Place) -> Reading:
        """A read of this place begins."""
        reading = Reading(place)
        self._readings.setdefault(place.key, []).append(reading)
        return reading

    def end(self, reading: Reading) -> bool:
        """The read is done: whether what it brought is as things are now."""
        others = self._readings[reading.place.key]
        others.remove(reading)
        if not others:
            del self._readings[reading.place.key]
        in_force = self.generations.numbered(reading.place.generation.gen) is not None
        return in_force and not reading.stale and not self.failed

    def may_hold(self, place: Place) -> bool:
        """Whether anything may be stored there: False is certain, or the disk has failed."""
        if self.failed:
            return False
        try:
            return self.index.may_hold(Family.OBJECTS, place.key)
        except StoreError:
            self.count_failure("read")
            return True

    def count_failure(self, to: str) -> None:
        """Count that the disk failed. May be called from any thread."""
        with self._counting:
            self._failures.add(to)
