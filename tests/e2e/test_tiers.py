"""Whole edges above one another, on real sockets, with real keys; the mesh between them is what a test says it is."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import msgspec
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.support import SCENE_S, Client, Response, configuration

from banish.edge.config import Parent
from banish.mesh.frontier import Marks
from banish.proxy.serve import Edge
from banish.purge.positions import Position
from banish.purge.targets import url_target
from banish.store.identity import verifies
from banish.testing.clock import FakeClock
from banish.testing.origin import ScriptedOrigin


@dataclass
class HandMesh:
    """One edge's part in a mesh of two. `here` and `confirmed`: how many purges of kyoto are in effect."""

    own: Edge
    keys: dict[str, bytes]
    names: dict[str, str]
    here: int = 0
    confirmed: int = 0
    pull: Callable[[], Awaitable[None]] | None = None
    indexes: dict[Position, int] = field(default_factory=dict)

    @property
    def edge(self) -> str:
        return self.own.data.identity.edge

    @property
    def epoch(self) -> str:
        return self.own.data.identity.epoch

    def sign(self, payload: bytes) -> bytes:
        return self.own.data.identity.sign(payload)

    def verify(self, edge: str, signature: bytes, payload: bytes) -> bool:
        return edge in self.keys and verifies(Ed25519PublicKey.from_public_bytes(self.keys[edge]), signature, payload)

    def named(self, name: str) -> str | None:
        return self.names.get(name)

    def has_member(self, edge: str) -> bool:
        return edge in self.keys

    def epoch_of(self, edge: str) -> str:
        return ""

    def unconfirmed(self, edge: str) -> Marks:
        return {(self.names["kyoto"], "1-00000001"): self.here} if self.here > self.confirmed else {}

    def covers(self, marks: Marks) -> bool:
        return all(seq <= self.here for seq in marks.values())

    async def catch_up(self, marks: Marks, by: str, timeout_s: float) -> bool:
        if self.pull is not None:
            await self.pull()
        return self.covers(marks)

    def index_of(self, position: Position) -> int | None:
        return self.indexes.get(position)

    def purge(self, path: str) -> None:
        """The next purge of kyoto is in effect here."""
        self.own.purger.invalidate([url_target("default", f"http://site.example{path}")])
        self.here += 1


@dataclass
class Tiers:
    origin: ScriptedOrigin
    parent: Edge
    child: Edge
    above: HandMesh
    below: HandMesh

    async def get(self, edge: Edge, target: str, *lines: str) -> Response:
        async with Client(("127.0.0.1", edge.ports[0])) as client:
            return await client.get(target, *lines)

    async def settled(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def tiers(**changes: Any) -> AsyncIterator[Tiers]:
    """Kyoto below Paris below an origin."""
    clock = FakeClock()
    async with ScriptedOrigin() as origin:
        with mock.patch("banish.proxy.serve.freeze"):
            parent = Edge(msgspec.structs.replace(configuration(origin.url, **changes), node="paris"), clock)
            await parent.start()
            above = Parent(url=f"http://127.0.0.1:{parent.ports[0]}", member="paris")
            config = configuration(origin.url, parent=(above,), **changes)
            child = Edge(msgspec.structs.replace(config, node="kyoto"), clock)
            await child.start()
        edges = {"paris": parent, "kyoto": child}
        names = {name: edge.data.identity.edge for name, edge in edges.items()}
        keys = {edge.data.identity.edge: edge.data.identity.public_key for edge in edges.values()}
        meshes = [HandMesh(edge, keys, names) for edge in (parent, child)]
        for mesh in meshes:
            mesh.own.tiers.tier = mesh
        try:
            yield Tiers(origin, parent, child, *meshes)
        finally:
            await child.stop()
            await parent.stop()


def play(scene: Callable[[Tiers], Awaitable[None]], **changes: Any) -> None:
    async def body() -> None:
        async with asyncio.timeout(SCENE_S), tiers(**changes) as set_up:
            await scene(set_up)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body())


FRESH = [("Cache-Control", "max-age=60"), ("Surrogate-Key", "t")]


