"""The steps: all that may happen to an edge, each when it can, with whatever is left open left to chance.

    clients    ask, in every way that is treated otherwise; wait their turn; leave
    origin     a head, a piece of the body, its end, or breaks off
    loop       one turn, or until it rests
    threads    a call is made; somebody is told what came of it; it fails
    log        commits some of what waits; fails; is tried again
    purges     of every kind, hard and soft, mixed, scheduled; taken back
    time       passes
    store      a slice of a sweep, of memory or disk; eviction
    disk       faults, damage
    lives      killed, without power, stopped; copies put back; other key rules

`play` takes one step, drawn among those that can be taken. After most of them the loop runs, not always to its rest.
"""

import itertools
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from banish.edge.receipts import Caller, PurgeRequest
from banish.errors import ClientError, LogUnwritable, StoreError, Truncated
from banish.purge.given import Given
from banish.purge.stamps import Mode
from banish.purge.targets import Kind
from banish.store.records import StoredResponse
from banish.testing.index import Call, busy, damage, disk_error, disk_full
from tests.model.choices import Choices
from tests.model.hands import Job, WriterByHand
from tests.model.model import Purge
from tests.model.world import LARGE, PAGES, Asked, Copy, Page, Talk, Undo, World

CALLER = Caller("tester", "192.0.2.9")

ASKED_MAX, EXCHANGES_MAX, COPIES_MAX = 12, 10, 2
"""Requests and exchanges under way at once, and copies kept: few, so that they come to an end."""

TAGS = ("t1", "t2", "t3")
LANGUAGES = ((), ("Accept-Language: de",), ("Accept-Language: en",))
CONTROLS = (
    ("max-age=10", 10, 0, 0),
    ("max-age=60", 60, 0, 0),
    ("max-age=600", 600, 0, 0),
    ("max-age=600", 600, 0, 0),
    ("max-age=600, stale-while-revalidate=60", 600, 60, 0),
    ("max-age=5, stale-while-revalidate=10", 5, 10, 0),
    ("max-age=5, stale-if-error=20", 5, 0, 20),
    ("max-age=0, stale-while-revalidate=30", 0, 30, 0),
    ("max-age=0", 0, 0, 0),
    ("private", 0, 0, 0),
)
"""What the origin says of freshness, and the windows that this gives: fresh, while revalidating, on errors."""

TARGETS: tuple[Given, ...] = (
    *[Given(Kind.URL, page.url) for page in PAGES],
    Given(Kind.URL, "http://shop.example/b/1", headers=(("accept-language", "de"),)),
    Given(Kind.URL, "http://blog.example/big", headers=(("accept-language", "en"),)),
    *[Given(Kind.TAG, tag) for tag in TAGS],
    *[Given(Kind.TAG, tag) for tag in TAGS],
    Given(Kind.GROUP, "http://shop.example g"),
    Given(Kind.GROUP, "http://blog.example g"),
    Given(Kind.PREFIX, "shop.example/b"),
    Given(Kind.PREFIX, "shop.example/b/", boundary=True),
    Given(Kind.PREFIX, "blog.example/q", boundary=True),
    Given(Kind.HOST, "shop.example"),
    Given(Kind.HOST, "*.shop.example"),
    Given(Kind.PATTERN, "*/b/?"),
    Given(Kind.PATTERN, "http://shop.example/*"),
    Given(Kind.PATTERN, "big$", regex=True),
    Given(Kind.PATTERN, "^https://", regex=True),
    Given(Kind.EVERYTHING),
)

WAITS_S = (0.25, 0.5, 1.0, 1.0, 3.0, 3.0, 5.0, 9.0, 12.0, 31.0, 61.0)

TICK_S = 2.0**-8
"""What one look at the clock takes in a sweep."""

FILE_CALLS = frozenset({"keep", "unlink", "drop_generation"})
"""Calls on threads that a file system may fail."""


class Step(NamedTuple):
    """One kind of step. `among` gives what it can be taken with; empty: it cannot be taken now."""

    weight: int
    name: str
    among: Callable[[World], Sequence[Any]]
    take: Callable[[World, Any], None]


# Clients


def _can_ask(world: World) -> Sequence[Page]:
    return world.pages if len(world.asked) < ASKED_MAX else ()


def _ask(world: World, page: Page) -> None:
    lines = world.choices.pick(LANGUAGES if page.varies else LANGUAGES[:1])
    if not world.hot(page, *lines):
        world.answer(world.ask(page, *lines))


