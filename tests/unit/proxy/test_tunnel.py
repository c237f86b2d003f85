import asyncio
from typing import cast

import pytest

from banish.errors import OriginTimeout, Truncated
from banish.origin.client import Tunnel
from banish.proxy.tunnel import WINDOW_BYTES, Relay
from tests.byhand import run


class FakeTunnel:
    """The origin's side: what it says is put into `says`; an error there is raised."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.heard: list[bytes] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.broken: Exception | None = None
        self.ended = 0
        self.closed = 0

    async def read(self) -> bytes:
        said = await self.says.get()
        if isinstance(said, Exception):
            raise said
        return said

    async def write(self, data: bytes) -> None:
        await self.takes.wait()
        if self.broken is not None:
            raise self.broken
        self.heard.append(data)

    def write_eof(self) -> None:
        self.ended += 1

    def close(self) -> None:
        self.closed += 1


class Set:
    """A relay between a fake tunnel and a client that writes down what it is told."""

    def __init__(self) -> None:
        self.tunnel = FakeTunnel()
        self.client: list[bytes] = []
        self.log: list[str] = []
        self.drained = asyncio.Event()
        self.drained.set()
        self.relay = Relay(
            cast("Tunnel", self.tunnel), self.client.append, self._drain,
            lambda: self.log.append("pause"), lambda: self.log.append("resume"),
        )  # fmt: skip
        self.running = asyncio.ensure_future(self.relay.run())

    async def _drain(self) -> None:
        await self.drained.wait()

    async def turn(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


def test_bytes_pass_both_ways_in_order() -> None:
    async def scene() -> None:
        at = Set()
        at.relay.feed(b"one")
        at.relay.feed(b"two")
        at.tunnel.says.put_nowait(b"uno")
        at.tunnel.says.put_nowait(b"dos!")
        at.tunnel.says.put_nowait(b"")
        await at.running
        assert at.relay.sent == 7
        assert (at.client, at.tunnel.heard) == ([b"uno", b"dos!"], [b"one", b"two"])
        assert at.tunnel.closed == 1

    run(scene())


def test_a_client_that_closes_its_half_still_hears_the_origin_out() -> None:
    async def scene() -> None:
        at = Set()
        at.relay.feed(b"bye")
        at.relay.feed(b"")
        await at.turn()
        assert (at.tunnel.heard, at.tunnel.ended, at.tunnel.closed) == ([b"bye"], 1, 0)
        at.tunnel.says.put_nowait(b"farewell")
        at.tunnel.says.put_nowait(b"")
        await at.running
        assert at.relay.sent == 8
        assert at.tunnel.closed == 1

    run(scene())


@pytest.mark.parametrize("error", [Truncated("gone"), OriginTimeout("tunnel_idle", "silent")])
@pytest.mark.parametrize("half_closed", [False, True])
def test_an_origin_that_breaks_ends_the_tunnel(error: Exception, half_closed: bool) -> None:
    async def scene() -> None:
        at = Set()
        if half_closed:
            at.relay.feed(b"")
        await at.turn()
        at.tunnel.says.put_nowait(b"1234")
        at.tunnel.says.put_nowait(error)
        await at.running
        assert at.relay.sent == 4
        assert at.tunnel.closed == 1

    run(scene())


def test_an_origin_that_takes_no_more_ends_the_tunnel() -> None:
    async def scene() -> None:
        at = Set()
        at.tunnel.broken = Truncated("closed")
        at.relay.feed(b"x")
        await at.running
        assert at.relay.sent == 0
        assert at.tunnel.closed == 1

    run(scene())


def test_a_client_is_paused_while_the_origin_does_not_read() -> None:
    async def scene() -> None:
        at = Set()
        at.tunnel.takes.clear()
        half = bytes(WINDOW_BYTES // 2)
        at.relay.feed(half)
        at.relay.feed(half)
        await at.turn()
        assert at.log == []
        at.relay.feed(b"x")
        assert at.log == ["pause"]
        await at.turn()
        assert at.log == ["pause"]
        at.tunnel.takes.set()
        await at.turn()
        assert at.log[:2] == ["pause", "resume"]
        assert b"".join(at.tunnel.heard) == half + half + b"x"
        at.tunnel.says.put_nowait(b"")
        await at.running

    run(scene())


def test_the_origin_waits_for_a_client_that_does_not_read() -> None:
    async def scene() -> None:
        at = Set()
        at.drained.clear()
        at.tunnel.says.put_nowait(b"one")
        at.tunnel.says.put_nowait(b"two")
        await at.turn()
        assert at.client == [b"one"]
        at.drained.set()
        at.tunnel.says.put_nowait(b"")
        await at.running
        assert at.relay.sent == 6

    run(scene())


def test_breaking_off_the_relay_closes_the_tunnel_and_leaves_nothing_running() -> None:
    async def scene() -> None:
        at = Set()
        await at.turn()
        at.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await at.running
        assert at.tunnel.closed == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scene())
