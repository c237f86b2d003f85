"""An edge that belongs to a mesh: it takes part before it serves, and stops answering from the store when cast out."""

from pathlib import Path

import pytest

from banish.edge.config import load
from banish.edge.joining import begin_mesh
from banish.errors import ConfigError
from banish.mesh.members import Member, Members
from banish.mesh.transport import Receiver, Transport
from banish.mesh.zenoh_config import Topology
from banish.proxy.serve import Edge, State
from tests.fellows import Local, Network, until
from tests.looped import looped


def edge_at(data: Path, network: Network, **flags: object) -> Edge:
    config = load(flags={"origin": ["http://127.0.0.1:9"], "listen": ["127.0.0.1:0"], "data": str(data), **flags})
    return Edge(config, make_transport=lambda me: Local(network, me.edge))


def mesh_at(data: Path) -> Member:
    endpoints = ("tcp/127.0.0.1:17447",)
    return begin_mesh(data, "paris", endpoints, topology=Topology.MESH, relay=False, listen=(), now=0.0)


@looped
async def test_it_takes_part_before_it_listens_and_says_goodbye(tmp_path: Path) -> None:
    mesh_at(tmp_path)
    network = Network()
    edge = edge_at(tmp_path, network)
    assert edge.mesh is not None
    linked: list[bool] = []
    begun = edge._open_listeners

    async def open_listeners() -> None:
        linked.append(bool(network.locals))
        await begun()

    edge._open_listeners = open_listeners  # type: ignore[method-assign]
    await edge.start()
    assert (edge.state, linked) == (State.SERVING, [True])
    assert not edge.passing
    assert edge.tiers.tier is edge.mesh
    await edge.stop()
    assert not network.locals


@looped
async def test_cast_out_it_answers_nothing_from_the_store(tmp_path: Path) -> None:
    me = mesh_at(tmp_path)
    edge = edge_at(tmp_path, Network())
    await edge.start()
    assert edge.mesh is not None
    edge.mesh._do(edge.mesh.replica.forgotten(me.edge, edge.clock.boottime()))
    await until(lambda: len(edge.stamps) == 1)  # everything, purged
    assert (edge.passing, edge.store.passing, edge.hot.closed) == (True, True, True)
    edge._pass(False)
    assert edge.store.passing, "whatever the log says"
    await edge.stop()


@looped
async def test_links_that_cannot_be_opened_end_the_start_and_leave_nothing(tmp_path: Path) -> None:
    mesh_at(tmp_path)

    class Refusing(Local):
        async def start(self, members: object, receiver: Receiver) -> None:
            raise ConfigError("the address is in use")

    config = load(flags={"origin": ["http://127.0.0.1:9"], "listen": ["127.0.0.1:0"], "data": str(tmp_path)})

    def refusing(me: Member) -> Transport:
        return Refusing(Network(), me.edge)

    with pytest.raises(ConfigError, match="in use"):
        await Edge(config, make_transport=refusing).start()
    again = edge_at(tmp_path, Network())
    await again.start()
    await again.stop()


@looped
async def test_an_identity_and_a_mesh_of_two_edges_do_not_start(tmp_path: Path) -> None:
    mesh_at(tmp_path)
    edge = edge_at(tmp_path, Network())
    assert edge.mesh is not None
    other = Member("f" * 16, "other", bytes(32))
    edge.mesh._membership._directory.keep_members(Members([other]))
    await edge.stop()
    with pytest.raises(ConfigError, match="not among the members"):
        edge_at(tmp_path, Network())
    with pytest.raises(ConfigError, match="not among the members"):
        edge_at(tmp_path, Network())