def _ask_otherwise(world: World, page: Page) -> None:
    pick = world.choices.pick
    lines = pick(LANGUAGES if page.varies else LANGUAGES[:1])
    method, more = pick(
        (
            ("GET", "Cache-Control: only-if-cached"),
            ("GET", "Cache-Control: only-if-cached"),
            ("GET", "Cache-Control: no-cache"),
            ("GET", "Cache-Control: max-stale=30"),
            ("GET", "Cache-Control: no-store"),
            ("GET", 'If-None-Match: "same"'),
            ("GET", "Range: bytes=5-24"),
            ("GET", "Range: bytes=10-14"),
            ("HEAD", ""),
            ("HEAD", "Cache-Control: no-cache"),
        )
    )
    asked = world.ask(page, *lines, *([more] if more else []), method=method)
    if world.choices.percent(80):
        world.answer(asked)


def _post(world: World, page: Page) -> None:
    world.answer(world.ask(page, method="POST"))


def _arrive(world: World, page: Page) -> None:
    world.ask(page, *world.choices.pick(LANGUAGES if page.varies else LANGUAGES[:1]))


def _waiting(world: World) -> list[Asked]:
    return [asked for asked in world.asked if asked.task is None]


def _being_answered(world: World) -> list[Asked]:
    return [asked for asked in world.asked if asked.task is not None and not asked.task.done()]


# The origin


def _unanswered(world: World) -> list[Talk]:
    return [talk for talk in world.talks if not talk.exchange.has_head]


def _unended(world: World) -> list[Talk]:
    return [talk for talk in world.talks if talk.exchange.has_head]


def _head(world: World, talk: Talk) -> None:
    """Answer as chance has it: an error, a confirmation, a part, the whole; with any freshness, tags and groups."""
    choices, sent, asked = world.choices, talk.sent, talk.exchange.asked
    if choices.percent(8):
        world.note(f"origin: {sent.number} is an error")
        talk.exchange.answer(503, length=0)
        talk.exchange.end()
        world.over(talk)
        return
    lines = _say_what_it_is(world, talk)
    etags = (asked.fields.get("if-none-match") or "").split(", ")
    if asked.method == "GET" and etags[0] and choices.percent(65):
        _give(world, talk, 304, [*lines, f"ETag: {choices.pick(etags)}"], b"")
    elif asked.method == "POST":
        _have_changed(world, talk, lines)
    elif asked.method == "HEAD":
        _give(world, talk, 200, [*lines, f"ETag: {_etag(world, talk)}"], b"", length=sent.size)
    else:
        lines += [f"X-Born: {sent.number}", f"ETag: {_etag(world, talk)}"]
        wanted = asked.fields.get("range")
        if wanted and choices.percent(60):
            first, last = map(int, wanted.removeprefix("bytes=").split("-"))
            lines += [f"Content-Range: bytes {first}-{last}/{sent.size}"]
            _give(world, talk, 206, lines, sent.content[first : last + 1])
        else:
            _give(world, talk, 200, lines, sent.content)


def _say_what_it_is(world: World, talk: Talk) -> list[str]:
    choices, sent = world.choices, talk.sent
    control, sent.fresh_s, sent.revalidate_s, sent.error_s = choices.pick(CONTROLS)
    sent.received, sent.received_at = world.clock.now(), world.model.tick()
    sent.tags = choices.some(TAGS, 40)
    sent.groups = choices.some(("g",), 30)
    sent.vary = ("accept-language",) if talk.page.varies and choices.percent(90) else ()
    sent.size = LARGE if talk.page.large else 40
    lines = [f"Cache-Control: {control}", f"X-Serial: {sent.number}"]
    lines += [f"Cache-Tag: {', '.join(sent.tags)}"] if sent.tags else []
    lines += ['Cache-Groups: "g"'] if sent.groups else []
    return lines + (["Vary: Accept-Language"] if sent.vary else [])


def _etag(world: World, talk: Talk) -> str:
    return world.choices.pick(('"same"', '"same"', '"same"', f'"v{talk.sent.number}"'))


