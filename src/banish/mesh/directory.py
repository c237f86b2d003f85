"""The files of a mesh on one edge, below its data directory.

    mesh/
      settings.json   what this edge is called, where it listens, how the mesh is linked
      members         who belonged when that last changed: whom to dial at the next start
      ca.pem          the authority's certificate                              ┐ not in a mesh that is in the clear,
      edge.pem        this edge's certificate                                  │ on one machine
      edge.key        its key                                           0600   ┘
      ca.key          the authority's key: only where invitations are made     0600

Each file is replaced whole, and durably. The identity (id, signing key) lies beside the directory, not in it
(`store/identity.py`).

Not here: making certificates (`authority.py`) and invitations (`invitations.py`). Everything here blocks.
Formats: JSON with `format` 1; PEM. Invariant: `settings.json` is written last: without it there is no mesh.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from banish import durable
from banish.errors import ConfigError
from banish.mesh.authority import Authority, Certified
from banish.mesh.invitations import Invitation, KeptMember, Renewal, kept
from banish.mesh.members import Member, Members
from banish.mesh.zenoh_config import Credentials, Topology

FORMAT = 1

NAME = "mesh"
"""Of the directory, in the data directory."""


class Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was decided when the edge was made."""

    format: int
    name: str
    endpoints: tuple[str, ...]
    """Where others dial."""
    topology: Topology
    relay: bool = False
    listen: tuple[str, ...] = ()
    """Where to listen, if not as the endpoints say: on every address of the machine, on their ports."""
    secured: bool = True
    """Whether links are encrypted, and admitted by certificates."""


class _Members(msgspec.Struct, frozen=True):
    format: int
    members: tuple[KeptMember, ...]
    forgotten: tuple[str, ...] = ()


S = TypeVar("S", Settings, _Members)


class MeshDirectory:
    """The directory of one edge."""

    def __init__(self, data: Path) -> None:
        """`data`: the data directory."""
        self.path = data / NAME

    @property
    def exists(self) -> bool:
        """Whether this edge belongs to a mesh."""
        return (self.path / "settings.json").exists()

    @property
    def credentials(self) -> Credentials | None:
        """The files that this edge shows who it is with. Raises ConfigError."""
        return self.credentials_of(self.settings())

    def credentials_of(self, settings: Settings) -> Credentials | None:
        """The same for settings that are yet to be kept."""
        if not settings.secured:
            return None
        return Credentials(self.path / "ca.pem", self.path / "edge.pem", self.path / "edge.key")

    def settings(self) -> Settings:
        """What was decided when the edge was made. Raises ConfigError."""
        return self._load("settings.json", Settings)

    def members(self) -> Members:
        """Who belonged when that last changed. Raises ConfigError."""
        found = self._load("members", _Members)
        return Members([one.member for one in found.members], found.forgotten)

    def keep_members(self, members: Members) -> None:
        """Remember who belongs. Raises OSError."""
        told = _Members(FORMAT, tuple(kept(one) for one in members), tuple(sorted(members.forgotten)))
        durable.replace(self.path / "members", _json(told))

    def authority(self) -> Authority | None:
        """What invitations are made with; None if its key is on another edge. Raises ConfigError."""
        try:
            key = (self.path / "ca.key").read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{self.path / 'ca.key'} cannot be read: {error}") from error
        return Authority.load(Certified(self._read("ca.pem"), key))

    # --- made, joined, renewed

    def create(self, me: Member, settings: Settings, authority: Authority | None, now: float) -> None:
        """Make a mesh of this edge alone. Raises ConfigError, also if there is one."""
        files: dict[str, bytes] = {}
        if authority is not None:
            certified = authority.certify(me.edge, me.name, me.endpoints, now)
            files |= {"ca.pem": authority.certificate, "ca.key": authority.kept.key}
            files |= {"edge.pem": certified.certificate, "edge.key": certified.key}
        self._write(files, settings, Members([me]))

    def join(self, invitation: Invitation, listen: tuple[str, ...] = ()) -> None:
        """Become the edge that is invited. Raises ConfigError, also if this one belongs to a mesh."""
        files: dict[str, bytes] = {}
        if invitation.authority:
            files["ca.pem"] = invitation.authority.encode()
            files["edge.pem"] = invitation.certificate.encode()
            files["edge.key"] = invitation.certificate_key.encode()
        me = invitation.me
        settings = Settings(FORMAT, me.name, me.endpoints, invitation.topology, me.relay, listen, secured=bool(files))
        members = Members([one.member for one in invitation.members], invitation.forgotten)
        self._write(files, settings, members)

    def renew(self, renewal: Renewal) -> None:
        """Use a new certificate, from the next opening on. Raises ConfigError."""
        settings = msgspec.structs.replace(self.settings(), endpoints=renewal.endpoints)

        def write() -> None:
            # A certificate and its key cannot be replaced in one step. A start between the two says that they do not
            # belong together; doing this again puts it right.
            durable.replace(self.path / "edge.key", renewal.certificate_key.encode())
            durable.replace(self.path / "edge.pem", renewal.certificate.encode(), mode=0o644)
            durable.replace(self.path / "settings.json", _json(settings), mode=0o644)

        self._writing(write)

    def _write(self, files: dict[str, bytes], settings: Settings, members: Members) -> None:
        if self.exists:
            raise ConfigError(f"{self.path} is there: this edge belongs to a mesh already")

        def write() -> None:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name, data in files.items():
                durable.replace(self.path / name, data, mode=0o600 if name.endswith(".key") else 0o644)
            self.keep_members(members)
            durable.replace(self.path / "settings.json", _json(settings), mode=0o644)

        self._writing(write)

    def _writing(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error}") from error

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise ConfigError(f"{self.path / name} cannot be read: {error}") from error

    def _load(self, name: str, kind: type[S]) -> S:
        try:
            found = msgspec.json.decode(self._read(name), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.path / name} is damaged: {error}") from error
        if found.format > FORMAT:
            raise ConfigError(
                f"{self.path / name} was written by a later release (format {found.format}, here {FORMAT})"
            )
        return found


def _json(value: Settings | _Members) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
