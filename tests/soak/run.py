"""Seed after seed, until something fails or the time is over.

    python -m tests.soak.run                              five minutes, both loops in turn
    python -m tests.soak.run --seed 17 --loop asyncio     that one run

A failure shows the seed, the command that plays it again, and what happened to the URL concerned.
"""

import argparse
import itertools
import random
import sys
import time
from collections import Counter

from tests.soak.scene import draw_run, soak
from tests.soak.world import World

LOOPS = ("uvloop", "asyncio")
PROBLEMS_SHOWN = 5


def main() -> int:
    """0 if nothing was found, 1 if something was."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, help="play this seed alone, or begin with it if --seconds is given")
    parser.add_argument("--seconds", type=float, help="how long to go on (default: 300)")
    parser.add_argument("--loop", choices=LOOPS, help="one event loop alone (default: both, in turn)")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    given = parser.parse_args()
    alone = given.seed is not None and given.seconds is None
    ends = time.monotonic() + (given.seconds or 300.0)
    outcomes: Counter[str] = Counter()
    failed: list[str] = []
    for number, seed in enumerate(itertools.count(random.randrange(1 << 30) if given.seed is None else given.seed)):
        loops = [given.loop] if given.loop else [*LOOPS] if alone else [LOOPS[number % 2]]
        for loop in loops:
            world = soak(draw_run(seed), loop=loop)
            outcomes.update(world.outcomes)
            print(
                f"seed {seed:10} {loop:8} {sum(world.outcomes.values()):5} responses, {len(world.problems)} problems",
                flush=True,
            )
            if world.problems:
                failed.append(f"python -m tests.soak.run --seed {seed} --loop {loop}")
                _show(world, failed[-1])
        if alone or time.monotonic() > ends or (failed and not given.keep_going):
            break
    print("\n".join(f"{count:8} {kind}" for kind, count in sorted(outcomes.items())))
    print("\n".join(["failed:", *failed]) if failed else "nothing found")
    return 1 if failed else 0


def _show(world: World, command: str) -> None:
    """What was found, with what led up to the first of each kind."""
    kinds: set[tuple[str, str | None]] = set()
    for problem in world.problems:
        kind = (problem.what[:20], problem.path)
        if kind in kinds or len(kinds) >= PROBLEMS_SHOWN:
            continue
        kinds.add(kind)
        print(f"\n  {problem.path or ''}: {problem.what[:1500]}\n  again: {command}")
        print("\n".join(f"    {line[:300]}" for line in world.trace(problem)))


if __name__ == "__main__":
    sys.exit(main())
