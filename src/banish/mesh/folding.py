"""Folding: which ended epochs need not be told of one by one any more (PURGE rule 1).

An epoch has ended once its edge runs in a later one, or was forgotten. It folds when all members hold it whole, those
of whom nothing was heard yet too (an invitation that is not used is to be forgotten, or nothing folds), and all epochs
of that edge before it have folded. What a member holds counts as it says in a whole digest that came a lease after the
end was known here: what was on its way then has arrived, and where the end is, its issuer alone would know (who may be
back with an older disk, or never).

Not here: what a fold is (`frontier.py`).
Bound: `FOLDS_AT_ONCE` epochs are looked at in one go.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import groupby
from math import inf

from banish.mesh.frontier import Frontier, Stream, is_fold, start_of
from banish.mesh.peers import Peer

FOLDS_AT_ONCE = 32


def foldable(
    held: Frontier,
    peers: Collection[Peer],
    *,
    complete: Callable[[Stream], bool],
    forgotten: Callable[[str], bool],
    ended_at: Mapping[str, float],
) -> Iterator[Stream]:
    """The epochs that may fold now, in order. `complete`: whether nothing is known to be missing of one here."""
    heard_at = min((peer.whole_at for peer in peers), default=inf)
    looked_at = 0
    for epochs in _ended(held, forgotten):
        edge = epochs[0][0]
        if not heard_at > ended_at.get(edge, -inf) or any(edge in peer.missing for peer in peers):
            continue
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
    return [epochs for epochs in ended if epochs]
