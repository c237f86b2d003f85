"""The race: clients, purger and a slow origin at full speed. Is anything older than the last acknowledged purge seen?

    python bench/purge/race.py                         # banish for 300 s, then killed now and then, then the others
    python bench/purge/race.py --systems banish --seconds 3 --results -

The exit status is 1 if banish answered anything stale, torn, or with the wrong variant. Not here: the rules of the race
(racers.py), how systems are started and purged (systems.py).
"""

import argparse
import contextlib
import datetime
import json
import multiprocessing
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import uvloop

from bench.hit.report import machine
from bench.hit.servers import free_port
from bench.purge.racers import Sighting, Tally, World, kills, make_world, run_clients, run_purger, serve_origin
from bench.purge.systems import SYSTEMS, Banish, System, available, versions, wait_until_listening

HERE: Final = Path(__file__).resolve().parent
RUNS: Final = {
    "banish": "banish",
    "banish_killed": "banish",
    "varnish_xkey": "varnish_xkey",
    "varnish_bans": "varnish_bans",
    "nginx": "nginx",
}
"""Race → the system that takes part."""

TIGHT: Final = (
    "memory.budget_bytes=1MiB",
    "memory.body_memory_bytes=64KiB",
    "purge.stamp_min_age_s=2",
    "purge.undo_window_s=1",
)
"""Little memory, so that much comes from disk, and stamps forgotten soon: what is tight breaks."""

FAULTS: Final = ("stale after acknowledgement", "torn", "wrong variant", "unexpected losses", "refused")
WHAT_MATTERS: Final = ("requests", "hits", "old, but before the acknowledgement", *FAULTS[:3])

RESULTS_S_MAX: Final = 60.0

_fork = multiprocessing.get_context("fork")


def main() -> int:
    """Run; returns the exit status."""
    options = _options()
    if not sys.platform.startswith("linux"):
        print("bench/purge/race.py needs Linux (epoll)")
        return 2
    names = [name for name in options.systems.split(",") if available([RUNS[name]])]
    found = earlier(options)
    for name in names:
        found[name] = race(name, options)
        print(name, json.dumps(found[name], indent=1), flush=True)
        write(options, {name: found[name] for name in RUNS if name in found})
    ours = [found[name] for name in names if name.startswith("banish")]
    return int(any(one[fault] for one in ours for fault in FAULTS))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default=",".join(RUNS), help="which, separated by commas (%(default)s)")
    parser.add_argument("--seconds", type=float, default=300, help="length of each race (%(default)s)")
    parser.add_argument("--urls", type=int, default=240)
    parser.add_argument("--clients", type=int, default=2, help="processes that ask (%(default)s)")
    parser.add_argument("--connections", type=int, default=48, help="of each client process (%(default)s)")
    parser.add_argument("--purgers", type=int, default=2, help="purges at a time (%(default)s)")
    parser.add_argument("--pause-ms", type=float, default=10, help="mean pause between two purges (%(default)s)")
    parser.add_argument("--slowness", type=float, default=1, help="of the origin (%(default)s)")
    parser.add_argument("--kill-every", type=float, default=10, help="seconds, in banish_killed (%(default)s)")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--results", default=str(HERE / "results"), help='directory of the result files, or "-"')
    return parser.parse_args()


