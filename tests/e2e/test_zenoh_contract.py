"""The transport over zenoh is a transport: over TCP, and over TLS with certificates and access rules."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.meshed import ZenohBed

from banish.testing.transports import CHECKS, Bed, check_a_forgotten_edge_is_not_heard

Check = Callable[[Bed], Awaitable[None]]


@pytest.mark.parametrize("secured", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_it_is_a_transport(check: Check, secured: bool, tmp_path: Path) -> None:
    if check is check_a_forgotten_edge_is_not_heard and not secured:
        pytest.skip("in the clear anybody on this machine can dial: who is heard is told by signatures alone")

    async def run() -> None:
        await check(ZenohBed(tmp_path if secured else None))

    asyncio.run(run())
