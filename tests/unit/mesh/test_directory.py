"""The files of a mesh, and how an edge comes by them."""

import os
import time
from pathlib import Path

import pytest

from banish.edge.joining import begin_mesh, install_certificate, join_mesh
from banish.errors import ConfigError
from banish.mesh.directory import MeshDirectory
from banish.mesh.invitations import USABLE_S, Invitation, encode, invitation, renewal
from banish.mesh.members import Member, Members
from banish.mesh.zenoh_config import Topology
from banish.store.identity import Identity

NOW = time.time()


def begin(data: Path, *endpoints: str, topology: Topology = Topology.MESH) -> Member:
    listens = endpoints or ("tls/paris.example:7447",)
    return begin_mesh(data, "paris", listens, topology=topology, relay=topology is Topology.RELAY, listen=(), now=NOW)


def invited(data: Path) -> tuple[bytes, Invitation]:
    """An invitation by the edge in `data`."""
    mesh = MeshDirectory(data)
    how = {"relay": False, "topology": mesh.settings().topology, "now": NOW}
    paper, _ = invitation(mesh.authority(), mesh.members(), "berlin", ("tls/berlin.example:7447",), **how)  # type: ignore[arg-type]
    return encode(paper), paper


class TestBegin:
    def test_it_is_a_mesh_of_itself(self, tmp_path: Path) -> None:
        me = begin(tmp_path)
        mesh = MeshDirectory(tmp_path)
        assert list(mesh.members()) == [me]
        assert mesh.settings().name == "paris"
        credentials = mesh.credentials
        assert credentials is not None
        assert credentials.check(me, NOW) > NOW
        identity = Identity.open(tmp_path)
        assert (identity.edge, identity.public_key) == (me.edge, me.key)
        identity.close()

    def test_it_keeps_the_identity_that_there_is(self, tmp_path: Path) -> None:
        identity = Identity.open(tmp_path)
        identity.close()
        assert begin(tmp_path).edge == identity.edge

    def test_keys_are_for_nobody_else(self, tmp_path: Path) -> None:
        begin(tmp_path)
        for name in ("ca.key", "edge.key"):
            assert (tmp_path / "mesh" / name).stat().st_mode & 0o777 == 0o600

    def test_there_is_one(self, tmp_path: Path) -> None:
        begin(tmp_path)
        with pytest.raises(ConfigError, match="already"):
            begin(tmp_path)

    def test_in_the_clear_there_are_no_certificates(self, tmp_path: Path) -> None:
        begin(tmp_path, "tcp/127.0.0.1:7447")
        mesh = MeshDirectory(tmp_path)
        assert mesh.credentials is None
        assert mesh.authority() is None
        assert not (tmp_path / "mesh" / "ca.pem").exists()

    @pytest.mark.parametrize("endpoints", [("tcp/192.0.2.1:1",), ("tls/a.example:1", "tcp/127.0.0.1:1"), ("paris",)])
    def test_what_could_not_be_opened_is_not_made(self, tmp_path: Path, endpoints: tuple[str, ...]) -> None:
        with pytest.raises(ConfigError):
            begin(tmp_path, *endpoints)
        assert not MeshDirectory(tmp_path).exists

    def test_not_while_the_edge_runs(self, tmp_path: Path) -> None:
        running = Identity.open(tmp_path)
        with pytest.raises(ConfigError, match="in use"):
            begin(tmp_path)
        running.close()


