"""The mesh over HTTP: who may change who belongs, and what is answered."""

import msgspec
import pytest

from banish.mesh.invitations import Invitation, Renewal, decode
from tests.unit.admin.asking import ask, get
from tests.unit.admin.meshing import FakeMesh
from tests.unit.admin.subject import FakeEdge
from tests.unit.admin.tokens import bearer, guarded

FORM = {"name": "berlin", "endpoints": ["tls/berlin.example:7447"]}


def meshed(edge: FakeEdge | None = None) -> tuple[FakeEdge, FakeMesh]:
    edge, mesh = edge or FakeEdge(), FakeMesh()
    edge.mesh = mesh
    return edge, mesh


def test_who_belongs_and_how_each_is_heard() -> None:
    edge, mesh = meshed()
    assert ask(edge, "POST", "/mesh/invitations", FORM).status == 201
    told = get(edge, "/mesh").json
    assert told["name"] == "paris"
    assert [(one["name"], one["contact"]) for one in told["members"]] == [("berlin", "heard"), ("paris", "self")]
    assert told["version"] == mesh.members.version


def test_an_invitation_is_handed_out_once_and_kept_by_nobody_on_the_way() -> None:
    edge, mesh = meshed()
    answer = ask(edge, "POST", "/mesh/invitations", FORM)
    assert answer.status == 201
    assert answer.fields["cache-control"] == "no-store"
    invited = decode(msgspec.json.encode(answer.json), Invitation)
    assert invited.me == mesh.members.named("berlin")
    assert mesh.callers[0].name == "local"
    assert ask(edge, "POST", "/mesh/invitations", FORM).status == 409


def test_a_member_has_another_certificate_and_can_be_forgotten() -> None:
    edge, mesh = meshed()
    ask(edge, "POST", "/mesh/invitations", FORM)
    answer = ask(edge, "POST", "/mesh/members/berlin/certificate", {"endpoints": ["tls/new.example:1"]})
    assert (answer.status, answer.fields["cache-control"]) == (201, "no-store")
    assert decode(msgspec.json.encode(answer.json), Renewal).endpoints == ("tls/new.example:1",)
    member = mesh.members.named("berlin")
    assert member is not None
    gone = ask(edge, "DELETE", "/mesh/members/berlin")
    assert (gone.status, gone.json["edge"]) == (200, member.edge)
    assert mesh.members.is_forgotten(member.edge)
    assert ask(edge, "DELETE", "/mesh/members/berlin").status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/mesh"),
        ("POST", "/mesh/invitations"),
        ("POST", "/mesh/members/berlin/certificate"),
        ("DELETE", "/mesh/members/berlin"),
    ],
)
def test_an_edge_that_is_alone_says_how_it_would_not_be(method: str, path: str) -> None:
    answer = ask(FakeEdge(), method, path, FORM)
    assert answer.status == 404
    assert "banish mesh init" in answer.error


@pytest.mark.parametrize(("sites", "rights"), [(("shop",), ("read", "purge")), (("*",), ("read",))])
def test_who_may_not_purge_everything_may_not_say_who_belongs(sites: tuple[str, ...], rights: tuple[str, ...]) -> None:
    edge, mesh = meshed(guarded(sites=sites, rights=rights, site_names=("shop",)))
    for method, path in (("POST", "/mesh/invitations"), ("DELETE", "/mesh/members/paris")):
        assert ask(edge, method, path, FORM, **bearer()).status == 403
    assert not mesh.callers
    assert get(edge, "/mesh", **bearer()).status == 200


@pytest.mark.parametrize("form", [{}, {"name": 1}, {**FORM, "endpoint": "x"}, {"name": "Berlin"}])
def test_what_is_not_understood_is_refused(form: dict[str, object]) -> None:
    edge, mesh = meshed()
    assert ask(edge, "POST", "/mesh/invitations", form).status == 400
    assert len(mesh.members) == 1


def test_a_page_of_another_site_cannot_invite() -> None:
    edge, mesh = meshed()
    assert ask(edge, "POST", "/mesh/invitations", FORM, **{"content-type": "text/plain"}).status == 415
    assert not mesh.callers
