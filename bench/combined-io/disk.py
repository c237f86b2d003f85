"""The disk below a file: forget what is cached of it, and count what is asked of the device."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

SECTOR_BYTES = 512


class DeviceReads(NamedTuple):
    """Reads that a device has carried out, as the kernel counts them (Documentation/block/stat.rst)."""

    requests: int
    n_bytes: int

    def since(self, before: "DeviceReads") -> "DeviceReads":
        """Those after an earlier look."""
        return DeviceReads(self.requests - before.requests, self.n_bytes - before.n_bytes)


def device_reads(path: Path) -> DeviceReads:
    """What the device below a path has read so far; nothing if it keeps no count."""
    device = os.stat(path).st_dev
    figures = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    if not figures.exists():
        return DeviceReads(0, 0)
    requests, _, sectors, *_ = map(int, figures.read_text().split())
    return DeviceReads(requests, sectors * SECTOR_BYTES)


def forget(paths: Iterable[Path]) -> None:
    """Have the page cache let go of these files."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # pages not written yet would stay
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
