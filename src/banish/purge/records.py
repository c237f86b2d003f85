"""Records: what is logged, and sent to other edges, of each purge.

    record  = payload ‖ signature (64 bytes, Ed25519 of the payload, by the edge that issued it)
    payload = MessagePack array
              version, kind, sites, mode, [edge, epoch, seq], previous    the head: the same in every version
              at, targets, actor, source, reason, key, request, about, due      version 1
              member, of a join

`previous` is the digest of the record before it in its epoch, signature and all (empty in the first): a run of
records is proved by its chain and the signature of its last (PURGE rule 8). Records are kept and passed on byte for
byte, and whoever cannot read one applies everything of its scope in its mode (rule 7, `understood`). Fields are only
ever added behind the last: a reader that does not know them leaves them out.

Not here: keys (handed in); where records are kept (`store/log.py`); what targets mean (`given.py`).
Units: moments are seconds since the epoch, by the clock of the edge that issued the record.
Invariant: the head of a record of any version can be read by any other.
"""

import hashlib
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeVar

import msgspec

from banish.errors import LimitExceeded, RecordError
from banish.purge.given import Given
from banish.purge.positions import Position
from banish.purge.stamps import Mode
from banish.purge.targets import Kind

RECORD_VERSION = 1

RECORD_BYTES_MAX = 262_144
"""Size of a record, signature and all: one purge, however many targets. `purge.record_limit`."""

SIGNATURE_BYTES = 64
DIGEST_BYTES = 32

EVERY_SITE: tuple[str, ...] = ()
"""The scope that is not confined to any site."""


class RecordKind(StrEnum):
    """What a record tells."""

    OPEN = "open"
    """An edge started; `about` is the last position of its epoch before, if there was one."""

    PURGE = "purge"
    """A purge; `about` is the schedule that it carries out, if it does."""

    INVALIDATION = "invalidation"
    """What an unsafe request made invalid (RFC 9111 section 4.4)."""

    UNDO = "undo"
    """The soft purge at `about` is taken back."""

    SCHEDULE = "schedule"
    """A purge to be issued when it is `due`. Without effect of its own."""

    CANCEL = "cancel"
    """The schedule at `about` is off."""

    JOIN = "join"
    """The edge that `member` tells of belongs to the mesh."""

    FORGET = "forget"
    """The edge whose id `about` is belongs to it no more, and never again."""

    @property
    def purges(self) -> bool:
        """Whether its targets are purged when it takes effect."""
        return self in (RecordKind.PURGE, RecordKind.INVALIDATION)


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One record of this version."""

    version: int
    kind: RecordKind
    sites: tuple[str, ...]
    """What it is confined to; none for every site."""

    mode: Mode
    """That of targets that name none of their own."""

    position: Position
    previous: bytes
    at: float
    targets: tuple[Given, ...] = ()
    actor: str = ""
    """The name of the token it was issued with."""

    source: str = ""
    """The address it came from."""

    reason: str = ""
    key: str = ""
    """The caller's idempotency key."""

    request: bytes = b""
    """A digest of what was asked, to tell another request under the same key."""

    about: str = ""
    """The position, as text, of what it is about; of a `forget`, the id of the edge (`RecordKind`)."""

    due: float | None = None


class Join(Record, frozen=True, array_like=True):
    """A record that says who belongs."""

    member: bytes = b""
    """Who, as MessagePack (`mesh/members.py`)."""


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What is readable of a record of any version. `kind` and `mode` may be such as are not known here."""

    version: int
    kind: str
    sites: tuple[str, ...]
    mode: str
    position: Position
    previous: bytes


_encoder = msgspec.msgpack.Encoder()
_records = msgspec.msgpack.Decoder(Record)
_joins = msgspec.msgpack.Decoder(Join)
_headers = msgspec.msgpack.Decoder(Header)
_KINDS = frozenset(kind.value for kind in RecordKind)


def encode(record: Record, sign: Callable[[bytes], bytes]) -> bytes:
    """The bytes of a record, signed; raises LimitExceeded if they are more than a record may have."""
    payload = _encoder.encode(record)
    size = len(payload) + SIGNATURE_BYTES
    if size > RECORD_BYTES_MAX:
        reason = f"the purge takes {size} bytes, and {RECORD_BYTES_MAX} is the most: split its targets over several"
        raise LimitExceeded(413, "purge.record_limit", reason)
    signature = sign(payload)
    assert len(signature) == SIGNATURE_BYTES
    return payload + signature


def decode(data: bytes) -> Record:
    """The record in these bytes, its signature not looked at; raises RecordError."""
    header = read_header(data)
    if header.version != RECORD_VERSION:
        raise RecordError(f"the record is of version {header.version}; known here is {RECORD_VERSION}")
    if header.kind == RecordKind.JOIN:
        return _decoded(_joins, data)
    return _decoded(_records, data)


def understood(data: bytes) -> tuple[Record, str]:
    """The record in these bytes as far as it can be read, and why no further ("": it can be, whole).

    What cannot be read whole stands for everything of its sites, in its mode; so does a record of a kind that is not
    known here (PURGE rule 7). Raises RecordError if not even its head can be read.
    """
    try:
        return decode(data), ""
    except RecordError as error:
        header = read_header(data)
        kind = RecordKind(header.kind) if header.kind in _KINDS else RecordKind.PURGE
        why = str(error) if header.kind in _KINDS else f"records of the kind {header.kind} are not known here"
    mode = Mode.SOFT if header.mode == Mode.SOFT else Mode.HARD
    everything = (Given(Kind.EVERYTHING),)
    due = 0.0 if kind is RecordKind.SCHEDULE else None
    return Record(
        RECORD_VERSION, kind, header.sites, mode, header.position, header.previous, 0.0, everything, due=due
    ), why


def read_header(data: bytes) -> Header:
    """The head of a record of any version; raises RecordError."""
    return _decoded(_headers, data)


def read_scope(data: bytes) -> tuple[tuple[str, ...], Mode]:
    """Sites and mode of a record of any version; raises RecordError. A mode not known here counts as hard."""
    header = read_header(data)
    return header.sites, Mode.SOFT if header.mode == Mode.SOFT else Mode.HARD


def signature_holds(data: bytes, verify: Callable[[bytes, bytes], bool]) -> bool:
    """Whether `verify(signature, payload)` says that the bytes are as they were signed."""
    return len(data) > SIGNATURE_BYTES and verify(data[-SIGNATURE_BYTES:], data[:-SIGNATURE_BYTES])


def digest(data: bytes) -> bytes:
    """What the next record of the epoch holds as `previous`."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def chain_holds(run: Sequence[bytes]) -> bool:
    """Whether these are records of one epoch, one after the other without a gap."""
    try:
        headers = [read_header(data) for data in run]
    except RecordError:
        return False
    return all(
        header.previous == digest(data)
        and (header.position.edge, header.position.epoch) == (before.position.edge, before.position.epoch)
        and header.position.seq == before.position.seq + 1
        for data, before, header in zip(run, headers, headers[1:], strict=False)
    )


_Decoded = TypeVar("_Decoded")


def _decoded(decoder: "msgspec.msgpack.Decoder[_Decoded]", data: bytes) -> _Decoded:
    if not SIGNATURE_BYTES < len(data) <= RECORD_BYTES_MAX:
        raise RecordError(f"{len(data)} bytes cannot be a record")
    try:
        return decoder.decode(memoryview(data)[:-SIGNATURE_BYTES])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"the record is damaged: {error}") from error