class TestJoin:
    def test_it_is_the_edge_that_was_invited(self, tmp_path: Path) -> None:
        begin(tmp_path / "paris")
        paper, told = invited(tmp_path / "paris")
        join_mesh(tmp_path / "berlin", paper, listen=(), replace=False, now=NOW)
        identity = Identity.open(tmp_path / "berlin")
        assert (identity.edge, identity.public_key) == (told.edge, told.me.key)
        identity.close()
        mesh = MeshDirectory(tmp_path / "berlin")
        assert {one.name for one in mesh.members()} == {"paris", "berlin"}
        credentials = mesh.credentials
        assert credentials is not None
        assert credentials.check(told.me, NOW) > NOW
        assert mesh.authority() is None, "invitations are made where the key of the authority is"

    @pytest.mark.parametrize("kept", ["identity", "purges.sqlite", "index"])
    def test_a_newcomer_starts_empty(self, tmp_path: Path, kept: str) -> None:
        begin(tmp_path / "paris")
        paper, _ = invited(tmp_path / "paris")
        old = tmp_path / "berlin"
        Identity.open(old).close()
        (old / "purges.sqlite").write_text("old")
        (old / "index").mkdir()
        with pytest.raises(ConfigError, match=kept):
            join_mesh(old, paper, listen=(), replace=False, now=NOW)
        assert not MeshDirectory(old).exists
        join_mesh(old, paper, listen=(), replace=True, now=NOW)
        assert sorted(path.name for path in old.iterdir()) == ["identity", "lock", "mesh"]

    def test_one_that_broke_off_is_done_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        begin(tmp_path / "paris")
        paper, _ = invited(tmp_path / "paris")
        rename, names = os.rename, []

        def crashing(path: Path, to: Path) -> Path:
            names.append(to.name)
            if to.name == "identity":
                raise OSError("crash")
            rename(path, to)
            return to

        monkeypatch.setattr(Path, "rename", crashing)
        with pytest.raises(ConfigError):
            join_mesh(tmp_path / "berlin", paper, listen=(), replace=False, now=NOW)
        assert names[-2:] == ["settings.json", "identity"], "the identity comes last"
        monkeypatch.undo()
        join_mesh(tmp_path / "berlin", paper, listen=(), replace=False, now=NOW)
        assert MeshDirectory(tmp_path / "berlin").settings().name == "berlin"

    def test_not_with_one_that_is_too_old(self, tmp_path: Path) -> None:
        begin(tmp_path / "paris")
        paper, _ = invited(tmp_path / "paris")
        with pytest.raises(ConfigError, match="too old"):
            join_mesh(tmp_path / "berlin", paper, listen=(), replace=False, now=NOW + USABLE_S + 1)


class TestRenew:
    def test_the_edge_has_another_certificate_and_listens_elsewhere(self, tmp_path: Path) -> None:
        me = begin(tmp_path)
        mesh = MeshDirectory(tmp_path)
        authority = mesh.authority()
        assert authority is not None
        renewed, moved = renewal(authority, mesh.members(), "paris", ("tls/new.example:1",), NOW)
        install_certificate(tmp_path, encode(renewed))
        credentials = mesh.credentials
        assert moved is not None
        assert credentials is not None
        assert credentials.check(moved, NOW) > NOW
        with pytest.raises(ConfigError, match=r"not for paris\.example"):
            credentials.check(me, NOW)
        assert mesh.settings().endpoints == ("tls/new.example:1",)

    def test_not_that_of_another_edge(self, tmp_path: Path) -> None:
        begin(tmp_path / "one")
        begin(tmp_path / "other")
        mesh = MeshDirectory(tmp_path / "other")
        authority = mesh.authority()
        assert authority is not None
        renewed, _ = renewal(authority, mesh.members(), "paris", None, NOW)
        with pytest.raises(ConfigError, match=r"and .* is that of"):
            install_certificate(tmp_path / "one", encode(renewed))


class TestMembers:
    def test_they_are_kept(self, tmp_path: Path) -> None:
        me = begin(tmp_path)
        mesh = MeshDirectory(tmp_path)
        other = Member("0" * 16, "rome", bytes(32), (), relay=True, revision=3)
        mesh.keep_members(Members([me, other], ["f" * 16]))
        found = mesh.members()
        assert list(found) == sorted([me, other], key=lambda one: one.edge)
        assert found.forgotten == {"f" * 16}

    @pytest.mark.parametrize("text", ["", "{", '{"format":1,"members":[{"edge":"x"}]}', '{"format":2,"members":[]}'])
    def test_what_cannot_be_read_is_said(self, tmp_path: Path, text: str) -> None:
        begin(tmp_path)
        (tmp_path / "mesh" / "members").write_text(text)
        with pytest.raises(ConfigError, match=r"damaged|later release"):
            MeshDirectory(tmp_path).members()
