"""The replication core: what an edge says and does so that every edge applies every purge. Sans-I/O.

    events  ─────────────────▶ ┌─ Replica ──────────────────────────┐ ─▶ effects
    issued, durable            │ frontier: held, and in effect      │    Apply      put records into effect, log them
    record, digest, ack, pull  │ members, peers: heard, confirmed   │    Publish    a record of ours, to all
    linked, unlinked           │ gaps: since when, asked of whom    │    SendDigest, SendAck
    swept, tick                │ stage: starting ▶ catching up ▶    │    AskFor     records of one peer
    (time is handed in)        │        caught up ▶ gone            │    CoverAll, Relink, Raise …
                               └────────────────────────────────────┘

The runner (`edge/meshing.py`) carries effects out, in order, and reports what comes of them as further events. The
simulator (`tests/simulation`) does the same with a network, disks and clocks of its own.

Not here: records, stamps, disks and sockets; what a record means (`edge/purging.py`).
Source: PURGE rules 20 to 27.
Units: seconds of one clock that never goes back and does not stand still while the machine sleeps (CLOCK_BOOTTIME).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from banish.mesh.frontier import Frontier, Gap, Marks, Stream
from banish.mesh.members import Member, Members
from banish.mesh.messages import Mark, Sign, Verify
from banish.purge.positions import Position
from banish.tables import Accounts


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


class Stage(StrEnum):
    """Where in its life a replica is. What is true in each is drawn in docs/architecture.md."""

    STARTING = "starting"
    """Nobody has answered yet."""
    CATCHING_UP = "catching-up"
    """Some have; not all that they held then is held here."""
    CAUGHT_UP = "caught-up"
    """All that was held by those who answered at the start is in effect here."""
    FORGOTTEN = "forgotten"
    """Others have forgotten this id: nothing is said under it any more."""
    DOUBLED = "doubled"
    """Another process has the same id: nothing is said any more."""


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


class Replica:
    """One edge's part in the mesh. Belongs to the event loop; every method returns what is to be done, in order."""

    def __init__(
        self,
        *,
        edge: str,
        epoch: str,
        members: Members,
        frontier: Frontier,
        settings: Settings,
        sign: Sign,
        verify: Verify,
        swept: Marks | None = None,
        accounts: Accounts | None = None,
        on_lag: Callable[[str, float], None] | None = None,
    ) -> None:
        """`frontier` is what this edge's log holds, durable all of it. `swept`: up to where of each stream all that
        matched was deleted, and found so at this start; None: all of it. `on_lag`: called with each time from a
        publishing to an edge's ack. `members` is changed by `joined` and `forgotten`.
        """
        self.edge = edge
        self.epoch = epoch
        self.members = members
        self.settings = settings
        self.stage = Stage.STARTING
        self.held = frontier
        """What is in effect and durable here: what this edge tells others."""
        raise NotImplementedError

    # --- events

    def start(self, now: float) -> list[Effect]:
        """The transport is open."""
        raise NotImplementedError

    def goodbye(self, now: float) -> list[Effect]:
        """This edge stops: nothing that comes after it counts as silence."""
        raise NotImplementedError

    def issued(self, position: Position, record: bytes, now: float) -> list[Effect]:
        """A record of this edge's own is in effect here, and on its way to the disk."""
        raise NotImplementedError

    def durable(self, position: Position, now: float) -> list[Effect]:
        """A record, own or other, is on the disk here. Own ones are published now, others acknowledged."""
        raise NotImplementedError

    def swept(self, position: Position, now: float) -> list[Effect]:
        """All that a record matched here is deleted."""
        raise NotImplementedError

    def record(self, data: bytes, now: float) -> list[Effect]:
        """A published record has arrived."""
        raise NotImplementedError

    def digest(self, data: bytes, now: float) -> list[Effect]:
        """A digest has arrived."""
        raise NotImplementedError

    def ack(self, data: bytes, now: float) -> list[Effect]:
        """An ack has arrived."""
        raise NotImplementedError

    def pulled(self, number: int, parts: list[bytes], now: float) -> list[Effect]:
        """What came of an `AskFor`; no parts: no answer."""
        raise NotImplementedError

    def covered(self, why: str, marks: tuple[Mark, ...], now: float) -> list[Effect]:
        """Everything was purged here, durably, in the place of what is missing."""
        raise NotImplementedError

    def linked(self, edge: str, up: bool, now: float) -> list[Effect]:
        """A link has come up or gone down."""
        raise NotImplementedError

    def joined(self, member: Member, now: float) -> list[Effect]:
        """A record that says so is in effect."""
        raise NotImplementedError

    def forgotten(self, edge: str, now: float) -> list[Effect]:
        """A record that says so is in effect."""
        raise NotImplementedError

    def tick(self, now: float) -> list[Effect]:
        """Time has passed. To be called at `next_tick` at the latest."""
        raise NotImplementedError

    @property
    def next_tick(self) -> float:
        """When something is due."""
        raise NotImplementedError

    # --- what others ask

    def pull_range(self, data: bytes) -> tuple[Stream, int, int]:
        """What a pull asks for: stream, first and last number. Raises RecordError."""
        raise NotImplementedError

    def pull_answer(self, stream: Stream, records: tuple[bytes, ...], oldest: int) -> bytes:
        """The signed answer to a pull. `oldest`: the lowest number of the stream that the log here still has; if it has
        none of it, anything."""
        raise NotImplementedError

    # --- what is known

    @property
    def lease_until(self) -> float:
        """Until when every member counts as heard and no gap as old; infinite where there is no other member."""
        raise NotImplementedError

    def behind(self, now: float) -> bool:
        """Whether this edge may be missing purges (PURGE rule 22)."""
        return now >= self.lease_until

    def receipts(self, position: Position, now: float) -> list[Receipt]:
        """How far every other member is with a position, by name."""
        raise NotImplementedError

    def copies(self, position: Position) -> int:
        """How many edges are known to hold it durably, this one among them if it does."""
        raise NotImplementedError

    @property
    def counted(self) -> frozenset[str]:
        """The other members that count for lease, receipts and quorum: those of which any record is held."""
        raise NotImplementedError

    def lag_s(self, edge: str) -> float | None:
        """From publishing to this edge's ack, smoothed; None: not known."""
        raise NotImplementedError

    def unconfirmed(self, edge: str) -> dict[Stream, int]:
        """What is in effect here that this edge has not confirmed in its present epoch: the causal header (rule 29)."""
        raise NotImplementedError
