"""What a hit costs after many purges that the table still holds: on the fast path, and on the whole pipeline.

Edges that differ in nothing but the number of earlier purges take their turns. Without purges meanwhile, a hit compares
two integers; with purges meanwhile, each response is held against the newest before it is used again.

`recheck` is that comparison alone, in this process: the table asked about a response since the last purge, and since a
thousand purges ago.
"""

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

from banish.caching.stored import Metadata
from banish.http.fields import Fields
from banish.purge.names import Names, names_of
from banish.purge.stamps import PurgeTable
from bench.hit.measure import Case, Load, Sample, compile_load, prime, sample
from bench.hit.servers import origin
from bench.purge import aged, stored
from bench.purge.asking import Admin
from bench.purge.systems import START_S_MAX, Banish, running

HERE: Final = Path(__file__).resolve().parent
WITHIN: Final = 0.05
CONNECTIONS: Final = 32
PURGES_PER_S: Final = 100
LANE: Final = Case(stored.SIZE, True)
PIPELINE: Final = Case(stored.SIZE, True, "Max-Forwards: 10")
"""A field that the fast path leaves to the pipeline, and that means nothing on a GET."""

CASES: Final = {
    "fast path": (LANE, False),
    "pipeline": (PIPELINE, False),
    "fast path, purges meanwhile": (LANE, True),
    "pipeline, purges meanwhile": (PIPELINE, True),
}
LOOKS: Final = 20_000


class AgedEdge(Banish):
    """An edge with earlier purges."""

    def __init__(self, data: Path, origin_port: int, cpu: int, purges: int) -> None:
        super().__init__(data, origin_port, cpu=cpu, settings=("purge.stamp_min_age_s=86400",))
        self.name = f"purges-{purges}"
        self.purges = purges
        self.ready = data.parent / f"ready-{purges}"

    def command(self) -> list[str]:
        _, _, _, *serve = super().command()
        return [sys.executable, str(HERE / "aged.py"), str(self.purges), str(self.ready), *serve]

    def start(self) -> None:
        super().start()
        deadline = time.monotonic() + START_S_MAX * 5
        while not self.ready.exists():
            assert self.process is not None
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError((self.data.parent / f"{self.name}.log").read_text()[-2000:])
            time.sleep(0.1)


def measure(options: argparse.Namespace, scratch: Path, cpu: int, load_cpu: int) -> dict[str, Any]:
    """The whole measurement."""
    samples: dict[str, dict[int, list[Sample]]] = {name: {n: [] for n in options.earlier} for name in CASES}
    load = Load(compile_load(scratch), load_cpu, CONNECTIONS, options.urls)
    with contextlib.ExitStack() as stack:
        origin_port = stack.enter_context(origin(load_cpu, scratch))
        edges = [AgedEdge(scratch / f"data-{n}", origin_port, cpu, n) for n in options.earlier]
        for edge in edges:
            stack.enter_context(running(edge))
            prime(edge.server(), options.urls)
        for number in range(-1, options.rounds):  # the first is not kept
            for name, (case, purging) in CASES.items():
                for edge in edges if number % 2 == 0 else reversed(edges):
                    with purges(edge) if purging else contextlib.nullcontext():
                        one = sample(load, edge.server(), case, options.seconds)
                    if number >= 0:
                        samples[name][edge.purges].append(one)
        held = {edge.purges: int(edge.ready.read_text()) for edge in edges}
    return {
        "earlier": list(options.earlier),
        "stamps": held,
        "rounds": {name: {n: [one._asdict() for one in of] for n, of in by.items()} for name, by in samples.items()},
        "recheck_us": {n: _rechecks(n) for n in options.earlier},
    }


@contextlib.contextmanager
def purges(edge: Banish) -> Iterator[None]:
    """Purges of one tag each, at a fixed rate, that match nothing."""
    over = threading.Event()

    def purge() -> None:
        admin, began, number = Admin(edge.purge_port), time.monotonic(), 0
        while not over.wait(max(0.0, began + number / PURGES_PER_S - time.monotonic())):
            admin.purge({"tag": f"meanwhile-{time.monotonic_ns()}"})
            number += 1
        admin.close()

    thread = threading.Thread(target=purge)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _rechecks(purges_before: int) -> dict[str, float]:
    """Microseconds to hold a response against the newest purge, and against the newest thousand."""
    table = PurgeTable()
    for number in range(aged.stamps(purges_before)):
        table.apply([aged.target(number)])
    for number in range(1000):  # for all tables alike
        table.apply([aged.target(10_000_000 + number)])
    names = [_names(number) for number in range(1000)]
    return {f"newest {back}": _time(table, names, table.index - back) for back in (1, 1000)}


def _names(number: int) -> Names:
    return names_of(
        Metadata(
            key=f"default#0 {stored.url(number)}",
            status=200,
            reason="OK",
            fields=Fields(),
            requested_at=0.0,
            received_at=0.0,
            date=0.0,
            initial_age=0.0,
            lifetime=0.0,
            tags=stored.tags(number),
        )
    )


def _time(table: PurgeTable, names: list[Names], since: int) -> float:
    best = []
    for _ in range(5):
        began = time.perf_counter()
        for number in range(LOOKS):
            table.verdict(names[number % 1000], since)
        best.append((time.perf_counter() - began) / LOOKS * 1e6)
    return min(best)


def ratios(found: dict[str, Any], name: str, purges_before: Any) -> list[float]:
    """CPU per hit over that without earlier purges, round by round."""
    least = found["rounds"][name][found["earlier"][0]]
    return [
        one["cpu_us"] / other["cpu_us"] for one, other in zip(found["rounds"][name][purges_before], least, strict=True)
    ]


def passes(found: dict[str, Any]) -> bool:
    """Whether it is as it should be."""
    return all(median(ratios(found, name, n)) <= 1 + WITHIN for name in CASES for n in found["earlier"])


def page(found: dict[str, Any]) -> list[str]:
    """The result for people."""
    worst = max(median(ratios(found, name, n)) for name in CASES for n in found["earlier"])
    lines = [
        f"**At most {worst:.3f} × the CPU per hit of an edge without earlier purges** (at most {1 + WITHIN:.2f}).",
        "",
        "| hits | earlier purges | stamps held | CPU µs a hit | × none | × none, each round | hits/s | p99 µs |",
        "|---|---:|---:|---:|---:|---|---:|---:|",
    ]
    for name in CASES:
        for n in found["earlier"]:
            of = found["rounds"][name][n]
            each = ratios(found, name, n)
            middle = [median(one[key] for one in of) for key in ("cpu_us", "rate", "p99_us")]
            lines.append(
                f"| {name} | {n:,} | {found['stamps'][n]:,} | {middle[0]:.2f} | {median(each):.3f} |"
                f" {' '.join(f'{ratio:.2f}' for ratio in each)} | {middle[1]:,.0f} | {middle[2]:.0f} |"
            )
    lines += ["", "| recheck, µs | " + " | ".join(f"{n:,}" for n in found["earlier"]) + " |"]
    lines += ["|---|" + "---:|" * len(found["earlier"])]
    for what in ("newest 1", "newest 1000"):
        figures = " | ".join(f"{found['recheck_us'][n][what]:.2f}" for n in found["earlier"])
        lines.append(f"| against the {what.replace(' 1000', ' thousand')} | {figures} |")
    of = f"{PURGES_PER_S} purges of one target a second meanwhile, their own CPU in the figures."
    return [*lines, "", of, f"The table holds a million stamps; {aged.ROOM:,} are left free for those."]
