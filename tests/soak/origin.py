"""An origin that does what the seed says: all that origins do, well or badly.

What it does with the n-th request for a path is drawn from seed, path and n. It tells the truth about which state a
body is of, and lies about the rest only in ways that an edge must withstand: it confirms what it was asked about though
that has changed (as a lagging replica does), confirms what nobody asked about, breaks off and stalls.
"""

import asyncio
import random
import re
import socket
import struct
from collections import Counter
from dataclasses import dataclass

from banish.http.dates import format_http_date
from banish.http.fields import Fields
from banish.http.messages import reason_phrase
from tests.soak.world import PAGES, TERMS, Tag, Terms, World, in_group, read_tag, variant

PIECE_BYTES = 20_000
UPLOAD_PIECE = b"0123456789abcdef"


@dataclass
class Faults:
    """Which of its habits the origin has in a run: the chance of each, per request."""

    reset: float = 0.03
    error: float = 0.08
    slow: float = 0.3
    cut: float = 0.08
    hints: float = 0.05
    lie: float = 0.3
    wrong: float = 0.05
    close: float = 0.05


@dataclass
class Asked:
    """A request as the origin has it. `state` is that of the content when its head had come."""

    method: str
    path: str
    fields: Fields
    state: int
    draw: random.Random


class SoakOrigin:
    """A server on loopback."""

    def __init__(self, world: World, faults: Faults) -> None:
        self._world = world
        self._faults = faults
        self._counts: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> "SoakOrigin":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except asyncio.CancelledError:
            pass  # the run is over
        except (OSError, asyncio.IncompleteReadError, RuntimeError) as end:  # uvloop's, where a transport has gone
            self._world.note(None, "origin", f"a connection ends: {end!r}")
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer. False: the connection has ended."""
        raw = await reader.readuntil(b"\r\n\r\n")
        line, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, path, _ = line.split(" ")
        fields = Fields.of([(name, value.strip()) for name, _, value in (text.partition(":") for text in lines)])
        self._counts[path] += 1
        asked = Asked(method, path, fields, self._world.state[path], self._world.draw(path, self._counts[path]))
        shown = [f"{name}={value}" for name, value in fields if name.lower() in _SHOWN]
        self._world.note(path, "origin", f"{method} in state {asked.state} {' '.join(shown)}")
        if self._chance(asked, self._faults.reset):
            return await self._reset(asked, writer)
        await self._upload(asked, reader)
        if self._chance(asked, self._faults.slow):
            await asyncio.sleep(asked.draw.random() * 0.01)
        if self._chance(asked, self._faults.hints):
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
        if self._chance(asked, self._faults.error):
            status = asked.draw.choice([500, 503])
            self._world.note(path, "origin", f"answers {status}")
            writer.write(f"HTTP/1.1 {status} Trouble\r\nX-Serial: {self._serial(asked, TERMS[0])}\r\n".encode())
            writer.write(b"Content-Length: 7\r\n\r\n" + (b"trouble" if method != "HEAD" else b""))
            return True
        if method in ("GET", "HEAD"):
            return await self._content(asked, writer)
        return await self._change(asked, writer)

    def _chance(self, asked: Asked, share: float) -> bool:
        return asked.draw.random() < share

    async def _reset(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        self._world.note(asked.path, "origin", "resets")
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        return False

    async def _upload(self, asked: Asked, reader: asyncio.StreamReader) -> None:
        """Read a request's body; it must be what its client says it sent."""
        body = b""
        if "transfer-encoding" in asked.fields:
            while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
                body += (await reader.readexactly(size + 2))[:-2]
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
        elif length := asked.fields.get("content-length"):
            body = await reader.readexactly(int(length))
        said = int(asked.fields.get("x-upload") or "0")
        if body != upload(said):
            self._world.problem(asked.path, f"an upload of {said} bytes came as {len(body)}: {body[:40]!r}")

    def _serial(self, asked: Asked, terms: Terms) -> int:
        alone = not terms.stored or "no-store" in (asked.fields.get("cache-control") or "")
        alone = alone or ("authorization" in asked.fields and not terms.shared)
        return self._world.serve(asked.path, terms, alone=alone)

    # --- content

    async def _content(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        tag = Tag(asked.path, variant(asked.path, asked.state, asked.fields), asked.state)
        terms = asked.draw.choice(TERMS)
        confirmed = self._confirms(asked, tag)
        if confirmed is not None:
            serial = self._serial(asked, terms)
            self._world.note(asked.path, "origin", f"304 of {confirmed} as #{serial}, {terms.text}")
            lines = self._lines(confirmed or tag, serial, terms, bare=self._chance(asked, 0.2))
            writer.write(_head(304, lines))
            return True
        if "if-match" in asked.fields and asked.fields.get("if-match") != tag.etag:
            writer.write(_head(412, ["Content-Length: 0"]))
            return True
        return await self._whole_or_part(asked, tag, terms, writer)

    def _confirms(self, asked: Asked, tag: Tag) -> Tag | None:
        """The tag that a 304 is to name; None if it is not to be a 304."""
        told = [
            found for text in (asked.fields.get("if-none-match") or "").split(",") if (found := read_tag(text.strip()))
        ]
        own = "x-own" in asked.fields  # the client's condition: a lie would go to the client
        if not own and self._chance(asked, self._faults.wrong):
            return Tag(asked.path, "none", 999_999)
        if tag in told:
            return tag
        kin = [other for other in told if other.variant == variant(asked.path, other.state, asked.fields)]
        return kin[0] if kin and len(told) == 1 and not own and self._chance(asked, self._faults.lie) else None

    def _lines(self, tag: Tag, serial: int, terms: Terms, *, bare: bool = False) -> list[str]:
        page = PAGES[tag.path]
        lines = [f"X-Serial: {serial}", f"X-Tag: {tag}", f"Cache-Control: {terms.text}"]
        lines += [] if bare and tag.state != 999_999 else [f"ETag: {tag.etag}"]
        lines += [f"Date: {format_http_date(self._world.clock.now())}"]
        lines += [f"Vary: {', '.join(tag.vary)}"] if tag.vary else []
        lines += ["Cache-Groups: " + ", ".join(f'"{group}"' for group in page.groups)] if page.groups else []
        return lines

    async def _whole_or_part(self, asked: Asked, tag: Tag, terms: Terms, writer: asyncio.StreamWriter) -> bool:
        serial = self._serial(asked, terms)
        lines, body, status = self._lines(tag, serial, terms), tag.body, tag.status
        if terms.lifetime > 5 and self._chance(asked, 0.1):
            self._world.served[serial].age = 3
            lines.append("Age: 3")
        span = _span(asked.fields, tag)
        if span is not None and asked.method == "GET" and self._chance(asked, 0.7):
            lines.append(f"Content-Range: bytes {span[0]}-{span[1] - 1}/{len(body)}")
            body, status = body[span[0] : span[1]], 206
        self._world.note(asked.path, "origin", f"{status} of {tag} as #{serial}, {terms.text}, {len(body)} bytes")
        if asked.method == "HEAD":
            writer.write(_head(status, lines + ([f"Content-Length: {len(body)}"] if self._chance(asked, 0.5) else [])))
            return True
        cut = bool(body) and self._chance(asked, self._faults.cut)
        self._world.served[serial].cut = cut
        return await self._send(asked, status, lines, body, asked.draw.randrange(len(body)) if cut else None, writer)

    async def _send(
        self, asked: Asked, status: int, lines: list[str], body: bytes, cut_at: int | None, writer: asyncio.StreamWriter
    ) -> bool:
        """The response, in pieces; by a reset after `cut_at` bytes, if that is given."""
        framing = asked.draw.choice(["length", "length", "chunked", "close"])
        chunked, closing = framing == "chunked", framing == "close" or self._chance(asked, self._faults.close)
        lines = lines + ([f"Content-Length: {len(body)}"] if framing == "length" else [])
        lines += ["Transfer-Encoding: chunked"] if chunked else []
        lines += ["Connection: close"] if closing else []
        writer.write(_head(status, lines))
        end = len(body) if cut_at is None else cut_at
        for at in range(0, end, PIECE_BYTES):
            piece = body[at : min(at + PIECE_BYTES, end)]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
            if self._chance(asked, self._faults.slow):
                await asyncio.sleep(asked.draw.random() * 0.004)
        if cut_at is not None:
            await asyncio.sleep(asked.draw.choice([0, 0.002]))
            return await self._reset(asked, writer)
        if chunked:
            writer.write(b"0\r\nX-Trailer: yes\r\n\r\n" if self._chance(asked, 0.2) else b"0\r\n\r\n")
        await writer.drain()
        if closing:
            writer.close()
            await writer.wait_closed()
        return not closing

    # --- change

    async def _change(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        """An unsafe request: content changes, and the response says whose."""
        world, draw = self._world, asked.draw
        other = draw.choice(list(PAGES))
        kind = draw.choice(["plain", "plain", "location", "content-location", "group", "stored"])
        paths, lines, status = [asked.path], [], 204
        if kind == "location":
            paths, lines, status = [*paths, other], [f"Location: http://site.example{other}"], draw.choice([201, 303])
        elif kind == "content-location":
            paths, lines = [*paths, other], [f"Content-Location: {other}"]
        elif kind == "group":
            group = draw.choice(["one", "two"])
            paths, lines = [*paths, *in_group(group)], [f'Cache-Group-Invalidation: "{group}"']
        moved = world.move(dict.fromkeys(paths))
        lines.append(f"X-Least: {moved}")
        world.note(asked.path, "origin", f"changed: {moved}")
        if kind != "stored" or asked.method != "POST":
            terms = TERMS[0]
            lines.append(f"X-Serial: {self._serial(asked, terms)}")
            writer.write(_head(status, lines + ([] if status == 204 else ["Content-Length: 0"])))
            return True
        state = world.state[asked.path]
        tag = Tag(asked.path, variant(asked.path, state, asked.fields), state)
        if tag.status != 200:
            writer.write(_head(204, lines))
            return True
        terms = TERMS[2]
        lines += [*self._lines(tag, self._serial(asked, terms), terms), f"Content-Location: {asked.path}"]
        return await self._send(asked, 200, lines, tag.body, None, writer)


_SHOWN = frozenset({"if-none-match", "range", "cache-control", "authorization", "accept-language", "x-kind", "x-own"})


def upload(size: int) -> bytes:
    """What a client sends that says it sends so many bytes."""
    return (UPLOAD_PIECE * (size // len(UPLOAD_PIECE) + 1))[:size]


def _head(status: int, lines: list[str]) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} {reason_phrase(status)}", *lines, "", ""]).encode("latin-1")


def _span(fields: Fields, tag: Tag) -> tuple[int, int] | None:
    """The half-open range asked for, if there is one and it is to be given."""
    found = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", fields.get("range") or "")
    size = len(tag.body)
    if found is None or tag.status != 200 or int(found[1]) >= size:
        return None
    if (condition := fields.get("if-range")) is not None and (condition != tag.etag or PAGES[tag.path].weak):
        return None
    return int(found[1]), min(int(found[2] or size - 1) + 1, size)
