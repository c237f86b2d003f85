"""The spool: temporary files without a name for bodies too large for memory, under one budget of bytes.

Without a name nothing outlives the process, and its bytes are given back when the last holder lets go of it.
A body that is to outlive the process gets a name for the file it has already (`SpoolFile.link`): nothing is copied.
Every call that may touch the disk runs on the spool's own threads, closing included.

Not here: what is written when, and who reads it (`fill.py`); files that outlive a restart (`files.py`).
Invariant: `used_bytes <= bytes_max`. A file is written only where it has reserved, from its beginning on.
"""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import ParamSpec, TypeVar

from banish.store.checksums import CHUNK_BYTES, Checksums
from banish.store.diskthreads import DiskThreads
from banish.tables import Accounts, Metric

SPOOL_THREADS = 4
"""Threads for spool reads and writes: enough for a few slow seeks at once, and a bound on blocked calls."""

IOV_MAX = 512
"""Buffers handed to one `pwritev`; POSIX promises 16, Linux and macOS take 1024."""

SPOOL_BYTES = Metric("banish_spool_bytes", "gauge", "Bytes of bodies reserved in spool files.")
SPOOL_BYTES_MAX = Metric("banish_spool_max_bytes", "gauge", "The spool budget.")
SPOOL_REFUSED = Metric(
    "banish_spool_refused_total",
    "counter",
    "Bodies that outgrew the spool budget and were relayed but not kept.",
)
SPOOL_ERRORS = Metric("banish_spool_errors_total", "counter", "Writes to spool files that failed, as on a full disk.")
READERS_CUT = Metric(
    "banish_body_readers_cut_total",
    "counter",
    "Readers that fell too far behind a body that is not kept whole.",
)

P = ParamSpec("P")
T = TypeVar("T")


class SpoolBudget:
    """The bytes and threads that all spool files of one edge share. `directory` None: no spooling at all.

    `reserve` and `used_bytes` belong to the event loop. What a file gives back when it is let go of may come
    from any thread, and from the cyclic collector in the midst of anything, this class's own lines included:
    it takes no lock, but queues that can be entered again.
    """

    def __init__(self, directory: Path | None, bytes_max: int, *, accounts: Accounts | None = None) -> None:
        self.directory = directory
        self.bytes_max = bytes_max if directory is not None else 0
        self._reserved_bytes = 0
        self._returned: deque[int] = deque()
        self._threads = DiskThreads(SPOOL_THREADS, "banish-spool")
        books = accounts or Accounts()
        books.read(SPOOL_BYTES, lambda: [((), self.used_bytes)])
        books.read(SPOOL_BYTES_MAX, lambda: [((), self.bytes_max)])
        self.refused = books.tally(SPOOL_REFUSED)
        self.errors = books.tally(SPOOL_ERRORS)
        self.readers_cut = books.tally(READERS_CUT)

    def __repr__(self) -> str:
        return f"<SpoolBudget {self.used_bytes} of {self.bytes_max} bytes>"

    @property
    def used_bytes(self) -> int:
        """Bytes reserved now."""
        while self._returned:
            self._reserved_bytes -= self._returned.popleft()
        return self._reserved_bytes

    def reserve(self, n_bytes: int) -> bool:
        """Take `n_bytes` of the budget, or nothing."""
        if self.used_bytes + n_bytes > self.bytes_max:
            return False
        self._reserved_bytes += n_bytes
        return True

    def release(self, n_bytes: int) -> None:
        """Give back what was reserved."""
        self._returned.append(n_bytes)

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run `call` on a spool thread."""
        return self._threads.submit(call, *args, **kwargs)

    def close_file(self, descriptor: int) -> None:
        """Close a file's descriptor, soon. May be called from anywhere."""
        self._threads.close_file(descriptor)

    def close(self) -> None:
        """Stop the threads, once what they do is done."""
        self._threads.stop()


class SpoolFile:
    """One body's file. `write`, `read` and `link` block: call them on a thread.

    Opened at the first write. There is one writer at a time, who writes from the beginning on; reads are positioned
    and need no order.
    """

    __slots__ = ("_descriptor", "_sums", "budget", "reserved_bytes")

    def __init__(self, budget: SpoolBudget) -> None:
        self.budget = budget
        self.reserved_bytes = 0
        self._sums = Checksums()
        self._descriptor = -1

    def reserve(self, n_bytes: int) -> bool:
        """Make room for `n_bytes` more, or for none."""
        if not self.budget.reserve(n_bytes):
            return False
        self.reserved_bytes += n_bytes
        return True

    def shrink(self, n_bytes: int) -> None:
        """Give back what was reserved past `n_bytes`."""
        surplus = self.reserved_bytes - n_bytes
        if surplus > 0:
            self.reserved_bytes = n_bytes
            self.budget.release(surplus)

    def write(self, chunks: Sequence[bytes], offset: int) -> int:
        """Write all of `chunks` from `offset` on, where the last write ended; how many bytes. Raises OSError."""
        assert offset == self._sums.size, "a spool file is written in order"
        if self._descriptor < 0:
            assert self.budget.directory is not None, "room was reserved in a directory"
            self._descriptor = open_unnamed(self.budget.directory)
        written = 0
        for at in range(0, len(chunks), IOV_MAX):
            written += self._write_some(chunks[at : at + IOV_MAX], offset + written)
        for chunk in chunks:
            self._sums.add(chunk)
        return written

    def _write_some(self, chunks: Sequence[bytes], offset: int) -> int:
        wanted = sum(map(len, chunks))
        written = os.pwritev(self._descriptor, chunks, offset)
        if written < wanted:  # a signal, or a disk about to be full: finish by hand, or meet the error
            rest = memoryview(b"".join(chunks))[written:]
            while rest:
                n = os.pwrite(self._descriptor, rest, offset + wanted - len(rest))
                rest = rest[n:]
        return wanted

    def read(self, n_max: int, offset: int) -> bytes:
        """Up to `n_max` bytes from `offset`; short or empty only at the end of what was written."""
        return os.pread(self._descriptor, n_max, offset)

    @property
    def checksums(self) -> bytes:
        """Of the bytes as they were in memory, before the disk had them."""
        return self._sums.so_far()

    def pieces(self) -> Iterator[bytes]:
        """All that was written, a chunk at a time. Raises OSError."""
        for offset in range(0, self._sums.size, CHUNK_BYTES):
            yield self.read(CHUNK_BYTES, offset)

    def link(self, path: Path) -> None:
        """Give the file a name, under which it stays. Raises OSError where that cannot be done: on another file system,
        without /proc, or where unnamed files are really deleted ones."""
        # A directory's descriptor, though the path is absolute: os.link follows the link in /proc only if it has one.
        os.link(f"/proc/self/fd/{self._descriptor}", path, src_dir_fd=self._descriptor)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            self.budget.close_file(self._descriptor)
        if self.reserved_bytes:
            self.budget.release(self.reserved_bytes)


def open_unnamed(directory: Path) -> int:
    """A descriptor of a new file without a name, which can be given one if the system knows how to."""
    if hasattr(os, "O_TMPFILE"):
        try:
            # Not with O_EXCL, as the standard library has it: that rules out naming the file later (open(2)).
            return os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        except OSError:  # a file system that has none; what else is wrong will show below
            pass
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        return os.dup(file.fileno())
