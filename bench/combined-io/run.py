"""Measure what large runs with read-ahead, and sendfile, save over reading a page at a time and writing it.

    python bench/combined-io/run.py            # about two minutes
    python bench/combined-io/run.py --smoke    # everything once, a few seconds, no result file

Not here: reading alone (reading.py), whole servers (serving.py), the edge's other ways (edge.py).
"""

import argparse
import contextlib
import datetime
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import reading
import serving
from bench.hit.report import machine
from bench.hit.servers import NGINX
from reading import Reading
from serving import Objects, Running

HERE: Final = Path(__file__).resolve().parent
STATES: Final = ("cold", "warm")
YARDSTICKS: Final = ("pages", "nginx")

T = TypeVar("T")
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


def turns(members: list[T], number: int) -> list[T]:
    """The members in their order, the other way round in every other round."""
    return members if number % 2 == 0 else members[::-1]


def times(samples: list[Reading], of: list[Reading], figure: str) -> float:
    """The median of a figure over the same one of another way, round by round."""
    at = Reading._fields.index(figure)
    return median(one[at] / other[at] for one, other in zip(samples, of, strict=True))


def page(date: str, options: argparse.Namespace, alone: Samples, served: Samples, first: dict[str, Reading]) -> str:
    """The result for people."""
    facts = [f"{name}: {value}" for name, value in machine().items() if name in _WANTED]
    facts.append(f"{options.rounds} rounds; {options.objects} bodies of {options.mib} MiB for each pass")
    lines = [f"# Large bodies from disk to client, {date}", "", "Method: [README](../README.md).", ""]
    lines += [f"- {fact}" for fact in facts]
    yardsticks = tuple(name for name in YARDSTICKS if name in first)
    for state in STATES:
        lines += ["", f"## From file to client, {state}", "", *_table(served[state], yardsticks)]
    lines += ["", "## The first pass after the start: chunks are verified as they are read", ""]
    lines += ["Page cache warm; one pass each.", "", *_table({name: [one] for name, one in first.items()}, yardsticks)]
    for state in STATES:
        lines += ["", f"## Reading alone, {state}", "", *_table(alone[state], [next(iter(reading.WAYS))])]
    return "\n".join(lines) + "\n"


_WANTED: Final = ("CPU", "system", "TCP congestion control", "Python", "nginx", "commit", "load average at the end")


def _table(rows: dict[str, list[Reading]], yardsticks: Sequence[str]) -> list[str]:
    heads = ["way", "CPU µs a MiB", *[f"× {name}" for name in yardsticks], "MiB/s"]
    heads += [*[f"× {name}" for name in yardsticks], "device reads a MiB", "KiB each"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for way, samples in rows.items():
        cpu, wall, requests, each = (median(one[at] for one in samples) for at in range(len(Reading._fields)))
        cells = [f"{cpu:,.0f}", *[f"{times(samples, rows[name], 'cpu_us'):.2f}" for name in yardsticks]]
        cells += [f"{1e6 / wall:,.0f}", *[f"{times(rows[name], samples, 'wall_us'):.2f}" for name in yardsticks]]
        cells += [f"{requests:.1f}", f"{each:.0f}"] if requests >= 0.05 else ["", ""]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
