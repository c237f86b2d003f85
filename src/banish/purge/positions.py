"""Positions: the identity of a purge, given by the edge that accepted it. Never a moment.

    0123456789abcdef.7-89abcdef.42
    └─ edge id       └─ epoch   └─ sequence number

Every start of an edge opens a new epoch (a count and something random), so that a restored disk cannot give out a
number twice (PURGE rule 1). What happens on one edge alone (an invalidation that its site keeps to itself) must leave
no gap in what the others count: it has an epoch of its own, with the count 0, that never leaves the edge.

Not here: the apply index, which counts purges on one edge in the order they took effect there (`stamps.py`).
Invariant: `parse_position(position.text) == position`.
"""

import re
from typing import Annotated

import msgspec

from banish.errors import ClientError

SEQUENCE_MAX = 2**63 - 1
"""The largest number a log can hold."""

_POSITION = re.compile(r"([0-9a-f]{16})\.((?:0|[1-9][0-9]{0,18})-[0-9a-f]{8})\.(0|[1-9][0-9]{0,18})")


_HERE_ONLY = "0-"


class Position(msgspec.Struct, frozen=True, array_like=True):
    """The `seq`-th record that `edge` issued in its `epoch`."""

    edge: str
    """16 hexadecimal digits, for the life of a data directory."""

    epoch: str
    """`N-hhhhhhhh`: the edge's N-th start, and 8 random hexadecimal digits."""

    seq: Annotated[int, msgspec.Meta(ge=0, le=SEQUENCE_MAX)]

    @property
    def here_only(self) -> bool:
        """Whether it is one of those that no other edge hears of."""
        return self.epoch.startswith(_HERE_ONLY)

    @property
    def text(self) -> str:
        """The id that callers know a purge by."""
        return f"{self.edge}.{self.epoch}.{self.seq}"

    def __str__(self) -> str:
        return self.text


def epoch_here_only(epoch: str) -> str:
    """The epoch of what stays on the edge, beside the one that it tells the others of: `0-hhhhhhhh`."""
    return _HERE_ONLY + epoch.partition("-")[2]


def parse_position(text: str) -> Position:
    """The position that `text` names; raises ClientError if it is none."""
    found = _POSITION.fullmatch(text)
    if found is None or int(found[3]) > SEQUENCE_MAX:
        raise ClientError(400, "not the id of a purge: it looks like 0123456789abcdef.1-89abcdef.1", close=False)
    return Position(found[1], found[2], int(found[3]))