def _have_changed(world: World, talk: Talk, lines: list[str]) -> None:
    """What an unsafe request has changed is invalid from now on: its URL, those it names, their groups."""
    choices, page, sent = world.choices, talk.page, talk.sent
    origin = f"{page.scheme}://{page.host}"
    targets = [Given(Kind.URL, page.url)]
    if choices.percent(30):
        lines = [*lines, "Location: /b/2"]
        targets.append(Given(Kind.URL, f"{origin}/b/2"))
    if choices.percent(30):
        lines = [*lines, 'Cache-Group-Invalidation: "g"']
        targets.append(Given(Kind.GROUP, f"{origin} g"))
    if choices.percent(25):  # then it may be stored
        lines = [*lines, f"Content-Location: {page.target}", f"X-Born: {sent.number}", 'ETag: "same"']
    sent.own = Purge(tuple((target, Mode.HARD) for target in targets), (page.site,), f"POST {sent.number}")
    if talk.asked is not None:
        talk.asked.purge = sent.own
    _give(world, talk, 200, lines, sent.content)


def _give(world: World, talk: Talk, status: int, lines: list[str], body: bytes, *, length: int | None = None) -> None:
    world.note(f"origin: {talk.sent.number} is {status} {lines}")
    talk.rest = body
    if not body and length is None:
        length = 0
    elif length is None and world.choices.percent(80):
        length = len(body)
    talk.exchange.answer(status, *lines, length=length)
    if not body:
        world.over(talk)


def _piece(world: World, talk: Talk) -> None:
    """Give a piece of the body, mostly all that is left."""
    size = len(talk.rest) if len(talk.rest) < 2 or world.choices.percent(70) else len(talk.rest) // 2
    piece, talk.rest = talk.rest[:size], talk.rest[size:]
    if talk.rest:
        talk.exchange.write(piece)
    else:
        talk.exchange.end(piece)
        world.over(talk)


def _break_off(world: World, talk: Talk) -> None:
    world.note(f"origin: {talk.sent.number} breaks off")
    talk.exchange.fail(Truncated("broken off"))
    world.over(talk)


# Threads and the log


def _do(world: World, job: Job) -> None:
    """A thread makes its call. Mostly somebody is told at once; sometimes more happens in its midst."""
    choices = world.choices
    if job.name in FILE_CALLS and choices.percent(3):
        world.note(f"{job} fails")
        world.hands.do(job, StoreError("told to fail"))
    else:
        if choices.percent(25):
            world.meanwhile = lambda: _meanwhile(world)
        world.hands.do(job)
        world.meanwhile = lambda: None
    if choices.percent(60):
        world.hands.deliver(job)


def _meanwhile(world: World) -> None:
    world.meanwhile = lambda: None
    for _ in range(world.choices.number(0, 3)):
        meanwhile(world, world.wheel)


def _commit(world: World, writer: WriterByHand) -> None:
    writer.commit(None if world.choices.percent(70) else world.choices.number(1, 2))


def _log_fails(world: World, writer: WriterByHand) -> None:
    world.note("the next commit fails")
    writer.fault = LogUnwritable("told to fail")
    writer.fault_is_late = world.choices.percent(50)


def _writers(world: World) -> list[WriterByHand]:
    return [world.writer]


# Purges


def _purge(world: World, _: object) -> None:
    choices = world.choices
    mode = choices.pick((Mode.HARD, Mode.HARD, Mode.SOFT))
    targets = [_target(world)]
    while choices.percent(25):
        targets.append(_target(world))
    if choices.percent(15):
        targets = [msgspec.structs.replace(given, mode=choices.pick(tuple(Mode))) for given in targets]
    site = choices.pick((None, None, "shop", "blog"))
    due = world.clock.now() + choices.pick((1.0, 4.0, 15.0)) if choices.percent(10) else None
    asked = PurgeRequest(targets=tuple(targets), mode=mode, site=site, at=due)
    number = len(world.purges) + 1
    purge = Purge(
        tuple((given, given.mode or mode) for given in targets),
        () if site is None else (site,),
        f"purge {number}",
        due=due,
    )
    world.note(f"asked: {purge}{'' if due is None else ' later'}")
    world.purges.append(purge)
    world.begin(_purged(world, purge, asked), purge)


def _target(world: World) -> Given:
    """Mostly of a page that is asked for."""
    return (
        world.choices.pick(TARGETS)
        if world.choices.percent(60)
        else Given(Kind.URL, world.choices.pick(world.pages).url)
    )


async def _purged(world: World, purge: Purge, asked: PurgeRequest) -> None:
    try:
        told = await world.edge.purger.purge(asked, CALLER)
    except ClientError as error:
        world.note(f"{purge.name} is refused: {error.reason}")
        return
    purge.id = told.id
    purge.acknowledged = purge.due is None
    world.count("purged")
    world.note(f"{purge.name} is acknowledged")
    if purge.due is None and not purge.at:
        world.problem(f"{purge} is acknowledged and was never applied")


