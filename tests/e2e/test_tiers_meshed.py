"""Edges above one another in a real mesh: purges that are lost, late or cut off, and what is refilled meanwhile.

HTTP goes over real sockets; what the mesh says goes over a network that obeys the test (`tests/fellows.py`).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
import uvloop
from tests.fellows import WAITS, Local, Network, until
from tests.support import Client, Response, configuration

from banish.edge.config import Config, Parent, Purge, Tier
from banish.edge.receipts import Caller, PurgeRequest
from banish.mesh import directory
from banish.mesh.directory import MeshDirectory
from banish.mesh.members import Member, Members
from banish.mesh.zenoh_config import Topology
from banish.proxy.serve import Edge
from banish.purge.given import Given
from banish.purge.targets import Kind
from banish.store.identity import Identity
from banish.testing.origin import ScriptedOrigin

SCENE_S = 20.0
FRESH = [("Cache-Control", "max-age=600"), ("Surrogate-Key", "t")]


@dataclass
class Meshed:
    """Kyoto below Paris, both of one mesh."""

    origin: ScriptedOrigin
    network: Network
    edges: dict[str, Edge]
    configs: dict[str, Config]

    @property
    def paris(self) -> Edge:
        return self.edges["paris"]

    @property
    def kyoto(self) -> Edge:
        return self.edges["kyoto"]

    async def get(self, edge: Edge, target: str = "/") -> Response:
        async with Client(("127.0.0.1", edge.ports[0])) as client:
            response = await client.get(target)
        await until(lambda: not edge._fetcher._running)
        return response

    async def purge(self, edge: Edge, tag: str = "t") -> None:
        """Purge a tag at one edge, without waiting for any other."""
        asked = PurgeRequest(targets=(Given(Kind.TAG, tag),))
        await edge.purger.purge(asked, Caller("test", "127.0.0.1"))

    def drop_records(self, edge: Edge) -> None:
        """What is published does not reach this edge."""
        name = edge.data.identity.edge
        self.network.drops = lambda to, kind, data: to == name and kind in ("record", "digest")

    async def confirmed(self) -> None:
        """Wait until both know that the other has all."""
        one, other = (edge.mesh for edge in self.edges.values())
        assert one is not None
        assert other is not None
        await until(lambda: not one.unconfirmed(other.edge) and not other.unconfirmed(one.edge))

    def asked(self, outcome: str) -> float:
        return self.kyoto.tiers._asked.get("paris", outcome)


def belong(path: Path, names: list[str]) -> None:
    """Make the data directories of edges that belong to one mesh."""
    members = []
    for name in names:
        identity = Identity.open(path / name)
        members.append(Member(identity.edge, name, identity.public_key))
        identity.close()
    for member in members:
        told = MeshDirectory(path / member.name)
        told.create(
            member, directory.Settings(directory.FORMAT, member.name, (), Topology.MESH, secured=False), None, 0.0
        )
        told.keep_members(Members(members))


@contextlib.asynccontextmanager
async def meshed(path: Path, **changes: Any) -> AsyncIterator[Meshed]:
    belong(path, ["paris", "kyoto"])
    network = Network()
    async with ScriptedOrigin() as origin:
        stage = Meshed(origin, network, {}, {})
        with mock.patch("banish.proxy.serve.freeze"):
            for name in ("paris", "kyoto"):
                parent: Any = {}
                if name == "kyoto":
                    url = f"http://127.0.0.1:{stage.paris.ports[0]}"
                    parent = {"parent": (Parent(url=url, member="paris"),)}
                stage.configs[name] = msgspec.structs.replace(
                    configuration(origin.url, **parent, **changes),
                    node=name, data=str(path / name), mesh=msgspec.structs.replace(WAITS, catchup_wait_s=0.1),
                    purge=Purge(copies=1),
                )  # fmt: skip
                await started(stage, name)
        try:
            await until(lambda: all(len(edge.mesh.replica.counted) == 1 for edge in stage.edges.values() if edge.mesh))
            await stage.confirmed()
            yield stage
        finally:
            for edge in stage.edges.values():
                await edge.stop()


async def started(stage: Meshed, name: str) -> None:
    edge = Edge(stage.configs[name], make_transport=lambda me: Local(stage.network, me.edge))
    await edge.start()
    stage.edges[name] = edge


def play(path: Path, scene: Callable[[Meshed], Awaitable[None]], **changes: Any) -> None:
    async def body() -> None:
        async with asyncio.timeout(SCENE_S), meshed(path, **changes) as stage:
            await scene(stage)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body())


def test_a_refill_after_a_purge_whose_record_was_lost_is_what_the_origin_has_now(tmp_path: Path) -> None:
    async def scene(stage: Meshed) -> None:
        stage.origin.respond("/", headers=FRESH, body=b"old")
        await stage.get(stage.kyoto)
        stage.drop_records(stage.paris)
        stage.origin.respond("/", headers=FRESH, body=b"new")
        await stage.purge(stage.kyoto)
        assert (await stage.get(stage.paris)).body == b"old"  # nothing has told Paris yet
        assert (await stage.get(stage.kyoto)).body == b"new"
        assert (await stage.get(stage.paris)).body == b"new"  # it had to catch up, and so it has
        assert stage.asked("fresh") == 2

    play(tmp_path, scene)


def test_a_page_that_was_never_asked_for_here_is_not_refilled_from_before_a_purge_of_its_tag(tmp_path: Path) -> None:
    async def scene(stage: Meshed) -> None:
        stage.origin.respond("/", headers=FRESH, body=b"old")
        await stage.get(stage.paris)
        stage.drop_records(stage.paris)
        stage.origin.respond("/", headers=FRESH, body=b"new")
        await stage.purge(stage.kyoto)
        assert (await stage.get(stage.kyoto)).body == b"new"

    play(tmp_path, scene)


def test_a_parent_that_is_cut_off_from_the_mesh_passes_and_keeps_what_it_had(tmp_path: Path) -> None:
    async def scene(stage: Meshed) -> None:
        stage.origin.respond("/", headers=FRESH, body=b"old")
        await stage.get(stage.kyoto)
        stage.network.cut = {stage.paris.data.identity.edge}
        stage.origin.respond("/", headers=FRESH, body=b"new")
        await stage.purge(stage.kyoto)
        assert (await stage.get(stage.kyoto)).body == b"new"
        assert (await stage.get(stage.paris)).body == b"old"
        assert stage.asked("passed") == 1
        stage.network.cut = set()
        await stage.confirmed()
        assert (await stage.get(stage.paris)).body == b"new"

    play(tmp_path, scene, tier=Tier(catchup_wait_s=0.05))


def test_what_the_parent_has_confirmed_costs_nothing_more(tmp_path: Path) -> None:
    async def scene(stage: Meshed) -> None:
        stage.origin.respond("/", headers=FRESH, body=b"old")
        stage.origin.respond("/other", headers=FRESH, body=b"other")
        await stage.get(stage.kyoto)
        await stage.purge(stage.kyoto)
        await stage.confirmed()
        await stage.get(stage.kyoto, "/other")
        assert stage.paris.tiers._answered.get("covered") == 2
        assert stage.paris.tiers._answered.get("caught_up") == 0

    play(tmp_path, scene)


def test_a_parent_that_was_started_anew_is_used_again(tmp_path: Path) -> None:
    async def scene(stage: Meshed) -> None:
        stage.origin.respond("/", headers=FRESH, body=b"old")
        await stage.get(stage.kyoto)
        port = stage.paris.ports[0]
        await stage.paris.stop()
        await stage.purge(stage.kyoto)
        config = stage.configs["paris"]
        listener = msgspec.structs.replace(config.listen[0], address=f"127.0.0.1:{port}")
        stage.configs["paris"] = msgspec.structs.replace(config, listen=(listener,))
        with mock.patch("banish.proxy.serve.freeze"):
            await started(stage, "paris")
        await stage.confirmed()
        stage.origin.respond("/", headers=FRESH, body=b"new")
        assert (await stage.get(stage.kyoto)).body == b"new"
        assert (await stage.get(stage.paris)).body == b"new"
        assert stage.asked("fresh") == 2

    play(tmp_path, scene)


def test_a_child_that_was_forgotten_is_a_client(tmp_path: Path) -> None:
    async def scene(stage: Meshed) -> None:
        stage.origin.respond("/", headers=FRESH, body=b"old")
        await stage.get(stage.paris)
        stage.network.cut = {stage.kyoto.data.identity.edge}
        assert stage.paris.mesh is not None
        await stage.paris.mesh.forget("kyoto", caller=Caller("test", "127.0.0.1"))
        await until(
            lambda: stage.kyoto.data.identity.edge not in stage.paris.mesh.members if stage.paris.mesh else True
        )
        await stage.get(stage.kyoto)
        assert stage.asked("unproved") == 1
        assert stage.paris.tiers._answered.get("refused") == 1

    play(tmp_path, scene)


@pytest.mark.parametrize("known", [True, False])
def test_what_an_unsafe_request_has_changed_is_not_refilled_from_before_it(tmp_path: Path, known: bool) -> None:
    async def scene(stage: Meshed) -> None:
        stage.origin.respond("/", headers=FRESH, body=b"old")
        await stage.get(stage.kyoto if known else stage.paris)
        stage.origin.respond("/", headers=FRESH, body=b"new")
        async with Client(("127.0.0.1", stage.kyoto.ports[0])) as client:
            assert (await client.ask("POST", "/", body=b"x")).status == 200
        assert (await stage.get(stage.paris)).body == b"old"  # the site keeps its invalidations to each edge
        assert (await stage.get(stage.kyoto)).body == b"new"

    play(tmp_path, scene)
