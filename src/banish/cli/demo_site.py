"""The demo's origin: the web site of a small harbour town's paper, served over real sockets.

Each page stands for one way in which sites are cached; the routes at the end say which. The site keeps a
log of what it was asked, so that the demo can count.

Not here: the edge and the walk through (`demo.py`).
"""

import asyncio
import contextlib
import hashlib
import json
import math
import socket
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cache
from types import TracebackType

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RADAR_TAKES_S = 0.4
TIDES_TAKE_S = 0.3
ARCHIVE_DAYS = 4 * 365
ENTRY_CHARACTERS_MAX = 200
ENTRIES_MAX = 100

GREETINGS = {
    "en": "Welcome to Saltmarsh. The ferry leaves at noon.",
    "de": "Willkommen in Saltmarsh. Die Fähre legt um zwölf ab.",
    "fr": "Bienvenue à Saltmarsh. Le bac part à midi.",
}

PAGE = """<!doctype html>
<html lang="{language}">
<head><meta charset="utf-8"><title>{title} · The Saltmarsh Tide</title>
<link rel="stylesheet" href="/style.css"></head>
<body><header><img src="/logo.svg" alt="" width="48" height="48"><h1>The Saltmarsh Tide</h1></header>
<main><h2>{title}</h2>
{body}
</main></body>
</html>
"""

FRONT = """<img src="/lighthouse.png" alt="The lighthouse at dusk" width="320" height="180">
<p>The lighthouse keeper retires after forty years. <a href="/news">More news</a>,
<a href="/welcome">the ferry</a>, <a href="/radar">rain radar</a>, <a href="/guestbook">guest book</a>,
<a href="/archive/tides.csv">four years of tides</a>.</p>"""

STYLE = """body { font: 18px/1.5 Georgia, serif; max-width: 40rem; margin: 2rem auto; color: #123; }
header { display: flex; gap: 1rem; align-items: center; border-bottom: 2px solid #38a; }
"""

LOGO = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48">
<circle cx="24" cy="24" r="22" fill="#38a"/>
<path d="M4 28q5-6 10 0t10 0 10 0 10 0v8q-20 14-40 0z" fill="#fff"/></svg>
"""


@dataclass
class Fetch:
    """One request as the origin saw it. `status` is 0 until `answered`: when the head of the answer goes."""

    method: str
    path: str
    status: int = 0
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class Origin:
    """The site, listening on a loopback port for the length of an `async with`; it can leave and return."""

    def __init__(self) -> None:
        self.fetches: list[Fetch] = []
        self.port = 0
        self._arrived = asyncio.Condition()
        self._app = _Recorder(_site(), self.fetches, self._arrived)
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen; on the same port as before if it was ever started."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            date_header=False,
            access_log=False,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        await self._server.up.wait()

    async def stop(self) -> None:
        """Stop listening and close every connection. Safe when stopped already."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
        self._server = self._serving = None

    async def fetch(self, number: int) -> Fetch:
        """The fetch of that number, counted from 0; waits for it to come."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.fetches) > number)
        return self.fetches[number]

    async def __aenter__(self) -> "Origin":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class _Server(uvicorn.Server):
    """uvicorn, leaving the process's signals alone, and saying when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Recorder:
    """Writes each request into the log, and the time on each response."""

    def __init__(self, app: ASGIApp, fetches: list[Fetch], arrived: asyncio.Condition) -> None:
        self._app = app
        self._fetches = fetches
        self._arrived = arrived

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fetch = Fetch(scope["method"], scope["path"])
        async with self._arrived:
            self._fetches.append(fetch)
            self._arrived.notify_all()

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(time.time(), usegmt=True).encode()
                message["headers"] = [(b"date", date), *message["headers"]]
                fetch.status = message["status"]
                fetch.answered.set()
            await send(message)

        await self._app(scope, receive, send_recorded)


