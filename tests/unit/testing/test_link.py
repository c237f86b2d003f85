"""The long way: late, in order, whole; parted, healed and broken off when told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from unittest import mock

import pytest

from banish.testing.link import RESEND_S, Link, Way

Scene = Callable[[Link, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[tuple[str, int]]:
    """A server that sends back what it gets."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()


def play(scene: Scene, way: Way | None = None) -> None:
    async def body() -> None:
        async with asyncio.timeout(10), echo() as target, Link(target, way, seed=3) as link:
            reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
            await scene(link, reader, writer)
            writer.transport.abort()

    asyncio.run(body())


def test_what_is_sent_arrives_late_by_the_delay_each_way() -> None:
    async def scene(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = asyncio.get_running_loop().time()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert asyncio.get_running_loop().time() - began >= 0.06  # the way of the connection itself is a third one

    play(scene, Way(delay_s=0.03))


@pytest.mark.parametrize("way", [Way(), Way(jitter_s=0.01), Way(loss=0.2, jitter_s=0.002)])
def test_bytes_arrive_in_order_and_whole_to_the_end(way: Way) -> None:
    async def scene(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = bytes(range(256)) * 2000
        for at in range(0, len(sent), 50_000):
            writer.write(sent[at : at + 50_000])
            await writer.drain()
        writer.write_eof()
        assert await reader.read(-1) == sent

    play(scene, way)


def test_a_loss_is_late_by_a_resend() -> None:
    async def scene(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        draws = iter([0.0, 0.0, 0.9])  # of jitter; the piece is lost, the next is not
        with mock.patch.object(link, "_draw", random=lambda: next(draws, 0.9)):
            began = asyncio.get_running_loop().time()
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        assert asyncio.get_running_loop().time() - began >= RESEND_S

    play(scene, Way(loss=0.5))


def test_parted_in_one_direction_nothing_arrives_there_and_what_waited_does_after_healing() -> None:
    async def scene(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        link.part("there")
        writer.write(b"b")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.readexactly(1)
        link.heal()
        assert await reader.readexactly(1) == b"b"

    play(scene)


def test_parted_a_new_connection_is_not_refused_and_goes_through_after_healing() -> None:
    async def scene(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link.part()
        late_reader, late_writer = await asyncio.open_connection("127.0.0.1", link.port)
        late_writer.write(b"c")
        link.heal()
        assert await late_reader.readexactly(1) == b"c"
        late_writer.close()

    play(scene)


def test_broken_off_every_connection_ends() -> None:
    async def scene(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        link.break_off()
        with contextlib.suppress(ConnectionError):
            assert await reader.read(1) == b""

    play(scene)
