"""Measure how long hits take while the admin listener is scraped and listed without a pause, against idle.

    python bench/admin/run.py            # about two minutes
    python bench/admin/run.py --smoke    # everything once, a few seconds, no result file

The exit status is 1 if the 99th percentile is more than LIMIT_MS above idle; a smoke run is too short to judge.
Not here: the load (load.py), who asks the admin listener (scrape.py), how servers are started (bench/hit/servers.py).
"""

import argparse
import contextlib
import datetime
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.hit import objects
from bench.hit.report import machine
from bench.hit.servers import free_port, origin, started

HERE: Final = Path(__file__).resolve().parent
LIMIT_MS: Final = 5.0
HOT_URLS: Final = 1000
SIZE: Final = objects.SIZES[0]
PIPELINED: Final = 8
WARM_UP_S: Final = 2.0
STATES: Final = ("idle", "asked")

Latencies = dict[str, float]


class Edge(NamedTuple):
    """The edge under test."""

    port: int
    admin_port: int
    load_cpu: int


def main() -> int:
    """Run; returns the exit status."""
    options = _options()
    if not sys.platform.startswith("linux"):
        print("bench/admin needs Linux (epoll, processor affinity)")
        return 2
    found, asked = measure(options)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = page(date, options, found, asked)
    print(text)
    if options.results is not None:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / f"{date}.md").write_text(text)
    return 0 if options.smoke else int(above_idle_ms(found, "p99") > LIMIT_MS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stored", type=int, default=50_000, help="responses in the store (%(default)s)")
    parser.add_argument("--rate", type=int, default=1000, help="hits a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="length of one measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--limit", type=int, default=1000, help="stored responses on a page (%(default)s)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="directory of the result files")
    parser.add_argument("--smoke", action="store_true", help="the smallest run that goes everywhere; writes no file")
    options = parser.parse_args()
    if options.smoke:
        options.stored, options.seconds, options.rounds, options.results = 1200, 0.5, 1, None
    return options


def measure(options: argparse.Namespace) -> tuple[dict[str, list[Latencies]], list[dict[str, int]]]:
    """Latencies by state, one a round, and what the admin listener answered meanwhile."""
    found: dict[str, list[Latencies]] = {state: [] for state in STATES}
    answered: list[dict[str, int]] = []
    with running(options.stored) as edge:
        load(edge, options, WARM_UP_S)
        for number in range(options.rounds):
            for state in STATES if number % 2 == 0 else reversed(STATES):
                if state == "idle":
                    found[state].append(load(edge, options, options.seconds))
                    continue
                with operator(edge, options.limit) as got:
                    found[state].append(load(edge, options, options.seconds))
                answered.append(got)
    return found, answered


@contextlib.contextmanager
def running(stored: int) -> Iterator[Edge]:
    """An edge with so many stored responses, some of them hot."""
    cpus = sorted(os.sched_getaffinity(0))
    edge = Edge(free_port(), free_port(), cpus[-1])
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-admin-")))
        origin_port = stack.enter_context(origin(edge.load_cpu, scratch))
        command = [sys.executable, "-m", "banish.cli.main", "serve", "--origin", f"http://127.0.0.1:{origin_port}"]
        command += ["--listen", f"127.0.0.1:{edge.port}", "--admin", f"127.0.0.1:{edge.admin_port}"]
        command += ["--data", str(scratch), "--set", "log.access=off", "--set", "memory.budget_bytes=2GiB"]
        stack.enter_context(started(command, edge.port, cpus[0], scratch / "edge.log"))
        fill(edge.port, range(max(stored, HOT_URLS)))
        for _ in range(2):
            fill(edge.port, range(HOT_URLS))
        yield edge


def fill(port: int, numbers: range) -> None:
    """Ask for each object once, several at a time."""
    with socket.create_connection(("127.0.0.1", port)) as sock, sock.makefile("rb") as file:
        for first in range(0, len(numbers), PIPELINED):
            some = numbers[first : first + PIPELINED]
            head = f"HTTP/1.1\r\nHost: {objects.HOST}\r\nAccept-Encoding: gzip, deflate, br"
            sock.sendall("".join(f"GET {objects.path(SIZE, n)} {head}\r\n\r\n" for n in some).encode())
            for number in some:
                while file.readline() != b"\r\n":
                    pass
                if file.read(SIZE) != objects.body(SIZE, number):
                    raise RuntimeError(f"object {number} is not what the origin gives")


def load(edge: Edge, options: argparse.Namespace, seconds: float) -> Latencies:
    """Put the load on the edge for so long."""
    arguments = [str(edge.port), str(options.rate), str(seconds), str(HOT_URLS)]
    done = subprocess.run(
        [sys.executable, str(HERE / "load.py"), *arguments],
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {edge.load_cpu}),
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    found: Latencies = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def operator(edge: Edge, limit: int) -> Iterator[dict[str, int]]:
    """Someone who asks the admin listener all the while; afterwards, what was got."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "scrape.py"), str(edge.admin_port), str(limit)],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, {edge.load_cpu}),
    )
    got: dict[str, int] = {}
    try:
        yield got
    finally:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=10)
    got.update(json.loads(out))
    if not got["pages"]:
        raise RuntimeError("the admin listener gave no page")


def above_idle_ms(found: dict[str, list[Latencies]], percentile: str) -> float:
    """By how much the asked edge was slower: the median of the rounds, each against its own idle."""
    pairs = zip(found["asked"], found["idle"], strict=True)
    return median([(asked[percentile] - idle[percentile]) / 1000 for asked, idle in pairs])


def page(date: str, options: argparse.Namespace, found: dict[str, list[Latencies]], asked: list[dict[str, int]]) -> str:
    """The result for people."""
    names = ("p50", "p99", "p99.9", "max")
    rows = [
        f"| {state} | "
        + " | ".join(f"{median([one[name] for one in found[state]]) / 1000:.2f}" for name in names)
        + " |"
        for state in STATES
    ]
    above = " | ".join(f"{above_idle_ms(found, name):+.2f}" for name in names)
    rounds = [
        f"- {state}: " + "; ".join(" ".join(f"{one[name] / 1000:.2f}" for name in names) for one in found[state])
        for state in STATES
    ]
    seconds = options.seconds * options.rounds
    rates = {name: sum(one[name] for one in asked) / seconds for name in ("scrapes", "pages", "listed")}
    return "\n".join(
        [
            f"# Hits while the admin listener works, {date}",
            "",
            f"**99th percentile {above_idle_ms(found, 'p99'):+.2f} ms against idle** (at most {LIMIT_MS:g} ms).",
            "",
            "| ms | " + " | ".join(names) + " |",
            "|---|" + "---:|" * len(names),
            *rows,
            f"| above idle | {above} |",
            "",
            f"{options.rate} hits a second of {SIZE} bytes, {options.stored} stored responses; "
            f"medians of {options.rounds} rounds of {options.seconds:g} s in each state.",
            "",
            f"Asked meanwhile, each second: {rates['scrapes']:.0f} times /metrics, {rates['pages']:.0f} pages of "
            f"{options.limit} from /objects ({rates['listed']:.0f} stored responses listed).",
            "",
            "Rounds, as in the table:",
            "",
            *rounds,
            "",
            *[f"- {name}: {value}" for name, value in machine().items() if name not in ("nginx", "strace", "compiler")],
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
