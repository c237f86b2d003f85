"""The edge as its users run it: a process of its own, started by its command line, told what to do by signals.

    with origin_thread() as origin, edge_process(tmp_path, "--origin", origin.url) as edge:
        origin.script.respond("/", body=b"hello")
        assert edge.get("/").body == b"hello"
        edge.signal(signal.SIGTERM)
        assert edge.exit_code() == 0

Nothing here sleeps: what the process prints is read by threads, and whoever waits for a line is woken by it.
"""

import asyncio
import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from banish.store.logwriter import WAL_BYTES
from banish.testing.origin import ScriptedOrigin

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[1]
PORTS = range(15_000, 31_000)
PORTS_PER_WORKER = 4000
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_GIVEN: set[int] = set()

WAIT_S = 40.0
"""How long anything may take before it is said to hang."""


def free_port() -> int:
    """A port nobody listens on, below those that the system gives to clients. No other test gets it: each process of
    tests has its own to give, and gives each once.
    """
    first = PORTS.start + PORTS_PER_WORKER * (WORKER % (len(PORTS) // PORTS_PER_WORKER))
    while True:
        port = random.randrange(first, first + PORTS_PER_WORKER)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in _GIVEN:
                _GIVEN.add(port)
                return port


def environment() -> dict[str, str]:
    """The environment less what would configure an edge, with this source tree to import from."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BANISH_")}
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**kept, "PYTHONPATH": path}


class Response(NamedTuple):
    """One response; fields by their names in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def __str__(self) -> str:
        return f"{self.status} {self.fields}"


def ask(port: int, target: str, fields: Mapping[str, str] | None = None) -> Response:
    """One GET from a server on loopback."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)) as connection:
        connection.request("GET", target, headers=fields or {})
        response = connection.getresponse()
        lines = {name.lower(): value for name, value in response.getheaders()}
        return Response(response.status, lines, response.read())


class OriginThread:
    """A scripted origin in an event loop of its own, on a thread: for tests that block."""

    def __init__(self, loop: asyncio.AbstractEventLoop, script: ScriptedOrigin) -> None:
        self._loop = loop
        self.script = script

    @property
    def url(self) -> str:
        return self.script.url

    def open(self, gate: asyncio.Event) -> None:
        """Let the plays that wait for it go on."""
        self._loop.call_soon_threadsafe(gate.set)

    def wait_for(self, count: int) -> None:
        """Wait until so many requests have come whole."""
        asyncio.run_coroutine_threadsafe(self.script.wait_for(count), self._loop).result(WAIT_S)


@contextlib.contextmanager
def loop_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop at work on a thread, until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        loop.close()


@contextlib.contextmanager
def on_loop(loop: asyncio.AbstractEventLoop, entered: "contextlib.AbstractAsyncContextManager[T]") -> Iterator[T]:
    """Enter something on the loop of another thread, until the block ends."""
    found = asyncio.run_coroutine_threadsafe(entered.__aenter__(), loop).result(WAIT_S)
    try:
        yield found
    finally:
        asyncio.run_coroutine_threadsafe(entered.__aexit__(None, None, None), loop).result(WAIT_S)


@contextlib.contextmanager
def origin_thread() -> Iterator[OriginThread]:
    """A scripted origin at work until the block ends."""
    with loop_thread() as loop, on_loop(loop, ScriptedOrigin()) as script:
        yield OriginThread(loop, script)


class Lines:
    """What a process prints, line by line."""

    def __init__(self, stream: IO[str]) -> None:
        self.all: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self.all.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, text: str, *, after: int = 0) -> str:
        """The first line with this text, of those from number `after` on; waits until it is printed."""

        def found() -> str | None:
            return next((line for line in self.all[after:] if text in line), None)

        with self._changed:
            self._changed.wait_for(lambda: self._ended or found() is not None, WAIT_S)
            line = found()
        assert line is not None, f"{text!r} was not printed: {self.all}"
        return line

    def wait_for_count(self, count: int) -> list[str]:
        """All lines, once there are so many."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.all) >= count or self._ended, WAIT_S)
        assert len(self.all) >= count, f"{count} lines were not printed: {self.all}"
        return list(self.all)

    def rest(self) -> list[str]:
        """All lines, once the process has ended."""
        self._thread.join(WAIT_S)
        return list(self.all)


class EdgeProcess:
    """One running edge. `out` is its access log, unless that goes to a file; `err` what it has to say."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, admin_port: int) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.port = port
        self.admin_port = admin_port
        self.out = Lines(process.stdout)
        self.err = Lines(process.stderr)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def said(self, text: str, *, after: int = 0) -> dict[str, Any]:
        """The first entry of its own log with this text."""
        entry: dict[str, Any] = json.loads(self.err.wait_for(text, after=after))
        return entry

    def exit_code(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(WAIT_S)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)

    def get(self, target: str, fields: Mapping[str, str] | None = None) -> Response:
        """One GET on a connection of its own."""
        return ask(self.port, target, fields)

    def admin(self, target: str) -> Response:
        """One GET from the admin listener."""
        return ask(self.admin_port, target)

    def metrics(self) -> dict[str, float]:
        """Every sample, under its name and labels as they are printed."""
        lines = self.admin("/metrics").text.splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    def until_metric(self, sample: str, at_least: float) -> None:
        """Ask for the metrics until one has got so far."""
        end = time.monotonic() + WAIT_S
        while self.metrics().get(sample, 0) < at_least:
            assert time.monotonic() < end, f"{sample} stayed below {at_least}"

    def until_log_has_room(self, data: Path) -> None:
        """Ask for the metrics until the purge log has taken the room that it takes when first idle."""
        end = time.monotonic() + WAIT_S
        while (data / "purges.sqlite-wal").stat().st_size < WAL_BYTES:
            assert time.monotonic() < end, "the log takes no room"
            self.metrics()

    # --- memory; Linux only

    def rss_bytes(self) -> int:
        """Memory of the process now."""
        return self._memory("VmRSS")

    def peak_rss_bytes(self) -> int:
        """The most memory it has had since `forget_peak`."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024


def spawn(
    *arguments: str, cwd: Path | None = None, extra: Mapping[str, str] | None = None, module: str = "banish.cli.main"
) -> "subprocess.Popen[str]":
    """`banish` with these arguments, and `extra` in its environment; or another module that does as it does."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment() | dict(extra or {}),
        cwd=cwd,
    )


@contextlib.contextmanager
def edge_process(
    data: Path,
    *flags: str,
    port: int | None = None,
    admin_port: int | None = None,
    module: str = "banish.cli.main",
) -> Iterator[EdgeProcess]:
    """An edge that serves, until the block ends; its files are under `data`.

    `port` is where its configuration has it listen; without it, it is told to listen somewhere. `module` is run.
    """
    admin_port = admin_port or free_port()
    where = ["--admin", f"127.0.0.1:{admin_port}", "--data", str(data)]
    if port is None:
        port = free_port()
        where += ["--listen", f"127.0.0.1:{port}"]
    process = spawn("serve", *where, *flags, module=module)
    edge = EdgeProcess(process, port, admin_port)
    try:
        edge.err.wait_for("curl -i ")  # the last line of what it says once it takes connections
        yield edge
    except BaseException as error:
        error.add_note("the edge said:\n" + "\n".join(edge.err.all[-20:]))
        raise
    finally:
        process.kill()
        process.wait(WAIT_S)
        edge.out.rest()
        edge.err.rest()
