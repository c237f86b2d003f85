"""Who waits for whom, and who may be answered by what: the pipeline between arrival and answer.

What a client can bring about by itself is tested on sockets, in tests/e2e; that no purge is ever missed, in
tests/property/test_fence.py.
"""

import asyncio
from unittest import mock

import pytest
import structlog.testing

from banish.caching.cache_status import Outcome
from banish.errors import ConnectFailed
from banish.http.fields import Fields
from tests.byhand import ByHand, Exchange, run

SHORT, FRESH = "Cache-Control: max-age=10", "Cache-Control: max-age=60"
TAG = 'ETag: "1"'


async def stale(edge: ByHand, *lines: str) -> None:
    """Have something stored that is stale."""
    await edge.store_one("/a", *(lines or (SHORT, TAG)))
    edge.clock.advance(11)


def finish(exchange: Exchange, body: bytes = b"new", *lines: str) -> None:
    exchange.answer(200, *(lines or (FRESH,)))
    exchange.end(body)


# --- waiting together


def test_those_who_come_while_a_fetch_is_under_way_share_it() -> None:
    async def scene() -> None:
        edge = ByHand()
        asked = [edge.ask("/a") for _ in range(5)]
        exchange = await edge.origin.next()
        await edge.settled()
        finish(exchange)
        whole = await asyncio.gather(*asked)
        assert {answer.body for answer in whole} == {b"new"}
        assert sorted(answer.outcome for answer in whole) == [*[Outcome.COLLAPSED] * 4, Outcome.MISS]
        assert len(edge.origin.exchanges) == 1

    run(scene())


def test_waiters_whom_a_purge_shut_out_start_one_fetch_together() -> None:
    """The purge is by group, which nobody knows of before the head has come."""

    async def scene() -> None:
        edge = ByHand()
        owner = edge.ask("/a")
        first = await edge.origin.next()
        edge.stamps.apply([edge.group()])
        late = [edge.ask("/a") for _ in range(4)]
        await edge.settled()
        assert len(edge.origin.exchanges) == 1
        finish(first, b"old", FRESH, 'Cache-Groups: "g"')
        second = await edge.origin.next()
        await edge.settled()
        finish(second, b"new", FRESH, 'Cache-Groups: "g"')
        assert (await owner).body == b"old"
        assert {(await task).body for task in late} == {b"new"}
        assert len(edge.origin.exchanges) == 2

    run(scene())


def test_who_waited_in_vain_sends_its_own_however_long_the_other_body_takes() -> None:
    async def scene() -> None:
        edge = ByHand()
        owner = edge.ask("/a", "X: 1")
        first = await edge.origin.next()
        waiters = [edge.ask("/a", f"X: {value}") for value in (2, 3)]
        await edge.settled()
        first.answer(200, FRESH, "Vary: X")
        second = await edge.origin.next()
        await edge.settled()
        assert second.asked.fields.get("x") == "2"
        second.answer(200, FRESH, "Vary: X")
        third = await edge.origin.next()
        assert third.asked.fields.get("x") == "3"
        third.answer(200, FRESH, "Vary: X")
        for at, exchange in enumerate((first, second, third)):
            exchange.end(b"%d" % (at + 1))
        assert [(await task).body for task in (owner, *waiters)] == [b"1", b"2", b"3"]

    run(scene())


def test_a_joiner_hides_a_failure_behind_what_the_owner_had_found_stored() -> None:
    async def scene() -> None:
        edge = ByHand()
        await stale(edge)
        asked = [edge.ask("/a") for _ in range(3)]
        exchange = await edge.origin.next()
        await edge.settled()
        exchange.fail(ConnectFailed("no way"))
        for task in asked:
            whole = await task
            assert (whole.outcome, whole.body) == (Outcome.STALE_ERROR, b"hello")

    run(scene())


