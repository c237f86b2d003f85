"""Clients that take their time, or send without end: each wait and each size has its limit, and its counter."""

import asyncio
import socket

import pytest
from tests.support import PACES, Closed, Pace, Play, Stage, answered, request, tiny_limits, tiny_timeouts

from banish.testing.origin import Wire

WAITS = tiny_timeouts(head_s=5, body_s=5, idle_s=5, write_s=5)
LATE = 2
"""Ticks that the wheel may be late."""


async def came(stage: Stage, count: int) -> None:
    await stage.until(lambda: stage.count("banish_client_connections") == count)


# --- slow


def test_a_connection_without_a_request_is_closed(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        async with stage.client() as client:
            await came(stage, 1)
            stage.tick(5 + LATE)
            assert await client.closed()
        assert stage.count("banish_client_timeouts_total", "idle") == 1

    play_on_both(scene, timeouts=WAITS)


def test_a_connection_in_use_is_not_closed(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a", headers=[("Cache-Control", "max-age=60")])
        async with stage.client() as client:
            for _ in range(10):
                stage.tick(4)
                assert (await client.get("/a")).body == b"a"
            stage.tick(5 + LATE)
            assert await client.closed()

    play(scene, timeouts=WAITS)


def test_waiting_for_the_origin_is_not_the_clients_fault(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", gate, answered(b"a"))
        async with stage.client() as client:
            await client.send(request("GET", "/a"))
            await stage.origin.wait_for(1)
            stage.tick(100)
            gate.set()
            assert (await client.response()).body == b"a"

    play(scene, timeouts=WAITS)


@pytest.mark.parametrize("dribble", [False, True])
def test_a_head_that_does_not_end_is_given_up(dribble: bool, play_on_both: Play) -> None:
    """Each byte in time, and never the last: the wait is for the whole head."""

    async def scene(stage: Stage) -> None:
        async with stage.client() as client:
            await client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n")
            await stage.until(lambda: any(each._stage == "head" for each in stage.connections))
            for _ in range(5 + LATE):
                if dribble:
                    await client.send(b"X: y\r\n", "bytes")
                stage.tick(1)
            assert (await client.response()).status == 408
            assert await client.closed()
        assert stage.count("banish_client_timeouts_total", "head") == 1
        assert stage.seen() == []

    play_on_both(scene, timeouts=WAITS)


def test_one_byte_of_a_head_is_enough_to_start_its_clock(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        async with stage.client() as client:
            await client.send(b"G")
            await stage.until(lambda: any(each._stage == "head" for each in stage.connections))
            stage.tick(5 + LATE)
            assert (await client.response()).status == 408

    play(scene, timeouts=tiny_timeouts(head_s=5, idle_s=1000))


def test_a_body_that_stops_is_given_up(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a")
        async with stage.client() as client:
            await client.send(request("POST", "/a", "Content-Length: 100") + b"hello")
            await stage.until(lambda: len(stage.origin.requests) == 1)
            stage.tick(5 + LATE)
            assert (await client.response()).status == 408
            assert await client.closed()
        await stage.settled()
        assert stage.count("banish_client_timeouts_total", "body") == 1
        assert not stage.origin.requests[0].whole

    play_on_both(scene, timeouts=WAITS)


def test_a_body_that_goes_on_is_waited_for(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"ok")
        async with stage.client() as client:
            await client.send(request("POST", "/a", "Content-Length: 20"))
            await stage.until(lambda: len(stage.origin.requests) == 1)
            for _ in range(20):
                await client.send(b"x", "bytes")
                stage.tick(1)
            assert (await client.response()).body == b"ok"

    play(scene, timeouts=WAITS)


@pytest.mark.parametrize("control", ["max-age=60", "no-store"])
def test_a_client_that_does_not_read_is_cut(control: str, play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"x" * (24 << 20), headers=[("Cache-Control", control)])
        async with stage.client(receive_buffer_bytes=4096) as client:
            await client.send(request("GET", "/a"))
            await stage.until(lambda: any(each._stage == "write" for each in stage.connections))
            stage.tick(5 + LATE)
            await came(stage, 0)
        await stage.settled()
        assert stage.count("banish_client_timeouts_total", "write") == 1

    play_on_both(scene, timeouts=WAITS)


def test_a_client_that_reads_slowly_is_not_cut(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        body = b"x" * (24 << 20)
        stage.origin.respond("/a", body=body, headers=[("Cache-Control", "max-age=60")])
        async with stage.client(receive_buffer_bytes=65536) as client:
            await client.send(request("GET", "/a"))
            first = await client.head()
            got = 0
            while got < 20 << 20:
                for _ in range(64):
                    got += len(await client.read())
                stage.tick(1)
            assert first.status == 200
        assert stage.count("banish_client_timeouts_total", "write") == 0

    play(scene, timeouts=WAITS)


@pytest.mark.parametrize("way", ["lane", "pipeline"])
def test_who_takes_a_little_now_and_then_is_not_cut(way: str, play: Play) -> None:
    """A little is less than it takes to let the edge write again."""

    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"x" * (1 << 20), headers=[("Cache-Control", "max-age=60")])
        for _ in range(2):
            await stage.get("/a")
        await came(stage, 0)
        async with stage.client(receive_buffer_bytes=4096) as client:
            await came(stage, 1)
            (connection,) = stage.connections
            connection._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            await client.send(request("GET", "/a", *(["X-HTTP-Method-Override: GET"] if way == "pipeline" else [])))
            await stage.until(lambda: connection._stage == "write")
            for _ in range(40):
                assert await client.read()
                for _ in range(20):
                    await asyncio.sleep(0)
                stage.tick(1)
            assert stage.count("banish_client_timeouts_total", "write") == 0
            stage.tick(2 * (5 + LATE))
            await came(stage, 0)

    play(scene, timeouts=WAITS)


def test_an_upload_is_not_given_up_because_the_origin_reads_slowly(play_on_both: Play) -> None:
    pieces, piece = 400, b"x" * 65536

    async def scene(stage: Stage) -> None:
        go, sent = asyncio.Event(), 0

        async def read_late(wire: Wire) -> None:
            await go.wait()
            await wire.reader.readexactly(pieces * len(piece))

        async def pour() -> None:
            nonlocal sent
            for _ in range(pieces):
                await client.send(piece)
                sent += 1

        stage.origin.play("/a", read_late, answered(b"ok"), read_body=False)
        async with stage.client() as client:
            await client.send(request("POST", "/a", f"Content-Length: {pieces * len(piece)}"))
            pouring = asyncio.ensure_future(pour())
            before = -1
            while sent != before:  # until it stands still
                before = sent
                await asyncio.wait({pouring}, timeout=0.1)
            assert sent < pieces
            for _ in range(3):
                stage.tick(5 + LATE)
            go.set()
            assert (await client.response()).body == b"ok"
            await pouring
        assert stage.count("banish_client_timeouts_total", "body") == 0

    play_on_both(scene, timeouts=WAITS)


def test_a_client_of_http_1_0_that_is_cut_for_not_reading_can_tell(play_on_both: Play) -> None:
    """It reads until the connection ends: a proper end would make the part a whole."""

    async def scene(stage: Stage) -> None:
        async def pour(wire: Wire) -> None:
            while True:
                wire.writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                await wire.writer.drain()

        stage.origin.play("/a", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", pour)
        async with stage.client(receive_buffer_bytes=4096) as client:
            await client.send(b"GET /a HTTP/1.0\r\nHost: site.example\r\n\r\n")
            await stage.until(lambda: any(each._stage == "write" for each in stage.connections))
            stage.tick(5 + LATE)
            await came(stage, 0)
            with pytest.raises(ConnectionResetError):
                await client.rest()
        await stage.settled()

    play_on_both(scene, timeouts=WAITS)


def test_a_hit_that_is_not_read_holds_no_second_hit(play: Play) -> None:
    """What a client asked for and does not take is bounded: the edge stops reading its requests."""

    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"x" * 200_000, headers=[("Cache-Control", "max-age=60")])
        await stage.get("/a")
        await stage.get("/a")
        async with stage.client(receive_buffer_bytes=4096) as client:
            for _ in range(500):
                sending = asyncio.ensure_future(client.send(request("GET", "/a")))
                await asyncio.wait({sending}, timeout=0.02)
                if not sending.done():
                    sending.cancel()
                    break
            (connection,) = stage.connections
            assert connection._transport.get_write_buffer_size() < 4 << 20
            stage.tick(5 + LATE)
            await came(stage, 0)

    play(scene, timeouts=WAITS)


# --- large


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize(
    ("data", "status", "limit"),
    [
        (b"GET /" + b"a" * 300 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "request_target_bytes"),
        (b"GET /?" + b"a" * 300 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "request_target_bytes"),
        (request("GET", "/a", *(f"X-{at}: y" for at in range(11))), 431, "request_fields"),
        (request("GET", "/a", "X: " + "y" * 1100), 431, "request_head_bytes"),
        (request("GET", "/a", "X" * 1100 + ": y"), 431, "request_head_bytes"),
        (request("BAN", "/a", "X: " + "y" * 1100), 431, "request_head_bytes"),
        (request("BAN", "/a", *(f"X-{at}: y" for at in range(11))), 431, "request_fields"),
    ],
    ids=["path", "query", "fields", "value", "name", "value of an unknown method", "fields of an unknown method"],
)
def test_heads_past_a_limit_are_refused(data: bytes, status: int, limit: str, pace: Pace, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        async with stage.client() as client:
            await client.send(data, pace)
            assert (await client.response()).status == status
            assert await client.closed()
        assert stage.count("banish_limits_reached_total", limit) == 1
        assert stage.seen() == []

    limits = tiny_limits(request_target_bytes=256, request_fields=10, request_head_bytes=1024)
    play(scene, limits=limits)


@pytest.mark.parametrize(
    "flood",
    [b"X: y\r\n", b"X: " + b"y" * 1000 + b"\r\n", b"y" * 1000, b"\r\n"],
    ids=["fields", "long fields", "one endless field", "blank lines"],
)
def test_a_head_without_end_is_cut_off(flood: bytes, play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        start = b"" if flood == b"\r\n" else b"GET /a HTTP/1.1\r\nHost: x\r\n"
        async with stage.client() as client:
            await client.send(start)
            sent = 0
            sending: asyncio.Task[None] | None = None
            try:
                while sent < 1 << 20:
                    sending = asyncio.ensure_future(client.send(flood * (8192 // len(flood))))
                    sent += 8192
                    await sending
            except (Closed, ConnectionError):
                pass
            assert (await client.response()).status in (400, 431)
        assert stage.count("banish_limits_reached_total", "request_head_bytes") == 1

    play_on_both(scene, limits=tiny_limits(request_head_bytes=4096))


def test_a_method_without_end_is_cut_off(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        async with stage.client() as client:
            for _ in range(100):
                await client.send(b"X" * 8192)
            assert (await client.response()).status in (400, 431, 501)

    play(scene)


def test_a_target_without_end_is_cut_off(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        async with stage.client() as client:
            await client.send(b"GET /")
            for _ in range(100):
                await client.send(b"x" * 8192)
            assert (await client.response()).status in (400, 414, 431)

    play(scene)


def test_pipelined_requests_without_end_are_paused(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/slow", gate, answered(b"slow"))
        stage.origin.respond("/a", body=b"a", headers=[("Cache-Control", "max-age=60")])
        async with stage.client() as client:
            await client.send(request("GET", "/slow"))
            flood = request("GET", "/a") * 200_000
            sending = asyncio.ensure_future(client.send(flood))
            await asyncio.wait({sending}, timeout=0.1)
            (connection,) = stage.connections
            assert len(connection._queue) < 2000
            assert len(connection._unparsed) < 1 << 20
            sending.cancel()
            gate.set()
            assert (await client.response()).body == b"slow"

    play(scene)
