"""Sending: one request, from its head and its body's pieces to bytes.

Fields go out as given: what is hop-by-hop was removed by the caller (`http/hops.py`), and `Host` is among
them. Only the framing of the body is decided here (RFC 9112 section 6): Content-Length if the caller names
one, which the body is then held to; else chunked.

Not here: the connection (`connection.py`); waiting (`timeouts.py`).
Invariant: an encoded head has as many line ends as lines, whatever its parts held.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

from banish.http.chunks import encode_chunk, encode_last_chunk
from banish.http.fields import Fields
from banish.http.messages import RequestHead


def encode_head(head: RequestHead, *, with_body: bool) -> bytes:
    """The request's head as it goes on the wire.

    Raises `ValueError` for a head that cannot be sent as one: the last line of defence against header
    injection, whatever a rule or a hook put into a field.
    """
    fields = head.fields
    lines = len(fields) + 2
    end = "\r\n"
    if with_body and "content-length" not in fields.names:
        fields = fields.without(("transfer-encoding",))
        lines = len(fields) + 3
        end = "Transfer-Encoding: chunked\r\n\r\n"
    raw = f"{head.method} {head.target} HTTP/1.1\r\n".encode("latin-1") + fields.encode() + end.encode()
    if raw.count(b"\n") != lines or raw.count(b"\r") != lines or raw.count(b" ", 0, raw.index(b"\r")) != 2:
        raise ValueError("the head of a request holds a line break or a space where none may be")
    return raw


class Upload:
    """The body of one request on its way out. `trailers` is asked for its trailer section once it has ended."""

    def __init__(
        self, head: RequestHead, body: AsyncIterator[bytes], trailers: Callable[[], Fields] | None = None
    ) -> None:
        self._trailers = trailers
        length = head.fields.get("content-length")
        self._left_bytes = None if length is None else int(length)
        self._body = body
        self.begun = False
        """A piece has been asked for: the body cannot be sent again."""

    async def run(self, write: Callable[[bytes], None], drain: Callable[[], Awaitable[None]]) -> None:
        """Send all of it. An error of the body's source comes out as it is."""
        self.begun = True
        async for piece in self._body:
            if not piece:
                continue
            if self._left_bytes is None:
                write(encode_chunk(piece))
            else:
                self._left_bytes -= len(piece)
                if self._left_bytes < 0:
                    raise ValueError("the body of a request is longer than its Content-Length")
                write(piece)
            await drain()
        if self._left_bytes is None:
            write(encode_last_chunk(None if self._trailers is None else self._trailers()))
        elif self._left_bytes:
            raise ValueError("the body of a request is shorter than its Content-Length")
