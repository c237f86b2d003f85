"""Reading alone: one file from its first byte to its last, in pieces of several sizes, by one thread.

No edge, no network, no checksums: what the pieces cost by themselves.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import disk

PAGE_BYTES: Final = 4096
RUN_BYTES: Final = 1 << 20


class Reading(NamedTuple):
    """One pass over the file; figures are per MiB."""

    cpu_us: float
    wall_us: float
    requests: float
    """What was asked of the device."""
    request_kib: float
    """Size of one of those."""


def in_pieces(n_bytes: int, *, advice: int = os.POSIX_FADV_NORMAL) -> Callable[[int, int], None]:
    """Read a file by its descriptor and size in pieces of so many bytes, one after the other."""

    def read(descriptor: int, size: int) -> None:
        os.posix_fadvise(descriptor, 0, 0, advice)
        for offset in range(0, size, n_bytes):
            os.pread(descriptor, n_bytes, offset)

    return read


WAYS: Final[dict[str, Callable[[int, int], None]]] = {
    "4 KiB, no read-ahead": in_pieces(PAGE_BYTES, advice=os.POSIX_FADV_RANDOM),
    "4 KiB, the kernel reads ahead": in_pieces(PAGE_BYTES),
    "64 KiB": in_pieces(16 * PAGE_BYTES),
    "1 MiB": in_pieces(RUN_BYTES),
}


def measure(path: Path, way: str, *, cold: bool) -> Reading:
    """One pass over the file."""
    size = path.stat().st_size
    if cold:
        disk.forget([path])
    descriptor = os.open(path, os.O_RDONLY)
    before, cpu, wall = disk.device_reads(path), time.thread_time(), time.perf_counter()
    WAYS[way](descriptor, size)
    wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
    reads = disk.device_reads(path).since(before)
    os.close(descriptor)
    return reading(size, cpu, wall, reads)


def reading(n_bytes: int, cpu_s: float, wall_s: float, reads: disk.DeviceReads) -> Reading:
    """Figures of a pass, per MiB."""
    mib = n_bytes / (1 << 20)
    each = reads.n_bytes / reads.requests / 1024 if reads.requests else 0.0
    return Reading(cpu_s * 1e6 / mib, wall_s * 1e6 / mib, reads.requests / mib, each)