def test_without_anything_stored_all_who_wait_hear_of_the_failure() -> None:
    async def scene() -> None:
        edge = ByHand()
        asked = [edge.ask("/a") for _ in range(3)]
        exchange = await edge.origin.next()
        await edge.settled()
        exchange.fail(ConnectFailed("no way"))
        assert [(await task).status for task in asked] == [502, 502, 502]

    run(scene())


@pytest.mark.parametrize("control", ["private, max-age=60", "no-store, max-age=60"])
def test_a_304_that_may_not_be_stored_answers_only_who_asked(control: str) -> None:
    async def scene() -> None:
        edge = ByHand()
        await stale(edge)
        alice = edge.ask("/a")
        hers = await edge.origin.next()
        bob = edge.ask("/a")
        await edge.settled()
        hers.answer(304, f"Cache-Control: {control}", TAG, "X-User: alice")
        assert (await alice)["x-user"] == "alice"
        his = await edge.origin.next()
        finish(his, b"his", "Cache-Control: no-store", "X-User: bob")
        assert (await bob)["x-user"] == "bob"

    run(scene())


# --- revalidation behind a stale answer


def test_one_revalidation_runs_behind_many_stale_answers_and_then_another_may() -> None:
    async def scene() -> None:
        edge = ByHand()
        await stale(edge, "Cache-Control: max-age=10, stale-while-revalidate=1000")
        for _ in range(2):
            for _ in range(3):
                assert (await edge.ask("/a")).outcome is Outcome.STALE
            exchange = await edge.origin.next()
            await edge.settled()
            exchange.fail(ConnectFailed("no way"))
            await edge.settled()
        assert len(edge.origin.exchanges) == 3

    run(scene())


def test_a_revalidation_behind_asks_for_the_whole_whatever_the_client_wanted() -> None:
    async def scene() -> None:
        edge = ByHand()
        await stale(edge, "Cache-Control: max-age=10, stale-while-revalidate=1000", TAG)
        part = await edge.ask("/a", "Range: bytes=0-1", 'If-None-Match: "9"')
        assert (part.status, part.body, part.outcome) == (206, b"he", Outcome.STALE)
        asked = (await edge.origin.next()).asked
        assert (asked.fields.get("if-none-match"), asked.fields.get("range")) == ('"1"', None)

    run(scene())


def test_a_revalidation_that_could_not_begin_is_begun_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        edge = ByHand()
        await stale(edge, "Cache-Control: max-age=10, stale-while-revalidate=1000")
        with monkeypatch.context() as broken, structlog.testing.capture_logs():
            broken.setattr(edge.fetcher, "start", mock.Mock(side_effect=RuntimeError("a fault")))
            assert (await edge.ask("/a")).status == 500
        assert (await edge.ask("/a")).outcome is Outcome.STALE
        finish(await edge.origin.next())
        await edge.settled()
        assert (await edge.ask("/a")).body == b"new"

    run(scene())


# --- what the client's own conditions and ranges make of a fetch


@pytest.mark.parametrize(
    ("lines", "status", "body"),
    [
        (('If-None-Match: "2"',), 304, b""),
        (('If-None-Match: "3"',), 200, b"new"),
        (("If-Modified-Since: Tue, 14 Nov 2023 23:00:00 GMT",), 304, b""),
    ],
)
def test_a_client_with_a_condition_is_told_by_what_was_fetched_for_all(
    lines: tuple[str, ...], status: int, body: bytes
) -> None:
    async def scene() -> None:
        edge = ByHand()
        asked = edge.ask("/a", *lines)
        exchange = await edge.origin.next()
        assert not {"if-none-match", "if-modified-since"} & set(exchange.asked.fields.names)
        finish(exchange, b"new", FRESH, 'ETag: "2"', "Last-Modified: Tue, 14 Nov 2023 20:00:00 GMT")
        whole = await asked
        assert (whole.status, whole.body) == (status, body)
        await edge.settled()
        assert (await edge.ask("/a")).body == b"new"

    run(scene())


