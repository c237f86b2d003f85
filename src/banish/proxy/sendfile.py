"""Having the kernel send a file on a connection that belongs to a transport of the event loop.

    transport's buffer ── once empty ──▶ the kernel's buffer ◀── os.sendfile ── file, verified and in the page cache

A duplicate of the connection's descriptor is written to, for two reasons. The transport may close its own at any time,
and the number may be another client's by then. And event loops refuse to watch a descriptor that a transport has
(uvloop has no sendfile of its own either). The connection stays open until the duplicate is closed as well, so that
must happen on every path.

Not here: which bytes (`store/readers.py`), deadlines (`connection.py`). Over TLS there is nothing to be done like this.
"""

import asyncio
import errno
import os
from typing import Self

from banish.store.readers import READ_BYTES, BodyReader, FileReader, Span

SEND_BYTES = 1 << 20
"""What the kernel is given at once: 0.2 ms of work on loopback, then other clients get their turn. Smaller pieces cost
more for each byte (bench/combined-io): they wake the receiver more often. nginx takes 2 MiB."""

_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
"""The file system, or the socket, is one that the kernel cannot do this for."""


class FileSender:
    """One file on its way to one client. For a `with` block: the duplicate is closed at its end."""

    __slots__ = ("_descriptor", "_loop", "_reader", "_span", "_unsupported", "sent")

    def __init__(self, client: int, reader: FileReader) -> None:
        self.sent = 0
        self._reader = reader
        self._span: Span | None = None
        self._unsupported = False
        self._loop = asyncio.get_running_loop()
        self._descriptor = os.dup(client)

    @classmethod
    def of(cls, transport: asyncio.Transport, reader: BodyReader) -> "FileSender | None":
        """A sender, if the kernel can do this alone and there is enough to be sent."""
        client = transport.get_extra_info("socket")
        if (
            not isinstance(reader, FileReader) or reader.left <= READ_BYTES or not hasattr(os, "sendfile")
            or client is None or transport.get_extra_info("sslcontext") is not None
        ):  # fmt: skip
            return None
        try:
            return cls(client.fileno(), reader)
        except OSError:  # no descriptor is to be had
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    async def prepare(self) -> bool:
        """See that the next bytes can be sent without waiting for the disk; False if the kernel has no more to send.

        Raises StoreError.
        """
        self._span = None if self._unsupported else await self._reader.span()
        return self._span is not None

    def send(self) -> bool:
        """Have the kernel take some bytes; False if it cannot now. The transport must have none left.

        Raises ConnectionError if the client is gone, StoreError if the file cannot be read.
        """
        assert self._span is not None, "bytes are prepared before they are sent"
        descriptor, offset, size = self._span
        try:
            sent = os.sendfile(self._descriptor, descriptor, offset, min(size, SEND_BYTES))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                self._unsupported = True
                return False
            if error.errno == errno.EIO:
                raise self._reader.failed() from error
            raise ConnectionResetError(*error.args) from error
        self._reader.sent(sent)
        self.sent += sent
        return True

    async def writable(self) -> None:
        """Wait until the kernel takes bytes again, or the client is gone."""
        waiter = self._loop.create_future()
        self._loop.add_writer(self._descriptor, _wake, waiter)
        try:
            await waiter
        finally:
            self._loop.remove_writer(self._descriptor)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
