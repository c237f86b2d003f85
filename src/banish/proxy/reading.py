"""Reading requests: from the bytes of one connection to requests that may be believed.

    piece ──▶ llhttp ──▶ head whole ──▶ limits, gate, framing, target ──▶ owner.take(request)
                │  └──▶ body ──▶ the request's RequestBody
                ├─ a method that llhttp does not know ──▶ a parser that takes any
                └─ Upgrade ─┬─ websocket: what follows is for the tunnel, or for a fresh parser if none opens
                            └─ any other: the message is framed again, as if it had not asked

httptools bounds nothing, so bytes that are not body are counted before it sees them. A fault in a message leaves the
messages before it in the same piece alone.

Not here: the transport, deadlines and answers (`connection.py`); the rules of gate and framing (`http/`).
Source: RFC 9112 sections 2.2, 3 and 6; RFC 9110 section 7.8.
"""

from typing import Protocol

import httptools

from banish.errors import ClientError, LimitExceeded
from banish.http.chunks import passable_trailers
from banish.http.fields import Fields
from banish.http.framing import EMPTY, Framing, FramingKind, request_framing
from banish.http.gate import check_request_head
from banish.http.messages import RequestHead
from banish.http.targets import request_target
from banish.proxy.exchange import ConnectionInfo, Request, RequestBody
from banish.proxy.front import Front
from banish.proxy.unknown_methods import UnknownMethodParser

PIECE_BYTES = 16384
"""The parser is fed in pieces of this size, so that little is parsed ahead of what is answered."""
FRAMING_PER_BODY_BYTES = 16
"""Bytes of framing that a byte of body may cost: a tiny chunk costs many, a large one few."""

_RTSP_METHOD = "Invalid method for HTTP"
"""How llhttp speaks of methods that it knows from other protocols."""
_FRAMING_NAMES = (b"content-length", b"transfer-encoding")

Parser = httptools.HttpRequestParser | UnknownMethodParser


class Owner(Protocol):
    """Who the requests are read for."""

    info: ConnectionInfo

    def take(self, request: Request) -> None:
        """A request's head is whole and has been accepted."""
        ...

    def new_body(self, head: RequestHead, length: int | None) -> RequestBody:
        """A body that can hold up the client; `length` is None if only its end will tell."""
        ...

    def body_moved(self) -> None:
        """Bytes of the body being received have arrived, or its end has."""
        ...


