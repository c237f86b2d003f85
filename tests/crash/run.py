"""Crash an edge, over and over, in every way there is.

    python -m tests.crash.run                                    300 crashes, of all kinds in turn
    python -m tests.crash.run --kinds kill,power --crashes 100   of these
    python -m tests.crash.run --kinds kill --seed 17 --rounds 8  that one scene

The seed decides on purges, content, and what happens when; the instants of a crash are as exact as sleeping is, so a
replay meets the same purges and the same kinds of moments, not the very same ones. A failure shows the seed and what
happened to the URL concerned.
"""

import argparse
import itertools
import math
import random
import sys
import time
from collections import Counter

import pytest

from tests.crash.disks import Unavailable
from tests.crash.kinds import KINDS, Kind
from tests.crash.load import CLIENTS, Load
from tests.crash.scene import Scene
from tests.crash.world import World

ROUNDS = 8
"""Crashes of one scene, on one data directory."""
WEIGHTS = {"kill": 6, "power": 4, "forget": 3, "power-xfs": 2}
"""How many scenes of a kind in one turn; others one."""
EXPECTED_MIN = 50
"""Responses of which a share can be told."""


def main() -> int:
    """0 if nothing was found, 1 if something was."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--kinds", default=",".join(KINDS), help="which, separated by commas (default: all)")
    parser.add_argument("--crashes", type=int, help="how many in all (default: 300)")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="crashes of one data directory (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, help="play this seed alone, or begin with it if --crashes is given")
    parser.add_argument("--broken", default="", help="break the edge, to see it found out: broken.py says how")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no scene after that long")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    given = parser.parse_args()
    names = given.kinds.split(",")
    alone = given.seed is not None and given.crashes is None
    crashes = given.crashes or (given.rounds if alone else 300)
    totals: dict[str, Counter[str]] = {name: Counter() for name in names}
    failed: list[str] = []
    turns = itertools.cycle([name for name in names for _ in range(WEIGHTS.get(name, 1) if len(names) > 1 else 1)])
    seed = random.randrange(1 << 30) if given.seed is None else given.seed
    left, ends = crashes, time.monotonic() + given.seconds
    while left > 0 and time.monotonic() < ends and not (failed and not given.keep_going):
        name = next(turns)
        command = f"python -m tests.crash.run --kinds {name} --rounds {given.rounds} --seed {seed}"
        began = time.monotonic()
        try:
            world = play(KINDS[name](), seed, min(given.rounds, left), broken=given.broken)
        except (Unavailable, pytest.skip.Exception) as error:
            print(f"{name:10} cannot be had here: {error}", flush=True)
            turns = itertools.cycle([one for one in dict.fromkeys(names) if one != name])
            names = [one for one in names if one != name]
            if not names:
                break
            continue
        left -= min(given.rounds, left)
        totals[name].update(world.counts)
        took, counts = time.monotonic() - began, world.counts
        print(
            f"{name:10} seed {seed:10} {counts['rounds']:3} crashes {counts['answers']:7} answers"
            f" {counts['purges acknowledged']:6} purges, warm {counts['warm hits']}/{counts['warm hits expected']},"
            f" {len(world.problems)} problems, {took:.0f} s",
            flush=True,
        )
        if world.problems:
            failed.append(command)
            print(
                "\n".join(f"\n  {problem[:8000]}" for problem in world.problems[:3]),
                f"\n  again: {command}",
                flush=True,
            )
        seed += 1
    print(table(totals))
    print("\n".join(["failed:", *failed]) if failed else "nothing found")
    return 1 if failed else 0


def play(kind: Kind, seed: int, rounds: int, *, broken: str = "", clients: int = CLIENTS) -> World:
    """One scene; what was found is in its world. It ends with the round in which a problem was."""
    world = World(seed)
    with kind.disk() as disk, Load(world, clients=clients, lenient=kind.lenient) as load:
        scene = Scene(world, load, disk, module=kind.module, broken=broken)
        try:
            for _ in range(rounds):
                scene.start()
                kind.round(scene)
                world.counts["rounds"] += 1
                scene.inspect(allowed=kind.allowed, complete=kind.complete)
                if not kind.complete:
                    world.acknowledged.clear()
                if world.problems:
                    break
            scene.start()
            scene.read_back()
            scene.stop()
            scene.inspect(allowed=kind.allowed, complete=True)
        except Exception as error:
            said = scene.edge.err.all[-10:] if scene.edge is not None else []
            world.problem(f"{kind.name}: {error!r}; the edge said {said}")
        finally:
            scene.close()
        _judge(kind, scene)
    return world


def _judge(kind: Kind, scene: Scene) -> None:
    world = scene.world
    for why, count in scene.emptied.items():
        world.counts[f"emptied: {why}"] += count
    if scene.emptied and not kind.empties:
        world.problem(f"the store was emptied without cause: {dict(scene.emptied)}")
    expected, warm = world.counts["warm hits expected"], world.counts["warm hits"]
    if expected >= EXPECTED_MIN and warm < kind.warm_share_min * expected:
        world.problem(f"of {expected} responses that should have outlived the crashes {warm} did")


def table(totals: dict[str, Counter[str]]) -> str:
    """All counts, kind by kind."""
    lines = []
    for name, counts in totals.items():
        if counts:
            told = ", ".join(f"{what} {count:,}" for what, count in sorted(counts.items()) if count)
            lines.append(f"- {name}: {told}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
