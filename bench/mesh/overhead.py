"""How long after a purge is sent to one edge it is in effect at every other, less the one-way delay between them.

Five edges, a process each, with a `Link` of the same delay before each other one, and hits at a set rate at all of
them. Each purge is of a tag that one page has, which all edges have stored. From before it is sent until the page is
gone, a connection to each edge asks for that page again and again, one question after the other; a purge counts as in
effect when the first question was *sent* that found the page gone. So intake (HTTP, log, sync) at the first edge is in
the figure, and so is everything at the others up to their stamps.
"""

import argparse
import asyncio
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.meshes import Mesh, MeshEdge, mesh_of

from banish.testing.link import Way
from bench.mesh.wire import Connection, purge_request

NAMES: Final = ("ams", "ber", "cph", "dub", "edi")
DELAY_S: Final = 0.02
HITS_PER_S: Final = 200
"""At each edge."""
MEDIAN_MS_MAX: Final = 5.0
P99_MS_MAX: Final = 25.0
PAGES: Final = 20
"""Pages purged in turns, each by itself."""


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The whole measurement."""
    way = Way(delay_s=DELAY_S)
    with mesh_of(scratch, *NAMES, way=way, settings='log.level = "error"') as mesh:
        for page in range(PAGES):
            headers = [("Cache-Control", "max-age=3600"), ("Surrogate-Key", f"page-{page}")]
            mesh.origin.script.respond(f"/{page}", headers=headers, body=b"x" * 1024)
        mesh.origin.script.respond("/hot", headers=[("Cache-Control", "max-age=3600")], body=b"x" * 1024)
        late_ms = asyncio.run(_measure(mesh, options.purges))
    return {"late_ms": late_ms, "delay_ms": DELAY_S * 1000, "hits_per_s": HITS_PER_S}


async def _measure(mesh: Mesh, purges: int) -> list[float]:
    """Milliseconds above the delay, for each purge and each edge that is not its first."""
    edges = list(mesh)
    stop = asyncio.Event()
    load = [asyncio.ensure_future(_hits(edge, stop)) for edge in edges]
    late_ms: list[float] = []
    for number in range(purges):
        page, issuer = number % PAGES, edges[number % len(edges)]
        probes = [await Connection.open(edge.port) for edge in edges]
        for probe in probes:
            await _stored(probe, f"/{page}")
        seen = [asyncio.ensure_future(_gone_at(probe, f"/{page}")) for probe in probes]
        admin = await Connection.open(issuer.admin_port)
        sent = time.monotonic()
        await admin.exchange(purge_request({"targets": [{"tag": f"page-{page}"}]}))
        effects = await asyncio.gather(*seen)
        late_ms += [
            (effect - sent - DELAY_S) * 1000 for edge, effect in zip(edges, effects, strict=True) if edge is not issuer
        ]
        for connection in (*probes, admin):
            connection.close()
    stop.set()
    await asyncio.gather(*load)
    return late_ms


async def _stored(probe: Connection, path: str) -> None:
    while b"; hit" not in await probe.get(path):
        pass


async def _gone_at(probe: Connection, path: str) -> float:
    """When the first question was sent that did not find the page stored. It asks for what is stored alone."""
    while True:
        sent = time.monotonic()
        if b"; hit" not in await probe.get(path, "Cache-Control: only-if-cached"):
            return sent


async def _hits(edge: MeshEdge, stop: asyncio.Event) -> None:
    connection = await Connection.open(edge.port)
    due = time.monotonic()
    while not stop.is_set():
        await connection.get("/hot")
        due += 1 / HITS_PER_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    connection.close()


def passes(found: dict[str, Any]) -> bool:
    """Whether it is as it should be."""
    return median(found["late_ms"]) <= MEDIAN_MS_MAX and _percentile(found["late_ms"], 0.99) <= P99_MS_MAX


def page(found: dict[str, Any]) -> list[str]:
    """The result for people."""
    late_ms = found["late_ms"]
    cells = " | ".join(f"{_percentile(late_ms, share):.1f}" for share in (0.5, 0.9, 0.99, 1.0))
    return [
        f"**{median(late_ms):.1f} ms above the one-way delay in the median, {_percentile(late_ms, 0.99):.1f} ms at the"
        f" 99th percentile** (at most {MEDIAN_MS_MAX:g} and {P99_MS_MAX:g}).",
        "",
        "| effects timed | one-way delay ms | above it: p50 ms | p90 | p99 | worst |",
        "|---:|---:|---:|---:|---:|---:|",
        f"| {len(late_ms)} | {found['delay_ms']:g} | {cells} |",
        "",
        f"{len(NAMES)} edges, {found['hits_per_s']} hits a second at each, purges one after the other at each in turn.",
    ]


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


__all__ = ["measure", "page", "passes"]
