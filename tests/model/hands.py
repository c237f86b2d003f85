"""Everything that moves by itself in an edge, moved by hand: its event loop, its threads, its log's writer, its disk.

    HandLoop       time is the fake clock's; a turn runs what is ready
    Hands          calls handed to threads wait here: each is *done* when told to, and *delivered* when told to
    WriterByHand   what waits for the log is committed when told to
    PausingIndex   the twin of the index, which lets the world go on between two reads of one call on a thread

So the same choices always give the same run, and any two steps can come in either order.
"""

import asyncio
import concurrent.futures
import contextlib
import os
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, ParamSpec, TypeVar

from banish.errors import LogDamaged, LogUnwritable, StoreError
from banish.store.ballast import Ballast
from banish.store.index import Family
from banish.store.ledger import Addition, Change
from banish.store.logwriter import LogWriter, Told, Waiting
from banish.testing.clock import FakeClock
from banish.testing.index import MemoryIndex

LOOP_THREADS = 8
"""Threads of the loop's own executor."""

TURNS_MAX = 10_000
"""Turns of the loop after which what never comes to rest is a fault."""

P = ParamSpec("P")
T = TypeVar("T")


class Job:
    """A call handed to a thread."""

    __slots__ = ("begun", "call", "done", "future", "name", "pool", "result")

    def __init__(self, pool: "HandThreads", call: Callable[[], Any], name: str) -> None:
        self.pool = pool
        self.call = call
        self.name = name
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self.begun = self.done = False
        self.result: Any = None

    def __repr__(self) -> str:
        return f"{self.pool.name} {self.name}"