def _undoable(world: World) -> list[Purge]:
    return [
        purge
        for purge in world.purges[-8:]
        if purge.id and not purge.undone_as and (purge.due is not None or purge.soft)
    ]


def _undo(world: World, purge: Purge) -> None:
    world.note(f"asked: undo of {purge.name}")
    world.begin(_undone(world, purge), Undo(purge))


async def _undone(world: World, purge: Purge) -> None:
    try:
        await world.edge.purger.undo(purge.id, CALLER)
    except ClientError as error:
        world.note(f"undo of {purge.name} is refused: {error.reason}")
        return
    purge.undo_acknowledged = True
    world.count("undone")
    world.note(f"undo of {purge.name} is acknowledged")


# Time, sweeping, eviction


def _wait(world: World, seconds: float) -> None:
    world.note(f"{seconds} s pass")
    world.clock.advance(seconds)


def _sweep(world: World, steps: int) -> None:
    """A slice of a sweep: of memory and then of the disk, as the edge does it."""
    ticks = itertools.count()
    start = world.clock.monotonic()
    world.within(lambda: world.edge.store.sweep(steps * TICK_S, lambda: start + next(ticks) * TICK_S))


def _sweep_disk(world: World, steps: int) -> None:
    """A slice of a sweep of the disk, though memory may not be through."""
    ticks = itertools.count()
    start = world.clock.monotonic()
    disk = world.edge.store.disk
    assert disk is not None
    world.within(lambda: disk.sweep(steps * TICK_S, lambda: start + next(ticks) * TICK_S))


def _in_memory(world: World) -> list[StoredResponse]:
    return list(world.edge.store.memory.walk())


def _evict(world: World, record: StoredResponse) -> None:
    """Have memory let go of a response, as it does when others need the room."""
    store = world.edge.store.memory
    world.note(f"evicted from memory: {record.variant}")
    store._tier(record).remove(record.variant)
    world.within(lambda: store._evict([record.variant]))


def _index_fails(world: World, fault: tuple[Call, Callable[[], StoreError]]) -> None:
    call, error = fault
    after = world.choices.number(0, 3)
    world.note(f"the disk fails: {call} {error.__name__} after {after}")
    world.index.fail(call, error(), after=after)


def _damage(world: World, file: Path) -> None:
    world.note(f"damaged: {file.name}")
    _damage_file(world, file, ways=2)  # what was verified since the start is believed


