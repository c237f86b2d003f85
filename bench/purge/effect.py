"""How long until a tag purge is in effect, on an edge with few and with many stored responses.

    step   stamps set, store told: from here on nothing that matches is answered
    issue  the step with all that belongs to it: position, signed record, queued for the log
    look   the next look-up of a response in memory that the purge matched: it is not given any more
    post   POST /purges, from the request to the acknowledgement: the step, the log's sync, HTTP
    sweep  POST /purges to state "swept": all that matched is deleted

The first three are taken in this process, from edges that serve, in turns; the last two from edges as processes.
"""

import argparse
import asyncio
import contextlib
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import uvloop

from banish.proxy.serve import Edge
from banish.purge.targets import tag_target
from bench.purge import stored
from bench.purge.asking import Admin
from bench.purge.systems import Banish, System, running

LIMIT_S: Final = 1e-3
TIMES_MAX: Final = 2.0
KEPT_TAGS: Final = 3
"""Tags of each kind that are kept for the sweeps."""

REST_S: Final = 0.002
"""Between two purges: the sweep gets its turn."""

Samples = dict[int, dict[str, list[float]]]
"""Stored responses → what → seconds."""


class Sweep(NamedTuple):
    """One purge by tag, until all that it matched was deleted."""

    stored: int
    matched: int
    post_s: float
    swept_s: float


def measure(options: argparse.Namespace, scratch: Path, cpu: int, load_cpu: int) -> dict[str, Any]:
    """The whole measurement."""
    places = {size: filled(options, scratch, size) for size in options.sizes}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        samples = runner.run(_in_process(places, options.purges))
    posts, sweeps = _over_http(places, options, cpu)
    for size, seconds in posts.items():
        samples[size]["post"] = seconds
    for place in places.values():
        shutil.rmtree(place)  # no longer what its name says
    return {
        "sizes": list(options.sizes),
        "seconds": samples,
        "sweeps": [sweep._asdict() for sweep in sweeps],
    }


def filled(options: argparse.Namespace, scratch: Path, size: int) -> Path:
    """A data directory with so many responses: one that was kept, or a new one."""
    kept: Path | None = options.keep
    place = (kept or scratch) / f"stored-{size}"
    if not place.exists():
        took_s = asyncio.run(stored.filled(place, size))
        print(f"filled {size:,} in {took_s:.0f} s", flush=True)
    return place


async def _in_process(places: dict[int, Path], purges: int) -> Samples:
    """Edges of all sizes in this process, purged in turns. Each purge has a tag of its own."""
    edges = {size: Edge(stored.configuration(place)) for size, place in places.items()}
    found: Samples = {size: {"step": [], "issue": [], "look": []} for size in places}
    for edge in edges.values():
        await edge.start()
    for number in range(purges):
        for size in edges if number % 2 == 0 else reversed(edges):
            what = "step" if number // 2 % 2 else "issue"
            await _purge(edges[size], number % (size // 20), what, found[size])
    for edge in edges.values():
        await edge.stop()
    return found


async def _purge(edge: Edge, number: int, what: str, found: dict[str, list[float]]) -> None:
    """Purge the tag of ten responses, one of which is in memory; `number` counts such tags from 0."""
    first = 10 * number
    site = edge.sites.all[0]
    key = f"{site.key_name} {stored.url(first)}"
    await edge.store.load(key)
    held = bool(edge.store.lookup(key))
    target = tag_target(site.name, stored.tag(10, first))
    if what == "issue":
        began = time.perf_counter()
        edge.purger.invalidate([target])
        ended = time.perf_counter()
    else:
        began = time.perf_counter()
        index = edge.stamps.apply([target])
        edge.store.applied(index, [target], [], edge.clock.monotonic())
        ended = time.perf_counter()
    given = edge.store.lookup(key)
    looked = time.perf_counter()
    if given:
        raise RuntimeError(f"{key} was given after its tag was purged")
    found[what].append(ended - began)
    if held:
        found["look"].append(looked - ended)
    await asyncio.sleep(REST_S)


def _over_http(
    places: dict[int, Path], options: argparse.Namespace, cpu: int
) -> tuple[dict[int, list[float]], list[Sweep]]:
    posts: dict[int, list[float]] = {size: [] for size in places}
    sweeps: list[Sweep] = []
    with contextlib.ExitStack() as stack:
        admins: dict[int, Admin] = {}
        for size, place in places.items():
            edge: System = stack.enter_context(running(Banish(place, 1, cpu=cpu)))
            admins[size] = Admin(edge.purge_port)
        for number in range(options.purges):
            for size in admins if number % 2 == 0 else reversed(admins):
                at = size // 20 + number % (size // 20 - KEPT_TAGS)
                took_s, _ = admins[size].purge({"tag": stored.tag(10, 10 * at)})
                posts[size].append(took_s)
                time.sleep(REST_S)
        for size, admin in admins.items():
            sweeps += list(_sweeps(size, admin))
            admin.close()
    return posts, sweeps


def _sweeps(size: int, admin: Admin) -> Iterator[Sweep]:
    """Purges by tags that more and more responses have: the last of them, which are still there."""
    for number in range(1, KEPT_TAGS + 1):
        for share in stored.SHARES:
            last = size - share * (number if share == 10 else number + 1)
            if last < size // 2:
                continue
            began = time.perf_counter()
            post_s, id_ = admin.purge({"tag": stored.tag(share, last)})
            state = admin.swept(id_)
            swept_s = time.perf_counter() - began
            yield Sweep(size, state["matched"], post_s, swept_s)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of `values` does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def passes(found: dict[str, Any]) -> bool:
    """Whether it is as it should be."""
    few, many = found["sizes"][0], found["sizes"][-1]
    steps = {size: median(found["seconds"][size]["issue"]) for size in (few, many)}
    return bool(steps[many] < LIMIT_S and steps[many] <= TIMES_MAX * steps[few])


def page(found: dict[str, Any]) -> list[str]:
    """The result for people."""
    few, many = found["sizes"][0], found["sizes"][-1]
    issue = found["seconds"][many]["issue"]
    times = median(issue) / median(found["seconds"][few]["issue"])
    lines = [
        f"**In effect within {1e6 * median(issue):.0f} µs (median; 99th percentile"
        f" {1e6 * percentile(issue, 0.99):.0f} µs) on {many:,} stored responses, {times:.2f} × as long as on"
        f" {few:,}** (at most 1 ms, and 2 ×).",
        "",
        "| µs | stored | median | p90 | p99 | max | × the fewest |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for what in ("step", "issue", "look", "post"):
        least = median(found["seconds"][few][what])
        for size in found["sizes"]:
            values = found["seconds"][size][what]
            figures = [1e6 * percentile(values, share) for share in (0.5, 0.9, 0.99, 1.0)]
            cells = [f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}" for figure in figures]
            lines.append(f"| {what} | {size:,} | {' | '.join(cells)} | {median(values) / least:.2f} |")
    lines += ["", "Each purge is of one tag that ten responses have.", ""]
    lines += ["| stored | matched | acknowledged ms | swept ms | responses/s |", "|---:|---:|---:|---:|---:|"]
    for one in found["sweeps"]:
        rate = one["matched"] / one["swept_s"]
        lines.append(
            f"| {one['stored']:,} | {one['matched']:,} | {1e3 * one['post_s']:.1f} | {1e3 * one['swept_s']:,.0f} |"
            f" {rate:,.0f} |"
        )
    return lines
