"""Disks that a data directory can be on, and ways to take the power from them.

    PlainDisk       a directory: a killed process leaves all that it wrote
    MountedDisk     a file system of its own on a loop device, small if asked to be; its power can be cut while files
                    are being written: `FS_IOC_SHUTDOWN` without flushing its journal, then mounted anew. Needs root
    ForgetfulDisk   a directory whose every file goes back to its last sync: harsher than file systems are (all of
                    what was not synced goes, none of it stays), and needs no root

Not here: disks that fail while they are used (`tests/faultydisk.py`, by way of ForgetfulDisk).
"""

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tests.faultydisk import FaultyDisk

_SHUTDOWN, _WITHOUT_FLUSH = 0x8004587D, 2
_MEMORY = Path("/dev/shm")


class Unavailable(Exception):
    """This disk cannot be had here."""


class PlainDisk:
    """A directory."""

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}
        self.scratch = Path(tempfile.mkdtemp(prefix="crash-"))
        """Beside the disk, for whatever is not on it."""
        self.data = self.scratch / "data"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        shutil.rmtree(self.scratch)

    def cut(self) -> None:
        """The power goes, while the process may still be there."""

    def restore(self) -> None:
        """The power is back, and the process is no more."""


class ForgetfulDisk(PlainDisk):
    """A directory that goes back to what was synced."""

    def __init__(self) -> None:
        super().__init__()
        self.data.mkdir()
        self.faulty = FaultyDisk(self.data, self.scratch)
        self.environment = self.faulty.environment

    def restore(self) -> None:
        self.faulty.cut_power()


class MountedDisk(PlainDisk):
    """A file system of its own. Raises Unavailable where none may be mounted."""

    def __init__(self, kind: str = "ext4", size_bytes: int = 384 << 20) -> None:
        super().__init__()
        self._kind = kind
        self.place = self.scratch / "mounted"
        self.place.mkdir()
        self.data = self.place / "data"
        directory = _MEMORY if _MEMORY.is_dir() else self.scratch
        descriptor, name = tempfile.mkstemp(prefix="crash-image-", dir=directory)
        os.truncate(descriptor, size_bytes)
        os.close(descriptor)
        self._image = Path(name)
        self.filler = self.place / "filler"
        self._made = False

    def __enter__(self) -> Self:
        make = shutil.which(f"mkfs.{self._kind}", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        try:
            if os.geteuid() != 0 or make is None:
                raise Unavailable(f"mounting {self._kind} needs root and mkfs.{self._kind}")
            options = ["-q", "-m", "0"] if self._kind == "ext4" else ["-q"]
            subprocess.run([make, *options, str(self._image)], check=True, capture_output=True)
            self._mount()
        except (Unavailable, subprocess.CalledProcessError) as error:
            self.__exit__()
            raise Unavailable(str(error)) from error
        return self

    def __exit__(self, *failure: object) -> None:
        self._unmount(check=False)
        self._image.unlink()
        super().__exit__()

    def _mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self._image, self.place], check=True, capture_output=True)
        self._made = True

    def _unmount(self, *, check: bool) -> None:
        if self._made:
            subprocess.run(["umount", self.place], check=check)
            self._made = False

    def cut(self) -> None:
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSH))
        finally:
            os.close(descriptor)

    def restore(self) -> None:
        self._unmount(check=True)
        self._mount()

    def fill(self) -> None:
        """Take all the space that is left."""
        with contextlib.suppress(OSError), self.filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 512):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def free(self) -> None:
        """Give it back."""
        self.filler.unlink(missing_ok=True)
