"""The three that race: an origin whose content changes, clients that know how old an answer may be, and a purger.

What they share is two arrays over all URLs: the version that the origin has, and the *floor*: the oldest version that a
request begun now may be answered with. The purger first changes the content, then purges, and raises the floor once the
purge is acknowledged. A client notes the floor before it sends.

    purger   version + 1 ──▶ purge ──▶ acknowledged ──▶ floor = version
    origin             request ──▶ reads the version ──▶ is slow ──▶ answers with it
    client                              notes the floor ──▶ request ──▶ answer ──▶ version < floor: stale

The origin is as slow as it is unhelpful: it answers with what it had when the request came, half of the time with a
pause within the body.

Each is a process of its own; `time.monotonic` is one clock for all of them. Linux only.
"""

import asyncio
import contextlib
import ctypes
import os
import random
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import sharedctypes
from typing import Any, Final, NamedTuple

from bench.purge.systems import System, Target

HOSTS: Final = 4
SECTIONS: Final = 8
TAGS: Final = 24
LARGE_EVERY: Final = 16
"""Every so many URLs one has a body that banish keeps in a file."""
LARGE_BYTES: Final = 40_000
SMALL_BYTES: Final = 300
VARY_EVERY: Final = 8
BRIEF_EVERY: Final = 4
"""Every so many URLs one is fresh for a second, and may be served stale while it is revalidated."""

LANGUAGES: Final = ("en", "de")
RETRY_S: Final = 0.02
ANSWER_S_MAX: Final = 10.0


class World(NamedTuple):
    """What the racers share."""

    urls: int
    vary: bool
    versions: Any
    """What the origin has, by URL."""

    floors: Any
    """The oldest version that may be seen, by URL."""

    acknowledged_at: Any
    """When the floor was last raised, by URL."""

    running: Any
    """1 until the race is over."""


def make_world(urls: int, *, vary: bool) -> World:
    """All content at its first version."""
    return World(
        urls,
        vary,
        sharedctypes.RawArray(ctypes.c_uint64, [1] * urls),
        sharedctypes.RawArray(ctypes.c_uint64, [1] * urls),
        sharedctypes.RawArray(ctypes.c_double, urls),
        sharedctypes.RawValue(ctypes.c_int, 1),
    )


def host(url: int) -> str:
    """The host of a URL."""
    return f"h{url % HOSTS}.race.example"


def path(url: int) -> str:
    """The path of a URL."""
    return f"/s{url // HOSTS % SECTIONS}/{url}"


def varies(world: World, url: int) -> bool:
    """Whether there is a variant for each language."""
    return world.vary and url % VARY_EVERY == 1


# The origin


async def serve_origin(world: World, port: int, slowness: float) -> None:
    """Answer until the race is over. `slowness` 1: 2 to 20 ms mostly, 300 ms at times."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(EOFError, OSError, RuntimeError):  # RuntimeError: uvloop's, of a closed transport
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                pieces = _answer(world, head)
                for piece in pieces:
                    await asyncio.sleep(slowness * _delay_s())
                    writer.write(piece)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", port, backlog=1024)
    while world.running.value:  # noqa: ASYNC110 (other processes set it)
        await asyncio.sleep(0.05)
    server.close()
    os._exit(0)  # with whoever still waits


def _delay_s() -> float:
    drawn = random.random()
    if drawn < 0.7:
        return random.uniform(0.001, 0.01)
    return random.uniform(0.01, 0.05) if drawn < 0.95 else random.uniform(0.05, 0.15)


def _answer(world: World, head: str) -> list[bytes]:
    """The response to a request, in one or two pieces, with the version that there is now."""
    url = int(head.split(" ", 2)[1].rpartition("/")[2])
    version = world.versions[url]
    language = "-"
    if varies(world, url):
        language = "de" if "\r\naccept-language: de" in head.lower() else "en"
    tag = f'"{version}-{language}"'
    freshness = "max-age=1, stale-while-revalidate=3" if url % BRIEF_EVERY == 2 else "max-age=600"
    fields = f"ETag: {tag}\r\nCache-Control: {freshness}\r\nxkey: t{url % TAGS} all\r\n"
    if varies(world, url):
        fields += "Vary: Accept-Language\r\n"
    if f"\r\nif-none-match: {tag}\r\n" in head.lower():
        return [f"HTTP/1.1 304 Not Modified\r\n{fields}\r\n".encode()]
    size = LARGE_BYTES if url % LARGE_EVERY == 0 else SMALL_BYTES
    body = f"{url} {version} {language} ".encode().ljust(size, b".")
    whole = f"HTTP/1.1 200 OK\r\n{fields}Content-Length: {size}\r\n\r\n".encode() + body
    cut = random.randrange(1, len(whole)) if random.random() < 0.5 else len(whole)
    return [piece for piece in (whole[:cut], whole[cut:]) if piece]


# Clients


class Sighting(NamedTuple):
    """An answer that should not have been."""

    url: int
    seen: int
    floor: int
    begun_after_s: float
    """How long after the last acknowledgement the request was begun."""

    head: str


class Tally:
    """What a client process has seen."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.stale: list[Sighting] = []
        self.worst_s = 0.0
        self.worst_versions = 0


