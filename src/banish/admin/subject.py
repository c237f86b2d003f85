"""What the admin listener needs to know of the edge it speaks for.

The edge itself is put together elsewhere (`proxy/serve.py`) and fulfils this by having these members.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol

from banish.clock import Clock
from banish.edge.config import Config
from banish.edge.mesh_state import MeshState
from banish.edge.receipts import Caller, DryRun, Feed, Filters, Page, Purge, PurgeRequest, PurgeState, Reach, Wait
from banish.edge.sites import Sites
from banish.mesh.invitations import Invitation, Renewal
from banish.store.graves import Grave
from banish.store.records import StoredResponse
from banish.tables import Accounts


class Purging(Protocol):
    """The purge service (`edge/purging.py`), as far as it is spoken to from here. It refuses with ClientErrors."""

    @property
    def edge(self) -> str:
        """The id of this edge."""
        ...

    @property
    def passing(self) -> bool:
        """The log of purges cannot be written: nothing is answered from what is stored, and no purge is taken."""
        ...

    async def purge(self, asked: PurgeRequest, caller: Caller) -> Purge: ...
    async def dry_run(self, asked: PurgeRequest, caller: Caller) -> DryRun: ...
    async def undo(self, id: str, caller: Caller, reason: str = "") -> Purge: ...  # noqa: A002
    async def get(
        self,
        id: str,  # noqa: A002
        *,
        wait: Wait | Reach | None = None,
        timeout_s: float = 0.0,
        after: str | None = None,
        sites: tuple[str, ...] | None = None,
        counts: bool = False,
    ) -> PurgeState: ...
    async def list(self, filters: Filters, *, limit: int = 100, before: str | None = None) -> Page: ...
    async def feed(
        self, after: str | None, *, wait_s: float = 0.0, limit: int = 1000, filters: Filters = ...
    ) -> Feed: ...
    def export(self, filters: Filters) -> AsyncIterator[tuple[Purge, bytes]]: ...
    def why(self, index: int) -> str | None:
        """The id of the purge with that apply index; None if it is no longer in the log."""
        ...


class Meshing(Protocol):
    """This edge's part in a mesh (`edge/meshing.py`), as far as it is spoken to from here. It refuses with
    ClientErrors.
    """

    def state(self) -> MeshState: ...
    async def invite(self, name: str, endpoints: Sequence[str], *, relay: bool, caller: Caller) -> Invitation:
        """Make an edge, and a member of it: on the disk of this edge when it returns."""
        ...

    async def renew(self, name: str, endpoints: Sequence[str] | None, *, caller: Caller) -> Renewal: ...
    async def forget(self, name: str, *, caller: Caller) -> tuple[str, str]:
        """The id of the edge that was forgotten, and that of the entry which says so."""
        ...


class Graveyard(Protocol):
    """What is remembered of responses that purges removed (`store/graves.py`)."""

    def find(self, key: str, site: str, now: float) -> Grave | None: ...


class Stored(Protocol):
    """Stored responses, as far as they are looked at from here."""

    @property
    def graves(self) -> Graveyard: ...
    def __len__(self) -> int: ...
    def lookup(self, key: str) -> tuple[StoredResponse, ...]: ...
    def walk_from(self, place: int) -> Iterator[tuple[int, StoredResponse]]: ...
    def may_load(self, key: str) -> bool:
        """Whether the disk may hold what `lookup` did not find."""
        ...

    async def load(self, key: str) -> None:
        """Bring what the disk holds under `key` into memory."""
        ...


class Subject(Protocol):
    """The running edge, as its admin listener sees it. Members are read anew for every request."""

    @property
    def state(self) -> str:
        """`starting`, `serving`, `draining` or `stopped`."""
        ...

    @property
    def passing(self) -> bool:
        """Nothing is answered from what is stored, nor stored."""
        ...

    @property
    def config(self) -> Config: ...
    @property
    def sites(self) -> Sites: ...
    @property
    def store(self) -> Stored: ...
    @property
    def purger(self) -> Purging: ...
    @property
    def mesh(self) -> Meshing | None:
        """None: this edge is alone."""
        ...

    @property
    def accounts(self) -> Accounts: ...
    @property
    def clock(self) -> Clock: ...
