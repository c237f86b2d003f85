"""Reading: bytes from an origin in, one response out. No socket and no clock in here.

Three readers follow one another, none of them trusted to find the end by itself:

    head     found by its blank line, bounded in size, then parsed by llhttp (httptools) in one piece;
             what llhttp lets pass is refused by `http/gate.py`
    framing  decided by `http/framing.py` alone: llhttp knows neither HEAD nor the end of input, and takes the
             rest of a response with Upgrade for a tunnel
    body     counted (length), passed on (until close), or parsed by a second llhttp parser that is fed
             nothing but the chunks, so no field of the head can mislead it

      HEAD ──1xx──▶ HEAD        (interim responses, bounded in number)
      HEAD ──101──▶ SWITCHED    (only if asked for)
      HEAD ───────▶ COUNTED | CHUNKED | UNTIL_CLOSE ──▶ DONE

Source: RFC 9112 sections 2.2, 4, 6, 7, 8, 9.3. Bare LF is accepted in heads only, and only if `lenient`.
Invariant: once `complete`, nothing is added to `chunks`; bytes after the end set `surplus`, which forbids
reuse.
"""

import re
from enum import Enum, auto
from typing import Final, Literal

import httptools
import msgspec

from banish.errors import BadResponse, Truncated
from banish.http.fields import Fields
from banish.http.framing import Framing, FramingKind, response_framing
from banish.http.gate import check_response_head
from banish.http.messages import ResponseHead
from banish.origin.limits import Limits

_VERSIONS: Final[dict[bytes, Literal["1.0", "1.1"]]] = {b"HTTP/1.1 ": "1.1", b"HTTP/1.0 ": "1.0"}
_VERSION_BYTES: Final = 9
_END_OF_HEAD: Final = b"\r\n\r\n"
_LENIENT_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_CHUNKED_HEAD: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# llhttp refuses a repeated Content-Length even where we are told to allow equal ones. Under a name that it
# does not know it passes, and `response_framing` judges it under its own.
_CONTENT_LENGTH: Final = re.compile(rb"(?<=\n)content-length(?=:)", re.IGNORECASE)
_DISGUISE: Final = b"Content_Length"


class Phase(Enum):
    """What the next byte belongs to."""

    HEAD = auto()
    COUNTED = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()
    SWITCHED = auto()
    DONE = auto()