def race(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One race; what was counted."""
    seed = options.seed if options.seed is not None else random.randrange(1 << 30)
    killed = name.endswith("_killed")
    world = make_world(options.urls, vary=name.startswith("banish"))
    origin_port = free_port()
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-race-", dir="/var/tmp"))
        Path(base).chmod(0o755)
        system = _system(name, Path(base) / "data", origin_port)
        stack.callback(system.stop)
        origin = _process(lambda: serve_origin(world, origin_port, options.slowness))
        system.start()
        results = _fork.Queue()
        for number in range(options.clients):
            args = (world, system.port, system.hit, options.connections, seed + number, killed)
            _fork.Process(target=lambda *args: results.put(run_clients(*args)), args=args, daemon=True).start()
        _process(lambda: _purged(world, system, options, seed, killed, results))
        began = time.monotonic()
        restarts = _wait(world, system, options, killed, seed)
        seconds = time.monotonic() - began
        world.running.value = 0
        tallies, purges = [], Counter[str]()
        for _ in range(options.clients + 1):
            got = results.get(timeout=RESULTS_S_MAX)  # raises if one of them has died
            if isinstance(got, Tally):
                tallies.append(got)
            else:
                purges = got
        origin.join(10)
        system.stop()
        said = (Path(base) / f"{system.name}.log").read_text()
    return {**_summed(seed, seconds, tallies, purges, restarts), "said": complaints(said)}


def complaints(said: str) -> dict[str, int]:
    """What an edge's own log warned of: events and reasons, and how often each."""
    counts: Counter[str] = Counter()
    for line in said.splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if entry["level"] not in ("info", "debug"):
                what = [str(entry[name]) for name in ("event", "code", "reason") if name in entry]
                counts[" | ".join(what)[:300]] += 1
    return dict(counts.most_common(20))


def write(options: argparse.Namespace, found: dict[str, dict[str, Any]]) -> None:
    """What was found so far, for people and for programs."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = page(date, options, found)
    print(text, flush=True)
    if options.results != "-":
        results = Path(options.results)
        (results / f"{date}-race.md").write_text(text)
        (results / f"{date}-race.json").write_text(json.dumps({"machine": machine(), "races": found}, indent=1) + "\n")


def earlier(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What other races of the same day have found: a page holds them all."""
    if options.results == "-":
        return {}
    with contextlib.suppress(FileNotFoundError):
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        found: dict[str, dict[str, Any]] = json.loads((Path(options.results) / f"{date}-race.json").read_text())[
            "races"
        ]
        return found
    return {}


def _system(name: str, data: Path, origin_port: int) -> System:
    if name.startswith("banish"):
        return Banish(data, origin_port, settings=TIGHT)
    return SYSTEMS[RUNS[name]](data, origin_port)


def _process(work: Callable[[], Any]) -> Any:
    """A coroutine function in a process of its own."""
    process = _fork.Process(target=lambda: uvloop.run(work()), daemon=True)
    process.start()
    return process


async def _purged(
    world: World, system: System, options: argparse.Namespace, seed: int, killed: bool, results: Any
) -> None:
    results.put(await run_purger(world, system, options.purgers, options.pause_ms / 1000, seed, killed))


def _wait(world: World, system: System, options: argparse.Namespace, killed: bool, seed: int) -> int:
    """Wait for the end; kill the system now and then if asked to. How often it was started again."""
    end = time.monotonic() + options.seconds
    if not killed:
        time.sleep(options.seconds)
        return 0
    restarts = 0
    for pause_s in kills(world, options.kill_every, random.Random(seed)):
        time.sleep(min(pause_s, max(0.0, end - time.monotonic())))
        if time.monotonic() >= end:
            break
        system.kill()
        system.launch()
        wait_until_listening(system)
        restarts += 1
    return restarts


def _summed(seed: int, seconds: float, tallies: list[Tally], purges: Counter[str], restarts: int) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for tally in tallies:
        counts.update(tally.counts)
    stale = [sighting for tally in tallies for sighting in tally.stale]
    return {
        **{name: counts[name] for name in WHAT_MATTERS},
        **{name: counts[name] + purges[name] for name in FAULTS},
        "worst_s": max([tally.worst_s for tally in tallies]),
        "worst_versions": max([tally.worst_versions for tally in tallies]),
        "purges": sum(count for name, count in purges.items() if name.startswith("purged ")),
        "by_kind": {
            name.removeprefix("purged "): n for name, n in sorted(purges.items()) if name.startswith("purged ")
        },
        "URLs changed": purges["URLs changed"],
        "restarts": restarts,
        "other": {
            name: count
            for name, count in sorted((counts + purges).items())
            if not name.startswith("purged ") and name not in (*WHAT_MATTERS, *FAULTS, "URLs changed")
        },
        "seconds": round(seconds, 1),
        "seed": seed,
        "stale_examples": [_told(sighting) for sighting in stale[:5]],
    }


def _told(sighting: Sighting) -> dict[str, Any]:
    return {**sighting._asdict(), "head": sighting.head.split("\r\n")}


def page(date: str, options: argparse.Namespace, found: dict[str, dict[str, Any]]) -> str:
    """The result for people."""
    head = ["", "seconds", "requests", "hits", "purges", "URLs changed", "kills", "**stale after acknowledgement**"]
    head += ["of a million", "latest s after", "most versions behind", "torn, wrong variant"]
    rows = []
    for name, one in found.items():
        stale = one["stale after acknowledgement"]
        cells = [name, f"{one['seconds']:.0f}", f"{one['requests']:,}", f"{one['hits'] / max(1, one['requests']):.0%}"]
        cells += [f"{one['purges']:,}", f"{one['URLs changed']:,}", f"{one['restarts']}", f"**{stale:,}**"]
        cells += [f"{1e6 * stale / max(1, one['requests']):,.1f}", f"{one['worst_s']:.2f}" if stale else ""]
        cells += [f"{one['worst_versions']}" if stale else "", f"{one['torn'] + one['wrong variant']}"]
        rows.append("| " + " | ".join(cells) + " |")
    kinds = [
        f"- {name}: " + ", ".join(f"{kind} {n:,}" for kind, n in one["by_kind"].items()) for name, one in found.items()
    ]
    other = [
        f"- {name}: " + ", ".join(f"{what} {n:,}" for what, n in one["other"].items()) for name, one in found.items()
    ]
    return "\n".join(
        [
            f"# The race, {date}",
            "",
            "Method: [README](../README.md#the-race). Stale after acknowledgement: a request that was begun after a",
            "purge was acknowledged, and was answered with what the origin had before the purge.",
            "",
            "| " + " | ".join(head) + " |",
            "|---|" + "---:|" * (len(head) - 1),
            *rows,
            "",
            "Purges by kind:",
            "",
            *kinds,
            "",
            "What else was counted:",
            "",
            *other,
            "",
            f"{options.urls} URLs, {options.clients} × {options.connections} connections, {options.purgers} purges at a"
            f" time with a mean pause of {options.pause_ms:g} ms. banish runs with {', '.join(TIGHT)}.",
            "",
            *[f"- {name}: {value}" for name, value in {**machine(), **versions()}.items() if name not in _UNWANTED],
            "",
        ]
    )


_UNWANTED: Final = ("strace", "compiler", "TCP congestion control")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        sys.exit(main())
