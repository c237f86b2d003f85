"""Writing behind: large bodies become files while requests go on; their rows follow when the file is whole.

    queued ──▶ room? ──▶ on a thread: spool file gets its name, or bytes are written ──▶ matched ──▶ row written
      base = apply index now                                                               │
                                                  purged since base, replaced, site renewed └──▶ file deleted

Not here: small bodies, which go with their rows at once (`disk.py`); making the file (`files.py`).
Source: PURGE rule 5: what waits is matched against the purges since its base before it may stay.
Invariants: one write per variant; what was cancelled is never written; waiting is bounded in number and bytes.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from banish.caching.stored import Metadata
from banish.errors import StoreError
from banish.store.files import StoredFile
from banish.store.generations import Generation
from banish.store.records import StoredResponse, VariantKey
from banish.store.shelf import Shelf
from banish.tables import Accounts, Metric

WRITES_MAX = 256
"""Bodies that wait for the disk or are on their way to it. Past it, a response is not kept on disk."""

DISK_WRITING = Metric("banish_disk_writing", "gauge", "Large bodies waiting for the disk, or on their way to it.")


class Write:
    """One body on its way. `record` may be exchanged for one with the same body (a 304 came meanwhile)."""

    __slots__ = ("base", "begun", "cancelled", "generation", "record", "serial", "size")

    def __init__(self, record: StoredResponse, generation: Generation, serial: int, base: int) -> None:
        self.record = record
        self.generation = generation
        self.serial = serial
        self.base = base
        """The apply index up to which no purge matches it."""

        self.size = record.body.size
        self.begun = False
        self.cancelled = False


class WriteBehind:
    """The queue. `written` is told of each file made for a write that was not cancelled: in one step with what it
    decides, and it deletes the file if it decides against it. `room` says whether so many bytes may be taken."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        room: Callable[[int], bool],
        written: Callable[[Write, StoredFile], None],
        accounts: Accounts,
    ) -> None:
        self._shelf = shelf
        self._room = room
        self._written = written
        self._writes: dict[VariantKey, Write] = {}
        self._under_way: set[asyncio.Future[StoredFile]] = set()
        self.reserved_bytes = 0
        """Bytes of the files being made."""

        accounts.read(DISK_WRITING, lambda: [((), len(self._writes))])

    def __len__(self) -> int:
        return len(self._writes)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of those that wait for room."""
        return sum([write.size for write in self._writes.values() if not write.begun])

    def of(self, record: StoredResponse) -> Write | None:
        """The write of this very record, if it is not done."""
        write = self._writes.get(record.variant)
        return write if write is not None and write.record is record else None

    def queue(self, write: Write) -> bool:
        """Take a write, in place of one of the same variant; False if too many wait."""
        self.cancel(write.record.variant)
        if len(self._writes) >= WRITES_MAX:
            return False
        self._writes[write.record.variant] = write
        self.advance()
        return True

    def exchange(self, write: Write, record: StoredResponse, base: int) -> None:
        """The same body stands for another record now, matched up to `base`."""
        del self._writes[write.record.variant]
        self.cancel(record.variant)
        write.record, write.base = record, base
        self._writes[record.variant] = write

    def cancel(self, variant: VariantKey) -> None:
        """Have this variant's write come to nothing."""
        write = self._writes.pop(variant, None)
        if write is not None:
            write.cancelled = True

    def cancel_superseded(self, meta: Metadata) -> None:
        """Have every write come to nothing that a newer response with this metadata stands in front of."""
        for variant, write in list(self._writes.items()):
            other = write.record.meta
            if other.key == meta.key and (other.vary != meta.vary or other.selecting == meta.selecting):
                self.cancel(variant)

    def cancel_key(self, key: str) -> None:
        """Have every write under a cache key come to nothing."""
        for variant in [variant for variant in self._writes if variant[0] == key]:
            self.cancel(variant)

    def cancel_all(self) -> None:
        """Have every write come to nothing."""
        for variant in list(self._writes):
            self.cancel(variant)

    def advance(self) -> None:
        """Begin what there is room for, in order."""
        for write in list(self._writes.values()):
            if write.begun:
                continue
            if not self._room(write.size):
                return
            self._begin(write)

    async def done(self) -> None:
        """Wait until nothing is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _begin(self, write: Write) -> None:
        write.begun = True
        self.reserved_bytes += write.size
        files = self._shelf.files
        job: Future[StoredFile] = self._shelf.threads.submit(
            files.keep, write.generation.gen, write.serial, write.record.body
        )
        waiting = asyncio.wrap_future(job)
        self._under_way.add(waiting)
        waiting.add_done_callback(partial(self._ended, write))

    def _ended(self, write: Write, done: "asyncio.Future[StoredFile]") -> None:
        self._under_way.discard(done)
        self.reserved_bytes -= write.size
        try:
            file = done.result()
        except (StoreError, asyncio.CancelledError):  # counted where it failed
            if not write.cancelled:
                self.cancel(write.record.variant)
            return
        if write.cancelled:
            self.delete(write)
            return
        del self._writes[write.record.variant]
        self._written(write, file)

    def delete(self, write: Write) -> None:
        """Delete the file of a write that came to nothing."""
        self._shelf.behind("unlink", self._shelf.files.unlink, write.generation.gen, write.serial)
