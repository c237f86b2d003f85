"""TLS on both sides of the edge: listeners with certificates chosen by name, and origins that must prove theirs."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from unittest import mock

import pytest
import structlog.testing
import trustme
from tests.processes import WAIT_S, free_port
from tests.support import Client, Closed, Play, Response, Stage, answered, configuration, request

from banish.edge.config import Certificate, Config, Listener, OriginTls
from banish.proxy.serve import Edge
from banish.testing.clock import FakeClock
from banish.testing.origin import CLOSE, DROP, ScriptedOrigin

STORABLE = ("Cache-Control: max-age=600",)
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(scope="module")
def certificates(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> tuple[Certificate, ...]:
    """For site.example, and for shop.example with all names below it."""
    directory = tmp_path_factory.mktemp("certificates")
    return tuple(
        _issued(authority, directory / names[0], *names)
        for names in (("site.example",), ("shop.example", "*.shop.example"))
    )


def _issued(authority: trustme.CA, stem: Path, *names: str) -> Certificate:
    made = authority.issue_cert(*names)
    certificate, key = f"{stem}.pem", f"{stem}.key"
    for at, blob in enumerate(made.cert_chain_pems):
        blob.write_to_path(certificate, append=at > 0)
    made.private_key_pem.write_to_path(key)
    return Certificate(certificate=certificate, key=key)


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """What a client that trusts the authority connects with."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


