"""`banish demo`: an origin, an edge in front of it, and a walk through what the edge does.

Every step sends real requests over loopback sockets, shows what came back, counts what the origin was asked,
and holds it against what was promised. The exit code is 0 only if every promise was kept.

Not here: the origin's site (`demo_site.py`), the edge that is shown (`demo_edge.py`), the client and how an exchange
looks (`demo_wire.py`).
"""

import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import h11
import uvloop
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from banish.cli.demo_edge import DemoEdge
from banish.cli.demo_mesh import Cities, receipts
from banish.cli.demo_site import Origin, tides_csv
from banish.cli.demo_wire import Exchange, FieldLines, ask, draw
from banish.errors import LogUnwritable, StoreError

CLIENTS = 20
REFRESH_S_MAX = 5
LAPSE_S = 1.1
"""Some pages of the site are fresh for one second (`max-age=1`): after this long they are stale."""

WIDTH_WITHOUT_TERMINAL = 110
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Walk:
    """The walk through: asks, shows, counts, and remembers which promises were kept."""

    def __init__(self, console: Console, origin: Origin, edge: DemoEdge) -> None:
        self.console = console
        self.origin = origin
        self.edge = edge
        self.kept = 0
        self.broken = 0

    def say(self, words: str) -> None:
        self.console.print(words, style="italic", highlight=False)

    async def ask(
        self, path: str, *, method: str = "GET", fields: FieldLines = (), body: bytes = b""
    ) -> tuple[Exchange, int]:
        """One exchange, shown; with it how many requests reached the origin meanwhile."""
        asked_before = len(self.origin.fetches)
        exchange = await ask(self.edge.port, path, method=method, fields=fields, body=body)
        fetches = len(self.origin.fetches) - asked_before
        self.console.print(draw(exchange, self.origin_asked(fetches)), highlight=False)
        return exchange, fetches

    async def tell_admin(self, method: str, path: str, **form: object) -> str:
        """Ask something of the admin listener, shown; the id of the purge that the answer is about."""
        fields = (("Content-Type", "application/json"),) if form else ()
        body = json.dumps(form).encode() if form else b""
        exchange = await ask(self.edge.admin_port, path, method=method, fields=fields, body=body)
        told = json.loads(exchange.body)
        self.console.print(draw(exchange, "of the admin listener"), highlight=False)
        self.console.print(f"    {told.get('state', told)}: {told.get('id')}", style="dim", highlight=False)
        return str(told.get("id"))

    async def purge(self, **form: object) -> str:
        """Make a purge; its id."""
        return await self.tell_admin("POST", "/purges", **form)

    def origin_asked(self, fetches: int) -> str:
        """That many fetches, in words."""
        if not fetches:
            return "origin not asked"
        return f"origin asked {'once' if fetches == 1 else f'{fetches} times'}"

    async def lapse(self) -> None:
        """Wait until a page with `max-age=1` is stale."""
        self.console.print(f"  … waiting {LAPSE_S} s, for max-age=1 to lapse", style="dim", highlight=False)
        await asyncio.sleep(LAPSE_S)

    def promise(self, words: str, held: bool) -> None:
        """Say whether what was promised is what was seen."""
        self.kept += held
        self.broken += not held
        mark = Text("  ✓ ", "bold green") if held else Text("  ✗ ", "bold red")
        self.console.print(mark + Text(words if held else f"{words}: NOT SO", "" if held else "red"))


Step = Callable[[Walk], Awaitable[None]]


async def miss(walk: Walk) -> None:
    """Miss. Nothing is stored yet, so the edge asks the origin, relays the answer and keeps it."""
    first, fetches = await walk.ask("/")
    walk.promise("the origin was asked, once", fetches == 1)
    walk.promise("the response was stored", first.cache_status.get("stored") is True)


async def hit(walk: Walk) -> None:
    """Hit. The same request again is answered from memory, with the Age of what is stored."""
    again, fetches = await walk.ask("/")
    walk.promise("the answer came from the cache", again.hit and fetches == 0)
    walk.promise("it says how old it is", "age" in again.fields)
    known, fetches = await walk.ask("/", fields=(("If-None-Match", again.fields.get("etag", "")),))
    walk.promise("a client that has it already is told so, with a 304", known.status == 304 and fetches == 0)


async def collapse(walk: Walk) -> None:
    """Collapse. The rain radar takes the origin 400 ms to draw; twenty clients ask for it at once."""
    before = len(walk.origin.fetches)
    crowd = await asyncio.gather(*[ask(walk.edge.port, "/radar") for _ in range(CLIENTS)])
    fetches = len(walk.origin.fetches) - before
    waited = sum(exchange.cache_status.get("collapsed") is True for exchange in crowd)
    slowest_ms = max(exchange.took_s for exchange in crowd) * 1000
    walk.console.print(draw(max(crowd, key=lambda e: "collapsed" in e.cache_status), walk.origin_asked(fetches)))
    walk.console.print(
        f"    {CLIENTS} clients, {waited} collapsed onto one fetch; the slowest took {slowest_ms:.0f} ms",
        style="dim",
        highlight=False,
    )
    walk.promise("the origin was asked once for all of them", fetches == 1)
    walk.promise("each got the whole page", len({exchange.body for exchange in crowd}) == 1 and crowd[0].status == 200)


