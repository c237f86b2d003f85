"""A hundred thousand tier races, seed after seed, on all cores; or those of one seed again.

    python -m tests.tierrace.run                      100 000 races from seeds never tried before
    python -m tests.tierrace.run --seed 17            the races of that seed again, with the story of the one that fails
    python -m tests.tierrace.run --break header       edges without one of their guarantees: has to find something
    python -m tests.tierrace.run --results DIR        and write what was found to a file there

It stops at the first race in which anything stale came back, and says with which command to see it again. The exit
status is 1 then.
"""

import argparse
import contextlib
import datetime
import json
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

from bench.hit.report import machine

from tests.tierrace.race import BREAKAGES, RACES_PER_WORLD, run_world

RACES = 100_000
TOLD_EVERY_S = 10.0
NO_RANDOM_HASHES = "0"
"""What PYTHONHASHSEED has to be: the order of sets must be the same when a race is run again."""


def main() -> int:
    """0 if nothing stale was seen, 1 if something was."""
    parser = argparse.ArgumentParser(prog="python -m tests.tierrace.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--races", type=int, default=RACES, help="how many in all (%(default)s)")
    parser.add_argument("--seed", type=int, help="the races of this seed alone")
    parser.add_argument("--from", dest="first", type=int, help="the first seed (default: never the same)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--break", dest="broken", choices=BREAKAGES, help="take this guarantee out of the edges first")
    parser.add_argument("--results", type=Path, help="directory for a file of what was found")
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != NO_RANDOM_HASHES:
        command = [sys.executable, "-m", "tests.tierrace.run", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": NO_RANDOM_HASHES})
    with BREAKAGES[given.broken]() if given.broken else contextlib.nullcontext():
        if given.seed is not None:
            return _tell(given.seed, given.broken)
        return _many(given)


def _many(given: argparse.Namespace) -> int:
    first = given.first if given.first is not None else random.SystemRandom().randrange(1 << 40)
    worlds = -(-given.races // RACES_PER_WORLD)
    began = told = time.monotonic()
    counts: Counter[str] = Counter()
    print(f"{worlds * RACES_PER_WORLD} races, seeds {first} to {first + worlds - 1}", flush=True)
    with multiprocessing.get_context("fork").Pool(given.workers) as pool:
        for seed, found, stale in pool.imap_unordered(_one, range(first, first + worlds)):
            counts += found
            if stale:
                pool.terminate()
                return _tell(seed, given.broken)
            if time.monotonic() - told > TOLD_EVERY_S:
                told = time.monotonic()
                print(f"{counts['races']} races, {told - began:.0f} s", flush=True)
    took_s = time.monotonic() - began
    print(f"{counts['races']} races in {took_s:.0f} s, nothing stale: {dict(counts.most_common())}")
    if given.results is not None:
        given.results.mkdir(parents=True, exist_ok=True)
        date = datetime.datetime.now(datetime.UTC).date()
        report = {"machine": machine(), "first_seed": first, "took_s": round(took_s, 1), "stale": 0, "counts": counts}
        (given.results / f"{date}-tier-race.json").write_text(json.dumps(report, indent=1) + "\n")
    return 0


def _one(seed: int) -> tuple[int, Counter[str], bool]:
    counts, race, _ = run_world(seed)
    return seed, counts, race is not None


def _tell(seed: int, broken: str | None) -> int:
    _, race, what = run_world(seed)
    if race is None:
        print(f"seed {seed}: nothing stale")
        return 0
    print("\n".join(race.story))
    print(f"STALE: {what}\nagain: python -m tests.tierrace.run --seed {seed}{f' --break {broken}' if broken else ''}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
