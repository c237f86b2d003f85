"""Hearing: what is made of a member's digest.

    later than what was heard before?   by number; of two epochs the later, unless the other proves that it lives
    how far it is                       kept with the peer; what exists by its word and is not here is missing
    whom it heard leave                 believed, if nothing later of that edge is known here

Not here: what follows for this edge (`replica.py`); what is missing (`gaps.py`).
Source: PURGE rules 22, 26.
"""

from math import inf

from banish.mesh.frontier import start_of
from banish.mesh.knowledge import NEVER, Knowledge
from banish.mesh.messages import Digest, Echo
from banish.mesh.peers import Peer


def is_news(known: Knowledge, peer: Peer, digest: Digest) -> bool:
    """Whether it is later than what was heard of the peer before. An epoch of a lower count is, only if it proves that
    it lives by echoing what was sent after the other was first heard (a data directory was restored, or copied).
    """
    if digest.epoch == peer.epoch:
        return digest.number > peer.number
    if start_of(("", digest.epoch)) > start_of(("", peer.epoch)):
        return True
    echo = digest.echoes.get(known.edge)
    sent = None if echo is None or echo.epoch != known.epoch else known.digests.sent_at(echo.number)
    return sent is not None and sent > peer.began_at


def take(known: Knowledge, peer: Peer, digest: Digest, now: float) -> None:
    """Believe what it says."""
    if digest.epoch != peer.epoch:
        peer.began(digest.epoch, now)
    peer.number, peer.digest_at = digest.number, now
    peer.issued = max(peer.issued, digest.issued)
    peer.relink_after_s = 0.0
    known.digests.heard(peer.edge, Echo(digest.epoch, digest.number))
    if digest.whole:
        peer.take_whole(digest.marks, now)
        peer.missing = digest.missing
    else:
        peer.take(digest.marks)
    learn(known, peer, digest, now)
    _heard_leave(known, peer, digest)
    for edge, last in digest.gone.items():
        _also_gone(known, edge, last, now)
    same = digest.members == known.members.version
    peer.list_differs_since = inf if same else min(peer.list_differs_since, now)


def learn(known: Knowledge, peer: Peer, digest: Digest, now: float) -> None:
    """See what it holds, or has issued, that is not in effect here."""
    marks = known.received.marks
    own = peer.edge, digest.epoch
    if known.received.is_folded(own):
        known.open(own, now)
    for stream, far in digest.marks.items():
        if far.held > marks.get(stream, 0):
            if known.received.is_folded(stream) and peer.folds(stream) and stream[0] in known.members:
                known.open(stream, now)
            known.learn(stream, far.held, peer.edge, now)
    known.learn(own, digest.issued, peer.edge, now)


def _heard_leave(known: Knowledge, peer: Peer, digest: Digest) -> None:
    """It says goodbye, or is back."""
    if digest.goodbye:
        peer.gone, peer.last = digest.epoch, digest.issued
        known.heard.drop(peer.edge)
    elif peer.gone:
        peer.gone = ""
        if peer.edge in known.counted:
            known.heard.count(peer.edge, NEVER)


def _also_gone(known: Knowledge, edge: str, last: Echo, now: float) -> None:
    """Another edge has heard this one say goodbye, in the epoch that is the last known here too."""
    peer = known.peers.get(edge)
    if peer is None or peer.gone or peer.epoch not in ("", last.epoch) or not known.is_last(edge, last.epoch):
        return
    known.learn((edge, last.epoch), last.number, edge, now)
    peer.gone, peer.last = last.epoch, last.number
    known.heard.drop(edge)
