import zlib

import pytest

from banish.store import checksums
from banish.store.checksums import CHUNK_BYTES, Checksums, chunk_holds, chunk_span, chunks_of

WHOLE = bytes(range(256)) * (2 * CHUNK_BYTES // 256) + b"rest"


@pytest.mark.parametrize("piece", [1000, 65536, CHUNK_BYTES, CHUNK_BYTES + 1, len(WHOLE)])
def test_checksums_do_not_depend_on_how_the_bytes_came(piece: int) -> None:
    sums = Checksums()
    for at in range(0, len(WHOLE), piece):
        sums.add(WHOLE[at : at + piece])
    parts = [WHOLE[:CHUNK_BYTES], WHOLE[CHUNK_BYTES:-4], b"rest"]
    assert sums.so_far() == b"".join(zlib.crc32(part).to_bytes(4, "big") for part in parts)
    assert sums.size == len(WHOLE)


def test_a_body_that_ends_with_a_chunk_has_no_checksum_of_nothing() -> None:
    sums = Checksums()
    assert sums.so_far() == b""
    sums.add(WHOLE[:CHUNK_BYTES])
    assert len(sums.so_far()) == checksums.SUM_BYTES


@pytest.mark.parametrize(
    ("size", "chunks"), [(0, 0), (1, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2), (2 * CHUNK_BYTES, 2)]
)
def test_chunks_cover_the_body(size: int, chunks: int) -> None:
    assert chunks_of(size) == chunks
    spans = [chunk_span(chunk, size) for chunk in range(chunks)]
    edges = [0, *[end for _, end in spans]]
    assert [start for start, _ in spans] == edges[:-1]
    assert edges[-1] == size


def test_a_chunk_is_told_from_any_other() -> None:
    sums = Checksums()
    sums.add(WHOLE)
    kept = sums.so_far()
    for chunk in range(3):
        data = WHOLE[slice(*chunk_span(chunk, len(WHOLE)))]
        assert chunk_holds(data, chunk, kept)
        assert not chunk_holds(data[:-1] + b"!", chunk, kept)
        assert not chunk_holds(data[:-1], chunk, kept)
        assert not chunk_holds(data, chunk, kept[: chunk * 4])  # a row that lost some of them
