"""The servers under test: how each is started, and how each says that an answer was a hit.

Every server is one process tree pinned to one CPU, listening on loopback in plain HTTP/1.1, its access log
off.
"""

import contextlib
import os
import shutil
import socket
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
START_S_MAX: Final = 20.0
STOP_S_MAX: Final = 20.0
NGINX: Final = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
OPEN_FILE_CACHE: Final = "open_file_cache max=100000 inactive=1d; open_file_cache_valid 1d;"


class Server(NamedTuple):
    """One running server."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    hit: str
    """What the head of a response contains if it was a hit."""

    def pids(self) -> list[int]:
        """The process and all its descendants."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                found.extend(int(child) for child in (task / "children").read_text().split())
        return found


def available(names: list[str]) -> list[str]:
    """The servers of these that this machine has; says which it has not."""
    if NGINX is None and any(name.startswith("nginx") for name in names):
        print("nginx is not installed: no comparison with it (Debian: apt install nginx)")
        return [name for name in names if not name.startswith("nginx")]
    return names


@contextlib.contextmanager
def running(name: str, cpu: int, origin_port: int, urls: int, data: Path) -> Iterator[Server]:
    """A server by its name, pinned to a CPU, until the block ends."""
    port = free_port()
    data.mkdir()
    command, hit = _command(name, port, origin_port, urls, data)
    with started(command, port, cpu, data / "output.log") as process:
        yield Server(name, port, process, hit)


def _command(name: str, port: int, origin_port: int, urls: int, data: Path) -> tuple[list[str], str]:
    """The command line, and what marks a hit."""
    if name == "bare":
        return [sys.executable, str(HERE / "bare.py"), str(port), str(urls)], "Cache-Status: bare; hit"
    if name == "banish":
        address = ["--origin", f"http://127.0.0.1:{origin_port}", "--listen", f"127.0.0.1:{port}"]
        quiet = ["--admin", "off", "--set", "log.access=off", "--data", str(data)]
        return [sys.executable, "-m", "banish.cli.main", "serve", *address, *quiet], "banish; hit"
    assert NGINX is not None
    template = string.Template((HERE / "nginx.conf").read_text())
    settings = {"PORT": port, "ORIGIN": origin_port, "DATA": data}
    settings["OPEN_FILE_CACHE"] = OPEN_FILE_CACHE if name == "nginx_open_file_cache" else ""
    configuration = data / "nginx.conf"
    configuration.write_text(template.safe_substitute(settings))
    return [NGINX, "-c", str(configuration)], "X-Cache-Status: HIT"


@contextlib.contextmanager
def origin(cpu: int, data: Path) -> Iterator[int]:
    """The origin behind the caches; gives its port."""
    port = free_port()
    with started([sys.executable, str(HERE / "origin.py"), str(port)], port, cpu, data / "origin.log"):
        yield port


@contextlib.contextmanager
def started(command: list[str], port: int, cpu: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on a port, pinned to a CPU; ended with the block."""
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path},
            preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
        )
    try:
        _wait_until_listening(process, port, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen on port {port}; it said:\n{log.read_text()}")


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
