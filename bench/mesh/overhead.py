"""How long after a purge is sent to one edge it is in effect at every other, less the one-way delay between them.

Five edges, a process each, a way of the same delay between each two (`ways.py`, one process for all), and hits at a set
rate at all of them. Each purge is of a tag that one page has, which all edges have stored. From the moment at which it
could be there at the earliest, a connection to each other edge asks for that page again and again, `PROBE_S` apart at
least; a purge counts as in effect when the first question was *sent* that found the page gone. So intake (HTTP, log,
sync) at the first edge is in the figure, everything at the others up to their stamps, and up to `PROBE_S` of the
measurement's own. The delay is what an echo through a way of the same process takes at the same time, halved: it is
longer than what was set, by timers and by what the machine has to do.
"""

import argparse
import asyncio
import contextlib
import functools
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

import uvloop
from tests.meshes import Mesh, MeshEdge, mesh_of

from banish.testing.link import Link
from bench.hit.servers import free_port
from bench.mesh.wire import Connection, purge_request

NAMES: Final = ("ams", "ber", "cph", "dub", "edi")
DELAY_S: Final = 0.02
HITS_PER_S: Final = 200
"""At each edge."""
MEDIAN_MS_MAX: Final = 5.0
P99_MS_MAX: Final = 25.0
PROBE_S: Final = 0.001
PAGES: Final = 20
"""Pages purged in turns, each by itself."""


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The whole measurement."""
    echo, far = free_port(), free_port()
    with mesh_of(scratch, *NAMES, ways=functools.partial(_ways, (echo, far))) as mesh:
        for page in range(PAGES):
            headers = [("Cache-Control", "max-age=3600"), ("Surrogate-Key", f"page-{page}")]
            mesh.origin.script.respond(f"/{page}", headers=headers, body=b"x" * 1024)
        mesh.origin.script.respond("/hot", headers=[("Cache-Control", "max-age=3600")], body=b"x" * 1024)
        effects_ms, ways_ms = uvloop.run(_measure(mesh, options.purges, echo, far))
    delay_ms = median(ways_ms)
    return {
        "late_ms": [effect_ms - delay_ms for effect_ms in effects_ms],
        "delay_ms": delay_ms,
        "hits_per_s": HITS_PER_S,
    }


@contextlib.contextmanager
def _ways(also: tuple[int, int], edges: dict[str, MeshEdge]) -> Iterator[dict[tuple[str, str], Link]]:
    ways = [also]
    for dialler, dialled in itertools.permutations(edges, 2):
        edges[dialler].reach[dialled] = free_port()
        ways.append((edges[dialler].reach[dialled], edges[dialled].mesh_port))
    told = json.dumps({"delay_s": DELAY_S, "ways": ways})
    command = [sys.executable, str(Path(__file__).with_name("ways.py")), told]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield {}
    finally:
        process.kill()
        process.communicate()


async def _measure(mesh: Mesh, purges: int, echo: int, far: int) -> tuple[list[float], list[float]]:
    """Milliseconds until the effect, for each purge and each edge that is not its first; and of ways meanwhile."""
    edges = list(mesh)
    server = await asyncio.start_server(_echo, "127.0.0.1", far)
    reader, writer = await asyncio.open_connection("127.0.0.1", echo)
    ways_ms: list[float] = []
    stop = asyncio.Event()
    load = [asyncio.ensure_future(_hits(edge, stop)) for edge in edges]
    effects_ms: list[float] = []
    for number in range(purges):
        page, issuer = number % PAGES, edges[number % len(edges)]
        probes = [await Connection.open(edge.port) for edge in edges]
        for probe in probes:
            await _stored(probe, f"/{page}")
        admin = await Connection.open(issuer.admin_port)
        sent = time.monotonic()
        seen = [
            _gone_at(probe, f"/{page}", sent + DELAY_S)
            for edge, probe in zip(edges, probes, strict=True)
            if edge is not issuer
        ]
        form = {"targets": [{"tag": f"page-{page}"}]}
        purging = asyncio.ensure_future(admin.exchange(purge_request(form)))
        effects = await asyncio.gather(*seen)
        await purging
        effects_ms += [(effect - sent) * 1000 for effect in effects]
        sent = time.monotonic()
        writer.write(b"." * 300)
        await reader.readexactly(300)
        ways_ms.append((time.monotonic() - sent) * 500)
        for connection in (*probes, admin):
            connection.close()
    stop.set()
    await asyncio.gather(*load)
    writer.close()
    server.close()
    return effects_ms, ways_ms


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.CancelledError):  # the measurement is over
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


async def _stored(probe: Connection, path: str) -> None:
    while b"; hit" not in await probe.get(path):
        pass


async def _gone_at(probe: Connection, path: str, earliest: float) -> float:
    """When the first question was sent that did not find the page stored. It asks for what is stored alone."""
    await asyncio.sleep(max(0.0, earliest - time.monotonic()))
    while True:
        sent = time.monotonic()
        if b"; hit" not in await probe.get(path, "Cache-Control: only-if-cached"):
            return sent
        await asyncio.sleep(max(0.0, sent + PROBE_S - time.monotonic()))


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
        f"| {len(late_ms)} | {found['delay_ms']:.1f} | {cells} |",
        "",
        f"{len(NAMES)} edges, {found['hits_per_s']} hits a second at each, purges one after the other at each in turn.",
    ]


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


__all__ = ["measure", "page", "passes"]
