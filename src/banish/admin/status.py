"""How this edge is: its state, its mesh, whether it may be missing purges, and what that means for each site.

Not here: single purges (`purges.py`); changes of who belongs (`mesh.py`); figures (`metrics.py`).
Units: seconds; milliseconds where the name says so.
"""

import msgspec
from starlette.responses import Response

import banish
from banish.admin.endpoints import Call, Endpoint, json
from banish.edge.mesh_state import Contact, MemberState


class MemberTold(msgspec.Struct, frozen=True):
    """A member of the mesh, as the edge that was asked has it."""

    name: str
    edge: str
    """Its id."""
    contact: Contact
    """self, heard, silent (purges of it may be missing here), left (stopped cleanly), new (invited, not come yet)."""
    heard: bool
    """Whether it is heard now."""
    linked: bool
    heard_ago_s: float | None
    lag_ms: float | None
    """From publishing a purge to its ack, smoothed."""


class StatusTold(msgspec.Struct, frozen=True, kw_only=True):
    """One edge."""

    node: str
    version: str
    edge: str
    """Its id."""
    state: str
    """starting, serving, draining, stopped."""
    passing: bool
    """Nothing is answered from what is stored: the log of purges cannot be written, or the edge was cast out."""
    name: str | None
    """In its mesh; null: it is alone, and what follows says nothing."""
    stage: str
    """How far it is: starting, catching-up, caught-up, forgotten, doubled."""
    behind: bool
    """Whether it may be missing purges."""
    partition: dict[str, str]
    """Of each site, what is done with stored responses while it is behind: serve, revalidate, bypass."""
    membership: str
    """Version of the list of members."""
    members: tuple[MemberTold, ...]


async def _status(call: Call) -> Response:
    subject = call.subject
    mesh = None if subject.mesh is None else subject.mesh.state()
    told = StatusTold(
        node=subject.config.node,
        version=banish.__version__,
        edge=subject.purger.edge,
        state=subject.state,
        passing=subject.passing,
        name=None if mesh is None else mesh.name,
        stage="" if mesh is None else mesh.stage,
        behind=mesh is not None and mesh.behind,
        partition={site.name: site.on_partition for site in subject.config.sites if call.access.covers(site.name)},
        membership="" if mesh is None else mesh.version,
        members=() if mesh is None else tuple(map(_told, mesh.members)),
    )
    return json(told)


def _told(member: MemberState) -> MemberTold:
    return MemberTold(
        member.name,
        member.edge,
        member.contact,
        member.contact is Contact.HEARD,
        member.linked,
        None if member.heard_ago_s is None else round(member.heard_ago_s, 3),
        None if member.lag_s is None else round(member.lag_s * 1000, 3),
    )


ENDPOINTS = (Endpoint("GET", "/status", _status, "This edge, and its mesh as it hears it.", {200: StatusTold}),)
