"""Measure what a cache hit costs, against nginx: `make bench`, or `python bench/hit/run.py --help`.

The order of a run: start the origin and all servers; prime each and compare every body; load each once,
unmeasured; then the rounds, in each of which every server takes its turn, in alternating order; then the
system calls.
Not here: how servers are started (servers.py), what is measured (measure.py), the page (report.py).
"""

import argparse
import contextlib
import datetime
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.hit import objects
from bench.hit.measure import (
    STRACE,
    Case,
    Load,
    Sample,
    compile_load,
    origin_count,
    prime,
    sample,
    system_calls,
)
from bench.hit.report import Results, document, page, table
from bench.hit.servers import HERE, Server, available, origin, running

SERVERS: Final = ("nginx", "nginx_open_file_cache", "banish", "bare")
CASES: Final = tuple(Case(size, fields) for size in objects.SIZES for fields in (True, False))
WARM_UP_S: Final = 1.0


def main() -> int:
    """Run; returns the exit status."""
    options = _options()
    if reason := _cannot_run():
        print(f"bench/hit cannot run here: {reason}")
        return 2
    results = measure(options)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    print(page(date, results))
    if options.results is not None:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / f"{date}.md").write_text(page(date, results))
        (options.results / f"{date}.json").write_text(document(date, results))
        print(f"written to {options.results}/{date}.md and .json")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default=",".join(SERVERS), help="which, separated by commas (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.5, help="length of one measurement (%(default)s)")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--urls", type=int, default=1000, help="objects of each size (%(default)s)")
    parser.add_argument("--traced", type=int, default=5000, help="requests under strace (%(default)s); 0: none")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="directory of the result files")
    parser.add_argument("--smoke", action="store_true", help="the smallest run that goes everywhere; writes no files")
    options = parser.parse_args()
    options.warm_up_s = WARM_UP_S
    if options.smoke:
        options.rounds, options.seconds, options.connections = 1, 0.1, 4
        options.urls, options.traced, options.results, options.warm_up_s = 20, 100, None, 0.1
    return options


def _cannot_run() -> str | None:
    if not sys.platform.startswith("linux"):
        return "it needs Linux (epoll, /proc, processor affinity)"
    if shutil.which("cc") is None:
        return "the load generator needs a C compiler called cc"
    return None


def measure(options: argparse.Namespace) -> Results:
    """The whole measurement."""
    server_cpu, load_cpu = _two_cpus()
    names = available(options.servers.split(","))
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-hit-")))
        scratch.chmod(0o755)  # nginx's worker gives up root
        load = Load(compile_load(scratch), load_cpu, options.connections, options.urls)
        origin_port = stack.enter_context(origin(load_cpu, scratch))
        servers = [
            stack.enter_context(running(name, server_cpu, origin_port, options.urls, scratch / name)) for name in names
        ]
        for server in servers:
            prime(server, options.urls)
        fetched = origin_count(origin_port)
        samples = _rounds(load, servers, options)
        calls = _trace(load, servers, options, scratch)
        if origin_count(origin_port) != fetched:
            raise RuntimeError("the origin was asked during the measurement: not all were hits")
    return Results(_method(options, server_cpu, load_cpu), samples, calls)


def _two_cpus() -> tuple[int, int]:
    """One CPU for the servers and one for the load."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) == 1:
        print("only one CPU here: server and load share it, hits/s and latency say little")
    return cpus[0], cpus[-1]


def _rounds(load: Load, servers: list[Server], options: argparse.Namespace) -> dict[Case, dict[str, list[Sample]]]:
    samples: dict[Case, dict[str, list[Sample]]] = {case: {s.name: [] for s in servers} for case in CASES}
    for server in servers:
        for case in CASES:
            load.run(server, case, seconds=options.warm_up_s)
    for number in range(options.rounds):
        for case in CASES:
            for server in servers if number % 2 == 0 else reversed(servers):
                samples[case][server.name].append(sample(load, server, case, options.seconds))
        if options.rounds > 1:
            print(f"round {number + 1} of {options.rounds}\n\n{table(samples[CASES[0]])}\n", flush=True)
    return samples


def _trace(
    load: Load, servers: list[Server], options: argparse.Namespace, scratch: Path
) -> dict[Case, dict[str, dict[str, float]]]:
    if not options.traced:
        return {}
    if STRACE is None:
        print("strace is not installed: system calls are not counted (Debian: apt install strace)")
        return {}
    found: dict[Case, dict[str, dict[str, float]]] = {}
    for case in CASES:
        if case.fields:
            counted = {s.name: system_calls(load, s, case, options.traced, scratch) for s in servers}
            found[case] = {name: calls for name, calls in counted.items() if calls is not None}
    return found


def _method(options: argparse.Namespace, server_cpu: int, load_cpu: int) -> dict[str, str]:
    return {
        "command": f"python bench/hit/run.py {' '.join(sys.argv[1:])}".strip(),
        "rounds": f"{options.rounds} of {options.seconds} s for each server and case, order alternating",
        "load": f"closed loop of {options.connections} keep-alive connections over {options.urls} URLs",
        "pinned": f"servers to CPU {server_cpu}, load and origin to CPU {load_cpu}",
    }


if __name__ == "__main__":
    sys.exit(main())
