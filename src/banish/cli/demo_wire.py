"""The demo's client, and how an exchange is shown: what went over the wire, in a few lines.

Not here: what is asked and what is promised (`demo.py`).
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h11
import http_sf
from rich.text import Text

FieldLines = tuple[tuple[str, str], ...]

SHOWN_OF_RESPONSE = ("age", "content-range", "content-language", "location", "cache-status")
"""Of a response's fields, those that say what the cache did."""


@dataclass(frozen=True)
class Exchange:
    """A request, its response, and how long the whole of it took."""

    method: str
    path: str
    asked_with: FieldLines
    status: int
    reason: str
    fields: Mapping[str, str]
    body: bytes
    took_s: float
    sent: bytes = b""
    """The request's body."""

    @property
    def cache_status(self) -> Mapping[str, object]:
        """What the nearest cache says it did: the parameters of the last Cache-Status member (RFC 9211)."""
        value = self.fields.get("cache-status")
        if value is None:
            return {}
        members: Any = http_sf.parse(value.encode("latin-1"), tltype="list")
        _node, params = members[-1]
        return {name: str(given) if isinstance(given, http_sf.Token) else given for name, given in params.items()}

    @property
    def hit(self) -> bool:
        return self.cache_status.get("hit") is True


async def ask(port: int, path: str, *, method: str = "GET", fields: FieldLines = (), body: bytes = b"") -> Exchange:
    """Send one request on a connection of its own and read the whole response."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    wire = h11.Connection(h11.CLIENT)
    framing: FieldLines = (("Content-Length", str(len(body))),) if body else ()
    lines = [("Host", f"127.0.0.1:{port}"), *fields, *framing, ("Connection", "close")]
    request = h11.Request(method=method, target=path, headers=lines)
    try:
        for event in (request, h11.Data(body), h11.EndOfMessage()):
            writer.write(wire.send(event) or b"")
        head, content = await _read_response(reader, wire)
    finally:
        writer.close()
    return Exchange(
        method,
        path,
        fields,
        head.status_code,
        head.reason.decode("latin-1"),
        {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
        content,
        time.perf_counter() - started,
        body,
    )


async def _read_response(reader: asyncio.StreamReader, wire: h11.Connection) -> tuple[h11.Response, bytes]:
    head: h11.Response | None = None
    content = bytearray()
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            wire.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            content += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None, "a body has a head before it"
            return head, bytes(content)


def draw(exchange: Exchange, remark: str) -> Text:
    """The exchange as lines for a terminal: request, status and time, a remark, and the fields that matter."""
    text = Text("  ")
    text.append(f"{exchange.method} {exchange.path}", "bold")
    for name, value in exchange.asked_with:
        text.append(f"\n      {name}: {value}", "dim")
    if exchange.sent:
        text.append(f"\n      {exchange.sent.decode()}", "bold")
    text.append("\n    → ", "dim")
    text.append(f"{exchange.status} {exchange.reason}", "green" if exchange.status < 400 else "red")
    text.append(f"   {_size(len(exchange.body))} in {exchange.took_s * 1000:.1f} ms", "dim")
    text.append(f"   {remark}", "magenta")
    for name in SHOWN_OF_RESPONSE:
        if name in exchange.fields:
            text.append(f"\n      {name.title()}: ", "dim")
            text.append(exchange.fields[name], "cyan")
    return text


def _size(length_bytes: int) -> str:
    return f"{length_bytes} bytes" if length_bytes < 10_000 else f"{length_bytes / 1e6:.1f} MB"
