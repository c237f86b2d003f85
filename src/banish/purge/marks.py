"""The stamps of one mode: which targets were purged and at which apply indexes, found by a response's own names.

    Marks ── scope ("shop", "" = every site) ── family (tags, hosts …) ── key ── stamps: 7 or [7, 12, 31]
      └───── rows, ascending: (7, tag news) (7, url a.example/x) (12, tag news) …

Each family of targets is a dictionary that is asked by keys which the names give: their tags, their place, each
beginning of their place that is as long as some live prefix. Patterns alone are gone through, so they are few
(`stamps.PATTERNS_MAX`). The rows give the order for pruning, the targets of one purge, and a shorter way when fewer
targets were stamped of late than a response has names (PURGE rule 17).

Not here: what follows from a stamp, and what happens past the bounds (`stamps.py`); the definition (`targets.matches`).
Units: apply indexes.
Invariants: `oldest` finds what `matches` would over the rows; stamps of a key ascend; a key without stamps is gone, and
so is a family without keys and a scope without families.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from typing import Any

from banish.purge.names import Names
from banish.purge.patterns import Pattern
from banish.purge.targets import Kind, Target, at_boundary, compiled, group_value, host_values, matches, selects

Stamps = int | list[int]
"""Apply indexes of one target: a list only when there are several, since most have one."""

ROWS_KEPT_MAX = 32_768
"""Pruned rows whose room is not yet given back: moving the rest down is done once for all of them."""


def oldest_within(stamps: Stamps, since: int, upto: int) -> int:
    """The first stamp in (since, upto]; 0 if there is none."""
    if type(stamps) is int:
        return stamps if since < stamps <= upto else 0
    assert isinstance(stamps, list)
    at = bisect_right(stamps, since)
    return stamps[at] if at < len(stamps) and stamps[at] <= upto else 0


class Family:
    """Targets of one kind and form within one scope, by key."""

    __slots__ = ("newest", "site", "stamps")

    kind: Kind

    def __init__(self, site: str) -> None:
        self.site = site
        self.newest = 0
        """No stamp here is newer; those who were clean since need not look."""

        self.stamps: dict[Any, Stamps] = {}

    def key(self, target: Target) -> Any:
        """The key of a target."""
        return target.value

    def target(self, key: Any) -> Target:
        """The target of a key."""
        return Target(self.kind, self.site, key)

    def keys(self, names: Names, since: int) -> Iterable[Any]:
        """The keys that hit these names, if they are stamped after `since`; others may be among them."""
        raise NotImplementedError

    def came(self, key: Any) -> None:
        """A key has its first stamp."""

    def went(self, key: Any) -> None:
        """A key has no stamp any more."""

    def stamp(self, target: Target, index: int) -> bool:
        """Stamp a target; False if it has this very stamp already."""
        key = self.key(target)
        stamps = self.stamps.get(key)
        if stamps is None:
            self.stamps[key] = index
            self.came(key)
        elif isinstance(stamps, list):
            if stamps[-1] == index:
                return False
            stamps.append(index)
        else:
            if stamps == index:
                return False
            self.stamps[key] = [stamps, index]
        self.newest = index
        return True

    def forget(self, target: Target, since: int, upto: int) -> None:
        """Forget the target's stamps in (since, upto]."""
        key = self.key(target)
        stamps = self.stamps.get(key)
        if stamps is None:
            return
        if isinstance(stamps, list):
            del stamps[bisect_right(stamps, since) : bisect_right(stamps, upto)]
            if stamps:
                return
        elif not since < stamps <= upto:
            return
        del self.stamps[key]
        self.went(key)

    def oldest(self, names: Names, since: int, upto: int) -> tuple[int, Any] | None:
        """The first stamp in (since, upto] that hits these names, with its key."""
        found: tuple[int, Any] | None = None
        for key in self.keys(names, since):
            stamps = self.stamps.get(key)
            if stamps is not None:
                index = oldest_within(stamps, since, upto)
                if index and (found is None or index < found[0]):
                    found = index, key
        return found


class Urls(Family):
    """Places, with all variants."""

    __slots__ = ()
    kind = Kind.URL

    def keys(self, names: Names, since: int) -> Iterable[str]:
        return (names.place,)


class Variants(Family):
    """Single variants of places, by what selects them. The key is (place, request fields)."""

    __slots__ = ("by_place",)
    kind = Kind.URL

    def __init__(self, site: str) -> None:
        super().__init__(site)
        self.by_place: dict[str, list[tuple[str, tuple[tuple[str, str], ...]]]] = {}

    def key(self, target: Target) -> Any:
        return target.value, target.headers

    def target(self, key: Any) -> Target:
        return Target(Kind.URL, self.site, key[0], headers=key[1])

    def keys(self, names: Names, since: int) -> Iterable[Any]:
        return [key for key in self.by_place.get(names.place, ()) if selects(key[1], names)]

    def came(self, key: Any) -> None:
        self.by_place.setdefault(key[0], []).append(key)

    def went(self, key: Any) -> None:
        self.by_place[key[0]].remove(key)
        if not self.by_place[key[0]]:
            del self.by_place[key[0]]


