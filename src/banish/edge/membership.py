"""Membership: inviting edges, renewing certificates, forgetting edges; the list on the disk; what is told of it.

A change is a record, so that it reaches every edge as purges do, and each edge changes its list when it has it.

    invite    a key, a certificate, a `join` record: durable here before the invitation is handed out
    renew     another certificate; a `join` record of a higher revision if the edge listens elsewhere
    forget    a `forget` record

Not here: what follows from a list that has changed (`meshing.py`); what an invitation is (`mesh/invitations.py`).
Units: seconds.
"""

import asyncio
import functools
import math
from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from banish.clock import Clock
from banish.edge.mesh_state import Contact, MemberState, MeshState
from banish.edge.purging import Purger
from banish.edge.receipts import Caller
from banish.errors import ClientError, ConfigError
from banish.mesh.authority import Authority
from banish.mesh.directory import MeshDirectory
from banish.mesh.invitations import Invitation, Renewal, invitation, renewal
from banish.mesh.members import Member, Members
from banish.mesh.replica import Replica
from banish.purge.records import Record, RecordKind

log = structlog.get_logger(__name__)


class Around(Protocol):
    """The mesh, as far as it is needed here (`meshing.py`)."""

    edge: str
    members: Members
    replica: Replica

    def belongs(self, record: Record) -> None: ...
    def name(self, edge: str) -> str: ...


class Membership:
    """Who belongs, as one edge has it and changes it. Belongs to the event loop."""

    def __init__(self, mesh: Around, directory: MeshDirectory, *, purger: Purger, clock: Clock) -> None:
        self._mesh = mesh
        self._directory = directory
        self._settings = directory.settings()
        self._purger = purger
        self._clock = clock
        self._certificate = self._stamp()
        self._kept = directory.members().version
        self._changing = asyncio.Lock()
        self._keeping = asyncio.Lock()

    def renewed(self) -> bool:
        """Whether another certificate is there than when this was asked last, or made."""
        before, self._certificate = self._certificate, self._stamp()
        return before != self._certificate

    def _stamp(self) -> tuple[int, int]:
        try:
            found = (self._directory.path / "edge.pem").stat()
        except OSError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns

    async def keep(self) -> None:
        """Remember the list, if it has changed: whom to dial at the next start."""
        async with self._keeping:
            members = Members(self._mesh.members, self._mesh.members.forgotten)
            if members.version == self._kept:
                return
            try:
                await asyncio.to_thread(self._directory.keep_members, members)
                self._kept = members.version
            except OSError as error:  # the log has it, and is read at the next start
                log.error("the list of members cannot be kept", error=str(error))

    # --- changes

    async def invite(self, name: str, endpoints: Sequence[str], *, relay: bool, caller: Caller) -> Invitation:
        """Make an edge, and a member of it; durable here. Raises ClientError 400, 409, 503."""
        async with self._changing:
            authority = await self._authority()
            make = functools.partial(invitation, relay=relay, topology=self._settings.topology, now=self._clock.now())
            invited, member = await asyncio.to_thread(make, authority, self._mesh.members, name, endpoints)
            await self._join(member, caller)
        return invited

    async def renew(self, name: str, endpoints: Sequence[str] | None, *, caller: Caller) -> Renewal:
        """A new certificate for a member. Raises ClientError 400, 404, 409, 503."""
        async with self._changing:
            authority = await self._authority()
            if authority is None:
                raise ClientError(409, "this mesh is in the clear, on one machine: it has no certificates", close=False)
            now = self._clock.now()
            renewed, moved = await asyncio.to_thread(renewal, authority, self._mesh.members, name, endpoints, now)
            if moved is not None:
                await self._join(moved, caller)
        return renewed

    async def forget(self, name: str, *, caller: Caller) -> tuple[str, str]:
        """Forget a member: its id, and that of the entry which says so. Raises ClientError 404, 409, 503."""
        async with self._changing:
            member = self._mesh.members.named(name)
            if member is None:
                raise ClientError(404, f'no edge of this mesh is called "{name}"', close=False)
            if member.edge == self._mesh.edge:
                raise ClientError(409, "an edge does not forget itself: ask another one", close=False)
            record = await self._purger.announce(RecordKind.FORGET, caller, about=member.edge)
            self._mesh.belongs(record)
        return member.edge, record.position.text

    async def _join(self, member: Member, caller: Caller) -> None:
        told = msgspec.msgpack.encode(member)
        record = await self._purger.announce(RecordKind.JOIN, caller, about=member.edge, member=told)
        self._mesh.belongs(record)

    async def _authority(self) -> Authority | None:
        """What certificates are made with; None if the mesh has none."""
        try:
            authority = await asyncio.to_thread(self._directory.authority)
        except ConfigError as error:
            raise ClientError(409, str(error), close=False) from error
        if authority is None and self._settings.secured:
            raise ClientError(
                409, "the key of the authority is on another edge: ask the one that made the mesh", close=False
            )
        return authority

    # --- telling

    def state(self, now: float) -> MeshState:
        """The mesh as this edge has it."""
        mesh = self._mesh
        members = sorted((self._member(member, now) for member in mesh.members), key=lambda one: one.name)
        return MeshState(
            name=mesh.name(mesh.edge),
            edge=mesh.edge,
            topology=self._settings.topology,
            stage=mesh.replica.stage.value,
            behind=mesh.replica.behind(now),
            version=mesh.members.version,
            members=tuple(members),
        )

    def _member(self, member: Member, now: float) -> MemberState:
        peer = self._mesh.replica.peer(member.edge)
        heard_at = -math.inf if peer is None else peer.digest_at
        return MemberState(
            name=member.name,
            edge=member.edge,
            contact=self._contact(member, now),
            endpoints=member.endpoints,
            relay=member.relay,
            linked=peer is not None and peer.linked,
            heard_ago_s=now - heard_at if heard_at > -math.inf else None,
            lag_s=None if peer is None else peer.lag_s,
        )

    def _contact(self, member: Member, now: float) -> Contact:
        replica = self._mesh.replica
        peer = replica.peer(member.edge)
        if peer is None:
            return Contact.SELF
        if peer.gone:
            return Contact.LEFT
        if member.edge not in replica.counted:
            return Contact.NEW
        return Contact.HEARD if replica.heard_until(member.edge) > now else Contact.SILENT
