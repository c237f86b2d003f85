"""The wire: what clients and origins may do with connections, messages and bodies, byte for byte."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support import PACES, Closed, Pace, Play, Stage, answered, chunks, request, tiny_limits

from banish.edge.config import Listener
from banish.origin.limits import Limits as OriginLimits
from banish.testing.origin import CLOSE, STALL, Wire

NO_STORE = "Cache-Control: no-store"
OK = b"HTTP/1.1 200 OK\r\n"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
)
WEBSOCKET = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x")


# --- connections


def test_a_connection_is_kept_for_the_next_request(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a")
        stage.origin.respond("/b", body=b"b")
        async with stage.client() as client:
            for path in ("/a", "/b", "/a", "/missing", "/b"):
                response = await client.get(path)
                assert response.body == (path[1:].encode() if len(path) == 2 else b"")
                assert response["connection"] == ""
        assert stage.origin.connections == 1

    play_on_both(scene)


def test_a_request_in_single_bytes_is_the_same_request(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a", headers=[("Cache-Control", "max-age=60")])
        async with stage.client() as client:
            for _ in range(3):
                await client.send(request("GET", "/a"), "bytes")
                assert (await client.response()).body == b"a"
        assert len(stage.origin.requests) == 1

    play_on_both(scene)


def test_connection_close_is_obeyed(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a", headers=[("Cache-Control", "max-age=60")])
        for _ in range(3):
            async with stage.client() as client:
                response = await client.get("/a", "Connection: close")
                assert (response.body, response["connection"]) == (b"a", "close")
                assert await client.closed()

    play(scene)


@pytest.mark.parametrize("spelling", ["Close", "close, x", "x, close", "keep-alive, close"])
def test_connection_close_is_found_in_any_spelling(spelling: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a", headers=[("Cache-Control", "max-age=60")])
        for _ in range(3):
            async with stage.client() as client:
                assert (await client.get("/a", f"Connection: {spelling}")).body == b"a"
                assert await client.closed()

    play(scene)


def test_a_client_that_has_shut_its_side_still_gets_its_answer(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", gate, answered(b"a"))
        async with stage.client() as client:
            await client.send(request("GET", "/a"))
            await stage.origin.wait_for(1)
            client.shut()
            gate.set()
            assert (await client.response()).body == b"a"
            assert await client.closed()

    play_on_both(scene)


def test_a_client_that_shuts_its_side_with_the_request_still_gets_its_answer(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a" * 300_000, headers=[("Cache-Control", "max-age=60")])
        for _ in range(3):
            async with stage.client() as client:
                await client.send(request("GET", "/a"))
                client.shut()
                assert (await client.response()).body == b"a" * 300_000
                assert await client.closed()

    play_on_both(scene)


def test_idle_connections_close_when_drained_and_others_after_their_answer(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", gate, answered(b"a"))
        async with stage.client() as idle, stage.client() as busy:
            stage.origin.respond("/b", body=b"b")
            assert (await idle.get("/b")).body == b"b"
            await busy.send(request("GET", "/a"))
            await stage.origin.wait_for(2)
            stopping = asyncio.ensure_future(stage.edge.stop(drain_s=2))
            assert await idle.closed()
            gate.set()
            assert (await busy.response()).body == b"a"
            assert await busy.closed()
            await stopping

    play(scene)


def test_a_client_that_shuts_its_side_in_the_middle_of_its_answer_is_let_go_at_its_end(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", gate, b"0\r\n\r\n")
        async with stage.client() as client:
            await client.send(request("GET", "/a"))
            assert (await client.head())["connection"] == ""  # to be kept, when this was said
            assert await client.read(10) == b"5\r\nhello\r\n"
            client.shut()
            for _ in range(5):
                await asyncio.sleep(0)
            gate.set()
            assert await client.rest() == b"0\r\n\r\n"
            await stage.until(lambda: stage.count("banish_client_connections") == 0)

    play_on_both(scene)


def test_a_connection_with_half_a_head_is_no_reason_to_drain_longer(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        async with stage.client() as client:
            await client.send(b"GET / HT")
            await stage.until(lambda: any(each._stage == "head" for each in stage.connections))
            await stage.edge.stop(drain_s=60)
            assert await client.closed()

    play_on_both(scene)


def test_a_client_of_http_1_0_sees_that_the_edge_has_cut_its_answer(play_on_both: Play) -> None:
    """It reads until the connection ends: a proper end would make the part a whole."""

    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", STALL)
        async with stage.client() as client:
            await client.send(b"GET /a HTTP/1.0\r\nHost: site.example\r\n\r\n")
            assert "content-length" not in (await client.head()).fields
            assert await client.read(5) == b"hello"
            await stage.edge.stop()
            with pytest.raises(ConnectionResetError):
                await client.rest()

    play_on_both(scene)


# --- pipelining


@pytest.mark.parametrize("pace", PACES)
def test_pipelined_requests_are_answered_in_order(pace: Pace, play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        slow = asyncio.Event()
        stage.origin.play("/slow", slow, answered(b"slow", NO_STORE))
        stage.origin.respond("/fast", body=b"fast", headers=[("Cache-Control", "max-age=60")])
        await stage.get("/fast")
        await stage.get("/fast")
        async with stage.client() as client:
            await client.send(request("GET", "/slow") + request("GET", "/fast") * 2 + request("HEAD", "/fast"), pace)
            await stage.origin.wait_for(2)
            slow.set()
            assert [(await client.response()).body for _ in range(3)] == [b"slow", b"fast", b"fast"]
            assert (await client.response("HEAD")).status == 200
            assert (await client.get("/fast")).body == b"fast"

    play_on_both(scene)


@pytest.mark.parametrize("count", [15, 16, 17, 40, 1000])
def test_more_pipelined_requests_than_are_queued_are_all_answered(count: int, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a", headers=[("Cache-Control", "max-age=60")])
        async with stage.client() as client:
            await client.send(request("GET", "/a") * count)
            for _ in range(count):
                assert (await client.response()).body == b"a"
            assert (await client.get("/a")).body == b"a"

    play(scene)


def test_a_late_parse_error_never_replaces_the_answer_to_an_earlier_message(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        slow = asyncio.Event()
        stage.origin.play("/slow", slow, answered(b"slow", NO_STORE))
        async with stage.client() as client:
            await client.send(
                request("GET", "/slow") + b"GET /bad HTTP/1.1\r\nno colon\r\n\r\n" + request("GET", "/never")
            )
            await stage.origin.wait_for(1)
            slow.set()
            assert (await client.response()).body == b"slow"
            assert (await client.response()).status == 400
            assert await client.closed()
        assert stage.seen() == [("GET", "/slow")]

    play_on_both(scene)


def test_pipelined_requests_before_the_end_of_a_client_are_all_answered(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a", headers=[("Cache-Control", "max-age=60")])
        async with stage.client() as client:
            await client.send(request("GET", "/a") * 1000)
            client.shut()
            for _ in range(1000):
                assert (await client.response()).body == b"a"
            assert await client.closed()

    play_on_both(scene)


def test_a_pipelined_post_waits_for_the_get_before_it(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", gate, answered(b"old", "Cache-Control: max-age=60"))
        stage.origin.respond("/a", body=b"new")
        async with stage.client() as client:
            await client.send(request("GET", "/a") + request("POST", "/a", body=b"x") + request("GET", "/a"))
            await stage.origin.wait_for(1)
            gate.set()
            assert [(await client.response()).body for _ in range(3)] == [b"old", b"new", b"new"]
        assert stage.seen() == [("GET", "/a"), ("POST", "/a"), ("GET", "/a")]

    play(scene)


# --- methods


def test_head_has_the_fields_of_get_and_no_body(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"hello", headers=[("Cache-Control", "max-age=60"), ("ETag", '"1"')])
        async with stage.client() as client:
            miss = await client.ask("HEAD", "/a")
            await client.get("/a")
            hit = await client.ask("HEAD", "/a")
            assert (miss["content-length"], hit["content-length"]) == ("5", "5")
            assert hit.hit
            assert (await client.get("/a")).body == b"hello"

    play_on_both(scene)


def test_head_to_an_error_page_has_no_body_either(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play_always("/dead", b"nonsense", CLOSE)
        stage.origin.respond("/a", body=b"a")
        async with stage.client() as client:
            assert (await client.ask("HEAD", "/dead")).status == 502
            assert (await client.ask("HEAD", "/a", "Cache-Control: only-if-cached")).status == 504
            assert (await client.get("/a")).body == b"a"

    play(scene)


def test_options_asterisk_goes_through(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("*", headers=[("Allow", "GET, HEAD")])
        response = await stage.ask("OPTIONS", "*")
        assert (response.status, response["allow"]) == (200, "GET, HEAD")
        assert stage.seen() == [("OPTIONS", "*")]

    play(scene)


def test_options_with_no_forwards_left_is_answered_here(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        response = await stage.ask("OPTIONS", "/a", "Max-Forwards: 0")
        assert response.status in (200, 204)
        assert "GET" in response["allow"]
        assert stage.seen() == []

    play(scene)


def test_max_forwards_is_counted_down(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a")
        await stage.ask("OPTIONS", "/a", "Max-Forwards: 3")
        assert stage.origin.requests[0].fields.get("max-forwards") == "2"

    play(scene)


@pytest.mark.parametrize("method", ["BAN", "PURGEKEYS", "PURGE", "FOO", "delete", "X" * 200])
@pytest.mark.parametrize("pace", PACES)
def test_unknown_methods_go_through_and_invalidate(method: str, pace: Pace, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"hello", headers=[("Cache-Control", "max-age=60")])
        async with stage.client() as client:
            await client.get("/a")
            assert (await client.get("/a")).hit
            await client.send(request(method, "/a", body=b"12345"), pace)
            assert (await client.response()).body == b"hello"
            assert not (await client.get("/a")).hit
            assert (await client.get("/a")).hit
        assert stage.seen() == [("GET", "/a"), (method, "/a"), ("GET", "/a")]
        assert stage.origin.requests[1].body == b"12345"

    play(scene)


@pytest.mark.parametrize("pace", ["whole", "bytes"])
@pytest.mark.parametrize(
    "method",
    [
        *("ANNOUNCE", "DESCRIBE", "FLUSH", "GET_PARAMETER", "PAUSE", "PLAY", "RECORD", "REDIRECT", "SET_PARAMETER"),
        *("SETUP", "TEARDOWN", "SOURCE"),
    ],
)
def test_methods_of_other_protocols_are_unknown_methods_like_any(method: str, pace: Pace, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"hello", headers=[("Cache-Control", "max-age=60")])
        async with stage.client() as client:
            await client.get("/a")
            await client.send(request(method, "/a", body=b"12345"), pace)
            assert (await client.response()).body == b"hello"
            assert not (await client.get("/a")).hit
        assert stage.seen() == [("GET", "/a"), (method, "/a"), ("GET", "/a")]
        assert stage.origin.requests[1].body == b"12345"

    play(scene)


def test_safe_methods_invalidate_nothing(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"hello", headers=[("Cache-Control", "max-age=60")])
        async with stage.client() as client:
            await client.get("/a")
            await client.ask("OPTIONS", "/a")
            await client.ask("PROPFIND", "/a")
            assert (await client.get("/a")).hit

    play(scene)


def test_a_length_of_zero_is_no_body(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a", headers=[("Cache-Control", "max-age=60")])
        for _ in range(3):
            response = await stage.get("/a", "Content-Length: 0")
            assert response.body == b"a"
        assert response.hit

    play(scene)


# --- request bodies


@pytest.mark.parametrize("pace", ["whole", "lines"])
def test_a_request_body_is_streamed_by_length(pace: Pace, play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        body = b"0123456789abcde\n" * 20_000
        stage.origin.respond("/a")
        async with stage.client() as client:
            await client.send(request("POST", "/a", f"Content-Length: {len(body)}"), pace)
            await client.send(body)
            assert (await client.response()).status == 200
            assert (await client.get("/a")).status == 200
        assert stage.origin.requests[0].body == body
        assert stage.origin.requests[0].fields.get("content-length") == str(len(body))

    play_on_both(scene)


@pytest.mark.parametrize("pace", PACES)
def test_a_chunked_request_body_is_streamed_and_framed_anew(pace: Pace, play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a")
        async with stage.client() as client:
            await client.send(request("POST", "/a", "Transfer-Encoding: chunked") + chunks(b"he", b"llo"), pace)
            assert (await client.response()).status == 200
        received = stage.origin.requests[0]
        assert received.body == b"hello"
        assert received.fields.get("transfer-encoding") == "chunked"

    play_on_both(scene)


def test_a_request_body_reaches_the_origin_while_it_is_still_being_sent(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        first, done = asyncio.Event(), asyncio.Event()

        async def read_first(wire: Wire) -> None:
            assert await wire.reader.readexactly(8) == b"5\r\nhello"
            first.set()
            await wire.reader.readuntil(b"0\r\n\r\n")
            done.set()

        stage.origin.play("/a", read_first, answered(b"ok"), read_body=False)
        async with stage.client() as client:
            await client.send(request("POST", "/a", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
            await first.wait()
            await client.send(b"5\r\nworld\r\n0\r\n\r\n")
            await done.wait()
            assert (await client.response()).body == b"ok"

    play_on_both(scene)


def test_an_origin_that_does_not_read_holds_the_client_back(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        sent = 0

        async def pour() -> None:
            nonlocal sent
            for _ in range(2000):
                await client.send(b"x" * 65536)
                sent += 65536

        stage.origin.play("/a", STALL, read_body=False)
        async with stage.client() as client:
            await client.send(request("POST", "/a", f"Content-Length: {2000 * 65536}"))
            pouring = asyncio.ensure_future(pour())
            before = -1
            while sent != before:  # until it stands still
                before = sent
                await asyncio.wait({pouring}, timeout=0.1)
            pouring.cancel()
            await asyncio.gather(pouring, return_exceptions=True)
            assert sent < 32 << 20, "the edge took in far more than it could pass on"

    play(scene)


def test_a_body_too_large_is_refused_by_its_length_or_by_its_size(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a")
        async with stage.client() as client:
            await client.send(request("POST", "/a", "Content-Length: 101"))
            assert (await client.response()).status == 413
            assert await client.closed()
        async with stage.client() as client:
            await client.send(request("POST", "/a", "Transfer-Encoding: chunked") + chunks(b"x" * 60, b"x" * 60))
            assert (await client.response()).status == 413
            assert await client.closed()
        await stage.settled()
        assert not any(received.whole for received in stage.origin.requests)
        assert stage.count("banish_limits_reached_total", "request_body_bytes") == 2
        assert (await stage.ask("POST", "/a", body=b"x" * 100)).status == 200

    play(scene, limits=tiny_limits(request_body_bytes=100))


def test_an_answer_before_the_body_has_come_is_passed_on(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play(
            "/a", answered(b"no", NO_STORE, "Connection: close", status="403 Forbidden"), CLOSE, read_body=False
        )
        async with stage.client() as client:
            await client.send(request("POST", "/a", "Content-Length: 1000000") + b"x" * 1000)
            response = await client.response()
            assert (response.status, response.body) == (403, b"no")

    play(scene)


def test_the_rest_of_a_small_body_nobody_wanted_is_read_off(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play(
            "/a", answered(b"no", NO_STORE, "Connection: close", status="403 Forbidden"), CLOSE, read_body=False
        )
        stage.origin.respond("/b", body=b"b")
        async with stage.client() as client:
            await client.send(request("POST", "/a", "Content-Length: 2000") + b"x" * 1000)
            response = await client.response()
            assert response.status == 403
            if response["connection"] != "close":
                await client.send(b"x" * 1000)
                assert (await client.get("/b")).body == b"b"

    play(scene)


@pytest.mark.parametrize("coding", ["Content-Length: 20", "Transfer-Encoding: chunked"])
def test_an_early_answer_on_a_kept_connection_mixes_up_nothing(coding: str, play_on_both: Play) -> None:
    """The origin answers, keeps its connection and never reads the body: that connection is spent."""

    async def scene(stage: Stage) -> None:
        stage.origin.play_always("/a", answered(b"no", NO_STORE, status="403 Forbidden"), read_body=False)
        stage.origin.respond("/b", body=b"b")
        for _ in range(3):
            async with stage.client() as client:
                await client.send(request("POST", "/a", coding) + (b"5\r\n" if "chunked" in coding else b""))
                response = await client.response()
                assert (response.status, response.body) == (403, b"no")
                if response["connection"] != "close":
                    await client.send(b"GET /smuggled HTTP/1"[:20])
                    assert (await client.get("/b")).body == b"b"
            assert (await stage.get("/b")).body == b"b"
        assert {target for _, target in stage.seen()} == {"/a", "/b"}

    play_on_both(scene)


def test_a_client_that_leaves_in_its_body_leaves_nothing_whole_at_the_origin(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a")
        async with stage.client() as client:
            await client.send(request("POST", "/a", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
            await stage.until(lambda: len(stage.origin.requests) == 1)
            client.reset()
        await stage.settled()
        assert not stage.origin.requests[0].whole

    play(scene)


HOOKS = """
def on_request(request):
    if request.method == "POST":
        request.respond(403, body="no")
