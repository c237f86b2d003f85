"""A mesh for the admin listener to speak for: it has members, and tells nobody of them."""

import secrets
import time
from collections.abc import Sequence

from banish.edge.mesh_state import Contact, MemberState, MeshState
from banish.edge.receipts import Caller
from banish.errors import ClientError
from banish.mesh.authority import Authority
from banish.mesh.invitations import Invitation, Renewal, invitation, renewal
from banish.mesh.members import Member, Members
from banish.mesh.zenoh_config import Topology


class FakeMesh:
    """The edge `paris`, and whomever it invites."""

    def __init__(self) -> None:
        self.authority = Authority.create("a mesh", time.time())
        self.me = Member(secrets.token_hex(8), "paris", secrets.token_bytes(32), ("tls/paris.example:7447",))
        self.members = Members([self.me])
        self.callers: list[Caller] = []
        self.contacts: dict[str, Contact] = {}

    def state(self) -> MeshState:
        members = [
            MemberState(
                one.name,
                one.edge,
                self.contacts.get(one.name, Contact.SELF if one == self.me else Contact.HEARD),
                one.endpoints,
                one.relay,
                linked=one != self.me,
                heard_ago_s=None if one == self.me else 0.5,
                lag_s=None if one == self.me else 0.012,
            )
            for one in self.members
        ]
        told = tuple(sorted(members, key=lambda one: one.name))
        return MeshState("paris", self.me.edge, Topology.MESH, "caught-up", False, self.members.version, told)

    async def invite(self, name: str, endpoints: Sequence[str], *, relay: bool, caller: Caller) -> Invitation:
        self.callers.append(caller)
        how = {"relay": relay, "topology": Topology.MESH, "now": time.time()}
        invited, member = invitation(self.authority, self.members, name, endpoints, **how)  # type: ignore[arg-type]
        self.members.join(member)
        return invited

    async def renew(self, name: str, endpoints: Sequence[str] | None, *, caller: Caller) -> Renewal:
        self.callers.append(caller)
        renewed, moved = renewal(self.authority, self.members, name, endpoints, time.time())
        if moved is not None:
            self.members.join(moved)
        return renewed

    async def forget(self, name: str, *, caller: Caller) -> tuple[str, str]:
        self.callers.append(caller)
        member = self.members.named(name)
        if member is None:
            raise ClientError(404, f'no edge of this mesh is called "{name}"')
        self.members.forget(member.edge)
        return member.edge, f"{self.me.edge}.1-89abcdef.7"
