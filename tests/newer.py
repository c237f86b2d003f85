"""An edge of a later release, for meshes of mixed versions: `python -m tests.newer serve …`.

Purges whose reason is `novelty` become records of a version and kind that this release does not know. All else is as it
was.
"""

from collections.abc import Callable

import msgspec

from banish.cli.main import main
from banish.edge import issuing
from banish.purge import records

NOVELTY = "novelty"


def encode(record: records.Record, sign: Callable[[bytes], bytes]) -> bytes:
    """The bytes of a record as the later release makes them."""
    signed = records.encode(record, sign)
    if record.reason != NOVELTY:
        return signed
    version, _, *rest = msgspec.msgpack.decode(signed[: -records.SIGNATURE_BYTES])
    payload = msgspec.msgpack.encode((version + 1, NOVELTY, *rest, "what the later release says"))
    return payload + sign(payload)


if __name__ == "__main__":
    issuing.encode = encode  # type: ignore[attr-defined]
    main()
