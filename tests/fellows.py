"""Edges of one mesh in one event loop: real purge services, logs and cores, joined by a network that obeys the test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from banish.clock import SystemClock
from banish.edge.config import Mesh as Settings
from banish.edge.meshing import Mesh
from banish.mesh import directory
from banish.mesh.directory import MeshDirectory
from banish.mesh.lease import Lease
from banish.mesh.members import Member, Members
from banish.mesh.transport import Receiver
from banish.mesh.zenoh_config import Topology
from banish.store.records import StoredResponse
from banish.tables import Accounts
from tests.unit.edge.services import Service

PERIOD_S = 0.05
WAITS = Settings(period_s=PERIOD_S, lease_s=2.0, gap_limit_s=1.0, catchup_wait_s=2.0)
UNTIL_S = 10.0


class Network:
    """Carries whatever is said, at once, unless an edge is cut off (`cut`) or `drops` says so."""

    def __init__(self) -> None:
        self.edges: dict[str, Local] = {}
        self.locals: list[Local] = []
        """All there are: two may have one id."""
        self.cut: set[str] = set()
        self.drops: Callable[[str, str, bytes], bool] = lambda edge, kind, data: False

    def reaches(self, one: str, other: str) -> bool:
        """Whether anything gets from one to the other."""
        return one in self.edges and other in self.edges and not self.cut & {one, other}

    def say(self, by: "Local", kind: str, data: bytes, to: str | None = None) -> bool:
        """To one, or to all."""
        hearers = [local for local in self.locals if local is not by and to in (None, local.edge)]
        for local in hearers if by in self.locals else ():
            if not (self.cut & {by.edge, local.edge} or self.drops(local.edge, kind, data)):
                asyncio.get_running_loop().call_soon(local.hear, kind, data)
        return by in self.locals

    def connect(self, edge: str, *, up: bool) -> None:
        """Cut an edge off, or link it again."""
        (self.cut.discard if up else self.cut.add)(edge)
        for other, local in self.edges.items():
            if other != edge and local.receiver is not None and edge in self.edges:
                local.receiver.on_link(edge, up)
                found = self.edges[edge].receiver
                if found is not None:
                    found.on_link(other, up)


class Local:
    """One edge's transport."""

    def __init__(self, network: Network, edge: str) -> None:
        self.receiver: Receiver | None = None
        self.members: tuple[Member, ...] = ()
        self.reopened = 0
        self._network = network
        self.edge = edge

    def hear(self, kind: str, data: bytes) -> None:
        """Something has come."""
        if self.receiver is not None:
            getattr(self.receiver, f"on_{kind}")(data)

    async def start(self, members: Sequence[Member], receiver: Receiver) -> None:
        self.members, self.receiver = tuple(members), receiver
        self._network.edges[self.edge] = self
        self._network.locals.append(self)
        self._network.connect(self.edge, up=True)

    async def stop(self) -> None:
        if self._network.edges.get(self.edge) is self:
            del self._network.edges[self.edge]
        if self in self._network.locals:
            self._network.locals.remove(self)
        self.receiver = None

    async def reform(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)

    async def reopen(self) -> None:
        self.reopened += 1

    def publish_record(self, data: bytes) -> bool:
        return self._network.say(self, "record", data)

    def publish_digest(self, data: bytes) -> bool:
        return self._network.say(self, "digest", data)

    def send_ack(self, edge: str, data: bytes) -> bool:
        return self._network.say(self, "ack", data, to=edge)

    async def pull(self, edge: str, data: bytes, timeout_s: float) -> list[bytes]:
        other = self._network.edges.get(edge)
        if not self._network.reaches(self.edge, edge) or other is None or other.receiver is None:
            return []
        return list(await other.receiver.on_pull(data))

    async def counts(self, edge: str, data: bytes, timeout_s: float) -> bytes | None:
        other = self._network.edges.get(edge)
        if not self._network.reaches(self.edge, edge) or other is None or other.receiver is None:
            return None
        return await other.receiver.on_counts(data)


class Fellow:
    """One start of one edge."""

    def __init__(self, network: Network, data: Path, name: str, *, waits: Settings = WAITS, **service: Any) -> None:
        data.mkdir(exist_ok=True)
        self.name = name
        self.data = data
        self.service = Service(data / "log", **service)
        self.identity = self.service.identity
        self.edge = self.identity.edge
        self.directory = MeshDirectory(data)
        self.network = network
        self.lease = Lease()
        self.outcast = False
        self.waits = waits
        self.mesh: Mesh | None = None

    @property
    def member(self) -> Member:
        """As others know it."""
        return Member(self.edge, self.name, self.identity.public_key)

    def found(self, members: Members) -> None:
        """Write the directory of its mesh."""
        settings = directory.Settings(directory.FORMAT, self.name, (), Topology.MESH, secured=False)
        if not self.directory.exists:
            self.directory.create(self.member, settings, None, 0.0)
        self.directory.keep_members(members)

    def join(self) -> Mesh:
        """Recover, and make the mesh."""
        service = self.service
        service.purger.recover()
        mesh = self.mesh = Mesh(
            directory=self.directory,
            identity=self.identity,
            purger=service.purger,
            purge_log=service.log,
            floor=service.table.floor,
            settings=self.waits,
            lease=self.lease,
            clock=SystemClock(),
            accounts=service.accounts,
            make_transport=lambda me: Local(self.network, me.edge),
            on_outcast=self._cast_out,
            copies=2,
            copies_wait_s=1.0,
            store=self,
            index=lambda: service.table.index,
        )
        service.purger.peers = mesh
        return mesh

    def lookup(self, key: str) -> tuple[StoredResponse, ...]:
        """Nothing is stored here."""
        return ()

    def put(self, record: StoredResponse) -> None:
        pass

    def _cast_out(self) -> None:
        self.outcast = True

    async def start(self) -> "Fellow":
        """Join, and be caught up or not."""
        mesh = self.join()
        await self.service.purger.start()
        await mesh.start()
        return self

    async def stop(self) -> None:
        """Say goodbye."""
        if self.mesh is not None:
            await self.mesh.stop()
        await asyncio.to_thread(self.service.log.close)

    async def kill(self) -> None:
        """Say nothing; what is in the log stays."""
        assert self.mesh is not None
        self.network.locals = [local for local in self.network.locals if local.edge != self.edge]
        await self.stop()


@contextlib.asynccontextmanager
async def meshed(path: Path, *names: str, **service: Any) -> AsyncIterator[tuple[Network, list[Fellow]]]:
    """Edges that all belong from the start, and are caught up."""
    network = Network()
    fellows = [Fellow(network, path / name, name, **service) for name in names]
    members = Members([fellow.member for fellow in fellows])
    for fellow in fellows:
        fellow.found(members)
    try:
        await asyncio.gather(*[fellow.start() for fellow in fellows])
        await until(
            lambda: all(len(fellow.mesh.replica.counted) == len(names) - 1 for fellow in fellows if fellow.mesh)
        )
        yield network, fellows
    finally:
        for fellow in fellows:
            await fellow.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until it holds."""
    async with asyncio.timeout(UNTIL_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def books(fellow: Fellow) -> Accounts:
    """Its figures."""
    return fellow.service.accounts