async def revalidate(walk: Walk) -> None:
    """Revalidation. The news are fresh for a second; after that the edge asks whether they have changed."""
    before, _ = await walk.ask("/news")
    await walk.lapse()
    after, fetches = await walk.ask("/news")
    walk.promise("the origin said 304 and sent no page", fetches == 1 and walk.origin.fetches[-1].status == 304)
    walk.promise("the client got the stored page, whole", after.status == 200 and after.body == before.body)


async def stale_while_revalidate(walk: Walk) -> None:
    """Stale while revalidate. The tide gauge takes 300 ms to read, and a reading a little old will do."""
    first, _ = await walk.ask("/api/tides")
    await walk.lapse()
    asked_before = len(walk.origin.fetches)
    stale, _ = await walk.ask("/api/tides")
    before_refresh = not any(fetch.answered.is_set() for fetch in walk.origin.fetches[asked_before:])
    walk.promise("the old reading was given at once, before the origin answered", before_refresh)
    walk.promise("it is the stored one", stale.hit and stale.body == first.body)
    async with asyncio.timeout(REFRESH_S_MAX):
        refresh = await walk.origin.fetch(asked_before)
        await refresh.answered.wait()
        # The new reading has left the origin; it takes the edge a moment to store it.
        while (fresh := await ask(walk.edge.port, "/api/tides")).body == first.body:
            pass
    walk.console.print(draw(fresh, walk.origin_asked(0)), highlight=False)
    walk.promise("and once that was here, the next client found the new reading", fresh.hit)


async def variants(walk: Walk) -> None:
    """Variants. The ferry page says `Vary: Accept-Language`: each language is stored beside the other."""
    before = len(walk.origin.fetches)
    pages = [await walk.ask("/welcome", fields=(("Accept-Language", language),)) for language in ("en", "de")]
    again = [await walk.ask("/welcome", fields=(("Accept-Language", language),)) for language in ("en", "de")]
    walk.promise("two languages, two fetches", len(walk.origin.fetches) - before == 2)
    walk.promise("each is a hit for its own readers", all(exchange.hit for exchange, _ in again))
    walk.promise("and nobody got the wrong one", [e.body for e, _ in pages] == [e.body for e, _ in again])


async def part_of_a_large_file(walk: Walk) -> None:
    """Range. Four years of tides are a large file; a client may have a part of what is stored."""
    whole, _ = await walk.ask("/archive/tides.csv")
    again, fetches = await walk.ask("/archive/tides.csv")
    walk.promise("all of it came, byte for byte, also from the cache", whole.body == again.body == tides_csv())
    walk.promise("and the second time without the origin", fetches == 0)
    part, fetches = await walk.ask("/archive/tides.csv", fields=(("Range", "bytes=1000000-1000099"),))
    walk.promise("the part was cut from the stored file", part.status == 206 and fetches == 0)
    walk.promise("and is the right one", part.body == whole.body[1_000_000:1_000_100])


async def unsafe_method(walk: Walk) -> None:
    """Invalidation. After a POST that succeeds, what was stored for its address is not used again."""
    await walk.ask("/guestbook")
    before, fetches = await walk.ask("/guestbook")
    walk.promise("the guest book is a hit", before.hit and fetches == 0)
    await walk.ask("/guestbook", method="POST", body=b"Grace: back next summer")
    after, fetches = await walk.ask("/guestbook")
    walk.promise("the next reader sees the new entry", fetches == 1 and b"Grace" in after.body)


async def purge_by_tag(walk: Walk) -> None:
    """Purge by tag. The front page and the ferry's carry the tag `page`, the style sheet does not. One purge takes all
    that carry it, at once."""
    for path in ("/", "/welcome", "/style.css"):
        await ask(walk.edge.port, path)
    stored = [await ask(walk.edge.port, path) for path in ("/", "/welcome", "/style.css")]
    walk.promise("two pages and a style sheet are hits", all(exchange.hit for exchange in stored))
    purge = await walk.purge(tag="page", reason="a new header on every page")
    front, fetches = await walk.ask("/")
    walk.promise("the next request for one page goes to the origin", fetches == 1)
    walk.promise("and its answer says which purge it was", front.cache_status.get("detail") == f"purge:{purge}")
    _, fetches = await walk.ask("/welcome")
    walk.promise("so does that for the other", fetches == 1)
    style, fetches = await walk.ask("/style.css")
    walk.promise("the style sheet is a hit as before", style.hit and fetches == 0)


