"""Upkeep: once a period, who is deaf, who is slow, and whose list of members is another.

Not here: when a period is over (`digests.py`).
"""

from banish.mesh.effects import Alarm, Effect, Raise, Relink
from banish.mesh.knowledge import Knowledge
from banish.mesh.peers import Peer
from banish.mesh.publishing import Publishing
from banish.mesh.pulling import Pulling

DEAF_PERIODS = 3
"""Periods without a digest after which a link counts as deaf."""
RELINK_MAX_S = 60.0
"""The longest between two tries to open a deaf link anew: the first after `DEAF_PERIODS`, each next twice as long."""


def look_after(known: Knowledge, pulling: Pulling, publishing: Publishing, now: float) -> tuple[list[Effect], int]:
    """See to all peers; what is to be done, and how many are heard."""
    effects: list[Effect] = []
    lags, heard = [], 0
    for peer in known.peers.values():
        if known.heard.until(peer.edge) > now:
            heard += 1
            if peer.lag_s is not None:
                lags.append(peer.lag_s)
        effects += _relink(peer, DEAF_PERIODS * known.settings.period_s, now)
        if now - peer.list_differs_since > known.settings.lease_s:
            effects += pulling.ask_list_of(peer, now)
    publishing.lags(max(lags, default=None))
    pulling.asks.settle(known.gaps.streams)
    return effects, heard


def _relink(peer: Peer, patience_s: float, now: float) -> list[Effect]:
    """A link through which nothing comes is opened anew."""
    if not peer.linked or peer.gone or now - max(peer.linked_at, peer.digest_at) < patience_s:
        return []
    if now < peer.relink_at:
        return []
    peer.relink_after_s = min(max(patience_s, 2 * peer.relink_after_s), RELINK_MAX_S)
    peer.relink_at = now + peer.relink_after_s
    return [Relink(peer.edge), Raise(Alarm.DEAF, f"{peer.edge} is linked, and nothing is heard of it")]
