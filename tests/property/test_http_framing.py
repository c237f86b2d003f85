"""Framing against llhttp: whenever ours accepts a message, the parser agrees on where its body ends.

Left out, because httptools cannot be told of them and the connections handle them: answers to HEAD, and
requests with Upgrade. The parser may always refuse more than we do.
"""

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from banish.errors import BadResponse, ClientError
from banish.http.fields import Fields
from banish.http.framing import Framing, FramingKind, request_framing, response_framing
from banish.http.messages import Version

CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"
FED_MAX = 300

Lines = list[tuple[str, str]]


class Reading:
    """What llhttp makes of a head and the bytes after it."""

    def __init__(self, kind: type[httptools.HttpRequestParser] | type[httptools.HttpResponseParser]) -> None:
        self.lines: list[tuple[bytes, bytes]] = []
        self.fields: Fields | None = None
        self.body = b""
        self.ended = False
        self._parser = kind(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.lines.append((name, value))

    def on_headers_complete(self) -> None:
        self.fields = Fields.decode(self.lines)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended = True

    def feed(self, data: bytes) -> bool:
        """Take these bytes; False if the parser refuses them."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            return False
        return True


def check_end(reading: Reading, framing: Framing) -> None:
    """Feed a body just as long as `framing` says and see the parser end there and not before."""
    if framing.kind is FramingKind.NONE or (framing.kind is FramingKind.LENGTH and framing.length == 0):
        assert reading.ended
        return
    assert not reading.ended
    match framing.kind:
        case FramingKind.CHUNKED:
            assert reading.feed(CHUNKS[:-1])
            assert not reading.ended
            assert reading.feed(CHUNKS[-1:])
            assert reading.ended
            assert reading.body == b"abc"
        case FramingKind.UNTIL_CLOSE:
            assert reading.feed(CHUNKS)
            assert not reading.ended
            assert reading.body == CHUNKS
        case _:
            body = b"x" * min(framing.length - 1, FED_MAX)
            assert reading.feed(body)
            assert not reading.ended
            if len(body) == framing.length - 1:
                assert reading.feed(b"x")
                assert reading.ended
                assert len(reading.body) == framing.length


values = st.one_of(
    st.sampled_from(["chunked", "Chunked", "CHUNKED ", "gzip, chunked", "chunked, gzip", "identity", "xchunked", ""]),
    st.integers(0, FED_MAX).map(str),
    st.integers(0, 2**65).map(str),
    st.text("0123456789 ,+-;xchunkedCHUNKED", max_size=12),
)
names = st.sampled_from(["Content-Length", "content-length", "Transfer-Encoding", "TRANSFER-ENCODING", "X-Other"])
lines_of_a_head = st.lists(st.tuples(names, values), max_size=3)
versions = st.sampled_from(["1.0", "1.1"])
statuses = st.sampled_from([100, 101, 103, 200, 204, 205, 206, 301, 304, 404, 503])


def head(start: str, lines: Lines) -> bytes:
    return "\r\n".join([start, *(f"{name}: {value}" for name, value in lines), "", ""]).encode()


def check_request(version: Version, lines: Lines) -> bool:
    """True if both accept; then they agree."""
    reading = Reading(httptools.HttpRequestParser)
    passed = reading.feed(head(f"POST / HTTP/{version}", lines))
    if not passed or reading.fields is None:
        return False
    try:
        framing = request_framing("POST", version, reading.fields)
    except ClientError:
        return False
    check_end(reading, framing)
    return True


def check_response(version: Version, status: int, lines: Lines) -> bool:
    """True if both accept; then they agree."""
    reading = Reading(httptools.HttpResponseParser)
    passed = reading.feed(head(f"HTTP/{version} {status} Some Reason", lines))
    if not passed or reading.fields is None:
        return False
    try:
        framing = response_framing("GET", status, version, reading.fields)
    except BadResponse:
        return False
    check_end(reading, framing)
    return True


@given(versions, lines_of_a_head)
@example("1.1", [("Transfer-Encoding", "gzip, chunked")])
@example("1.0", [("Transfer-Encoding", "chunked")])
@example("1.1", [("Content-Length", "18446744073709551615")])
def test_llhttp_ends_requests_where_framing_does(version: Version, lines: Lines) -> None:
    check_request(version, lines)


@given(versions, statuses, lines_of_a_head)
@example("1.1", 200, [("Transfer-Encoding", "gzip")])
@example("1.1", 204, [("Transfer-Encoding", "chunked")])
@example("1.1", 304, [("Content-Length", "5")])
def test_llhttp_ends_responses_where_framing_does(version: Version, status: int, lines: Lines) -> None:
    check_response(version, status, lines)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [("Content-Length", "0")],
        [("Content-Length", "12 ")],
        [("Transfer-Encoding", "chunked")],
        [("Transfer-Encoding", " CHUNKED ")],
    ],
)
def test_both_accept_the_ordinary_forms(lines: Lines) -> None:
    assert check_request("1.1", lines)
    for status in (103, 200, 204, 304):
        assert check_response("1.1", status, lines)


def test_llhttp_takes_chunked_with_a_tab_behind_it_for_another_coding() -> None:
    """The one known disagreement: llhttp reads until close, so a connection must check its parser."""
    reading = Reading(httptools.HttpResponseParser)
    assert reading.feed(head("HTTP/1.1 200 OK", [("Transfer-Encoding", "chunked\t")]))
    assert reading.fields is not None
    assert response_framing("GET", 200, "1.1", reading.fields).kind is FramingKind.CHUNKED
    assert reading.feed(CHUNKS)
    assert not reading.ended
