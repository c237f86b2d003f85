import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from banish.proxy.unknown_methods import UnknownMethodParser

METHODS = [b"PURGE", b"FOO", b"foo", b"X", b"M-SEARCH2", b"!#$%&'*+-.^_`|~09", b"GETX", b"POST", b"GET"]


class Seen:
    """Everything that a parser calls back, pieces of one kind joined."""

    def __init__(self, kind: type[UnknownMethodParser] | type[httptools.HttpRequestParser]) -> None:
        self.events: list[tuple[str, bytes]] = []
        self.heads: list[tuple[bytes, str, bool]] = []
        self.error: str | None = None
        self.upgrade: int | None = None
        self.parser = kind(self)

    def _note(self, kind: str, data: bytes = b"") -> None:
        if data and self.events and self.events[-1][0] == kind:
            data = self.events.pop()[1] + data
        self.events.append((kind, data))

    def on_message_begin(self) -> None:
        self._note("begin")

    def on_url(self, target: bytes) -> None:
        if target:  # a span cut at its start is told of as well
            self._note("target", target)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._note("field " + name.decode("latin-1") + ": ", value)

    def on_headers_complete(self) -> None:
        parser = self.parser
        self.heads.append((parser.get_method(), parser.get_http_version(), bool(parser.should_upgrade())))
        self._note("head")

    def on_body(self, data: bytes) -> None:
        self._note("body", data)

    def on_message_complete(self) -> None:
        self._note("end")

    def feed(self, data: bytes, piece: int | None = None) -> "Seen":
        """Feed all of it, in pieces of this size, until something is wrong. `upgrade` counts from the start."""
        fed = 0
        for at in range(0, len(data), piece or len(data)):
            part = data[at : at + (piece or len(data))]
            try:
                self.parser.feed_data(part)
            except httptools.HttpParserUpgrade as upgrade:
                self.upgrade = fed + upgrade.args[0]
                break
            except httptools.HttpParserError as error:
                self.error = type(error).__name__
                break
            fed += len(part)
        return self


def unknown(data: bytes, piece: int | None = None) -> Seen:
    return Seen(UnknownMethodParser).feed(data, piece)


@pytest.mark.parametrize("piece", [None, 1, 2, 7])
@pytest.mark.parametrize("method", METHODS)
def test_any_method_is_read_in_pieces_of_any_size(method: bytes, piece: int | None) -> None:
    seen = unknown(method + b" /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", piece)
    assert seen.error is None
    assert seen.heads == [(method, "1.1", False)]
    assert seen.events == [
        ("begin", b""), ("target", b"/a?b"), ("field Host: ", b"x"), ("field Content-Length: ", b"5"), ("head", b""),
        ("body", b"hello"), ("end", b""),
    ]  # fmt: skip


def test_without_length_or_coding_there_is_no_body() -> None:
    seen = unknown(b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert seen.events[-1] == ("end", b"")


@pytest.mark.parametrize("piece", [None, 1, 3])
def test_what_comes_behind_is_read_by_the_same_parser_under_its_own_method(piece: int | None) -> None:
    one = b"FOO /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
    seen = unknown(one + b"GET /2 HTTP/1.1\r\n\r\n" + b"DELETE /3 HTTP/1.1\r\n\r\n", piece)
    assert seen.heads == [(b"FOO", "1.1", False), (b"GET", "1.1", False), (b"DELETE", "1.1", False)]
    assert [data for kind, data in seen.events if kind == "target"] == [b"/1", b"/2", b"/3"]


def test_a_second_unknown_method_is_the_callers_affair() -> None:
    seen = unknown(b"FOO /1 HTTP/1.1\r\n\r\nBAR /2 HTTP/1.1\r\n\r\n")
    assert (len(seen.heads), seen.error) == (1, "HttpParserInvalidMethodError")


def test_empty_lines_before_the_request_are_skipped() -> None:
    for piece in (None, 1):
        assert unknown(b"\r\n\r\nFOO / HTTP/1.1\r\n\r\n", piece).heads == [(b"FOO", "1.1", False)]


@pytest.mark.parametrize(
    "data", [b"F@O / HTTP/1.1\r\n\r\n", b"F\xe9 / HTTP/1.1\r\n\r\n", b" / HTTP/1.1\r\n\r\n", b"FOO\t/ HTTP/1.1\r\n\r\n",
             b"FOO\r\n\r\n", b"F\0O / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"]
)  # fmt: skip
@pytest.mark.parametrize("piece", [None, 1])
def test_what_is_no_token_is_no_method(data: bytes, piece: int | None) -> None:
    seen = unknown(data, piece)
    assert seen.error == "HttpParserError"
    assert seen.heads == []


@pytest.mark.parametrize("piece", [None, 1, 5])
def test_an_upgrade_stops_at_the_same_byte(piece: int | None) -> None:
    head = b"FOO / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    seen = unknown(head + b"rest", piece)
    assert seen.heads == [(b"FOO", "1.1", True)]
    assert seen.upgrade == len(head)


NAMES = st.sampled_from(["Host", "X", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Expect"])
VALUES = st.sampled_from(
    ["5", "5, 5", "+5", "chunked", "x", "", "close", "Upgrade", "h2c", " a ", "100-continue", "\xff"]
)
ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\n "])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """POST requests, mostly sound."""
    data = b"POST " + draw(st.sampled_from([b"/", b"/a?b", b"*", b"http://x/", b" /", b"", b"/a b"]))
    data += draw(st.sampled_from([b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b"", b" http/1.1"])) + draw(
        ENDS
    )
    for _ in range(draw(st.integers(0, 4))):
        colon = draw(st.sampled_from([": ", ": ", ":", " : "]))
        data += f"{draw(NAMES)}{colon}{draw(VALUES)}".encode("latin-1") + draw(ENDS)
    return (
        data + b"\r\n" + draw(st.sampled_from([b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]))
    )


@given(data=messages(), piece=st.sampled_from([None, 1, 3, 10]))
@example(data=b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\nhello", piece=1)
def test_another_method_is_held_to_what_post_is(data: bytes, piece: int | None) -> None:
    plain = Seen(httptools.HttpRequestParser).feed(data, piece)
    ours = unknown(data, piece)
    assert (ours.events, ours.heads, ours.upgrade) == (plain.events, plain.heads, plain.upgrade)
    assert (ours.error is None) == (plain.error is None)
    other = unknown(data.replace(b"POST", b"FOOO", 1), piece)
    assert (other.events, other.upgrade, other.error) == (ours.events, ours.upgrade, ours.error)