def _answer(
    request: Request,
    body: str | bytes,
    media_type: str,
    *,
    cache_control: str,
    tags: str = "",
    more: Mapping[str, str] | None = None,
) -> Response:
    """A 200 with an ETag, or the 304 it deserves."""
    content = body.encode() if isinstance(body, str) else body
    fields = {"Cache-Control": cache_control, "ETag": f'"{hashlib.sha256(content).hexdigest()[:12]}"'}
    if tags:
        fields["Cache-Tag"] = tags
    fields |= more or {}
    if fields["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=fields)
    return Response(content, media_type=media_type, headers=fields)


async def _front(request: Request) -> Response:
    page = PAGE.format(language="en", title="Today", body=FRONT)
    return _answer(request, page, "text/html", cache_control="max-age=60", tags="page,front")


async def _news(request: Request) -> Response:
    page = PAGE.format(language="en", title="News", body="<p>Herring are early this year.</p>")
    return _answer(request, page, "text/html", cache_control="max-age=1", tags="page,news")


async def _radar(request: Request) -> Response:
    request.app.state.pictures += 1
    body = f"<p>Dry until the evening.</p><p>Picture {request.app.state.pictures}</p>"
    await asyncio.sleep(RADAR_TAKES_S)
    page = PAGE.format(language="en", title="Rain radar", body=body)
    return _answer(request, page, "text/html", cache_control="max-age=60", tags="page,weather")


async def _tides(request: Request) -> Response:
    await asyncio.sleep(TIDES_TAKE_S)
    request.app.state.readings += 1
    reading = {"station": "Saltmarsh pier", "reading": request.app.state.readings, "height_m": 2.4}
    policy = "max-age=1, stale-while-revalidate=60"
    return _answer(request, json.dumps(reading), "application/json", cache_control=policy, tags="tides")


async def _welcome(request: Request) -> Response:
    asked = request.headers.get("accept-language", "en")[:2]
    language = asked if asked in GREETINGS else "en"
    page = PAGE.format(language=language, title="Ferry", body=f"<p>{GREETINGS[language]}</p>")
    fields = {"Vary": "Accept-Language", "Content-Language": language}
    return _answer(request, page, "text/html", cache_control="max-age=60", tags="page,ferry", more=fields)


async def _guestbook(request: Request) -> Response:
    entries: list[str] = request.app.state.entries
    if request.method == "POST":
        try:
            entry = await request.body()
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        entries.append(entry.decode("utf-8", "replace")[:ENTRY_CHARACTERS_MAX])
        del entries[:-ENTRIES_MAX]
        return Response(status_code=303, headers={"Location": "/guestbook"})
    return _answer(request, "\n".join(entries) + "\n", "text/plain", cache_control="max-age=60", tags="guests")


async def _style(request: Request) -> Response:
    policy = "max-age=31536000, immutable"
    return _answer(request, STYLE, "text/css", cache_control=policy, tags="asset")


async def _logo(request: Request) -> Response:
    return _answer(request, LOGO, "image/svg+xml", cache_control="max-age=86400", tags="asset")


async def _lighthouse(request: Request) -> Response:
    return _answer(request, lighthouse_png(), "image/png", cache_control="max-age=86400", tags="asset")


async def _archive(request: Request) -> Response:
    return _answer(request, tides_csv(), "text/csv", cache_control="max-age=3600", tags="archive")


@cache
def tides_csv() -> bytes:
    """Four years of water levels, one line for each quarter of an hour: about 4 MB."""
    lines = ["day,minute,height_m"]
    for quarter in range(ARCHIVE_DAYS * 96):
        height_m = 2.5 + 2 * math.sin(quarter * 2 * math.pi / 49.7)
        lines.append(f"day {quarter // 96:04},minute {quarter % 96 * 15:04},{height_m:.3f} m")
    return "\n".join(lines).encode()


@cache
def lighthouse_png(width: int = 320, height: int = 180) -> bytes:
    """A white tower before an evening sky: an image made of nothing but code."""
    rows = bytearray()
    for y in range(height):
        dusk = y / height
        sky = bytes((int(40 + 200 * dusk), int(60 + 80 * dusk), int(120 - 40 * dusk)))
        row = bytearray((sky if y < height * 0.8 else b"\x12\x2c\x44") * width)
        if y > height * 0.2:
            half = 6 + (y - int(height * 0.2)) // 16
            middle = width * 2 // 3
            tower = b"\xff\xe9\x9a" if y < height * 0.28 else b"\xf4\xf2\xec"
            row[(middle - half) * 3 : (middle + half) * 3] = tower * (2 * half)
        rows += b"\0" + row
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _site() -> Starlette:
    site = Starlette(
        routes=[
            Route("/", _front),  # fresh for a minute
            Route("/news", _news),  # fresh for a second, then worth a conditional request
            Route("/radar", _radar),  # slow to make: worth collapsing; as of the moment when it was asked for
            Route("/api/tides", _tides),  # slow, and stale is good enough while a new one is made
            Route("/welcome", _welcome),  # one variant for each language
            Route("/guestbook", _guestbook, methods=["GET", "POST"]),  # changed by an unsafe method
            Route("/style.css", _style),  # immutable
            Route("/logo.svg", _logo),
            Route("/lighthouse.png", _lighthouse),
            Route("/archive/tides.csv", _archive),  # large: worth a range request
        ]
    )
    site.state.readings = site.state.pictures = 0
    site.state.entries = ["Ada: lovely harbour"]
    return site
