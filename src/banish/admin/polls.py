"""Long polls: answers that are waited for, until they are there, the client leaves, or the edge stops.

A server does not tell an application of its own accord that a client has left; so each wait listens for it,
and a poll that nobody reads frees its place at once.

Not here: how many may wait (`edge/purging.py` bounds it), and for what.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from banish.errors import ClientError

POLL_S = 30.0
"""How long a poll waits if it does not say. Proxies and firewalls commonly cut what is silent for a minute."""

POLL_S_MAX = 60.0
"""How long it may ask to wait. Whoever waits longer asks again, from the cursor it was given."""

T = TypeVar("T")


class Gone(Exception):
    """The client has left: nobody reads what would be answered."""


class Polls:
    """The long polls of one edge that are under way."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    async def wait(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives. Raises Gone, ClientError(503) when the edge stops, and whatever `work` raises."""
        result = asyncio.ensure_future(work)
        left = asyncio.create_task(_leaving(request))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({result, left, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
            raise ClientError(503, "the edge stops; ask again") if stopping.done() else Gone
        finally:
            for task in (result, left, stopping):
                task.cancel()
            await asyncio.gather(result, left, stopping, return_exceptions=True)

    def end(self) -> None:
        """Answer all who wait: the edge stops."""
        self._stopping.set()


async def _leaving(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
