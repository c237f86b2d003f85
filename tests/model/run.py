"""A million steps of the model, seed after seed, on all cores; or one seed again.

    python -m tests.model.run                            MODEL_STEPS steps (1 000 000) from seeds never tried before
    python -m tests.model.run --seed 17                  that run again, with its story if it fails
    python -m tests.model.run --seed 17 --shorten        and made as short as can be
    python -m tests.model.run --break NAME               an edge without one of its guarantees (`breakages.py`)

It stops at the first failure, and says with which command to see it again.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import sys
import time
from collections import Counter

from tests.model.breakages import BREAKAGES
from tests.model.driver import STEPS_PER_RUN, Run, run_seed, shortened

STEPS = 1_000_000

RUNS_PER_WORKER = 200
"""Runs after which a process is replaced by a fresh one."""

TOLD_EVERY_S = 10.0

NO_RANDOM_HASHES = "0"
"""What PYTHONHASHSEED has to be: the order of sets must be the same when a run is played again."""


def main() -> int:
    """0 if nothing was found, 1 if something was."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=int(os.environ.get("MODEL_STEPS", STEPS)), help="how many in all")
    parser.add_argument("--seed", type=int, help="play this seed alone")
    parser.add_argument("--from", dest="first", type=int, help="the first seed (default: never the same)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--break", dest="broken", choices=BREAKAGES, help="take this guarantee out of the edge first")
    parser.add_argument("--shorten", action="store_true", help="leave out what a failure does not need")
    given = parser.parse_args()
    with BREAKAGES[given.broken].broken() if given.broken else contextlib.nullcontext():
        if given.seed is not None:
            return _again(run_seed(given.seed), shorten=given.shorten)
        return _many(given)


def _again(run: Run, *, shorten: bool) -> int:
    if run.wrong is not None and shorten:
        run = shortened(run)
    print(run.story)
    return 1 if run.wrong is not None else 0


def _many(given: argparse.Namespace) -> int:
    first = given.first if given.first is not None else random.SystemRandom().randrange(1 << 40)
    runs = -(-given.steps // STEPS_PER_RUN)
    began = told = time.monotonic()
    steps, counts = 0, Counter[str]()
    print(f"{given.steps} steps in {runs} runs from seed {first} on, {given.workers} at once", flush=True)
    with multiprocessing.get_context("fork").Pool(given.workers, maxtasksperchild=RUNS_PER_WORKER) as pool:
        for run in pool.imap_unordered(_played, range(first, first + runs), chunksize=1):
            steps += run.steps
            counts.update(run.counts)
            if run.wrong is not None:
                print(f"seed {run.seed}: {run.wrong}")
                more = f" --break {given.broken}" if given.broken else ""
                print(f"again: python -m tests.model.run --seed {run.seed}{more} --shorten")
                return 1
            if time.monotonic() - told > TOLD_EVERY_S:
                told = time.monotonic()
                print(f"{steps:9} steps, {steps / (told - began):.0f} a second", flush=True)
    seconds = time.monotonic() - began
    print("\n".join(f"{count:9} {what}" for what, count in counts.most_common()))
    print(f"{steps} steps in {seconds:.0f} s, {steps / seconds:.0f} a second: nothing found")
    return 0


def _played(seed: int) -> Run:
    run = run_seed(seed)
    run.trace.clear()  # it can be played again
    run.taken.clear()
    return run


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != NO_RANDOM_HASHES:
        again = [sys.executable, "-m", "tests.model.run", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": NO_RANDOM_HASHES})
    sys.exit(main())
