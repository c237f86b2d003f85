"""Graves: which purge removed what is missing now.

The miss that follows a purge names it, and may have to wait its turn at the origin. For that the keys of
responses that purges removed are remembered, with the purge and how much they were asked for; and for purges
that remove a whole site without looking at its responses, the site.

Not here: refilling (`edge/refill.py`); what the client reads of it (`proxy/`).
Units: apply indexes; heat is hits per second; moments by one monotonic clock.
Invariant: at most `GRAVES_MAX` keys and `MARKS_MAX` sites. It is a help, not a proof: what is forgotten here is
an ordinary miss.
"""

from collections import OrderedDict

import msgspec

from banish.tables import Accounts, Metric

GRAVES_MAX = 100_000
"""Keys remembered: about 32 MB when full, with keys of usual length."""

GRAVE_SITE_S = 60.0
"""How long after a whole site was purged its misses are put down to that."""

MARKS_MAX = 1024
"""Sites remembered as purged whole."""

GRAVES = Metric("banish_purge_graves", "gauge", "Keys whose stored response a purge removed, not stored anew yet.")
GRAVES_FORGOTTEN = Metric(
    "banish_purge_graves_forgotten_total",
    "counter",
    "Keys and sites forgotten for lack of room: their misses do not name the purge.",
)


class Grave(msgspec.Struct, frozen=True, gc=False):
    """What is known of a response that a purge removed."""

    index: int
    """The purge."""

    heat: float = 0.0
    """How often it was asked for."""

    everything: bool = False
    """Whether the purge was one of the whole site."""


class Graves:
    """The graves of one edge. `graves_max` is for tests."""

    def __init__(self, accounts: Accounts, *, graves_max: int = GRAVES_MAX) -> None:
        self._graves: OrderedDict[str, Grave] = OrderedDict()  # the longest unasked-for first
        self._marks: OrderedDict[str, tuple[int, float]] = OrderedDict()  # site → purge, moment; oldest first
        self._graves_max = graves_max
        self._forgotten = accounts.tally(GRAVES_FORGOTTEN)
        accounts.read(GRAVES, lambda: [((), len(self._graves))])

    def __len__(self) -> int:
        """Keys remembered."""
        return len(self._graves)

    def __repr__(self) -> str:
        return f"<Graves {len(self._graves)} keys, {len(self._marks)} sites>"

    def bury(self, key: str, index: int, heat: float) -> None:
        """A response under this key was removed by the purge with this apply index.

        Variants share a grave, and tiers: the newest purge stands, and the greatest heat.
        """
        known = self._graves.get(key, Grave(0))
        self._graves[key] = Grave(max(index, known.index), max(heat, known.heat))
        self._graves.move_to_end(key)
        if len(self._graves) > self._graves_max:
            self._graves.popitem(last=False)
            self._forgotten.add()

    def bury_site(self, site: str, index: int, now: float) -> None:
        """All of a site ("" is every site) was removed by the purge with this apply index."""
        self._marks[site] = (index, now)
        self._marks.move_to_end(site)
        if len(self._marks) > MARKS_MAX:
            self._marks.popitem(last=False)
            self._forgotten.add()

    def find(self, key: str, site: str, now: float) -> Grave | None:
        """Which purge removed what was stored under `key`, if one did and it is remembered."""
        marks = [mark for place in (site, "") if (mark := self._mark(place, now)) is not None]
        grave = self._graves.get(key)
        if grave is not None:
            self._graves.move_to_end(key)
            return msgspec.structs.replace(grave, everything=True) if grave.index in marks else grave
        return Grave(max(marks), everything=True) if marks else None

    def exhume(self, key: str) -> None:
        """A new response is stored under this key."""
        self._graves.pop(key, None)

    def _mark(self, site: str, now: float) -> int | None:
        index, since = self._marks.get(site, (0, 0.0))
        return index if index and now - since < GRAVE_SITE_S else None
