"""The ways between edges, in a process of their own: what carries bytes must not wait for what measures.

python bench/mesh/ways.py '{"delay_s": 0.02, "ways": [[15001, 16001], …]}'      port here, port there
"""

import asyncio
import contextlib
import json
import sys

import uvloop

from banish.testing.link import Link, Way


async def carry(delay_s: float, ways: list[tuple[int, int]]) -> None:
    """Until the process is ended."""
    async with contextlib.AsyncExitStack() as stack:
        for near, far in ways:
            await stack.enter_async_context(Link(("127.0.0.1", far), Way(delay_s=delay_s), port=near))
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    uvloop.run(carry(told["delay_s"], told["ways"]))
