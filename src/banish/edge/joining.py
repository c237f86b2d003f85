"""How an edge comes into a mesh, before it is started: it makes one, it uses an invitation, it renews its certificate.

    banish mesh init      an identity, if there is none; an authority, a certificate, a list with this edge alone
    banish join           the identity and all else that the invitation holds; nothing may be there
    banish mesh install   another certificate for the same edge

A newcomer starts empty (PURGE rule 25): what a directory already holds was stored, and purged, without the others.

Not here: making invitations while the edge runs (`meshing.py`); the files (`mesh/directory.py`, `store/identity.py`).
All of it blocks. Invariant: an invitation that was used half is used whole by doing it again.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from banish.edge.datadir import LOG_NAME
from banish.errors import ClientError, ConfigError
from banish.mesh import directory
from banish.mesh.authority import Authority
from banish.mesh.directory import MeshDirectory, Settings
from banish.mesh.endpoints import parse_endpoint
from banish.mesh.invitations import Invitation, Renewal, check_name, decode
from banish.mesh.members import Member
from banish.mesh.zenoh_config import Topology, Wiring
from banish.store.identity import Identity, become

KEPT = ("identity", "epoch", "witness", f"{LOG_NAME}*", "index", "bodies", "spool", directory.NAME)
"""What an edge keeps in its data directory, and a newcomer may not have."""


def begin_mesh(
    data: Path,
    name: str,
    endpoints: Sequence[str],
    *,
    topology: Topology,
    relay: bool,
    listen: Sequence[str],
    now: float,
) -> Member:
    """Make a mesh of the edge in `data` alone; the edge. Raises ConfigError."""
    try:
        check_name(name)
    except ClientError as error:
        raise ConfigError(error.reason) from error
    secured = any(parse_endpoint(text).protocol == "tls" for text in endpoints) or not endpoints
    authority = Authority.create(f"banish mesh of {name}", now) if secured else None
    mesh = MeshDirectory(data)
    if mesh.exists:
        raise ConfigError(f"{mesh.path} is there: this edge belongs to a mesh already")
    identity = Identity.open(data)
    try:
        me = Member(identity.edge, name, identity.public_key, tuple(endpoints), relay)
        settings = Settings(directory.FORMAT, name, me.endpoints, topology, relay, tuple(listen), secured=secured)
        Wiring(me, (me,), topology, mesh.credentials_of(settings), settings.listen)  # raises what an opening would
        mesh.create(me, settings, authority, now)
    finally:
        identity.close()
    return me


def join_mesh(data: Path, paper: bytes, *, listen: Sequence[str], replace: bool, now: float) -> Invitation:
    """Make `data` the directory of the edge that is invited. Raises ConfigError."""
    invitation = decode(paper, Invitation)
    if now > invitation.until:
        raise ConfigError(
            "the invitation is too old: its list of members may be, too; "
            f"banish mesh forget {invitation.name}, then invite it anew"
        )

    def prepare() -> None:
        if replace:
            _clear(data)
        elif found := _found(data):
            raise ConfigError(
                f"{data} has {', '.join(found)}: a newcomer starts empty; name another directory, or take --replace"
            )
        MeshDirectory(data).join(invitation, tuple(listen))

    become(data, invitation.edge, bytes.fromhex(invitation.key), before=prepare)
    return invitation


def install_certificate(data: Path, paper: bytes) -> Renewal:
    """Use a new certificate from the next opening of the links on. Raises ConfigError."""
    renewal = decode(paper, Renewal)
    mesh = MeshDirectory(data)
    me = mesh.members().named(mesh.settings().name)
    if me is None or me.edge != renewal.edge:
        raise ConfigError(f"the certificate is for {renewal.name}, and {data} is that of {mesh.settings().name}")
    mesh.renew(renewal)
    return renewal


def _found(data: Path) -> list[str]:
    """What of an edge's is there. A mesh alone was left by an invitation that was used half."""
    found = [path.name for pattern in KEPT for path in sorted(data.glob(pattern))]
    if found == [directory.NAME]:
        shutil.rmtree(data / directory.NAME)
        return []
    return found


def _clear(data: Path) -> None:
    for pattern in KEPT:
        for path in data.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
