"""Simulated meshes, seed after seed, on all cores; or one seed again.

    python -m tests.simulation.run                       SIM_S seconds (300) of seeds never tried before
    python -m tests.simulation.run --seed 17             that run again, told step by step if it fails
    python -m tests.simulation.run --break NAME          a core without one of its guarantees (`breakages.py`)

It stops at the first failure, and says with which command to see it again.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import sys
import time
import traceback
from collections import Counter

from tests.simulation.breakages import BREAKAGES
from tests.simulation.judge import Wrong
from tests.simulation.world import play

SECONDS = 300.0
TOLD_EVERY_S = 10.0
RUNS_PER_WORKER = 200
STORY_LINES = 150

NO_RANDOM_HASHES = "0"
"""What PYTHONHASHSEED has to be: the order of sets must be the same when a run is played again."""


def main() -> int:
    """0 if nothing was found, 1 if something was."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SIM_S", SECONDS)), help="for how long")
    parser.add_argument("--seed", type=int, help="play this seed alone, and tell what happens")
    parser.add_argument("--from", dest="first", type=int, help="the first seed (default: never the same)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--break", dest="broken", choices=BREAKAGES, help="take this guarantee out of the core first")
    given = parser.parse_args()
    with BREAKAGES[given.broken].broken() if given.broken else contextlib.nullcontext():
        if given.seed is not None:
            return _again(given.seed)
        return _many(given)


def _again(seed: int) -> int:
    world, wrong = play(seed, trace=True)
    print("\n".join(world.story if wrong is None else world.story[-STORY_LINES:]))
    if isinstance(wrong, Wrong):
        print(f"seed {seed}, at {world.now:.3f} s: {wrong}")
    elif wrong is not None:
        traceback.print_exception(wrong)
    return int(wrong is not None)


def _many(given: argparse.Namespace) -> int:
    first = given.first if given.first is not None else random.SystemRandom().randrange(1 << 40)
    began = told = time.monotonic()
    runs = steps = judged = 0
    happened = Counter[str]()
    print(f"seeds from {first} on for {given.seconds:.0f} s, {given.workers} at once", flush=True)
    with multiprocessing.get_context("fork").Pool(given.workers, maxtasksperchild=RUNS_PER_WORKER) as pool:
        for seed, wrong, found in pool.imap_unordered(_played, range(first, first + 10_000_000)):
            runs, steps, judged = runs + 1, steps + found.pop("steps"), judged + found.pop("judged")
            happened.update(found)
            if wrong:
                broken = f" --break {given.broken}" if given.broken else ""
                print(f"seed {seed}: {wrong}\nagain: python -m tests.simulation.run --seed {seed}{broken}")
                return 1
            now = time.monotonic()
            if now - began > given.seconds:
                break
            if now - told > TOLD_EVERY_S:
                told = now
                print(f"{runs:7} runs, {steps / (now - began):.0f} steps a second", flush=True)
        pool.terminate()
    print("\n".join(f"{count:9} {what}" for what, count in happened.most_common()))
    print(f"{runs} runs, {steps} steps, {judged} answers judged in {time.monotonic() - began:.0f} s: nothing found")
    return 0


def _played(seed: int) -> tuple[int, str, dict[str, int]]:
    world, wrong = play(seed)
    told = "" if wrong is None else f"{type(wrong).__name__}: {wrong}"
    return seed, told, {**world.happened, "steps": world.timeline.steps, "judged": world.judge.judged}


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != NO_RANDOM_HASHES:
        again = [sys.executable, "-m", "tests.simulation.run", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": NO_RANDOM_HASHES})
    sys.exit(main())
