"""Stored bodies in files: however reads, spans and other readers follow one another, each gets its range and no more;
a damaged chunk is never given out, by either way."""

import asyncio
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from banish.errors import StoreError
from banish.store import readers
from banish.store.bodies import Body
from banish.store.checksums import CHUNK_BYTES
from banish.store.files import BodyFiles
from banish.store.readers import FileReader
from banish.tables import Accounts

SIZE = 3 * CHUNK_BYTES + 12_345
WHOLE = random.Random(8).randbytes(SIZE)

offsets = st.one_of(
    st.integers(0, SIZE + 10), st.sampled_from([at * CHUNK_BYTES + by for at in (1, 2, 3) for by in (-1, 0, 1)])
)
spans = st.tuples(offsets, st.one_of(st.none(), offsets))
sizes = st.one_of(st.integers(1, 2 * CHUNK_BYTES), st.just(CHUNK_BYTES))
steps = st.lists(st.tuples(st.sampled_from(["read", "nowait", "span", "ready", "let others"]), sizes), max_size=30)
plans = st.lists(st.tuples(spans, steps), min_size=1, max_size=3)


async def follow(reader: FileReader, plan: list[tuple[str, int]]) -> bytes:
    """What a reader gets by these steps, and then by reading to its end."""
    got = b""
    for step, size in plan:
        if step == "read":
            got += await reader.read(size)
        elif step == "nowait":
            got += reader.read_nowait(size) or b""
        elif step == "ready":
            await reader.ready()
        elif step == "let others":
            await asyncio.sleep(0)
        elif (span := await reader.span()) is not None:
            part = os.pread(span.descriptor, min(size, span.size), span.offset)
            assert span.offset == reader.offset
            reader.sent(len(part))
            got += part
    while chunk := await reader.read():
        got += chunk
    return got


@settings(max_examples=60, deadline=None)
@given(plans, st.one_of(st.none(), st.integers(0, SIZE - 1)), st.sampled_from([0, 2, 32]), st.booleans())
def test_each_reader_gets_exactly_its_bytes(
    readings: list[tuple[tuple[int, int | None], list[tuple[str, int]]]],
    flipped: int | None,
    runs_max: int,
    verified: bool,
) -> None:
    async def play(body: Body, hurt: Callable[[], None]) -> None:
        async def read(span: tuple[int, int | None], plan: list[tuple[str, int]]) -> None:
            with body.reader(*span) as reader:
                assert isinstance(reader, FileReader)
                start = reader.offset
                try:
                    assert await follow(reader, plan) == WHOLE[slice(*span)]
                except StoreError:
                    assert flipped is not None
                    assert reader.offset <= max(start, flipped // CHUNK_BYTES * CHUNK_BYTES)

        if verified:
            await asyncio.gather(*[read(span, plan) for span, plan in readings])
        hurt()
        await asyncio.gather(*[read(span, plan) for span, plan in readings])

    with tempfile.TemporaryDirectory() as directory, patch.object(readers, "HELD_RUNS_MAX", runs_max):
        files = BodyFiles(Path(directory), accounts=Accounts())
        file = files.keep(1, 1, Body.complete(WHOLE))

        def hurt() -> None:
            if flipped is not None and not verified:
                with files.path(1, 1).open("r+b") as raw:
                    raw.seek(flipped)
                    raw.write(bytes([WHOLE[flipped] ^ 1]))

        asyncio.run(asyncio.wait_for(play(Body.stored(file), hurt), 20))
        files.close()
        assert len(files.runs) == 0
