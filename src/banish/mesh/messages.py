"""What edges say to each other, beside records: digests, acks, and pulls of what is missing.

    message = payload ‖ signature (64 bytes, Ed25519 of the payload by the edge that says it)
    payload = MessagePack array: version, kind, edge, epoch, then what the kind has

    digest   to all, every period and at each event worth it: how far I am, and whom I hear
    ack      to the issuer alone, in batches: how far I am with what you issued
    pull     asked of one: records of one stream; answered by records as they are, or why not
    counts   asked of one: what a purge matched there

Digests carry entries that changed since the last one, and all of them twice a lease (`whole`): at 300 edges whole ones
alone would cost each edge about 1 MB/s (PURGE rule 26).

Not here: records (`purge/records.py`); when which is said (`replica.py`); how it travels (`transport.py`).
Invariants: version, kind, edge and epoch can be read of any version. Of a kind that is not known nothing follows.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from banish.errors import RecordError
from banish.mesh.frontier import Stream
from banish.mesh.members import Member
from banish.purge.records import SIGNATURE_BYTES

MESSAGE_VERSION = 1

MESSAGE_BYTES_MAX = 1_048_576
"""Of one message that is not a record. Past it the sender splits it, and a receiver drops it and counts that."""

Sign = Callable[[bytes], bytes]
Verify = Callable[[str, bytes, bytes], bool]
"""(edge, signature, payload): whether it is that edge's, by `Members.key`: of one that was forgotten too. False for
whoever never was a member."""


NO_STREAM: Stream = ("", "")
"""Nothing was ever issued there."""


class Kind(StrEnum):
    """What a message is."""

    DIGEST = "digest"
    ACK = "ack"
    PULL = "pull"
    COUNTS = "counts"


class Echo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last digest heard of an edge."""

    epoch: str
    number: int


class Far(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far an edge is with one stream."""

    held: int
    """Everything up to it is in effect and on its disk."""
    swept: int = 0
    """Everything up to it is deleted there."""


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """A number up to which everything of a stream counts as held."""

    stream: Stream
    held: int


class Digest(msgspec.Struct, frozen=True, array_like=True):
    """How far an edge is, and whom it hears."""

    version: int
    kind: str
    edge: str
    epoch: str
    number: int
    """Counts the digests of this epoch."""
    issued: int
    """The highest number that it has issued, and made durable, in this epoch."""
    marks: dict[Stream, Far]
    """Of each stream, or of a fold of ended ones (`frontier.py`), how far it is."""
    whole: bool
    """Whether `marks` are all there are; else those that changed since the digest before."""
    echoes: dict[str, Echo] = {}
    """Of each edge that was heard since the digest before."""
    members: str = ""
    """Version of its list of members."""
    goodbye: bool = False
    """It stops now, and will say nothing until it is started again."""
    behind: bool = False
    """It knows that it may be missing purges."""
    asks: bool = False
    """It wants a digest back at once: it has just started, or got a link back."""
    gone: dict[str, Echo] = {}
    """Edges that said goodbye and were not heard since: the epoch that ended so, and the last number issued in it. In
    whole digests alone."""
    missing: tuple[str, ...] = ()
    """Edges of whose records it knows that some are missing there; in whole digests alone. What it holds above such a
    gap no mark tells, and others may not have it.
    """


class Ack(msgspec.Struct, frozen=True, array_like=True):
    """How far an edge is with the streams of one other edge."""

    version: int
    kind: str
    edge: str
    epoch: str
    marks: dict[Stream, Far]
    forgotten: bool = False
    """The edge that this is sent to belongs no more: said to whoever still speaks after it was forgotten."""


class Pull(msgspec.Struct, frozen=True, array_like=True):
    """Asks for records of one stream, both ends among them, as many as fit; of no stream (`NO_STREAM`): for what the
    edge holds and who belongs by its list.
    """

    version: int
    kind: str
    edge: str
    epoch: str
    stream: Stream
    first: int
    last: int


class Pulled(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a pull. Signed by the holder as a message is; the records have the signatures of their issuers."""

    version: int
    kind: str
    edge: str
    epoch: str
    stream: Stream
    records: tuple[bytes, ...]
    """From the first that was asked for on, without a gap; empty if there is none."""
    oldest: int = 1
    """The holder's log has nothing of this stream below it: what was asked for below it is gone there."""
    held: int = 0
    """The holder's own mark of this stream."""
    marks: tuple[Mark, ...] = ()
    """Its whole frontier, if `records` is empty: for the one who is too old (PURGE rule 24), or new."""
    members: tuple[Member, ...] = ()
    """Who belongs by its list, and who did and was forgotten (as in `forgotten`): with `marks`, since whoever adopts
    them passes over the records that say so; and for the keys of those whose records are still passed on."""
    forgotten: tuple[str, ...] = ()


class CountsAsked(msgspec.Struct, frozen=True, array_like=True):
    """Asks what a purge has matched at one edge so far."""

    version: int
    kind: str
    edge: str
    epoch: str
    id: str
    """Of the purge."""


class Counts(msgspec.Struct, frozen=True, array_like=True):
    """The answer."""

    version: int
    kind: str
    edge: str
    epoch: str
    id: str
    found: bool
    """Whether the purge is in its log."""
    state: str = ""
    matched: int = 0
    bytes: int = 0
    swept_at: float | None = None


_Message = TypeVar("_Message", Digest, Ack, Pull, Pulled, CountsAsked, Counts)
_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type, "msgspec.msgpack.Decoder[Any]"] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in (Digest, Ack, Pull, Pulled, CountsAsked, Counts)
}


def encode(message: Digest | Ack | Pull | Pulled | CountsAsked | Counts, sign: Sign) -> bytes:
    """The bytes of a message, signed."""
    payload = _encoder.encode(message)
    return payload + sign(payload)


def decode(data: bytes, kind: type[_Message], verify: Verify) -> _Message:
    """The message in these bytes, if it is signed by the edge that it says. Raises RecordError."""
    payload, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    try:
        message: _Message = _decoders[kind].decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"the message is damaged: {error}") from error
    if not verify(message.edge, signature, payload):
        raise RecordError(f"the message is not signed by {message.edge}, or that is no member")
    return message


class _Said(msgspec.Struct, array_like=True):
    version: int
    kind: str
    edge: str


_said = msgspec.msgpack.Decoder(_Said)


def sender(data: bytes) -> str | None:
    """The edge that a message of any version says it is of; None if it cannot be read. Nothing is proved by it."""
    try:
        return _said.decode(data[:-SIGNATURE_BYTES]).edge
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
