"""Origins over TLS: who is trusted, what is asked for, and which ends are clean."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from banish.errors import ConfigError, ConnectFailed, OriginTimeout, Truncated
from banish.origin.connect import OriginTls
from banish.origin.timeouts import Timeouts
from banish.testing.origin import CLOSE, DROP, RESET, ScriptedOrigin, Wire
from tests.unit.origin.conftest import Run
from tests.unit.origin.exchanges import group_of, pieces, read_all, request

OK = b"HTTP/1.1 200 OK\r\n"


def test_a_trusted_origin_is_reached_again_and_again(run: Run, localhost_tls: ssl.SSLContext, ca_file: str) -> None:
    async def play() -> None:
        async with (
            ScriptedOrigin(tls=localhost_tls) as origin,
            group_of(origin.url, tls=OriginTls(ca_file=ca_file)) as group,
        ):
            origin.respond("/", body=b"x" * 1_000_000)
            for _ in range(2):
                assert len(await group.get()) == 1_000_000
            response = await group.fetch(request("POST"), pieces(b"y" * 300_000, b"z"))
            assert len(await read_all(response)) == 1_000_000
            assert len(origin.requests[-1].body) == 300_001
            assert origin.connections == 1

    run(play())


def test_an_unknown_authority_is_refused(run: Run, localhost_tls: ssl.SSLContext) -> None:
    async def play() -> None:
        async with ScriptedOrigin(tls=localhost_tls) as origin, group_of(origin.url) as group:
            with pytest.raises(ConnectFailed, match="certificate is not accepted"):
                await group.get()
            assert origin.requests == []
            assert "0 taken, 0 idle" in repr(group)

    run(play())


def test_a_certificate_for_another_name_is_refused(run: Run, wrong_name_tls: ssl.SSLContext, ca_file: str) -> None:
    async def play() -> None:
        tls = OriginTls(ca_file=ca_file)
        async with ScriptedOrigin(tls=wrong_name_tls) as origin, group_of(origin.url, tls=tls) as group:
            with pytest.raises(ConnectFailed, match="localhost"):
                await group.get()
            assert origin.requests == []

    run(play())


def test_the_name_to_ask_for_can_be_set(run: Run, wrong_name_tls: ssl.SSLContext, ca_file: str) -> None:
    async def play() -> None:
        asked: list[str | None] = []
        wrong_name_tls.sni_callback = lambda _, name, __: asked.append(name)
        tls = OriginTls(ca_file=ca_file, server_name="elsewhere.example")
        async with ScriptedOrigin(tls=wrong_name_tls) as origin, group_of(origin.url, tls=tls) as group:
            origin.respond("/", body=b"hi")
            assert await group.get() == b"hi"
        wrong_name_tls.sni_callback = None
        assert asked == ["elsewhere.example"]

    run(play())


def test_verification_can_be_switched_off(run: Run, wrong_name_tls: ssl.SSLContext) -> None:
    async def play() -> None:
        async with (
            ScriptedOrigin(tls=wrong_name_tls) as origin,
            group_of(origin.url, tls=OriginTls(verify=False)) as group,
        ):
            origin.respond("/", body=b"hi")
            assert await group.get() == b"hi"

    run(play())


def test_until_close_is_whole_only_after_close_notify(run: Run, localhost_tls: ssl.SSLContext, ca_file: str) -> None:
    async def play() -> None:
        tls = OriginTls(ca_file=ca_file)
        async with ScriptedOrigin(tls=localhost_tls) as origin, group_of(origin.url, tls=tls) as group:
            origin.play("/", OK + b"\r\nall of it", CLOSE)
            assert await group.get() == b"all of it"
            for end in (DROP, RESET):
                gate = asyncio.Event()
                origin.play("/", OK + b"\r\npart of it", gate, end)
                response = await group.fetch(request(), None)
                assert await response.read() == b"part of it"
                gate.set()
                with pytest.raises(Truncated):
                    await response.read()

    run(play())


@pytest.mark.parametrize("counted", [True, False])
def test_a_slow_reader_still_gets_all_of_it(
    run: Run, localhost_tls: ssl.SSLContext, ca_file: str, counted: bool
) -> None:
    async def play() -> None:
        size = 8 << 20

        async def pour(wire: Wire) -> None:
            for _ in range(size >> 16):
                wire.writer.write(b"x" * (1 << 16))
                await wire.writer.drain()

        tls = OriginTls(ca_file=ca_file)
        async with ScriptedOrigin(tls=localhost_tls) as origin, group_of(origin.url, tls=tls) as group:
            length = b"Content-Length: %d\r\n" % size if counted else b""
            origin.play("/", OK + length + b"\r\n", pour, CLOSE)
            response = await group.fetch(request(), None)
            got = 0
            while data := await response.read():
                got += len(data)
                await asyncio.sleep(0.001)
            assert got == size

    run(play())


def test_a_handshake_that_does_not_come_about_is_given_up(run: Run) -> None:
    async def play() -> None:
        done = asyncio.Event()

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            done.set()

        server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        timeouts = Timeouts(tls_handshake_s=0.03)
        async with server, group_of(f"https://127.0.0.1:{port}", timeouts=timeouts) as group:
            with pytest.raises(OriginTimeout) as caught:
                await group.get()
            assert caught.value.stage == "tls_handshake"
            assert group.count("banish_origin_timeouts_total", "tls_handshake") == 1
            assert "0 taken, 0 idle" in repr(group)
            server.close()

    run(play())


def test_a_server_without_tls_is_a_failure_to_connect(run: Run) -> None:
    async def play() -> None:
        async def answer_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(answer_plainly, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, group_of(f"https://127.0.0.1:{port}") as group:
            with pytest.raises(ConnectFailed):
                await group.get()
            server.close()

    run(play())


def test_a_file_that_holds_no_certificates_is_a_configuration_error(run: Run, tmp_path: Path) -> None:
    async def play() -> None:
        (tmp_path / "ca.pem").write_text("nothing")
        for name in ("ca.pem", "missing.pem"):
            with pytest.raises(ConfigError, match=name):
                async with group_of("https://a.example", tls=OriginTls(ca_file=str(tmp_path / name))):
                    pass

    run(play())


def test_an_address_literal_is_verified_as_an_address(run: Run, authority: trustme.CA, ca_file: str) -> None:
    async def play() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        async with ScriptedOrigin(tls=context) as origin:
            origin.respond("/", body=b"hi")
            url = origin.url.replace("localhost", "127.0.0.1")
            async with group_of(url, tls=OriginTls(ca_file=ca_file)) as group:
                assert await group.get() == b"hi"

    run(play())
