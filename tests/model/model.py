"""The model: what an edge may answer, from what the origin sent, what was purged and who asked when.

Each happening has a moment of its own, a number that only rises. The origin is as unhelpful as it may be: whatever it
sends for a request is as of the moment when that request reached it. Then ten lines say it all (`Model.killed`, PURGE
rule 9): what was sent at `s` may answer a request of `r` only if no hard purge that matches it was applied between
the two. A soft purge between the two makes it stale: answered only within the windows for stale responses, unless the
purge was taken back or the response confirmed since.

What a purge matches is said here once more, in other words than in `purge/`, so that both would have to be wrong.

Not here: the edge (`world.py`), what happens to it (`steps.py`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from banish.caching.cache_status import Outcome
from banish.purge.given import Given
from banish.purge.stamps import Mode
from banish.purge.targets import Kind

UNREACHABLE_S = 86400.0
"""How long a stale response may stand in for an origin that cannot be reached: the default."""

FRESH = frozenset({Outcome.HIT})
STALE = frozenset({Outcome.STALE, Outcome.STALE_ERROR})


@dataclass(slots=True, eq=False)
class Sent:
    """What the origin sent for one request that reached it."""

    number: int
    at: int
    """The moment when the request reached it."""
    site: str
    url: str
    """As it is keyed."""
    drops: bool
    """Whether parameters are left out of keys, under the rules that the request came under."""
    asked: dict[str, str]
    """Its request fields that may select a variant."""
    tags: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    vary: tuple[str, ...] = ()
    received: float = 0.0
    received_at: int = 0
    """The moment when its head came."""
    fresh_s: float = 0.0
    revalidate_s: float = 0.0
    error_s: float = 0.0
    size: int = 0
    own: "Purge | None" = None
    """What it purged itself."""
    any_variant: bool = False
    """Whether the same content may have been found to serve other variants too, which live on without this one."""

    def selected_by(self, fields: dict[str, str]) -> bool:
        """Whether a request with these fields, and no others, selects this variant and no other."""
        return not self.any_variant and all(fields.get(name) == self.asked.get(name) for name in self.vary)

    def confirming(self, born: "Sent") -> "Sent":
        """What is known of a response since this has confirmed it: it keeps its names (PURGE rule 10). The origin may
        have confirmed it for another variant."""
        if born is self:
            return self
        tags, groups = {*born.tags, *self.tags}, {*born.groups, *self.groups}
        return replace(self, tags=tuple(tags), groups=tuple(groups), vary=self.vary or born.vary)

    @property
    def content(self) -> bytes:
        """Its body, which tells its number wherever one looks."""
        piece = b"<%09d>" % self.number
        return (piece * (self.size // len(piece) + 1))[: self.size]


@dataclass(slots=True, eq=False)
class Purge:
    """One purge, as it was asked for; `at` is the moment when it was applied, 0 before."""

    targets: tuple[tuple[Given, Mode], ...]
    sites: tuple[str, ...] = ()
    name: str = ""
    at: int = 0
    index: int = 0
    id: str = ""
    acknowledged: bool = False
    scheduled_as: int = 0
    """The apply index of the schedule, of one that was to be carried out later."""
    due: float | None = None
    cancelled: bool = False
    undone_as: int = 0
    """The apply index of what took it back."""
    undo_acknowledged: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(f'{mode} {given}' for given, mode in self.targets)})"

    @property
    def soft(self) -> bool:
        """Whether all of it makes stale and no more."""
        return all(mode is Mode.SOFT for _, mode in self.targets)

    def hits(self, sent: Sent, mode: Mode) -> bool:
        """Whether it is for this."""
        if self.sites and sent.site not in self.sites:
            return False
        return any(mode is its and matches(given, sent) for given, its in self.targets)


def matches(given: Given, sent: Sent) -> bool:
    """Whether a target means what was sent."""
    place = sent.url.partition("://")[2]
    value = given.value
    match given.kind:
        case Kind.EVERYTHING:
            return True
        case Kind.TAG:
            return value in sent.tags
        case Kind.GROUP:
            return any(value == f"{sent.url.partition('://')[0]}://{place.partition('/')[0]} {g}" for g in sent.groups)
        case Kind.HOST:
            host = place.partition("/")[0]
            return host.endswith(value[1:]) if value.startswith("*.") else host == value
        case Kind.PREFIX:
            rest = place.removeprefix(value) if place.startswith(value) else None
            return rest is not None and (not given.boundary or value[-1:] == "/" or rest[:1] in ("", "/", "?"))
        case Kind.URL:
            same = keyed(value.partition("://")[2], drops=sent.drops) == place
            return same and (not given.headers or sent.selected_by(dict(given.headers)))
        case Kind.PATTERN if given.regex:
            return re.search(value, sent.url) is not None
        case Kind.PATTERN:
            glob = re.escape(value).replace(r"\*", ".*").replace(r"\?", ".")
            return re.fullmatch(glob, sent.url if "://" in value else place) is not None


def keyed(url: str, *, drops: bool) -> str:
    """A URL as it is keyed: a site may leave parameters out."""
    return re.sub(r"\?utm=\d+$", "", url) if drops else url


@dataclass(slots=True)
class Seen:
    """An answer, as far as it is judged. `born` is whose content it has, `renewed` who last confirmed that."""

    arrived: int
    outcome: Outcome
    born: Sent
    renewed: Sent
    max_stale: bool = False
    language: str = ""


@dataclass
class Model:
    """What was sent and what was purged, each in order."""

    moment: int = 0
    sent: list[Sent] = field(default_factory=list)
    purges: list[Purge] = field(default_factory=list)
    shown: dict[tuple[int, str, tuple[str, ...]], tuple[Sent, int]] = field(default_factory=dict)
    """Content, language asked for, and what selects the variant → who last confirmed it, and when that was first shown
    since the edge was started."""

    def tick(self) -> int:
        """The moment of what happens now."""
        self.moment += 1
        return self.moment

    # --- the ten lines

    def between(self, begun: int, arrived: int) -> Iterator[Purge]:
        """Purges applied between two moments, the newest first."""
        for purge in reversed(self.purges):
            if purge.at <= begun:
                return
            if purge.at <= arrived:
                yield purge

    def killed(self, sent: Sent, arrived: int) -> Purge | None:
        """The hard purge for which this may not answer who arrived then."""
        found = (p for p in self.between(sent.at, arrived) if p is not sent.own and p.hits(sent, Mode.HARD))
        return next(found, None)

    def marked(self, sent: Sent, arrived: int) -> Purge | None:
        """The soft purge for which this is stale for who arrived then."""
        found = (p for p in self.between(sent.at, arrived) if not p.undone_as and p.hits(sent, Mode.SOFT))
        return next(found, None)

    # --- judging

    def wrong(self, seen: Seen, now: float) -> str | None:
        """What is wrong with an answer, if anything is."""
        born, renewed = seen.born, seen.renewed
        known = renewed.confirming(born)
        before = born if renewed is born else replace(born, any_variant=True)
        purge = self.killed(before, min(renewed.at, seen.arrived)) or self.killed(known, seen.arrived)
        if purge is not None:
            return f"{born.number} answers though {purge} of {purge.at} has killed it, sent at {born.at}"
        age = now - renewed.received
        if seen.outcome in FRESH:
            if (purge := self.marked(known, seen.arrived)) is not None:
                return f"{born.number} is a hit though {purge} of {purge.at} has made it stale"
            if age >= renewed.fresh_s and not seen.max_stale:
                return f"{born.number} is a hit though it is {age:g} s old and fresh for {renewed.fresh_s:g}"
        if seen.outcome is Outcome.STALE and age > renewed.fresh_s + renewed.revalidate_s:
            return f"{born.number} is answered stale past its window, at {age:g} s"
        if seen.outcome is Outcome.STALE_ERROR and age > renewed.fresh_s + max(renewed.error_s, UNREACHABLE_S):
            return f"{born.number} is answered for an error past its window, at {age:g} s"
        return None

    def relapsed(self, seen: Seen) -> str | None:
        """What a hit tells: whether a confirmation that was known is forgotten, and with it the names it gave."""
        renewed = seen.renewed
        key = seen.born.number, seen.language, renewed.confirming(seen.born).vary
        known, moment = self.shown.get(key, (None, 0))
        if known is None or renewed.received_at > known.received_at:  # the last that came, whenever it was asked for
            self.shown[key] = renewed, self.moment
        elif renewed is not known and moment < seen.arrived:
            return (
                f"{seen.born.number} was known to be confirmed by {known.number}, and is as of {renewed.number} again"
            )
        return None

    # --- crashes

    def crashed(self, committed: set[int]) -> None:
        """The process was killed: what nobody was told and the log does not hold never was."""
        self.shown.clear()
        for purge in list(self.purges):
            if purge.undone_as and not (purge.undo_acknowledged or purge.undone_as in committed):
                purge.undone_as = 0
            if not (purge.acknowledged or purge.index in committed):
                self.purges.remove(purge)
                purge.at = purge.index = 0
