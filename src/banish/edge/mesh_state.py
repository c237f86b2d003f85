"""What an edge says of its mesh: who belongs, and how each is heard.

Not here: where that comes from (`meshing.py`, `mesh/replica.py`); receipts of single purges (`receipts.py`).
Units: seconds.
"""

from enum import StrEnum

import msgspec

from banish.mesh.zenoh_config import Topology


class Contact(StrEnum):
    """How a member is heard."""

    SELF = "self"
    """It is the edge that was asked."""
    HEARD = "heard"
    SILENT = "silent"
    """Not heard within the lease: purges of it may be missing here."""
    LEFT = "left"
    """It said goodbye: it is stopped, and does not count as silent."""
    NEW = "new"
    """It was invited, and has not come yet."""


class MemberState(msgspec.Struct, frozen=True):
    """One member, as the edge that was asked has it."""

    name: str
    edge: str
    """Its id."""
    contact: Contact
    endpoints: tuple[str, ...]
    """Where others dial it."""
    relay: bool
    linked: bool
    """Whether there is a link with it. Through a relay there is none, and it is heard."""
    heard_ago_s: float | None = None
    """Since it was heard last; null: not since this edge was started."""
    lag_s: float | None = None
    """From a publishing here to its ack, smoothed; null: not known."""


class MeshState(msgspec.Struct, frozen=True):
    """A mesh, as the edge that was asked has it."""

    name: str
    """Of this edge."""
    edge: str
    topology: Topology
    stage: str
    """How far this edge is: starting, catching-up, caught-up, forgotten, doubled."""
    behind: bool
    """Whether it may be missing purges."""
    version: str
    """Of the list of members: the same on all edges once all have heard of the last change."""
    members: tuple[MemberState, ...]
    """By name."""
