"""Ballast: disk space that is held so that it can be given up when the disk is full.

Not here: who needs the room then (`log.py`).
Invariant: the space is really taken, not a hole in a sparse file.
"""

import contextlib
import os
from pathlib import Path

BALLAST_BYTES = 8 * 1024 * 1024
"""Room for about a thousand purges of a hundred targets each."""

_FREE_FACTOR = 4
"""Ballast is taken only while so many times its size is free: not from under those who fill the disk."""


class Ballast:
    """A file that is nothing but its size. None: no ballast, for a log in memory."""

    def __init__(self, path: Path | None, size_bytes: int = BALLAST_BYTES) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self.held = False

    def take(self) -> None:
        """Take the space, if there is enough. Does nothing if it is held."""
        if self._path is None or self.held:
            return
        with contextlib.suppress(OSError):
            disk = os.statvfs(self._path.parent)
            if disk.f_bavail * disk.f_frsize < _FREE_FACTOR * self._size_bytes and not self._there():
                return
            self._fill(self._path)
            self.held = True

    def _there(self) -> bool:
        return self._path is not None and self._path.exists() and self._path.stat().st_size == self._size_bytes

    def _fill(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, self._size_bytes)
            else:
                os.pwrite(descriptor, bytes(self._size_bytes), 0)
        except OSError:
            os.ftruncate(descriptor, 0)
            raise
        finally:
            os.close(descriptor)

    def give_up(self) -> bool:
        """Let go of the space; whether there was any."""
        if self._path is None or not self.held:
            return False
        self.held = False
        with contextlib.suppress(OSError):
            self._path.unlink()
            return True
        return False