def test_a_page_about_an_error_has_no_body_for_head() -> None:
    async def scene() -> None:
        edge = ByHand()
        asked = edge.ask("/a", method="HEAD")
        (await edge.origin.next()).fail(ConnectFailed("no way"))
        whole = await asked
        assert (whole.status, whole.answer.body) == (502, None)
        assert whole.answer.length

    run(scene())


# --- what becomes hot


def test_the_second_hit_is_hot() -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a")
        assert edge.lane_answers("/a") is None
        assert (await edge.ask("/a")).outcome is Outcome.HIT
        hot = edge.lane_answers("/a")
        assert hot is not None
        assert hot.endswith(b"\r\n\r\nhello")

    run(scene())


def test_newer_variants_are_found_though_older_responses_with_another_vary_are_hot() -> None:
    async def scene() -> None:
        edge = ByHand()
        stored: list[tuple[dict[str, str], bytes]] = []
        asks = ("X: 1", "X: 2", "Y: 1", "X: 2", "Y: 2", "X: 1")
        for at, (vary, line) in enumerate(zip(("", "X", "Y", "X", "", "Y"), asks, strict=True)):
            body = b"version %d" % at
            lines = (FRESH, f"Vary: {vary}") if vary else (FRESH,)
            await edge.store_one("/a", *lines, body=body, ask=(line, "Cache-Control: no-cache"))
            name, _, value = line.partition(": ")
            stored.append(({vary: value if vary == name else ""} if vary else {}, body))
            for asked in (("X", "1"), ("X", "2"), ("Y", "1"), ("Y", "2"), ("Z", "1")):
                fitting = [
                    body
                    for selecting, body in stored
                    if all((asked[1] if asked[0] == name else "") == value for name, value in selecting.items())
                ]
                for _ in range(2):
                    hot = edge.lane_answers("/a", ": ".join(asked))
                    assert hot is None or hot.endswith(b"\r\n\r\n" + fitting[-1])
                    assert (await edge.ask("/a", ": ".join(asked))).body == fitting[-1]
            edge.clock.advance(1)

    run(scene())


@pytest.mark.parametrize(
    "lines",
    [
        ("Range: bytes=0-1",),
        ("Cache-Control: max-stale",),
        ('If-None-Match: "1"',),
        ("Connection: close",),
        ("X: 1", "X: 2"),
    ],
)
def test_what_becomes_hot_by_an_odd_request_answers_a_plain_one_rightly(lines: tuple[str, ...]) -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a", FRESH, TAG, "Vary: X", ask=lines if "X: 1" in lines else ())
        await edge.ask("/a", *lines)
        hot = edge.lane_answers("/a")
        assert hot is None or hot.endswith(b"\r\n\r\nhello")

    run(scene())


@pytest.mark.parametrize(("status", "lines"), [(204, ()), (206, ("Content-Range: bytes 0-4/10",))])
def test_parts_and_responses_without_content_never_become_hot(status: int, lines: tuple[str, ...]) -> None:
    async def scene() -> None:
        edge = ByHand()
        ask = ("Range: bytes=0-4",) if status == 206 else ()
        asked = edge.ask("/a", *ask)
        exchange = await edge.origin.next()
        exchange.answer(status, FRESH, *lines)
        exchange.end(b"hello" if status == 206 else b"")
        await asked
        await edge.settled()
        assert (await edge.ask("/a", *ask)).outcome is Outcome.HIT
        assert len(edge.hot) == 0

    run(scene())


def test_a_head_of_the_hot_table_is_the_pipelines() -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a", FRESH, TAG, "Age: 3", "Content-Length: 5", "X: 1")
        edge.clock.advance(2.5)
        whole = await edge.ask("/a")
        hot = edge.lane_answers("/a")
        assert hot is not None
        lines = hot.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        written = Fields.of([(name, value) for name, _, value in (line.partition(": ") for line in lines)])
        assert sorted(written) == sorted([*whole.answer.fields, ("Content-Length", "5")])
        assert written.get("age") == "5"

    run(scene())
