"""Poisoning and deception: nothing that one client sends may come back in another client's answer, and no two
readers may take one request for two resources.
"""

import asyncio
import gzip

import pytest
from tests.support import Play, Stage, answered, request

from banish.caching.policy import CachePolicy
from banish.edge.config import Memory
from banish.proxy.hot import Choice
from banish.testing.origin import RESET, Wire

FRESH = "Cache-Control: max-age=60"
EVIL = "evil.example"


def mirror(stage: Stage, *paths: str, control: str = FRESH) -> None:
    """Let the origin answer with all that it was told: the most gullible origin there is."""

    async def tell(wire: Wire) -> None:
        last = stage.origin.requests[-1]
        wire.writer.write(answered(last.raw + b"\n" + last.body, control))

    for path in paths:
        stage.origin.play_always(path, tell)


# --- what is not in the key

CLAIMS = [
    f"X-Forwarded-Host: {EVIL}",
    f"x-forwarded-host: {EVIL}",
    f"X-Host: {EVIL}",
    f"X-Original-Host: {EVIL}",
    f"X-HTTP-Host-Override: {EVIL}",
    f"X-Forwarded-Server: {EVIL}",
    f"X-Forwarded: for={EVIL}",
    f"Forwarded: host={EVIL}",
    f"Forwarded: for={EVIL};host={EVIL}",
    f"Forwarded-For: {EVIL}",
    f"X-Forwarded-For: {EVIL}",
    f"X-Real-IP: {EVIL}",
    f"True-Client-IP: {EVIL}",
    f"Client-IP: {EVIL}",
    f"X-Client-IP: {EVIL}",
    f"X-Cluster-Client-IP: {EVIL}",
    f"X-Original-URL: /{EVIL}",
    f"X-Original-URI: /{EVIL}",
    f"X-Rewrite-URL: /{EVIL}",
    f"X-Forwarded-URI: /{EVIL}",
    f"X-Forwarded-Path: /{EVIL}",
    f"X-Forwarded-Prefix: /{EVIL}",
    f"X-Forwarded-Proto: {EVIL}",
    f"X-Forwarded-Protocol: {EVIL}",
    f"X-Forwarded-Scheme: {EVIL}",
    f"X-Forwarded-Ssl: {EVIL}",
    f"X-Forwarded-Port: {EVIL}",
    f"X-Scheme: {EVIL}",
    f"X-Url-Scheme: {EVIL}",
    f"Front-End-Https: {EVIL}",
    f"Proxy-Authorization: {EVIL}",
    f"Connection: {EVIL}",
    f"Keep-Alive: {EVIL}",
    f"TE: {EVIL}",
    f"Upgrade: {EVIL}",
]


