"""Between the threads of the transport and the event loop: two bounded queues.

    Inbox     threads ─▶ loop     one wake-up for all that came meanwhile; delivered in slices, so that a flood of
                                  messages does not keep the loop from its requests
    Outbox    loop ─▶ a thread    which may wait for the network, and for the transport to be opened anew

Past its bound a queue takes nothing more, says so, and counts it: what is lost on the way is found by its number, or
said again by the next digest (`replica.py`).

Not here: what is sent (`zenoh_transport.py`). Units: bytes, seconds.
Invariant: what one thread puts in is delivered in that order.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import structlog

INBOX_MAX = 100_000
"""Messages that wait for the loop: some seconds of a flood."""
INBOX_BYTES_MAX = 64 * 1024 * 1024

OUTBOX_MAX = 20_000
"""Messages that wait to be sent: what comes in some seconds, while the transport is opened anew."""
OUTBOX_BYTES_MAX = 64 * 1024 * 1024

SLICE_S = 0.002
"""How long the loop deals with messages at a stretch."""

R = TypeVar("R")

Take = Callable[[bytes], None]
"""Who takes a message."""

log = structlog.get_logger(__name__)


class Inbox:
    """Messages on their way to the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Take, bytes]] = deque()
        self._bytes = 0
        self._woken = False
        self._closed = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, take: Take, data: bytes, *, bounded: bool = True) -> None:
        """Have `take` called with it; on any thread. Never waits. `bounded`: not if too much waits."""
        with self._lock:
            if self._closed:
                return
            if bounded and (len(self._waiting) >= INBOX_MAX or self._bytes + len(data) > INBOX_BYTES_MAX):
                self.dropped += 1
                return
            self._waiting.append((take, data))
            self._bytes += len(data)
            if self._woken:
                return
            self._woken = True
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is there to be told
            self._loop.call_soon_threadsafe(self._turn)

    def close(self) -> None:
        """Deliver no more."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            self._bytes = 0

    def _turn(self) -> None:
        """Deliver for a while; come back for the rest after others had their turn."""
        until = time.monotonic() + SLICE_S
        while True:
            with self._lock:
                if not self._waiting:
                    self._woken = False
                    return
                take, data = self._waiting.popleft()
                self._bytes -= len(data)
            try:
                take(data)
            except Exception:
                log.exception("a message of the mesh could not be taken")
            if time.monotonic() >= until:
                self._loop.call_soon(self._turn)
                return


class Outbox:
    """Messages on their way to the network."""

    def __init__(self, name: str) -> None:
        self._ready = threading.Condition()
        self._waiting: deque[tuple[Take, bytes]] = deque()
        self._bytes = 0
        self._held = True
        self._sending = False
        self._closed = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, send: Take, data: bytes) -> bool:
        """Have `send` called with it, on the thread, where it may wait. False, and it is counted, if too much waits."""
        with self._ready:
            if self._closed or len(self._waiting) >= OUTBOX_MAX or self._bytes + len(data) > OUTBOX_BYTES_MAX:
                self.dropped += 1
                return False
            self._waiting.append((send, data))
            self._bytes += len(data)
            self._ready.notify_all()
            return True

    def release(self) -> None:
        """Send what waits, and what comes."""
        with self._ready:
            self._held = False
            self._ready.notify_all()

    def hold(self, timeout_s: float) -> bool:
        """Send nothing until `release`; False if what is being sent is not over in time. Blocks."""
        with self._ready:
            self._held = True
            return self._ready.wait_for(lambda: not self._sending, timeout_s)

    def drain(self, timeout_s: float) -> bool:
        """Wait until all that waits is sent; False if that is not so in time. Blocks."""
        with self._ready:
            return self._ready.wait_for(lambda: not (self._waiting or self._sending), timeout_s)

    def close(self) -> None:
        """Send no more. What is being sent may still wait for the network."""
        with self._ready:
            self._closed = True
            self._waiting.clear()
            self._bytes = 0
            self._ready.notify_all()

    def _work(self) -> None:
        while (next_one := self._next()) is not None:
            send, data = next_one
            try:
                send(data)
            except Exception:
                log.exception("a message of the mesh could not be sent")
            finally:
                with self._ready:
                    self._sending = False
                    self._ready.notify_all()

    def _next(self) -> tuple[Take, bytes] | None:
        with self._ready:
            self._ready.wait_for(lambda: self._closed or (self._waiting and not self._held))
            if self._closed:
                return None
            send, data = self._waiting.popleft()
            self._bytes -= len(data)
            self._sending = True
            return send, data


def on_thread(work: Callable[[], R]) -> asyncio.Future[R]:
    """Its result, worked out on a thread of its own that a process does not wait for at its end: for what may hang."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[R] = loop.create_future()

    def tell(told: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(lambda: None if future.done() else told())

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            failure = error
            tell(lambda: future.set_exception(failure))
        else:
            tell(lambda: future.set_result(result))

    threading.Thread(target=run, name="mesh-work", daemon=True).start()
    return future
