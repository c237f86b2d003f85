"""What is true while an edge is being crashed: the content, its versions, and which is the oldest that may be seen.

A *state* is one variant of one page. The origin has a version of it, and every body says, all along its length, which
state and version it is. A purge first moves the versions on, then is sent; once it is acknowledged the versions that it
was sent for are *required* of whoever asks from then on, whatever happens to the edge meanwhile: the answer rule
(PURGE rule 9) as a compare of two numbers. A soft purge requires it of hits alone: it makes what is stored stale, and
says nothing of what is on its way.

Not here: anything that waits.
"""

import random
import re
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple

PAGES = 240
HOSTS = 3
SECTIONS = 5
TAGS = 16
LANGUAGES = ("de", "en")
SMALL_BYTES, MEDIUM_BYTES, LARGE_BYTES = 300, 40_000, 1_300_000
"""In a row of the index; in a file; in a file that is more than one run of checksums."""
FILLER_TAGS = 120
"""Tags that nothing has, in some purges: they make the log grow, so that it is trimmed."""
TRACED = 200_000
TRACE_SHOWN = 40
TRACE_CHARS = 250
PROBLEMS_MAX = 50


class State(NamedTuple):
    """One variant of a page; `language` is empty where there is only one."""

    page: int
    language: str

    def __str__(self) -> str:
        return f"{self.host}{self.path}{f' ({self.language})' if self.language else ''}"

    @property
    def host(self) -> str:
        return f"h{self.page % HOSTS}.crash.example"

    @property
    def path(self) -> str:
        return f"/s{self.page // HOSTS % SECTIONS}/{self.page}"

    @property
    def section(self) -> str:
        return f"s{self.page // HOSTS % SECTIONS}"

    @property
    def tag(self) -> str:
        return f"t{self.page % TAGS}"

    @property
    def size(self) -> int:
        if self.page % 40 == 7:
            return LARGE_BYTES
        return MEDIUM_BYTES if self.page % 12 == 5 else SMALL_BYTES

    @property
    def brief(self) -> bool:
        """Fresh for a second, and may be served stale for some while it is revalidated."""
        return self.page % 6 == 2

    def body(self, version: int) -> bytes:
        """The whole content of a version."""
        line = f"{self.page:4} {self.language:2} {version:8} ".encode()
        return (line * (self.size // len(line) + 1))[: self.size]


def _languages(page: int) -> tuple[str, ...]:
    return LANGUAGES if page % 6 == 1 else ("",)


STATES = tuple(State(page, language) for page in range(PAGES) for language in _languages(page))
_TAG = re.compile(r"(?:W/)?\"(\d+)-(\d+)-(..)?\"")


def entity_tag(state: State, version: int) -> str:
    """The entity tag of a version."""
    return f'"{state.page}-{version}-{state.language}"'


def read_entity_tag(text: str) -> tuple[State, int] | None:
    """What `entity_tag` was given, of tags that it made."""
    found = _TAG.fullmatch(text)
    return None if found is None else (State(int(found[1]), found[3] or ""), int(found[2]))


class Drawn(NamedTuple):
    """A purge to be sent."""

    key: str
    request: dict[str, Any]
    hard: dict[State, int]
    """What its acknowledgement makes the oldest versions that may be seen."""
    soft: dict[State, int]
    """The oldest that may be answered as a hit."""


class Acknowledged(NamedTuple):
    """A purge that was."""

    id: str
    apply_index: int
    key: str


class Oldest(NamedTuple):
    """What was required of an answer when its request was begun."""

    version: int
    of_hits: int
    settled: bool
    """Whether no purge was on its way that may hit what is stored."""


class World:
    """Versions, requirements, and what happened."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.draw = random.Random(seed)
        self.versions = dict.fromkeys(STATES, 1)
        self._hard = dict.fromkeys(STATES, 1)
        self._soft = dict.fromkeys(STATES, 1)
        self._coming = dict.fromkeys(STATES, 0)
        self.seen: dict[State, int] = {}
        """The version that the edge last said it had stored, or answered as a hit, if it may keep it."""
        self.acknowledged: list[Acknowledged] = []
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._events: deque[tuple[State | None, str]] = deque(maxlen=TRACED)

    def note(self, what: str, state: State | None = None) -> None:
        """Something happened: to one state, or to all of them."""
        self._events.append((state, what))

    def problem(self, what: str, state: State | None = None) -> None:
        """Something happened that must not."""
        self.note(f"PROBLEM: {what}", state)
        if len(self.problems) < PROBLEMS_MAX:
            trace = [event[:TRACE_CHARS] for about, event in self._events.copy() if about is None or about == state]
            self.problems.append("\n    ".join([what, *trace[-TRACE_SHOWN:]]))

    def draw_purge(self) -> Drawn:
        """A purge of one to three targets. The content that it is about has changed when this returns."""
        key = f"{self.seed}-{self.draw.getrandbits(60):x}"
        targets: list[dict[str, Any]] = []
        hard: dict[State, int] = {}
        soft: dict[State, int] = {}
        for _ in range(self.draw.choice((1, 1, 1, 2, 3))):
            target, named = self._draw_target()
            mode = "soft" if self.draw.random() < 0.15 else "hard"
            targets.append({**target, "mode": mode})
            for state in filter(named, STATES):
                self.versions[state] += 1
                (soft if mode == "soft" else hard)[state] = self.versions[state]
                self.note(f"version {self.versions[state]}, to be purged by {key} {targets[-1]}", state)
        for state in {**hard, **soft}:
            self._coming[state] += 1
        if self.draw.random() < 0.1:
            targets += [{"tag": f"{key}-{number}"} for number in range(FILLER_TAGS)]
        return Drawn(key, {"targets": targets}, hard, soft)

    def _draw_target(self) -> tuple[dict[str, Any], Callable[[State], bool]]:
        """A target, and which states it names."""
        about = self.draw.choice(STATES)
        match self.draw.choices(*zip(*_WEIGHTS.items(), strict=True))[0]:
            case "variant" if about.language:
                headers = {"Accept-Language": about.language}
                return {"url": f"http://{about.host}{about.path}", "headers": headers}, lambda one: one == about
            case "tag":
                return {"tag": about.tag}, lambda one: one.tag == about.tag
            case "prefix":
                place = f"{about.host}/{about.section}"
                return (
                    {"prefix": f"http://{place}", "boundary": True},
                    lambda one: (one.host, one.section) == (about.host, about.section),
                )
            case "host":
                return {"host": about.host}, lambda one: one.host == about.host
            case "pattern":
                return {"pattern": f"*/{about.section}/*"}, lambda one: one.section == about.section
            case "regex":
                return {"regex": f"/s[0-9]/{about.page}$"}, lambda one: one.page == about.page
            case "everything":
                return {"everything": True}, lambda one: True
            case _:
                return {"url": f"http://{about.host}{about.path}"}, lambda one: one.page == about.page

    def acknowledge(self, purge: Drawn, identity: Acknowledged) -> None:
        """The edge said that it holds."""
        self.acknowledged.append(identity)
        for state, version in purge.hard.items():
            self._hard[state] = max(self._hard[state], version)
            self.note(f"version {version} required, {identity.key} acknowledged as {identity.id}", state)
        for state, version in purge.soft.items():
            if not state.brief:
                self._soft[state] = max(self._soft[state], version)
            self.note(f"version {version} softly, {identity.key} acknowledged as {identity.id}", state)
        for state in {**purge.hard, **purge.soft}:
            self._coming[state] -= 1

    def oldest(self, state: State) -> Oldest:
        """What is required of an answer to a request that is begun now."""
        hard = self._hard[state]
        return Oldest(hard, max(hard, self._soft[state]), not self._coming[state])

    def judge(self, asked: State, oldest: Oldest, tag: str, told: str, *, hit: bool) -> int | None:
        """An answer with this entity tag, described by `told`, to a request at whose beginning `oldest` was required:
        its version, if it may be."""
        found = read_entity_tag(tag)
        if found is None or found[0] != asked:
            self.problem(f"asked for {asked}, answered with {tag!r}: {told}", asked)
            return None
        version, required = found[1], oldest.of_hits if hit else oldest.version
        self.note(f"version {version} answered, {required} required: {told}", asked)
        if version < required:
            self.problem(f"stale: {asked} in version {version}, {required} is required: {told}", asked)
            return None
        if version > self.versions[asked]:
            self.problem(f"{asked} in version {version}, which there is not yet", asked)
            return None
        return version


_WEIGHTS = {"url": 48, "variant": 14, "tag": 20, "prefix": 8, "host": 2, "pattern": 2, "regex": 3, "everything": 0.5}
