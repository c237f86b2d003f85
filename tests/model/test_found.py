"""What the model has found, each in as few steps as it takes."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from banish.edge.receipts import Caller, PurgeRequest
from banish.purge.given import Given
from banish.purge.stamps import Mode
from banish.purge.targets import Kind, url_target
from tests.byhand import SITE, ByHand, run
from tests.model.choices import Choices, Played
from tests.model.model import Purge
from tests.model.world import PAGES, Page, Talk, World

PAGE = next(page for page in PAGES if "utm" in page.target)


@contextlib.contextmanager
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory() as directory, World(Choices(Played()), Path(directory)) as world:
        yield world


def ask(world: World, page: Page = PAGE, *lines: str, method: str = "GET") -> Talk:
    """Have a request reach the origin."""
    world.answer(world.ask(page, *lines, method=method))
    rest(world)
    return world.talks[-1]


def rest(world: World) -> None:
    """Let all happen that needs neither origin nor time."""
    for _ in range(3):
        world.loop.rest()
        world.writer.commit()
        world.hands.finish()
    world.loop.rest()
    world.check()


def give(world: World, talk: Talk, *lines: str) -> None:
    """Give a whole response that is fresh for a minute."""
    sent = talk.sent
    sent.received, sent.fresh_s, sent.size = world.clock.now(), 60, 20
    told = (f"X-Serial: {sent.number}", f"X-Born: {sent.number}", "Cache-Control: max-age=60", *lines)
    talk.exchange.answer(200, *told, length=20)
    talk.exchange.end(sent.content)
    world.over(talk)
    rest(world)


def reload(world: World, *, drops: bool) -> None:
    """Have the site leave parameters out of its keys, or not."""
    world.drops = drops
    world.within(lambda: world.edge.reload(world.config()))


def stored(world: World) -> int:
    """How many answers the cache gives without the origin."""
    before = world.counts.get("hit", 0)
    world.answer(world.ask(PAGE, "Cache-Control: only-if-cached"))
    rest(world)
    return world.counts.get("hit", 0) - before


def test_what_was_fetched_under_former_rules_is_not_found_when_they_come_back() -> None:
    with world() as it:
        fetch = ask(it)
        reload(it, drops=True)
        given = Given(Kind.URL, PAGE.url)
        purge = Purge(((given, Mode.HARD),), name="purge")
        it.begin(it.edge.purger.purge(PurgeRequest(targets=(given,)), Caller("a", "")), purge)
        rest(it)
        assert purge.at
        reload(it, drops=False)
        give(it, fetch)
        assert not stored(it)


def test_what_memory_holds_from_former_rules_is_not_found_when_they_come_back() -> None:
    with world() as it:
        give(it, ask(it))
        assert stored(it)
        reload(it, drops=True)
        reload(it, drops=False)
        assert not stored(it)


def test_an_unsafe_request_under_way_across_a_reload_invalidates_by_the_new_rules() -> None:
    with world() as it:
        post = ask(it, method="POST")
        reload(it, drops=True)
        give(it, ask(it))
        assert stored(it)
        assert post.asked is not None
        post.asked.purge = Purge(((Given(Kind.URL, PAGE.url), Mode.HARD),), ("blog",), "POST")
        give(it, post)
        assert not stored(it)


def test_a_purged_variant_does_not_live_on_as_another() -> None:
    async def scene() -> None:
        edge = ByHand()
        kept = ('ETag: "same"', "Vary: Accept-Language", "Cache-Control: max-age=60")
        await edge.store_one("/a", *kept, ask=("Accept-Language: de",))
        asked = edge.ask("/a", "Accept-Language: en")
        exchange = await edge.origin.next()
        assert exchange.conditional
        edge.stamps.apply([url_target(SITE, edge.names().url, [("accept-language", "de")])])
        exchange.answer(304, *kept)
        assert (await asked).status == 200
        await edge.settled()
        assert not edge.store.lookup(edge.key())

    run(scene())