class Hands:
    """All calls handed to threads, oldest first."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def threads(self, count: int, name: str) -> "HandThreads":
        """Stands in for `DiskThreads`."""
        return HandThreads(self, count, name)

    def ready(self) -> list[Job]:
        """Calls that a thread has taken and not begun yet. A thread may be slow: any of them may be next."""
        taken: dict[HandThreads, int] = {}
        found = []
        for job in self.jobs:
            if not job.done:
                taken[job.pool] = taken.get(job.pool, 0) + 1
                if taken[job.pool] <= job.pool.count and not job.begun:
                    found.append(job)
        return found

    def made(self) -> list[Job]:
        """Calls that were made and of which nobody knows yet."""
        return [job for job in self.jobs if job.done]

    def do(self, job: Job, error: Exception | None = None) -> None:
        """Make a call; `error`: it fails."""
        job.begun = True
        if not job.future.set_running_or_notify_cancel():
            self.jobs.remove(job)
            return
        try:
            if error is not None:
                raise error
            job.result = job.call()
        except Exception as raised:
            job.result = raised
        job.done = True

    def deliver(self, job: Job) -> None:
        """Tell who waits what came of it."""
        if job not in self.jobs:
            return  # the process has ended meanwhile
        self.jobs.remove(job)
        if isinstance(job.result, Exception):
            job.future.set_exception(job.result)
        else:
            job.future.set_result(job.result)

    def finish(self, pool: "HandThreads | None" = None) -> None:
        """Make and deliver all calls, of this pool alone if one is given."""
        while job := next((job for job in self.jobs if pool is None or job.pool is pool), None):
            if not job.done:
                self.do(job)
            self.deliver(job)


class HandThreads:
    """Stands in for `DiskThreads`: a pool whose threads do nothing by themselves."""

    def __init__(self, hands: Hands, count: int, name: str) -> None:
        self.count = count
        self.name = name
        self._hands = hands

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "concurrent.futures.Future[T]":
        job = Job(self, lambda: call(*args, **kwargs), getattr(call, "__name__", str(call)))
        self._hands.jobs.append(job)
        return job.future

    def close_file(self, descriptor: int) -> None:
        os.close(descriptor)

    def stop(self) -> None:
        self._hands.finish(self)


class HandLoop(asyncio.BaseEventLoop):
    """An event loop without sockets, whose time is the fake clock's."""

    def __init__(self, clock: FakeClock, hands: Hands) -> None:
        super().__init__()
        self._clock = clock
        self._clock_resolution = 2.0**-10
        self._selector = self
        self._threads = hands.threads(LOOP_THREADS, "loop")
        self.reports: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.reports.append(context))

    def time(self) -> float:
        return self._clock.monotonic()

    def select(self, timeout: float | None) -> list[Any]:
        return []

    def _process_events(self, events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> "asyncio.Future[Any]":
        return asyncio.wrap_future(self._threads.submit(func, *args), loop=self)

    @property
    def busy(self) -> bool:
        """Whether anything is ready to run."""
        return bool(self._ready)  # type: ignore[attr-defined]

    def turn(self) -> None:
        """Run what is ready, and the timers whose moment has come."""
        asyncio._set_running_loop(self)
        try:
            self._run_once()  # type: ignore[attr-defined]
        finally:
            asyncio._set_running_loop(None)

    def rest(self) -> None:
        """Turn until nothing is ready."""
        self.turn()
        for _ in range(TURNS_MAX):
            if not self.busy:
                return
            self.turn()
        raise AssertionError("the loop does not come to rest")

    def start(self, work: Any, context: Context) -> "asyncio.Task[Any]":
        """Begin a coroutine, with this context."""
        asyncio._set_running_loop(self)
        try:
            return self.create_task(work, context=context)
        finally:
            asyncio._set_running_loop(None)

    def abandon(self) -> None:
        """The process was killed: nothing that waits here goes on."""
        asyncio._set_running_loop(self)
        try:
            for task in asyncio.all_tasks(self):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutine: Any = task.get_coro()
                with contextlib.suppress(RuntimeError, StoreError, asyncio.CancelledError):
                    coroutine.close()  # what this does is done to an edge that nobody sees any more
        finally:
            asyncio._set_running_loop(None)
        self.close()


class NoThread:
    """Stands in for a thread that has ended."""

    def __init__(self, **_: Any) -> None: ...
    def start(self) -> None: ...
    def join(self, timeout_s: float) -> None: ...

    def is_alive(self) -> bool:
        return False


class WriterByHand(LogWriter):
    """The log's writer without its thread. `on_committed` is told of each entry that is on the disk."""

    def __init__(self, *args: Any, on_committed: Callable[[int], None], **more: Any) -> None:
        self.waiting: list[Waiting] = []
        self.unwritten: list[Waiting] = []
        """What could not be written, and all that came since."""
        self.fault: LogUnwritable | None = None
        self.fault_is_late = False
        self.ended = False
        self._on_committed = on_committed
        super().__init__(*args, **more)
        self._ballast = Ballast(None)

    def submit(self, waiting: Waiting) -> None:
        if self.ended:
            return
        self.waiting.append(waiting)
        if isinstance(waiting.waiter, concurrent.futures.Future):  # somebody blocks until it is written
            self.commit()
            self.retry()

    def commit(self, count: int | None = None) -> None:
        """Commit the first so many of what waits in one transaction; all if not said."""
        group = self.waiting[:count]
        del self.waiting[:count]
        if self.unwritten:
            self.unwritten += group
            self._tell(Told(failed=tuple(group), error=LogUnwritable("still"), writable=False))
            return
        try:
            self._write(group, writable=True)
        except (LogUnwritable, LogDamaged) as error:
            self.unwritten = group
            self._fail(group, error)
        self._tidy()

    def retry(self) -> None:
        """Try once more to write what could not be written."""
        if not self.unwritten:
            return
        try:
            self._ledger.mend()
            self._write_held(self.unwritten)
        except (LogUnwritable, LogDamaged) as error:
            self._fail([], error)

    def trimmed(self) -> None:
        """Go on with a trim until it is done."""
        while self._trim is not None:
            self._tidy()

    def close(self) -> bool:
        self.retry()
        self.commit()
        self.ended = True
        return super().close()

    def die(self) -> None:
        """The process was killed."""
        self.ended = True
        self.waiting.clear()
        self.unwritten.clear()
        self._ledger.close()
        self._witness.close()
        super().close()

    def _commit(self, changes: list[Change]) -> None:
        fault, self.fault = self.fault, None
        if fault is None or self.fault_is_late:
            super()._commit(changes)
            for change in changes:
                if isinstance(change, Addition):
                    self._on_committed(change.apply_index)
        if fault is not None:
            raise fault


class PausingIndex(MemoryIndex):
    """The twin, which calls `meanwhile` between the reads of one call on a thread."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    def get_many(self, family: Family, keys: Sequence[bytes]) -> list[bytes | None]:
        if family is not Family.OBJECTS:
            self._meanwhile()
        return super().get_many(family, keys)

    def reopened(self) -> "PausingIndex":
        return self._with(super().reopened())

    @property
    def failed(self) -> bool:
        """Whether it must be opened again."""
        return self._broken is not None

    def fail_no_more(self) -> None:
        """Forget what it was told to fail at."""
        for waiting in self._failing.values():
            waiting.clear()

    def copied(self) -> "PausingIndex":
        """What the disk would hold if it were copied now: all that is written."""
        twin = MemoryIndex()
        twin._tables = {family: type(table)(table.rows) for family, table in self._tables.items()}
        twin._synced = {family: type(table)(table.rows) for family, table in self._tables.items()}
        return self._with(twin)

    def _with(self, twin: MemoryIndex) -> "PausingIndex":
        index = PausingIndex(self._meanwhile)
        index._tables, index._unsynced, index._synced = twin._tables, twin._unsynced, twin._synced
        return index
