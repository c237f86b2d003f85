"""Long walks in short steps: whatever lists, counts or scans goes through `budgeted`, so that hits never wait
for it.

Units: seconds.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

STEP_S = 0.001
"""How long a walk may hold the event loop before everything else gets a turn."""

T = TypeVar("T")


async def budgeted(
    items: Iterable[T], *, step_s: float = STEP_S, timer: Callable[[], float] = time.perf_counter
) -> AsyncIterator[T]:
    """Each item in turn; after `step_s` of the caller's work on them, the loop goes round once."""
    until = timer() + step_s
    for item in items:
        yield item
        if timer() >= until:
            await asyncio.sleep(0)
            until = timer() + step_s
