"""The commands of a mesh: from making one to leaving it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from banish.edge.mesh_state import Contact
from banish.mesh.directory import MeshDirectory
from tests.unit.admin.meshing import FakeMesh
from tests.unit.admin.subject import FakeEdge
from tests.unit.cli.serving import Listener, invoke, listening

LISTEN = "tls/berlin.example:7447"


@pytest.fixture
def mesh() -> FakeMesh:
    return FakeMesh()


@pytest.fixture
def edge(mesh: FakeMesh) -> Iterator[Listener]:
    one = FakeEdge()
    one.mesh = mesh
    with listening(one) as listener:
        yield listener


def test_a_mesh_is_begun_and_says_how_it_goes_on(tmp_path: Path) -> None:
    result = invoke("mesh", "init", "--data", str(tmp_path), "--name", "paris", "--listen", "tls/paris.example:7447")
    assert result.exit_code == 0
    assert "banish mesh invite" in result.stdout
    assert MeshDirectory(tmp_path).settings().name == "paris"
    again = invoke("mesh", "init", "--data", str(tmp_path), "--name", "paris")
    assert again.exit_code == 2
    assert "already" in again.stderr


def test_in_topology_relay_the_first_edge_is_one(tmp_path: Path) -> None:
    options = ["--name", "hub", "--listen", "tls/hub.example:7447", "--topology", "relay"]
    assert invoke("mesh", "init", "--data", str(tmp_path), *options).exit_code == 0
    assert [one.relay for one in MeshDirectory(tmp_path).members()] == [True]


def test_invited_here_and_joined_there(edge: Listener, mesh: FakeMesh, tmp_path: Path) -> None:
    file = tmp_path / "berlin.invite"
    result = edge.invoke("mesh", "invite", "berlin", "--listen", LISTEN, "--out", str(file))
    assert result.exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    joined = invoke("join", str(file), "--data", str(tmp_path / "data"))
    assert joined.exit_code == 0
    assert "with   paris" in joined.stdout
    assert mesh.members.named("berlin") in list(MeshDirectory(tmp_path / "data").members())
    again = invoke("join", str(file), "--data", str(tmp_path / "data"))
    assert again.exit_code == 2
    assert "--replace" in again.stderr
    assert invoke("join", str(file), "--data", str(tmp_path / "data"), "--replace").exit_code == 0


def test_nobody_is_invited_who_could_not_be_told(edge: Listener, mesh: FakeMesh, tmp_path: Path) -> None:
    file = tmp_path / "berlin.invite"
    file.write_text("something else")
    assert edge.invoke("mesh", "invite", "berlin", "--out", str(file)).exit_code == 2
    assert file.read_text() == "something else"
    assert len(mesh.members) == 1


def test_a_refusal_leaves_no_file(edge: Listener, tmp_path: Path) -> None:
    file = tmp_path / "paris.invite"
    result = edge.invoke("mesh", "invite", "paris", "--out", str(file))
    assert result.exit_code == 1
    assert "already" in result.stderr
    assert not file.exists()


def test_a_certificate_is_renewed_and_put_in_its_place(edge: Listener, mesh: FakeMesh, tmp_path: Path) -> None:
    invite, renewed, data = tmp_path / "invite", tmp_path / "renewal", tmp_path / "data"
    edge.invoke("mesh", "invite", "berlin", "--listen", LISTEN, "--out", str(invite))
    invoke("join", str(invite), "--data", str(data))
    before = (data / "mesh" / "edge.pem").read_bytes()
    assert edge.invoke("mesh", "renew", "berlin", "--out", str(renewed)).exit_code == 0
    assert renewed.stat().st_mode & 0o777 == 0o600
    result = invoke("mesh", "install", str(renewed), "--data", str(data))
    assert result.exit_code == 0
    assert "SIGHUP" in result.stdout
    assert (data / "mesh" / "edge.pem").read_bytes() != before
    assert invoke("mesh", "install", str(invite), "--data", str(data)).exit_code == 2


def test_an_edge_is_forgotten(edge: Listener, mesh: FakeMesh, tmp_path: Path) -> None:
    edge.invoke("mesh", "invite", "berlin", "--out", str(tmp_path / "invite"))
    assert edge.invoke("mesh", "forget", "berlin").exit_code == 0
    assert mesh.members.named("berlin") is None
    assert edge.invoke("mesh", "forget", "berlin").exit_code == 1


@pytest.mark.parametrize(("contact", "code"), [(Contact.HEARD, 0), (Contact.LEFT, 0), (Contact.SILENT, 1)])
def test_the_list_says_who_is_heard(
    edge: Listener, mesh: FakeMesh, tmp_path: Path, contact: Contact, code: int
) -> None:
    edge.invoke("mesh", "invite", "berlin", "--listen", LISTEN, "--out", str(tmp_path / "invite"))
    mesh.contacts["berlin"] = contact
    result = edge.invoke("mesh", "members")
    assert result.exit_code == code
    row = next(line for line in result.stdout.splitlines() if line.startswith("berlin"))
    for word in (contact.value, "0.5 s ago", "12.0 ms", LISTEN):
        assert word in row
    told = json.loads(edge.invoke("mesh", "members", "--json").stdout)
    assert [one["name"] for one in told["members"]] == ["berlin", "paris"]


def test_an_edge_that_is_alone_says_so() -> None:
    with listening() as alone:
        result = alone.invoke("mesh", "members")
    assert result.exit_code == 1
    assert "banish mesh init" in result.stderr
