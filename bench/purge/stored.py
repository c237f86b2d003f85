"""What is stored: the objects of `bench/hit`, 1 KiB each, under tags that ten, a thousand and 100 000 of them share.

Filled in-process, through the disk store that the proxy writes to, since a million fetches would take long. A directory
that was filled is served by an edge like any other: keys, rows and bodies are those that it would have written.

Run: python stored.py DIRECTORY COUNT fills one.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from banish.caching.stored import Metadata
from banish.edge.config import Config, load
from banish.http.fields import Fields
from banish.proxy.serve import Edge
from banish.store.bodies import Body
from banish.store.diskwrites import DiskOutcome
from banish.store.records import StoredResponse
from bench.hit import objects

SIZE: Final = objects.SIZES[0]
SHARES: Final = (10, 1000, 100_000)
"""How many objects have a tag in common: each object has one tag of each kind."""

NOBODY: Final = "http://127.0.0.1:1"
"""An origin, where none is asked."""

YIELD_EVERY: Final = 64
BUSY_S: Final = 0.05


def url(number: int) -> str:
    """The URL of an object."""
    return f"http://{objects.HOST}{objects.path(SIZE, number)}"


def tag(share: int, number: int) -> str:
    """The tag that `share` objects have in common, object `number` among them."""
    return f"t{share}-{f'{number:06d}'[: 7 - len(str(share))]}"


def tags(number: int) -> tuple[str, ...]:
    """All tags of an object."""
    return tuple([tag(share, number) for share in SHARES])


def configuration(data: Path, **settings: Any) -> Config:
    """The configuration of `banish serve --origin … --data …`."""
    flags = {"origin": [NOBODY], "listen": ["127.0.0.1:0"], "admin.listen": "off", "log.access": "off"}
    return load(None, {}, {**flags, "data": str(data), **settings})


async def filled(data: Path, count: int) -> float:
    """Fill a data directory with so many responses; how long that took in seconds."""
    began = time.monotonic()
    edge = Edge(configuration(data))
    disk, site = edge.store.disk, edge.sites.all[0]
    assert disk is not None
    for number in range(count):
        record = _record(f"{site.key_name} {url(number)}", number, edge.stamps.index)
        while (outcome := disk.put(record)) is not DiskOutcome.STORED:
            if outcome is not DiskOutcome.FAILED:
                raise RuntimeError(f"object {number} was not stored: {outcome}")
            await asyncio.sleep(BUSY_S)  # the disk does not keep up
        if number % YIELD_EVERY == 0:
            await asyncio.sleep(0)
    await disk.sync()
    assert len(disk) == count
    await edge.stop()
    return time.monotonic() - began


def _record(key: str, number: int, index: int) -> StoredResponse:
    content, now = objects.body(SIZE, number), time.time()
    target = objects.path(SIZE, number)
    lines = [
        *objects.fields(target, content),
        ("Date", "Mon, 23 Nov 2026 00:00:00 GMT"),
        ("xkey", " ".join(tags(number))),
    ]
    meta = Metadata(
        key=key,
        status=200,
        reason="OK",
        fields=Fields.of(lines),
        requested_at=now,
        received_at=now,
        date=now,
        initial_age=0.0,
        lifetime=float(objects.MAX_AGE_S),
        etag=f'"{objects.hash_of(target)}"',
        tags=tags(number),
    )
    return StoredResponse(meta, Body.complete(content), fence=index, clean_at=index)


if __name__ == "__main__":
    print(f"{asyncio.run(filled(Path(sys.argv[1]), int(sys.argv[2]))):.1f} s")
