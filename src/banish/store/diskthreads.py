"""Threads for calls that may wait for the disk, and one that closes files.

Closing has a thread of its own because freeing the blocks of a large file takes milliseconds, and because a file is
let go of from anywhere: from the event loop, from any thread, from the cyclic collector in the midst of anything.

Not here: what is read and written (`spool.py`, `files.py`).
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DiskThreads:
    """A bounded number of threads, begun at the first call."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._closing: SimpleQueue[int | None] = SimpleQueue()
        self._closer: Thread | None = None

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run `call` on a thread."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
            self._closer = Thread(target=self._close_files, name=f"{self._name}-close", daemon=True)
            self._closer.start()
        return self._pool.submit(call, *args, **kwargs)

    def close_file(self, descriptor: int) -> None:
        """Close a file's descriptor, soon. May be called from anywhere."""
        if self._closer is None:
            os.close(descriptor)
        else:
            self._closing.put(descriptor)

    def stop(self) -> None:
        """Stop the threads, once all that was submitted is done."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        closer, self._closer = self._closer, None
        if closer is not None:
            self._closing.put(None)
            closer.join()

    def _close_files(self) -> None:
        while (descriptor := self._closing.get()) is not None:
            os.close(descriptor)
