"""Responses from bytes, without a socket: whole, in pieces of every size, damaged in every way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banish.errors import BadResponse, Truncated
from banish.http.framing import FramingKind
from banish.origin.limits import Limits
from banish.origin.reading import Phase, ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def reader(method: str = "GET", **settings: bool) -> ResponseReader:
    return ResponseReader(method, Limits(), **settings)


def read(data: bytes, method: str = "GET", **settings: bool) -> ResponseReader:
    made = reader(method, **settings)
    made.feed(data)
    return made


def read_slowly(made: ResponseReader, data: bytes) -> None:
    for at in range(len(data)):
        made.feed(data[at : at + 1])


WHOLE = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    "empty": (OK + b"Content-Length: 0\r\n\r\n", b""),
    "chunked": (CHUNKED + b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nETag: x\r\n\r\n", b"hello"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 900\r\n\r\n", b""),
    "after interims": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 C\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx",
        b"x",
    ),
    "upgrade offered, not taken": (
        OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"hello",
    ),
    "chunked, then close": (
        OK + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"hello",
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_response_is_read_the_same_however_it_is_cut(name: str) -> None:
    data, body = WHOLE[name]
    for size in (1, 2, 3, 7, len(data)):
        made = reader()
        for at in range(0, len(data), size):
            assert not made.complete
            made.feed(data[at : at + size])
        assert made.complete
        assert not made.surplus
        assert made.take() == body


@given(name=st.sampled_from(sorted(WHOLE)), cuts=st.lists(st.integers(0, 160)))
def test_cuts_at_any_place_change_nothing(name: str, cuts: list[int]) -> None:
    data, body = WHOLE[name]
    whole, made, start = read(data), reader(), 0
    for cut in [*sorted(cuts), len(data)]:
        if data[start:cut]:
            made.feed(data[start:cut])
            start = cut
    assert (made.head, made.trailers, made.persistent) == (whole.head, whole.trailers, whole.persistent)
    assert made.take() == body


def test_trailers_stay_apart_from_the_fields() -> None:
    made = read(CHUNKED + b"0\r\nETag: x\r\n\r\n")
    assert made.trailers is not None
    assert made.trailers.lines == (("ETag", "x"),)
    assert made.head is not None
    assert "etag" not in made.head.fields


def test_a_response_to_head_has_no_body_whatever_it_says() -> None:
    made = read(OK + b"Content-Length: 5000\r\n\r\n", "HEAD")
    assert made.complete
    assert made.persistent
    made.feed(b"a body all the same")
    assert made.surplus
    assert made.take() == b""


@pytest.mark.parametrize("name", ["length", "chunked", "no content", "not modified"])
@pytest.mark.parametrize("extra", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"])
def test_bytes_after_the_end_are_noticed_and_not_delivered(name: str, extra: bytes) -> None:
    data, body = WHOLE[name]
    together = read(data + extra)
    assert together.complete
    assert together.surplus
    assert together.take() == body
    later = read(data)
    later.feed(extra)
    assert later.surplus
    assert later.take() == body


def test_interim_responses_come_apart_from_the_final_one() -> None:
    made = read(WHOLE["after interims"][0])
    assert [head.status for head in made.interims] == [103, 100]
    assert made.head is not None
    assert made.head.status == 200
    assert made.head.reason == "OK"


def test_interim_responses_are_bounded() -> None:
    with pytest.raises(BadResponse, match="interim"):
        read(b"HTTP/1.1 102 P\r\n\r\n" * (Limits().interims_max + 1))


def test_a_switch_is_followed_only_if_asked_for() -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello"
    made = read(switch, switch_allowed=True)
    assert made.phase is Phase.SWITCHED
    assert made.take() == b"\x81\x05hello"
    with pytest.raises(BadResponse, match="unasked"):
        read(switch)


@pytest.mark.parametrize(
    ("fields", "persistent"),
    [
        (b"", True),
        (b"Connection: keep-alive\r\n", True),
        (b"Connection: close\r\n", False),
        (b"Connection: x, CLOSE\r\n", False),
        (b"Connection: x\r\nConnection: close\r\n", False),
    ],
)
def test_connection_close_is_heard(fields: bytes, persistent: bool) -> None:
    assert read(OK + fields + b"Content-Length: 0\r\n\r\n").persistent is persistent


def test_an_old_version_is_kept_only_if_it_says_so() -> None:
    old = b"HTTP/1.0 200 OK\r\n%bContent-Length: 0\r\n\r\n"
    assert not read(old % b"").persistent
    assert read(old % b"Connection: Keep-Alive\r\n").persistent


def test_a_body_announced_where_none_may_be_forbids_reuse() -> None:
    assert not read(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n").persistent


def test_until_close_needs_a_clean_end() -> None:
    made = read(OK + b"\r\nsome")
    assert made.framing is not None
    assert made.framing.kind is FramingKind.UNTIL_CLOSE
    made.feed(b" more")
    made.feed_end(clean=True)
    assert made.complete
    assert not made.persistent
    assert made.take() == b"some more"
    with pytest.raises(Truncated):
        read(OK + b"\r\nsome").feed_end(clean=False)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 20",
        OK + b"Content-Length: 5\r\n\r\nhell",
        CHUNKED,
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"5\r\nhello\r\n",
    ],
)
@pytest.mark.parametrize("clean", [True, False])
def test_an_end_in_the_middle_is_truncation(data: bytes, clean: bool) -> None:
    with pytest.raises(Truncated) as caught:
        read(data).feed_end(clean=clean)
    assert not caught.value.retryable


def test_an_end_before_any_byte_may_be_retried() -> None:
    with pytest.raises(Truncated) as caught:
        reader().feed_end(clean=True)
    assert caught.value.retryable


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"<html>",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 600 High\r\n\r\n",
        b"HTTP/1.1 1000 Long\r\n\r\n",
        b"HTTP/1.1 two OK\r\n\r\n",
        b"HTTP/1.1 200 O\x00K\r\n\r\n",
        OK + b"A: b\n\n",
        OK + b"A: b\n\r\n\r\n",
        OK + b"A: b\r\n\n",
        OK + b"A : b\r\n\r\n",
        OK + b"A: b\r\n folded\r\n\r\n",
        OK + b"A: b\x00c\r\n\r\n",
        OK + b"A: b\rC: d\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b": no name\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"Content-Length: 5, 5\r\n\r\nhello",
        OK + b"Content-Length: +5\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"x\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"0x5\r\nhello",
        CHUNKED + b"5\nhello\r\n",
        CHUNKED + b"5\r\nhelloXX",
        CHUNKED + b"fffffffffffffffff\r\n",
        CHUNKED + b"0\r\nbad trailer\r\n\r\n",
    ],
)
def test_what_two_readers_could_read_differently_is_refused(data: bytes) -> None:
    with pytest.raises(BadResponse):
        read(data)
    with pytest.raises(BadResponse):
        read_slowly(reader(), data)


def test_lenient_takes_bare_line_feeds_in_a_head() -> None:
    for data in (
        b"HTTP/1.1 200 OK\nA: b\nContent-Length: 2\n\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nhi",
    ):
        assert read(data, lenient=True).take() == b"hi"


def test_lenient_takes_equal_lengths_for_one_and_passes_on_one() -> None:
    for fields in (b"Content-Length: 2\r\ncontent-length: 2\r\n", b"Content-Length: 2, 2\r\n"):
        made = read(OK + fields + b"\r\nhi", lenient=True)
        assert made.take() == b"hi"
        assert made.head is not None
        assert made.head.fields.lines == (("Content-Length", "2"),)
    with pytest.raises(BadResponse):
        read(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", lenient=True)


def test_heads_are_bounded_in_bytes_and_lines() -> None:
    limits = Limits(head_bytes_max=100, fields_max=3)
    with pytest.raises(BadResponse, match="larger than 100 bytes"):
        read_slowly(ResponseReader("GET", limits), OK + b"A: " + b"x" * 100)
    with pytest.raises(BadResponse, match="larger than 100 bytes"):
        ResponseReader("GET", limits).feed(OK + b"A: " + b"x" * 100 + b"\r\n\r\n")
    with pytest.raises(BadResponse, match="more than 3 field lines"):
        ResponseReader("GET", limits).feed(OK + b"a: b\r\n" * 4 + b"\r\n")


def test_chunk_extensions_and_trailers_are_bounded() -> None:
    limits = Limits(head_bytes_max=100, fields_max=3)
    with pytest.raises(BadResponse, match="chunk extensions"):
        read_slowly(ResponseReader("GET", limits), CHUNKED + b"5;" + b"x" * 100)
    trailed = ResponseReader("GET", limits)
    with pytest.raises(BadResponse, match="more than 3 trailer fields"):
        trailed.feed(CHUNKED + b"0\r\n" + b"a: b\r\n" * 4 + b"\r\n")


def test_a_repr_tells_where_it_stands() -> None:
    assert repr(read(OK + b"Content-Length: 1\r\n\r\nxy")) == "<ResponseReader to GET: DONE, surplus>"
