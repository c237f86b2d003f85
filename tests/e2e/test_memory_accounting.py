"""What the memory tier says it holds, against what the kernel says the process has grown by."""

import asyncio
import random
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from tests.processes import WAIT_S, EdgeProcess, edge_process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads memory from /proc"),
]

WARM_UP = 500
"""Responses first, after which code, pools and the allocator's first arenas are there."""
RESPONSES = 8000
PIPELINED = 8
ACCURACY = 0.1


class ManyPages(asyncio.Protocol):
    """An origin with a page of 1 to 4 KiB under each number, and the fields a site usually sends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._held = b""

    def data_received(self, data: bytes) -> None:
        *heads, self._held = (self._held + data).split(b"\r\n\r\n")
        for head in heads:
            number = int(head.split(b" ", 2)[1].rpartition(b"/")[2])
            body = random.Random(number).randbytes(1024 + number * 797 % 3072)
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html; charset=utf-8\r\n"
                b"Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
                b"Vary: Accept-Encoding\r\nX-Frame-Options: SAMEORIGIN\r\nX-Content-Type-Options: nosniff\r\n"
                b"Cache-Control: public, max-age=1000000000\r\nCache-Tag: page-%d, pages\r\n"
                b'ETag: "65920080-%x"\r\nContent-Length: %d\r\n\r\n%b' % (number, number, len(body), body)
            )


@pytest.fixture
def origin_url() -> Iterator[str]:
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(ManyPages, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(WAIT_S)
    loop.close()


class Reader:
    """A client that asks for pages by number, on one connection."""

    def __init__(self, edge: EdgeProcess) -> None:
        self._socket = socket.create_connection(edge.address, timeout=WAIT_S)
        self._file = cast(BinaryIO, self._socket.makefile("rb"))

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def ask(self, numbers: range, *, pipelined: int = 1) -> None:
        """Ask for each page and read it off."""
        for first in range(numbers.start, numbers.stop, pipelined):
            some = range(first, min(first + pipelined, numbers.stop))
            self._socket.sendall(
                b"".join(
                    b"GET /articles/some-page/%d HTTP/1.1\r\nHost: www.site.example\r\n"
                    b"Accept-Encoding: gzip, deflate, br\r\n\r\n" % number
                    for number in some
                )
            )
            for _ in some:
                length = 0
                while (line := self._file.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line[15:])
                assert len(self._file.read(length)) == length > 0


@pytest.fixture
def edge(origin_url: str, tmp_path: Path) -> Iterator[EdgeProcess]:
    flags = ["--set", "log.access=off", "--set", "disk.budget_bytes=0", "--set", "memory.budget_bytes=1GiB"]
    with edge_process(tmp_path, "--origin", origin_url, *flags) as running:
        running.until_log_has_room(tmp_path)
        yield running


@pytest.fixture
def reader(edge: EdgeProcess) -> Iterator[Reader]:
    opened = Reader(edge)
    yield opened
    opened.close()


def accounted(edge: EdgeProcess) -> float:
    return edge.metrics()['banish_store_bytes{tier="memory"}']


def test_stored_responses_weigh_what_they_are_said_to_weigh(edge: EdgeProcess, reader: Reader) -> None:
    warm, measured = range(WARM_UP), range(WARM_UP, WARM_UP + RESPONSES)
    reader.ask(warm, pipelined=PIPELINED)
    for _ in range(2):
        reader.ask(warm)
    said, had = accounted(edge), edge.rss_bytes()

    reader.ask(measured, pipelined=PIPELINED)
    assert edge.metrics()['banish_store_responses{tier="memory"}'] == WARM_UP + RESPONSES
    grown = edge.rss_bytes() - had
    assert accounted(edge) - said == pytest.approx(grown, rel=ACCURACY)

    # Hits put half of them into the hot table as well, ready to be written.
    for _ in range(2):
        reader.ask(measured[: RESPONSES // 2])
    assert edge.metrics()['banish_responses_total{outcome="hot"}'] >= RESPONSES // 2
    grown = edge.rss_bytes() - had
    assert accounted(edge) - said == pytest.approx(grown, rel=ACCURACY)


def test_a_budget_bounds_the_process(origin_url: str, tmp_path: Path) -> None:
    budget = 16 << 20
    flags = ["--set", "log.access=off", "--set", "disk.budget_bytes=0", "--set", f"memory.budget_bytes={budget}"]
    with edge_process(tmp_path, "--origin", origin_url, *flags) as edge:
        edge.until_log_has_room(tmp_path)
        reader = Reader(edge)
        reader.ask(range(WARM_UP), pipelined=PIPELINED)
        had = edge.rss_bytes() - accounted(edge)
        for first in range(0, RESPONSES, 1000):
            for _ in range(2):  # as hits too: the hot table lives within the budget
                reader.ask(range(first, first + 1000), pipelined=PIPELINED)
        assert accounted(edge) <= budget
        assert edge.rss_bytes() - had < budget * 1.4  # the allocator keeps some of what evictions free
        reader.close()