@pytest.mark.parametrize("claim", CLAIMS)
def test_claims_of_a_client_reach_nobody(claim: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        mirror(stage, "/a")
        first = await stage.get("/a", claim)
        assert first.status == 200
        for _ in range(3):
            response = await stage.get("/a")
            assert EVIL.encode() not in response.body
        assert len(stage.origin.requests) == 1, "a claim should change nothing, and so cost no fetch"

    play(scene)


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "x-http-method"])
def test_a_method_override_is_neither_stored_nor_answered_from_store(name: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        mirror(stage, "/a")
        assert not (await stage.get("/a", f"{name}: DELETE")).stored
        for _ in range(3):
            assert b"DELETE" not in (await stage.get("/a")).body
        assert b"DELETE" in (await stage.get("/a", f"{name}: DELETE")).body
        assert (await stage.get("/a")).hit

    play(scene)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_body_in_a_get_poisons_nothing(method: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        mirror(stage, "/a")
        for coding in ("length", "chunked"):
            async with stage.client() as client:
                if coding == "length":
                    await client.send(request(method, "/a", body=EVIL.encode()))
                else:
                    await client.send(request(method, "/a", "Transfer-Encoding: chunked") + b"1\r\ne\r\n0\r\n\r\n")
                assert not (await client.response(method)).stored
        for _ in range(3):
            assert EVIL.encode() not in (await stage.get("/a")).body

    play(scene)


def test_what_a_cookie_or_credential_brought_is_not_shared_unless_the_origin_says_so(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        mirror(stage, "/a", control=FRESH)
        assert not (await stage.get("/a", f"Authorization: Basic {EVIL}")).stored
        stage.origin.respond("/b", headers=[("Cache-Control", "max-age=60"), ("Set-Cookie", f"id={EVIL}")])
        for _ in range(2):
            assert not (await stage.get("/b")).stored
        assert not (await stage.get("/a")).hit

    play(scene)


@pytest.mark.parametrize("name", ["X-Custom", "Accept", "Accept-Language", "User-Agent", "Accept-Encoding", "TE"])
def test_a_selecting_field_that_connection_takes_off_selects_nothing(name: str, play: Play) -> None:
    """The origin did not see it, so its answer must not become the variant of those who send it."""

    async def scene(stage: Stage) -> None:
        async def vary(wire: Wire) -> None:
            sent = stage.origin.requests[-1].fields.get(name.lower()) or "nothing"
            wire.writer.write(answered(f"for {sent}".encode(), FRESH, f"Vary: {name}"))

        stage.origin.play_always("/a", vary)
        await stage.get("/a", f"{name}: gold", f"Connection: {name}")
        response = await stage.get("/a", f"{name}: gold")
        assert response.body == (b"for gold" if name != "TE" else b"for nothing")
        assert (await stage.get("/a")).body == b"for nothing"

    play(scene)


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "Via"])
def test_what_was_made_for_the_address_of_one_client_is_shared_with_nobody(name: str, play: Play) -> None:
    """The edge writes these fields anew: what a client sends in them selects nothing."""

    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"for one", FRESH, f"Vary: {name}"))
        stage.origin.play("/a", answered(b"for the other", FRESH, f"Vary: {name}"))
        assert (await stage.get("/a")).body == b"for one"
        assert (await stage.get("/a")).body == b"for the other"

    play(scene)


@pytest.mark.parametrize("joins", [False, True])
def test_the_variant_of_one_client_never_stands_in_for_anothers(joins: bool, play: Play) -> None:
    """An origin that is gone is no reason to show somebody else's page."""

    async def scene(stage: Stage) -> None:
        gate = asyncio.Event()
        control = f"{FRESH}, stale-if-error=600" if joins else FRESH
        stage.origin.play("/a", answered(b"alice's", control, "Vary: Cookie", 'ETag: "1"'))
        stage.origin.play_always("/a", gate, RESET)
        await stage.get("/a", "Cookie: alice")
        stage.clock.advance(61 if joins else 0)
        asked = [asyncio.ensure_future(stage.get("/a", "Cookie: alice"))] if joins else []
        await stage.arrived(len(asked))
        others = [asyncio.ensure_future(stage.get("/a", f"Cookie: {who}")) for who in ("bob", "carol")]
        await stage.origin.wait_for(2)
        gate.set()
        for response in await asyncio.gather(*others):
            assert response.status == 502
            assert b"alice" not in response.body
        for response in await asyncio.gather(*asked):
            assert response.body == b"alice's"
        await stage.settled()

    play(scene)


