"""Five edges that are processes, with long and lossy ways between them: what is purged at one is gone at all.

Each test is a story told by an operator: purge anywhere, kill, stop, part, heal, join, forget.
"""

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.meshes import Mesh, MeshEdge, command, mesh_of, until
from tests.newer import NOVELTY

from banish.testing.link import Way

NAMES = ("ams", "ber", "cph", "dub", "edi")
LEASE_S = 3.0
SETTINGS = f"mesh.lease_s = {LEASE_S}\nmesh.period_s = 0.5\nmesh.catchup_wait_s = 2"
LOSSY = Way(delay_s=0.01, loss=0.02, jitter_s=0.005)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with mesh_of(tmp_path_factory.mktemp("mesh"), *NAMES, way=LOSSY, settings=SETTINGS) as made:
        yield made


def stored_everywhere(mesh: Mesh, path: str, tag: str) -> None:
    """Have every edge that runs store a page with this tag."""
    headers = [("Cache-Control", "max-age=600"), ("Surrogate-Key", tag)]
    mesh.origin.script.respond(path, headers=headers, body=b"page")
    for edge in mesh:
        if edge.running:
            edge.get(path)
            until(lambda edge=edge: edge.is_hit(path), f"{edge.name} has stored {path}")  # type: ignore[misc]


def gone_at(edge: MeshEdge, purge: str) -> None:
    """Wait until an edge has a purge, durably."""
    until(lambda: edge.knows(purge), f"{edge.name} has {purge}")


@pytest.mark.parametrize("at", NAMES)
def test_a_purge_at_any_edge_is_in_effect_at_all_when_all_have_answered(mesh: Mesh, at: str) -> None:
    stored_everywhere(mesh, f"/any/{at}", f"any-{at}")
    told = mesh[at].purge({"tag": f"any-{at}"}, query="?wait=all&timeout=20")
    assert told["complete"] is True
    assert {edge["name"] for edge in told["edges"]} == set(NAMES)
    assert [edge.name for edge in mesh if edge.is_hit(f"/any/{at}")] == []


def test_killed_and_started_again_an_edge_catches_up_before_it_answers(mesh: Mesh) -> None:
    stored_everywhere(mesh, "/killed", "killed")
    mesh["cph"].kill()
    told = mesh["ams"].purge({"tag": "killed"}, query="?wait=all&timeout=1")
    assert told["complete"] is False
    assert told["missing"] == ["cph"]
    mesh["cph"].start()
    assert not mesh["cph"].is_hit("/killed")
    gone_at(mesh["cph"], told["id"])


def test_what_a_killed_edge_acknowledged_to_its_callers_reaches_all(mesh: Mesh) -> None:
    stored_everywhere(mesh, "/issuer", "issuer")
    told = mesh["dub"].purge({"tag": "issuer"})
    mesh["dub"].kill()
    mesh["dub"].start()
    for edge in mesh:
        gone_at(edge, told["id"])
        assert not edge.is_hit("/issuer")


def test_a_stopped_edge_holds_nobody_up_and_forgets_when_it_goes_on(mesh: Mesh) -> None:
    stored_everywhere(mesh, "/stopped", "stopped")
    mesh["ber"].pause()
    try:
        told = mesh["edi"].purge({"tag": "stopped"}, query="?wait=3&timeout=20")
        for name in ("ams", "cph", "dub", "edi"):
            gone_at(mesh[name], told["id"])
    finally:
        mesh["ber"].resume()
    gone_at(mesh["ber"], told["id"])
    assert not mesh["ber"].is_hit("/stopped")


def test_a_parted_edge_knows_that_it_may_be_missing_purges_and_heals(mesh: Mesh) -> None:
    mesh.until_all_hear()
    stored_everywhere(mesh, "/parted", "parted")
    mesh.part("ams")
    try:
        told = mesh["edi"].purge({"tag": "parted"}, query="?wait=all&timeout=1")
        assert told["missing"] == ["ams"]
        until(lambda: bool(mesh["ams"].status()["behind"]), "ams knows that it is behind")
        assert "behind" in mesh["ams"].get("/parted").fields["cache-status"]
    finally:
        mesh.heal()
    gone_at(mesh["ams"], told["id"])
    assert not mesh["ams"].is_hit("/parted")
    until(lambda: not mesh["ams"].status()["behind"], "ams is not behind any more")


