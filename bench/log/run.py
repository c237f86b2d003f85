"""Measure how long a purge waits for the log, how many targets the log takes, and what that costs in CPU.

    python bench/log/run.py            # about four minutes
    python bench/log/run.py --smoke    # everything once, a few seconds, no result file

The exit status is 1 if any file system took fewer than TARGETS_PER_S. Not here: the cases (cases.py), file systems
(disks.py).
"""

import argparse
import asyncio
import datetime
import math
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import uvloop

from banish.store.identity import Identity
from bench.hit.report import machine
from bench.log.cases import BATCH, CASES, Case, Prepared, Sample, measure, prepare
from bench.log.disks import disks

HERE: Final = Path(__file__).resolve().parent
TARGETS_PER_S: Final = 10_000
"""What one edge has to take, in batches."""

Found = dict[str, dict[str, list[Sample]]]
"""File system → case → one sample a round."""


def main() -> int:
    """Run; returns the exit status."""
    options = _options()
    if not sys.platform.startswith("linux"):
        print("bench/log needs Linux (CPU clocks of threads, loop devices)")
        return 2
    identity = Identity.open(None)
    identity.next_epoch()
    prepared = {targets: prepare(identity, targets) for targets in {case.targets for case in CASES}}
    with (
        tempfile.TemporaryDirectory(prefix="bench-log-", dir=options.directory) as base,
        disks(Path(base), loops=not options.no_loops) as (places, missing),
    ):
        found = rounds(places, prepared, options)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = page(date, options, found, missing, prepared)
    print(text)
    if options.results is not None:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / f"{date}.md").write_text(text)
    slowest = min(targets_per_s(of_disk["full"]) for of_disk in found.values())
    return 0 if options.smoke else int(slowest < TARGETS_PER_S)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="length of one measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where files go (%(default)s)")
    parser.add_argument("--no-loops", action="store_true", help="no file systems but the one that is there")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="directory of the result files")
    parser.add_argument("--smoke", action="store_true", help="the smallest run that goes everywhere; writes no file")
    options = parser.parse_args()
    if options.smoke:
        options.seconds, options.rounds, options.results, options.no_loops = 0.1, 1, None, True
    return options


def rounds(places: dict[str, Path], prepared: dict[int, Prepared], options: argparse.Namespace) -> Found:
    """Every case on every file system, in turns."""
    found: Found = {name: {case.name: [] for case in CASES} for name in places}
    for number in range(options.rounds):
        for name, place in places.items():
            for case in CASES if number % 2 == 0 else reversed(CASES):
                scratch = place / "scratch"
                scratch.mkdir()
                one = measure(case, scratch, prepared[case.targets], options.seconds)
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    found[name][case.name].append(runner.run(one))
                shutil.rmtree(scratch)
                subprocess.run(["sync", "--file-system", str(place)], check=False)
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of `values`, which are in order, does not exceed."""
    return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def targets_per_s(samples: list[Sample]) -> float:
    """The median of the rounds, for a case of batches."""
    return median(BATCH * len(sample.latencies_s) / sample.seconds for sample in samples)


def page(
    date: str, options: argparse.Namespace, found: Found, missing: list[str], prepared: dict[int, Prepared]
) -> str:
    """The result for people."""
    slowest = min(targets_per_s(of_disk["full"]) for of_disk in found.values())
    lines = [
        f"# The purge log, {date}",
        "",
        f"**{slowest:,.0f} targets a second on the slowest file system** in batches of {BATCH} (at least"
        f" {TARGETS_PER_S:,}).",
        "",
    ]
    for name, of_disk in found.items():
        lines += [f"## {name}", "", *_table(of_disk), ""]
    lines += [
        "Milliseconds from when a record was due to when it was durable, over all rounds; × bare: the median of a round"
        " over that of `bare` in the same round. CPU in microseconds a record: of the call of `append`; of the"
        " event loop's whole thread; of the writer's.",
        "",
        *[f"- `{case.name}`: {case.what}" for case in CASES],
        *[f"- left out: {what}" for what in missing],
        "",
        "Not in these figures: making a record (encoding, hash, Ed25519 signature) takes "
        + " and ".join(
            f"{1e6 * one.encode_cpu_s:.0f} µs of CPU with {targets} target{'s' * (targets > 1)}"
            f" ({len(one.records[-1][0]):,} bytes)"
            for targets, one in sorted(prepared.items())
        )
        + ".",
        "",
        f"{options.rounds} rounds of {options.seconds:g} s for each case on each file system.",
        "",
        f"- SQLite: {sqlite3.sqlite_version}",
        *[f"- {name}: {value}" for name, value in machine().items() if name in _WANTED],
        "",
    ]
    return "\n".join(lines)


_WANTED: Final = ("CPU", "system", "Python", "commit", "load average at the end")


def _table(of_disk: dict[str, list[Sample]]) -> list[str]:
    head = ["case", "records/s", "targets/s", "records a commit", "p50 ms", "p99", "p99.9", "max", "× bare"]
    head += ["append µs", "loop µs", "writer µs"]
    rows = [_row(case, of_disk[case.name], of_disk["bare"]) for case in CASES]
    return ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1), *rows]


def _row(case: Case, samples: list[Sample], bare: list[Sample]) -> str:
    latencies = sorted(value for sample in samples for value in sample.latencies_s)
    per_s = median(len(sample.latencies_s) / sample.seconds for sample in samples)
    times = median(
        median(one.latencies_s) / median(other.latencies_s) for one, other in zip(samples, bare, strict=True)
    )
    cells = [f"{per_s:,.0f}", f"{per_s * case.targets:,.0f}" if case.name != "bare" else ""]
    cells.append(f"{len(latencies) / sum(sample.commits for sample in samples):.1f}" if samples[0].commits else "")
    cells += [f"{1000 * percentile(latencies, share):.2f}" for share in (0.5, 0.99, 0.999, 1.0)]
    cells.append(f"{times:.1f}" if case.name != "bare" else "")
    for part in ("append_cpu_s", "loop_cpu_s", "writer_cpu_s"):
        cost = median(1e6 * float(getattr(sample, part)) / len(sample.latencies_s) for sample in samples)
        cells.append(f"{cost:.0f}" if cost else "")
    return f"| {case.name} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
