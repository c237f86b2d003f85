"""Checksums of bodies in files: one CRC-32 for each chunk, so that a part can be verified without the rest.

    body       0 ──────── 1 MiB ──────── 2 MiB ─── size
    checksums  [ 4 bytes ][ 4 bytes    ][ 4 bytes    ]     big-endian, kept in the index beside the size

CRC-32 finds damage, not forgery: whoever can write to the data directory is trusted. It costs a twentieth of what
sending the same bytes does.

Not here: files (`files.py`). Pure.
Units: bytes. A body of no bytes has no checksums.
"""

import zlib

CHUNK_BYTES = 1 << 20
"""What one checksum is of; part of the format. A chunk is read whole before its first byte is given out, so this is
also how large reads are: large enough for disks, small enough not to keep a client waiting."""

SUM_BYTES = 4


class Checksums:
    """Checksums of bytes that come in order, a piece at a time."""

    __slots__ = ("_crc", "_sums", "size")

    def __init__(self) -> None:
        self.size = 0
        self._crc = 0
        self._sums = bytearray()

    def add(self, data: bytes) -> None:
        """Take in the next bytes."""
        view = memoryview(data)
        while view:
            piece = view[: CHUNK_BYTES - self.size % CHUNK_BYTES]
            self._crc = zlib.crc32(piece, self._crc)
            self.size += len(piece)
            view = view[len(piece) :]
            if self.size % CHUNK_BYTES == 0:
                self._sums += _encoded(self._crc)
                self._crc = 0

    def so_far(self) -> bytes:
        """The checksums of what has come, as they are kept."""
        return bytes(self._sums) + (_encoded(self._crc) if self.size % CHUNK_BYTES else b"")


def chunks_of(size: int) -> int:
    """How many chunks a body of `size` bytes has."""
    return -(-size // CHUNK_BYTES)


def chunk_span(chunk: int, size: int) -> tuple[int, int]:
    """Where a chunk of a body of `size` bytes begins and ends."""
    return chunk * CHUNK_BYTES, min((chunk + 1) * CHUNK_BYTES, size)


def chunk_holds(data: bytes | memoryview, chunk: int, checksums: bytes) -> bool:
    """Whether these are the bytes of that chunk."""
    return _encoded(zlib.crc32(data)) == checksums[chunk * SUM_BYTES : (chunk + 1) * SUM_BYTES]


def _encoded(crc: int) -> bytes:
    return crc.to_bytes(SUM_BYTES, "big")
