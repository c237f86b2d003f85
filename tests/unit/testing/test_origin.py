"""The scripted origin keeps to its script: seen from a bare socket."""

import asyncio

import pytest

from banish.testing.origin import CLOSE, RESET, STALL, ScriptedOrigin, Wire, answer, byte_by_byte

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


async def dial(origin: ScriptedOrigin) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = origin.url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def ask(origin: ScriptedOrigin, raw: bytes) -> bytes:
    """Send bytes, read until the origin ends the connection."""
    reader, writer = await dial(origin)
    writer.write(raw)
    try:
        return await reader.read()
    finally:
        writer.close()


def test_a_play_is_done_once_then_the_standing_answer() -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin:
            origin.respond("/", status=203, headers=[("A", "b")], body=b"always")
            origin.play("/", b"once", CLOSE)
            assert await ask(origin, GET % b"/") == b"once"
            reader, writer = await dial(origin)
            writer.write(GET % b"/?query" * 2)
            expected = answer(203, [("A", "b")], b"always") * 2
            assert await reader.readexactly(len(expected)) == expected
            writer.close()
            assert [request.target for request in origin.requests] == ["/", "/?query", "/?query"]
            assert [request.connection for request in origin.requests] == [1, 2, 2]

    asyncio.run(play())


def test_no_play_left_is_not_found() -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin:
            reader, writer = await dial(origin)
            writer.write(GET % b"/none")
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 404 ")
            writer.close()

    asyncio.run(play())


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (
            b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nhel\r\n2\r\nlo\r\n0\r\nX: y\r\n\r\n",
            b"hello",
        ),
    ],
)
def test_bodies_are_received_whole(raw: bytes, body: bytes) -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin:
            origin.play("/", CLOSE)
            assert await ask(origin, raw) == b""
            assert origin.requests[0].body == body
            assert origin.requests[0].raw == raw[: raw.index(b"\r\n\r\n") + 4]

    asyncio.run(play())


def test_steps_wait_for_events_and_run_functions() -> None:
    async def play() -> None:
        gate = asyncio.Event()

        async def shout(wire: Wire) -> None:
            wire.writer.write(b"!")

        async with ScriptedOrigin() as origin:
            origin.play("/", *byte_by_byte(b"slow"), gate, shout, CLOSE)
            asking = asyncio.create_task(ask(origin, GET % b"/"))
            await origin.wait_for(1)
            assert not asking.done()
            gate.set()
            assert await asking == b"slow!"

    asyncio.run(play())


def test_a_reset_is_a_reset() -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin:
            origin.play("/", RESET)
            with pytest.raises(ConnectionResetError):
                await ask(origin, GET % b"/")

    asyncio.run(play())


def test_a_stall_lasts_until_the_origin_leaves() -> None:
    async def play() -> None:
        async with ScriptedOrigin() as origin:
            origin.play("/", b"part", STALL)
            asking = asyncio.create_task(ask(origin, GET % b"/"))
            await origin.wait_for(1)
        assert await asking == b"part"

    asyncio.run(play())