async def soft_purge(walk: Walk) -> None:
    """Soft purge. What has changed, maybe, need not be thrown away: it is stale from now on, and the origin is asked
    whether it still holds. For a minute such a purge can be taken back."""
    before, _ = await walk.ask("/welcome")
    await walk.purge(tag="ferry", mode="soft")
    after, fetches = await walk.ask("/welcome")
    walk.promise("the origin said 304 and sent no page", fetches == 1 and walk.origin.fetches[-1].status == 304)
    walk.promise("the client got the stored page, whole", after.status == 200 and after.body == before.body)
    purge = await walk.purge(tag="ferry", mode="soft")
    await walk.tell_admin("DELETE", f"/purges/{purge}")
    again, fetches = await walk.ask("/welcome")
    walk.promise("a soft purge that was taken back leaves a hit", again.hit and fetches == 0)


async def purge_during_a_fetch(walk: Walk) -> None:
    """Purge during a fetch. A picture of the radar is being drawn when it is purged. It arrives after the purge, and
    shows what was true before."""
    asked_before = len(walk.origin.fetches)
    early = asyncio.create_task(ask(walk.edge.port, "/radar"))
    async with asyncio.timeout(REFRESH_S_MAX):
        await walk.origin.fetch(asked_before)
    walk.say("  (a client has asked for /radar, and the origin draws)")
    await walk.purge(url=f"{walk.edge.url}/radar")
    old = await early
    walk.console.print(draw(old, walk.origin_asked(1)), highlight=False)
    walk.promise("who asked before the purge got what was on its way", old.status == 200)
    new, fetches = await walk.ask("/radar")
    walk.promise("who asks after it gets a new picture", fetches == 1 and new.body != old.body)
    again, fetches = await walk.ask("/radar")
    walk.promise("the old one has not come back", again.hit and fetches == 0 and again.body == new.body)


async def restart(walk: Walk) -> None:
    """Restart. The edge stops, and another one starts on what it left in its data directory."""
    guests, _ = await walk.ask("/guestbook")
    await walk.purge(url=f"{walk.edge.url}/guestbook")
    await walk.edge.stop()
    walk.say("  (the edge has stopped)")
    await walk.edge.start()
    walk.say("  (it is back)")
    whole, fetches = await walk.ask("/archive/tides.csv")
    walk.promise("the large file is a hit as before", whole.hit and fetches == 0 and whole.body == tides_csv())
    _, fetches = await walk.ask("/guestbook")
    walk.promise("what was purged before is as gone as it was", guests.status == 200 and fetches == 1)


async def origin_gone(walk: Walk) -> None:
    """Origin gone. The origin stops; what has become stale is better than an error."""
    await walk.ask("/news")
    await walk.lapse()
    await walk.origin.stop()
    walk.say("  (the origin has stopped listening)")
    stale, _ = await walk.ask("/news")
    walk.promise("the stale page was served", stale.status == 200 and b"Herring" in stale.body)
    error, _ = await walk.ask("/never-asked-before")
    walk.promise("what was never stored is an honest gateway error", error.status in (502, 504))


async def three_cities(walk: Walk) -> None:
    """Three cities. Edges in Frankfurt, Newark and Tokyo before one origin, and the ways between them as long as on the
    map. While readers come everywhere, the pages are purged in Frankfurt, which answers when all three have it."""
    with tempfile.TemporaryDirectory(prefix="banish-demo-mesh-") as data:
        async with Cities(walk.origin.url, Path(data)) as cities:
            await _purge_across(walk, cities)
            await _purge_past_a_cut(walk, cities)


async def _purge_across(walk: Walk, cities: Cities) -> None:
    edges = cities.edges.values()
    for edge in edges:
        await ask(edge.edge.port, "/")
        await ask(edge.edge.port, "/news")
    readers = [asyncio.create_task(edge.read("/news")) for edge in edges]
    gone = {edge.name: asyncio.create_task(edge.gone_at("/")) for edge in edges}
    await asyncio.sleep(0)
    sent = time.monotonic()
    told = await cities.tell("frankfurt", "POST", "/purges?wait=all&timeout=10", {"tag": "page", "reason": "demo"})
    answered_ms = 1000 * (time.monotonic() - sent)
    effects_ms = {name: 1000 * (await task - sent) for name, task in gone.items()}
    for reader in readers:
        reader.cancel()
    walk.say(f"  purge {told['id']}")
    walk.console.print(receipts(told, effects_ms, cities, "frankfurt"))
    farthest = max(cities.way_ms("frankfurt", name) for name in ("newark", "tokyo"))
    walk.say(f"  all receipts after {answered_ms:.0f} ms: the way to Tokyo and back is {2 * farthest:.0f}")
    walk.promise("all three edges have it, on their disks", told["complete"])
    walk.promise("none forgot before light could have told it", all(
        effects_ms[name] >= cities.way_ms("frankfurt", name) for name in ("newark", "tokyo")
    ))  # fmt: skip
    fresh = [await ask(edge.edge.port, "/") for edge in edges]
    walk.promise("the next reader in each city gets the new page", not any(page.hit for page in fresh))