class Tags(Family):
    """Tags."""

    __slots__ = ()
    kind = Kind.TAG

    def keys(self, names: Names, since: int) -> Iterable[str]:
        return names.tags


class Groups(Family):
    """Cache groups, each with its origin."""

    __slots__ = ()
    kind = Kind.GROUP

    def keys(self, names: Names, since: int) -> Iterable[str]:
        return [group_value(names.origin, group) for group in names.groups]


class Hosts(Family):
    """Hosts and wildcards of hosts."""

    __slots__ = ()
    kind = Kind.HOST

    def keys(self, names: Names, since: int) -> Iterable[str]:
        return host_values(names.host)


class Prefixes(Family):
    """Beginnings of places. `lengths` counts the live ones by length. `newest_by_length`, ascending, are
    their newest stamps: a place is asked for only by lengths that were stamped since it was last."""

    __slots__ = ("lengths", "newest_by_length")
    kind = Kind.PREFIX

    def __init__(self, site: str) -> None:
        super().__init__(site)
        self.lengths: dict[int, int] = {}
        self.newest_by_length: dict[int, int] = {}

    def keys(self, names: Names, since: int) -> Iterable[str]:
        place = names.place
        keys: list[str] = []
        for length, newest in reversed(self.newest_by_length.items()):
            if newest <= since:
                break
            if length <= len(place):
                keys.append(place[:length])
        return keys

    def came(self, key: str) -> None:
        self.lengths[len(key)] = self.lengths.get(len(key), 0) + 1

    def went(self, key: str) -> None:
        self.lengths[len(key)] -= 1
        if not self.lengths[len(key)]:
            del self.lengths[len(key)]
            del self.newest_by_length[len(key)]

    def stamp(self, target: Target, index: int) -> bool:
        length = len(target.value)
        if self.newest_by_length.get(length) != index:
            self.newest_by_length.pop(length, None)  # it goes to the end
            self.newest_by_length[length] = index
        return super().stamp(target, index)


class Segments(Prefixes):
    """Beginnings of places that end with a segment."""

    __slots__ = ()

    def target(self, key: str) -> Target:
        return Target(Kind.PREFIX, self.site, key, boundary=True)

    def keys(self, names: Names, since: int) -> Iterable[str]:
        place = names.place
        return [key for key in super().keys(names, since) if at_boundary(place, len(key))]


class Patterns(Family):
    """Patterns, compiled, in the order of their newest stamps. The key is (pattern, is it a regular expression)."""

    __slots__ = ("compiled",)
    kind = Kind.PATTERN

    def __init__(self, site: str) -> None:
        super().__init__(site)
        self.compiled: dict[tuple[str, bool], Pattern] = {}

    def key(self, target: Target) -> Any:
        return target.value, target.regex

    def target(self, key: Any) -> Target:
        return Target(Kind.PATTERN, self.site, key[0], regex=key[1])

    def came(self, key: Any) -> None:
        self.compiled[key] = compiled(*key)

    def went(self, key: Any) -> None:
        del self.compiled[key]

    def stamp(self, target: Target, index: int) -> bool:
        fresh = super().stamp(target, index)
        key = self.key(target)
        self.stamps[key] = self.stamps.pop(key)
        return fresh

    def forget(self, target: Target, since: int, upto: int) -> None:
        key = self.key(target)
        before = _newest(self.stamps.get(key, 0))
        super().forget(target, since, upto)
        if _newest(self.stamps.get(key, before)) != before:
            self.stamps = dict(sorted(self.stamps.items(), key=lambda item: _newest(item[1])))

    def oldest(self, names: Names, since: int, upto: int) -> tuple[int, Any] | None:
        url, place = names.url, names.place
        found: tuple[int, Any] | None = None
        for key in reversed(self.stamps):
            stamps = self.stamps[key]
            if _newest(stamps) <= since:
                break
            index = oldest_within(stamps, since, upto)
            if index and (found is None or index < found[0]) and self.compiled[key].hits(url, place):
                found = index, key
        return found


class Everything(Family):
    """All there is. The key is empty."""

    __slots__ = ()
    kind = Kind.EVERYTHING

    def keys(self, names: Names, since: int) -> Iterable[str]:
        return ("",)


_FAMILIES: dict[str, type[Family]] = {
    family.kind: family for family in (Urls, Tags, Groups, Hosts, Prefixes, Patterns, Everything)
}


def _family_of(target: Target) -> type[Family]:
    if target.headers and target.kind is Kind.URL:
        return Variants
    if target.boundary and target.kind is Kind.PREFIX:
        return Segments
    return _FAMILIES[target.kind]


