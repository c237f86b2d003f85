"""Edges above one another, moved by hand: a mesh that hears what it is told, and a way between edges without sockets.

    mesh = FakeMesh()
    parent, child = edge_of(mesh, "paris"), edge_of(mesh, "kyoto", parents=["paris"])
    way = join(child, parent)
    mesh.purge(child, [child.url("/a")])      # in effect at the child, and nowhere else until `mesh.spread`

Requests between edges are real: heads are written and read as on the wire, by the code that does so there.

Not here: the real mesh (`tests/simulation`).
"""

import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

from banish.edge.config import Parent
from banish.errors import ConnectFailed, OriginError
from banish.http.fields import Fields
from banish.http.framing import Framing
from banish.http.messages import RequestHead, ResponseHead
from banish.http.targets import request_target
from banish.mesh.frontier import Frontier, Marks
from banish.origin.client import OriginGroup
from banish.origin.limits import Limits
from banish.origin.reading import ResponseReader
from banish.proxy.exchange import Answer, ConnectionInfo, Request
from banish.proxy.wire import encode_head
from banish.purge.positions import Position
from banish.purge.records import SIGNATURE_BYTES
from banish.purge.targets import Target
from banish.store.bodies import BodyReader
from banish.testing.clock import FakeClock
from tests.byhand import ByHand


def edge_id(name: str) -> str:
    """The id of the edge of that name."""
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


class FakeTier:
    """One edge's part in the fake mesh: what `edge/tiering.py` asks for."""

    def __init__(self, mesh: "FakeMesh", name: str, edge: ByHand) -> None:
        self.name = name
        self.edge = edge_id(name)
        self.epoch = "1-00000001"
        self.byhand = edge
        self.mesh = mesh
        self.held = Frontier()
        self.indexes: dict[Position, int] = {}
        self.positions: dict[int, Position] = {}
        self.confirmed: dict[str, dict[tuple[str, str], int]] = {}
        """By whom what is known here to be in effect there."""
        self.epochs: dict[str, str] = {}
        self.catching_up: Callable[[Marks], Awaitable[None]] | None = None
        """What becomes of a catch-up instead of taking it all at once."""
        self.issued = 0

    # --- what edges ask

    def sign(self, payload: bytes) -> bytes:
        return hashlib.blake2b(payload, key=self.edge.encode(), digest_size=SIGNATURE_BYTES).digest()

    def verify(self, edge: str, signature: bytes, payload: bytes) -> bool:
        member = next((tier for tier in self.mesh.tiers.values() if tier.edge == edge), None)
        return member is not None and member.sign(payload) == signature

    def named(self, name: str) -> str | None:
        return self.mesh.tiers[name].edge if name in self.mesh.tiers else None

    def has_member(self, edge: str) -> bool:
        return any(tier.edge == edge for tier in self.mesh.tiers.values()) and edge not in self.mesh.forgotten

    def epoch_of(self, edge: str) -> str:
        return self.epochs.get(edge, "")

    def unconfirmed(self, edge: str) -> Marks:
        known = self.confirmed.get(edge, {})
        highest = {stream: self.held.highest(stream) for stream in self.held.marks}
        return {stream: seq for stream, seq in highest.items() if seq > known.get(stream, 0)}

    def covers(self, marks: Marks) -> bool:
        return self.held.covers(marks)

    async def catch_up(self, marks: Marks, by: str, timeout_s: float) -> bool:
        if self.catching_up is not None:
            await self.catching_up(marks)
        else:
            for (edge, epoch), upto in marks.items():
                for seq in range(self.held.mark((edge, epoch)) + 1, upto + 1):
                    self.take(Position(edge, epoch, seq))
        return self.covers(marks)

    def index_of(self, position: Position) -> int | None:
        return self.indexes.get(position)

    # --- what happens to it

    def issue(self, hard: Sequence[Target], soft: Sequence[Target]) -> Position:
        """A purge that is accepted here."""
        self.issued += 1
        position = Position(self.edge, self.epoch, self.issued)
        self.mesh.log[position] = (tuple(hard), tuple(soft))
        self.take(position)
        return position

    def take(self, position: Position) -> None:
        """A purge is here, and in effect."""
        if self.held.has(position):
            return
        index = self.byhand.stamps.apply(*self.mesh.log[position])
        self.indexes[position], self.positions[index] = index, position
        self.held.add(position)

    def restart(self) -> None:
        """Another epoch begins. What is in effect stays so."""
        number = int(self.epoch.partition("-")[0]) + 1
        self.epoch, self.issued = f"{number}-{number:08x}", 0

    def pull(self, share: float) -> None:
        """About this share of what the others have purged arrives."""
        for position in sorted(self.mesh.log, key=lambda at: (at.edge, at.epoch, at.seq)):
            if self.mesh.random.random() < share:
                self.take(position)

    def confirm(self, to: "FakeTier") -> None:
        """Tell another edge how far this one is, and which epoch this is."""
        to.confirmed[self.edge] = dict(self.held.marks)
        to.epochs[self.edge] = self.epoch


