"""Methods that llhttp does not know: one message read by h11, told in httptools' words.

llhttp has a fixed list of methods; HTTP has not (RFC 9110 section 16.1). A message with another method is read
here from its first byte, then the connection goes back to llhttp with what came after it.
"""

from typing import Protocol

import h11
import httptools


class Callbacks(Protocol):
    """What a parser calls as it finds the pieces of a message."""

    def on_url(self, target: bytes) -> None: ...
    def on_header(self, name: bytes, value: bytes) -> None: ...
    def on_headers_complete(self) -> None: ...
    def on_body(self, data: bytes) -> None: ...
    def on_message_complete(self) -> None: ...


class UnknownMethodParser:
    """Reads one message. `done` says it is whole; `leftover` are the bytes after it."""

    def __init__(self, callbacks: Callbacks, head_bytes_max: int) -> None:
        self._callbacks = callbacks
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=head_bytes_max)
        self._method = b""
        self._version = "1.1"
        self.done = False
        self.leftover = b""

    def feed_data(self, data: bytes) -> None:
        """Take bytes; call back for what they complete. Raises `httptools.HttpParserError`."""
        try:
            self._connection.receive_data(data)
            while not self.done and self._step():
                pass
        except h11.RemoteProtocolError as error:
            raise httptools.HttpParserError(str(error)) from error

    def _step(self) -> bool:
        match self._connection.next_event():
            case h11.Request(method=method, target=target, headers=headers, http_version=version):
                self._method, self._version = method, version.decode("ascii")
                self._callbacks.on_url(target)
                for name, value in headers.raw_items():
                    self._callbacks.on_header(name, value)
                self._callbacks.on_headers_complete()
            case h11.Data(data=data):
                self._callbacks.on_body(bytes(data))
            case h11.EndOfMessage(headers=trailers):
                self.done = True
                self.leftover = self._connection.trailing_data[0]
                for name, value in trailers.raw_items():
                    self._callbacks.on_header(name, value)
                self._callbacks.on_message_complete()
            case _:
                return False
        return True

    def get_method(self) -> bytes:
        """The method, as httptools gives it."""
        return self._method

    def get_http_version(self) -> str:
        """The version, as httptools gives it."""
        return self._version

    def should_upgrade(self) -> bool:
        """A message of an unknown method never becomes a tunnel."""
        return False
