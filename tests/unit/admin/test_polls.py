import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from banish.admin.polls import Gone, Polls
from banish.errors import ClientError


def request(left: asyncio.Event) -> Request:
    """A request whose client leaves when told to."""
    opened = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if opened:
            return opened.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "GET", "path": "/", "headers": []}, receive)


class Work:
    """Something that takes until it is told to end, and knows whether it was given up."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.end = asyncio.Event()
        self.given_up = False

    async def __call__(self) -> str:
        self.begun.set()
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.given_up = True
            raise
        return "done"


def test_a_poll_gives_what_its_work_gives() -> None:
    async def main() -> None:
        work = Work()
        work.end.set()
        assert await Polls().wait(request(asyncio.Event()), work()) == "done"
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_poll_raises_what_its_work_raises() -> None:
    async def refuse() -> None:
        raise ClientError(404, "no such purge")

    async def main() -> None:
        with pytest.raises(ClientError, match="no such purge"):
            await Polls().wait(request(asyncio.Event()), refuse())
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_when_the_client_leaves_its_work_is_given_up() -> None:
    async def main() -> None:
        work, left = Work(), asyncio.Event()
        poll = asyncio.create_task(Polls().wait(request(left), work()))
        await work.begun.wait()
        left.set()
        with pytest.raises(Gone):
            await poll
        assert work.given_up

    asyncio.run(main())


def test_when_the_edge_stops_all_polls_are_answered() -> None:
    async def main() -> None:
        polls, works = Polls(), [Work(), Work()]
        waiting = [asyncio.create_task(polls.wait(request(asyncio.Event()), work())) for work in works]
        for work in works:
            await work.begun.wait()
        polls.end()
        for poll in waiting:
            with pytest.raises(ClientError) as refused:
                await poll
            assert refused.value.status == 503
        assert all(work.given_up for work in works)

    asyncio.run(main())


def test_a_poll_that_is_itself_cancelled_leaves_nothing_behind() -> None:
    async def main() -> None:
        work = Work()
        poll = asyncio.create_task(Polls().wait(request(asyncio.Event()), work()))
        await work.begun.wait()
        poll.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poll
        assert work.given_up
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
