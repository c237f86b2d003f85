"""Just enough HTTP for measuring: one keep-alive connection, one exchange at a time, whole answers with a length."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Self


class Connection:
    """A connection to an edge or its admin listener."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def close(self) -> None:
        self._writer.close()

    async def get(self, path: str, *lines: str) -> bytes:
        """The head of the answer."""
        more = "".join(f"{line}\r\n" for line in lines)
        return (await self.exchange(f"GET {path} HTTP/1.1\r\nHost: site.example\r\n{more}\r\n".encode()))[0]

    async def exchange(self, request: bytes) -> tuple[bytes, bytes]:
        """Head and body of the answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                return head, await self._reader.readexactly(int(line.partition(b":")[2]))
        raise AssertionError(f"an answer without a length: {head!r}")


def purge_request(form: Mapping[str, Any], query: str = "") -> bytes:
    """POST /purges, as bytes."""
    body = json.dumps(form).encode()
    head = f"POST /purges{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
