"""Stored responses: what was received, the targets it can be purged by, and its place among the purges.

Not here: the rules that read `meta` (`caching/`); where records are kept (`memory.py`).
Units: `fence` and `clean_at` are apply indexes (`purge/stamps.py`); weights are bytes.
Invariant: `fence <= clean_at`. Out of the cyclic collector's reach, so in no cycle.
"""

import msgspec

from banish.caching.stored import Metadata
from banish.http.fields import Fields
from banish.purge.targets import Target
from banish.store.bodies import Body

STRING_BYTES = 60
"""A string beside its characters: a header of 49 bytes, and the slot that holds it."""

LINE_BYTES = 121
"""A field line beside its value's characters: a string, a pair, two slots. Names are shared by all messages."""

TARGET_BYTES = 56
"""A target beside its strings."""

RECORD_BYTES = 480
"""The structs, their numbers and empty tuples, the body's handle and the cache key's header. Like the others
measured on CPython 3.11, 64 bits; `test_memory.py` holds the sum to the 10 %."""

VariantKey = tuple[str, tuple[str, ...], tuple[str | None, ...]]
"""What tells one stored response from another: cache key, names and values of the selecting fields."""


class StoredResponse(msgspec.Struct, gc=False, eq=False):
    """One variant of one URL.

    `fence` is the apply index at which its fetch began; `clean_at` the newest at which no purge was found to
    match, so that between purges a hit compares one integer. `soft` says that a soft purge matched: stale,
    whatever its age says. `memo_bytes` is what others keep in memory to answer with it (`MemoryStore.reweigh`).
    """

    meta: Metadata
    body: Body
    targets: tuple[Target, ...]
    fence: int
    clean_at: int
    soft: bool = False
    memo_bytes: int = 0

    @property
    def variant(self) -> VariantKey:
        """Its identity in the store."""
        meta = self.meta
        return (meta.key, meta.vary, meta.selecting)

    def memory_bytes(self) -> int:
        """Bytes of memory that go when this record goes, within 10 % of what the allocator says."""
        meta = self.meta
        strings = [*meta.tags, *meta.groups, *meta.vary, *(value for value in meta.selecting if value)]
        strings += [text for target in self.targets for text in (target.site, target.value)]
        return (
            RECORD_BYTES
            + _fields_bytes(meta.fields)
            + _fields_bytes(self.body.trailers)
            + len(meta.key)
            + sum(map(len, strings))
            + STRING_BYTES * len(strings)
            + TARGET_BYTES * len(self.targets)
            + self.body.memory_bytes
            + self.memo_bytes
        )


def _fields_bytes(fields: Fields) -> int:
    return sum([LINE_BYTES + len(value) for _, value in fields.lines])
