"""Inviting, renewing and forgetting edges: a record, a list that all keep, an invitation that works."""

from pathlib import Path

import pytest

from banish.edge.joining import begin_mesh, join_mesh
from banish.edge.mesh_state import Contact
from banish.errors import ClientError
from banish.mesh.directory import MeshDirectory
from banish.mesh.invitations import encode
from banish.mesh.zenoh_config import Topology
from banish.store.identity import Identity
from banish.testing.clock import FakeClock
from tests.fellows import Fellow, Network, until
from tests.looped import looped
from tests.unit.edge import services
from tests.unit.edge.services import ALICE

SECURED = ("tls/127.0.0.1:17447",)


def fellow_at(network: Network, data: Path, name: str) -> Fellow:
    """The edge whose identity a directory holds."""
    identity = Identity.open(data)
    services._KNOWN[data / "log"] = identity.edge, identity._key
    identity.close()
    return Fellow(network, data, name)


async def founded(network: Network, data: Path, endpoints: tuple[str, ...] = SECURED) -> Fellow:
    """The first edge of a mesh, at work."""
    begin_mesh(data, "paris", endpoints, topology=Topology.MESH, relay=False, listen=(), now=FakeClock().now())
    return await fellow_at(network, data, "paris").start()


@looped
async def test_an_invitation_makes_an_edge_that_both_know_before_it_comes(tmp_path: Path) -> None:
    network = Network()
    paris = await founded(network, tmp_path / "paris")
    assert paris.mesh is not None
    invited = await paris.mesh.invite("berlin", ("tls/127.0.0.1:17448",), relay=False, caller=ALICE)
    states = {one.name: one.contact for one in paris.mesh.state().members}
    assert states == {"berlin": Contact.NEW, "paris": Contact.SELF}
    assert not paris.lease.past(), "who has not come yet is not missed"
    await until(lambda: invited.edge in MeshDirectory(paris.data).members())

    join_mesh(tmp_path / "berlin", encode(invited), listen=(), replace=False, now=paris.service.clock.now())
    berlin = await fellow_at(network, tmp_path / "berlin", "berlin").start()
    assert paris.mesh is not None
    assert berlin.edge == invited.edge
    mesh = paris.mesh
    await until(lambda: {one.contact for one in mesh.state().members} == {Contact.SELF, Contact.HEARD})
    assert berlin.mesh is not None
    with pytest.raises(ClientError) as caught:
        await berlin.mesh.invite("tokyo", (), relay=False, caller=ALICE)
    assert caught.value.status == 409, "the authority's key is with the first"
    await berlin.stop()
    await paris.stop()


@looped
async def test_a_name_is_given_once_and_an_edge_does_not_forget_itself(tmp_path: Path) -> None:
    paris = await founded(Network(), tmp_path / "paris")
    mesh = paris.mesh
    assert mesh is not None
    for name, status in (("paris", 409), ("Not A Name", 400)):
        with pytest.raises(ClientError) as caught:
            await mesh.invite(name, (), relay=False, caller=ALICE)
        assert caught.value.status == status
    for name, status in (("paris", 409), ("nobody", 404)):
        with pytest.raises(ClientError) as caught:
            await mesh.forget(name, caller=ALICE)
        assert caught.value.status == status
    await paris.stop()


@looped
async def test_who_listens_elsewhere_from_now_on_is_known_so_by_all(tmp_path: Path) -> None:
    paris = await founded(Network(), tmp_path / "paris")
    mesh = paris.mesh
    assert mesh is not None
    before = mesh.state().version
    renewed = await mesh.renew("paris", None, caller=ALICE)
    assert mesh.state().version == before, "a certificate alone changes no list"
    moved = await mesh.renew("paris", ("tls/127.0.0.1:17450",), caller=ALICE)
    assert renewed.certificate != moved.certificate
    assert mesh.state().members[0].endpoints == ("tls/127.0.0.1:17450",)
    await paris.stop()
    again = fellow_at(Network(), tmp_path / "paris", "paris")
    assert again.join().members.named("paris") is not None
    assert again.mesh is not None
    assert again.mesh.state().members[0].endpoints == ("tls/127.0.0.1:17450",), "the log says so, whatever was kept"
    await again.stop()


@looped
async def test_a_mesh_in_the_clear_has_no_certificates(tmp_path: Path) -> None:
    paris = await founded(Network(), tmp_path / "paris", ("tcp/127.0.0.1:17447",))
    assert paris.mesh is not None
    with pytest.raises(ClientError, match="in the clear"):
        await paris.mesh.renew("paris", None, caller=ALICE)
    assert not (await paris.mesh.invite("berlin", (), relay=False, caller=ALICE)).certificate
    await paris.stop()