class _Connection:
    """One keep-alive connection with one request in flight."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.url = self.floor = 0
        self.begun = 0.0
        self.language = "-"
        self.held = b""
        self.expected = 0
        self.seen_tag = ""


def run_clients(world: World, port: int, hit: str, connections: int, seed: int, patient: bool) -> Tally:
    """Ask at full speed until the race is over. `patient`: connections may be refused, the system is being killed."""
    draw, tally, ready = random.Random(seed), Tally(), select.epoll()
    opened: dict[int, _Connection] = {}
    waiting: list[_Connection] = [_Connection() for _ in range(connections)]
    marker = hit.encode()

    def lost(connection: _Connection, why: str) -> None:
        assert connection.socket is not None
        tally.counts[f"connection lost ({why})"] += 1
        del opened[connection.socket.fileno()]
        connection.socket.close()
        connection.socket = None
        waiting.append(connection)

    while world.running.value:
        for connection in waiting[:]:
            try:
                connection.socket = socket.create_connection(("127.0.0.1", port), timeout=1)
            except OSError:
                tally.counts["connection refused"] += 1
                time.sleep(RETRY_S)
                break
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            waiting.remove(connection)
            opened[connection.socket.fileno()] = connection
            ready.register(connection.socket, select.EPOLLIN)
            try:
                _ask(world, connection, draw)
            except OSError as error:
                lost(connection, str(error))
        for descriptor, _ in ready.poll(0.1):
            connection = opened[descriptor]
            try:
                received = connection.socket.recv(65536)  # type: ignore[union-attr]
                if not received:
                    lost(connection, "closed within an answer" if connection.held else "closed")
                    continue
                connection.held += received
                if _whole(connection):
                    _judge(world, connection, marker, tally)
                    _ask(world, connection, draw)
            except OSError as error:
                lost(connection, str(error))
    if not patient:
        tally.counts["unexpected losses"] = sum(
            [n for what, n in tally.counts.items() if what.startswith("connection lost")]
        )
    return tally


def _ask(world: World, connection: _Connection, draw: random.Random) -> None:
    url = draw.randrange(world.urls)
    connection.language = draw.choice(LANGUAGES) if varies(world, url) else "-"
    fields = f"Accept-Language: {connection.language}\r\n" if connection.language != "-" else ""
    chance = draw.random()
    if chance < 0.05:
        fields += "Range: bytes=0-29\r\n"
    elif chance < 0.15 and connection.seen_tag:
        fields += f"If-None-Match: {connection.seen_tag}\r\n"
    request = f"GET {path(url)} HTTP/1.1\r\nHost: {host(url)}\r\n{fields}\r\n".encode()
    connection.url, connection.held, connection.expected = url, b"", 0
    connection.begun = time.monotonic()
    connection.floor = world.floors[url]
    assert connection.socket is not None
    connection.socket.sendall(request)


_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TAG: Final = re.compile(rb"\r\netag: *(?:W/)?(\"(\d+)-(..?)\")", re.IGNORECASE)


def _whole(connection: _Connection) -> bool:
    """Whether the answer has come whole."""
    if not connection.expected:
        end = connection.held.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = connection.held[: end + 2]
        bodiless = head.startswith((b"HTTP/1.1 304", b"HTTP/1.1 204"))
        length = _LENGTH.search(head)
        if length is None and not bodiless:
            raise OSError("an answer without a length")  # errors that close
        connection.expected = end + 4 + (0 if bodiless or length is None else int(length[1]))
    return len(connection.held) >= connection.expected


def _judge(world: World, connection: _Connection, marker: bytes, tally: Tally) -> None:
    head, _, body = connection.held.partition(b"\r\n\r\n")
    status = int(head[9:12])
    tally.counts["requests"] += 1
    tally.counts[f"status {status}"] += 1
    if status not in (200, 206, 304):
        return
    tally.counts["hits"] += marker in head
    tagged = _TAG.search(head)
    if tagged is None:
        tally.counts["without ETag"] += 1
        return
    seen, language = int(tagged[2]), tagged[3].decode()
    connection.seen_tag = tagged[1].decode()
    if status != 304:
        url, version, spoken = body[:30].split(b" ")[:3]
        if int(url) != connection.url or int(version) != seen or spoken.decode() != language:
            tally.counts["torn"] += 1
        seen = min(seen, int(version))
    if language != connection.language:
        tally.counts["wrong variant"] += 1
    if seen < connection.floor:
        late_s = connection.begun - world.acknowledged_at[connection.url]
        tally.counts["stale after acknowledgement"] += 1
        tally.worst_s = max(tally.worst_s, late_s)
        tally.worst_versions = max(tally.worst_versions, connection.floor - seen)
        if len(tally.stale) < 20:
            tally.stale.append(Sighting(connection.url, seen, connection.floor, late_s, head.decode("latin-1")))
    elif seen < world.versions[connection.url]:
        tally.counts["old, but before the acknowledgement"] += 1


# The purger


WEIGHTS: Final = {"url": 60, "tag": 25, "prefix": 8, "host": 4, "pattern": 2, "everything": 1}
"""How often each kind of target is drawn, if the system knows it."""


def draw_target(world: World, kinds: frozenset[str], draw: random.Random) -> tuple[Target, list[int]]:
    """What to purge, and the URLs that it names."""
    known = [kind for kind in WEIGHTS if kind in kinds]
    (kind,) = draw.choices(known, [WEIGHTS[kind] for kind in known])
    url, everyone = draw.randrange(world.urls), range(world.urls)
    section = path(url).split("/")[1]
    names: dict[str, tuple[str, Callable[[int], bool]]] = {
        "url": (host(url) + path(url), lambda other: other == url),
        "tag": (f"t{url % TAGS}", lambda other: other % TAGS == url % TAGS),
        "prefix": (
            f"{host(url)}/{section}/",
            lambda other: host(other) == host(url) and path(other).startswith(f"/{section}/"),
        ),
        "host": (host(url), lambda other: host(other) == host(url)),
        "pattern": (f"*/{section}/*", lambda other: path(other).startswith(f"/{section}/")),
        "everything": ("", lambda other: True),
    }
    value, named = names[kind]
    return Target(kind, value), [other for other in everyone if named(other)]


async def run_purger(
    world: World, system: System, loops: int, pause_s: float, seed: int, patient: bool
) -> Counter[str]:
    """Change content and purge until the race is over."""
    counts: Counter[str] = Counter()

    async def purge_on_and_on(number: int) -> None:
        draw = random.Random(seed * 100 + number)
        connection = _Purging(system)
        while world.running.value:
            target, urls = draw_target(world, system.kinds, draw)
            changed: dict[int, int] = {}
            for url in urls:
                world.versions[url] += 1
                changed[url] = world.versions[url]
            request = system.request([target], key=f"{seed}-{number}-{sum(counts.values())}" if patient else "")
            while not await connection.acknowledged(request, counts):
                if not patient:
                    counts["refused"] += 1
                if not world.running.value:
                    return
                await asyncio.sleep(RETRY_S)
            now = time.monotonic()
            for url, version in changed.items():
                if version > world.floors[url]:
                    world.acknowledged_at[url] = now
                    world.floors[url] = version
            counts[f"purged {target.kind}"] += 1
            counts["URLs changed"] += len(urls)
            await asyncio.sleep(draw.uniform(0, 2 * pause_s))

    await asyncio.gather(*[purge_on_and_on(number) for number in range(loops)])
    return counts


class _Purging:
    """One keep-alive connection to whoever takes purges."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def acknowledged(self, request: bytes, counts: Counter[str]) -> bool:
        """Send it; whether it was acknowledged."""
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._system.purge_port)
                reader, writer = self._streams
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                if length is not None:
                    await reader.readexactly(int(length[1]))
        except (OSError, EOFError, TimeoutError):
            counts["purge broken off"] += 1
            if self._streams is not None:
                self._streams[1].close()
            self._streams = None
            return False
        status = int(head[9:12])
        if b"\r\nconnection: close" in head.lower():
            writer.close()
            self._streams = None
        accepted = (200, 202) if self._system.name != "nginx" else (200, 404, 412)  # not found: nothing to delete
        if status not in accepted:
            counts[f"purge answered {status}"] += 1
        return status in accepted


def kills(world: World, every_s: float, draw: random.Random) -> Iterator[float]:
    """How long to wait until each next kill, until the race is over."""
    while world.running.value:
        yield draw.uniform(0.5, 1.5) * every_s
