"""No request that arrived after a hard purge is answered from a response whose fetch began before it.

The model is one number. The origin's content has a version, which every body carries; it changes at a purge and at a
POST. The origin is as unhelpful as it may be: a response carries the version there was when its request was sent, all
versions have the same entity tag and length, and whatever is asked about is confirmed. A purge makes its version the
least that may answer requests from then on. What may be purged, asked, released or broken off in which order is left
to chance; the moments named in the design are tried one by one below.
"""

import asyncio
import re
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from banish.errors import Truncated
from banish.proxy.exchange import Request
from banish.purge.stamps import Mode
from tests.byhand import ByHand, Exchange, Whole, run

KEPT = ("Content-Location: /a", 'ETag: "same"', 'Cache-Groups: "g"')
SHORT = "max-age=10, stale-while-revalidate=10, stale-if-error=20"


STAMPS_S = 61
"""As long as stamps live, and undo windows last (`tests/byhand.py`)."""


@dataclass
class Model:
    """The ten lines: a version, and the least version that may answer who arrives now."""

    version: int = 1
    least: int = 1

    def purge(self) -> None:
        self.version += 1
        self.least = self.version


@dataclass
class Asked:
    """A request, and the least version it may be answered from."""

    request: Request
    least: int
    answer: "asyncio.Task[Whole] | None" = None


class World:
    """An edge by hand beside its model."""

    def __init__(self, control: str = SHORT) -> None:
        self.edge = ByHand()
        self.control = f"Cache-Control: {control}"
        self.model = Model()
        self.asked: list[Asked] = []
        self.sent: dict[Exchange, int] = {}
        self.posted: list[int] = []
        self.soft: list[int] = []
        self.edge.origin.on_sent = self._sent

    def _sent(self, exchange: Exchange) -> None:
        if exchange.asked.method == "POST":
            self.model.version += 1  # its own purge comes with its response
        self.sent[exchange] = self.model.version

    @property
    def least(self) -> int:
        """The least version that may answer who arrives now. A POST purges when its response is taken; which of those
        that were answered are, is not known here, but how many."""
        return max(self.model.least, *sorted(self.posted)[: self.edge.invalidations], 0)

    # --- what may happen

    def arrive(self, method: str = "GET", *lines: str) -> Asked:
        """A request's head is parsed. What is hot is answered at once."""
        hot = self.edge.lane_answers("/a", *lines) if method == "GET" else None
        if hot is not None:
            self.check(hot.partition(b"\r\n\r\n")[2], self.least)
        asked = Asked(self.edge.request("/a", *lines, method=method), self.least)
        self.asked.append(asked)
        return asked

    def begin(self, asked: Asked) -> None:
        """Its turn comes: those before it on its connection are answered."""
        if asked.answer is None:
            asked.answer = asyncio.ensure_future(self.edge.whole_answer(asked.request))

    def head(self, exchange: Exchange, kind: str = "confirm") -> None:
        """The origin gives a head: it confirms if it was asked to, gives all anew (stale if `aged`), or fails."""
        if exchange.has_head:
            return
        if kind == "error":
            exchange.answer(503, length=0)
            return
        if exchange.asked.method == "POST":
            self.posted.append(self.sent[exchange])
        status = 304 if kind == "confirm" and exchange.conditional else 200
        aged = ("Age: 1000",) if kind == "aged" else ()
        exchange.answer(status, self.control, *KEPT, *aged, length=len(_body(0)))

    def end(self, exchange: Exchange) -> None:
        """The origin gives the rest: the body, which tells the version."""
        if exchange.has_head:
            exchange.end(_body(self.sent[exchange]))

    def purge(self, *, by_group: bool = False, mode: Mode = Mode.HARD) -> None:
        """Somebody purges."""
        if mode is Mode.HARD:
            self.model.purge()
        targets = [self.edge.group() if by_group else self.edge.url()]
        hard, soft = (targets, []) if mode is Mode.HARD else ([], targets)
        index = self.edge.stamps.apply(hard, soft)
        self.edge.store.applied(index, hard, soft, self.edge.clock.monotonic())
        self.soft += [index] if soft else []

    def undo(self) -> None:
        """Somebody takes the newest soft purge back, if it can be."""
        if self.soft and self.edge.stamps.undo(index := self.soft.pop()):
            self.edge.store.undone(index)

    def forget(self) -> None:
        """So long passes that all purges are swept and forgotten. Fetches go on meanwhile."""
        for _ in range(3):
            self.edge.clock.advance(STAMPS_S)
            while not self.edge.store.sweep(1.0, self.edge.clock.monotonic):
                pass

    # --- what must hold

    def check(self, body: bytes, least: int) -> None:
        found = re.fullmatch(rb"version (\d+)", body)
        assert found is None or int(found[1]) >= least, f"{body!r} was purged before the request arrived"

    def check_all(self) -> None:
        for asked in self.asked:
            if asked.answer is not None and asked.answer.done():
                self.check(asked.answer.result().body, asked.least)

    async def finish(self) -> None:
        """Let everything end, then see that nothing purged is left."""
        for asked in self.asked:
            self.begin(asked)
        for _ in range(4 + 2 * len(self.asked)):
            for exchange in list(self.sent):
                self.head(exchange)
                self.end(exchange)
            await self.edge.settled()
        assert all(asked.answer is not None and asked.answer.done() for asked in self.asked)
        await self._last()

    async def _last(self) -> None:
        """One more request, answered from the hot table or else by the pipeline."""
        for _ in range(3):
            last = self.arrive()
            self.begin(last)
            await self.edge.settled()
            for exchange in list(self.sent):
                self.head(exchange)
                self.end(exchange)
            await self.edge.settled()
        self.check_all()


def _body(version: int) -> bytes:
    return b"version %03d" % version