def test_dropped_parameters_do_not_reach_the_origin_of_what_is_shared(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        mirror(stage, "/a")
        first = await stage.get(f"/a?x=1&utm_source={EVIL}&y=2")
        assert EVIL.encode() not in first.body, "keyed without it, so the origin must answer without it"
        assert (await stage.get("/a?x=1&y=2")).hit
        assert (await stage.get("/a?x=1&utm_medium=z&y=2")).hit
        assert not (await stage.get("/a?x=1&y=3")).hit

    play(scene, cache=CachePolicy(query_drop=("utm_*",)))


def test_a_parameter_cannot_hide_behind_a_dropped_one(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        mirror(stage, "/a")
        await stage.get(f"/a?utm_source=1;callback={EVIL}")
        await stage.get(f"/a?utm_source=1%26callback={EVIL}")
        assert EVIL.encode() not in (await stage.get("/a")).body

    play(scene, cache=CachePolicy(query_drop=("utm_*",)))


def test_sorted_queries_share_and_unsorted_do_not(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        mirror(stage, "/a")
        await stage.get("/a?b=2&a=1")
        assert not (await stage.get("/a?a=1&b=2")).hit

    play(scene)


@pytest.mark.parametrize("status", ["400 Bad Request", "413 Too Large", "414 Too Long", "431 Too Large", "501 No"])
def test_one_clients_odd_request_is_not_everybodys_error(status: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", answered(b"error", status=status))
        await stage.get("/a", "X-Odd: " + "x" * 5000)
        stage.origin.respond("/a", body=b"fine")
        assert (await stage.get("/a")).body == b"fine"

    play(scene)


# --- one request, one resource


@pytest.mark.parametrize(
    "target",
    [
        "/static/..%2faccount",
        "/static/..%2Faccount",
        "/static/%2e%2e%2faccount",
        "/static/..%5caccount",
        "/static/%2e%2e%5Caccount",
        "/static\\..\\account",
        "/account%00.css",
        "/account%0",
        "/account%",
        "/account%zz.css",
        "/account#.css",
        "/account\x01.css",
        "/..%2f..%2fetc/passwd",
        "/a/%2e%2e%2f%2e%2e%2fb",
        "/\xe4.css",
    ],
)
def test_targets_that_readers_disagree_on_are_refused(target: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        assert (await stage.get(target)).status == 400
        assert stage.seen() == []

    play(scene)


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/static/../account", "/account"),
        ("/static/%2e%2e/account", "/account"),
        ("/static/.%2E/account", "/account"),
        ("/./account", "/account"),
        ("/../../account", "/account"),
        ("/%61ccount", "/account"),
        ("/account%2fa.css", "/account%2Fa.css"),
        ("/account;a.css", "/account;a.css"),
        ("/account;/a.css", "/account;/a.css"),
        ("/account/;/../a.css", "/account/a.css"),
        ("/account%3f.css", "/account%3F.css"),
        ("/account%23.css", "/account%23.css"),
        ("/account%0a.css", "/account%0A.css"),
        ("/account%20.css", "/account%20.css"),
        ("//account", "//account"),
        ("//evil.example/account", "//evil.example/account"),
        ("/account//a.css", "/account//a.css"),
        ("/account/.", "/account/"),
        ("/account/a.css/..", "/account/"),
        ("/account?/a.css", "/account?/a.css"),
        ("/account?a=%2e%2e/", "/account?a=%2e%2e/"),
        ("/ACCOUNT", "/ACCOUNT"),
        ("/account/", "/account/"),
        ("http://site.example/account", "/account"),
        ("HTTP://SITE.EXAMPLE/account", "/account"),
    ],
)
def test_the_origin_is_asked_for_what_the_answer_is_stored_under(target: str, sent: str, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/account", body=b"secret of one", headers=[("Cache-Control", "private")])
        mirror(stage, sent.partition("?")[0])
        if sent.partition("?")[0] != "/account":
            await stage.get("/account")
            stage.origin.requests.clear()
        first = await stage.get(target)
        assert stage.seen() == [("GET", sent)]
        assert first.status == 200
        second = await stage.get(sent)
        assert second.hit
        assert second.body == first.body
        if sent != "/account" and not sent.startswith("/account?"):
            assert (await stage.get("/account")).body == b"secret of one"

    play(scene)


def test_hosts_share_nothing(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        mirror(stage, "/a")
        bodies = [
            (await stage.get("/a", host=host)).body for host in ("site.example", "evil.example", "site.example:81")
        ]
        assert len(set(bodies)) == 3
        for host, body in zip(("SITE.example", "evil.example.", "Site.Example:81"), bodies, strict=True):
            response = await stage.get("/a", host=host)
            assert (response.hit, response.body) == (True, body)

    play(scene)


def test_absolute_form_decides_and_host_is_replaced(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        mirror(stage, "/a")
        await stage.get("http://site.example/a", host=EVIL)
        assert stage.origin.requests[0].fields.get_all("host") == ["site.example"]
        assert EVIL.encode() not in stage.origin.requests[0].raw
        assert (await stage.get("/a", host="site.example")).hit
        assert not (await stage.get("/a", host=EVIL)).hit

    play(scene)


def test_hosts_of_no_site_are_misdirected(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a")
        assert (await stage.get("/a", host="site.example")).status == 200
        for host in ("evil.example", "site.example.evil.example", "xsite.example", "127.0.0.1", "[::1]"):
            async with stage.client() as client:
                assert (await client.get("/a", host=host)).status == 421
                assert (await client.get("/a", host="site.example")).status == 200

    play(scene, hosts=("site.example",))


def test_error_pages_quote_nobody(play: Play) -> None:
    script = "<script>alert(1)</script>"

    async def scene(stage: Stage) -> None:
        for data in (
            request("GET", f"/{script}"),
            request("GET", f"/a#{script}"),
            request("GET", "/a", host=script),
            request("GET", "/a", f"Content-Length: {script}"),
            request("GET", "/a", f"Transfer-Encoding: {script}"),
            request("GET", f"{script}"),
            f"GET /a HTTP/{script}\r\n\r\n".encode(),
            f"{script} /a HTTP/1.1\r\n\r\n".encode(),
        ):
            async with stage.client() as client:
                await client.send(data)
                response = await client.response()
                assert b"<script>" not in response.body
                assert "<script>" not in response["cache-status"]
        stage.origin.play("/a", f"HTTP/1.1 {script}\r\n\r\n".encode())
        response = await stage.get("/a")
        assert response.status == 502
        assert b"<script>" not in response.body

    play(scene)


def test_an_error_page_is_never_stored(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", b"nonsense\r\n\r\n")
        response = await stage.get("/a")
        assert (response.status, response["cache-control"]) == (502, "no-store")
        stage.origin.respond("/a", body=b"a")
        assert (await stage.get("/a")).body == b"a"

    play(scene)


# --- bombs


def test_bodies_are_never_unpacked(play: Play) -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)

    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=bomb, headers=[("Cache-Control", "max-age=60"), ("Content-Encoding", "gzip")])
        for _ in range(3):
            response = await stage.get("/a")
            assert (response.body, response["content-encoding"]) == (bomb, "gzip")
        assert stage.edge.store.memory.memory_bytes < 100_000

    play(scene)


def test_field_names_without_end_do_not_fill_the_hot_table(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a", headers=[("Cache-Control", "max-age=60")])
        async with stage.client() as client:
            for at in range(120):
                lines = [f"X-{at}-{number}: x" for number in range(90)]
                assert (await client.get("/a", *lines)).body == b"a"
        for lane in stage.edge.hot.lanes():
            assert len(lane._known) <= 5000
            assert len(lane._spellings) <= 5000
        assert len(stage.origin.requests) == 1

    play(scene)


def test_hosts_and_spellings_without_end_do_not_fill_the_hot_table(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a", headers=[("Cache-Control", "max-age=60")])
        async with stage.client() as client:
            for at in range(200):
                spelling = "".join(c.upper() if at >> place & 1 else c for place, c in enumerate("siteexam"))
                for _ in range(2):
                    assert (await client.get("/a", host=f"{spelling}.example")).body == b"a"
        assert sum(len(lane.routes) for lane in stage.edge.hot.lanes()) <= 10
        assert len(stage.edge.hot) == 1

    play(scene)


def test_variants_without_end_do_not_fill_the_store(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a", headers=[("Cache-Control", "max-age=60"), ("Vary", "X-Custom")])
        async with stage.client() as client:
            for at in range(300):
                for _ in range(2):
                    assert (await client.get("/a", f"X-Custom: {at}")).body == b"a"
        assert len(stage.edge.store) <= 100
        routes = [route for lane in stage.edge.hot.lanes() for route in lane.routes.values()]
        assert routes
        assert sum(len(route.variants) for route in routes if isinstance(route, Choice)) <= 100

    play(scene)


def test_urls_without_end_stay_within_the_budget(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a" * 1000, headers=[("Cache-Control", "max-age=60")])
        async with stage.client() as client:
            for at in range(1500):
                assert (await client.get(f"/a?{at}")).status == 200
        assert stage.edge.store.memory.memory_bytes <= 1 << 20
        assert len(stage.edge.store) < 1500

    play(scene, memory=Memory(budget_bytes=1 << 20, spool_bytes=0))


def test_a_thousand_parameters_are_one_key(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a", body=b"a", headers=[("Cache-Control", "max-age=60")])
        query = "&".join(f"p{at}={at}" for at in range(800))
        for _ in range(3):
            response = await stage.get(f"/a?{query}")
            assert response.body == b"a"
        assert response.hit

    play(scene, cache=CachePolicy(query_sort=True, query_drop=("utm_*", "*clid")))
