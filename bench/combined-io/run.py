"""Measure what large runs with read-ahead, and sendfile, save over reading a page at a time and writing it.

    python bench/combined-io/run.py            # about two minutes
    python bench/combined-io/run.py --smoke    # everything once, a few seconds, no result file

Not here: reading alone (reading.py), whole servers (serving.py), the edge's other ways (edge.py).
"""

import argparse
import contextlib
import datetime
import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import reading
import serving
from reading import Reading
from serving import Objects, Running

from bench.hit.report import machine
from bench.hit.servers import NGINX

HERE: Final = Path(__file__).resolve().parent
STATES: Final = ("cold", "warm")

Samples = dict[str, dict[str, list[Reading]]]
"""State → way → one sample a round."""


def main() -> int:
    """Run; returns the exit status."""
    options = _options()
    if not sys.platform.startswith("linux"):
        print("bench/combined-io needs Linux (posix_fadvise, /proc, /sys)")
        return 2
    with tempfile.TemporaryDirectory(prefix="bench-combined-io-", dir=options.directory) as base:
        Path(base).chmod(0o755)  # nginx's worker gives up root
        alone = read_alone(Path(base), options)
        served, first = serve(Path(base), options)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = page(date, options, alone, served, first)
    print(text)
    if options.results is not None:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / f"{date}.md").write_text(text)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--objects", type=int, default=8, help="bodies asked for, one after the other (%(default)s)")
    parser.add_argument("--mib", type=int, default=32, help="size of each (%(default)s)")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where files go (%(default)s)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="directory of the result files")
    parser.add_argument("--smoke", action="store_true", help="the smallest run that goes everywhere; writes no file")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.objects, options.mib, options.results = 1, 1, 3, None
    return options


def read_alone(base: Path, options: argparse.Namespace) -> Samples:
    """Every way of reading one file, in turns."""
    path = base / "file"
    with path.open("wb") as file:
        for _ in range(options.objects * options.mib):
            file.write(serving.BLOCK)
    found: Samples = {state: {way: [] for way in reading.WAYS} for state in STATES}
    for number in range(options.rounds):
        for way in turns(list(reading.WAYS), number):
            for state in STATES:
                found[state][way].append(reading.measure(path, way, cold=state == "cold"))
    path.unlink()
    return found


def serve(base: Path, options: argparse.Namespace) -> tuple[Samples, dict[str, Reading]]:
    """Every server, in turns; and each one's first pass, in which it verifies what it has."""
    cpus = sorted(os.sched_getaffinity(0))
    serving.pin(cpus[-1])
    names = [name for name in serving.SERVERS if name != "nginx" or NGINX is not None]
    objects = Objects(options.objects, options.mib)
    found: Samples = {state: {name: [] for name in names} for state in STATES}
    first: dict[str, Reading] = {}
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(serving.origin(objects))
        servers: list[Running] = [
            stack.enter_context(serving.running(name, cpus[0], port, objects, base / name)) for name in names
        ]
        for one in servers:
            first[one.server.name] = serving.measure(one, objects, cold=False)
        for number in range(options.rounds):
            for one in turns(servers, number):
                for state in STATES:
                    found[state][one.server.name].append(serving.measure(one, objects, cold=state == "cold"))
        strayed = [one.server.name for one in servers if not serving.went_its_way(one)]
        if strayed:
            raise RuntimeError(f"not in the way that was asked for: {strayed}")
    return found, first


def turns[T](members: list[T], number: int) -> list[T]:
    """The members in their order, the other way round in every other round."""
    return members if number % 2 == 0 else members[::-1]
