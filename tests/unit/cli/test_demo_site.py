"""The demo's origin gives what the demo counts on."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable

from banish.cli.demo_site import Origin, lighthouse_png, tides_csv
from banish.cli.demo_wire import ask


def run(scene: Callable[[Origin], Awaitable[None]]) -> None:
    async def play() -> None:
        async with Origin() as origin:
            await scene(origin)

    asyncio.run(play())


def test_a_page_is_answered_304_to_its_own_entity_tag() -> None:
    async def scene(origin: Origin) -> None:
        page = await ask(origin.port, "/news")
        again = await ask(origin.port, "/news", fields=(("If-None-Match", page.fields["etag"]),))
        assert (page.status, again.status, again.body) == (200, 304, b"")
        assert [fetch.status for fetch in origin.fetches] == [200, 304]

    run(scene)


def test_each_language_is_another_page_and_others_get_english() -> None:
    async def scene(origin: Origin) -> None:
        pages = [
            await ask(origin.port, "/welcome", fields=(("Accept-Language", language),))
            for language in ("de", "fr", "xx")
        ]
        assert [page.fields["content-language"] for page in pages] == ["de", "fr", "en"]
        assert len({page.body for page in pages}) == 3

    run(scene)


def test_a_post_is_seen_by_the_next_reader() -> None:
    async def scene(origin: Origin) -> None:
        posted = await ask(origin.port, "/guestbook", method="POST", body=b"Grace: hello")
        page = await ask(origin.port, "/guestbook")
        assert posted.status == 303
        assert b"Grace: hello" in page.body

    run(scene)


def test_each_picture_of_the_radar_is_another() -> None:
    async def scene(origin: Origin) -> None:
        pages = await asyncio.gather(*[ask(origin.port, "/radar") for _ in range(2)])
        assert len({page.body for page in pages}) == 2

    run(scene)


def test_the_origin_returns_on_the_same_port_after_it_was_gone() -> None:
    async def scene(origin: Origin) -> None:
        port = origin.port
        await origin.stop()
        await origin.start()
        assert origin.port == port
        assert (await ask(port, "/")).status == 200

    run(scene)


def test_the_picture_is_a_png_with_all_its_rows() -> None:
    picture = lighthouse_png(16, 9)
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    at = picture.index(b"IDAT")
    size = int.from_bytes(picture[at - 4 : at])
    assert len(zlib.decompress(picture[at + 4 : at + 4 + size])) == 9 * (1 + 16 * 3)


def test_the_archive_is_large_enough_to_be_spooled() -> None:
    assert len(tides_csv()) > 3_000_000