class FakeMesh:
    """All edges and all purges."""

    tier_class: type[FakeTier] = FakeTier

    def __init__(self) -> None:
        self.random = random.Random(0)
        self.tiers: dict[str, FakeTier] = {}
        self.log: dict[Position, tuple[tuple[Target, ...], tuple[Target, ...]]] = {}
        self.forgotten: set[str] = set()

    def add(self, name: str, edge: ByHand) -> FakeTier:
        """An edge joins."""
        tier = self.tiers[name] = self.tier_class(self, name, edge)
        edge.tiers.tier = tier
        edge.purge_id = lambda index: position.text if (position := tier.positions.get(index)) else None  # type: ignore[method-assign]
        return tier

    def of(self, edge: ByHand) -> FakeTier:
        """An edge's part."""
        return next(tier for tier in self.tiers.values() if tier.byhand is edge)

    def purge(self, at: ByHand, hard: Sequence[Target] = (), soft: Sequence[Target] = ()) -> Position:
        """A purge is accepted by one edge. No other has heard of it."""
        return self.of(at).issue(hard, soft)

    def spread(self) -> None:
        """Everybody hears of everything, and knows so of everybody."""
        for tier in self.tiers.values():
            for position in self.log:
                tier.take(position)
        for tier in self.tiers.values():
            for other in self.tiers.values():
                tier.confirm(other)


def edge_of(
    mesh: FakeMesh, name: str, *, parents: Sequence[str] = (), clock: FakeClock | None = None, **site: Any
) -> ByHand:
    """An edge that belongs to the mesh, under that name, which is also its node's. Parents are yet to be `join`ed."""
    told = tuple([Parent(url=f"http://{parent}.example") for parent in parents])
    edge = ByHand(
        node=name, clock=clock or next((t.byhand.clock for t in mesh.tiers.values()), None), parent=told, **site
    )
    mesh.add(name, edge)
    return edge


class Way:
    """The way from a child to one parent: stands in for the `OriginGroup`. Tests may change what passes."""

    def __init__(self, child: ByHand, parent: ByHand) -> None:
        self.child, self.parent = child, parent
        self.down = False
        self.asked: list[RequestHead] = []
        self.answered: list[ResponseHead] = []
        self.on_request: Callable[[RequestHead], RequestHead] = lambda head: head
        self.on_response: Callable[[ResponseHead], ResponseHead] = lambda head: head
        self.before_arrival: Callable[[], Awaitable[None]] | None = None
        self.before_return: Callable[[], Awaitable[None]] | None = None

    async def fetch(
        self,
        head: RequestHead,
        body: AsyncIterator[bytes] | None,
        *,
        on_interim: Callable[[ResponseHead], None] | None = None,
        **_: Any,
    ) -> "Relayed":
        assert body is None
        if self.down:
            raise ConnectFailed("nobody is there", retryable=True)
        requested_at = self.child.clock.now()
        self.asked.append(head)
        if self.before_arrival is not None:
            await self.before_arrival()
        answer = await self.parent.pipeline.answer(arrived(self.parent, self.on_request(head)))
        if self.before_return is not None:
            await self.before_return()
        relayed = Relayed(head.method, answer, requested_at, self.child.clock.now())
        self.answered.append(relayed.head)
        relayed.head = self.on_response(relayed.head)
        return relayed

    async def close(self) -> None:
        """Nothing is open."""


def join(child: ByHand, parent: ByHand) -> Way:
    """Let a child reach a parent."""
    way = Way(child, parent)
    child.site.parents[parent.node].group = cast("OriginGroup", way)
    return way


def arrived(edge: ByHand, head: RequestHead) -> Request:
    """A request whose head an edge has just parsed, as it came over the wire."""
    host = head.fields.get("host") or ""
    return Request(
        head, request_target(head.method, head.target, host, "http"), ConnectionInfo("198.51.100.7", "http", "http://p"),
        arrived_at=edge.clock.now(), started=edge.clock.monotonic(), arrived_index=edge.stamps.index,
        raw_target=head.target.encode(), raw_host=host.encode(),
    )  # fmt: skip


class Relayed:
    """An edge's answer as another edge reads it. Stands in for an `OriginResponse`."""

    def __init__(self, method: str, answer: Answer, requested_at: float, received_at: float) -> None:
        chunked = answer.length is None and answer.body is not None
        reader = ResponseReader(method, Limits())
        reader.feed(encode_head(answer, keep=True, chunked=chunked, version="1.1"))
        assert reader.head is not None
        self.head: ResponseHead = reader.head
        self.framing: Framing | None = reader.framing
        self.requested_at, self.received_at = requested_at, received_at
        self.trailers: Fields | None = None
        self.tunnel = None
        self.closed = False
        self._answer = answer
        self._first = answer.body if isinstance(answer.body, bytes) else answer.first

    async def read(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            if first or isinstance(self._answer.body, bytes):
                return first
        if not isinstance(self._answer.body, BodyReader) or self._answer.first == b"":
            return b""
        return await self._answer.body.read()

    def close(self) -> None:
        self.closed = True
        self._answer.close_body()


def without(head: ResponseHead, *names: str) -> ResponseHead:
    """A head less some fields."""
    return ResponseHead(head.status, head.fields.without(names), head.reason)


__all__ = ["FakeMesh", "FakeTier", "OriginError", "Relayed", "Way", "arrived", "edge_id", "edge_of", "join", "without"]