class RequestReader:
    """Reads the requests of one connection.

    `began` says that a message is under way, `body` is the one being received, and `switching` that a websocket
    has been asked for: what follows is not HTTP, unless the origin says no.
    """

    def __init__(self, front: Front, owner: Owner) -> None:
        self._front = front
        self._owner = owner
        self._parser: Parser | None = None
        self._begin_message()

    def _begin_message(self) -> None:
        self.began = False
        self.switching = False
        self.body: RequestBody | None = None
        self._target = b""
        self._lines: list[tuple[bytes, bytes]] = []
        self._trailers: list[tuple[bytes, bytes]] | None = None
        self._opening: bytes | None = None
        self._beside_body = 0
        self._reframing = self._reframed_whole = False
        self._fault: ClientError | None = None

    def feed(self, piece: bytes) -> bytes:
        """Take a piece, of at most `PIECE_BYTES`. Returns what is to be fed next, or is the tunnel's if `switching`.

        Raises ClientError if the message at hand must be refused; then nothing more may be fed.
        """
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        if not self.began:
            self._opening = piece
        elif not self._lines and self._opening is not None:
            self._opening += piece
        self._beside_body += len(piece)
        if self._beside_body > self._front.config.limits.request_head_bytes + PIECE_BYTES:
            raise self._too_large("request_head_bytes", "the request head is too large")
        again = self._parse(self._parser, piece)
        if self._fault is not None:
            raise self._fault
        return again

    def _parse(self, parser: Parser, piece: bytes) -> bytes:
        try:
            parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            if self._reframing:
                self._frame_again()
            return piece[upgrade.args[0] :]
        except httptools.HttpParserInvalidMethodError:
            return self._with_any_method()
        except httptools.HttpParserError as error:
            if str(error).startswith(_RTSP_METHOD):
                return self._with_any_method()
            if self._fault is None:
                self._fault = ClientError(400, f"the message cannot be parsed: {error}")
        return b""

    def resume(self) -> None:
        """The websocket was refused: what follows is HTTP again."""
        self._parser = None
        self._begin_message()

    def _with_any_method(self) -> bytes:
        """Give the message to a parser that takes any method, if its first byte is still known."""
        opening = self._opening
        if opening is None:
            self._fault = ClientError(501, "the method is not known, and came behind another request")
            return b""
        self._parser = UnknownMethodParser(self)
        self._begin_message()
        self.began = True
        return opening

    def _frame_again(self) -> None:
        """Go on with a fresh parser that never saw the Upgrade: llhttp would read the body as a second request."""
        lines = [b"%b: %b\r\n" % line for line in self._lines if line[0].lower() in _FRAMING_NAMES]
        self._parser = httptools.HttpRequestParser(self)
        self._reframed_whole = False
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % (b"".join(lines) or b"Content-Length: 0\r\n"))
        self._reframing = False
        if self._reframed_whole:
            self.on_message_complete()

    # --- what parsers call

    def on_message_begin(self) -> None:
        self.began = True

    def on_url(self, target: bytes) -> None:
        if not self._reframing:
            self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._reframing:
            (self._lines if self._trailers is None else self._trailers).append((name, value))

    def on_headers_complete(self) -> None:
        if self._reframing or self._fault is not None or self._parser is None:
            return
        try:
            self._accept(self._parser)
        except ClientError as error:
            self._fault = error

    def on_body(self, data: bytes) -> None:
        self._beside_body = max(0, self._beside_body - (1 + FRAMING_PER_BODY_BYTES) * len(data))
        if self.body is None or self._fault is not None:
            return
        self.body.feed(data)
        self._owner.body_moved()
        if self.body.size > self._front.config.limits.request_body_bytes:
            self._fault = self._too_large("request_body_bytes", "the request body is too large", status=413)

    def on_message_complete(self) -> None:
        if self._reframing:
            self._reframed_whole = True
            return
        if self._fault is not None:
            return
        if self.body is not None:
            self.body.end(passable_trailers(Fields.decode(self._trailers or ())))
            self._owner.body_moved()
        switching = self.switching
        self._begin_message()
        self.switching = switching

    # --- a head is whole

    def _accept(self, parser: Parser) -> None:
        """Check the head, frame the body, hand the request over. Raises ClientError."""
        head_bytes = self._check_size()
        version = parser.get_http_version()
        head = RequestHead(
            parser.get_method().decode("latin-1"),
            self._target.decode("latin-1"),
            Fields.decode(self._lines),
            "1.0" if version == "1.0" else "1.1",
        )
        check_request_head(head, version)
        framing = request_framing(head.method, head.version, head.fields)
        if framing.length > self._front.config.limits.request_body_bytes:
            raise self._too_large("request_body_bytes", "the request body is too large", status=413)
        info, front = self._owner.info, self._front
        target = request_target(head.method, head.target, head.fields.get("host"), info.scheme, default_host=info.local)
        self.switching = parser.should_upgrade() and _asks_for_websocket(head, framing)
        self._reframing = parser.should_upgrade() and not self.switching
        request = Request(
            head, target, info,
            arrived_at=front.clock.now(), started=front.clock.monotonic(), arrived_index=front.stamps.index,
            upgrade=self.switching, raw_target=self._target, head_bytes=head_bytes,
            raw_host=next((value for name, value in self._lines if name.lower() == b"host"), b""),
        )  # fmt: skip
        if not _is_empty(head, framing):
            length = framing.length if framing.kind is FramingKind.LENGTH else None
            request.body = self.body = self._owner.new_body(head, length)
            self._trailers = []
        self._beside_body = 0
        self._owner.take(request)

    def _check_size(self) -> int:
        """The head's size in bytes; raises LimitExceeded if it is past a limit."""
        limits = self._front.config.limits
        head_bytes = len(self._target) + sum([len(name) + len(value) + 4 for name, value in self._lines])
        if head_bytes > limits.request_head_bytes:
            raise self._too_large("request_head_bytes", "the request head is too large")
        if len(self._lines) > limits.request_fields:
            raise self._too_large("request_fields", "the request has too many fields")
        if len(self._target) > limits.request_target_bytes:
            raise self._too_large("request_target_bytes", "the request target is too long", status=414)
        return head_bytes

    def _too_large(self, limit: str, reason: str, status: int = 431) -> LimitExceeded:
        self._front.limits_reached.add(limit)
        return LimitExceeded(status, limit, reason)


def _asks_for_websocket(head: RequestHead, framing: Framing) -> bool:
    asked = (head.fields.get("upgrade") or "").lower() == "websocket"
    return asked and head.method == "GET" and head.version == "1.1" and framing.kind is FramingKind.NONE


def _is_empty(head: RequestHead, framing: Framing) -> bool:
    """Whether there is no body. A length of 0 is one where a body has a meaning."""
    return framing.kind is FramingKind.NONE or (framing == EMPTY and head.method in ("GET", "HEAD"))
