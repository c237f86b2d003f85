"""The demo's mesh: three edges in three cities, each before the same origin, with the long ways between them.

    Frankfurt ── 47 ms ── Newark
        └─ 71 ms ─ Tokyo ─ 83 ms ┘        one way; by the globe, in glass, with detours (`testing/network.py`)

They are made as an operator makes them: one begins the mesh, and invites the others over its admin listener. Only the
ways are not real: each runs through a relay of the demo's own, which is as slow as the map says.

Not here: what is shown and promised (`demo.py`); one edge (`demo_edge.py`).
"""

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from rich.table import Table
from rich.text import Text

from banish.cli.demo_edge import DemoEdge
from banish.cli.demo_wire import ask
from banish.edge.joining import begin_mesh, join_mesh
from banish.mesh.zenoh_config import Topology
from banish.testing.link import Link, Way
from banish.testing.network import City, cities, one_way_s

CODES = {"frankfurt": "FRA", "newark": "EWR", "tokyo": "NRT"}
SETTINGS = {"mesh.period_s": 0.5, "mesh.lease_s": 2.0}
"""Shorter than usual, so that what is to be seen is soon seen."""

VISITS_S = 0.01
"""Between two visits of a reader in each city."""

ARRIVES_S_MAX = 20.0
BAR_MS = 4
"""Milliseconds that a cell of a bar stands for."""


class CityEdge:
    """One edge, the city it stands in, and its readers."""

    def __init__(self, name: str, city: City, edge: DemoEdge, data: Path, mesh_port: int) -> None:
        self.name = name
        self.city = city
        self.edge = edge
        self.data = data
        self.endpoint = f"tls/127.0.0.1:{mesh_port}"
        self.mesh_port = mesh_port
        self.visits = self.hits = 0

    async def read(self, path: str) -> None:
        """Ask for a page for ever, as readers do."""
        while True:
            visit = await ask(self.edge.port, path)
            self.visits += 1
            self.hits += visit.hit
            await asyncio.sleep(VISITS_S)

    async def gone_at(self, path: str) -> float:
        """When the first question was sent that no stored page answered."""
        while True:
            sent = time.monotonic()
            if not (await ask(self.edge.port, path, fields=(("Cache-Control", "only-if-cached"),))).hit:
                return sent


class Cities:
    """All three, at work for the length of an `async with`."""

    def __init__(self, origin_url: str, data: Path) -> None:
        known = {city.code: city for city in cities()}
        self.edges: dict[str, CityEdge] = {}
        for name, code in CODES.items():
            directory = data / name
            edge = DemoEdge(origin_url, str(directory), node=name)
            self.edges[name] = CityEdge(name, known[code], edge, directory, _free_port())
        self.links: dict[tuple[str, str], Link] = {}
        """(who dials, who is dialled) → the way."""
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opened:
            await self._lay_ways(opened)
            first, *others = self.edges.values()
            await asyncio.to_thread(
                begin_mesh, first.data, first.name, [first.endpoint],
                topology=Topology.MESH, relay=False, listen=(), now=time.time(),
            )  # fmt: skip
            await opened.enter_async_context(first.edge)
            for other in others:
                paper = await self.tell(first.name, "POST", "/mesh/invitations", self._invitation(other))
                await asyncio.to_thread(
                    join_mesh, other.data, msgspec.json.encode(paper), listen=(), replace=False, now=time.time()
                )
                await opened.enter_async_context(other.edge)
            for name in self.edges:
                await self.until(name, lambda told: sum(member["heard"] for member in told["members"]) == 2)
            self._open = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def _lay_ways(self, opened: contextlib.AsyncExitStack) -> None:
        for dialler, dialled in itertools.permutations(self.edges.values(), 2):
            link = Link(("127.0.0.1", dialled.mesh_port), Way(one_way_s(dialler.city, dialled.city)))
            self.links[dialler.name, dialled.name] = await opened.enter_async_context(link)
        for edge in self.edges.values():
            reach = [
                f"{dialled}=tls/127.0.0.1:{link.port}"
                for (dialler, dialled), link in self.links.items()
                if dialler == edge.name
            ]
            edge.edge.settings = {**SETTINGS, "mesh.reach": reach}

    @staticmethod
    def _invitation(edge: CityEdge) -> dict[str, Any]:
        return {"name": edge.name, "endpoints": [edge.endpoint]}

    # --- asking

    async def tell(self, name: str, method: str, path: str, form: dict[str, Any] | None = None) -> Any:
        """Ask something of an edge's admin listener; what it tells."""
        fields = (("Content-Type", "application/json"),) if form is not None else ()
        body = msgspec.json.encode(form) if form is not None else b""
        port = self.edges[name].edge.admin_port
        return msgspec.json.decode((await ask(port, path, method=method, fields=fields, body=body)).body)

    async def until(self, name: str, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until an edge's status is as wanted. Raises TimeoutError."""
        async with asyncio.timeout(ARRIVES_S_MAX):
            while not holds(await self.tell(name, "GET", "/status")):  # noqa: ASYNC110 (asked over HTTP)
                await asyncio.sleep(0.02)

    async def until_has(self, name: str, purge: str) -> None:
        """Wait until an edge has a purge on its disk. Raises TimeoutError."""
        async with asyncio.timeout(ARRIVES_S_MAX):
            while "error" in await self.tell(name, "GET", f"/purges/{purge}"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    # --- ways

    def way_ms(self, one: str, other: str) -> float:
        """One way, in milliseconds."""
        return 1000 * one_way_s(self.edges[one].city, self.edges[other].city)

    def part(self, name: str) -> None:
        """Cut this city off."""
        for pair, link in self.links.items():
            if name in pair:
                link.part()

    def heal(self) -> None:
        """Mend all ways."""
        for link in self.links.values():
            link.heal()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def receipts(told: dict[str, Any], effects_ms: dict[str, float], cities: Cities, issuer: str) -> Table:
    """A purge's receipts beside what the map says: a bar for the way, and what was measured beyond it."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("edge", "receipt", "one way", "gone after", ""):
        table.add_column(heading, justify="right" if heading in ("one way", "gone after") else "left")
    for edge in told["edges"]:
        name = edge["name"]
        way_ms = 0.0 if name == issuer else cities.way_ms(issuer, name)
        gone_ms = effects_ms.get(name)
        bar = Text("━" * round(way_ms / BAR_MS), "blue")
        if gone_ms is not None:
            bar.append("━" * max(1, round((gone_ms - way_ms) / BAR_MS)), "green")
        table.add_row(
            cities.edges[name].city.name,
            Text(edge["state"], "green" if edge["state"] in ("applied", "swept") else "red"),
            f"{way_ms:.0f} ms" if way_ms else "",
            "" if gone_ms is None else f"{max(0.0, gone_ms):.0f} ms",
            bar,
        )
    return table
