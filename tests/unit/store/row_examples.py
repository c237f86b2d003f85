"""Rows of every kind, as each version writes them: `formats/rows-N.json`, never changed once it is released.

    python -m tests.unit.store.row_examples      write the file of the present version, if there is none yet

Here is what they say; `test_rows.py` reads each file and compares.
"""

import json
from pathlib import Path

from banish.caching.directives import Directives
from banish.caching.stored import Metadata
from banish.http.fields import Fields
from banish.store import rows
from banish.store.rows import BodyAt, SiteRow, StoredRow

FILES = Path(__file__).parent / "formats"
KEY_NAME = "shop+books#0a1b2c3d"
GEN = 7
KEY = f"{KEY_NAME}+mobile+de https://www.example.com:8443/a/b%20c?x=1&y="
TAG = rows.tag_name("neu/ü")
GROUP = rows.group_name("https://www.example.com:8443", "news")

PAGE = StoredRow(
    Metadata(
        KEY,
        status=206,
        reason="Partial Content",
        fields=Fields.of([("Content-Type", "text/plain"), ("X-Name", "J\xfcrgen"), ("Vary", "a"), ("Vary", "b")]),
        requested_at=1_700_000_000.25,
        received_at=1_700_000_000.5,
        date=1_700_000_000.0,
        initial_age=0.5,
        lifetime=float("inf"),
        heuristic=True,
        directives=Directives(
            max_age=1,
            s_maxage=2,
            stale_while_revalidate=3,
            stale_if_error=4,
            max_stale=5.0,
            min_fresh=6,
            no_store=True,
            no_cache=True,
            private=True,
            public=True,
            must_revalidate=True,
            proxy_revalidate=True,
            must_understand=True,
            no_transform=True,
            immutable=True,
            only_if_cached=True,
            no_cache_fields=("set-cookie",),
            private_fields=("x-user",),
        ),
        vary=("accept-encoding", "x-device"),
        selecting=("br,gzip", None),
        etag='"v1"',
        last_modified="Tue, 14 Nov 2023 22:13:20 GMT",
        content_range=(0, 99, None),
        request_had_authorization=True,
        groups=("news",),
        tags=("neu/ü", "sport"),
    ),
    serial=2**40 + 1,
    fence=2**33,
    size=100,
    body_at=BodyAt.FILE,
    soft_at=2**33 + 5,
    checksums=bytes(range(8)),
    trailers=Fields.of([("Server-Timing", "db;dur=53")]),
)
PLAIN = StoredRow(
    Metadata(KEY, 200, "", Fields(), 1.0, 2.0, 3.0, 4.0, 5.0), serial=1, fence=0, size=0, body_at=BodyAt.SMALL
)
SITE = SiteRow(GEN, 2**41, 12345, 2**33)
BODY = bytes(range(256))


def written() -> dict[str, tuple[bytes, bytes]]:
    """Key and value of one row of each kind, as the code of today writes them."""
    place = rows.object_key(GEN, KEY)
    body = rows.small_key(GEN, 1)
    return {
        "object": (place, rows.encode_row(place, [PAGE, PLAIN])),
        "tag": (rows.tag_key(GEN, TAG, PAGE.fence, PAGE.serial), rows.encode_pointer(place)),
        "group": (rows.tag_key(GEN, GROUP, PAGE.fence, PAGE.serial), rows.encode_pointer(place)),
        "expiry": (rows.expiry_key(1_700_000_000.5, GEN, PAGE.serial), rows.encode_pointer(place)),
        "order": (rows.order_key(PAGE.serial), rows.encode_pointer(place)),
        "small": (body, rows.encode_small(body, BODY)),
        "site": (rows.site_key(KEY_NAME), rows.encode_meta(SITE)),
        "floor": (rows.META_FLOOR, rows.encode_meta(2**33)),
        "log": (rows.META_LOG, rows.encode_meta("d41d8cd98f00b204")),
    }


def file_of(version: int) -> Path:
    """The rows of that version."""
    return FILES / f"rows-{version}.json"


def read(path: Path) -> dict[str, tuple[bytes, bytes]]:
    """The rows in such a file."""
    text: dict[str, tuple[str, str]] = json.loads(path.read_text())
    return {kind: (bytes.fromhex(key), bytes.fromhex(value)) for kind, (key, value) in text.items()}


if __name__ == "__main__":
    text = {kind: (key.hex(), value.hex()) for kind, (key, value) in written().items()}
    with file_of(rows.ROW_VERSION).open("x") as file:
        file.write(json.dumps(text, indent=2) + "\n")
