import asyncio
import signal
import socket

from starlette.types import Receive, Scope, Send

from banish.admin.server import AdminServer


async def answer(send: Send, body: bytes) -> None:
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, scope["method"][:2].encode())


async def ask(server: AdminServer, head: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(head)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_it_serves_in_the_loop_leaves_signals_alone_and_stops() -> None:
    async def main() -> bytes:
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        server = AdminServer(app, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        answer = await ask(server, b"PURGEKEYS / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
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


def test_long_answers_under_way_are_brought_to_their_end_when_it_stops() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await ended.wait()
        await answer(send, b"over")

    async def main() -> bytes:
        server = AdminServer(waits, socket.create_server(("127.0.0.1", 0)), ending=ended.set)
        await server.start()
        asked = asyncio.create_task(ask(server, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
        await begun.wait()
        await server.stop()
        return await asked

    assert asyncio.run(main()).endswith(b"over")


def test_a_proxy_on_this_machine_says_for_whom_it_asks() -> None:
    async def tells_client(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, str(scope["client"][0]).encode())

    async def main() -> bytes:
        server = AdminServer(tells_client, socket.create_server(("127.0.0.1", 0)))
        await server.start()
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\nConnection: close\r\n\r\n"
        answered = await ask(server, head)
        await server.stop()
        return answered

    assert asyncio.run(main()).endswith(b"192.0.2.7")
