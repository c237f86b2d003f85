"""What the replication core wants done, and what it says of others: the words between it and whoever runs it.

Not here: when (`replica.py`); carrying it out (`edge/meshing.py`, and `tests/simulation`).
Units: seconds.
"""

from dataclasses import dataclass
from enum import StrEnum

from banish.mesh.frontier import Gap
from banish.mesh.members import Member
from banish.mesh.messages import Mark


@dataclass(frozen=True, slots=True)
class Settings:
    """Every wait of the mesh."""

    period_s: float = 2.0
    """Between two digests."""
    lease_s: float = 10.0
    """How long a member may not be heard before this edge says that it may be missing purges."""
    gap_limit_s: float = 60.0
    """How long a number that every reachable holder says is lost is waited for, before everything is purged here."""
    catchup_wait_s: float = 5.0
    """How long a start waits for those who answer."""


# --- effects


@dataclass(frozen=True, slots=True)
class Apply:
    """Put these records into effect, in this order, and log them; then report each by `durable`."""

    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Publish:
    """Send a record of this edge's own to all."""

    record: bytes


@dataclass(frozen=True, slots=True)
class SendDigest:
    """Send a signed digest to all."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SendAck:
    """Send a signed ack to one edge."""

    edge: str
    data: bytes


@dataclass(frozen=True, slots=True)
class AskFor:
    """Ask one edge for what is missing; report by `pulled` what comes of it, under the same number."""

    number: int
    edge: str
    gap: Gap
    data: bytes
    """The signed request."""
    timeout_s: float


@dataclass(frozen=True, slots=True)
class CoverAll:
    """Purge everything on all sites, here alone, under an entry of this log's own; then report by `covered`."""

    why: str
    """`too-old`, `lost`, or `newcomer` (no alarm: it has nothing yet): goes into the log."""
    marks: tuple[Mark, ...]
    """What counts as held once that is durable."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """Another edge's list of members says more than ours: keep it, then report what is new by `joined` and
    `forgotten`. Comes with a CoverAll, before it, or alone where the lists of two edges differ that hold the same.
    """

    members: tuple[Member, ...]
    forgotten: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Relink:
    """Open the transport anew: a peer is linked and not heard."""

    edge: str


@dataclass(frozen=True, slots=True)
class Raise:
    """Tell the operator, and count it."""

    alarm: "Alarm"
    what: str


Effect = Apply | Publish | SendDigest | SendAck | AskFor | CoverAll | Adopt | Relink | Raise


class Alarm(StrEnum):
    """What should not happen, and what is done about it."""

    FORK = "fork"
    """Two records have one position: a key is in two hands. The second is applied too."""
    LOST = "lost"
    """No holder has a number any more: everything was purged here in its place."""
    TOO_OLD = "too-old"
    """This edge was away for longer than the logs of the others go back: everything was purged here."""
    DEAF = "deaf"
    """A peer is linked and not heard."""
    DOUBLE = "double"
    """Another process runs under this edge's id."""
    FORGOTTEN = "forgotten"
    """The others have forgotten this edge."""
    STRANGER = "stranger"
    """Something came that no member has signed."""


# --- receipts


class Standing(StrEnum):
    """How far one edge is with one position."""

    SWEPT = "swept"
    APPLIED = "applied"
    BEHIND = "behind"
    """It is heard, and has not said that it has it."""
    UNREACHABLE = "unreachable"
    """It is not heard."""
    CLEAN = "joined-clean"
    """It joined later, empty."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What this edge knows of one member and one position."""

    edge: str
    name: str
    standing: Standing
    lag_s: float | None = None
    """From this edge's publishing to the ack, less nothing: a round trip and the peer's disk. None: not seen here."""
