"""Bodies and the fetches that bring them: shared, streamed, cut off, outlived and outdated."""

import asyncio
import contextlib
from unittest import mock

import msgspec
import pytest
from tests.support import Closed, Play, Response, Stage, answered, chunks, request

from banish.edge.config import Memory
from banish.store.spool import SpoolFile
from banish.testing.origin import CLOSE, RESET, STALL, Step, Wire

FRESH = "Cache-Control: max-age=60"
NO_STORE = "Cache-Control: no-store"


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


async def gather(*asked: "asyncio.Future[Response] | asyncio.Task[Response]") -> list[Response]:
    return list(await asyncio.gather(*asked))


def ask(stage: Stage, count: int, target: str = "/a", *lines: str) -> list["asyncio.Task[Response]"]:
    """That many clients, each with a connection of its own, asking at once."""
    return [asyncio.ensure_future(stage.get(target, *lines)) for _ in range(count)]


# --- cut off

CUTS: dict[str, tuple[Step, ...]] = {
    "length, close": (head(FRESH, "Content-Length: 9") + b"four", CLOSE),
    "length, reset": (head(FRESH, "Content-Length: 9") + b"four", RESET),
    "length, later": (head(FRESH, "Content-Length: 9"), b"four", CLOSE),
    "chunks, close": (head(FRESH, "Transfer-Encoding: chunked") + b"4\r\nfour\r\n", CLOSE),
    "chunks, no last chunk": (head(FRESH, "Transfer-Encoding: chunked") + b"4\r\nfour\r\n0\r\n", CLOSE),
    "until close, reset": (head(FRESH) + b"four", RESET),
}