class ResponseReader:
    """Reads the response to one request.

    After each `feed`, look at `interims`, `head`, `chunks` (take what is there with `take`) and `complete`.
    """

    __slots__ = (
        "_buffer",
        "_chunked",
        "_left_bytes",
        "_lenient",
        "_limits",
        "_method",
        "_searched",
        "_seen_interims",
        "_switch_allowed",
        "chunks",
        "framing",
        "head",
        "interims",
        "persistent",
        "phase",
        "started",
        "surplus",
        "trailers",
    )

    def __init__(self, method: str, limits: Limits, *, lenient: bool = False, switch_allowed: bool = False) -> None:
        self._method = method
        self._limits = limits
        self._lenient = lenient
        self._switch_allowed = switch_allowed
        self._buffer: bytes | bytearray = b""
        self._searched = 0
        self._seen_interims = 0
        self._left_bytes = 0
        self._chunked: _Chunks | None = None
        self.phase = Phase.HEAD
        self.started = False
        """A byte has come."""
        self.interims: list[ResponseHead] = []
        self.head: ResponseHead | None = None
        self.framing: Framing | None = None
        self.chunks: list[bytes] = []
        self.trailers: Fields | None = None
        self.persistent = False
        """The connection may carry another exchange, as far as this response goes."""
        self.surplus = False

    def __repr__(self) -> str:
        return f"<ResponseReader to {self._method}: {self.phase.name}{', surplus' if self.surplus else ''}>"

    @property
    def complete(self) -> bool:
        """The response has ended."""
        return self.phase is Phase.DONE

    def feed(self, data: bytes) -> None:
        """Read what came. Raises `BadResponse`."""
        self.started = True
        phase = self.phase
        if phase is Phase.HEAD:
            self._feed_head(data)
        elif phase is Phase.COUNTED:
            self._feed_counted(data)
        elif phase is Phase.CHUNKED:
            self._feed_chunked(data)
        elif phase is Phase.DONE:
            self.surplus = True
        else:
            self.chunks.append(data)

    def feed_end(self, *, clean: bool) -> None:
        """The connection ended. `clean` says that the origin meant it (FIN; over TLS, close_notify)."""
        if self.phase in (Phase.UNTIL_CLOSE, Phase.SWITCHED) and clean:
            self.phase = Phase.DONE
        elif self.phase is Phase.HEAD:
            where = "in the head of its response" if self.started else "before it answered"
            raise Truncated(f"the origin closed the connection {where}", retryable=not self.started)
        elif self.phase is Phase.SWITCHED:
            raise Truncated("the origin broke the tunnel")
        elif self.phase is not Phase.DONE:
            raise Truncated("the origin closed the connection in the middle of the body")

    def take(self) -> bytes:
        """The body bytes read since the last call."""
        chunks = self.chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        return data

    # ── head ──

    def _feed_head(self, data: bytes) -> None:
        if not self._buffer:
            self._buffer = data
        else:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)
            self._buffer += data
        while self.phase is Phase.HEAD:
            end = self._find_end_of_head()
            if end is None:
                return
            raw, rest = bytes(self._buffer[:end]), bytes(self._buffer[end:])
            self._buffer, self._searched = b"", 0
            self._take_head(self._parse_head(raw))
            if self.phase is not Phase.HEAD:
                if rest:
                    self.feed(rest)
                return
            self._buffer = rest
            if not rest:
                return

    def _find_end_of_head(self) -> int | None:
        """Where the head in the buffer ends, if it does. Bounds the search, and what is kept for it."""
        buffer = self._buffer
        # A wrong protocol is told at once, not when the head limit or the wait has run out.
        prefix = bytes(buffer[:_VERSION_BYTES])
        if prefix not in _VERSIONS and not any(version.startswith(prefix) for version in _VERSIONS):
            raise BadResponse(f"not an HTTP/1.1 or HTTP/1.0 response: {prefix!r}")
        if self._lenient:
            match = _LENIENT_END_OF_HEAD.search(buffer, self._searched)
            end = match.end() if match else -1
        else:
            end = buffer.find(_END_OF_HEAD, self._searched)
            end = end + len(_END_OF_HEAD) if end >= 0 else -1
        if (end if end >= 0 else len(buffer)) > self._limits.head_bytes_max:
            raise BadResponse(f"the head of the response is larger than {self._limits.head_bytes_max} bytes")
        if end >= 0:
            return end
        if not self._lenient and (b"\n\n" in buffer[self._searched :] or b"\n\r\n" in buffer[self._searched :]):
            raise BadResponse("the head of the response ends in a bare LF")
        self._searched = max(0, len(buffer) - len(_END_OF_HEAD) + 1)
        return None

    def _parse_head(self, raw: bytes) -> ResponseHead:
        parts = _HeadParts(self._limits.fields_max)
        parser = httptools.HttpResponseParser(parts)
        if self._lenient:
            parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
            raw = _CONTENT_LENGTH.sub(_DISGUISE, raw)
        try:
            parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # raised after the head of what llhttp takes for an upgrade; ours to decide, in `_take_head`
        except httptools.HttpParserError as error:
            # A 101 without Upgrade stops it too, in another manner.
            if not (parts.complete and parser.get_status_code() == 101):
                reason = parts.fault or error
                raise BadResponse(f"the head of the response cannot be parsed: {reason}") from error
        if not parts.complete:
            raise BadResponse("the head of the response cannot be parsed: its end is in doubt")
        if self._lenient:
            parts.undisguise()
        head = ResponseHead(
            parser.get_status_code(),
            Fields.decode(parts.lines),
            parts.reason.decode("latin-1"),
            _VERSIONS[raw[:_VERSION_BYTES]],
        )
        check_response_head(head)
        return head

    def _take_head(self, head: ResponseHead) -> None:
        status = head.status
        if status >= 200:
            self._begin_body(head)
        elif status == 101:
            if not self._switch_allowed:
                raise BadResponse("the origin switched protocols unasked")
            self.head = head
            self.phase = Phase.SWITCHED
        elif status >= 100:
            self._seen_interims += 1
            if self._seen_interims > self._limits.interims_max:
                raise BadResponse(f"more than {self._limits.interims_max} interim responses")
            self.interims.append(head)
        else:
            raise BadResponse(f"no such status: {status}")

    def _begin_body(self, head: ResponseHead) -> None:
        framing = response_framing(self._method, head.status, head.version, head.fields, lenient=self._lenient)
        self.framing = framing
        self.persistent = framing.reusable and _persistent(head)
        self.head = _with_one_length(head) if self._lenient else head
        kind = framing.kind
        if kind is FramingKind.LENGTH and framing.length:
            self._left_bytes = framing.length
            self.phase = Phase.COUNTED
        elif kind is FramingKind.CHUNKED:
            self._chunked = _Chunks(self.chunks, self._limits)
            self.phase = Phase.CHUNKED
        elif kind is FramingKind.UNTIL_CLOSE:
            self.phase = Phase.UNTIL_CLOSE
        else:
            self.phase = Phase.DONE

    # ── body ──

    def _feed_counted(self, data: bytes) -> None:
        left = self._left_bytes - len(data)
        if left > 0:
            self._left_bytes = left
            self.chunks.append(data)
            return
        self.chunks.append(data if left == 0 else data[: self._left_bytes])
        self.surplus = left < 0
        self.phase = Phase.DONE

    def _feed_chunked(self, data: bytes) -> None:
        chunked = self._chunked
        assert chunked is not None
        chunked.feed(data)
        if chunked.complete:
            self.surplus = chunked.surplus
            if chunked.trailer_lines:
                self.trailers = Fields.decode(chunked.trailer_lines)
            self._chunked = None
            self.phase = Phase.DONE


