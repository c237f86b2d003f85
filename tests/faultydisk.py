"""A disk that fails when told to, and loses with its power what was not synced, for a process under test.

    disk = FaultyDisk(tmp_path / "data", tmp_path / "scratch")
    process = subprocess.Popen(command, env=environment() | disk.environment)
    disk.fail(Fault.SYNC); ...; disk.heal()
    process.kill(); process.wait()
    disk.cut_power()                # what is below data is now what the disk had made durable

Works on Linux, by a library of its own that is loaded before the others (faultydisk.c: what it sees and what not);
needs a C compiler.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from enum import StrEnum
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("faultydisk.c")
_ATTRIBUTE = "user.shadow"


class Fault(StrEnum):
    """What the disk does."""

    NONE = "."
    SYNC = "s"
    """Syncs fail, and what they were to write is lost, though it can still be read."""
    WRITE = "w"
    FULL = "f"


class FaultyDisk:
    """The files below `root`, with their durable images below `scratch`. Skips the test where it cannot work."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self._root = root.resolve()
        self._images = scratch / "images"
        self._control = scratch / "control"
        self._images.mkdir(parents=True)
        self._control.write_text(Fault.NONE)
        self.environment = {
            "LD_PRELOAD": str(_library()),
            "FAULTY_DISK_ROOT": str(self._root),
            "FAULTY_DISK_SHADOW": str(self._images),
            "FAULTY_DISK_CONTROL": str(self._control),
        }

    def fail(self, fault: Fault) -> None:
        """From now on."""
        with self._control.open("r+") as file:  # the same bytes: the process has them mapped
            file.write(fault)

    def heal(self) -> None:
        """Work again."""
        self.fail(Fault.NONE)

    def cut_power(self) -> int:
        """Lose what was not synced, the process being dead; how many files were not what had been made durable."""
        return sum(map(self._cut_back, (path for path in self._root.rglob("*") if path.is_file())))

    def _cut_back(self, path: Path) -> bool:
        try:
            image = self._images / os.getxattr(path, _ATTRIBUTE).decode()
            durable = image.read_bytes()
        except OSError:
            durable = b""  # never synced: a name and nothing else
        if path.read_bytes() == durable:
            return False
        with path.open("r+b") as file:  # the same inode
            file.truncate(0)
            file.write(durable)
        return True


@functools.cache
def _library() -> Path:
    compiler = shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    library = Path(tempfile.mkdtemp(prefix="faulty-disk-")) / "faultydisk.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"the library cannot be made here: {made.stderr[:200]}")
    return library