async def _purge_past_a_cut(walk: Walk, cities: Cities) -> None:
    cities.part("tokyo")
    walk.say("  (the cables to Tokyo are cut)")
    told = await cities.tell("newark", "POST", "/purges?wait=all&timeout=1", {"tag": "page"})
    walk.console.print(receipts(told, {}, cities, "newark"))
    walk.promise("Newark says that Tokyo does not have it", told["missing"] == ["tokyo"])
    await cities.until("tokyo", lambda status: status["behind"])
    behind = await ask(cities.edges["tokyo"].edge.port, "/news")
    walk.console.print(draw(behind, "from Tokyo"), highlight=False)
    walk.promise("Tokyo knows that it may be missing something, and says so", "behind" in str(behind.cache_status))
    cities.heal()
    walk.say("  (the cables are mended)")
    await cities.until_has("tokyo", told["id"])
    late = await ask(cities.edges["tokyo"].edge.port, "/")
    walk.promise("Tokyo has caught up: what was purged meanwhile is gone there too", not late.hit)


STEPS: tuple[Step, ...] = (
    miss,
    hit,
    collapse,
    revalidate,
    stale_while_revalidate,
    variants,
    part_of_a_large_file,
    unsafe_method,
    purge_by_tag,
    soft_purge,
    purge_during_a_fetch,
    restart,
    three_cities,
    origin_gone,
)


async def walk_through(walk: Walk) -> None:
    """All steps, in order; each begins by saying what it shows."""
    for number, step in enumerate(STEPS, 1):
        title, _, words = (step.__doc__ or "").partition(". ")
        walk.console.print()
        walk.console.print(Rule(f"[bold]{number}. {title}", align="left", style="blue"))
        walk.say(" ".join(words.split()))
        try:
            await step(walk)
        except (OSError, h11.ProtocolError) as error:  # TimeoutError is an OSError
            walk.promise(f"the step comes to its end ({type(error).__name__}: {error})", False)


def _closing(walk: Walk) -> None:
    walk.console.print()
    if walk.broken:
        walk.console.print(f"[bold red]{walk.broken} of {walk.kept + walk.broken} promises were not kept.")
    else:
        walk.console.print(f"[bold green]All {walk.kept} promises kept.")


def _invite(walk: Walk) -> None:
    base, admin = walk.edge.url, f"127.0.0.1:{walk.edge.admin_port}"
    banish = sys.argv[0] if sys.argv[0].endswith("/banish") else "banish"  # which may not be in the PATH
    walk.console.print(f"\nThe edge stays up at [bold]{base}/[/] until you press Ctrl-C. To try:")
    for command in (
        f"curl -i {base}/news",
        f"curl -i -H 'Accept-Language: fr' {base}/welcome",
        f"curl -i -H 'Cache-Control: no-cache' {base}/api/tides",
        f"curl -s -r 0-99 {base}/archive/tides.csv",
        f"curl -i -d 'Me: hello' {base}/guestbook",
        f"{banish} purge --admin {admin} --tag page --wait",
        f"{banish} explain --admin {admin} {base}/",
        f"{banish} purges --admin {admin}",
    ):
        walk.console.print(f"  {command}", style="cyan", highlight=False, soft_wrap=True)


async def _run(*, stay: bool, port: int | None) -> int:
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH_WITHOUT_TERMINAL)
    with tempfile.TemporaryDirectory(prefix="banish-demo-") as data:
        async with Origin() as origin, DemoEdge(origin.url, data, port or 0) as edge:
            walk = Walk(console, origin, edge)
            console.print(
                f"origin {origin.url}   edge {edge.url}   its admin listener {edge.admin_url}", highlight=False
            )
            await walk_through(walk)
            _closing(walk)
            if stay:
                await origin.start()
                _invite(walk)
                await _interrupted()
    return 1 if walk.broken else 0


async def _interrupted() -> None:
    """Wait for Ctrl-C, or to be told to end."""
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await told.wait()


def demo(*, once: bool, port: int | None) -> int:
    """Run the demo. With `once`, or when nobody is at a terminal, it ends by itself.

    Gives the exit code: 0 if every promise was kept, 1 if one was not, 2 if the edge could not start.
    """
    stay = not once and sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    try:
        return uvloop.run(_run(stay=stay, port=port))
    except (OSError, LogUnwritable, StoreError) as error:
        print(f"demo: cannot start: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
