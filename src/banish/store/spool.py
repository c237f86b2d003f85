"""The spool: unlinked temporary files for bodies too large for memory, under one budget of bytes.

A file has no name, so nothing outlives the process, and its bytes are given back when the last holder lets go
of it. Every call that may touch the disk runs on the spool's own threads, closing included: freeing the
blocks of a large file takes milliseconds.

Not here: what is written when, and who reads it (`bodies.py`); files that outlive a restart.
Invariant: `used_bytes <= bytes_max`. A file is written only where it has reserved.
"""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import ParamSpec, TypeVar

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
        self._threads: ThreadPoolExecutor | None = None
        self._closing: SimpleQueue[int | None] = SimpleQueue()
        self._closer: Thread | None = None
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
        if self._threads is None:
            self._threads = ThreadPoolExecutor(SPOOL_THREADS, thread_name_prefix="banish-spool")
            self._closer = Thread(target=self._close_files, name="banish-spool-close", daemon=True)
            self._closer.start()
        return self._threads.submit(call, *args, **kwargs)

    def close_file(self, descriptor: int) -> None:
        """Close a file's descriptor, soon. May be called from anywhere."""
        if self._closer is None:
            os.close(descriptor)
        else:
            self._closing.put(descriptor)

    def close(self) -> None:
        """Stop the threads, once what they do is done."""
        if self._threads is not None:
            self._threads.shutdown(wait=True)
        closer, self._closer = self._closer, None
        if closer is not None:
            self._closing.put(None)
            closer.join()

    def _close_files(self) -> None:
        while (descriptor := self._closing.get()) is not None:
            os.close(descriptor)


class SpoolFile:
    """One body's file. `write` and `read` block: call them on a spool thread.

    Opened at the first write. There is one writer at a time; reads are positioned and need no order.
    """

    __slots__ = ("_descriptor", "budget", "reserved_bytes")

    def __init__(self, budget: SpoolBudget) -> None:
        self.budget = budget
        self.reserved_bytes = 0
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
        """Write all of `chunks` from `offset` on; how many bytes that was. Raises OSError."""
        if self._descriptor < 0:
            with tempfile.TemporaryFile(dir=self.budget.directory, buffering=0) as file:
                self._descriptor = os.dup(file.fileno())
        written = 0
        for at in range(0, len(chunks), IOV_MAX):
            written += self._write_some(chunks[at : at + IOV_MAX], offset + written)
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

    def __del__(self) -> None:
        if self._descriptor >= 0:
            self.budget.close_file(self._descriptor)
        if self.reserved_bytes:
            self.budget.release(self.reserved_bytes)
