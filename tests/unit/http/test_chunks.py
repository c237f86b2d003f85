import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banish.http.chunks import encode_chunk, encode_last_chunk, passable_trailers
from banish.http.fields import Fields


class Read:
    """What llhttp makes of a chunked response."""

    def __init__(self, data: bytes) -> None:
        self.body = b""
        self.chunks: list[bytes] = []
        self.lines: list[tuple[bytes, bytes]] = []
        self.whole = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)

    def on_headers_complete(self) -> None:
        self.lines = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.lines.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.chunks.append(data)

    def on_message_complete(self) -> None:
        self.whole = True


def test_a_chunk_is_its_size_in_hexadecimal_and_its_bytes() -> None:
    assert encode_chunk(b"hello world!!!!!") == b"10\r\nhello world!!!!!\r\n"
    assert encode_last_chunk() == encode_last_chunk(Fields()) == b"0\r\n\r\n"


def test_trailers_stand_behind_the_last_chunk() -> None:
    assert encode_last_chunk(Fields.of([("X-Sum", "1"), ("x-sum", "2")])) == b"0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n"


@given(pieces=st.lists(st.binary(min_size=1, max_size=300)), sums=st.lists(st.sampled_from("abc"), max_size=3))
def test_a_parser_reads_back_what_was_written(pieces: list[bytes], sums: list[str]) -> None:
    trailers = Fields.of([("X-Sum", value) for value in sums])
    read = Read(b"".join(map(encode_chunk, pieces)) + encode_last_chunk(trailers))
    assert read.chunks == pieces
    assert Fields.decode(read.lines) == trailers
    assert read.whole


@pytest.mark.parametrize(
    "name",
    [
        "Content-Length", "Transfer-Encoding", "Trailer", "Connection", "Upgrade", "TE", "Keep-Alive", "Host",
        "Authorization", "Cookie", "Set-Cookie", "Cache-Control", "Expires", "Age", "Vary", "Location", "Range",
        "Content-Range", "Content-Encoding", "Content-Type", "If-None-Match", "Via", "X-Forwarded-For", "Forwarded",
        "WWW-Authenticate", "Proxy-Authorization", "Max-Forwards", "Expect", "Date", "Retry-After",
    ],
)  # fmt: skip
def test_fields_that_come_too_late_in_a_trailer_section_stay_here(name: str) -> None:
    for spelling in (name, name.lower(), name.upper()):
        fields = Fields.of([("X-Sum", "1"), (spelling, "x"), ("Server-Timing", "a;dur=1")])
        assert passable_trailers(fields).names == ("x-sum", "server-timing")


def test_what_is_passed_on_keeps_order_and_spelling() -> None:
    fields = Fields.of([("x-B", "1"), ("X-a", "2"), ("x-B", "3")])
    assert passable_trailers(fields) == fields
