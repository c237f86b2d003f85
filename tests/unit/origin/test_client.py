"""Fetching over real sockets, from an origin that follows a script."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path

import pytest

from banish.errors import BadResponse, ConnectFailed, OriginTimeout, Truncated
from banish.http.framing import FramingKind
from banish.http.messages import ResponseHead
from banish.origin.connect import OriginTls
from banish.origin.limits import Limits
from banish.origin.timeouts import Stage, Timeouts
from banish.testing.clock import FakeClock
from banish.testing.origin import CLOSE, RESET, STALL, ScriptedOrigin, Wire, answer, byte_by_byte
from tests.unit.origin.conftest import Run
from tests.unit.origin.exchanges import group_of, pieces, read_all, request

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

OPENED = "banish_origin_connections_opened_total"
REUSED = "banish_origin_connections_reused_total"
RETRIES = "banish_origin_retries_total"
FAILURES = "banish_origin_failures_total"


def test_a_connection_serves_one_request_after_another(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.respond("/", body=b"hello")
            assert [await group.get() for _ in range(3)] == [b"hello"] * 3
            assert origin.connections == 1
            assert origin.requests[0].raw == b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
            assert (group.count(OPENED), group.count(REUSED)) == (1, 2)
            assert "0 taken, 1 idle" in repr(group)
            assert group.count("banish_origin_connections", "idle") == 1

    run(play())


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n", b"hello"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\n!", b"!"),
    ],
)
def test_a_response_may_come_byte_by_byte(run: Run, data: bytes, body: bytes) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play_always("/", *byte_by_byte(data))
            assert await group.get() == body
            assert await group.get() == body
            assert origin.connections == 1

    run(play())


def test_the_head_is_here_before_the_body_is(run: Run) -> None:
    async def play() -> None:
        clock, gate = FakeClock(1000.0), asyncio.Event()
        async with ScriptedOrigin() as origin, group_of(origin.url, clock=clock) as group:

            async def pass_time(wire: Wire) -> None:
                clock.advance(2)

            origin.play("/", pass_time, OK + b"Content-Length: 5\r\n\r\n", gate, b"hello")
            response = await group.fetch(request(), None)
            assert response.head.status == 200
            assert response.framing is not None
            assert response.framing.kind is FramingKind.LENGTH
            assert (response.requested_at, response.received_at) == (1000.0, 1002.0)
            assert not response.complete
            gate.set()
            assert await read_all(response) == b"hello"

    run(play())


def test_trailers_come_after_the_body(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", CHUNKED + b"2\r\nhi\r\n0\r\nETag: x\r\n\r\n")
            response = await group.fetch(request(), None)
            assert await read_all(response) == b"hi"
            assert response.trailers is not None
            assert response.trailers.get("etag") == "x"

    run(play())


def test_interim_responses_are_passed_on_as_they_come(run: Run) -> None:
    async def play() -> None:
        gate = asyncio.Event()
        seen: list[ResponseHead] = []

        def on_interim(head: ResponseHead) -> None:
            seen.append(head)
            gate.set()

        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n", gate, answer(200))
            response = await group.fetch(request(), None, on_interim=on_interim)
            assert response.head.status == 200
            assert [head.status for head in seen] == [103]
            assert seen[0].fields.get("link") == "</style.css>"

    run(play())


def test_a_response_to_head_says_a_length_and_leaves_the_connection_usable(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", OK + b"Content-Length: 5000\r\n\r\n")
            origin.respond("/next", body=b"next")
            response = await group.fetch(request("HEAD"), None)
            assert response.head.fields.get("content-length") == "5000"
            assert await response.read() == b""
            assert await group.get("/next") == b"next"
            assert origin.connections == 1

    run(play())


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 2\r\n\r\nhi" + answer(body=b"poison"),
        CHUNKED + b"2\r\nhi\r\n0\r\n\r\n" + answer(body=b"poison"),
        OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nhi",
    ],
)
def test_a_connection_in_doubt_is_not_used_again(run: Run, data: bytes) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", data)
            origin.respond("/", body=b"good")
            assert await group.get() == b"hi"
            assert await group.get() == b"good"
            assert origin.connections == 2

    run(play())


def test_bytes_nobody_asked_for_end_an_idle_connection(run: Run) -> None:
    async def play() -> None:
        gate, gone = asyncio.Event(), asyncio.Event()

        async def watch_end(wire: Wire) -> None:
            assert await wire.reader.read() == b""
            gone.set()

        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", answer(body=b"hi"), gate, b"HTTP/1.1 408 Request Timeout\r\n\r\n", watch_end)
            origin.respond("/", body=b"again")
            assert await group.get() == b"hi"
            gate.set()
            await gone.wait()
            assert "0 taken, 0 idle" in repr(group)
            assert await group.get() == b"again"

    run(play())


@pytest.mark.parametrize("end", [CLOSE, RESET])
@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 O",
        OK + b"Content-Length: 9\r\n\r\n",
        OK + b"Content-Length: 9\r\n\r\nfour",
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"5\r\nhello\r\n",
    ],
)
def test_a_response_cut_short_is_never_taken_for_whole(run: Run, data: bytes, end: object) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            gate = asyncio.Event()
            origin.play("/", data, gate, end)  # type: ignore[arg-type]
            asyncio.get_running_loop().call_later(0.02, gate.set)
            with pytest.raises(Truncated) as caught:
                await group.get()
            assert not caught.value.retryable
            assert group.count(FAILURES, "truncated") == 1
            assert "0 taken, 0 idle" in repr(group)

    run(play())


def test_what_came_before_a_cut_is_given_before_the_error(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", OK + b"Content-Length: 9\r\n\r\nfour", CLOSE)
            response = await group.fetch(request(), None)
            assert await response.read() == b"four"
            for _ in range(2):
                with pytest.raises(Truncated):
                    await response.read()

    run(play())


def test_until_close_is_whole_on_a_proper_end_and_not_on_a_reset(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            gate = asyncio.Event()
            origin.play("/", OK + b"\r\nall of it", CLOSE)
            assert await group.get() == b"all of it"
            origin.play("/", OK + b"\r\npart of it", gate, RESET)
            response = await group.fetch(request(), None)
            assert await response.read() == b"part of it"
            gate.set()
            with pytest.raises(Truncated):
                await response.read()

    run(play())


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n", OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx"])
def test_a_bad_response_ends_the_connection(run: Run, data: bytes) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", data, STALL)
            with pytest.raises(BadResponse):
                await group.get()
            assert group.count(FAILURES, "bad_response") == 1
            assert "0 taken, 0 idle" in repr(group)

    run(play())


def test_a_lenient_group_takes_bare_line_feeds(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url, lenient=True) as group:
            origin.play("/", b"HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 2\n\nhi")
            assert await group.get() == b"hi"

    run(play())


# ── retries ──


def test_a_pooled_connection_that_died_is_replaced_once(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.respond("/", body=b"hi")
            assert await group.get() == b"hi"
            origin.play("/", RESET)
            assert await group.get() == b"hi"
            assert group.count(RETRIES) == 1
            assert len(origin.requests) == 3
            origin.play("/", RESET)
            origin.play("/", RESET)
            with pytest.raises(Truncated):
                await group.get()
            assert len(origin.requests) == 5

    run(play())


def test_a_first_connection_that_dies_is_not_replaced(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", RESET)
            with pytest.raises(Truncated):
                await group.get()
            assert len(origin.requests) == 1

    run(play())


@pytest.mark.parametrize("body", [None, b"data"])
def test_a_request_that_may_have_had_an_effect_is_not_repeated(run: Run, body: bytes | None) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.respond("/", body=b"hi")
            await group.get()
            origin.play("/", RESET)
            with pytest.raises(Truncated):
                await read_all(await group.fetch(request("POST"), pieces(body) if body else None))
            assert len(origin.requests) == 2
            assert group.count(RETRIES) == 0

    run(play())


def test_a_request_that_cannot_be_repeated_asks_the_kernel_first(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            wires: list[Wire] = []

            async def keep_wire(wire: Wire) -> None:
                wires.append(wire)

            origin.play("/", keep_wire, answer(body=b"hi"))
            origin.respond("/", body=b"posted")
            await group.get()
            with socket.socket(fileno=os.dup(wires[0].writer.get_extra_info("socket").fileno())) as same:
                same.shutdown(socket.SHUT_WR)
            # The FIN lies in the kernel; no loop has had a turn to see it.
            assert "1 idle" in repr(group)
            response = await group.fetch(request("POST"), pieces(b"data"))
            assert await read_all(response) == b"posted"
            assert group.count(RETRIES) == 0

    run(play())


# ── request bodies ──


def test_a_body_is_sent_in_chunks_or_by_its_length(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.respond("/", body=b"ok")
            for fields in ((), (("Content-Length", "8"),)):
                response = await group.fetch(request("PUT", "/", *fields), pieces(b"some", b"", b"data"))
                assert await read_all(response) == b"ok"
                assert origin.requests[-1].body == b"somedata"
            assert origin.connections == 1

    run(play())


def test_an_answer_before_the_body_is_sent_ends_the_upload(run: Run) -> None:
    async def play() -> None:
        closed = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 1000
                    await asyncio.sleep(0)
            finally:
                closed.set()

        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", answer(413, body=b"too much"), STALL, read_body=False)
            response = await group.fetch(request("POST"), endless())
            assert response.head.status == 413
            assert await read_all(response) == b"too much"
            await closed.wait()
            assert "0 taken, 0 idle" in repr(group)

    run(play())


def test_both_ways_at_once(run: Run) -> None:
    async def play() -> None:
        gate = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            await gate.wait()
            yield b"two"

        async def rest(wire: Wire) -> None:
            assert await wire.reader.readuntil(b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"

        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", CHUNKED + b"5\r\nearly\r\n", rest, b"4\r\nlate\r\n0\r\n\r\n", read_body=False)
            origin.respond("/next")
            response = await group.fetch(request("POST"), body())
            assert await response.read() == b"early"
            gate.set()
            assert await read_all(response) == b"late"
            await group.get("/next")
            assert origin.connections == 1

    run(play())


def test_an_error_of_the_body_comes_out_as_it_is(run: Run) -> None:
    async def play() -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield b"some"
            raise ZeroDivisionError

        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.respond("/")
            with pytest.raises(ZeroDivisionError):
                await group.fetch(request("POST"), broken())
            assert "0 taken, 0 idle" in repr(group)

    run(play())


# ── slow readers, early leavers ──


def test_a_slow_reader_holds_the_origin_back(run: Run) -> None:
    async def play() -> None:
        size = 32 << 20
        sent = 0

        async def pour(wire: Wire) -> None:
            nonlocal sent
            for _ in range(size >> 16):
                wire.writer.write(b"x" * (1 << 16))
                sent += 1 << 16
                await wire.writer.drain()

        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", OK + b"Content-Length: %d\r\n\r\n" % size, pour)
            response = await group.fetch(request(), None)
            before = -1
            while before != sent:  # until it stands still
                before = sent
                await asyncio.sleep(0.05)
            assert sent < size
            got = 0
            while data := await response.read():
                assert len(data) < 2 * Limits().read_ahead_bytes + (1 << 18)
                got += len(data)
            assert got == size
            assert "1 idle" in repr(group)

    run(play())


def test_closing_a_response_frees_its_connection(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", OK + b"Content-Length: 9\r\n\r\nfour", STALL)
            response = await group.fetch(request(), None)
            response.close()
            response.close()
            assert "0 taken, 0 idle" in repr(group)
            assert group.count(FAILURES, "truncated") == 0

    run(play())


def test_closing_a_response_that_came_whole_keeps_its_connection(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", answer(body=b"hi"))
            response = await group.fetch(request(), None)
            response.close()
            assert "1 idle" in repr(group)

    run(play())


def test_a_cancelled_fetch_frees_its_connection(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", STALL)
            task = asyncio.create_task(group.get())
            await origin.wait_for(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert "0 taken, 0 idle, 0 waiting" in repr(group)

    run(play())


# ── the pool at work ──


def test_requests_past_the_limit_wait_their_turn(run: Run) -> None:
    async def play() -> None:
        gate = asyncio.Event()
        async with (
            ScriptedOrigin() as origin,
            group_of(origin.url, limits=Limits(connections_max=1)) as group,
        ):
            origin.play("/first", gate, answer(body=b"first"))
            origin.respond("/second", body=b"second")
            first = asyncio.create_task(group.get("/first"))
            await origin.wait_for(1)
            second = asyncio.create_task(group.get("/second"))
            leaver = asyncio.create_task(group.get("/third"))
            await asyncio.sleep(0)
            assert "1 taken, 0 idle, 2 waiting" in repr(group)
            leaver.cancel()
            gate.set()
            assert await first == b"first"
            assert await second == b"second"
            assert origin.connections == 1
            assert "0 taken, 1 idle, 0 waiting" in repr(group)

    run(play())


def test_a_place_that_comes_free_by_an_end_goes_to_the_next(run: Run) -> None:
    async def play() -> None:
        gate = asyncio.Event()
        async with (
            ScriptedOrigin() as origin,
            group_of(origin.url, limits=Limits(connections_max=1)) as group,
        ):
            origin.play("/first", gate, RESET)
            origin.respond("/second", body=b"second")
            first = asyncio.create_task(group.get("/first"))
            await origin.wait_for(1)
            second = asyncio.create_task(group.get("/second"))
            await asyncio.sleep(0)
            gate.set()
            with pytest.raises(Truncated):
                await first
            assert await second == b"second"
            assert origin.connections == 2

    run(play())


def test_the_line_is_bounded(run: Run) -> None:
    async def play() -> None:
        limits = Limits(connections_max=1, waiting_max=0)
        async with ScriptedOrigin() as origin, group_of(origin.url, limits=limits) as group:
            origin.play("/", STALL)
            task = asyncio.create_task(group.get())
            await origin.wait_for(1)
            with pytest.raises(ConnectFailed, match="waiting_max"):
                await group.get()
            task.cancel()

    run(play())


# ── connecting ──


def test_a_refused_address_gives_way_to_the_next(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of("http://127.0.0.1:1", origin.url) as group:
            origin.respond("/", body=b"hi")
            assert await group.get() == b"hi"

    run(play())


def test_no_address_that_answers_is_a_failure_to_connect(run: Run) -> None:
    async def play() -> None:
        async with group_of("http://127.0.0.1:1", "unix:/nowhere/at.all") as group:
            with pytest.raises(ConnectFailed) as caught:
                await group.get()
            assert caught.value.retryable
            assert group.count(FAILURES, "connect") == 1
            assert "0 taken, 0 idle" in repr(group)

    run(play())


def test_a_name_is_resolved(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin:
            origin.respond("/", body=b"hi")
            async with group_of(origin.url.replace("127.0.0.1", "localhost")) as group:
                assert await group.get() == b"hi"

    run(play())


def test_a_unix_socket_is_an_origin_too(run: Run, tmp_path: Path) -> None:
    async def play() -> None:
        path = str(tmp_path / "app.sock")
        async with ScriptedOrigin(unix_path=path) as origin, group_of(origin.url) as group:
            origin.respond("/", body=b"hi")
            assert [await group.get(), await group.get()] == [b"hi", b"hi"]
            assert origin.connections == 1

    run(play())


def test_closing_the_group_fails_what_is_under_way(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", STALL)
            task = asyncio.create_task(group.get())
            await origin.wait_for(1)
            await group.close()
            with pytest.raises(Truncated):
                await task

    run(play())


# ── tunnels ──

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
UPGRADE = (("Connection", "Upgrade"), ("Upgrade", "websocket"))


def test_a_tunnel_carries_bytes_both_ways(run: Run) -> None:
    async def play() -> None:
        async def echo(wire: Wire) -> None:
            while data := await wire.reader.read(1000):
                wire.writer.write(data.upper())
            wire.writer.write(b"bye")

        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", SWITCH + b"first", echo, CLOSE)
            response = await group.fetch(request("GET", "/", *UPGRADE), None, expect_upgrade=True)
            assert response.head.status == 101
            tunnel = response.tunnel
            assert tunnel is not None
            assert await tunnel.read() == b"first"
            await tunnel.write(b"second")
            assert await tunnel.read() == b"SECOND"
            tunnel.write_eof()
            assert await tunnel.read() == b"bye"
            assert await tunnel.read() == b""
            tunnel.close()
            with pytest.raises(Truncated):
                await tunnel.write(b"more")
            assert "0 taken, 0 idle" in repr(group)

    run(play())


def test_a_tunnel_may_be_half_closed_by_the_origin(run: Run) -> None:
    async def play() -> None:
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def end_first(wire: Wire) -> None:
            wire.writer.write_eof()
            heard.set_result(await wire.reader.read())

        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", SWITCH, end_first, CLOSE)
            response = await group.fetch(request("GET", "/", *UPGRADE), None, expect_upgrade=True)
            tunnel = response.tunnel
            assert tunnel is not None
            assert await tunnel.read() == b""
            await tunnel.write(b"last words")
            tunnel.close()
            assert await heard == b"last words"

    run(play())


def test_a_broken_tunnel_says_so(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            gate = asyncio.Event()
            origin.play("/", SWITCH, gate, RESET)
            response = await group.fetch(request("GET", "/", *UPGRADE), None, expect_upgrade=True)
            assert response.tunnel is not None
            gate.set()
            with pytest.raises(Truncated, match="tunnel"):
                await response.tunnel.read()

    run(play())


def test_a_switch_nobody_asked_for_is_refused(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.play("/", SWITCH, STALL)
            with pytest.raises(BadResponse, match="unasked"):
                await group.get()

    run(play())


def test_an_upgrade_declined_is_an_ordinary_response(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.respond("/", status=426, headers=UPGRADE, body=b"no")
            response = await group.fetch(request("GET", "/", *UPGRADE), None, expect_upgrade=True)
            assert response.tunnel is None
            assert await read_all(response) == b"no"
            assert "1 idle" in repr(group)

    run(play())


# ── every wait runs out, by its name ──


def test_waits_can_be_switched_off(run: Run, localhost_tls: ssl.SSLContext, ca_file: str) -> None:
    async def play() -> None:
        off = Timeouts(**dict.fromkeys(Timeouts.__struct_fields__, inf))
        tls = OriginTls(ca_file=ca_file)
        async with (
            ScriptedOrigin(tls=localhost_tls) as origin,
            group_of(origin.url, timeouts=off, tls=tls, limits=Limits(connections_max=1)) as group,
        ):
            origin.respond("/", body=b"hi")
            first, second = await asyncio.gather(group.get(), group.get())
            assert first == second == b"hi"

    run(play())


def test_every_stage_has_a_bound_of_its_name() -> None:
    assert Timeouts.__struct_fields__ == tuple(f"{stage}_s" for stage in Stage)


def short(stage: str) -> Timeouts:
    return Timeouts(**{f"{stage}_s": 0.03})


async def refuses(group_url: str, stage: str, timeouts: Timeouts, *, body: AsyncIterator[bytes] | None = None) -> None:
    async with group_of(group_url, timeouts=timeouts) as group:
        with pytest.raises(OriginTimeout) as caught:
            await read_all(await group.fetch(request("POST" if body else "GET"), body))
        assert caught.value.stage == stage
        assert group.count("banish_origin_timeouts_total", stage) == 1
        assert group.count(FAILURES, "timeout") == 1
        assert "0 taken, 0 idle" in repr(group)


@pytest.mark.parametrize(
    ("stage", "data"),
    [
        ("first_byte", b""),
        ("first_byte", b"HTTP/1.1 200 OK\r\nX"),
        ("first_byte", b"HTTP/1.1 102 Processing\r\n\r\n"),
        ("between_bytes", OK + b"Content-Length: 9\r\n\r\n"),
        ("between_bytes", CHUNKED + b"5\r\nhello\r\n"),
        ("total", b""),
        ("total", OK + b"Content-Length: 9\r\n\r\nfour"),
    ],
)
def test_a_silent_origin_is_given_up(run: Run, stage: str, data: bytes) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin:
            origin.play("/", data, STALL)
            await refuses(origin.url, stage, short(stage))

    run(play())


def test_an_origin_that_takes_no_more_of_a_body_is_given_up(run: Run) -> None:
    async def play() -> None:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65536

        async with ScriptedOrigin() as origin:
            origin.play("/", STALL, read_body=False)
            await refuses(origin.url, "write", short("write"), body=endless())

    run(play())


def test_waiting_for_a_connection_is_bounded(run: Run) -> None:
    async def play() -> None:
        limits = Limits(connections_max=1)
        async with (
            ScriptedOrigin() as origin,
            group_of(origin.url, timeouts=short("pool_wait"), limits=limits) as group,
        ):
            origin.play("/", STALL)
            task = asyncio.create_task(group.get())
            await origin.wait_for(1)
            with pytest.raises(OriginTimeout) as caught:
                await group.get()
            assert caught.value.stage == "pool_wait"
            assert caught.value.retryable
            assert group.count("banish_origin_timeouts_total", "pool_wait") == 1
            task.cancel()

    run(play())


def test_connecting_is_bounded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async def never(*args: object, **kwargs: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr("aiohappyeyeballs.start_connection", never)
        await refuses("http://127.0.0.1:1", "connect", short("connect"))

    run(play())


def test_an_idle_connection_is_let_go(run: Run) -> None:
    async def play() -> None:
        gone = asyncio.Event()

        async def watch_end(wire: Wire) -> None:
            assert await wire.reader.read() == b""
            gone.set()

        async with ScriptedOrigin() as origin, group_of(origin.url, timeouts=short("idle")) as group:
            origin.play("/", answer(), watch_end)
            await group.get()
            await gone.wait()
            assert "0 taken, 0 idle" in repr(group)
            assert group.count("banish_origin_timeouts_total", "idle") == 1

    run(play())


def test_a_connection_the_origin_will_close_soon_is_not_kept(run: Run) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin, group_of(origin.url) as group:
            origin.respond("/", headers=[("Keep-Alive", "timeout=1, max=100")])
            await group.get()
            await group.get()
            assert origin.connections == 2

    run(play())


def test_a_silent_tunnel_is_given_up(run: Run) -> None:
    async def play() -> None:
        timeouts = Timeouts(tunnel_idle_s=0.03, total_s=10)
        async with ScriptedOrigin() as origin, group_of(origin.url, timeouts=timeouts) as group:
            origin.play("/", SWITCH, STALL)
            response = await group.fetch(request("GET", "/", *UPGRADE), None, expect_upgrade=True)
            assert response.tunnel is not None
            with pytest.raises(OriginTimeout) as caught:
                await response.tunnel.read()
            assert caught.value.stage == "tunnel_idle"

    run(play())