class TlsClient(Client):
    """A connection over TLS. An end without close_notify counts as a reset."""

    def __init__(self, port: int, context: ssl.SSLContext, name: str | None = "site.example") -> None:
        super().__init__(("127.0.0.1", port))
        self._context = context
        self._name = name
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> "TlsClient":
        await super().__aenter__()
        self._reader, self._writer = await asyncio.open_connection(
            sock=self._socket, ssl=self._context, server_hostname=self._name or ""
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    @property
    def names(self) -> list[str]:
        """The names in the certificate that the edge showed."""
        return [name for _, name in self._writer.get_extra_info("peercert")["subjectAltName"]]

    @property
    def protocol(self) -> str | None:
        chosen: str | None = self._writer.get_extra_info("ssl_object").selected_alpn_protocol()
        return chosen

    async def send(self, data: bytes, pace: object = "whole") -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def _more(self, *, raise_reset: bool = False) -> None:
        data = await self._reader.read(65536)
        if not data:
            held, self._held = self._held, b""
            raise Closed(held)
        self._held += data


def listeners(certificates: tuple[Certificate, ...]) -> tuple[Listener, ...]:
    """A plain one and one with TLS, in this order."""
    return Listener(address="127.0.0.1:0"), Listener(address="127.0.0.1:0", tls=certificates)


class TestListener:
    def test_the_name_asked_for_decides_which_certificate_is_shown(
        self, play: Play, authority: trustme.CA, certificates: tuple[Certificate, ...]
    ) -> None:
        async def scene(stage: Stage) -> None:
            stage.origin.respond("/", body=b"hello")
            shown = {}
            for name in ("site.example", "shop.example", "www.shop.example", "WWW.Shop.Example"):
                async with TlsClient(stage.edge.ports[1], trusting(authority), name) as client:
                    shown[name] = client.names[0]
                    assert (await client.get("/", host=name)).body == b"hello"
                    assert client.protocol is None
            assert list(shown.values()) == ["site.example", *["shop.example"] * 3]

        play(scene, listen=listeners(certificates))

    @pytest.mark.parametrize("name", [None, "elsewhere.example", "a.b.shop.example"])
    def test_the_first_certificate_is_shown_to_who_asks_for_no_known_name(
        self, play: Play, authority: trustme.CA, certificates: tuple[Certificate, ...], name: str | None
    ) -> None:
        async def scene(stage: Stage) -> None:
            context = trusting(authority)
            context.check_hostname = False
            async with TlsClient(stage.edge.ports[1], context, name) as client:
                assert client.names == ["site.example"]

        play(scene, listen=listeners(certificates))

    def test_http_1_1_is_chosen_where_the_client_offers_protocols(
        self, play: Play, authority: trustme.CA, certificates: tuple[Certificate, ...]
    ) -> None:
        async def scene(stage: Stage) -> None:
            context = trusting(authority)
            context.set_alpn_protocols(["h2", "http/1.1"])
            for name in ("site.example", "shop.example"):
                async with TlsClient(stage.edge.ports[1], context, name) as client:
                    assert client.protocol == "http/1.1"

        play(scene, listen=listeners(certificates))

    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
    def test_tls_1_1_is_refused(self, play: Play, authority: trustme.CA, certificates: tuple[Certificate, ...]) -> None:
        def shakes_hands(port: int, version: ssl.TLSVersion) -> bool:
            context = trusting(authority)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = version
            context.set_ciphers("ALL:@SECLEVEL=0")  # or the client itself would refuse
            raw = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
            try:
                context.wrap_socket(raw, server_hostname="site.example").close()
            except (ssl.SSLError, ConnectionError) as error:
                raw.close()
                if "NO_PROTOCOLS_AVAILABLE" in str(error):
                    pytest.fail("the client did not even try")
                return False
            return True

        async def scene(stage: Stage) -> None:
            port = stage.edge.ports[1]
            assert not await asyncio.to_thread(shakes_hands, port, ssl.TLSVersion.TLSv1_1)
            assert await asyncio.to_thread(shakes_hands, port, ssl.TLSVersion.TLSv1_2)
            assert await asyncio.to_thread(shakes_hands, port, ssl.TLSVersion.TLSv1_3)

        play(scene, listen=listeners(certificates))

    def test_who_speaks_plain_http_to_it_is_turned_away_and_others_are_served(
        self, play: Play, authority: trustme.CA, certificates: tuple[Certificate, ...]
    ) -> None:
        async def scene(stage: Stage) -> None:
            stage.origin.respond("/", body=b"hello")
            async with Client(("127.0.0.1", stage.edge.ports[1])) as client:
                await client.send(request("GET", "/"))
                assert b"HTTP/1.1 2" not in await client.rest()
            assert (await https_get(stage, authority, "/")).body == b"hello"
            assert len(stage.origin.requests) == 1

        play(scene, listen=listeners(certificates))

    def test_hits_over_tls_are_answered_from_the_hot_table(
        self, play: Play, authority: trustme.CA, certificates: tuple[Certificate, ...]
    ) -> None:
        async def scene(stage: Stage) -> None:
            body = bytes(range(256)) * 2048  # half a megabyte: many TLS records
            stage.origin.play("/", answered(body, *STORABLE))
            async with TlsClient(stage.edge.ports[1], trusting(authority)) as client:
                got = [await client.get("/") for _ in range(4)]
            assert [one.body for one in got] == [body] * 4
            assert [one.hit for one in got] == [False, True, True, True]
            assert stage.count("banish_responses_total", "hot") == 2
            forwarded = stage.origin.requests[0].fields
            assert forwarded.get("x-forwarded-proto") == "https"

        play(scene, listen=listeners(certificates))

    def test_plain_and_tls_listeners_never_share_what_they_answer(
        self, play: Play, authority: trustme.CA, certificates: tuple[Certificate, ...]
    ) -> None:
        async def scene(stage: Stage) -> None:
            stage.origin.play("/", answered(b"plain", *STORABLE))
            stage.origin.play("/", answered(b"secure", *STORABLE))
            async with (
                stage.client() as plain,
                TlsClient(stage.edge.ports[1], trusting(authority)) as secure,
            ):
                for _ in range(4):
                    assert (await plain.get("/")).body == b"plain"
                    assert (await secure.get("/")).body == b"secure"
            assert len(stage.origin.requests) == 2
            assert stage.count("banish_responses_total", "hot") == 4

        play(scene, listen=listeners(certificates))

    def test_an_absolute_target_cannot_reach_what_the_other_scheme_stored(
        self, play: Play, authority: trustme.CA, certificates: tuple[Certificate, ...]
    ) -> None:
        async def scene(stage: Stage) -> None:
            stage.origin.play_always("/", answered(b"plain", *STORABLE))
            stage.origin.play("/", answered(b"secure", *STORABLE))
            assert (await https_get(stage, authority, "/")).body == b"secure"
            over_plain = await stage.get("https://site.example/")
            assert over_plain.body != b"secure"

        play(scene, listen=listeners(certificates))

    def test_a_body_until_close_ends_cleanly_only_if_it_is_whole(
        self, play: Play, authority: trustme.CA, certificates: tuple[Certificate, ...]
    ) -> None:
        def ask(port: int, target: bytes) -> bytes:
            """As an HTTP/1.0 client, which takes no chunks. Raises SSLError or OSError if there is no clean end."""
            raw = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
            context = trusting(authority)
            with context.wrap_socket(raw, server_hostname="site.example", suppress_ragged_eofs=False) as secure:
                secure.sendall(b"GET %b HTTP/1.0\r\nHost: site.example\r\n\r\n" % target)
                held = b""
                while data := secure.recv(65536):
                    held += data
            return held.partition(b"\r\n\r\n")[2]

        async def scene(stage: Stage) -> None:
            port = stage.edge.ports[1]
            stage.origin.play("/whole", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            assert await asyncio.to_thread(ask, port, b"/whole") == b"hello"
            stage.origin.play("/cut", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", CLOSE)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.to_thread(ask, port, b"/cut")

        play(scene, listen=listeners(certificates))


async def https_get(stage: Stage, authority: trustme.CA, target: str) -> Response:
    """One GET over TLS, on a connection of its own."""
    async with TlsClient(stage.edge.ports[1], trusting(authority)) as client:
        return await client.get(target)


class TestRedirect:
    @staticmethod
    def listeners(certificates: tuple[Certificate, ...], port: int) -> tuple[Listener, ...]:
        return (
            Listener(address="127.0.0.1:0", redirect_to_https=True),
            Listener(address=f"127.0.0.1:{port}", tls=certificates),
        )

    @pytest.mark.parametrize("host", ["site.example", "site.example:8080", "SITE.example", "[::1]:8080"])
    @pytest.mark.parametrize("target", ["/", "/a%20b/%C3%BC?q=1&r=%2F&empty=", "/?", "//double"])
    def test_a_request_is_sent_to_the_same_target_over_tls(
        self, play: Play, certificates: tuple[Certificate, ...], host: str, target: str
    ) -> None:
        port = free_port()
        name = "[::1]" if host.startswith("[") else "site.example"

        async def scene(stage: Stage) -> None:
            async with stage.client() as client:
                for method in ("GET", "HEAD", "POST"):
                    answer = await client.ask(method, target, host=host, body=b"x" if method == "POST" else b"")
                    assert answer.status == 308
                    assert answer["location"] == f"https://{name}:{port}{target}"
                    assert answer.body == b""
            assert stage.origin.requests == []

        play(scene, listen=self.listeners(certificates, port))

    def test_the_usual_port_is_left_out(self, play: Play) -> None:
        async def scene(stage: Stage) -> None:
            answer = await stage.get("/page?q", host="site.example:80")
            assert answer["location"] == "https://site.example/page?q"

        play(scene, listen=(Listener(address="127.0.0.1:0", redirect_to_https=True),))

    def test_it_leads_to_the_page(
        self, play: Play, authority: trustme.CA, certificates: tuple[Certificate, ...]
    ) -> None:
        port = free_port()

        async def scene(stage: Stage) -> None:
            stage.origin.respond("/page", body=b"hello")
            where = (await stage.get("/page?q=1"))["location"]
            assert where == f"https://site.example:{port}/page?q=1"
            async with TlsClient(port, trusting(authority)) as client:
                assert (await client.get("/page?q=1", host=f"site.example:{port}")).body == b"hello"

        play(scene, listen=self.listeners(certificates, port))

    @pytest.mark.parametrize("tls_first", [False, True])
    def test_a_port_that_the_system_chose_is_the_one_named(
        self, play: Play, authority: trustme.CA, certificates: tuple[Certificate, ...], tls_first: bool
    ) -> None:
        plain, secure = self.listeners(certificates, 0)

        async def scene(stage: Stage) -> None:
            stage.origin.respond("/page", body=b"hello")
            ports = stage.edge.ports if tls_first else stage.edge.ports[::-1]
            async with Client(("127.0.0.1", ports[1])) as client:
                where = (await client.get("/page"))["location"]
            assert where == f"https://site.example:{ports[0]}/page"
            async with TlsClient(ports[0], trusting(authority)) as client:
                assert (await client.get("/page")).body == b"hello"

        play(scene, listen=(secure, plain) if tls_first else (plain, secure))

    def test_a_broken_request_is_not_redirected(self, play: Play, certificates: tuple[Certificate, ...]) -> None:
        async def scene(stage: Stage) -> None:
            for host in ("a b", "evil.example/x", "user@site.example", ""):
                assert (await stage.get("/", host=host)).status == 400

        play(scene, listen=self.listeners(certificates, free_port()))


@contextlib.asynccontextmanager
async def edge_before(origin: ScriptedOrigin, **changes: object) -> AsyncIterator[tuple[Edge, Client]]:
    """An edge in front of an https origin, and a client of it."""
    config: Config = configuration(origin.url, **changes)
    edge = Edge(config, FakeClock())
    with mock.patch("banish.proxy.serve.freeze"):
        await edge.start()
    try:
        async with Client(("127.0.0.1", edge.ports[0])) as client:
            yield edge, client
    finally:
        await edge.stop()


class TestOrigin:
    def test_a_trusted_origin_is_fetched_from_and_stored(self, play: Play, authority: trustme.CA, ca_file: str) -> None:
        async def scene(stage: Stage) -> None:
            tls = OriginTls(ca=ca_file)
            context = server_context(authority, "localhost")
            async with (
                ScriptedOrigin(tls=context) as origin,
                edge_before(origin, origin_tls=tls) as (_, client),
            ):
                origin.play("/", answered(b"hello", *STORABLE))
                got = [await client.get("/") for _ in range(3)]
                assert [(one.status, one.body, one.hit) for one in got] == [
                    (200, b"hello", False), (200, b"hello", True), (200, b"hello", True)
                ]  # fmt: skip

        play(scene)

    def test_an_unknown_authority_is_told_in_clear_words(self, play: Play, authority: trustme.CA) -> None:
        async def scene(stage: Stage) -> None:
            context = server_context(authority, "localhost")
            async with ScriptedOrigin(tls=context) as origin, edge_before(origin) as (_, client):
                with structlog.testing.capture_logs() as logged:
                    answer = await client.get("/")
                assert answer.status == 502
                assert b"the origin cannot be reached" in answer.body
                assert "detail=connect" in answer["cache-status"]
                assert "certificate is not accepted" in logged[0]["reason"]
                assert origin.requests == []

        play(scene)

    def test_a_certificate_for_another_name_is_told_in_clear_words(
        self, play: Play, authority: trustme.CA, ca_file: str
    ) -> None:
        async def scene(stage: Stage) -> None:
            tls = OriginTls(ca=ca_file)
            context = server_context(authority, "elsewhere.example")
            async with (
                ScriptedOrigin(tls=context) as origin,
                edge_before(origin, origin_tls=tls) as (_, client),
            ):
                with structlog.testing.capture_logs() as logged:
                    answer = await client.get("/")
                assert answer.status == 502
                assert "certificate is not accepted" in logged[0]["reason"]
                assert "localhost" in logged[0]["reason"]
                assert b"certificate" not in answer.body, "what is inside is for the log"
                assert origin.requests == []

        play(scene)

    def test_the_name_to_expect_can_be_set(self, play: Play, authority: trustme.CA, ca_file: str) -> None:
        async def scene(stage: Stage) -> None:
            tls = OriginTls(ca=ca_file, server_name="elsewhere.example")
            context = server_context(authority, "elsewhere.example")
            async with (
                ScriptedOrigin(tls=context) as origin,
                edge_before(origin, origin_tls=tls) as (_, client),
            ):
                origin.respond("/", body=b"hello")
                assert (await client.get("/")).body == b"hello"

        play(scene)

    def test_verification_can_be_switched_off(self, play: Play, authority: trustme.CA) -> None:
        async def scene(stage: Stage) -> None:
            context = server_context(authority, "elsewhere.example")
            async with (
                ScriptedOrigin(tls=context) as origin,
                edge_before(origin, origin_tls=OriginTls(verify=False)) as (_, client),
            ):
                origin.respond("/", body=b"hello")
                assert (await client.get("/")).body == b"hello"

        play(scene)

    @pytest.mark.parametrize("clean", [True, False])
    def test_a_body_until_close_is_whole_only_after_a_clean_end(
        self, play: Play, authority: trustme.CA, ca_file: str, clean: bool
    ) -> None:
        async def scene(stage: Stage) -> None:
            tls = OriginTls(ca=ca_file)
            context = server_context(authority, "localhost")
            async with (
                ScriptedOrigin(tls=context) as origin,
                edge_before(origin, origin_tls=tls) as (edge, client),
            ):
                origin.play_always("/", OK + b"Cache-Control: max-age=60\r\n\r\nhello", CLOSE if clean else DROP)
                answer = await client.get("/")
                assert (answer.body, answer.whole) == (b"hello", clean)
                assert len(edge.store) == int(clean)

        play(scene)
