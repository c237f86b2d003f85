"""What the purge service needs of the other edges: the seam between it and the mesh (`meshing.py`).

An edge without a mesh is `Alone`.

Not here: who they are and how they are told (`mesh/`).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from banish.edge.receipts import EdgeReceipt
from banish.purge.positions import Position
from banish.purge.records import Record
from banish.store.log import PurgeLog


class Peers(Protocol):
    """The other edges. Nothing here waits or raises unless it says so."""

    def issued(self, index: int, record: Record, signed: bytes) -> None:
        """A record that others are to have is in effect here under this apply index, and waits for the log. Called in
        the step in which that happens.
        """
        ...

    def accepted(self, index: int, record: Record) -> None:
        """The same of a record that another edge has issued."""
        ...

    def swept(self, has_swept: Callable[[int], bool]) -> None:
        """More may be swept: `has_swept` says so of an apply index."""
        ...

    @property
    def membership(self) -> str:
        """Version of the list of members; empty: there is none."""
        ...

    @property
    def refusal(self) -> str:
        """Why nothing that is issued here would reach another edge any more; empty: it would."""
        ...

    def receipts(self, position: Position) -> list[EdgeReceipt]:
        """How far every other edge is with a position, by name."""
        ...

    async def copies(self, position: Position) -> int:
        """On how many edges a position of this one's is durable, waiting for `purge.copies` of them for a while."""
        ...

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something about receipts holds; whether it does."""
        ...

    async def counts(self, id: str, edges: Sequence[str]) -> dict[str, tuple[int, int]]:  # noqa: A002
        """What a purge has matched on these edges, those that answer: responses and bytes."""
        ...

    async def keep_frontier(self, log: PurgeLog) -> None:
        """Have the log note what is held of other edges' records: all up to what it has committed now, and more."""
        ...

    def rank(self, issuer: str) -> int:
        """How many members come before this edge when one is to stand in for `issuer`: the lowest id goes first."""
        ...

    def name(self, edge: str) -> str:
        """What people call an edge; its id if nobody here knows."""
        ...


class Alone:
    """There are no others."""

    membership = ""
    refusal = ""

    def issued(self, index: int, record: Record, signed: bytes) -> None:
        pass

    def accepted(self, index: int, record: Record) -> None:
        pass

    def swept(self, has_swept: Callable[[int], bool]) -> None:
        pass

    def receipts(self, position: Position) -> list[EdgeReceipt]:
        return []

    async def copies(self, position: Position) -> int:
        return 1

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        return condition()

    async def counts(self, id: str, edges: Sequence[str]) -> dict[str, tuple[int, int]]:  # noqa: A002
        return {}

    async def keep_frontier(self, log: PurgeLog) -> None:
        pass

    def rank(self, issuer: str) -> int:
        return 0

    def name(self, edge: str) -> str:
        return edge
