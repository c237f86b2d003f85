"""Stored responses: what was received, its place among the purges, and its place on disk.

Not here: the rules that read `meta` (`caching/`); what a response can be purged by (`purge/names.py`); where
records are kept (`memory.py`, `disk.py`).
Units: `fence`, `clean_at` and `soft_at` are apply indexes (`purge/stamps.py`); weights are bytes.
Invariant: `fence <= clean_at`, and no hard purge up to `clean_at` matches. Out of the cyclic collector's reach,
so in no cycle.
"""

import msgspec

from banish.caching.stored import Metadata
from banish.http.fields import Fields
from banish.purge.names import Names, names_of
from banish.store.bodies import Body

STRING_BYTES = 60
"""A string beside its characters: a header of 49 bytes, and the slot that holds it."""

LINE_BYTES = 121
"""A field line beside its value's characters: a string, a pair, two slots. Names are shared by all messages."""

TUPLE_BYTES = 40
"""A tuple beside its slots."""

RECORD_BYTES = 610
"""The structs, their numbers and moments, the body's handle and the cache key's header. Like the others measured on
CPython 3.11, 64 bits; `test_memory.py` holds the sum to the 10 %."""

VariantKey = tuple[str, tuple[str, ...], tuple[str | None, ...]]
"""What tells one stored response from another: cache key, names and values of the selecting fields."""


class StoredResponse(msgspec.Struct, gc=False, eq=False):
    """One variant of one URL.

    `fence` is the apply index at which its fetch began; `clean_at` the newest up to which it was matched against
    the purges, so that between purges a hit compares one integer. `soft_at` is the apply index of the oldest soft
    purge that matched it, 0 if none did. `serial` is its identity on disk, 0 if it is not there. `hits` counts the
    times it answered since it came into memory. `memo_bytes` is what others keep in memory to answer with it
    (`MemoryStore.reweigh`).
    """

    meta: Metadata
    body: Body
    fence: int
    clean_at: int
    soft_at: int = 0
    serial: int = 0
    hits: int = 0
    memo_bytes: int = 0

    @property
    def variant(self) -> VariantKey:
        """Its identity in the store."""
        meta = self.meta
        return (meta.key, meta.vary, meta.selecting)

    @property
    def names(self) -> Names:
        """What it can be purged by. Made anew each time: kept, it would weigh more than it saves."""
        return names_of(self.meta)

    @property
    def soft(self) -> bool:
        """Whether a soft purge matched it: stale, whatever its age says."""
        return self.soft_at != 0

    def memory_bytes(self) -> int:
        """Bytes of memory that go when this record goes, within 10 % of what the allocator says."""
        meta = self.meta
        tuples = [names for names in (meta.tags, meta.groups, meta.vary, meta.selecting) if names]
        strings = [text for names in tuples for text in names if text]
        return (
            RECORD_BYTES
            + _fields_bytes(meta.fields)
            + _fields_bytes(self.body.trailers)
            + len(meta.key)
            + sum(map(len, strings))
            + STRING_BYTES * len(strings)
            + TUPLE_BYTES * len(tuples)
            + self.body.memory_bytes
            + self.memo_bytes
        )


def _fields_bytes(fields: Fields) -> int:
    return sum([LINE_BYTES + len(value) for _, value in fields.lines])
