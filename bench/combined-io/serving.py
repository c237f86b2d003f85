"""Whole servers: large stored bodies from file to socket, by each way the edge has, and by nginx.

All servers stay up during the whole run, pinned to one CPU; origin and client have another. Everything is asked for on
one connection, one request after the other; every answer is a hit, and its length and first bytes are looked at.
"""

import contextlib
import os
import random
import socket
import string
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final, NamedTuple

import disk
from bench.hit.measure import cpu_ns
from bench.hit.servers import NGINX, Server, free_port, started
from edge import WAYS
from reading import Reading, reading

HERE: Final = Path(__file__).resolve().parent
BLOCK: Final = random.Random(7).randbytes(1 << 20)
SERVERS: Final = (*WAYS, "nginx")
SETTLE_S_MAX: Final = 30.0


class Running(NamedTuple):
    """A server with its objects in store."""

    server: Server
    files: list[Path]
    admin_port: int = 0


class Objects(NamedTuple):
    """What is served: /0, /1 … and so on, of so many MiB each."""

    number: int
    mib: int

    @property
    def n_bytes(self) -> int:
        return self.number * self.mib << 20


@contextlib.contextmanager
def origin(objects: Objects) -> Iterator[int]:
    """The origin, on threads of this process; gives its port."""

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Cache-Control", "max-age=86400")
            self.send_header("Content-Length", str(objects.mib << 20))
            self.end_headers()
            for _ in range(objects.mib):
                self.wfile.write(BLOCK)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield listening.server_port
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


@contextlib.contextmanager
def running(name: str, cpu: int, origin_port: int, objects: Objects, data: Path) -> Iterator[Running]:
    """A server by its name, with all objects in store, until the block ends."""
    data.mkdir()
    port, admin_port = free_port(), free_port()
    command, hit = _command(name, port, admin_port, origin_port, data)
    with started(command, port, cpu, data / "output.log") as process:
        server = Server(name, port, process, hit)
        ask_all(server, objects, must_hit=False)
        if name in WAYS:
            until_counted(admin_port, 'banish_body_files_kept_total{how="linked"}', objects.number)
        home = data / ("bodies" if name in WAYS else "cache")
        files = [path for path in home.rglob("*") if path.is_file()]
        assert len(files) == objects.number, f"{name} has {len(files)} files in store"
        yield Running(server, files, admin_port)


def _command(name: str, port: int, admin_port: int, origin_port: int, data: Path) -> tuple[list[str], str]:
    """The command line, and what marks a hit."""
    if name in WAYS:
        serve = [sys.executable, str(HERE / "edge.py"), name, "serve", "--origin", f"http://127.0.0.1:{origin_port}"]
        where = ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin_port}", "--data", str(data)]
        return [*serve, *where, "--set", "log.access=off"], "; hit"
    assert NGINX is not None
    template = string.Template((HERE / "nginx.conf").read_text())
    (data / "nginx.conf").write_text(template.safe_substitute(PORT=port, ORIGIN=origin_port, DATA=data))
    return [NGINX, "-c", str(data / "nginx.conf")], "X-Cache-Status: HIT"


def metrics(admin_port: int) -> dict[str, float]:
    """Every sample of an edge, under its name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/metrics") as response:
        lines = response.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def until_counted(admin_port: int, sample: str, at_least: int) -> None:
    """Wait until a figure has got so far: bodies go to their files behind."""
    end = time.monotonic() + SETTLE_S_MAX
    while metrics(admin_port).get(sample, 0) < at_least:
        assert time.monotonic() < end, f"{sample} stays below {at_least}"
        time.sleep(0.05)


def ask_all(server: Server, objects: Objects, *, must_hit: bool = True) -> None:
    """Ask for every object once. Raises RuntimeError if an answer is not what it should be."""
    buffer = memoryview(bytearray(1 << 20))
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        for number in range(objects.number):
            sock.sendall(b"GET /%d HTTP/1.1\r\nHost: bench.example\r\n\r\n" % number)
            held = b""
            while b"\r\n\r\n" not in held or len(held.partition(b"\r\n\r\n")[2]) < 100:
                held += sock.recv(4096)
            head, _, begin = held.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200") or not BLOCK.startswith(begin[:100]):
                raise RuntimeError(f"{server.name}: /{number} is not what the origin gives: {head!r}")
            if must_hit and server.hit.encode() not in head:
                raise RuntimeError(f"{server.name}: /{number} was not a hit: {head!r}")
            left = (objects.mib << 20) - len(begin)
            while left:
                n = sock.recv_into(buffer, min(left, len(buffer)))
                if n == 0:
                    raise RuntimeError(f"{server.name}: /{number} broke off")
                left -= n


def measure(one: Running, objects: Objects, *, cold: bool) -> Reading:
    """Every object once, from one server."""
    if cold:
        disk.forget(one.files)
    before, cpu, wall = disk.device_reads(one.files[0]), cpu_ns(one.server), time.perf_counter()
    ask_all(one.server, objects)
    wall, cpu = time.perf_counter() - wall, cpu_ns(one.server) - cpu
    return reading(objects.n_bytes, cpu / 1e9, wall, disk.device_reads(one.files[0]).since(before))


def went_its_way(one: Running) -> bool:
    """Whether the edge brought bodies in the way that it was told."""
    if one.server.name not in WAYS:
        return True
    figures = metrics(one.admin_port)
    by_kernel = figures.get('banish_body_file_bytes_total{way="sendfile"}', 0)
    read = figures.get('banish_body_file_bytes_total{way="read"}', 0)
    short = figures.get("banish_body_short_reads_total", 0)
    return (by_kernel > read, short > 0) == (one.server.name == "sendfile", one.server.name in ("short", "pages"))


def pin(cpu: int) -> None:
    """Have this process, which is client and origin, leave the servers' CPU alone."""
    os.sched_setaffinity(0, {cpu})
