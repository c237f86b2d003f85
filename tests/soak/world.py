"""What is true while a soak runs: the pages, what state each is in, and which states may answer from when on.

A page's content has a *state*, a number of the origin's own. Every body says, all along its length, which URL, variant
and state it is of, so that a byte from anywhere else shows. A purge, or a request that changes something, moves the
state on and makes the new one the *least* that may answer who asks from then on: the answer rule (PURGE rule 9) as a
compare of two numbers. Moving it on silently makes nothing wrong: caches may serve what is fresh.

Every response of the origin has a serial number, under which is kept what it allowed (`Terms`). A stored response is
known by the serial that it carries, which a 304 or a HEAD renews.

Not here: anything that awaits.
"""

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from banish.http.fields import Fields
from banish.testing.clock import FakeClock

HOST = "site.example"
TRACE_EVENTS_MAX = 60
"""Events of a URL that a failure shows, up to the failure."""


@dataclass(frozen=True)
class Page:
    """One URL's character. `vary` are the names that select in an even state, and in an odd one."""

    path: str
    vary: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    sizes: tuple[int, ...] = (10, 200, 5_000)
    statuses: tuple[int, int] = (200, 200)
    groups: tuple[str, ...] = ()
    weak: bool = False


_LANGUAGE, _KIND = ("accept-language",), ("accept-language", "x-kind")
PAGES = {
    page.path: page
    for page in (
        Page("/plain", groups=("one", "two")),
        Page("/language", vary=(_LANGUAGE, _LANGUAGE), sizes=(10, 5_000, 40_000), groups=("one",)),
        Page("/turning", vary=((), _LANGUAGE)),
        Page("/kinds", vary=(_KIND, ("x-kind",)), groups=("two",), weak=True),
        Page("/large", sizes=(70_000, 300_000, 600_000), groups=("two",)),
        Page("/gone", statuses=(200, 404), sizes=(0, 1, 3_000)),
    )
}


@dataclass(frozen=True)
class Tag:
    """What a body is of. Its text is the entity tag, less quotes."""

    path: str
    variant: str
    state: int

    def __str__(self) -> str:
        return f"{self.path[1:]}.{self.variant}.{self.state}"

    @property
    def etag(self) -> str:
        return f'W/"{self}"' if PAGES[self.path].weak else f'"{self}"'

    @property
    def status(self) -> int:
        return PAGES[self.path].statuses[self.state % 2]

    @property
    def vary(self) -> tuple[str, ...]:
        return PAGES[self.path].vary[self.state % 2]

    @property
    def body(self) -> bytes:
        return _body(self)


def read_tag(text: str) -> Tag | None:
    """The tag in an entity tag or in X-Tag; None if there is none of ours."""
    found = re.fullmatch(r'(?:W/)?"?([a-z]+)\.([a-z-]+)\.([0-9]+)"?', text)
    return None if found is None else Tag(f"/{found[1]}", found[2], int(found[3]))


@lru_cache(maxsize=64)
def _body(tag: Tag) -> bytes:
    """Equal for equal tags. Each piece says what it is of and where it stands."""
    size = random.Random(str(tag)).choice(PAGES[tag.path].sizes)
    piece = f"{tag}@".encode()
    return b"".join([b"%b%08d;" % (piece, at) for at in range(size // (len(piece) + 9) + 1)])[:size]


def variant(path: str, state: int, fields: Fields) -> str:
    """What these request fields select, as far as an origin sees them."""
    chosen = [(fields.get(name) or "none").strip().lower() for name in PAGES[path].vary[state % 2]]
    return "-".join(chosen) or "all"


@dataclass(frozen=True)
class Terms:
    """What a response says about its reuse: the field, and what it means. Seconds."""

    text: str
    stale: int = 0
    """The window of stale-while-revalidate."""
    error: int = 86_400
    """For how long it may stand in for an origin that fails: for the default of unreachable ones, if not given."""
    stored: bool = True
    shared: bool = False
    """Whether a response to a request with Authorization may be stored."""

    @property
    def lifetime(self) -> int:
        found = re.search(r"(?:max-age|s-maxage)=([0-9]+)", self.text)
        return int(found[1]) if found is not None and self.stored else 0


TERMS = (
    Terms("max-age=0"),
    Terms("max-age=1"),
    Terms("max-age=100"),
    Terms("max-age=100"),
    Terms("public, max-age=100", shared=True),
    Terms("s-maxage=5", error=0, shared=True),
    Terms("max-age=2, stale-while-revalidate=20", stale=20),
    Terms("max-age=0, stale-while-revalidate=5", stale=5),
    Terms("max-age=2, stale-if-error=50", error=50),
    Terms("max-age=1, must-revalidate", error=0, shared=True),
    Terms("no-cache", error=0),
    Terms("private, max-age=100", stored=False),
    Terms("no-store", stored=False),
)


@dataclass
class Served:
    """What is known of one response of the origin."""

    path: str
    terms: Terms
    alone: bool
    """Whether it may answer nobody but who asked for it."""
    cut: bool = False
    age: int = 0
    """The Age that it came with."""
    seen_at: float | None = None
    """When a client first had it whole, so that the edge had it by then."""
    ages: list[tuple[int, int]] = field(default_factory=list)
    """Each Age with which it was served, behind the number of events until then."""
    answers: int = 0


@dataclass
class Event:
    at_s: float
    path: str | None
    who: str
    text: str

    def __str__(self) -> str:
        return f"{self.at_s:8.1f}  {self.who:10} {self.path or '':10} {self.text}"


@dataclass
class Problem:
    what: str
    path: str | None
    at: int


@dataclass
class World:
    """One run's truth. Everything is written down in `events`."""

    seed: int
    clock: FakeClock = field(default_factory=FakeClock)
    state: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PAGES, 1))
    least: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PAGES, 1))
    served: list[Served] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._began = self.clock.now()

    def draw(self, *names: object) -> random.Random:
        """A source of chance for one purpose: what others draw does not change it."""
        return random.Random(" ".join(map(str, (self.seed, *names))))

    def note(self, path: str | None, who: str, text: str) -> None:
        """Write down what happened."""
        self.events.append(Event(self.clock.now() - self._began, path, who, text))

    def problem(self, path: str | None, what: str) -> None:
        """Something that must not be."""
        self.note(path, "PROBLEM", what)
        self.problems.append(Problem(what, path, len(self.events)))

    def trace(self, problem: Problem) -> list[str]:
        """What happened to a URL, up to a problem."""
        of_it = [
            event for event in self.events[: problem.at] if problem.path is None or event.path in (problem.path, None)
        ]
        return [str(event) for event in of_it[-TRACE_EVENTS_MAX:]]

    # --- states

    def move(self, paths: Iterable[str]) -> str:
        """Content changes; what it has become, for `require`."""
        moved = list(paths)
        for path in moved:
            self.state[path] += 1
        return " ".join(f"{path}={self.state[path]}" for path in moved)

    def require(self, moved: str) -> None:
        """From now on nothing older may answer."""
        for text in moved.split():
            path, _, state = text.partition("=")
            self.least[path] = max(self.least[path], int(state))

    # --- responses of the origin

    def serve(self, path: str, terms: Terms, *, alone: bool) -> int:
        """A new response; its serial number."""
        self.served.append(Served(path, terms, alone))
        return len(self.served) - 1


def in_group(group: str) -> list[str]:
    """The pages that carry a cache group."""
    return [page.path for page in PAGES.values() if group in page.groups]