def _damage_file(world: World, file: Path, *, ways: int = 3) -> None:
    match world.choices.number(0, ways - 1):
        case 0:
            file.unlink()
        case 1:
            os.truncate(file, file.stat().st_size // 2)
        case _:
            with file.open("r+b") as opened:
                opened.write(b"damage")


# Lives


def _kill(world: World, power: bool) -> None:
    world.note(f"killed{', power fails' if power else ''}")
    world.kill()
    if power:
        world.index.cut_back()
        for file in world.body_files():
            if world.choices.percent(30):
                _damage_file(world, file)
    if world.choices.percent(3):
        world.note("the index is damaged")
        world.index_damaged = True
    _start(world)


def _stop(world: World, _: object) -> None:
    world.note("stopped")
    world.stop()
    _start(world)


def _start(world: World) -> None:
    if world.choices.percent(10):
        world.drops = not world.drops
        world.note(f"other rules: drops {world.drops}")
    world.start()
    world.note(f"started, {world.edge.stamps}")


def _copy(world: World, _: object) -> None:
    world.note("copied")
    world.copy()


def _restore(world: World, copy: Copy) -> None:
    """Put back an old copy: of the log, of the store, of both, of one file of the log's, of the whole directory."""
    what = world.choices.pick(("log", "index", "index and bodies", "all"))
    world.note(f"killed; restored: {what}")
    world.kill()
    if what == "all":
        shutil.rmtree(world.data)
        shutil.copytree(copy.directory, world.data)
        world.committed = set(copy.committed)
    if what == "log":
        for file in world.data.glob("purges.sqlite*"):
            if "witness" not in file.name:
                file.unlink()
        for file in copy.directory.glob("purges.sqlite*"):
            if "witness" not in file.name:
                shutil.copy(file, world.data / file.name)
        world.committed = set(copy.committed)
    if "bodies" in what:
        shutil.rmtree(world.data / "bodies", ignore_errors=True)
        if (copy.directory / "bodies").exists():
            shutil.copytree(copy.directory / "bodies", world.data / "bodies")
    if what != "log":
        world.index = copy.index.copied()
    _start(world)


def _reload(world: World, _: object) -> None:
    world.drops = not world.drops
    world.note(f"reloaded: drops {world.drops}")
    world.within(lambda: world.edge.reload(world.config()))


# All of them


def _always(_: World) -> Sequence[Any]:
    return (None,)


def _with_disk(*values: Any) -> Callable[[World], Sequence[Any]]:
    return lambda world: values if world.edge.store.disk is not None else ()


FAULTS = (
    (Call.WRITE, disk_full),
    (Call.WRITE, busy),
    (Call.WRITE, busy),
    (Call.READ, disk_error),
    (Call.READ, damage),
    (Call.SYNC, disk_error),
)

STEPS = (
    Step(190, "ask", _can_ask, _ask),
    Step(70, "ask otherwise", _can_ask, _ask_otherwise),
    Step(8, "post", _can_ask, _post),
    Step(15, "arrive", _can_ask, _arrive),
    Step(20, "answer", _waiting, World.answer),
    Step(6, "leave", _being_answered, World.leave),
    Step(130, "head", _unanswered, _head),
    Step(110, "piece", _unended, _piece),
    Step(5, "break off", lambda world: world.talks, _break_off),
    Step(60, "turn", lambda world: (world.loop,) if world.loop.busy else (), lambda world, loop: loop.turn()),
    Step(60, "rest", lambda world: (world.loop,) if world.loop.busy else (), lambda world, loop: loop.rest()),
    Step(110, "do", lambda world: world.hands.ready(), _do),
    Step(80, "deliver", lambda world: world.hands.made(), lambda world, job: world.hands.deliver(job)),
    Step(80, "commit", lambda world: _writers(world) if world.writer.waiting else (), _commit),
    Step(2, "log fails", _writers, _log_fails),
    Step(30, "log retries", lambda world: _writers(world) if world.writer.unwritten else (), lambda _, w: w.retry()),
    Step(4, "trim", _writers, lambda _, w: w.trimmed()),
    Step(30, "purge", _always, _purge),
    Step(8, "undo", _undoable, _undo),
    Step(20, "wait", lambda _: WAITS_S, _wait),
    Step(60, "sweep", lambda _: (1, 1, 3, 50), _sweep),
    Step(40, "sweep disk", _with_disk(1, 2, 5), _sweep_disk),
    Step(12, "evict", _in_memory, _evict),
    Step(5, "index fails", _with_disk(*FAULTS), _index_fails),
    Step(2, "damage", World.body_files, _damage),
    Step(2, "kill", lambda _: (False,), _kill),
    Step(2, "power", lambda _: (True,), _kill),
    Step(1, "stop", _always, _stop),
    Step(4, "copy", lambda world: (None,) if len(world.copies) < COPIES_MAX else (), _copy),
    Step(3, "restore", lambda world: world.copies, _restore),
    Step(4, "reload", _always, _reload),
)

ENDS_A_LIFE = frozenset({"kill", "power", "stop", "restore"})
"""Steps that end a process: not taken while a call on one of its threads goes on."""

KEEPS_GOING = frozenset({"ask", "head", "piece", "rest", "do", "deliver", "commit"})
"""Steps without which nothing would come to an end."""

OFTEN, AS_MAY_BE, SELDOM = (2, 4, 6), (0, 0, 1, 2, 4, 8), (0, 0, 1, 2, 4)
"""By how much a step may be more likely in one run than in another."""

MUCH_MORE = 12

BY_NAME = {step.name: step for step in STEPS}


def drawn_by_chance(choices: Choices, more_often: Collection[str] = ()) -> list[Step]:
    """Steps, each as often as it is likely in one run: what happens much in one may never happen in another."""
    wheel = []
    for step in STEPS:
        often = OFTEN if step.name in KEEPS_GOING else SELDOM if step.name in ENDS_A_LIFE else AS_MAY_BE
        wheel += [step] * step.weight * (MUCH_MORE if step.name in more_often else choices.pick(often))
    return wheel


def meanwhile(world: World, wheel: list[Step]) -> None:
    """Take one step that can be taken while the process goes on."""
    while (step := world.choices.pick(wheel)).name in ENDS_A_LIFE or not take(world, step):
        pass


def take(world: World, step: Step) -> bool:
    """Take this step, if it can be taken now; then the loop may run. Raises Wrong."""
    among = step.among(world)
    if not among:
        return False
    step.take(world, world.choices.pick(among))
    match world.choices.number(0, 8):
        case 0 | 1:
            pass
        case 2 | 3:
            world.loop.turn()
        case _:
            world.loop.rest()
    world.check()
    return True