def _newest(stamps: Stamps) -> int:
    return stamps[-1] if isinstance(stamps, list) else stamps


_PRUNED = Target(Kind.EVERYTHING)
"""Stands in rows that are pruned, so that their targets go at once."""

_NONE: Mapping[type[Family], Family] = {}


class Marks:
    """The stamps of one mode."""

    __slots__ = ("_head", "_indexes", "_scopes", "_targets", "newest", "patterns")

    def __init__(self) -> None:
        self.newest = 0
        self.patterns = 0
        """Different patterns that are live."""

        self._scopes: dict[str, dict[type[Family], Family]] = {}
        self._indexes = array("q")
        self._targets: list[Target] = []
        self._head = 0
        """Rows before this one are pruned."""

    def __len__(self) -> int:
        """Stamps held."""
        return len(self._targets) - self._head

    def stamp(self, target: Target, index: int) -> None:
        """Stamp a target. Indexes ascend."""
        families = self._scopes.get(target.site)
        if families is None:
            families = self._scopes[target.site] = {}
        which = _family_of(target) if target.headers or target.boundary else _FAMILIES[target.kind]
        family = families.get(which)
        if family is None:
            family = families[which] = which(target.site)
        before = len(family.stamps)
        if family.stamp(target, index):
            self._indexes.append(index)
            self._targets.append(target)
            self.newest = index
            if which is Patterns:
                self.patterns += len(family.stamps) - before

    def holds(self, target: Target) -> bool:
        """Whether the target has a stamp."""
        family = self._scopes.get(target.site, {}).get(_family_of(target))
        return family is not None and family.key(target) in family.stamps

    def variants(self, site: str, place: str) -> int:
        """How many single variants of a place have a stamp."""
        family = self._scopes.get(site, {}).get(Variants)
        return len(family.by_place.get(place, ())) if isinstance(family, Variants) else 0

    def oldest(self, names: Names, since: int, upto: int) -> tuple[int, Target] | None:
        """The first stamp in (since, upto] whose target hits these names, with the target."""
        if self.newest <= since:
            return None
        own = 2 + len(names.tags) + len(names.groups)
        last = len(self._indexes) - own
        if last < self._head or self._indexes[last] <= since:
            return self._oldest_row(names, since, upto)
        found: tuple[int, Target] | None = None
        for site in (names.site, "") if names.site else ("",):
            for family in self._scopes.get(site, _NONE).values():
                if family.newest > since:
                    hit = family.oldest(names, since, upto)
                    if hit is not None and (found is None or hit[0] < found[0]):
                        found = hit[0], family.target(hit[1])
        return found

    def _oldest_row(self, names: Names, since: int, upto: int) -> tuple[int, Target] | None:
        """The same by going back through the rows: for when they are fewer than the names."""
        found: tuple[int, Target] | None = None
        for at in range(len(self._indexes) - 1, self._head - 1, -1):
            index = self._indexes[at]
            if index <= since:
                break
            if index <= upto and matches(self._targets[at], names):
                found = index, self._targets[at]
        return found

    def newer(self, since: int, count_max: int) -> list[Target] | None:
        """The targets stamped after `since`; None if they are more than `count_max`."""
        first = bisect_right(self._indexes, since, self._head)
        return None if len(self._targets) - first > count_max else self._targets[first:]

    def of(self, index: int) -> tuple[Target, ...]:
        """The targets stamped with `index`."""
        first, end = self._span(index)
        return tuple(self._targets[first:end])

    def take_back(self, index: int) -> int:
        """Forget the stamps of one apply index; how many there were."""
        first, end = self._span(index)
        for target in self._targets[first:end]:
            self._forget(target, index - 1, index)
        del self._indexes[first:end]
        del self._targets[first:end]
        return end - first

    def prune(self, floor: int, count_max: int) -> int:
        """Forget stamps up to `floor`, oldest first and at most `count_max`; how many went."""
        end = min(bisect_right(self._indexes, floor, self._head), self._head + count_max)
        pruned = end - self._head
        for target in self._targets[self._head : end]:
            self._forget(target, 0, floor)
        self._targets[self._head : end] = [_PRUNED] * pruned
        self._head = end
        if end >= ROWS_KEPT_MAX or end == len(self._targets):
            del self._indexes[:end]
            del self._targets[:end]
            self._head = 0
        return pruned

    def _forget(self, target: Target, since: int, upto: int) -> None:
        families = self._scopes.get(target.site, {})
        which = _family_of(target)
        family = families.get(which)
        if family is None:
            return
        before = len(family.stamps)
        family.forget(target, since, upto)
        if which is Patterns:
            self.patterns += len(family.stamps) - before
        if not family.stamps:
            del families[which]
            if not families:
                del self._scopes[target.site]

    def _span(self, index: int) -> tuple[int, int]:
        return bisect_left(self._indexes, index, self._head), bisect_right(self._indexes, index, self._head)
