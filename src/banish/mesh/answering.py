"""Answers to what other edges ask: worked on by the event loop, so many at a time, and sent by threads.

Not here: what is answered (`transport.Receiver`); how a question comes in (`zenoh_sessions.py`).
Units: seconds. Invariant: every question is ended, answered or not: whoever asked does not wait in vain.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import structlog

from banish.mesh.messages import MESSAGE_BYTES_MAX
from banish.tables import Accounts, Metric

ANSWERS_MAX = 64
"""Under way at once. More are not answered: whoever asked does so again, or asks another edge."""

ANSWER_S = 10.0
"""How long an answer may be worked on."""

THREADS = 4
"""That send answers. One waits while its reader does not read, half a second at most; then that link is closed."""

UNANSWERED = Metric(
    "banish_mesh_unanswered_total",
    "counter",
    "Questions of other edges not answered: too many at once (`many`), it took too long (`late`), it failed (`failed`),"
    " or the answer was too large (`large`).",
    ("why",),
)

log = structlog.get_logger(__name__)


class Question(Protocol):
    """What another edge asks."""

    data: bytes

    def answer(self, parts: Sequence[bytes]) -> None:
        """Send the answer, or that there is none. Blocks. To be called once."""
        ...


Answerer = Callable[[bytes], Awaitable[Sequence[bytes]]]


class Answers:
    """Those under way. Belongs to the event loop."""

    def __init__(self, accounts: Accounts) -> None:
        self._under_way: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mesh-answer")
        self._unanswered = accounts.tally(UNANSWERED)

    def begin(self, question: Question, answerer: Answerer) -> None:
        """Work on an answer, and send it."""
        if len(self._under_way) >= ANSWERS_MAX:
            self._unanswered.add("many")
            self._threads.submit(question.answer, ())
            return
        task = asyncio.get_running_loop().create_task(self._answer(question, answerer))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def end(self) -> None:
        """Answer no more."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False)

    async def _answer(self, question: Question, answerer: Answerer) -> None:
        parts: Sequence[bytes] = ()
        try:
            async with asyncio.timeout(ANSWER_S):
                parts = await answerer(question.data)
            if any(len(part) > MESSAGE_BYTES_MAX for part in parts):
                self._unanswered.add("large")
                parts = ()
        except TimeoutError:
            self._unanswered.add("late")
        except Exception as error:
            self._unanswered.add("failed")
            log.warning("what another edge asks cannot be answered", error=repr(error))
        finally:
            sent = self._threads.submit(question.answer, parts)
        await asyncio.wrap_future(sent)
