"""The hot table and the pipeline are twins: with it or without it, a client gets the same messages.

Each scene goes through two edges, one of which publishes nothing, so that its pipeline answers everything. What
the clients read is compared message by message, and so is what the origins saw.
"""

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any
from unittest import mock

import pytest
from tests.support import Client, Closed, Pace, Play, Response, Stage, answered, chunks, request, run_scene, stage

from banish.edge.config import Memory
from banish.testing.origin import Wire

DATE = "Date: Tue, 14 Nov 2023 22:13:20 GMT"
Seen = tuple[int, str, tuple[tuple[str, str], ...], bytes, bool]


def plain(response: Response) -> Seen:
    """A response as it means the same: fields in any order, members of Cache-Status too."""
    fields = [(name.lower(), value) for name, value in response.fields]
    fields = [
        (name, "; ".join(sorted(value.split("; "))) if name == "cache-status" else value) for name, value in fields
    ]
    return response.status, response.reason, tuple(sorted(fields)), response.body, response.whole


class Twin:
    """One edge, one client that comes back when it was turned away, and all that the client was told."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.told: list[Seen | str] = []
        self._client: Client | None = None
        self._open = contextlib.AsyncExitStack()

    async def send(self, data: bytes, method: str = "GET", pace: Pace = "whole") -> Response | None:
        """Send a request, note the answer to it."""
        if self._client is None:
            self._client = await self._open.enter_async_context(self.stage.client())
        await self._client.send(data, pace)
        try:
            response = await self._client.response(method)
        except (Closed, ConnectionError):
            self.told.append("closed")
            self._client = None
            return None
        await self.stage.settled()
        self.told.append(plain(response))
        if response["connection"] == "close":
            self.told.append("end" if await self._client.closed() else "more")
            self._client = None
        return response

    async def get(self, target: str, *lines: str, host: str = "site.example") -> Response:
        response = await self.send(request("GET", target, *lines, host=host))
        assert response is not None
        return response

    async def close(self) -> None:
        await self._open.aclose()

    @property
    def hot(self) -> float:
        return self.stage.count("banish_responses_total", "hot")


def _compare(answer: Seen | str, expected: Seen | str) -> None:
    """Equal, but that the hot table writes Age and ttl once a second, as they were then."""
    if not isinstance(answer, tuple) or not isinstance(expected, tuple):
        assert answer == expected
        return
    clocks = []
    for _, _, fields, _, _ in (answer, expected):
        found = dict(fields)
        ttl = re.search(r"ttl=(-?[0-9]+)", found.get("cache-status", ""))
        clocks.append((int(found.get("age", 0)), int(ttl[1]) if ttl else 0))
    assert all(abs(one - other) <= 1 for one, other in zip(*clocks, strict=True)), clocks
    assert _without_clocks(answer) == _without_clocks(expected)


def _without_clocks(seen: Seen) -> Seen:
    """Without what differs from edge to edge as well: the name of the purge that caused a miss."""
    fields = [
        (name, "" if name == "age" else re.sub(r"(ttl=|detail=purge:)[^;]+", r"\1", value)) for name, value in seen[2]
    ]
    return (*seen[:2], tuple(fields), *seen[3:])


TwinScene = Callable[[Twin], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def cold(**changes: Any) -> AsyncIterator[Stage]:
    """An edge whose hot table stays empty."""
    async with stage(**changes) as set_up:
        with mock.patch.object(set_up.edge.hot, "publish"):
            yield set_up


def on_both(scene: TwinScene, *, hot_at_least: int = 1, **changes: Any) -> None:
    """Play a scene on an edge with a hot table, then on its twin without; compare."""

    async def played(hot_stage: Stage) -> None:
        with_it = Twin(hot_stage)
        await scene(with_it)
        await with_it.close()
        assert with_it.hot >= hot_at_least, "the hot table answered nothing: this test tests nothing"
        async with cold(**changes) as cold_stage:
            without = Twin(cold_stage)
            await scene(without)
            await without.close()
            assert without.hot == 0
            assert hot_stage.seen() == cold_stage.seen()
        for answer, expected in zip(with_it.told, without.told, strict=True):
            _compare(answer, expected)

    run_scene(played, **changes)


FRESH = [("Cache-Control", "max-age=60"), ("Date", DATE[6:])]


# --- what is asked


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("User-Agent: x", "Accept: */*", "Accept-Encoding: gzip, br", "Cookie: a=b"),
        ("user-agent: x", "ACCEPT: */*", "aCCept-eNcoding: gzip"),
        ("X-Never-Seen: 1", "x-never-seen-2: 2"),
        ("X: 1", "x: 2"),
        ("X: 1", "X: 2"),
        ("Cookie: a", "Cookie: b", "cookie: c"),
        ("Connection: keep-alive",),
        ("connection: keep-alive",),
        ("Connection: Keep-Alive",),
        ("Connection: close",),
        ("Connection: keep-alive", "connection: close"),
        ("Connection: x-hop", "X-Hop: 1"),
        ("Proxy-Connection: keep-alive",),
        ("Keep-Alive: 300",),
        ("Upgrade-Insecure-Requests: 1",),
        ("Range: bytes=0-1",),
        ("range: bytes=0-1",),
        ("rAnge: bytes=0-1",),
        ("Range: bytes=0-1", "If-Range: \"1\""),
        ("If-None-Match: \"1\"",),
        ("if-none-match: \"1\"",),
        ("IF-NONE-MATCH: \"1\"",),
        ("If-None-Match: W/\"1\"",),
        ("If-None-Match: \"1\", \"2\"",),
        ("If-None-Match: \"2\"",),
        ("If-None-Match: *",),
        ("If-None-Match: \"2\"", "If-None-Match: \"1\""),
        ("If-None-Match: \"1\"", "if-none-match: \"2\""),
        ("If-None-Match:",),
        ("If-None-Match: \"1\" ",),
        ("If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT",),
        ("If-Unmodified-Since: Tue, 14 Nov 2023 22:13:20 GMT",),
        ("If-Match: \"1\"",),
        ("If-Match: \"2\"",),
        ("Cache-Control: no-cache",),
        ("cache-control: max-age=0",),
        ("Cache-Control: no-store",),
        ("Cache-Control: min-fresh=100",),
        ("Cache-Control: only-if-cached",),
        ("Pragma: no-cache",),
        ("Authorization: Basic eA==",),
        ("Expect: 100-continue",),
        ("TE: trailers",),
        ("Content-Length: 0",),
        ("Upgrade: h2c", "Connection: Upgrade"),
        ("Upgrade: websocket", "Connection: Upgrade"),
        ("Upgrade: h2c",),
        ("Via: 1.1 elsewhere",),
        ("Via: 1.1 banish, 1.1 banish",),
        ("Max-Forwards: 0",),
        ("X-HTTP-Method-Override: DELETE",),
        ("x-http-method: DELETE",),
        ("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Host: evil.example"),
        ("Host: site.example",),
        ("host: other.example",),
        ("X: \xff\x80",),
        ("X: a\tb",),
        ("X:",),
        ("X : a",),
        ("X: a\0",),
        ("Transfer-Encoding: chunked",),
        ("Trailer: x",),
        tuple(f"X-{at}: {at}" for at in range(90)),
                ("Cookie: " + "x" * 9000,),
    ],
    ids=lambda lines: " | ".join(lines)[:60] or "none",
)  # fmt: skip
def test_request_fields(lines: tuple[str, ...]) -> None:
    async def scene(twin: Twin) -> None:
        twin.stage.origin.respond("/a", body=b"hello", headers=[*FRESH, ("ETag", '"1"')])
        for _ in range(3):
            await twin.get("/a")
        for _ in range(2):
            body = b"0\r\n\r\n" if lines == ("Transfer-Encoding: chunked",) else b""
            await twin.send(request("GET", "/a", *lines) + body)
        for _ in range(2):
            await twin.get("/a")

    on_both(scene, hot_at_least=2)


@pytest.mark.parametrize(
    "data",
    [
        request("GET", "/a", host="SITE.example"),
        request("GET", "/a", host="site.example."),
        request("GET", "/a", host="site.example:80"),
        request("GET", "/a", host="other.example"),
        request("GET", "/a", host="site.example:81"),
        request("GET", "http://site.example/a"),
        request("GET", "http://other.example/a"),
        request("GET", "/a?"),
        request("GET", "/a?x"),
        request("GET", "/%61"),
        request("GET", "/./a"),
        request("GET", "/b/../a"),
        request("GET", "//a"),
        request("GET", "/a#b"),
        request("GET", " /a"),
        request("HEAD", "/a"),
        request("POST", "/a"),
        request("OPTIONS", "/a"),
        request("GETX", "/a"),
        request("get", "/a"),
        b"GET /a HTTP/1.0\r\nHost: site.example\r\n\r\n",
        b"GET /a HTTP/1.0\r\nHost: site.example\r\nConnection: keep-alive\r\n\r\n",
        b"GET /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.2\r\nHost: site.example\r\n\r\n",
        b"GET /a HTTP/1.1\nHost: site.example\n\n",
        b"GET /a HTTP/1.1\r\nHost: site.example\r\n\n",
        b"GET /a HTTP/1.1\r\nHost:site.example\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: site.example\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHOST:  site.example  \r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: site.example\r\nX: a\r\n b\r\n\r\n",
        b"\r\n" + request("GET", "/a"),
        request("GET", "/a", body=b"hello"),
        request("GET", "/a", body=b"\r\n\r\n"),
        request("GET", "/a", "Content-Length: 4") + b"\r\n\r\n",
    ],
    ids=lambda data: repr(data)[2:70],
)  # fmt: skip
def test_request_lines_and_hosts(data: bytes) -> None:
    async def scene(twin: Twin) -> None:
        for path in ("/a", "/a?", "//a"):
            twin.stage.origin.respond(path, body=path.encode(), headers=[*FRESH, ("ETag", '"1"')])
        for _ in range(3):
            await twin.get("/a")
        for pace in ("whole", "whole", "lines"):
            await twin.send(data, "HEAD" if data.startswith(b"HEAD") else "GET", pace)
        for _ in range(2):
            await twin.get("/a")

    on_both(scene)


def test_two_requests_in_one_packet() -> None:
    async def scene(twin: Twin) -> None:
        twin.stage.origin.respond("/a", body=b"a", headers=FRESH)
        twin.stage.origin.respond("/b", body=b"b", headers=FRESH)
        for _ in range(3):
            await twin.get("/a")
            await twin.get("/b")
        async with twin.stage.client() as client:
            await client.send(request("GET", "/a") + request("GET", "/b"))
            for _ in range(2):
                twin.told.append(plain(await client.response()))
            await client.send(request("GET", "/a") + request("GET", "/b")[:20])
            twin.told.append(plain(await client.response()))
            await client.send(request("GET", "/b")[20:])
            twin.told.append(plain(await client.response()))
            twin.told.append(plain(await client.get("/b")))

    on_both(scene)


def test_a_hit_does_not_overtake_the_answer_before_it(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/hot", body=b"hot", headers=FRESH)
        for _ in range(3):
            await stage.get("/hot")
        gate = asyncio.Event()
        stage.origin.play("/slow", gate, answered(b"slow"))
        async with stage.client() as client:
            await client.send(request("GET", "/slow"))
            await stage.origin.wait_for(2)
            await client.send(request("GET", "/hot"))
            gate.set()
            assert [(await client.response()).body for _ in range(2)] == [b"slow", b"hot"]
            assert (await client.get("/hot")).body == b"hot"

    play(scene)


def test_a_hit_in_the_middle_of_a_body_is_body(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/hot", body=b"hot", headers=FRESH)
        stage.origin.respond("/post")
        for _ in range(3):
            await stage.get("/hot")
        inner = request("GET", "/hot")
        async with stage.client() as client:
            await client.send(request("POST", "/post", f"Content-Length: {len(inner)}"))
            await stage.until(lambda: len(stage.origin.requests) == 2)
            await client.send(inner)
            assert (await client.response()).body == b""
            assert (await client.get("/hot")).body == b"hot"
        assert stage.origin.requests[1].body == inner

    play(scene)


# --- variants


async def by_fields(twin: Twin, path: str, *names: str, control: str = "max-age=60") -> None:
    """Have the origin answer `path` by these request fields, and say so in Vary."""

    async def vary(wire: Wire) -> None:
        fields = twin.stage.origin.requests[-1].fields
        body = "|".join(f"{name}={fields.get_all(name)}" for name in names).encode()
        lines = (f"Cache-Control: {control}", DATE, *(f"Vary: {name}" for name in names))
        wire.writer.write(answered(body, *lines))

    twin.stage.origin.play_always(path, vary)


@pytest.mark.parametrize("name", ["Accept-Encoding", "Accept-Language", "X-Custom", "Cookie", "User-Agent"])
def test_variants(name: str) -> None:
    values = ["gzip", "br", "gzip, br", "gzip,br", "br, gzip", " gzip ", "GZIP", "", "de;q=0.5, en", "en, de;q=0.5"]

    async def scene(twin: Twin) -> None:
        await by_fields(twin, "/a", name)
        for _ in range(3):
            for value in values:
                await twin.get("/a", f"{name}: {value}")
                await twin.get("/a", f"{name.lower()}: {value}")
                await twin.get("/a", f"{name.upper()}: {value}")
            await twin.get("/a")
            await twin.get("/a", f"{name}: gzip", f"{name}: br")
            await twin.get("/a", f"{name}: gzip", f"{name.lower()}: br")
            await twin.get("/a", f"{name.upper()}: gzip", f"{name.lower()}: br")
            await twin.get("/a", f"{name}: br", f"{name}: gzip")

    on_both(scene)


def test_variants_by_two_fields() -> None:
    async def scene(twin: Twin) -> None:
        await by_fields(twin, "/a", "Accept-Encoding", "X-Custom")
        for _ in range(3):
            for one in ((), ("Accept-Encoding: gzip",), ("accept-encoding: br",)):
                for two in ((), ("X-Custom: 1",), ("x-custom: 2",), ("x-cUstom: 2",)):
                    await twin.get("/a", *one, *two)

    on_both(scene)


def test_vary_that_changes_from_one_response_to_the_next() -> None:
    async def scene(twin: Twin) -> None:
        for names in ((), ("X-One",), ("X-Two",), ("X-One", "X-Two"), ()):
            await by_fields(twin, "/a", *names)
            for _ in range(3):
                for lines in ((), ("X-One: 1",), ("X-Two: 1",), ("X-One: 1", "X-Two: 1"), ("X-One: 2",)):
                    await twin.get("/a", *lines)
            twin.stage.clock.advance(61)

    on_both(scene)


def test_more_variants_than_a_route_remembers() -> None:
    async def scene(twin: Twin) -> None:
        await by_fields(twin, "/a", "X-Custom")
        for _ in range(2):
            for at in range(100):
                await twin.get("/a", f"X-Custom: {at}")

    on_both(scene, hot_at_least=0)


def test_more_spellings_than_a_response_remembers() -> None:
    async def scene(twin: Twin) -> None:
        twin.stage.origin.respond("/a", body=b"hello", headers=FRESH)
        hosts = [f"{word}.example" for word in ("site", "Site", "sIte", "siTe", "sitE", "SIte", "sITe", "siTE", "SITE")]
        for _ in range(3):
            for host in (*hosts, "SITE.EXAMPLE", "site.EXAMPLE", "site.example.", "site.example:80"):
                await twin.get("/a", host=host)
            twin.stage.clock.advance(1)
        await twin.send(request("POST", "/a"))
        for host in hosts:
            await twin.get("/a", host=host)

    on_both(scene)


# --- time, purges, reloads


def test_age_and_ttl_follow_the_clock() -> None:
    async def scene(twin: Twin) -> None:
        twin.stage.origin.respond("/a", body=b"hello", headers=[*FRESH, ("Age", "7")])
        for _ in range(60):
            await twin.get("/a")
            await twin.get("/a")
            twin.stage.clock.advance(0.9)

    on_both(scene, hot_at_least=20)


@pytest.mark.parametrize("step_s", [0.1, 0.5, 0.999, 1.0, 1.001])
def test_freshness_ends_at_the_same_moment(step_s: float) -> None:
    async def scene(twin: Twin) -> None:
        twin.stage.origin.respond("/a", body=b"hello", headers=[("Cache-Control", "max-age=2"), ("Date", DATE[6:])])
        for _ in range(int(5 / step_s)):
            await twin.get("/a")
            twin.stage.clock.advance(step_s)

    on_both(scene, hot_at_least=0)


@pytest.mark.parametrize(
    "control", ["max-age=2, stale-while-revalidate=3", "max-age=2, stale-if-error=3", "max-age=2, must-revalidate"]
)
def test_stale_windows_are_the_pipelines_affair(control: str) -> None:
    async def scene(twin: Twin) -> None:
        twin.stage.origin.respond("/a", body=b"hello", headers=[("Cache-Control", control), ("ETag", '"1"')])
        for _ in range(20):
            await twin.get("/a")
            await twin.get("/a")
            await twin.stage.settled()
            twin.stage.clock.advance(0.7)

    on_both(scene)


def test_a_purge_is_seen_by_the_next_request() -> None:
    async def scene(twin: Twin) -> None:
        for round_ in range(4):
            twin.stage.origin.respond("/a", body=b"%d" % round_, headers=FRESH)
            for _ in range(3):
                response = await twin.get("/a")
                assert response.body == b"%d" % round_
            await twin.send(request("POST", "/other" if round_ == 2 else "/a"))
            if round_ == 2:
                await twin.get("/a")
                await twin.send(request("POST", "/a"))

    on_both(scene, hot_at_least=4)


def test_a_purge_by_cache_group_is_seen_by_the_next_request() -> None:
    async def scene(twin: Twin) -> None:
        origin = twin.stage.origin
        for path in ("/a", "/b"):
            origin.respond(path, body=b"old", headers=[*FRESH, ("Cache-Groups", '"g"')])
        origin.play_always("/c", answered(b"", 'Cache-Group-Invalidation: "g"'))
        for _ in range(3):
            for _ in range(3):
                await twin.get("/a")
                await twin.get("/b")
            await twin.send(request("POST", "/c"))

    on_both(scene)


def test_purges_of_other_urls_cost_nothing_and_change_nothing() -> None:
    async def scene(twin: Twin) -> None:
        twin.stage.origin.respond("/a", body=b"hello", headers=FRESH)
        twin.stage.origin.respond("/b")
        for _ in range(10):
            await twin.get("/a")
            await twin.send(request("POST", "/b"))

    on_both(scene)


def test_a_reload_is_seen_by_the_next_request() -> None:
    async def scene(twin: Twin) -> None:
        twin.stage.origin.respond("/a", body=b"hello", headers=FRESH)
        for _ in range(3):
            for _ in range(3):
                await twin.get("/a")
            twin.stage.edge.reload(twin.stage.edge.config)
            assert len(twin.stage.edge.hot) == 0

    on_both(scene, hot_at_least=3)


def test_a_revalidated_response_replaces_its_memo() -> None:
    async def scene(twin: Twin) -> None:
        origin = twin.stage.origin
        origin.play("/a", answered(b"hello", "Cache-Control: max-age=2", 'ETag: "1"', "X-Version: 1"))
        for version in range(2, 6):
            head = f'HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=2\r\nETag: "1"\r\nX-Version: {version}\r\n\r\n'
            origin.play("/a", head.encode())
        for _ in range(12):
            await twin.get("/a")
            await twin.get("/a")
            twin.stage.clock.advance(0.8)

    on_both(scene)


def test_a_refetched_response_replaces_its_memo() -> None:
    async def scene(twin: Twin) -> None:
        for version in range(5):
            twin.stage.origin.respond("/a", body=b"v%d" % version, headers=[*FRESH, ("ETag", f'"{version}"')])
            await twin.get("/a", "Cache-Control: no-cache")
            for _ in range(3):
                assert (await twin.get("/a")).body == b"v%d" % version
            for known in range(5):
                await twin.get("/a", f'If-None-Match: "{known}"')

    on_both(scene)


def test_what_is_evicted_is_forgotten(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        for at in range(60):
            stage.origin.respond(f"/{at}", body=b"%d" % at * 20_000, headers=FRESH)
            for _ in range(3):
                response = await stage.get(f"/{at}")
                assert response.body == b"%d" % at * 20_000
        assert len(stage.edge.hot) <= len(stage.edge.store)
        assert len(stage.edge.store) < 60
        for at in range(60):
            assert (await stage.get(f"/{at}")).body == b"%d" % at * 20_000

    play(scene, memory=Memory(budget_bytes=1 << 20, spool_bytes=0))


# --- what is stored

TRAILED = chunks(b"x", trailers=["X-Sum: 1"])


@pytest.mark.parametrize(
    "raw",
    [
        answered(b"gone", "Cache-Control: max-age=60", DATE, status="404 Not Found"),
        answered(b"", "Cache-Control: max-age=60", DATE, "Location: /b", status="301 Moved Permanently"),
        b"HTTP/1.1 204 No Content\r\nCache-Control: max-age=60\r\n\r\n",
        answered(b"", "Cache-Control: max-age=60", DATE),
        answered(b"x" * 300_000, "Cache-Control: max-age=60", DATE, 'ETag: "1"'),
        answered(b"x", "Cache-Control: max-age=60", DATE, status="200 Very Well"),
        answered(b"x", "Cache-Control: max-age=60", DATE, 'ETag: W/"1"'),
        answered(b"x", "Cache-Control: max-age=60", DATE, "ETag: unquoted"),
        answered(b"x", "Cache-Control: max-age=60", DATE, 'ETag: "1"', status="404 Not Found"),
        answered(b"x", "Cache-Control: max-age=60", "Age: 59"),
        answered(b"x", "Cache-Control: max-age=60", "Age: 61"),
        answered(b"x", "Cache-Control: max-age=60", "Cache-Status: inner; hit"),
        answered(b"x", "Cache-Control: max-age=60", "Link: <a>", "Link: <b>"),
        answered(b"x", "Cache-Control: max-age=60", "Accept-Ranges: none"),
        answered(b"x", "Cache-Control: private=\"x\", max-age=60", "X: secret"),
        answered(b"x", "Cache-Control: no-cache=\"x\", max-age=60", "X: secret"),
        answered(b"x", "CDN-Cache-Control: max-age=60", "Cache-Control: no-store"),
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n" + TRAILED,
        answered(b"par", "Cache-Control: max-age=60", "Content-Range: bytes 0-2/9", status="206 Partial Content"),
        answered(b"x", "Cache-Control: max-age=60, immutable"),
        answered(b"x", "Expires: Tue, 14 Nov 2023 22:14:20 GMT", DATE),
        answered(b"x", "Last-Modified: Mon, 13 Nov 2023 22:13:20 GMT", DATE),
        answered(b"x", "Cache-Control: max-age=2147483648"),
    ],
    ids=lambda raw: repr(raw)[11:80],
)  # fmt: skip
def test_stored_responses_of_every_kind(raw: bytes) -> None:
    async def scene(twin: Twin) -> None:
        twin.stage.origin.play_always("/a", raw)
        for lines in ((), (), (), ('If-None-Match: "1"',), ('If-None-Match: W/"1"',), ("If-None-Match: unquoted",), ()):
            await twin.get("/a", *lines)
            await twin.send(request("HEAD", "/a", *lines), "HEAD")
            await twin.get("/a", *lines)
        await twin.get("/a", "Range: bytes=0-0")
        twin.stage.clock.advance(30)
        await twin.get("/a")
        await twin.get("/a")
        twin.stage.clock.advance(31)
        await twin.get("/a")

    on_both(scene, hot_at_least=0)


# --- anything at all

LINES = [
    "User-Agent: x",
    "user-agent: y",
    "Accept-Encoding: gzip",
    "accept-encoding: br",
    "ACCEPT-ENCODING: gzip, br",
    "Accept-Language: de",
    "Cookie: a=b",
    "X-Custom: 1",
    "x-custom: 2",
    'If-None-Match: "1"',
    'if-none-match: "1"',
    'If-None-Match: W/"1"',
    "If-None-Match: *",
    "Range: bytes=0-1",
    "Cache-Control: no-cache",
    "cache-control: max-age=3",
    "Pragma: no-cache",
    "Authorization: x",
    "Connection: keep-alive",
    "connection: Keep-Alive",
    "Connection: close",
    "TE: trailers",
    "X-Random: y",
    "Via: 1.1 x",
    "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT",
    "Content-Length: 0",
    'If-Match: "1"',
    "X-HTTP-Method-Override: PUT",
    "Cache-Control: only-if-cached",
    "Cache-Control: max-stale",
]
TARGETS = ["/a", "/a", "/a?", "/%61", "/b", "/vary", "/vary2", "/short", "/missing", "/moved", "http://site.example/a"]
HOSTS = ["site.example", "site.example", "site.example", "SITE.example", "site.example:80", "other.example"]


@pytest.mark.parametrize("seed", range(12))
def test_any_sequence_of_requests_times_and_purges(seed: int) -> None:
    async def scene(twin: Twin) -> None:
        rng = random.Random(seed)
        origin = twin.stage.origin
        tagged = [*FRESH, ("ETag", '"1"')]
        for path in ("/a", "/b"):
            origin.respond(path, body=path.encode() * 5, headers=tagged)
        origin.respond("/short", body=b"short", headers=[("Cache-Control", "max-age=3, stale-while-revalidate=3")])
        origin.respond("/missing", status=404, body=b"no", headers=[("Cache-Control", "max-age=60")])
        origin.respond("/moved", status=301, headers=[("Cache-Control", "max-age=60"), ("Location", "/a")])
        await by_fields(twin, "/vary", "Accept-Encoding")
        await by_fields(twin, "/vary2", "X-Custom", "Accept-Language", control="max-age=5")
        for _ in range(250):
            chance = rng.random()
            target, host = rng.choice(TARGETS), rng.choice(HOSTS)
            lines = rng.sample(LINES, rng.choice((0, 0, 0, 1, 1, 2, 3)))
            if chance < 0.9:
                await twin.send(request("GET", target, *lines, host=host))
            elif chance < 0.93:
                await twin.send(request("HEAD", target, *lines, host=host), "HEAD")
            elif chance < 0.945:
                await twin.send(request("POST", target, host=host))
            elif chance < 0.95:
                twin.stage.edge.reload(twin.stage.edge.config)
            else:
                twin.stage.clock.advance(rng.choice((0.3, 1.0, 2.5, 10.0, 61.0)))

    on_both(scene)


def test_a_newer_response_that_matches_too_takes_the_place_of_a_hot_one(play: Play) -> None:
    """RFC 9111 section 4: of several suitable responses the most recent is used, hot or not."""

    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"old", "Cache-Control: max-age=60", "Vary: X-Kind"))
        stage.origin.play("/a", answered(b"new", "Cache-Control: max-age=60"))
        async with stage.client() as client:
            for _ in range(3):  # fetched, hit and published, hot
                assert (await client.get("/a", "X-Kind: one")).body == b"old"
            stage.clock.advance(2)
            assert (await client.get("/a", "X-Kind: other")).body == b"new"
            assert (await client.get("/a", "X-Kind: one")).body == b"new"

    play(scene)
