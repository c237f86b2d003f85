import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banish.caching.cache_status import Outcome
from banish.errors import ClientError, Truncated
from banish.http.fields import Fields
from banish.proxy.exchange import BODY_WINDOW_BYTES, Answer, RequestBody
from banish.store.bodies import Body
from tests.byhand import ByHand, run


class Told:
    """A request body, and what its client was told, in order."""

    def __init__(self, length: int | None = None) -> None:
        self.log: list[str] = []
        self.body = RequestBody(
            lambda: self.log.append("pause"), lambda: self.log.append("resume"), lambda: self.log.append("wanted"),
            length=length,
        )  # fmt: skip
        self.read: list[bytes] = []

    async def consume(self) -> None:
        async for chunk in self.body:
            self.read.append(chunk)


async def begun(coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    return task


def test_the_body_is_wanted_when_it_is_first_read_and_only_then() -> None:
    async def scene() -> None:
        told = Told(5)
        told.body.feed(b"he")
        assert told.log == []
        reading = await begun(told.consume())
        assert told.log == ["wanted"]
        told.body.feed(b"llo")
        told.body.end(Fields.of([("X-Sum", "1")]))
        await reading
        assert told.log == ["wanted"]
        assert (told.read, told.body.size, told.body.length) == ([b"he", b"llo"], 5, 5)
        assert told.body.trailers.get("x-sum") == "1"

    run(scene())


def test_a_body_that_is_whole_already_is_read_without_waiting() -> None:
    async def scene() -> None:
        told = Told()
        told.body.feed(b"a")
        told.body.end(Fields())
        await told.consume()
        assert told.read == [b"a"]
        empty = Told()
        empty.body.end(Fields())
        await empty.consume()
        assert empty.read == []

    run(scene())


def test_the_client_pauses_past_the_window_and_resumes_below_half_of_it() -> None:
    async def scene() -> None:
        told = Told()
        quarter = bytes(BODY_WINDOW_BYTES // 4)
        for _ in range(4):
            told.body.feed(quarter)
        assert told.log == []  # just full
        told.body.feed(b"x")
        told.body.feed(b"y")
        assert told.log == ["pause"]
        reader = aiter(told.body)
        await anext(reader)
        await anext(reader)
        assert told.log == ["pause", "wanted"]  # half and two bytes wait
        await anext(reader)
        assert told.log == ["pause", "wanted", "resume"]
        for _ in range(4):
            told.body.feed(quarter)
        assert told.log[3:] == ["pause"]

    run(scene())


@given(sizes=st.lists(st.integers(1, BODY_WINDOW_BYTES), max_size=12), reads=st.lists(st.booleans(), max_size=30))
def test_whatever_is_paused_is_resumed_once_all_is_read(sizes: list[int], reads: list[bool]) -> None:
    async def scene() -> None:
        told = Told()
        reader = aiter(told.body)
        left, waiting = list(sizes), 0
        for read in reads:
            if read and waiting:
                await anext(reader)
                waiting -= 1
            elif not read and left:
                told.body.feed(bytes(left.pop()))
                waiting += 1
        for _ in range(waiting):
            await anext(reader)
        pauses, resumes = told.log.count("pause"), told.log.count("resume")
        assert pauses == resumes
        assert [entry for entry in told.log if entry != "wanted"] == ["pause", "resume"] * pauses

    run(scene())


@pytest.mark.parametrize("end", ["whole", "failed"])
def test_a_body_that_has_ended_holds_nothing_back_though_nobody_reads_it(end: str) -> None:
    told = Told()
    told.body.feed(bytes(BODY_WINDOW_BYTES + 1))
    assert told.log == ["pause"]
    if end == "whole":
        told.body.end(Fields())
    else:
        told.body.fail(Truncated("gone"))
    assert told.log == ["pause", "resume"]


def test_a_failure_comes_after_what_has_arrived() -> None:
    async def scene() -> None:
        told = Told()
        told.body.feed(b"begun")
        told.body.fail(ClientError(400, "cut off"))
        with pytest.raises(ClientError, match="cut off"):
            await told.consume()
        assert told.read == [b"begun"]

    run(scene())


def test_a_failure_wakes_who_waits() -> None:
    async def scene() -> None:
        told = Told()
        reading = await begun(told.consume())
        told.body.fail(Truncated("gone"))
        told.body.fail(Truncated("gone twice"))
        with pytest.raises(Truncated):
            await reading

    run(scene())


def test_what_is_whole_cannot_fail_any_more() -> None:
    async def scene() -> None:
        told = Told()
        told.body.feed(b"a")
        told.body.end(Fields())
        told.body.fail(ClientError(499, "the client left"))
        await told.consume()
        assert told.read == [b"a"]

    run(scene())


def test_a_repeated_request_is_about_the_same_and_has_no_body() -> None:
    edge = ByHand()
    edge.stamps.apply([])
    request = edge.request("/a?b", "X: 1", body=Told().body)
    again = request.repeated()
    assert (again.head, again.target, again.connection) == (request.head, request.target, request.connection)
    assert (again.arrived_at, again.arrived_index) == (request.arrived_at, 1)
    assert again.body is None


def test_closing_a_body_stops_a_fetch_that_nobody_else_reads() -> None:
    async def scene() -> None:
        abandoned: list[bool] = []
        body = ByHand()._make_body(False, lambda: abandoned.append(True))
        answer = Answer(200, Fields(), Outcome.PASS, body=body.reader())
        answer.close_body()
        assert abandoned == [True]
        Answer(200, Fields(), Outcome.HIT, body=b"bytes").close_body()
        whole = Answer(200, Fields(), Outcome.HIT, body=Body.complete(b"x").reader())
        whole.close_body()

    run(scene())
