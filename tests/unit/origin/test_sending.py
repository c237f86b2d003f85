import asyncio
from collections.abc import AsyncIterator

import pytest

from banish.http.fields import Fields
from banish.http.messages import RequestHead
from banish.origin.sending import Upload, encode_head


def head(*fields: tuple[str, str], method: str = "GET", target: str = "/") -> RequestHead:
    return RequestHead(method, target, Fields.of(fields))


def test_fields_go_out_as_given() -> None:
    raw = encode_head(head(("Host", "a"), ("X-Ünï", "é")), with_body=False)
    assert raw == "GET / HTTP/1.1\r\nHost: a\r\nX-Ünï: é\r\n\r\n".encode("latin-1")


def test_a_body_without_a_length_goes_out_in_chunks() -> None:
    assert encode_head(head(("Host", "a")), with_body=True).endswith(b"a\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert encode_head(head(("Transfer-Encoding", "x")), with_body=True).count(b"Transfer-Encoding") == 1
    assert b"chunked" not in encode_head(head(("Content-Length", "3")), with_body=True)


@pytest.mark.parametrize(
    "bad",
    [
        head(("X", "a\r\nY: b")),
        head(("X", "a\nY: b")),
        head(("X", "a\rY: b")),
        head(("X\r\nY", "a")),
        head(target="/ HTTP/1.1\r\nX: y"),
        head(target="/a b"),
        head(method="GET /x"),
        head(("X", "\u20ac")),
    ],
)
def test_nothing_can_be_slipped_into_a_head(bad: RequestHead) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - UnicodeEncodeError is one too
        encode_head(bad, with_body=False)


async def _pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


def sent(request: RequestHead, *data: bytes) -> bytes:
    out: list[bytes] = []

    async def drain() -> None: ...

    asyncio.run(Upload(request, _pieces(*data)).run(out.append, drain))
    return b"".join(out)


def test_chunks_are_framed_and_empty_pieces_do_not_end_the_body() -> None:
    assert sent(head(), b"abc", b"", b"x" * 16) == b"3\r\nabc\r\n10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"


def test_a_body_is_held_to_its_length() -> None:
    five = head(("Content-Length", "5"))
    assert sent(five, b"he", b"llo") == b"hello"
    with pytest.raises(ValueError, match="longer"):
        sent(five, b"hello", b"!")
    with pytest.raises(ValueError, match="shorter"):
        sent(five, b"hell")
