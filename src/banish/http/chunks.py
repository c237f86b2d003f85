"""The chunked transfer coding, as it is written; and what a trailer section may carry.

Not here: reading chunks (the parser's); whether to use the coding (`framing.py`, and who writes).
Source: RFC 9112 section 7.1; RFC 9110 section 6.5.
"""

from banish.http.fields import Fields
from banish.http.hops import HOP_BY_HOP

_NOT_IN_TRAILERS = HOP_BY_HOP | {
    *("age", "authorization", "cache-control", "content-encoding", "content-length", "content-range", "content-type"),
    *("cookie", "date", "expect", "expires", "forwarded", "host", "if-match", "if-modified-since", "if-none-match"),
    *("if-range", "if-unmodified-since", "location", "max-forwards", "pragma", "range", "retry-after", "set-cookie"),
    *("trailer", "vary", "via", "warning", "www-authenticate", "x-forwarded-for", "x-forwarded-host"),
    "x-forwarded-proto",
}
"""Fields for framing, routing, requests, authentication, caching and content: too late in a trailer section, and
dangerous where the next reader merges it (RFC 9110 section 6.5.1)."""


def encode_chunk(data: bytes) -> bytes:
    """One chunk. `data` is not empty: an empty chunk is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def encode_last_chunk(trailers: Fields | None = None) -> bytes:
    """The end of a chunked body, with its trailer section."""
    return b"0\r\n%b\r\n" % (b"" if trailers is None else trailers.encode())


def passable_trailers(trailers: Fields) -> Fields:
    """Those trailer fields that may go on to the next hop."""
    return trailers.without(_NOT_IN_TRAILERS)
