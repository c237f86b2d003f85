"""The origin behind both caches: serves the objects and counts what it was asked.

Run: python origin.py PORT. GET /count answers the number of objects served so far.
"""

import asyncio
import sys
from email.utils import formatdate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.hit import objects

served = 0


def answer(target: str) -> bytes:
    """The whole response to a GET."""
    global served
    if target == "/count":
        content, lines = (
            str(served).encode(),
            [("Content-Length", str(len(str(served)))), ("Cache-Control", "no-store")],
        )
    else:
        served += 1
        content = objects.body_of(target)
        lines = objects.fields(target, content)
    lines.append(("Date", formatdate(usegmt=True)))
    return (
        "HTTP/1.1 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
    ).encode() + content


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request of one connection."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(head.split(b" ", 2)[1].decode()))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def serve(port: int) -> None:
    """Answer until killed."""
    server = await asyncio.start_server(converse, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
