"""Presence: whether a purge can be about any response of some set, told from the names in it.

Most purges name nothing that an edge holds at the moment: they are about all edges. A set of responses that keeps
count of its names has nothing to match again after those.

    purge ── may_hit? ──┬─ no: nothing in the set is named by it
                        └─ yes, or that cannot be told: each is matched before it is used

Not here: what a target hits (`targets.py`); whether a purge is newer than a response (`stamps.py`).
Invariant: if a target matches the names of one in the set, on whichever site, `may_hit` is true of it.
"""

from collections.abc import Iterator

from banish.purge.names import Names
from banish.purge.targets import Kind, Target, group_value, host_values

BEGINNINGS_MAX = 8
"""Beginnings of a place that are counted: its host, and so many segments of the path less one."""


class Presence:
    """The names of a set of responses, each with how many have it."""

    __slots__ = ("_beginnings", "_groups", "_hosts", "_tags", "_urls")

    def __init__(self) -> None:
        self._urls: dict[str, int] = {}
        self._tags: dict[str, int] = {}
        self._groups: dict[str, int] = {}
        self._hosts: dict[str, int] = {}
        self._beginnings: dict[str, int] = {}

    def add(self, names: Names) -> None:
        """One more has these names."""
        for counts, name in self._counted(names):
            counts[name] = counts.get(name, 0) + 1

    def remove(self, names: Names) -> None:
        """One that was added is gone."""
        for counts, name in self._counted(names):
            counts[name] -= 1
            if not counts[name]:
                del counts[name]

    def may_hit(self, target: Target) -> bool:
        """Whether the target may match any of them; False: it certainly does not."""
        kind, value = target.kind, target.value
        if kind is Kind.TAG:
            return value in self._tags
        if kind is Kind.URL:
            return f"http://{value}" in self._urls or f"https://{value}" in self._urls
        if kind is Kind.PREFIX and "/" in value:
            end = value.rfind("/") + 1 if value.count("/") <= BEGINNINGS_MAX else _segment_ends(value)[-1]
            return value[:end] in self._beginnings
        if kind is Kind.GROUP:
            return value in self._groups
        if kind is Kind.HOST:
            return value in self._hosts
        return bool(self._urls)

    def _counted(self, names: Names) -> Iterator[tuple[dict[str, int], str]]:
        place = names.place
        yield self._urls, names.url
        for value in host_values(names.host):
            yield self._hosts, value
        for tag in names.tags:
            yield self._tags, tag
        for group in names.groups:
            yield self._groups, group_value(names.origin, group)
        for end in _segment_ends(place):
            yield self._beginnings, place[:end]


def _segment_ends(place: str) -> list[int]:
    """Where its first segments end, each with its slash: what begins with all of a text begins with these of it."""
    ends: list[int] = []
    end = place.find("/") + 1
    while end and len(ends) < BEGINNINGS_MAX:
        ends.append(end)
        end = place.find("/", end) + 1
    return ends
