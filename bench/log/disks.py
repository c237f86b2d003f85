"""Where the logs of the benchmark lie: a directory of this machine's disk, and file systems of their own.

The latter are made in an image each, in that same directory, and mounted through a loop device that writes past
the page cache (direct I/O). That needs root and mkfs; what cannot be made is left out, and said.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

IMAGE_BYTES: Final = 1 << 30
KINDS: Final = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}


@contextlib.contextmanager
def disks(base: Path, *, loops: bool) -> Iterator[tuple[dict[str, Path], list[str]]]:
    """Name → directory, and what is missing and why."""
    with contextlib.ExitStack() as stack:
        found = {f"{_kind_of(base)}, this disk": base}
        missing: list[str] = []
        for kind in KINDS if loops else ():
            try:
                found[f"{kind}, loop device"] = stack.enter_context(_mounted(kind, base))
            except (OSError, subprocess.CalledProcessError) as error:
                said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
                missing.append(f"{kind}, loop device: {said}")
        yield found, missing


@contextlib.contextmanager
def _mounted(kind: str, base: Path) -> Iterator[Path]:
    program, *options = KINDS[kind]
    if os.geteuid() != 0:
        raise PermissionError("mounting needs root")
    if shutil.which(program) is None:
        raise FileNotFoundError(f"{program} is not installed")
    image, place = base / f"{kind}.image", base / kind
    place.mkdir()
    with image.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, IMAGE_BYTES)
    _run([program, *options, str(image)])
    device = _run(["losetup", "--find", "--show", "--direct-io=on", str(image)]).strip()
    try:
        _run(["mount", "-t", kind, device, str(place)])
        try:
            yield place
        finally:
            _run(["umount", str(place)])
    finally:
        _run(["losetup", "--detach", device])
        image.unlink()


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _kind_of(path: Path) -> str:
    """The file system that a directory is on."""
    try:
        return _run(["stat", "--file-system", "--format=%T", str(path)]).strip().replace("ext2/ext3", "ext4")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
