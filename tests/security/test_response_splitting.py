"""Responses that try to be more than one: whatever an origin sends, each client gets the answer to its own
request, and what cannot be trusted is neither relayed nor stored.

After each case the same client asks for something else on its connection, and so does another: the answer to
that must be the answer to that.
"""

from typing import NamedTuple

import pytest
from tests.support import Closed, Play, Response, Stage, answered, chunks

from banish.testing.origin import CLOSE, RESET, Step

EVIL = answered(b"evil", "Cache-Control: max-age=60")
KEEP = "Cache-Control: max-age=60"


class Case(NamedTuple):
    """`body` of None: the client must see a broken response, or none."""

    name: str
    steps: tuple[Step, ...]
    status: int
    body: bytes | None = b""
    method: str = "GET"


def raw(*lines: str | bytes, body: bytes = b"", first: str = "HTTP/1.1 200 OK") -> bytes:
    all_lines = [first, KEEP, *lines, "", ""]
    return b"\r\n".join([line.encode("latin-1") if isinstance(line, str) else line for line in all_lines]) + body


def bad(name: str, data: bytes, *more: Step) -> Case:
    """A head that is not relayed at all."""
    return Case(name, (data, *more), 502, None)


def cut(name: str, data: bytes, *more: Step) -> Case:
    """A body that breaks off or cannot be read: the client must not take it for whole."""
    return Case(name, (data, *more), 200, None)


LENGTH, CODING = "Content-Length: ", "Transfer-Encoding: "

