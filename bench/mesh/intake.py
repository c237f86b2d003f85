"""How many targets a second go through a mesh, and how fast an edge catches up that was away.

Two edges take batches of a hundred at once, each half of the rate that is required, paced; all five apply and log them.
Memory is read from the processes before, at the middle and at the end. Then one edge is killed, a set number of targets
is purged without it, and the time is taken from the start of its process until it holds them all; less the time that
the same edge takes to start with nothing to catch up on.
"""

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any, Final

from tests.meshes import Mesh, MeshEdge, mesh_of, until

from bench.mesh.overhead import NAMES
from bench.mesh.wire import Connection, purge_request

TARGETS_PER_S: Final = 10_000
CATCHUP_PER_S: Final = 50_000
BATCH: Final = 100
CONNECTIONS: Final = 4
"""To each of the two edges that take purges."""
GROWTH_MIB_MAX: Final = 200
"""Of any edge's memory from the middle of the intake to its end: a minute of stamps is still coming, all else is
through. A million stamps are 200 MB by their bound."""


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The whole measurement."""
    settings = "purge.stamp_min_age_s = 1"
    with mesh_of(scratch, *NAMES, settings=settings) as mesh:
        found = _intake(mesh, options.seconds)
        found["catch_up"] = _catch_up(mesh, options.missed)
    return found


def _intake(mesh: Mesh, seconds: float) -> dict[str, Any]:
    before = _rss_mib(mesh)
    first = asyncio.run(_send(list(mesh)[:2], 1.02 * TARGETS_PER_S, seconds / 2, 0))
    middle = _rss_mib(mesh)
    second = asyncio.run(_send(list(mesh)[:2], 1.02 * TARGETS_PER_S, seconds / 2, 1 << 20))
    behind_s = _through(mesh)
    return {
        "targets_per_s": (first["sent"] + second["sent"]) * BATCH / (first["took_s"] + second["took_s"]),
        "through_s": behind_s,
        "rss_mib": {"before": before, "middle": middle, "end": _rss_mib(mesh)},
    }


def _through(mesh: Mesh) -> float:
    """Seconds after the last acknowledgement until every edge held everything."""
    told = mesh[NAMES[0]].purge({"tag": "last-0"})
    other = mesh[NAMES[1]].purge({"tag": "last-1"})
    return until(
        lambda: all(edge.knows(told["id"]) and edge.knows(other["id"]) for edge in mesh), "all hold all", within_s=60
    )


def _catch_up(mesh: Mesh, targets: int) -> dict[str, Any]:
    away = mesh[NAMES[-1]]
    away.kill()
    began = time.monotonic()
    away.start()
    plain_s = time.monotonic() - began
    away.kill()
    asyncio.run(_send(list(mesh)[:2], 0, 0, 2 << 20, batches=targets // BATCH))
    told = [mesh[name].purge({"tag": "newest"})["id"] for name in NAMES[:2]]
    began = time.monotonic()
    away.start()
    until(lambda: all(away.knows(one) for one in told), "it has caught up", within_s=120)
    took_s = time.monotonic() - began
    return {"targets": targets, "took_s": took_s, "start_s": plain_s, "per_s": targets / max(1e-3, took_s - plain_s)}


async def _send(
    edges: list[MeshEdge], rate: float, seconds: float, first: int, *, batches: int = 0
) -> dict[str, float]:
    """Send batches to these edges at once; how many and how long it took. Rate 0: as fast as they are taken."""
    total = batches or int(rate * seconds / BATCH)
    numbers = iter(range(total))
    began = time.monotonic()
    sent = 0

    async def work(edge: MeshEdge) -> None:
        nonlocal sent
        connection = await Connection.open(edge.admin_port)
        for number in numbers:
            due = began + number * BATCH / rate if rate else 0.0
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            targets = [{"tag": f"product-{first + number}-{at}"} for at in range(BATCH)]
            head, body = await connection.exchange(purge_request({"targets": targets}))
            assert head.startswith(b"HTTP/1.1 202"), body
            sent += 1
        connection.close()

    await asyncio.gather(*[work(edge) for edge in edges for _ in range(CONNECTIONS)])
    return {"sent": sent, "took_s": time.monotonic() - began}


def _rss_mib(mesh: Mesh) -> dict[str, float]:
    return {edge.name: edge.process.rss_bytes() / (1 << 20) for edge in mesh}


def _growth_mib(found: dict[str, Any]) -> float:
    rss: dict[str, dict[str, float]] = found["rss_mib"]
    return max(rss["end"][name] - rss["middle"][name] for name in rss["end"])


def passes(found: dict[str, Any]) -> bool:
    """Whether it is as it should be."""
    return bool(
        found["targets_per_s"] >= TARGETS_PER_S
        and found["catch_up"]["per_s"] >= CATCHUP_PER_S
        and _growth_mib(found) <= GROWTH_MIB_MAX
    )


def page(found: dict[str, Any]) -> list[str]:
    """The result for people."""
    caught, rss = found["catch_up"], found["rss_mib"]
    return [
        f"**{found['targets_per_s']:,.0f} targets a second through {len(NAMES)} edges, taken at two of them; an edge"
        f" that was away catches up at {caught['per_s']:,.0f} a second** (at least {TARGETS_PER_S:,} and"
        f" {CATCHUP_PER_S:,}).",
        "",
        f"- {found['through_s'] * 1000:.0f} ms after the last acknowledgement every edge had everything",
        f"- catching up on {caught['targets']:,} targets: {caught['took_s']:.2f} s from the start of the process, of"
        f" which {caught['start_s']:.2f} s are any start's",
        "",
        "| edge | RSS MiB before | at the middle | at the end |",
        "|---|---:|---:|---:|",
        *[
            f"| {name} | {rss['before'][name]:.0f} | {rss['middle'][name]:.0f} | {rss['end'][name]:.0f} |"
            for name in NAMES
        ],
    ]
