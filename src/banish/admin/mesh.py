"""The mesh: who belongs and how each is heard; inviting, renewing, forgetting.

    GET    /mesh                              who belongs, and how each is heard
    POST   /mesh/invitations                  a new member: its invitation, which is a secret
    POST   /mesh/members/{name}/certificate   a new certificate for a member, which is a secret too
    DELETE /mesh/members/{name}               a member that will not come back

What changes who belongs is for tokens that may purge on all sites: whoever belongs may do just that.

Not here: what comes of it (`edge/meshing.py`); invitations themselves (`mesh/invitations.py`).
"""

from typing import TypeVar

import msgspec
from starlette.responses import Response

from banish.admin.access import Right
from banish.admin.bodies import read_json
from banish.admin.endpoints import Call, Endpoint, json
from banish.admin.subject import Meshing
from banish.edge.mesh_state import MeshState
from banish.errors import ClientError
from banish.mesh.invitations import Invitation, Renewal, encode

MESH_BODY_BYTES_MAX = 16 * 1024
"""The body of one request."""

_PURGE = frozenset({Right.PURGE})
_SECRET = {"cache-control": "no-store"}


class InvitationForm(msgspec.Struct, forbid_unknown_fields=True):
    """Who is invited."""

    name: str
    """What the new edge is called: lower-case letters, digits, dots, dashes, underscores."""
    endpoints: tuple[str, ...] = ()
    """Where it listens for other edges, as in tls/berlin.example:7447. None: it only dials."""
    relay: bool = False
    """Whether it passes on what others publish."""


class CertificateForm(msgspec.Struct, forbid_unknown_fields=True):
    """What the certificate is for."""

    endpoints: tuple[str, ...] | None = None
    """Where the edge listens from now on; if left out: where it did."""


Form = TypeVar("Form", InvitationForm, CertificateForm)


class Forgotten(msgspec.Struct, frozen=True):
    """A member that is none any more."""

    name: str
    edge: str
    id: str
    """Of the entry in the log that says so."""


def _mesh(call: Call, *, may_change: bool = True) -> Meshing:
    if may_change and call.access.sites is not None:
        raise ClientError(403, f'the token "{call.access.name}" is for some sites, and a member may purge all')
    mesh = call.subject.mesh
    if mesh is None:
        raise ClientError(404, "this edge is alone; banish mesh init makes a mesh, banish join enters one")
    return mesh


async def _state(call: Call) -> Response:
    return json(_mesh(call, may_change=False).state())


async def _invite(call: Call) -> Response:
    mesh = _mesh(call)
    form = await _form(call, InvitationForm)
    invited = await mesh.invite(form.name, form.endpoints, relay=form.relay, caller=call.access.caller)
    return Response(encode(invited), 201, _SECRET, media_type="application/json")


async def _renew(call: Call) -> Response:
    mesh = _mesh(call)
    form = await _form(call, CertificateForm)
    renewed = await mesh.renew(call.request.path_params["name"], form.endpoints, caller=call.access.caller)
    return Response(encode(renewed), 201, _SECRET, media_type="application/json")


async def _forget(call: Call) -> Response:
    name = call.request.path_params["name"]
    edge, id_ = await _mesh(call).forget(name, caller=call.access.caller)
    return json(Forgotten(name, edge, id_))


async def _form(call: Call, kind: type[Form]) -> Form:
    what = f"a request of a mesh is at most {MESH_BODY_BYTES_MAX} bytes of JSON"
    data = await read_json(call.request, MESH_BODY_BYTES_MAX, "MESH_BODY_BYTES_MAX", what)
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClientError(400, str(error)) from error


ENDPOINTS = (
    Endpoint(
        "GET", "/mesh", _state, "Who belongs to the mesh, and how each is heard.", {200: MeshState}, refuses=(404,)
    ),
    Endpoint(
        "POST",
        "/mesh/invitations",
        _invite,
        "Make a new edge a member: all that it needs to come, in one secret.",
        {201: Invitation},
        rights=_PURGE,
        body=InvitationForm,
        refuses=(400, 403, 404, 409, 413, 415, 503),
    ),
    Endpoint(
        "POST",
        "/mesh/members/{name}/certificate",
        _renew,
        "Make a new certificate for a member, and have it listen elsewhere if asked.",
        {201: Renewal},
        rights=_PURGE,
        body=CertificateForm,
        refuses=(400, 403, 404, 409, 413, 415, 503),
    ),
    Endpoint(
        "DELETE",
        "/mesh/members/{name}",
        _forget,
        "Forget a member that will not come back: no edge hears it any more, nor waits for it.",
        {200: Forgotten},
        rights=_PURGE,
        refuses=(403, 404, 409, 503),
    ),
)
