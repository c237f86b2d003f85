"""Folding: which ended epochs need not be told of one by one any more (PURGE rule 1).

An epoch has ended once its edge runs in a later one; or once that was forgotten and all have known so for a lease, for
nobody says where its last epoch has ended. It folds when all members that count hold it
whole, as far as each has said since its last start, and all epochs of that edge before it have folded.

Not here: what a fold is (`frontier.py`).
Bound: `FOLDS_AT_ONCE` epochs are looked at in one go.
"""

from collections.abc import Callable, Collection, Iterator
from itertools import groupby

from banish.mesh.frontier import Frontier, Stream, is_fold, start_of
from banish.mesh.peers import Peer

FOLDS_AT_ONCE = 32


def foldable(
    held: Frontier, peers: Collection[Peer], *, complete: Callable[[Stream], bool], forgotten: Callable[[str], bool]
) -> Iterator[Stream]:
    """The epochs that may fold now, in order. `complete`: whether nothing is known to be missing of one here."""
    if not all(peer.whole_seen for peer in peers):
        return
    looked_at = 0
    for epochs in _ended(held, forgotten):
        for _, streams in groupby(epochs, key=start_of):  # several only if an older disk was restored
            looked_at += 1
            if looked_at > FOLDS_AT_ONCE:
                return
            same = list(streams)
            marks = [(stream, held.mark(stream)) for stream in same]
            if not all(complete(s) and all(peer.held(s) >= mark for peer in peers) for s, mark in marks):
                break
            yield from same


def _ended(held: Frontier, forgotten: Callable[[str], bool]) -> list[list[Stream]]:
    """Of each edge, its ended epochs, oldest first."""
    by_edge: dict[str, list[Stream]] = {}
    for stream in held.marks:
        if not is_fold(stream):
            by_edge.setdefault(stream[0], []).append(stream)
    ended = []
    for edge, streams in by_edge.items():
        newest = float("inf") if forgotten(edge) else max(start_of(stream) for stream in streams)
        if len(streams) > 1 or newest == float("inf"):
            ended.append(sorted((s for s in streams if start_of(s) < newest), key=start_of))
    return ended