EVENTS = st.one_of(
    st.tuples(st.sampled_from(["get", "get", "get", "head", "head-no-cache", "post", "no-cache", "queued", "begin"])),
    st.tuples(st.sampled_from(["purge", "purge", "purge-group", "soft", "soft-group"])),
    st.tuples(st.sampled_from(["confirm", "whole", "aged", "error", "break", "end", "end"]), st.integers(0, 3)),
    st.tuples(st.sampled_from(["undo", "forget"])),
    st.tuples(st.sampled_from(["turn", "settle", "settle", "wait"])),
)
"""What happens next. Numbers pick one of the exchanges under way."""


async def happen(world: World, name: str, at: int = 0) -> None:
    """One event."""
    edge = world.edge
    open_ = [exchange for exchange in world.sent if not exchange.closed]
    match name:
        case "get" | "head" | "post":
            world.begin(world.arrive(name.upper()))
        case "no-cache" | "head-no-cache":
            world.begin(world.arrive("HEAD" if name == "head-no-cache" else "GET", "Cache-Control: no-cache"))
        case "queued":
            world.arrive()
        case "begin":
            for asked in world.asked:
                world.begin(asked)
        case "purge" | "purge-group":
            world.purge(by_group=name == "purge-group")
        case "soft" | "soft-group":
            world.purge(by_group=name == "soft-group", mode=Mode.SOFT)
        case "undo":
            world.undo()
        case "forget":
            world.forget()
        case "turn":
            await edge.turn()
        case "settle":
            await edge.settled()
        case "wait":
            edge.clock.advance(11)
        case _ if not open_:
            pass
        case "confirm" | "whole" | "aged" | "error":
            world.head(open_[at % len(open_)], name)
        case "break":
            open_[at % len(open_)].fail(Truncated("broken off"))
        case "end":
            world.end(open_[at % len(open_)])
    world.check_all()


@settings(max_examples=400)
@example(events=[("post",), ("settle",), ("purge-group",)])
@example(events=[("get",), ("post",), ("post",), ("settle",), ("confirm", 1), ("confirm", 2), ("get",)])
@example(events=[("get",), ("settle",), ("purge",), ("forget",), ("confirm", 0), ("end", 0), ("settle",), ("get",)])
@given(events=st.lists(EVENTS, min_size=4, max_size=40))
def test_any_interleaving(events: list[tuple[str] | tuple[str, int]]) -> None:
    async def scene() -> None:
        world = World()
        for event in events:
            await happen(world, *event)
        await world.finish()

    run(scene())


# --- each moment of each kind of fetch


@dataclass
class Case:
    """A kind of fetch: who causes it, `after_s` seconds after a response was stored (None: nothing was), and what the
    origin does. `window` is that in which the stored one may be served stale."""

    method: str = "GET"
    after_s: int | None = None
    window: str = ""
    end: str = "whole"


CASES = {
    "a miss": Case(),
    "a miss that breaks off": Case(end="break"),
    "a response that is stale when it comes": Case(after_s=11, end="aged"),
    "a 304 that renews an old body": Case(after_s=11, end="confirm"),
    "a 200 in place of a 304": Case(after_s=11),
    "a revalidation behind a stale answer": Case(after_s=11, window="stale-while-revalidate=10", end="confirm"),
    "a new response behind a stale answer": Case(after_s=11, window="stale-while-revalidate=10"),
    "a revalidation that a HEAD caused": Case("HEAD", after_s=11, window="stale-while-revalidate=10"),
    "an error that a stale answer hides": Case(after_s=11, window="stale-if-error=10", end="error"),
    "an origin that breaks off in the body": Case(after_s=11, end="break"),
    "an origin that cannot be reached, which hides too": Case(after_s=11, end="refuse"),
    "a POST that can be stored": Case("POST"),
    "a POST beside a stored response": Case("POST", after_s=1),
    "a HEAD that renews": Case("HEAD", after_s=11),
}
MOMENTS = ("arrived", "sent", "head", "end", "over")


@pytest.mark.parametrize("by_group", [False, True], ids=["url", "group"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_purge_at_each_moment_of_each_fetch(case: Case, moment: str, by_group: bool) -> None:
    """One asks and causes the fetch, one joins before the purge, one comes after it; all are answered, and the
    last never with what the purge was for."""
    late: list[Asked] = []

    async def scene() -> None:
        world = World(f"max-age=10, {case.window}")
        edge = world.edge

        async def reached(name: str) -> None:
            await edge.settled()
            if name == moment:
                world.begin(world.arrive())
                await edge.settled()
                world.purge(by_group=by_group)
                late.append(world.arrive())
                world.begin(late[0])
                await edge.settled()

        if case.after_s is not None:
            await _answered_once(world)
            edge.clock.advance(case.after_s)
        first = world.arrive(case.method)
        await reached("arrived")
        world.begin(first)
        await reached("sent")
        fetch = next((exchange for exchange in world.sent if not exchange.has_head), None)
        assert fetch is not None, "this case fetches nothing"
        if case.end != "refuse":
            world.head(fetch, "whole" if case.end == "break" else case.end)
        await reached("head")
        if case.end in ("break", "refuse"):
            fetch.fail(Truncated("broken off"))
        elif case.end in ("whole", "aged"):
            world.end(fetch)
        await reached("end")
        edge.clock.advance(1)
        await reached("over")
        await world.finish()
        answer = late[0].answer
        assert answer is not None
        assert answer.result().body, "who came after the purge got nothing"

    run(scene())


async def _answered_once(world: World) -> None:
    asked = world.arrive()
    world.begin(asked)
    await world.edge.settled()
    for exchange in list(world.sent):
        world.head(exchange)
        world.end(exchange)
    await world.edge.settled()
    assert len(world.edge.store) == 1
