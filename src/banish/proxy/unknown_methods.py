"""Methods that llhttp does not know: read by llhttp all the same, under a name that it knows.

llhttp has a fixed list of methods; HTTP has not (RFC 9110 section 16.1). Of a message with another method, the
method is taken off here and POST fed in its place, which means nothing to framing: with neither length nor
coding there is no body (RFC 9112 section 6.3). So every message is held to the same strictness, whatever its
method, and what comes behind it on the connection is read by the same parser.

Not here: what becomes of the request (`pipeline.py`); how much may be fed (`connection.py`).
Invariant: the callbacks and exceptions are those of httptools, offsets included.
"""

import re
from collections.abc import Callable
from typing import Protocol

import httptools

_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]*")
_DISGUISE = b"POST "


class Callbacks(Protocol):
    """What a parser calls as it finds the pieces of a message."""

    def on_message_begin(self) -> None: ...
    def on_url(self, target: bytes) -> None: ...
    def on_header(self, name: bytes, value: bytes) -> None: ...
    def on_headers_complete(self) -> None: ...
    def on_body(self, data: bytes) -> None: ...
    def on_message_complete(self) -> None: ...


class UnknownMethodParser:
    """A request parser whose first message may have any method. To be fed from the message's first byte."""

    def __init__(self, callbacks: Callbacks) -> None:
        self._parser = httptools.HttpRequestParser(_Relay(callbacks, self._end_of_message))
        self._method: bytes | None = b""
        self._fed = False

    def feed_data(self, data: bytes) -> None:
        """Take bytes; call back for what they complete. Raises what `httptools.HttpRequestParser` raises."""
        if self._fed:
            self._parser.feed_data(data)
            return
        assert self._method is not None
        begun = (self._method + data).lstrip(b"\r\n")
        method, space, rest = begun.partition(b" ")
        if _METHOD.fullmatch(method) is None or (space and not method):
            raise httptools.HttpParserError("the method is not a token")
        self._method = method
        if not space:
            return
        self._fed = True
        try:
            self._parser.feed_data(_DISGUISE + rest)
        except httptools.HttpParserUpgrade as upgrade:
            offset = upgrade.args[0] + len(data) - len(_DISGUISE) - len(rest)
            raise httptools.HttpParserUpgrade(offset) from upgrade

    def _end_of_message(self) -> None:
        self._method = None

    def get_method(self) -> bytes:
        """The method of the message at hand, as it came."""
        method: bytes = self._parser.get_method() if self._method is None else self._method
        return method

    def get_http_version(self) -> str:
        """The version, as httptools gives it."""
        version: str = self._parser.get_http_version()
        return version

    def should_upgrade(self) -> bool:
        """Whether llhttp will stop at the end of this message, taking the rest for another protocol."""
        upgrade: bool = self._parser.should_upgrade()
        return upgrade


class _Relay:
    """Hands the callbacks on, and tells when the first message is over."""

    def __init__(self, callbacks: Callbacks, at_end: Callable[[], None]) -> None:
        self.on_message_begin = callbacks.on_message_begin
        self.on_url = callbacks.on_url
        self.on_header = callbacks.on_header
        self.on_headers_complete = callbacks.on_headers_complete
        self.on_body = callbacks.on_body
        self._on_message_complete = callbacks.on_message_complete
        self._at_end = at_end

    def on_message_complete(self) -> None:
        self._at_end()
        self._on_message_complete()