def test_a_page_comes_through_both_edges_once_and_says_so() -> None:
    async def scene(stage: Tiers) -> None:
        stage.origin.respond("/", headers=FRESH, body=b"hello")
        first = await stage.get(stage.child, "/")
        await stage.settled()
        second = await stage.get(stage.child, "/")
        assert (first.body, second.body, len(stage.origin.requests)) == (b"hello", b"hello", 1)
        assert [member.split(";")[0] for member in second.fields.members("cache-status")] == ["paris", "kyoto"]
        assert second.fields.members("cache-status")[1].startswith("kyoto; hit")
        assert second["via"] == "1.1 paris, 1.1 kyoto"
        for answer in (first, second):
            assert "banish-tier" not in answer.fields
        assert "banish-tier" not in stage.origin.requests[0].fields

    play(scene)


def test_large_and_chunked_bodies_come_through_whole() -> None:
    async def scene(stage: Tiers) -> None:
        large = secrets.token_bytes(300_000)
        stage.origin.respond("/large", headers=FRESH, body=large)
        head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n"
        stage.origin.play("/chunked", head + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
        assert (await stage.get(stage.child, "/large")).body == large
        assert (await stage.get(stage.child, "/chunked")).body == b"hello world"
        part = await stage.get(stage.child, "/large", "Range: bytes=5-9")
        assert (part.status, part.body) == (206, large[5:10])
        assert len(stage.origin.requests) == 2
        assert stage.child.tiers._asked.get("paris", "unproved") == 0

    play(scene)


def test_after_a_purge_at_the_child_its_parent_catches_up_before_it_answers() -> None:
    async def scene(stage: Tiers) -> None:
        stage.origin.respond("/", headers=FRESH, body=b"old")
        await stage.get(stage.child, "/")
        await stage.settled()
        stage.origin.respond("/", headers=FRESH, body=b"new")
        stage.below.purge("/")

        async def pull() -> None:
            await asyncio.sleep(0)
            stage.above.purge("/")

        stage.above.pull = pull
        assert (await stage.get(stage.child, "/")).body == b"new"
        assert len(stage.origin.requests) == 2

    play(scene)


def test_a_parent_that_cannot_catch_up_passes_and_keeps_what_it_had() -> None:
    async def scene(stage: Tiers) -> None:
        stage.origin.respond("/", headers=FRESH, body=b"old")
        await stage.get(stage.child, "/")
        await stage.settled()
        stage.origin.respond("/", headers=FRESH, body=b"new")
        stage.below.purge("/")
        assert (await stage.get(stage.child, "/")).body == b"new"
        assert (await stage.get(stage.parent, "/")).body == b"old"
        assert stage.child.tiers._asked.get("paris", "passed") == 1

    play(scene)


def test_a_parent_that_is_gone_costs_one_try() -> None:
    async def scene(stage: Tiers) -> None:
        stage.origin.respond("/a", headers=FRESH, body=b"a")
        stage.origin.respond("/b", headers=FRESH, body=b"b")
        await stage.parent.stop()
        assert (await stage.get(stage.child, "/a")).body == b"a"
        assert (await stage.get(stage.child, "/b")).body == b"b"
        assert stage.child.tiers._asked.get("paris", "unreachable") == 1

    play(scene)


def test_a_client_cannot_pass_for_a_child() -> None:
    async def scene(stage: Tiers) -> None:
        stage.origin.respond("/", headers=FRESH, body=b"hello")
        await stage.get(stage.parent, "/")
        await stage.settled()
        for value in ("x", "A" * 300, "A" * 6000):
            answer = await stage.get(stage.parent, "/", f"Banish-Tier: {value}")
            assert (answer.status, answer.body) == (200, b"hello")
            assert "banish-tier" not in answer.fields
        answer = await stage.get(stage.parent, "/pass", "Banish-Tier: x", "Connection: keep-alive, Banish-Tier")
        assert "banish-tier" not in stage.origin.requests[-1].fields
        assert stage.parent.tiers._answered.get("refused") == 4

    play(scene)


def test_what_a_client_overhears_it_cannot_use() -> None:
    async def scene(stage: Tiers) -> None:
        stage.origin.respond("/", headers=FRESH, body=b"hello")
        heard: list[str] = []
        recognise = stage.parent.tiers.recognise
        stage.parent.tiers.recognise = lambda value, about: (heard.append(value), recognise(value, about))[1]  # type: ignore[func-returns-value, method-assign]
        await stage.get(stage.child, "/")
        answer = await stage.get(stage.parent, "/", f"Banish-Tier: {heard[0]}")
        assert "banish-tier" not in answer.fields
        assert stage.parent.tiers._answered.get("refused") == 1

    play(scene)