"""


@pytest.mark.parametrize("who", ["no site", "a hook", "the redirect to https", "the loop check"])
def test_a_body_that_nobody_reads_does_not_hold_up_the_next_request(
    who: str, play_on_both: Play, tmp_path: Path
) -> None:
    hooks = tmp_path / "hooks.py"
    hooks.write_text(HOOKS)
    refusals: dict[str, tuple[int, dict[str, Any]]] = {
        "no site": (421, {"hosts": ("site.example",)}),
        "a hook": (403, {"hooks": str(hooks)}),
        "the redirect to https": (308, {"listen": (Listener(address="127.0.0.1:0", redirect_to_https=True),)}),
        "the loop check": (508, {}),
    }
    status, changes = refusals[who]
    host = "other.example" if who == "no site" else "site.example"
    lines = ("Via: 1.1 banish, 1.1 banish",) if who == "the loop check" else ()

    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"hello")
        async with stage.client() as client:
            for _ in range(2):
                response = await client.ask("POST", "/a", *lines, host=host, body=b"x" * 100_000)
                assert (response.status, response["connection"]) == (status, "")
                assert (await client.get("/a")).status == (308 if status == 308 else 200)
        assert stage.seen() == ([] if status == 308 else [("GET", "/a")] * 2)

    play_on_both(scene, **changes)


def test_where_one_request_may_wait_its_body_still_comes_through(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"ok")
        async with stage.client() as client:
            for _ in range(2):
                assert (await client.ask("POST", "/a", body=b"x" * 200_000)).body == b"ok"
        assert [len(received.body) for received in stage.origin.requests] == [200_000] * 2

    play_on_both(scene, limits=tiny_limits(pipelined_requests=1))


def test_an_upload_that_waits_for_its_turn_at_the_origin_is_held_back(play: Play) -> None:
    """First the answer before it is out, and only then is there no connection to be had."""

    async def scene(stage: Stage) -> None:
        first, sent = asyncio.Event(), 0
        stage.origin.play("/first", first, answered(b"first", NO_STORE))
        stage.origin.play("/taken", STALL)

        async def pour() -> None:
            nonlocal sent
            for _ in range(1000):
                await client.send(b"x" * 65536)
                sent += 65536

        async with stage.client() as client, stage.client() as other:
            await client.send(request("GET", "/first") + request("POST", "/b", f"Content-Length: {1000 * 65536}"))
            await stage.origin.wait_for(1)
            await other.send(request("POST", "/taken"))
            await stage.arrived(3)
            pouring = asyncio.ensure_future(pour())
            first.set()
            assert (await client.response()).body == b"first"
            before = -1
            while sent != before:  # until it stands still
                before = sent
                await asyncio.wait({pouring}, timeout=0.1)
            pouring.cancel()
            await asyncio.gather(pouring, return_exceptions=True)
            assert sent < 32 << 20, "the edge took in far more than it could pass on"

    play(scene, origin_limits=OriginLimits(connections_max=1))


# --- Expect


def test_100_continue_is_said_when_the_body_is_wanted(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"ok")
        async with stage.client() as client:
            await client.send(request("POST", "/a", "Content-Length: 5", "Expect: 100-continue"))
            assert (await client.head()).status == 100
            await client.send(b"hello")
            assert (await client.response()).body == b"ok"
            assert (await client.get("/a")).body == b"ok"
        assert stage.origin.requests[0].body == b"hello"
        assert "expect" not in stage.origin.requests[0].fields

    play_on_both(scene)


def test_no_100_continue_if_the_body_is_there_already(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"ok")
        async with stage.client() as client:
            await client.send(request("POST", "/a", "Expect: 100-continue", body=b"hello"))
            assert (await client.head()).status == 200

    play(scene)


def test_no_100_continue_for_http_1_0(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"ok")
        async with stage.client() as client:
            await client.send(b"POST /a HTTP/1.0\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            await stage.until(lambda: len(stage.origin.requests) == 1)
            await client.send(b"hello")
            assert (await client.head()).status == 200

    play(scene)


def test_a_refusal_without_the_body_closes_unless_the_body_comes(play: Play) -> None:
    """The client may or may not send it: what comes next on the connection could be either."""

    async def scene(stage: Stage) -> None:
        async with stage.client() as client:
            await client.send(request("TRACE", "/a", "Content-Length: 5", "Expect: 100-continue"))
            response = await client.response()
            assert (response.status, response["connection"]) == (405, "close")
            assert await client.closed()

    play(scene)


def test_the_origin_refuses_though_the_client_waits_with_its_body(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"no", NO_STORE, status="403 Forbidden"), CLOSE, read_body=False)
        async with stage.client() as client:
            await client.send(request("POST", "/a", "Content-Length: 5", "Expect: 100-continue"))
            response = await client.response()  # a 100 may come before it
            assert (response.status, response.body) == (403, b"no")
            await client.send(b"hello" + request("GET", "/smuggled"))
            assert response["connection"] == "close" or (await client.response()).status == 404

    play(scene)


def test_an_unknown_expectation_is_refused_or_passed_over(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"ok")
        response = await stage.ask("POST", "/a", "Expect: the-spanish-inquisition", body=b"hello")
        assert response.status in (200, 417)

    play(scene)


# --- interim responses


def test_103_and_other_interim_responses_are_forwarded(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\nX: hop\r\n\r\n"
        stage.origin.play("/a", hints, b"HTTP/1.1 102 Processing\r\n\r\n", gate, answered(b"ok", NO_STORE))
        async with stage.client() as client:
            await client.send(request("GET", "/a"))
            first = await client.head()
            assert (first.status, first["link"]) == (103, "</a.css>; rel=preload")
            assert {"connection", "x"}.isdisjoint(first.fields.names)
            assert (await client.head()).status == 102
            gate.set()
            assert (await client.response()).body == b"ok"

    play_on_both(scene)


def test_interim_responses_are_not_sent_to_http_1_0(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n", answered(b"ok"))
        async with stage.client() as client:
            await client.send(b"GET /a HTTP/1.0\r\nHost: site.example\r\n\r\n")
            assert (await client.head()).status == 200

    play(scene)


def test_an_interim_response_never_overtakes_the_answer_before_it(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", gate, b"a")
        stage.origin.play("/b", b"HTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n", answered(b"bb"))
        async with stage.client() as client:
            await client.send(request("GET", "/a") + request("GET", "/b"))
            await stage.origin.wait_for(1)
            gate.set()
            assert (await client.response()).body == b"aa"
            assert (await client.head()).status == 103
            assert (await client.response()).body == b"bb"

    play(scene)


def test_a_100_of_the_origin_is_not_taken_for_the_answer(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", b"HTTP/1.1 100 Continue\r\n\r\n", answered(b"ok"))
        assert (await stage.ask("POST", "/a", body=b"hello")).body == b"ok"

    play(scene)


def test_messages_without_content_announce_none(play: Play) -> None:
    """RFC 9110 section 8.6, whatever the origin says."""

    async def scene(stage: Stage) -> None:
        stage.origin.play("/none", b"HTTP/1.1 204 No Content\r\nContent-Length: 10\r\n\r\n")
        hints = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 10\r\nLink: </a>\r\n\r\n"
        stage.origin.play("/hints", hints, answered(b"ok"))
        async with stage.client() as client:
            for path, status in (("/none", 204), ("/hints", 103)):
                await client.send(request("GET", path))
                head = await client.head()
                assert (head.status, "content-length" in head.fields) == (status, False)

    play(scene)


# --- HTTP/1.0


@pytest.mark.parametrize("stored", [True, False])
def test_http_1_0_closes_and_gets_no_chunks(stored: bool, play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        control = b"max-age=60" if stored else b"no-store"
        head = b"HTTP/1.1 200 OK\r\nCache-Control: " + control + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        stage.origin.play_always("/a", head, chunks(b"he", b"llo"))
        for _ in range(3):
            async with stage.client() as client:
                await client.send(b"GET /a HTTP/1.0\r\nHost: site.example\r\n\r\n")
                response = await client.response()
                assert response.body == b"hello"
                assert "transfer-encoding" not in response.fields
                assert await client.closed()

    play_on_both(scene)


def test_http_1_0_keep_alive_is_offered_where_the_length_is_known(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"hello", headers=[("Cache-Control", "max-age=60")])
        async with stage.client() as client:
            for _ in range(4):
                await client.send(b"GET /a HTTP/1.0\r\nHost: site.example\r\nConnection: keep-alive\r\n\r\n")
                response = await client.response()
                assert (response.body, response["connection"]) == (b"hello", "keep-alive")

    play(scene)


def test_http_1_0_without_host_is_answered_by_the_only_site(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"hello")
        async with stage.client() as client:
            await client.send(b"GET /a HTTP/1.0\r\n\r\n")
            response = await client.response()
            assert response.status in (200, 400)
            assert await client.closed()

    play(scene)


# --- websockets


def test_a_websocket_carries_bytes_both_ways(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        async def echo(wire: Wire) -> None:
            while data := await wire.reader.read(1000):
                wire.writer.write(b"<" + data + b">")
            wire.writer.close()

        stage.origin.play("/ws", SWITCH + b"early", echo)
        async with stage.client() as client:
            await client.send(request("GET", "/ws", *WEBSOCKET))
            head = await client.response()
            assert (head.status, head["upgrade"], head["sec-websocket-accept"]) == (101, "websocket", "x")
            assert await client.read(5) == b"early"
            for message in (b"hello", b"GET / HTTP/1.1\r\n\r\n", b"\0\xff"):
                await client.send(message)
                assert await client.read(len(message) + 2) == b"<" + message + b">"
            client.shut()
            assert await client.rest() == b""
        sent = stage.origin.requests[0].fields
        assert (sent.get("upgrade"), (sent.get("connection") or "").lower()) == ("websocket", "upgrade")
        assert sent.get("sec-websocket-key") == "x"
        await stage.settled()

    play_on_both(scene)


def test_bytes_sent_before_the_switch_reach_the_tunnel(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def read(wire: Wire) -> None:
            got.set_result(await wire.reader.readexactly(11))

        stage.origin.play("/ws", gate, SWITCH, read, CLOSE)
        async with stage.client() as client:
            await client.send(request("GET", "/ws", *WEBSOCKET) + b"early")
            await stage.origin.wait_for(1)
            await client.send(b" later")
            gate.set()
            assert (await client.response()).status == 101
            assert await got == b"early later"
            assert await client.rest() == b""

    play(scene)


def test_a_websocket_behind_another_request_waits_for_its_turn(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate, switch = asyncio.Event(), asyncio.Event()
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        early = request("GET", "/smuggled")

        async def read(wire: Wire) -> None:
            got.set_result(await wire.reader.readexactly(len(early) + 6))

        stage.origin.play("/slow", gate, answered(b"slow", NO_STORE))
        stage.origin.play("/ws", switch, SWITCH, read, CLOSE)
        async with stage.client() as client:
            await client.send(request("GET", "/slow") + request("GET", "/ws", *WEBSOCKET) + early)
            await stage.origin.wait_for(1)
            gate.set()
            assert (await client.response()).body == b"slow"
            await stage.origin.wait_for(2)
            await client.send(b" later")
            await stage.arrived(1)
            switch.set()
            assert (await client.response()).status == 101
            assert await got == early + b" later"
            assert await client.rest() == b""
        assert stage.seen() == [("GET", "/slow"), ("GET", "/ws")]

    play(scene)


def test_a_refused_websocket_behind_another_request_leaves_http(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a", headers=[("Cache-Control", "no-store")])
        stage.origin.play_always("/ws", answered(b"no", NO_STORE, status="403 Forbidden"))
        async with stage.client() as client:
            ask = request("GET", "/a") + request("GET", "/ws", *WEBSOCKET) + request("GET", "/a")
            await client.send(ask + ask)
            for body in (b"a", b"no", b"a", b"a", b"no", b"a"):
                assert (await client.response()).body == body
        assert len(stage.seen()) == 6

    play(scene)


def test_a_switch_to_another_protocol_than_asked_is_refused(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/ws", SWITCH.replace(b"Upgrade: websocket", b"Upgrade: h2c"), STALL)
        async with stage.client() as client:
            await client.send(request("GET", "/ws", *WEBSOCKET))
            assert (await client.response()).status == 502

    play(scene)


def test_a_refused_websocket_leaves_an_ordinary_connection(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play_always("/ws", answered(b"no", NO_STORE, status="403 Forbidden"))
        stage.origin.respond("/a", body=b"a")
        async with stage.client() as client:
            for _ in range(2):
                response = await client.get("/ws", *WEBSOCKET)
                assert (response.status, response.body) == (403, b"no")
                assert (await client.get("/a")).body == b"a"
            await client.send(request("GET", "/ws", *WEBSOCKET) + request("GET", "/a"))
            assert (await client.response()).status == 403
            assert (await client.response()).body == b"a"

    play_on_both(scene)


def test_a_websocket_answered_by_200_is_an_ordinary_answer_and_not_stored(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play_always("/ws", answered(b"page", "Cache-Control: max-age=60"))
        async with stage.client() as client:
            assert (await client.get("/ws", *WEBSOCKET)).body == b"page"
            assert not (await client.get("/ws")).hit

    play(scene)


def test_the_origin_ends_the_tunnel(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/ws", SWITCH, b"bye", CLOSE)
        async with stage.client() as client:
            await client.send(request("GET", "/ws", *WEBSOCKET))
            assert (await client.response()).status == 101
            assert await client.rest() == b"bye"

    play_on_both(scene)


def test_a_client_that_leaves_its_tunnel_ends_it(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        ended = asyncio.Event()

        async def read(wire: Wire) -> None:
            try:
                await wire.reader.read()
            finally:
                ended.set()

        stage.origin.play("/ws", SWITCH, read, CLOSE)
        async with stage.client() as client:
            await client.send(request("GET", "/ws", *WEBSOCKET))
            assert (await client.response()).status == 101
            client.reset()
            await ended.wait()

    play_on_both(scene)


def test_a_tunnel_is_cut_when_the_edge_stops(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/ws", SWITCH, STALL)
        async with stage.client() as client:
            await client.send(request("GET", "/ws", *WEBSOCKET))
            assert (await client.response()).status == 101
            await stage.edge.stop()
            assert await client.closed()

    play(scene)


def test_a_websocket_can_be_switched_off(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a")
        async with stage.client() as client:
            assert (await client.get("/ws", *WEBSOCKET)).status == 501
            assert (await client.get("/a")).body == b"a"
        assert stage.seen() == [("GET", "/a")]

    play(scene, websocket=False)


# --- what proxies add and take


def test_hop_by_hop_fields_of_the_client_stop_here(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a")
        hops = [
            "Connection: keep-alive, X-Hop, Cookie", "Keep-Alive: 5", "X-Hop: 1", "TE: trailers", "Proxy-Connection: x",
            "Proxy-Authorization: Basic eA==", "Upgrade: h2c", "HTTP2-Settings: x", "Cookie: a=b", "X-End: 1",
        ]  # fmt: skip
        await stage.get("/a", *hops)
        names = set(stage.origin.requests[0].fields.names)
        assert {"x-end", "cookie", "via", "host"} <= names
        assert names.isdisjoint(
            {"keep-alive", "x-hop", "te", "proxy-connection", "proxy-authorization", "upgrade", "http2-settings"}
        )

    play(scene)


def test_via_and_forwarded_say_who_was_here(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", headers=[("Via", "1.1 inner")])
        response = await stage.get("/a", "Via: 1.0 outer", "X-Forwarded-For: 6.6.6.6", "Forwarded: for=6.6.6.6")
        assert response["via"] == "1.1 inner, 1.1 banish"
        sent = stage.origin.requests[0].fields
        assert sent.get("via") == "1.0 outer, 1.1 banish"
        assert sent.get("x-forwarded-for") == "127.0.0.1"
        assert sent.get("forwarded") == "for=127.0.0.1;host=site.example;proto=http"
        assert (sent.get("x-forwarded-host"), sent.get("x-forwarded-proto")) == ("site.example", "http")

    play(scene)


def test_via_tells_the_version_that_was_received(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", CLOSE)
        async with stage.client() as client:
            await client.send(b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n")
            response = await client.response()
        assert (response.version, response["via"]) == ("1.1", "1.0 banish")
        assert stage.origin.requests[0].fields.get("via") == "1.0 banish"

    play(scene)


def test_a_trusted_proxy_in_front_is_believed(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a")
        await stage.get("/a", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https")
        sent = stage.origin.requests[0].fields
        assert sent.get("x-forwarded-for") == "6.6.6.6, 127.0.0.1"
        assert sent.get("x-forwarded-proto") == "https"

    play(scene, trust_forwarded=True)


def test_a_loop_is_found(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        response = await stage.get("/a", "Via: 1.1 banish, 1.1 banish")
        assert response.status == 508
        assert stage.seen() == []

    play(scene)


def test_trailers_of_the_origin_are_passed_on_and_are_no_fields(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        head = b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        gate = asyncio.Event()
        stage.origin.play("/a", head, b"5\r\nhello\r\n", gate, b"0\r\nX-Sum: 42\r\n\r\n")
        async with stage.client() as client:
            await client.send(request("GET", "/a", "TE: trailers"))
            first = await client.head()
            assert "x-sum" not in first.fields
            gate.set()
            whole = await client.body(first)
            assert (whole.body, whole.trailers.get("x-sum")) == (b"hello", "42")

    play(scene)


def test_a_response_of_unknown_length_is_chunked_and_keeps_the_connection(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", b"HTTP/1.0 200 OK\r\n\r\nhello", gate, CLOSE)
        stage.origin.respond("/b", body=b"b")
        async with stage.client() as client:
            await client.send(request("GET", "/a"))
            head = await client.head()
            gate.set()
            assert (await client.body(head)).body == b"hello"
            assert head["transfer-encoding"] == "chunked"
            assert (await client.get("/b")).body == b"b"

    play_on_both(scene)


def test_the_edge_goes_on_after_clients_leave_at_any_byte(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"hello", headers=[("Cache-Control", "no-store")])
        data = request("POST", "/a", body=b"hello")
        for at in range(0, len(data) + 1, 3):
            async with stage.client() as client:
                await client.send(data[:at])
                if at % 2:
                    client.reset()
        assert (await stage.get("/a")).body == b"hello"
        await stage.until(lambda: stage.count("banish_client_connections") == 0)

    play_on_both(scene)


def test_too_many_connections_are_turned_away(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a")
        async with stage.client() as first, stage.client() as second:
            assert (await first.get("/a")).body == b"a"
            assert (await second.get("/a")).body == b"a"
            async with stage.client() as third:
                with pytest.raises(Closed):
                    await third.get("/a")
            assert (await first.get("/a")).body == b"a"
        assert stage.count("banish_limits_reached_total", "connections") == 1

    play(scene, limits=tiny_limits(connections=2))
