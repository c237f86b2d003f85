"""The witness: a number beside the purge log, to tell when an old copy of the log has been put in its place.

A few bytes that are overwritten after each commit of the purge log, without waiting for the disk: after a power
failure they may lag behind the log, never run ahead of it. So a log that is behind its witness is an older
copy, and purges that it acknowledged since are lost. Its name does not begin as the log's does: whoever puts back
log and store, in place and from a copy made since the last start, is told by nothing else.

Not here: what follows from it (`log.py`); copies of whole directories, witness and all (`identity.py`).
Format: 20 decimal digits and a line feed. Anything else counts as 0: it cannot be told from a crash.
"""

import contextlib
import os
from pathlib import Path

WITNESS_NAME = "witness"
"""Of its file, in the directory of the log."""

_DIGITS = 20


class Witness:
    """The highest apply index that one log has made durable."""

    def __init__(self, path: Path | None) -> None:
        """Opens the file, or makes it. None: a witness of nothing, for a log in memory. Raises OSError."""
        self._descriptor = -1
        if path is not None:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def seen(self) -> int:
        """The index last written; 0 if none can be read."""
        if self._descriptor < 0:
            return 0
        with contextlib.suppress(OSError):
            text = os.pread(self._descriptor, _DIGITS + 1, 0)
            if len(text) == _DIGITS + 1 and text[:-1].isdigit():
                return int(text)
        return 0

    def see(self, index: int) -> None:
        """Write `index`. A witness that cannot be written makes only old copies harder to tell."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.pwrite(self._descriptor, b"%0*d\n" % (_DIGITS, index), 0)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
