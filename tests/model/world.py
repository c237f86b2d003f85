"""A world: a whole edge without sockets, its disk and its log, beside the model of what it may answer.

The edge is the real one (`proxy/serve.py`), put together by itself over its data directory. What would move by itself
is moved by hand (`hands.py`); the origin answers when it is told to. Killing it drops what is in memory, as far as
that is not on its way to a thread; the index may lose what was not synced, files of bodies may be cut, and old copies
of the directory and of the index may be put back.

Not here: what happens in which order (`steps.py`), what is right (`model.py`).
"""

import asyncio
import contextlib
import functools
import re
import shutil
import traceback
from collections.abc import Callable, MutableMapping
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, Self, TypeVar, cast
from unittest.mock import patch
from zlib import crc32

import structlog

from banish.caching.cache_status import Outcome
from banish.caching.policy import CachePolicy
from banish.edge import datadir, issuing, runtime
from banish.edge.config import Config, Disk, Log, Memory, Site
from banish.edge.config import Purge as PurgeSettings
from banish.errors import BanishError, IndexDamaged
from banish.http.fields import Fields
from banish.http.messages import RequestHead
from banish.http.targets import request_target
from banish.proxy import serve
from banish.proxy.exchange import Answer, ConnectionInfo, Request
from banish.purge.targets import Target
from banish.store import disk, diskreads, disksweep, files, logwriter, memory, shelf, spool, sweeper, upkeep
from banish.store import log as log_module
from banish.store.bodies import BodyReader
from banish.testing.clock import FakeClock
from tests.byhand import Exchange, OriginByHand
from tests.model.choices import Choices
from tests.model.hands import HandLoop, Hands, NoThread, PausingIndex, WriterByHand
from tests.model.model import Model, Purge, Seen, Sent, keyed
from tests.written import Written

INDEX_BLOCK = 48
"""Apply indexes reserved at a time: few, so that they run out."""

LARGE = 33_000
"""Bytes of a large body: more than a row takes."""

UNDO_WINDOW_S, STAMP_MIN_AGE_S, RETENTION_S = 8.0, 4.0, 45.0

_SERIAL = re.compile(rb"\r\nX-(Born|Serial): (\d+)(?=\r\n)", re.IGNORECASE)

T = TypeVar("T")


@dataclass(frozen=True)
class Page:
    """One URL."""

    scheme: str
    host: str
    target: str
    large: bool = False
    varies: bool = False

    @property
    def site(self) -> str:
        return "blog" if self.host.startswith("blog") else "shop"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}{self.target}"


PAGES = (
    Page("http", "shop.example", "/a"),
    Page("http", "shop.example", "/b/1", varies=True),
    Page("http", "shop.example", "/b/2", large=True),
    Page("https", "shop.example", "/a"),
    Page("http", "m.shop.example", "/a", varies=True),
    Page("http", "blog.example", "/q?utm=1"),
    Page("http", "blog.example", "/q?utm=2"),
    Page("http", "blog.example", "/big", large=True, varies=True),
)


@dataclass(slots=True, eq=False)
class Asked:
    """A request whose head was parsed at the moment `at`."""

    number: int
    at: int
    page: Page
    method: str
    request: Request
    max_stale: bool
    begun_at: float = 0.0
    """When its answer was begun: what is fresh then may be answered however slow the disk is."""

    task: "asyncio.Task[None] | None" = None
    purge: Purge | None = None
    """What it has made invalid."""

    def __str__(self) -> str:
        return f"request {self.number}"


@dataclass(slots=True, eq=False)
class Talk:
    """One exchange with the origin. `rest` is what is left to be given of the body."""

    exchange: Exchange
    sent: Sent
    page: Page
    asked: Asked | None
    rest: bytes = b""


@dataclass(slots=True, eq=False)
class Undo:
    """Somebody takes a purge back."""

    purge: Purge


ABOUT: ContextVar[Asked | Purge | Undo | None] = ContextVar("ABOUT", default=None)
"""On whose behalf the edge works."""


@dataclass(eq=False)
class Copy:
    """A copy of everything that is on disk."""

    directory: Path
    index: PausingIndex
    committed: set[int]


class Wrong(AssertionError):
    """The edge did what it must not."""


