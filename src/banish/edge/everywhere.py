"""How far a purge is on every edge: this one's history, joined with what is known of the others.

    cursor   of this edge ~ of all edges together: who hands it back waits for a change of either

Not here: how far it is on this edge (`history.py`); what is known of others (`peers.py`).
Units: seconds. Invariant: of a purge that no other edge hears of, and without a mesh, no edges are told.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence

import msgspec

from banish.edge.history import History
from banish.edge.peers import Peers
from banish.edge.progress import Progress
from banish.edge.receipts import EdgeReceipt, PurgeState, Reach, Stage, Wait
from banish.mesh.effects import Standing
from banish.purge.positions import Position, parse_position


class Everywhere:
    """Tells of purges for one edge. `peers` are the others at the moment."""

    def __init__(self, history: History, progress: Progress, edge: str, peers: Callable[[], Peers]) -> None:
        self._history = history
        self._progress = progress
        self._edge = edge
        self._peers = peers

    async def state(
        self,
        id: str,  # noqa: A002
        *,
        wait: Wait | Reach | None,
        timeout_s: float,
        after: str | None,
        sites: tuple[str, ...] | None,
        counts: bool,
    ) -> PurgeState:
        """As `Purger.get`."""
        local, _, edges = (after or "").partition("~")
        if not (isinstance(wait, Reach) or edges):
            state = await self._history.state(id, wait=wait, timeout_s=timeout_s, after=after, sites=sites)
            return await self._with_edges(state, counts=counts)
        state = await self._history.state(id, sites=sites)
        position = parse_position(id)

        def moved() -> bool:
            found = self._receipts(position, state.state)
            return (isinstance(wait, Reach) and wait.holds(found)) or (bool(edges) and edges != _cursor_of(found))

        if timeout_s > 0 and not moved():
            if edges:
                await self._wait_for_either(id, moved, timeout_s, after=local, sites=sites)
            else:
                with self._progress.place():
                    await self._peers().until(moved, timeout_s)
            state = await self._history.state(id, sites=sites)
        return await self._with_edges(state, counts=counts)

    async def _wait_for_either(
        self,
        id: str,  # noqa: A002
        moved: Callable[[], bool],
        timeout_s: float,
        *,
        after: str,
        sites: tuple[str, ...] | None,
    ) -> None:
        """Wait for a change here, or of the others. Raises LimitExceeded: too many wait already."""
        here = asyncio.ensure_future(self._history.state(id, timeout_s=timeout_s, after=after, sites=sites))
        others = asyncio.ensure_future(self._peers().until(moved, timeout_s))
        try:
            await asyncio.wait((here, others), return_when=asyncio.FIRST_COMPLETED)
            if here.done():
                here.result()
        finally:
            here.cancel()
            others.cancel()
            await asyncio.gather(here, others, return_exceptions=True)

    def _receipts(self, position: Position, stage: Stage) -> list[EdgeReceipt]:
        """Of every member, this edge among them, by name."""
        peers = self._peers()
        if not peers.membership or position.here_only:
            return []
        standing = Standing.SWEPT if stage.final else Standing.APPLIED
        here = EdgeReceipt(name=peers.name(self._edge), edge=self._edge, state=standing, lag_s=0.0)
        return sorted([here, *peers.receipts(position)], key=lambda one: one.name)

    async def _with_edges(self, state: PurgeState, *, counts: bool) -> PurgeState:
        edges = self._receipts(parse_position(state.purge.id), state.state)
        if not edges:
            return state
        cursor = f"{state.cursor}~{_cursor_of(edges)}"
        if counts:
            edges = await self._counted(state, edges)
        return msgspec.structs.replace(state, edges=tuple(edges), membership=self._peers().membership, cursor=cursor)

    async def _counted(self, state: PurgeState, edges: Sequence[EdgeReceipt]) -> list[EdgeReceipt]:
        """With what it matched on each edge that answers."""
        others = [one.edge for one in edges if one.edge != self._edge and one.state is not Standing.UNREACHABLE]
        found = await self._peers().counts(state.purge.id, others)
        found[self._edge] = state.matched, state.bytes
        return [
            msgspec.structs.replace(one, matched=found[one.edge][0], bytes=found[one.edge][1])
            if one.edge in found
            else one
            for one in edges
        ]


def _cursor_of(edges: Sequence[EdgeReceipt]) -> str:
    """Names the states of all edges together."""
    told = "".join(f"{one.edge}{one.state}" for one in edges)
    return hashlib.blake2b(told.encode(), digest_size=6).hexdigest()
