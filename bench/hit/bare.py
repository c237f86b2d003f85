"""The reference: the least that a uvloop + httptools cache can do for a hit. Not a cache.

Per request: parse with all callbacks, look the target up in a dictionary, compare the purge index, check
freshness, write the head with Age and Cache-Status and the body. No routing, no guards, no limits, no
accounts, no timers. It shows what the machine's figures are worth beside published ones, and how much of a
hit is event loop, parser and system calls.

Run: python bare.py PORT [URLS]
"""

import asyncio
import sys
import time
from email.utils import formatdate
from pathlib import Path
from typing import Final, NamedTuple, cast

import httptools
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.hit import objects


class Stored(NamedTuple):
    """A stored response: its head up to the value of Age, its body, and what decides about its use."""

    head: bytes
    body: bytes
    stored_at_s: float
    fresh_until_s: float
    clean_at: int


TABLE: dict[bytes, Stored] = {}
PURGES_APPLIED: Final = 0


class Reference(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.fields: list[tuple[bytes, bytes]] = []
        self.target = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.fields = []

    def on_url(self, target: bytes) -> None:
        self.target = target

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_message_complete(self) -> None:
        stored = TABLE.get(self.target)
        now_s = time.time()
        if stored is None or stored.clean_at != PURGES_APPLIED or now_s >= stored.fresh_until_s:
            self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        age_s, ttl_s = int(now_s - stored.stored_at_s), int(stored.fresh_until_s - now_s)
        self.transport.write(
            b"%bAge: %d\r\nCache-Status: bare; hit; ttl=%d\r\n\r\n%b" % (stored.head, age_s, ttl_s, stored.body)
        )


def fill(urls: int) -> None:
    """Put every object into the table."""
    now_s = time.time()
    for size in objects.SIZES:
        for number in range(urls):
            target = objects.path(size, number)
            body = objects.body(size, number)
            lines = [*objects.fields(target, body), ("Date", formatdate(now_s, usegmt=True))]
            head = "HTTP/1.1 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines)
            TABLE[target.encode()] = Stored(head.encode(), body, now_s, now_s + objects.MAX_AGE_S, PURGES_APPLIED)


async def serve(port: int) -> None:
    """Answer until killed."""
    server = await asyncio.get_running_loop().create_server(Reference, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    fill(int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
    uvloop.run(serve(int(sys.argv[1])))