def _persistent(head: ResponseHead) -> bool:
    """RFC 9112 section 9.3."""
    if "connection" not in head.fields.names:
        return head.version == "1.1"
    options = [option.lower() for option in head.fields.members("connection")]
    if "close" in options:
        return False
    return head.version == "1.1" or "keep-alive" in options


def _with_one_length(head: ResponseHead) -> ResponseHead:
    """Equal lengths become one before anyone else reads them (RFC 9112 section 6.3, item 5)."""
    values = head.fields.members("content-length")
    if len(values) < 2:
        return head
    return msgspec.structs.replace(head, fields=head.fields.with_field("Content-Length", values[0]))


class _HeadParts:
    """What llhttp finds in a head, in the names that httptools calls."""

    __slots__ = ("_fields_max", "complete", "fault", "lines", "reason")

    def __init__(self, fields_max: int) -> None:
        self._fields_max = fields_max
        self.lines: list[tuple[bytes, bytes]] = []
        self.reason = b""
        self.complete = False
        self.fault: str | None = None

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.lines.append((name, value))
        if len(self.lines) > self._fields_max:
            self.fault = f"more than {self._fields_max} field lines"
            raise BadResponse(self.fault)

    def on_headers_complete(self) -> None:
        self.complete = True

    def undisguise(self) -> None:
        """Give Content-Length its name back."""
        self.lines = [(b"Content-Length" if name == _DISGUISE else name, value) for name, value in self.lines]


class _Chunks:
    """A chunked body (RFC 9112 section 7.1), read by a parser that has seen no other field.

    httptools gives no position, so the end is told by its callbacks: a second message begun is surplus.
    Bytes that bring neither body nor an end (chunk extensions, trailers) are counted and bounded.
    """

    __slots__ = (
        "_limits",
        "_overhead_bytes",
        "_parser",
        "complete",
        "on_body",
        "out",
        "surplus",
        "trailer_lines",
    )

    def __init__(self, out: list[bytes], limits: Limits) -> None:
        self._limits = limits
        self._overhead_bytes = 0
        self.out = out
        self.on_body = out.append
        self.complete = False
        self.surplus = False
        self.trailer_lines: list[tuple[bytes, bytes]] = []
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._parser.feed_data(_CHUNKED_HEAD)
        self.trailer_lines.clear()

    def feed(self, data: bytes) -> None:
        parser, before = self._parser, len(self.out)
        assert parser is not None
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.complete:
                reason = error.__context__ if isinstance(error.__context__, BadResponse) else error
                raise BadResponse(f"the chunked body cannot be parsed: {reason}") from error
            self.surplus = True
        if self.complete:
            self._parser = None  # it refers back to here: without this, a cycle for the collector
            return
        if len(self.out) > before:
            self._overhead_bytes = 0
            return
        self._overhead_bytes += len(data)
        if self._overhead_bytes > self._limits.head_bytes_max:
            raise BadResponse(f"more than {self._limits.head_bytes_max} bytes of chunk extensions or trailers")

    def on_message_begin(self) -> None:
        if self.complete:
            raise BadResponse("bytes after the end of the response")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.trailer_lines.append((name, value))
        if len(self.trailer_lines) > self._limits.fields_max:
            raise BadResponse(f"more than {self._limits.fields_max} trailer fields")

    def on_message_complete(self) -> None:
        self.complete = True