def test_undone_anywhere_it_is_undone_everywhere(mesh: Mesh) -> None:
    mesh.until_all_hear()
    stored_everywhere(mesh, "/undone", "undone")
    told = mesh["ams"].purge({"tag": "undone"}, query="?wait=all&timeout=20", mode="soft")
    mesh["ams"].ask("DELETE", f"/purges/{told['id']}")
    for edge in mesh:
        until(lambda edge=edge: edge.is_hit("/undone"), f"{edge.name} answers from it again")  # type: ignore[misc]


def test_a_newcomer_takes_part_and_a_forgotten_edge_does_not(tmp_path: Path) -> None:
    with mesh_of(tmp_path, "ams", "ber", "cph", settings=SETTINGS) as mesh:
        before = mesh["ams"].purge({"tag": "before"})
        mesh["ber"].stop()
        mesh["ams"].ask("DELETE", "/mesh/members/ber")
        until(lambda: "ber" not in names(mesh["cph"]), "cph has heard that ber is forgotten")
        told = mesh["cph"].purge({"tag": "after"}, query="?wait=all&timeout=10")
        assert told["complete"] is True
        assert {edge["name"] for edge in told["edges"]} == {"ams", "cph"}
        assert mesh["cph"].knows(before["id"])
        mesh["ber"].start()
        until(lambda: mesh["ber"].status()["stage"] == "forgotten", "ber is told that it was forgotten")
        assert not mesh["ber"].knows(told["id"])


def names(edge: MeshEdge) -> set[str]:
    return {member["name"] for member in edge.status()["members"]}


def test_a_record_of_a_kind_not_known_is_applied_wider_and_passed_on_unchanged(tmp_path: Path) -> None:
    with mesh_of(tmp_path, "ams", "ber", "cph", settings=SETTINGS) as mesh:
        mesh["ber"].stop()
        mesh["ber"].module = "tests.newer"
        mesh["ber"].start()
        mesh.until_all_hear()
        stored_everywhere(mesh, "/tagged", "tagged")
        stored_everywhere(mesh, "/other", "other")
        mesh["cph"].kill()
        told = mesh["ber"].purge({"tag": "tagged"}, site="site", reason=NOVELTY)
        gone_at(mesh["ams"], told["id"])
        assert not mesh["ams"].is_hit("/other")  # it cannot know better
        issued = exported(mesh["ber"], told["id"])
        mesh["ber"].kill()
        mesh["cph"].start()  # and hears it from ams, which could not read it
        gone_at(mesh["cph"], told["id"])
        assert not mesh["cph"].is_hit("/other")
        assert exported(mesh["ams"], told["id"]) == exported(mesh["cph"], told["id"]) == issued


def exported(edge: MeshEdge, purge: str) -> str:
    """The signed record of a purge, as an edge has it."""
    lines = map(json.loads, edge.process.admin("/purges/export").text.splitlines())
    return next(str(line["record"]) for line in lines if line["id"] == purge)


def test_whoever_has_a_certificate_of_another_authority_is_not_let_in(tmp_path: Path) -> None:
    with mesh_of(tmp_path / "mesh", "ams", "ber", settings=SETTINGS) as mesh:
        stranger = MeshEdge("ber", tmp_path / "stranger", "")
        command("mesh", "init", "--data", str(stranger.data), "--name", "ber", "--listen", "tls/127.0.0.1:7447")
        assert is_let_in(mesh["ams"], mesh["ber"].data / "mesh")
        assert not is_let_in(mesh["ams"], stranger.data / "mesh")


def is_let_in(edge: MeshEdge, credentials: Path) -> bool:
    """Whether an edge takes a connection with these files: over TLS 1.3 it says so only when something is read."""
    context = ssl.create_default_context(cafile=edge.data / "mesh" / "ca.pem")
    context.load_cert_chain(credentials / "edge.pem", credentials / "edge.key")
    with (
        socket.create_connection(("127.0.0.1", edge.mesh_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        secured.settimeout(1)
        try:
            return secured.recv(1) != b""
        except TimeoutError:
            return True  # it waits for us to speak
        except (ssl.SSLError, ConnectionError):
            return False
