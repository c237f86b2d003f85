import asyncio
import signal
import socket

from starlette.types import Receive, Scope, Send

from banish.admin.server import AdminServer


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": scope["method"][:2].encode()})


def test_it_serves_in_the_loop_leaves_signals_alone_and_stops() -> None:
    async def main() -> bytes:
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        server = AdminServer(app, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"PURGEKEYS / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        await server.stop()
        return answer

    answer = asyncio.run(main())
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"PU")


def test_stopping_what_was_not_started_does_nothing() -> None:
    async def main() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        await AdminServer(app, listening).stop()
        listening.close()

    asyncio.run(main())
