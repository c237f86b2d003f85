"""What is measured: CPU of a process tree, answers per second, system calls; and that every answer was a hit.

CPU is the scheduler's own account in nanoseconds (/proc/PID/task/TID/schedstat), user and system together.
Linux only.
"""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final, NamedTuple

from bench.hit import objects
from bench.hit.servers import HERE, Server

STRACE: Final = shutil.which("strace")
ATTACH_S_MAX: Final = 5.0


class Case(NamedTuple):
    """What is asked for."""

    size: int
    fields: bool
    extra: str = ""
    """One more field of every request."""

    def __str__(self) -> str:
        return f"{self.size // 1024} KiB, {'browser fields' if self.fields else 'Host alone'}"


class Sample(NamedTuple):
    """One server under load for one interval."""

    requests: int
    cpu_us: float
    """CPU microseconds of the server per request."""
    rate: float
    """Requests per second."""
    p50_us: int
    p99_us: int
    load_share: float
    """CPU seconds of the load per second: near 1 the load, not the server, would be the limit."""


def compile_load(directory: Path) -> Path:
    """Build the load generator. Raises FileNotFoundError without a C compiler."""
    program = directory / "load"
    subprocess.run(["cc", "-O2", "-o", str(program), str(HERE / "load.c")], check=True)
    return program


class Load:
    """The load generator with what all runs have in common. `awake`: it never sleeps, so that the server does not pay
    for waking it."""

    def __init__(self, program: Path, cpu: int, connections: int, urls: int, *, awake: bool = False) -> None:
        self._program = program
        self._cpu = cpu
        self._common = ["--connections", str(connections), "--urls", str(urls)]
        self._common += ["--awake", "1"] if awake else []

    def run(self, server: Server, case: Case, *, seconds: float = 0, requests: int = 0) -> dict[str, float]:
        """Ask for so long, or so often; raises RuntimeError if any answer was not the hit it should be."""
        what = ["--size", str(case.size), "--fields", str(int(case.fields)), "--hit", server.hit]
        what += ["--extra", case.extra] if case.extra else []
        end = ["--requests", str(requests)] if requests else ["--seconds", str(seconds)]
        done = subprocess.run(
            [str(self._program), "--port", str(server.port), *self._common, *what, *end],
            capture_output=True,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {self._cpu}),
        )
        if done.returncode != 0:
            raise RuntimeError(f"{server.name}, {case}: {done.stderr.strip()}")
        tally: dict[str, float] = json.loads(done.stdout)
        wrong = {name: tally[name] for name in ("wrong_status", "wrong_length", "wrong_body", "not_hit") if tally[name]}
        if wrong:
            raise RuntimeError(f"{server.name}, {case}: of {tally['requests']:.0f} answers {wrong}")
        return tally


def sample(load: Load, server: Server, case: Case, seconds: float) -> Sample:
    """Load a server for an interval and account its CPU."""
    before_ns = cpu_ns(server)
    tally = load.run(server, case, seconds=seconds)
    used_ns = cpu_ns(server) - before_ns
    return Sample(
        requests=int(tally["requests"]),
        cpu_us=used_ns / 1000 / tally["requests"],
        rate=tally["requests"] / tally["seconds"],
        p50_us=int(tally["latency_us_p50"]),
        p99_us=int(tally["latency_us_p99"]),
        load_share=tally["load_cpu_s"] / tally["seconds"],
    )


def cpu_ns(server: Server) -> int:
    """CPU used so far by all threads of the server."""
    total = 0
    for pid in server.pids():
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total


def system_calls(load: Load, server: Server, case: Case, requests: int, directory: Path) -> dict[str, float] | None:
    """System calls per request by name; None if they cannot be traced. A run of its own: tracing is slow."""
    if STRACE is None:
        return None
    summary = directory / f"{server.name}.strace"
    attach = [f"--attach={pid}" for pid in server.pids()]
    tracer = subprocess.Popen(
        [STRACE, "-c", "-f", "-o", str(summary), *attach], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        if not _attached(server):
            print(f"strace cannot attach to {server.name}: its system calls are not counted")
            return None
        load.run(server, case, requests=requests)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
    # "% time  seconds  usecs/call  calls  [errors]  name"
    rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", summary.read_text(), re.MULTILINE)
    return {name: int(calls) / requests for calls, name in rows if name != "total"}


def _attached(server: Server) -> bool:
    deadline = time.monotonic() + ATTACH_S_MAX
    while time.monotonic() < deadline:
        if all("TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text() for pid in server.pids()):
            return True
        time.sleep(0.02)
    return False


def prime(server: Server, urls: int) -> None:
    """Fetch every object twice: once to have it stored, once to see that a hit gives its very bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for must_hit in (False, True):
        for size in objects.SIZES:
            for number in range(urls):
                _fetch(connection, server, size, number, must_hit=must_hit)
    connection.close()


def _fetch(connection: http.client.HTTPConnection, server: Server, size: int, number: int, *, must_hit: bool) -> None:
    target = objects.path(size, number)
    connection.request("GET", target, headers={"Host": objects.HOST})
    response = connection.getresponse()
    content = response.read()
    head = "".join(f"{name}: {value}\r\n" for name, value in response.getheaders())
    if response.status != 200 or content != objects.body(size, number):
        raise RuntimeError(f"{server.name}: {target} is not what the origin gives: {response.status}\n{head}")
    if must_hit and server.hit not in head:
        raise RuntimeError(f"{server.name}: {target} was not a hit the second time:\n{head}")


def origin_count(port: int) -> int:
    """How many objects the origin has served."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/count")
    count = int(connection.getresponse().read())
    connection.close()
    return count