class Origin(OriginByHand):
    """The way to the origin, as one site under one set of rules has it."""

    def __init__(self, world: "World", *_: Any, **__: Any) -> None:
        super().__init__(world.clock)
        self._world = world
        self._drops = world.drops
        self.on_sent = self._sent

    def _sent(self, exchange: Exchange) -> None:
        self._world.sent(exchange, drops=self._drops)


class World:
    """One edge and its model. Use it in a `with`."""

    def __init__(self, choices: Choices, directory: Path) -> None:
        self.choices = choices
        self.directory = directory
        self.clock = FakeClock()
        self.hands = Hands()
        self.model = Model()
        self.trace: list[str] = []
        self.counts: dict[str, int] = {}
        self.meanwhile: Callable[[], None] = lambda: None
        """What happens between two reads of one call on a thread."""

        self.drops = False
        """Whether the blog leaves parameters out of its keys."""

        self.talks: list[Talk] = []
        self.wheel: list[Any] = []
        """What may happen meanwhile."""

        self.asked: list[Asked] = []
        self.purges: list[Purge] = []
        self.committed: set[int] = set()
        self.copies: list[Copy] = []
        self.index = PausingIndex(lambda: self.meanwhile())
        self.index_damaged = False
        self.damages = 0
        self._numbers = 0
        self._problems: list[str] = []
        self._memory = Memory(
            budget_bytes=choices.pick((1 << 20, 100_000, 6_000)),
            body_memory_bytes=choices.pick((1 << 20, 8192)),
            spool_bytes=choices.pick((1 << 22, 1 << 22, 50_000)),
        )
        self._disk = Disk(budget_bytes=choices.pick((1 << 24, 1 << 24, 120_000, 60_000, 5_000, 0)))
        self._refill = choices.pick((0, 0, 1))
        self._undo_window_s = choices.pick((UNDO_WINDOW_S, UNDO_WINDOW_S, 0.0))
        many = choices.pick((1, 2, 3, len(PAGES)))
        self.pages = [choices.pick(PAGES) for _ in range(many)] if many < len(PAGES) else list(PAGES)
        """Those that clients ask for."""

        self._stack = contextlib.ExitStack()

    # --- beginning and end

    def __enter__(self) -> Self:
        threads = self.hands.threads
        changes: list[tuple[Any, str, Any]] = [
            (shelf, "DiskThreads", threads),
            (diskreads, "DiskThreads", threads),
            (files, "DiskThreads", threads),
            (spool, "DiskThreads", threads),
            (log_module, "LogWriter", functools.partial(WriterByHand, on_committed=self.committed_one)),
            (logwriter, "threading", SimpleNamespace(Thread=NoThread)),
            (datadir, "open_index", self._open_index),
            (datadir, "INDEX_BLOCK", INDEX_BLOCK),
            (issuing, "INDEX_BLOCK", INDEX_BLOCK),
            (runtime, "OriginGroup", functools.partial(Origin, self)),
            (memory, "SLICES", 3),
            (sweeper, "CLOCK_EVERY", 1),
            (disk, "GIVE_UP_S", 40.0),
            (disksweep, "SLICE", 2),
            (disksweep, "TARGETS_MIN", 4),
            (upkeep, "SLICE", 2),
            (upkeep, "CLEAR_SLICE", 3),
        ]
        for module, name, value in changes:
            self._stack.enter_context(patch.object(module, name, value))
        in_every_process = patch.object(memory, "hash", lambda key: crc32(key.encode()), create=True)
        self._stack.enter_context(in_every_process)
        before = structlog.get_config()
        structlog.configure(
            processors=[self._logged],
            wrapper_class=structlog.make_filtering_bound_logger(40),
            cache_logger_on_first_use=False,
        )
        self._stack.callback(structlog.configure, **before)
        (self.directory / "data" / "index").mkdir(parents=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self.kill()
        self._stack.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def data(self) -> Path:
        """The edge's directory."""
        return self.directory / "data"

    @property
    def writer(self) -> WriterByHand:
        """Of the log."""
        writer = self.edge.data.log._writer
        assert isinstance(writer, WriterByHand)
        return writer

    def config(self) -> Config:
        """The configuration as it is now."""
        shop = Site(
            name="shop", hosts=("shop.example", "*.shop.example"), origin=("http://o",), refill_concurrency=self._refill
        )
        blog = Site(
            name="blog", hosts=("blog.example",), origin=("http://o",),
            cache=CachePolicy(query_drop=("utm",) if self.drops else ()),
        )  # fmt: skip
        return Config(
            listen=(), data=str(self.data), memory=self._memory, disk=self._disk, sites=(shop, blog),
            log=Log(access="off"),
            purge=PurgeSettings(
                undo_window_s=self._undo_window_s, stamp_min_age_s=STAMP_MIN_AGE_S, retention_s=RETENTION_S
            ),
        )  # fmt: skip

    def start(self) -> None:
        """Start the edge over what its directory holds."""
        for purge in self.purges:
            if purge.scheduled_as not in self.committed:  # the log does not know it, and may give its number again
                purge.scheduled_as = 0
        self.loop = HandLoop(self.clock, self.hands)
        self.edge = self.within(lambda: serve.Edge(self.config(), self.clock))
        applied, carry_out = self.edge.store.applied, self.edge.purger._carry_out

        def told(index: int, hard: tuple[Target, ...], soft: tuple[Target, ...], now: float) -> None:
            self._applied(index, bool(hard or soft))
            applied(index, hard, soft, now)

        def carried_out(index: int, *more: Any) -> Any:
            about = copy_context()
            about.run(ABOUT.set, next((purge for purge in reversed(self.purges) if purge.scheduled_as == index), None))
            return about.run(carry_out, index, *more)

        self.edge.store.applied = told  # type: ignore[assignment, method-assign]
        self.edge.purger._carry_out = carried_out  # type: ignore[assignment, method-assign]
        opening = self.begin(self._open())
        while not opening.done():
            self.loop.rest()
            self.writer.commit()
        opening.result()
        self.loop.rest()

    async def _open(self) -> None:
        edge = self.edge
        await edge.purger.start()
        edge._keep_in_force()
        if edge.store.disk is not None:
            edge.store.disk.start()
        edge._keeper = asyncio.get_running_loop().create_task(edge.purger.run())

    def kill(self) -> None:
        """Kill the edge: what is in memory is gone."""
        fetches = list(self.edge._fetcher._running)
        self.loop.abandon()
        for fetch in fetches:  # a body that never ends would be in a circle for ever
            fetch.plan = fetch.ready = fetch.task = cast("Any", None)
        self.hands.jobs.clear()
        self.writer.die()
        self.edge.data.identity.close()
        self._let_go_of_index()
        self._forget()
        self.model.crashed(self.committed)

    def stop(self) -> None:
        """Stop the edge as an operator does."""
        stopping = self.begin(self.edge.stop())
        self.loop.rest()
        while not stopping.done():
            self.writer.commit()
            self.hands.finish()
            self.loop.rest()
        stopping.result()
        self.loop.abandon()
        self.hands.jobs.clear()
        self._let_go_of_index()
        self._forget()
        self.model.crashed(self.committed)

    def _forget(self) -> None:
        self.asked.clear()
        self.talks.clear()

    def _open_index(self, path: Path) -> PausingIndex:
        if self.index_damaged:
            self.index_damaged = False
            self.index = PausingIndex(lambda: self.meanwhile())
            path.mkdir(exist_ok=True)
            raise IndexDamaged("Corruption: told to be")
        self._let_go_of_index()
        path.mkdir(exist_ok=True)
        return self.index

    def _let_go_of_index(self) -> None:
        """Nobody writes any more who has it open."""
        if self.index.failed and self.choices.percent(40):  # what a disk has not taken may be gone
            self.note("the disk has lost what was not synced")
            self.index.cut_back()
        self.index = self.index.reopened()

    # --- running

    def within(self, work: Callable[[], T]) -> T:
        """Do something as if on the edge's loop."""
        asyncio._set_running_loop(self.loop)
        try:
            return work()
        finally:
            asyncio._set_running_loop(None)

    def begin(self, work: Any, about: Asked | Purge | Undo | None = None) -> "asyncio.Task[Any]":
        """Begin a task, on somebody's behalf."""
        context = Context()
        context.run(ABOUT.set, about)
        return self.loop.start(work, context)

    def note(self, what: str) -> None:
        """Write what has happened into the trace."""
        self.trace.append(f"{self.model.moment:5} {what}")

    def count(self, what: str) -> None:
        """Count that it has happened."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def problem(self, what: str) -> None:
        """Something is wrong. Told at the end of the step, since whoever finds it may be in the edge's hands."""
        self._problems.append(what)

    def check(self) -> None:
        """Raises Wrong if anything was found to be wrong."""
        for report in self.loop.reports:
            self._problems.append(f"unhandled: {report.get('exception') or report.get('message')!r}")
        self.loop.reports.clear()
        if self._problems:
            raise Wrong("; ".join(self._problems))

    def _logged(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> NoReturn:
        if event.get("exc_info"):
            self.problem(f"logged: {event['event']}: {traceback.format_exc()}")
        raise structlog.DropEvent

    # --- what the edge does, as the model sees it

    def sent(self, exchange: Exchange, *, drops: bool) -> None:
        """A request has reached the origin."""
        fields = exchange.asked.fields
        url = f"{fields.get('x-forwarded-proto')}://{fields.get('host')}{exchange.asked.target}"
        site = "blog" if "//blog" in url else "shop"
        asked = {"accept-language": value} if (value := fields.get("accept-language")) else {}
        number = len(self.model.sent)
        sent = Sent(number, self.model.tick(), site, url, drops and site == "blog", asked)
        self.model.sent.append(sent)
        about = ABOUT.get()
        page = next(page for page in PAGES if keyed(page.url, drops=sent.drops) == url)
        if isinstance(about, Asked) and keyed(about.page.url, drops=sent.drops) == url:
            page = about.page  # of those that are one under these rules, and may not be under the next
        self.talks.append(Talk(exchange, sent, page, about if isinstance(about, Asked) else None))
        self.note(f"origin: {exchange.asked.method} {url} {dict(asked)} for {about} as {number}")

    def over(self, talk: Talk) -> None:
        """The origin has nothing more to say there."""
        if talk in self.talks:
            self.talks.remove(talk)

    def committed_one(self, index: int) -> None:
        """An entry of the log is durable."""
        self.committed.add(index)

    def _applied(self, index: int, stamps: bool) -> None:
        moment, about = self.model.tick(), ABOUT.get()
        if isinstance(about, Purge):
            if not stamps:
                about.scheduled_as = index
                return
            about.at, about.index = moment, index
            self.model.purges.append(about)
            self.note(f"applied: {about} as {index}")
        elif isinstance(about, Undo):
            about.purge.undone_as = index
            self.note(f"applied: undo of {about.purge.name} as {index}")
        elif isinstance(about, Asked) and about.purge is not None and not about.purge.at:
            about.purge.at, about.purge.index = moment, index
            self.model.purges.append(about.purge)
            self.note(f"applied: {about.purge} as {index}")

    # --- requests

    def ask(self, page: Page, *lines: str, method: str = "GET") -> Asked:
        """A request's head is parsed."""
        pairs = [("Host", page.host), *[(name, value) for name, _, value in (line.partition(": ") for line in lines)]]
        head = RequestHead(method, page.target, Fields.of(pairs))
        request = Request(
            head, request_target(method, page.target, page.host, page.scheme), self._connection(page),
            arrived_at=self.clock.now(), started=self.clock.monotonic(), arrived_index=self.edge.stamps.index,
            raw_target=page.target.encode(), raw_host=page.host.encode(),
        )  # fmt: skip
        self._numbers += 1
        max_stale = any("max-stale" in line for line in lines)
        asked = Asked(self._numbers, self.model.tick(), page, method, request, max_stale)
        self.note(f"request {asked.number}: {method} {page.url} {list(lines)}")
        self.asked.append(asked)
        return asked

    def _connection(self, page: Page) -> ConnectionInfo:
        return ConnectionInfo("192.0.2.1", page.scheme, page.scheme)

    def answer(self, asked: Asked) -> None:
        """Its turn on its connection has come."""
        asked.begun_at = self.clock.now()
        asked.task = self.begin(self._answered(asked), asked)
        asked.task.add_done_callback(lambda _: self._gone(asked))

    def _gone(self, asked: Asked) -> None:
        if asked in self.asked:
            self.asked.remove(asked)

    def leave(self, asked: Asked) -> None:
        """The client goes away."""
        self.note(f"{asked} leaves")
        assert asked.task is not None
        asked.task.cancel()

    async def _answered(self, asked: Asked) -> None:
        answer = await self.edge._pipeline.answer(asked.request)
        seen = self.judge(asked, answer)
        body, whole = await self._read(answer)
        if seen is not None and asked.method == "GET" and whole:
            self._check_body(asked, answer, seen.born, body)

    async def _read(self, answer: Answer) -> tuple[bytes, bool]:
        if not isinstance(answer.body, BodyReader):
            return answer.body or b"", True
        data = answer.first or b""
        try:
            while answer.first != b"" and (piece := await answer.body.read()):
                data += piece
        except BanishError:
            return data, False
        finally:
            answer.close_body()
        return data, True

    def judge(self, asked: Asked, answer: Answer) -> Seen | None:
        """Compare the head of an answer with the model."""
        fields, status, outcome = answer.fields, answer.status, answer.outcome
        self.count(f"{outcome}")
        born, serial = fields.get("x-born"), fields.get("x-serial")
        self.note(f"{asked} gets {status} {outcome} born {born} serial {serial} {fields.get('etag')}")
        if status == 500 and serial is None:
            self.problem(f"{asked}: a fault inside the edge")
        if status == 304:  # tells only by its tag whose content it is about
            tag = re.fullmatch(r'"v(\d+)"', fields.get("etag") or "")
            born = serial = tag[1] if tag is not None else None
        if serial is None:
            return None
        if asked.purge is not None and not asked.purge.at:
            self.problem(f"{asked} is answered, and {asked.purge} was not applied")
        seen = Seen(
            asked.at, outcome, self.model.sent[int(born or serial)], self.model.sent[int(serial)], asked.max_stale,
            asked.request.head.fields.get("accept-language") or "",
        )  # fmt: skip
        if status == 304:  # who confirmed it last, it does not say
            seen.outcome = Outcome.REVALIDATED
        self._judge(str(asked), seen, asked.begun_at)
        return seen

    def _judge(self, who: str, seen: Seen, now: float) -> None:
        wrong = self.model.wrong(seen, now)
        if wrong is None and seen.outcome is Outcome.HIT:
            wrong = self.model.relapsed(seen)
        if wrong is not None:
            self.problem(f"{who} of {seen.arrived}: {wrong}")

    def _check_body(self, asked: Asked, answer: Answer, born: Sent, body: bytes) -> None:
        content = born.content
        if answer.status == 206:
            found = re.fullmatch(r"bytes (\d+)-(\d+)/(?:\d+|\*)", answer.fields.get("content-range") or "")
            content = content[int(found[1]) : int(found[2]) + 1] if found is not None else body
        if answer.status in (200, 206) and body != content:
            self.problem(f"{asked}: {len(body)} bytes {body[:24]!r} are not {len(content)} of {born.number}")

    def hot(self, page: Page, *lines: str) -> bool:
        """Ask the lane in front of the pipeline; whether it has answered."""
        arrived = self.model.tick()
        head = "\r\n".join([f"GET {page.target} HTTP/1.1", f"Host: {page.host}", *lines, "", ""]).encode("latin-1")
        written = Written()
        lane = self.edge.hot.lane(page.scheme)
        if not self.within(lambda: lane.answer(head, written, self._connection(page))):
            return False
        self.count("hot")
        answered, _, body = written.data.partition(b"\r\n\r\n")
        told = {name.lower(): int(value) for name, value in _SERIAL.findall(answered)}
        self.note(f"hot: GET {page.url} {list(lines)} gets {told}")
        if b"serial" in told:
            born = self.model.sent[told.get(b"born", told[b"serial"])]
            language = "".join(line.partition(": ")[2] for line in lines)
            seen = Seen(arrived, Outcome.HIT, born, self.model.sent[told[b"serial"]], language=language)
            self._judge("hot", seen, self.clock.now())
            if body != born.content:
                self.problem(f"hot: {body[:24]!r} is not of {born.number}")
        return True

    # --- what is on disk

    def copy(self) -> Copy:
        """Copy everything that is on disk, as it is at this moment."""
        place = self.directory / f"copy-{len(self.copies)}"
        shutil.copytree(self.data, place, ignore=shutil.ignore_patterns("spool", "lock", "*.ballast"))
        copy = Copy(place, self.index.copied(), set(self.committed))
        self.copies.append(copy)
        return copy

    def body_files(self) -> list[Path]:
        """The files of bodies there are."""
        return sorted(path for path in (self.data / "bodies").rglob("*") if path.is_file())
