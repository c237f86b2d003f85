"""Each test that opens sockets runs on both event loops, the one being the oracle of the other."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trustme
import uvloop

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine to its end; then nothing may be left running, and no error unreported."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_it(coroutine: Coroutine[Any, Any, None]) -> None:
        reports: list[dict[str, Any]] = []

        def report(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            # A debug loop tells of handshakes that the client broke off, on the server's side.
            if "incoming connection" not in context["message"]:
                reports.append(context)

        async def body() -> None:
            asyncio.get_running_loop().set_exception_handler(report)
            async with asyncio.timeout(10):
                await coroutine
            for _ in range(5):
                await asyncio.sleep(0)
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            assert not tasks

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(body())
        assert reports == []

    return run_it


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that only these tests trust."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The authority's certificate, as a file."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """A server's TLS settings, with a certificate for these names."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture(scope="session")
def localhost_tls(authority: trustme.CA) -> ssl.SSLContext:
    return server_context(authority, "localhost")


@pytest.fixture(scope="session")
def wrong_name_tls(authority: trustme.CA) -> ssl.SSLContext:
    return server_context(authority, "elsewhere.example")