@pytest.mark.parametrize("how", CUTS)
def test_a_truncated_response_is_seen_as_broken_and_never_stored(how: str, play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", *CUTS[how])
        try:
            response = await stage.get("/a")
        except Closed:
            pass
        else:
            assert not response.whole or response.status == 502
        stage.origin.respond("/a", body=b"whole")
        second = await stage.get("/a")
        assert (second.body, second.whole, second.hit) == (b"whole", True, False)

    play_on_both(scene)


@pytest.mark.parametrize("how", CUTS)
def test_a_client_of_http_1_0_sees_a_truncated_response_as_broken_too(how: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", *CUTS[how])
        async with stage.client() as client:
            await client.send(b"GET /a HTTP/1.0\r\nHost: site.example\r\n\r\n")
            try:
                response = await client.response()
            except (Closed, ConnectionError):
                return
            assert not response.whole or response.status == 502

    play(scene)


def test_a_head_cut_off_is_a_502_and_not_stored(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Le", CLOSE)
        assert (await stage.get("/a")).status == 502
        stage.origin.respond("/a", body=b"whole")
        assert (await stage.get("/a")).body == b"whole"

    play(scene)


def test_all_who_waited_for_a_truncated_response_see_it_as_broken(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", head(FRESH, "Content-Length: 9") + b"four", gate, RESET)
        asked = [asyncio.ensure_future(_got_whole(stage)) for _ in range(5)]
        await stage.origin.wait_for(1)
        await stage.until(lambda: stage.count("banish_client_connections") == 5)
        gate.set()
        assert await asyncio.gather(*asked) == [False] * 5
        assert len(stage.origin.requests) == 1

    play(scene)


async def _got_whole(stage: Stage) -> bool:
    try:
        return (response := await stage.get("/a")).whole and response.status == 200
    except Closed:
        return False


def test_a_truncated_revalidation_answer_does_not_destroy_what_is_stored(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"old", FRESH, 'ETag: "1"'))
        await stage.get("/a")
        stage.clock.advance(61)
        stage.origin.play("/a", head(FRESH, 'ETag: "2"', "Content-Length: 9") + b"four", CLOSE)
        with pytest.raises((Closed, AssertionError)):
            assert (await stage.get("/a")).whole
        stage.origin.play_always("/a", b"", RESET)
        assert (await stage.get("/a")).body == b"old"

    play(scene)


# --- shared


def test_fifty_requests_make_one_fetch(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", gate, answered(b"once", FRESH))
        asked = ask(stage, 50)
        await stage.arrived(50)
        gate.set()
        responses = await gather(*asked)
        assert {response.body for response in responses} == {b"once"}
        assert sum("collapsed" in response["cache-status"] for response in responses) == 49
        assert len(stage.origin.requests) == 1

    play_on_both(scene)


@pytest.mark.parametrize("control", [NO_STORE, "Cache-Control: private, max-age=60", "Vary: *", "Set-Cookie: a=b"])
def test_responses_that_serve_one_are_not_serialised(control: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"first", control))
        assert (await stage.get("/a")).body == b"first"
        gate = asyncio.Event()
        for at in range(20):
            stage.origin.play("/a", gate, answered(str(at).encode(), control))
        asked = ask(stage, 20)
        await stage.origin.wait_for(21)  # all at the origin at once, none answered
        gate.set()
        assert len({response.body for response in await gather(*asked)}) == 20

    play(scene)


def test_those_who_waited_in_vain_go_to_the_origin_side_by_side(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        first, gate = asyncio.Event(), asyncio.Event()
        stage.origin.play("/a", first, answered(b"mine", NO_STORE))
        for at in range(10):
            stage.origin.play("/a", gate, answered(str(at).encode(), NO_STORE))
        asked = ask(stage, 10)
        await stage.arrived(10)
        first.set()
        await stage.origin.wait_for(10)
        gate.set()
        bodies = [response.body for response in await gather(*asked)]
        assert len(set(bodies)) == 10, "one client got what was another's"

    play(scene)


def test_requests_with_other_selecting_fields_do_not_get_the_collapsed_response(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", gate, answered(b"hallo", FRESH, "Vary: Accept-Language"))
        german = asyncio.ensure_future(stage.get("/a", "Accept-Language: de"))
        await stage.origin.wait_for(1)
        stage.origin.play("/a", answered(b"hello", FRESH, "Vary: Accept-Language"))
        english = asyncio.ensure_future(stage.get("/a", "Accept-Language: en"))
        await stage.arrived(2)
        gate.set()
        assert [response.body for response in await gather(german, english)] == [b"hallo", b"hello"]
        assert (await stage.get("/a", "Accept-Language: de")).body == b"hallo"

    play(scene)


def test_a_request_with_credentials_does_not_join_or_feed_others(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", gate, answered(b"for alice", FRESH))
        stage.origin.play("/a", gate, answered(b"for all", FRESH))
        alice = asyncio.ensure_future(stage.get("/a", "Authorization: Basic YWxpY2U="))
        await stage.origin.wait_for(1)
        other = asyncio.ensure_future(stage.get("/a"))
        await stage.arrived(2)
        gate.set()
        responses = await gather(alice, other)
        assert [response.body for response in responses] == [b"for alice", b"for all"]

    play(scene)


@pytest.mark.parametrize("line", ["Authorization: Basic eA==", "Cache-Control: no-store", "X-HTTP-Method: PUT"])
def test_one_odd_request_does_not_end_sharing_for_the_rest(line: str, play: Play) -> None:
    """Else anybody could let a crowd through to the origin, whenever they liked."""

    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", answered(b"odd", FRESH))
        await stage.get("/a", line)
        stage.origin.play_always("/a", gate, answered(b"all", FRESH))
        asked = ask(stage, 20)
        await stage.arrived(20)
        gate.set()
        assert {response.body for response in await gather(*asked)} == {b"all"}
        assert len(stage.origin.requests) == 2

    play(scene)


@pytest.mark.parametrize("line", ["Authorization: Basic eA==", "Cache-Control: no-store"])
def test_an_odd_request_in_flight_does_not_end_sharing_for_the_rest(line: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        first, gate = asyncio.Event(), asyncio.Event()
        stage.origin.play("/a", first, answered(b"odd", FRESH))
        odd = asyncio.ensure_future(stage.get("/a", line))
        await stage.origin.wait_for(1)
        stage.origin.play_always("/a", gate, answered(b"all", FRESH))
        asked = ask(stage, 20)
        await stage.arrived(21)
        first.set()
        await stage.origin.wait_for(2)
        gate.set()
        assert {response.body for response in await gather(*asked)} == {b"all"}
        assert (await odd).body == b"odd"
        assert len(stage.origin.requests) <= 3

    play(scene)


def test_the_clients_own_condition_on_a_miss(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"hello", FRESH, 'ETag: "1"'))
        assert (await stage.get("/a", 'If-None-Match: "1"')).status == 304
        whole = await stage.get("/a")
        assert (whole.status, whole.body, whole.hit) == (200, b"hello", True)
        stage.origin.play("/b", answered(b"mine", NO_STORE, 'ETag: "1"'))
        await stage.get("/b")
        stage.origin.play("/b", head(NO_STORE, 'ETag: "1"', status="304 Not Modified"))
        assert (await stage.get("/b", 'If-None-Match: "1"')).status == 304
        stage.origin.play("/b", answered(b"mine", NO_STORE, 'ETag: "1"'))
        assert (await stage.get("/b")).body == b"mine"

    play(scene)


def test_a_304_to_someone_elses_question_reaches_nobody(play: Play) -> None:
    """An origin that answers 304 where nothing was asked about leaves nothing to answer from."""

    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"old", FRESH, 'ETag: "1"'))
        await stage.get("/a")
        stage.clock.advance(61)
        stage.origin.play("/a", head(FRESH, 'ETag: "2"', status="304 Not Modified"))
        stage.origin.play("/a", answered(b"new", FRESH, 'ETag: "2"'))
        response = await stage.get("/a")
        assert (response.status, response.body) == (200, b"new")

    play(scene)


def test_who_joins_late_gets_the_whole_body(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", head(FRESH, "Transfer-Encoding: chunked") + b"5\r\nhello\r\n", gate, chunks(b" world"))
        async with stage.client() as early:
            await early.send(request("GET", "/a"))
            first = await early.head()
            late = asyncio.ensure_future(stage.get("/a"))
            await stage.until(lambda: stage.count("banish_client_connections") == 2)
            gate.set()
            assert (await early.body(first)).body == b"hello world"
            assert (await late).body == b"hello world"
        assert len(stage.origin.requests) == 1

    play_on_both(scene)


def test_head_goes_out_before_the_body_has_begun(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        for control in (NO_STORE, FRESH):
            stage.origin.play("/events", head(control, "Transfer-Encoding: chunked"), gate, chunks(b"event"))
            async with stage.client() as client:
                await client.send(request("GET", "/events"))
                first = await client.head()
                gate.set()
                assert (await client.body(first)).body == b"event"
            gate.clear()

    play(scene)


def test_the_body_is_passed_on_as_it_comes(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play(
            "/events", head(NO_STORE, "Transfer-Encoding: chunked"), b"3\r\none\r\n", gate, chunks(b"two")
        )
        async with stage.client() as client:
            await client.send(request("GET", "/events"))
            await client.head()
            assert b"one" in await client.read(8)
            gate.set()
            assert b"two" in await client.read(13)

    play_on_both(scene)


# --- outlived


def test_a_client_that_leaves_does_not_stop_a_fill_worth_keeping(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", head(FRESH, "Content-Length: 9") + b"four", gate, b"-more")
        async with stage.client() as client:
            await client.send(request("GET", "/a"))
            assert (await client.head()).status == 200
            client.reset()
        await stage.until(lambda: stage.count("banish_client_connections") == 0)
        gate.set()
        await stage.settled()
        again = await stage.get("/a")
        assert (again.body, again.hit) == (b"four-more", True)

    play_on_both(scene)


def test_a_client_that_leaves_before_the_head_does_not_stop_it_either(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", gate, answered(b"whole", FRESH))
        async with stage.client() as client:
            await client.send(request("GET", "/a"))
            await stage.origin.wait_for(1)
            client.reset()
        await stage.until(lambda: stage.count("banish_client_connections") == 0)
        gate.set()
        await stage.settled()
        assert (await stage.get("/a")).hit

    play(scene)


def test_a_fetch_that_nobody_wants_any_more_is_stopped(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", head(NO_STORE, "Content-Length: 9") + b"four", STALL)
        async with stage.client() as client:
            await client.send(request("GET", "/a"))
            assert (await client.head()).status == 200
            client.reset()
        await stage.settled()

    play_on_both(scene)


def test_a_post_whose_client_has_left_still_invalidates(play: Play) -> None:
    """It may have its effect all the same."""

    async def scene(stage: Stage) -> None:
        done = asyncio.Event()
        stage.origin.play("/a", answered(b"old", FRESH))
        stage.origin.play("/a", done, answered(b"done"))
        stage.origin.play("/a", answered(b"new", FRESH))
        assert (await stage.get("/a")).body == b"old"
        async with stage.client() as client:
            await client.send(request("POST", "/a", body=b"hello"))
            await stage.origin.wait_for(2)
            client.reset()
        await stage.until(lambda: stage.count("banish_client_connections") == 0)
        done.set()
        await stage.settled()
        assert (await stage.get("/a")).body == b"new"

    play(scene)


def test_one_of_two_who_wait_may_leave(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", gate, answered(b"whole", FRESH))
        stays = asyncio.ensure_future(stage.get("/a"))
        await stage.origin.wait_for(1)
        async with stage.client() as client:
            await client.send(request("GET", "/a"))
            await stage.arrived(2)
            client.reset()
        await stage.until(lambda: stage.count("banish_client_connections") == 1)
        gate.set()
        assert (await stays).body == b"whole"

    play(scene)


def test_the_one_who_asked_first_may_leave(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", gate, answered(b"whole", FRESH))
        async with stage.client() as client:
            await client.send(request("GET", "/a"))
            await stage.origin.wait_for(1)
            stays = asyncio.ensure_future(stage.get("/a"))
            await stage.arrived(2)
            client.reset()
        await stage.until(lambda: stage.count("banish_client_connections") == 1)
        gate.set()
        assert (await stays).body == b"whole"

    play(scene)


# --- large, slow

LARGE = bytes(range(256)) * 4096 * 6
"""6 MiB: past memory, into the spool."""
SPOOLED = Memory(budget_bytes=32 << 20, body_memory_bytes=65536, spool_bytes=64 << 20)
NO_SPOOL = Memory(budget_bytes=32 << 20, body_memory_bytes=65536, spool_bytes=1 << 20)


@pytest.mark.parametrize("control", [FRESH, NO_STORE])
@pytest.mark.parametrize("memory", [SPOOLED, NO_SPOOL], ids=["spooled", "not kept"])
def test_large_bodies_come_whole(control: str, memory: Memory, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play_always("/a", answered(LARGE, control))
        for _ in range(2):
            response = await stage.get("/a")
            assert response.body == LARGE
        part = await stage.get("/a", "Range: bytes=1000000-1000009")
        if part.status == 206:
            assert part.body == LARGE[1000000:1000010]
        await stage.settled()

    play(scene, memory=memory)


@pytest.mark.parametrize("control", [FRESH, NO_STORE])
def test_a_slow_client_holds_nobody_else_back(control: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play_always("/a", answered(LARGE, control))
        stage.origin.respond("/b", body=b"b")
        async with stage.client(receive_buffer_bytes=4096) as slow:
            await slow.send(request("GET", "/a"))
            first = await slow.head()
            for response in await gather(*ask(stage, 3)):
                assert response.body == LARGE
            assert (await stage.get("/b")).body == b"b"
            assert (await slow.body(first)).body == LARGE
        await stage.settled()

    play(scene, memory=SPOOLED)


def test_a_slow_client_of_what_is_not_stored_holds_the_origin_back(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        total = 64 << 20
        sent = 0

        async def pour(wire: object) -> None:
            nonlocal sent
            for _ in range(total >> 16):
                wire.writer.write(b"x" * 65536)  # type: ignore[attr-defined]
                await wire.writer.drain()  # type: ignore[attr-defined]
                sent += 65536

        stage.origin.play("/a", head(NO_STORE, f"Content-Length: {total}"), pour)
        async with stage.client(receive_buffer_bytes=4096) as slow:
            await slow.send(request("GET", "/a"))
            await slow.head()
            before = -1
            while sent != before:
                before = sent
                await asyncio.wait({asyncio.ensure_future(asyncio.Event().wait())}, timeout=0.1)
            assert sent < 16 << 20
            for task in asyncio.all_tasks():
                if task.get_coro().__qualname__ == "Event.wait":  # type: ignore[union-attr]
                    task.cancel()
        await stage.settled()

    play(scene)


@pytest.mark.parametrize("line", ['If-None-Match: "9"', "Range: bytes=0-1", "If-Modified-Since: nonsense"])
@pytest.mark.parametrize("spool_bytes", [0, 1 << 20])
def test_a_body_that_cannot_be_kept_is_passed_on_whatever_was_asked(line: str, spool_bytes: int, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(LARGE, FRESH, 'ETag: "1"'))
        response = await stage.get("/a", line)
        part = response.status == 206 and line.startswith("Range")
        assert response.body == (LARGE[:2] if part else LARGE)
        await stage.settled()

    play(scene, memory=msgspec.structs.replace(NO_SPOOL, spool_bytes=spool_bytes))


@pytest.mark.parametrize("lines", [(), ("Range: bytes=1000000-",), ('If-None-Match: "9"',)])
@pytest.mark.parametrize(
    ("control", "after_s"),
    [
        ("max-age=60", 0),
        ("max-age=60, stale-while-revalidate=60", 61),
        ("max-age=60", 61),
        ("max-age=60, stale-if-error=60", 61),
    ],
    ids=["fresh", "stale", "to be validated", "to hide an error"],
)
def test_a_spooled_body_that_cannot_be_read_back_is_a_miss_from_then_on(
    control: str, after_s: int, lines: tuple[str, ...], play: Play
) -> None:
    async def scene(stage: Stage) -> None:
        last = 'ETag: "1"'

        async def tell(wire: Wire) -> None:
            asked = stage.origin.requests[-1].fields
            known = asked.get("if-none-match") == '"1"'
            wire.writer.write(head(last, status="304 Not Modified") if known else answered(LARGE, FRESH, last))

        stage.origin.play("/a", answered(LARGE, f"Cache-Control: {control}", last))
        await stage.get("/a")
        stage.origin.play_always("/a", tell)
        damage = OSError(5, "Input/output error")
        with mock.patch.object(SpoolFile, "read", side_effect=damage), contextlib.suppress(Closed):
            assert not (await stage.get("/a")).whole
        await stage.settled()
        stage.clock.advance(after_s)
        response = await stage.get("/a", *lines)
        part = "Range: bytes=1000000-" in lines
        assert (response.status, response.whole) == (206 if part else 200, True)
        assert response.body == (LARGE[1000000:] if part else LARGE)
        assert not response.hit
        await stage.settled()
        again = await stage.get("/a")
        assert (again.body, again.hit) == (LARGE, True)

    play(scene, memory=SPOOLED)


def test_a_304_about_a_body_found_damaged_meanwhile_brings_the_body_anew(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", answered(LARGE, FRESH, 'ETag: "1"'))
        await stage.get("/a")
        async with stage.client(receive_buffer_bytes=4096) as reading:
            await reading.send(request("GET", "/a"))
            first = await reading.head()
            stage.clock.advance(61)
            stage.origin.play("/a", gate, head(FRESH, 'ETag: "1"', status="304 Not Modified"))
            stage.origin.play("/a", answered(LARGE, FRESH, 'ETag: "1"'))
            asked = asyncio.ensure_future(stage.get("/a"))
            await stage.origin.wait_for(2)
            with mock.patch.object(SpoolFile, "read", side_effect=OSError(5, "Input/output error")):
                assert not (await reading.body(first)).whole
            gate.set()
            response = await asked
            assert (response.status, response.body) == (200, LARGE)

    play(scene, memory=SPOOLED)


# --- outdated: the answer rule


def test_a_post_fences_the_fetch_in_flight(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", gate, answered(b"old", FRESH))
        before = asyncio.ensure_future(stage.get("/a"))
        await stage.origin.wait_for(1)
        stage.origin.play("/a", answered(b"posted", NO_STORE))
        assert (await stage.ask("POST", "/a", body=b"x")).body == b"posted"
        stage.origin.play("/a", answered(b"new", FRESH))
        after = await stage.get("/a")
        assert after.body == b"new", "joined a fetch that began before the purge"
        gate.set()
        assert (await before).body == b"old"  # it had asked before the purge
        again = await stage.get("/a")
        assert (again.body, again.hit) == (b"new", True), "the old response was stored over the new one"

    play_on_both(scene)


def test_waiters_from_both_sides_of_a_purge_get_what_each_may(play: Play) -> None:
    """PURGE rule 9: who asked before the purge may have the old response; who asked after it may not."""

    async def scene(stage: Stage) -> None:
        old, new = asyncio.Event(), asyncio.Event()
        stage.origin.play("/a", old, answered(b"old", FRESH))
        before = ask(stage, 5)
        await stage.arrived(5)
        stage.origin.play("/a", answered(b"posted", NO_STORE))
        await stage.ask("POST", "/a", body=b"x")
        stage.origin.play("/a", new, answered(b"new", FRESH))
        after = ask(stage, 5)
        await stage.arrived(10)
        assert len(stage.origin.requests) == 3, "those after the purge start one fetch together"
        old.set()
        assert [response.body for response in await gather(*before)] == [b"old"] * 5
        new.set()
        assert [response.body for response in await gather(*after)] == [b"new"] * 5
        assert (await stage.get("/a")).body == b"new"

    play(scene)


def test_a_purge_in_the_middle_of_a_body_keeps_it_from_being_stored(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", head(FRESH, "Content-Length: 6") + b"old", gate, b"old")
        async with stage.client() as client:
            await client.send(request("GET", "/a"))
            first = await client.head()
            stage.origin.play("/a", answered(b"posted", NO_STORE))
            await stage.ask("POST", "/a", body=b"x")
            stage.origin.play("/a", answered(b"new", NO_STORE))
            assert (await stage.get("/a")).body == b"new"
            gate.set()
            assert (await client.body(first)).body == b"oldold"
        await stage.settled()
        stage.origin.play("/a", answered(b"new", NO_STORE))
        assert (await stage.get("/a")).body == b"new"

    play(scene)


def test_a_304_in_flight_cannot_revive_what_was_purged(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"old", FRESH, 'ETag: "1"'))
        await stage.get("/a")
        stage.clock.advance(61)
        gate = asyncio.Event()
        stage.origin.play("/a", gate, head(FRESH, 'ETag: "1"', status="304 Not Modified"))
        before = asyncio.ensure_future(stage.get("/a"))
        await stage.origin.wait_for(2)
        stage.origin.play("/a", answered(b"posted", NO_STORE))
        await stage.ask("POST", "/a", body=b"x")
        gate.set()
        await before
        stage.origin.play("/a", answered(b"new", FRESH))
        assert (await stage.get("/a")).body == b"new"
        assert "if-none-match" not in stage.origin.requests[-1].fields

    play(scene)


def test_a_failed_post_purges_nothing(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"old", FRESH))
        await stage.get("/a")
        stage.origin.play("/a", answered(b"no", NO_STORE, status="500 Oops"))
        await stage.ask("POST", "/a", body=b"x")
        assert (await stage.get("/a")).body == b"old"

    play(scene)


def test_a_post_purges_what_location_names_on_the_same_origin(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        for path in ("/list", "/other", "/a"):
            stage.origin.respond(path, body=b"old", headers=[("Cache-Control", "max-age=60")])
            await stage.get(path)
        stage.origin.play(
            "/a",
            answered(b"", "Location: /list", "Content-Location: http://elsewhere.example/other", status="201 Created"),
        )
        await stage.ask("POST", "/a", body=b"x")
        assert not (await stage.get("/list")).hit
        assert not (await stage.get("/a")).hit
        assert (await stage.get("/other")).hit

    play(scene)


def test_a_cache_group_is_purged_together(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        for path in ("/a", "/b"):
            stage.origin.respond(
                path, body=b"old", headers=[("Cache-Control", "max-age=60"), ("Cache-Groups", '"shop"')]
            )
            await stage.get(path)
        stage.origin.play("/c", answered(b"", 'Cache-Group-Invalidation: "shop"'))
        await stage.ask("POST", "/c", body=b"x")
        assert not (await stage.get("/a")).hit
        assert not (await stage.get("/b")).hit

    play(scene)


# --- stale


def test_stale_while_revalidate_answers_at_once_and_asks_once_behind(play_on_both: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"old", "Cache-Control: max-age=60, stale-while-revalidate=60"))
        await stage.get("/a")
        stage.clock.advance(70)
        gate = asyncio.Event()
        stage.origin.play("/a", gate, answered(b"new", FRESH))
        for _ in range(5):
            response = await stage.get("/a")
            assert (response.body, response.hit) == (b"old", True)
        await stage.origin.wait_for(2)
        gate.set()
        await stage.settled()
        assert (await stage.get("/a")).body == b"new"
        assert len(stage.origin.requests) == 2

    play_on_both(scene)


def test_revalidation_behind_asks_for_the_whole_whatever_the_client_asked(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"old!", "Cache-Control: max-age=60, stale-while-revalidate=60", 'ETag: "1"'))
        await stage.get("/a")
        stage.clock.advance(70)
        stage.origin.play("/a", answered(b"new!", FRESH, 'ETag: "2"'))
        part = await stage.get("/a", "Range: bytes=0-1")
        assert (part.status, part.body) == (206, b"ol")
        await stage.settled()
        behind = stage.origin.requests[1].fields
        assert "range" not in behind
        assert behind.get("if-none-match") == '"1"'
        assert (await stage.get("/a")).body == b"new!"

    play(scene)


def test_a_failed_revalidation_behind_hurts_nobody(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"old", "Cache-Control: max-age=60, stale-while-revalidate=60"))
        await stage.get("/a")
        stage.clock.advance(70)
        stage.origin.play_always("/a", b"", RESET)
        for _ in range(3):
            assert (await stage.get("/a")).body == b"old"
            await stage.settled()

    play(scene)


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad", "503 Busy", "504 Late"])
def test_stale_if_error_hides_errors(status: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"old", "Cache-Control: max-age=60, stale-if-error=60"))
        await stage.get("/a")
        stage.clock.advance(70)
        stage.origin.play_always("/a", answered(b"error", status=status))
        response = await stage.get("/a")
        assert (response.status, response.body) == (200, b"old")
        stage.clock.advance(60)
        assert (await stage.get("/a")).body == b"error"

    play(scene)


def test_an_error_without_stale_if_error_is_passed_on(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"old", FRESH))
        await stage.get("/a")
        stage.clock.advance(70)
        stage.origin.play_always("/a", answered(b"error", status="503 Busy"))
        assert (await stage.get("/a")).status == 503

    play(scene)


@pytest.mark.parametrize("how", [(RESET,), (CLOSE,), (b"HTTP/1.1 200 OK\r\nX", CLOSE), (b"nonsense\r\n\r\n",)])
def test_a_dead_origin_leaves_stale_responses_to_be_served(how: tuple[Step, ...], play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"old", FRESH))
        stage.origin.play("/strict", answered(b"old", "Cache-Control: max-age=60, must-revalidate"))
        await stage.get("/a")
        await stage.get("/strict")
        stage.clock.advance(70)
        stage.origin.play_always("/a", b"", *how)
        stage.origin.play_always("/strict", b"", *how)
        response = await stage.get("/a")
        assert (response.status, response.body) == (200, b"old")
        assert int(response["age"]) >= 70
        assert (await stage.get("/strict")).status == 502

    play(scene)


def test_an_origin_that_is_not_there_leaves_stale_responses_to_be_served(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"old", FRESH, "Connection: close"), CLOSE)
        await stage.get("/a")
        stage.clock.advance(70)
        await stage.origin.__aexit__(None, None, None)
        try:
            for response in await gather(*ask(stage, 5)):
                assert (response.status, response.body) == (200, b"old")
            assert (await stage.get("/missing")).status == 502
        finally:
            stage.origin._server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)

    play(scene)


# --- answers from what is stored


def test_only_if_cached(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a", headers=[("Cache-Control", "max-age=60")])
        assert (await stage.get("/a", "Cache-Control: only-if-cached")).status == 504
        assert stage.seen() == []
        await stage.get("/a")
        assert (await stage.get("/a", "Cache-Control: only-if-cached")).body == b"a"
        stage.clock.advance(61)
        assert (await stage.get("/a", "Cache-Control: only-if-cached")).status == 504
        assert len(stage.seen()) == 1

    play(scene)


CONDITIONS = [
    (("If-None-Match: \"1\"",), 304),
    (("If-None-Match: W/\"1\"",), 304),
    (("If-None-Match: \"2\", \"1\"",), 304),
    (("If-None-Match: *",), 304),
    (("If-None-Match: \"2\"",), 200),
    (("If-None-Match: \"2\"", "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"), 200),
    (("If-Modified-Since: Mon, 13 Nov 2023 22:13:20 GMT",), 304),
    (("If-Modified-Since: Sun, 12 Nov 2023 22:13:20 GMT",), 200),
    (("If-Modified-Since: nonsense",), 200),
    (("Range: bytes=0-4",), 206),
    (("Range: bytes=-5",), 206),
    (("Range: bytes=6-",), 206),
    (("Range: bytes=0-0",), 206),
    (("Range: bytes=0-999",), 206),
    (("Range: bytes=11-",), 416),
    (("Range: bytes=-0",), 416),
    (("Range: bytes=5-4",), 200),
    (("Range: lines=1-2",), 200),
    (("Range: bytes=0-4", "If-Range: \"1\""), 206),
    (("Range: bytes=0-4", "If-Range: \"2\""), 200),
    (("Range: bytes=0-4", "If-Range: W/\"1\""), 200),
    (("Range: bytes=0-4", "If-None-Match: \"1\""), 304),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "status"), CONDITIONS)
def test_conditions_and_ranges_are_answered_from_hits(lines: tuple[str, ...], status: int, play: Play) -> None:
    body = b"hello world"
    expected = {
        "bytes=0-4": b"hello", "bytes=-5": b"world", "bytes=6-": b"world", "bytes=0-0": b"h", "bytes=0-999": body,
    }  # fmt: skip

    async def scene(stage: Stage) -> None:
        fields = [("Cache-Control", "max-age=60"), ("ETag", '"1"'), ("Last-Modified", "Mon, 13 Nov 2023 22:13:20 GMT")]
        stage.origin.respond("/a", body=body, headers=fields)
        for warm in range(3):
            async with stage.client() as client:
                if warm:
                    await client.get("/a")
                    await client.get("/a")
                    response = await client.get("/a", *lines)
                    assert response.status == status
                    if status == 206:
                        wanted = expected[next(line for line in lines if line.startswith("Range"))[7:]]
                        start = body.index(wanted)
                        assert response.body == wanted
                        assert response["content-range"] == f"bytes {start}-{start + len(wanted) - 1}/{len(body)}"
                    elif status == 200:
                        assert response.body == body
                    elif status == 416:
                        assert response["content-range"] == f"bytes */{len(body)}"
                    elif status == 304:
                        assert response["etag"] == '"1"'
                        assert "content-length" not in response.fields or response["content-length"] == "11"
                    assert (await client.get("/a")).body == body
        assert len(stage.origin.requests) == 1

    play(scene)


def test_a_range_of_a_body_still_coming_waits_for_its_part(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        stage.origin.play("/a", head(FRESH, "Content-Length: 11") + b"hello", gate, b" world")
        async with stage.client() as client:
            await client.send(request("GET", "/a"))
            first = await client.head()
            gate.set()
            assert (await client.body(first)).body == b"hello world"
        part = await stage.get("/a", "Range: bytes=6-10")
        assert (part.status, part.body) == (206, b"world")

    play(scene)


def test_a_range_on_a_miss_gets_its_part_or_the_whole(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"hello world", headers=[("Cache-Control", "max-age=60")])
        response = await stage.get("/a", "Range: bytes=0-4")
        assert (response.status, response.body) in ((206, b"hello"), (200, b"hello world"))
        whole = await stage.get("/a")
        assert (whole.status, whole.body) == (200, b"hello world")

    play(scene)


def test_a_part_is_never_taken_for_the_whole(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"hello", FRESH, "Content-Range: bytes 0-4/11", status="206 Partial Content"))
        part = await stage.get("/a", "Range: bytes=0-4")
        assert (part.status, part.body) == (206, b"hello")
        stage.origin.play("/a", answered(b"hello world", FRESH))
        whole = await stage.get("/a")
        assert (whole.status, whole.body) == (200, b"hello world")

    play(scene)


def test_an_unasked_206_is_never_stored_nor_taken_for_the_whole(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"hello", FRESH, "Content-Range: bytes 0-4/11", status="206 Partial Content"))
        assert not (await stage.get("/a")).stored
        stage.origin.play("/a", answered(b"hello world", FRESH))
        assert (await stage.get("/a")).body == b"hello world"

    play(scene)


@pytest.mark.parametrize("line", ['If-Match: "1"', "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:20 GMT"])
def test_a_part_that_a_client_had_fetched_does_not_take_the_place_of_the_whole(line: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"hello world", FRESH, 'ETag: "1"'))
        await stage.get("/a")
        part = answered(b"h", FRESH, 'ETag: "1"', "Content-Range: bytes 0-0/11", status="206 Partial Content")
        stage.origin.play("/a", part)
        response = await stage.get("/a", line, "Range: bytes=0-0")
        assert (response.status, response.body) == (206, b"h")
        await stage.settled()
        whole = await stage.get("/a")
        assert (whole.body, whole.hit) == (b"hello world", True)

    play(scene)


def test_a_post_gets_the_origins_answer_whatever_condition_it_carries(play: Play) -> None:
    """A 304 is for GET and HEAD (RFC 9110 section 15.4.5)."""

    async def scene(stage: Stage) -> None:
        stage.origin.play_always("/a", answered(b"made", FRESH, "Content-Location: /a", 'ETag: "1"'))
        for line in ('If-None-Match: "1"', "If-None-Match: *", "Range: bytes=0-1"):
            response = await stage.ask("POST", "/a", line, body=b"x")
            assert (response.status, response.body) == (200, b"made")
        assert (await stage.get("/a")).hit

    play(scene)


def test_a_second_304_about_something_else_is_no_answer_either(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"one", FRESH, 'ETag: "1"', "Cache-Control: must-revalidate"))
        await stage.get("/a")
        stage.clock.advance(61)
        stage.origin.play_always("/a", head('ETag: "2"', status="304 Not Modified"))
        assert (await stage.get("/a")).status == 502
        assert len(stage.origin.requests) == 3

    play(scene)


# --- HEAD beside what is stored


def test_a_304_to_a_condition_of_a_heads_own_renews_nothing(play: Play) -> None:
    """The client has something newer than what is stored; the origin confirms that."""

    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"v1", FRESH, "Last-Modified: Mon, 01 May 2023 00:00:00 GMT"))
        await stage.get("/a")
        stage.clock.advance(61)
        stage.origin.play("/a", head(FRESH, status="304 Not Modified"))
        response = await stage.ask("HEAD", "/a", "If-Modified-Since: Tue, 02 May 2023 00:00:00 GMT")
        assert response.status == 304
        stage.origin.play("/a", answered(b"v2", FRESH))
        assert (await stage.get("/a")).body == b"v2"

    play(scene)


@pytest.mark.parametrize("tag", ['ETag: "fr"', 'ETag: "en"', "X: no tag"])
def test_a_head_about_one_variant_says_nothing_of_another(tag: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        vary = "Vary: Accept-Language"
        stage.origin.play("/a", answered(b"en", FRESH, 'ETag: "en"', vary))
        await stage.get("/a", "Accept-Language: en")
        stage.origin.play("/a", head(FRESH, tag, vary, "Content-Length: 2"))
        await stage.ask("HEAD", "/a", "Accept-Language: fr")
        hit = await stage.get("/a", "Accept-Language: en")
        assert (hit.body, hit.hit) == (b"en", True)
        stage.origin.play("/a", answered(b"fr", FRESH, 'ETag: "fr"', vary))
        assert (await stage.get("/a", "Accept-Language: fr")).body == b"fr"

    play(scene)


# --- credentials


def test_a_request_with_credentials_revalidates_what_is_stored_for_all(play: Play) -> None:
    """RFC 9111 section 3.5: `public` lets all have it; that it is stale costs a question, not the body."""

    async def scene(stage: Stage) -> None:
        public = "Cache-Control: public, max-age=60"
        stage.origin.play("/a", answered(b"hello", public, 'ETag: "1"'))
        await stage.get("/a", "Authorization: Basic eA==")
        assert (await stage.get("/a")).hit
        stage.clock.advance(61)
        stage.origin.play("/a", head(public, 'ETag: "1"', status="304 Not Modified"))
        response = await stage.get("/a", "Authorization: Basic eQ==")
        assert (response.status, response.body) == (200, b"hello")
        asked = stage.origin.requests[1].fields
        assert (asked.get("if-none-match"), asked.get("authorization")) == ('"1"', "Basic eQ==")
        assert (await stage.get("/a")).hit

    play(scene)


def test_an_empty_body_is_stored_like_any_other(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"", FRESH))
        stage.origin.play("/b", head(FRESH, "Transfer-Encoding: chunked") + b"0\r\n\r\n")
        stage.origin.play("/c", head(FRESH, status="204 No Content"))
        for path in ("/a", "/b", "/c"):
            for _ in range(3):
                response = await stage.get(path)
                assert response.body == b""
            assert response.hit

    play(scene)


def test_a_revalidated_response_is_answered_with_the_new_fields(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"body", FRESH, 'ETag: "1"', "X-Version: 1"))
        await stage.get("/a")
        stage.clock.advance(61)
        stage.origin.play("/a", head(FRESH, 'ETag: "1"', "X-Version: 2", status="304 Not Modified"))
        response = await stage.get("/a")
        assert (response.status, response.body, response["x-version"]) == (200, b"body", "2")
        again = await stage.get("/a")
        assert (again.hit, again["x-version"], again["age"]) == (True, "2", "0")
        assert stage.origin.requests[1].fields.get("if-none-match") == '"1"'

    play(scene)


def test_an_evicted_body_still_being_read_is_read_to_its_end(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play_always("/a", answered(LARGE, FRESH))
        await stage.get("/a")
        async with stage.client(receive_buffer_bytes=4096) as slow:
            await slow.send(request("GET", "/a"))
            first = await slow.head()
            stage.origin.play("/a", answered(b"", NO_STORE))
            await stage.ask("POST", "/a", body=b"x")
            assert (await slow.body(first)).body == LARGE

    play(scene, memory=msgspec.structs.replace(SPOOLED))