HEADS = [
    bad("two unequal lengths", raw(LENGTH + "5", LENGTH + "0", body=b"hello")),
    bad("two equal lengths", raw(LENGTH + "5", LENGTH + "5", body=b"hello")),
    bad("list of lengths", raw(LENGTH + "5, 5", body=b"hello")),
    bad("length with plus", raw(LENGTH + "+5", body=b"hello")),
    bad("length negative", raw(LENGTH + "-1", body=b"hello")),
    bad("length hexadecimal", raw(LENGTH + "0x5", body=b"hello")),
    bad("length empty", raw(LENGTH, body=b"hello")),
    bad("length beyond 64 bits", raw(LENGTH + "18446744073709551621", body=b"hello")),
    bad("length and chunked", raw(LENGTH + "5", CODING + "chunked", body=chunks(b"hello"))),
    bad("chunked and length", raw(CODING + "chunked", LENGTH + "5", body=chunks(b"hello"))),
    bad("chunked twice", raw(CODING + "chunked", CODING + "chunked", body=chunks(b"hello"))),
    bad("chunked, identity", raw(CODING + "chunked, identity", body=chunks(b"hello"))),
    bad("gzip, chunked", raw(CODING + "gzip, chunked", body=chunks(b"hello"))),
    bad("xchunked", raw(CODING + "xchunked", body=b"hello"), CLOSE),
    bad("gzip", raw(CODING + "gzip", body=b"hello"), CLOSE),
    bad("chunked on HTTP/1.0", raw(CODING + "chunked", first="HTTP/1.0 200 OK", body=chunks(b"hello"))),
    bad("space before the colon", raw("Content-Length : 5", body=b"hello")),
    bad("obs-fold", raw("X: a", " b", LENGTH + "5", body=b"hello")),
    bad("bare LF between fields", raw(b"X: a\nY: b", LENGTH + "5", body=b"hello")),
    bad("bare CR in a value", raw(b"X: a\rSet-Cookie: b", LENGTH + "5", body=b"hello")),
    bad("NUL in a value", raw("X: a\0b", LENGTH + "5", body=b"hello")),
    bad("control in a value", raw("X: a\x01b", LENGTH + "5", body=b"hello")),
    bad("control in the reason", raw(LENGTH + "0", first="HTTP/1.1 200 O\x01K")),
    bad("empty name", raw(": a", LENGTH + "5", body=b"hello")),
    bad("no colon", raw("X", LENGTH + "5", body=b"hello")),
    bad("head ended by bare LF", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
    bad("status 099", raw(LENGTH + "0", first="HTTP/1.1 099 No")),
    bad("status 999", raw(LENGTH + "0", first="HTTP/1.1 999 No")),
    bad("status of four digits", raw(LENGTH + "0", first="HTTP/1.1 2000 No")),
    bad("HTTP/2.0", raw(LENGTH + "0", first="HTTP/2.0 200 OK")),
    bad("HTTP/1.2", raw(LENGTH + "0", first="HTTP/1.2 200 OK")),
    bad("another protocol", b"ICY 200 OK\r\n\r\n"),
    bad("no head at all", b"hello", CLOSE),
    bad("nothing", b"", CLOSE),
    bad("a reset", b"", RESET),
    bad("half a head", b"HTTP/1.1 200 OK\r\nContent-Le", CLOSE),
    bad("half a head and a reset", b"HTTP/1.1 200 OK\r\nContent-Le", RESET),
    bad("an endless head", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000),
    bad("an endless field", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000),
    bad("too many fields", raw(*["X: y"] * 300, LENGTH + "0")),
    bad("101 unasked", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
    bad("a flood of 103", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 40 + EVIL),
    bad("only 100", b"HTTP/1.1 100 Continue\r\n\r\n", CLOSE),
]

BODIES = [
    Case("whole by length", (raw(LENGTH + "5", body=b"hello"),), 200, b"hello"),
    Case("whole by chunks", (raw(CODING + "chunked", body=chunks(b"he", b"llo")),), 200, b"hello"),
    Case("whole by close", (raw(body=b"hello"), CLOSE), 200, b"hello"),
    Case("whole by close on HTTP/1.0", (raw(first="HTTP/1.0 200 OK", body=b"hello"), CLOSE), 200, b"hello"),
    Case("no reason phrase", (raw(LENGTH + "5", first="HTTP/1.1 200 ", body=b"hello"),), 200, b"hello"),
    Case("a response in the body", (raw(LENGTH + str(len(EVIL)), body=EVIL),), 200, EVIL),
    Case("surplus after a length", (raw(LENGTH + "5", body=b"hello" + EVIL),), 200, b"hello"),
    Case("surplus after no length", (raw(LENGTH + "0", body=EVIL),), 200, b""),
    Case("surplus after chunks", (raw(CODING + "chunked", body=chunks(b"hello") + EVIL),), 200, b"hello"),
    Case("surplus in a packet of its own", (raw(LENGTH + "5", body=b"hello"), EVIL), 200, b"hello"),
    Case("HEAD with a body", (raw(LENGTH + str(len(EVIL)), body=EVIL),), 200, b"", "HEAD"),
    Case("HEAD with chunks", (raw(CODING + "chunked", body=chunks(EVIL)),), 200, b"", "HEAD"),
    Case("HEAD with an unannounced body", (raw(body=EVIL),), 200, b"", "HEAD"),
    Case("204 with an unannounced body", (raw(first="HTTP/1.1 204 No Content", body=EVIL),), 204, b""),
    Case("204 with a length", (raw(LENGTH + str(len(EVIL)), first="HTTP/1.1 204 No Content", body=EVIL),), 204, b""),
    Case("204 with chunks", (raw(CODING + "chunked", first="HTTP/1.1 204 No Content", body=chunks(EVIL)),), 204, b""),
    Case("304 with an unannounced body", (raw(first="HTTP/1.1 304 Not Modified", body=EVIL),), 502, None),
    Case("304 with a length", (raw(LENGTH + str(len(EVIL)), first="HTTP/1.1 304 Not Modified", body=EVIL),), 502, None),
    Case(
        "103 with a length",
        (b"HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\n" + raw(LENGTH + "5", body=b"hello"),),
        200,
        b"hello",
    ),
    Case(
        "some 103",
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3, raw(LENGTH + "5", body=b"hello")),
        200,
        b"hello",
    ),
    cut("length cut by close", raw(LENGTH + "9", body=b"hello"), CLOSE),
    cut("length cut by reset", raw(LENGTH + "9", body=b"hello"), RESET),
    cut("length cut at once", raw(LENGTH + "9"), CLOSE),
    cut("chunks cut by close", raw(CODING + "chunked", body=b"5\r\nhello\r\n"), CLOSE),
    cut("chunks cut in a chunk", raw(CODING + "chunked", body=b"9\r\nhello"), CLOSE),
    cut("chunks cut in the trailers", raw(CODING + "chunked", body=b"5\r\nhello\r\n0\r\nX: y"), CLOSE),
    cut("chunks cut by reset", raw(CODING + "chunked", body=b"5\r\nhello\r\n"), RESET),
    cut("until close cut by reset", raw(body=b"hello"), RESET),
    cut("bad chunk size", raw(CODING + "chunked", body=b"5\r\nhello\r\nxyz\r\n")),
    cut("bad first chunk size", raw(CODING + "chunked", body=b"xyz\r\nhello\r\n" + EVIL)),
    cut("chunk larger than 64 bits", raw(CODING + "chunked", body=b"5\r\nhello\r\nfffffffffffffffff\r\n")),
    cut("no CRLF after a chunk", raw(CODING + "chunked", body=b"5\r\nhelloEVIL\r\n0\r\n\r\n")),
    cut("bare LF after a chunk size", raw(CODING + "chunked", body=b"5\nhello\r\n0\r\n\r\n")),
    cut("endless chunk extensions", raw(CODING + "chunked", body=b"5\r\nhello\r\n5;" + b"x" * 200_000)),
    cut("endless trailers", raw(CODING + "chunked", body=b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 20_000)),
    cut("a length in the trailers", raw(CODING + "chunked", body=b"5\r\nhello\r\n0\r\nContent-Length: 4\r\n\r\n")),
]


@pytest.mark.parametrize("keep", [True, False], ids=["storable", "not storable"])
@pytest.mark.parametrize("case", HEADS + BODIES, ids=lambda case: case.name)
def test_every_client_gets_the_answer_to_its_own_request(case: Case, keep: bool, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        steps = [step if keep or not isinstance(step, bytes) else _not_storable(step) for step in case.steps]
        stage.origin.play_always("/a", *steps)
        stage.origin.respond("/alive", body=b"alive", headers=[("Cache-Control", "no-store")])
        async with stage.client() as client:
            assert (await client.get("/alive")).body == b"alive"
            try:
                response = await client.ask(case.method, "/a")
            except Closed:
                assert case.status == 200, "an error deserves a page"
                assert case.body is None
            else:
                _check(case, response)
                if response.whole and response["connection"] != "close":
                    assert (await client.get("/alive")).body == b"alive"
        await stage.settled()
        assert (await stage.get("/alive")).body == b"alive"
        if case.body is None and case.status == 200:
            stage.origin.play("/a", answered(b"again", "Cache-Control: no-store"))
            assert (await stage.get("/a")).body == b"again", "a broken response was stored"

    play(scene)


def _not_storable(step: bytes) -> bytes:
    return step.replace(KEEP.encode(), b"Cache-Control: no-store", 1)


def _check(case: Case, response: Response) -> None:
    assert b"evil" not in response.body or case.body == EVIL
    if case.body is not None:
        assert (response.status, response.body, response.whole) == (case.status, case.body, True)
    elif response.whole:
        assert response.status == 502
        assert "detail=" in response["cache-status"]
    else:
        assert response.status == case.status


def test_a_lenient_origin_may_repeat_equal_lengths_and_end_lines_by_lf(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.play("/a", raw(LENGTH + "5", LENGTH + "5", body=b"hello"))
        stage.origin.play("/b", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello")
        stage.origin.play("/c", raw(LENGTH + "5", LENGTH + "6", body=b"hello"))
        async with stage.client() as client:
            first = await client.get("/a")
            assert (first.body, first.fields.get_all("content-length")) == (b"hello", ["5"])
            assert (await client.get("/b")).body == b"hello"
            assert (await client.get("/c")).status == 502

    play(scene, lenient=True)


def test_bytes_unasked_on_an_idle_connection_answer_nobody(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        async with stage.client() as client:
            for at in range(5):
                stage.origin.play(f"/{at}", answered(str(at).encode()), EVIL)
                response = await client.get(f"/{at}")
                assert response.body in (str(at).encode(), b"") or response.status == 502
                assert b"evil" not in response.body

    play(scene)


def test_connection_options_of_the_origin_cannot_make_a_response_storable(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond(
            "/a",
            headers=[("Connection", "cache-control, set-cookie, vary"), ("Cache-Control", "private, max-age=60")],
            body=b"mine",
        )
        assert not (await stage.get("/a")).stored
        assert not (await stage.get("/a")).hit

    play(scene)


def test_hop_by_hop_fields_of_the_origin_are_neither_relayed_nor_stored(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        hops = [
            ("Connection", "keep-alive, X-Hop"),
            ("Keep-Alive", "timeout=5"),
            ("X-Hop", "1"),
            ("Upgrade", "h2c"),
            ("Proxy-Authenticate", "Basic"),
            ("Proxy-Connection", "keep-alive"),
            ("TE", "x"),
            ("Proxy-Authentication-Info", "x"),
            ("Cache-Control", "max-age=60"),
            ("X-End", "1"),
        ]
        stage.origin.respond("/a", headers=hops, body=b"hello")
        for _ in range(3):
            response = await stage.get("/a")
            assert response["x-end"] == "1"
            names = {"keep-alive", "x-hop", "upgrade", "proxy-authenticate", "proxy-connection", "te"}
            assert not names & set(response.fields.names)
            assert response["connection"] == ""

    play(scene)
