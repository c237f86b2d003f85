"""`banish status`: how an edge is, and how it hears the others."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from banish.edge.mesh_state import Contact, MemberState, MeshState
from banish.mesh.zenoh_config import Topology
from tests.unit.admin.subject import FakeEdge
from tests.unit.cli.serving import Listener, listening

BERLIN, PARIS = "b" * 16, "a" * 16


class Meshed:
    """A mesh of two, of which one is silent if `behind`."""

    def __init__(self, *, behind: bool = False) -> None:
        self.behind = behind

    def state(self) -> MeshState:
        silent = Contact.SILENT if self.behind else Contact.HEARD
        members = (
            MemberState("berlin", BERLIN, silent, ("tls/berlin:7447",), False, True, 0.25, 0.012),
            MemberState("paris", PARIS, Contact.SELF, (), False, False),
        )
        return MeshState("paris", PARIS, Topology.MESH, "caught-up", self.behind, "0123", members)


@pytest.fixture
def edge() -> Iterator[Listener]:
    with listening(FakeEdge()) as listener:
        yield listener


def meshed(edge: Listener, **how: Any) -> None:
    edge.edge.mesh = Meshed(**how)  # type: ignore[assignment]


def test_an_edge_alone_says_so(edge: Listener) -> None:
    result = edge.invoke("status")
    assert result.exit_code == 0
    assert result.stdout.startswith("banish  serving\n")
    assert "mesh     none: it is alone\n" in result.stdout


def test_members_are_told_with_how_they_are_heard(edge: Listener) -> None:
    meshed(edge)
    result = edge.invoke("status")
    assert result.exit_code == 0
    assert "caught-up, 2 members (0123)" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith(("berlin", "paris "))]
    assert ["berlin", "heard", "0.2", "s", "ago", "12.0", "ms", BERLIN] in rows


def test_an_edge_that_may_be_missing_purges_says_what_it_does_meanwhile(edge: Listener) -> None:
    meshed(edge, behind=True)
    result = edge.invoke("status")
    assert result.exit_code == 1
    assert "it may be missing purges; default: serve" in result.stdout
    told = json.loads(edge.invoke("status", "--json").stdout)
    assert (told["behind"], told["members"][0]["heard"], told["edge"]) == (True, False, "0123456789abcdef")
