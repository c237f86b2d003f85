"""What passes between a child and its parent beside the request and the response: an ask and a statement.

    child ──▶ parent   request,  Banish-Tier: base64url(ask ‖ signature)         "who asks, and what you must have"
    child ◀── parent   response, Banish-Tier: base64url(statement ‖ signature)   "what this answer is worth"

Both are MessagePack arrays, signed (64 bytes, Ed25519) by the edge that says them together with what they are about:
an ask with parent, method, target and host; a statement with the child, the nonce that it was asked with, the status
and the fields that decide what may be done with the response. So neither can be made, moved to another message, or used
at another edge by anybody between or beside the two.

Not here: keys, clocks, what follows (`edge/tiering.py`).
Source: PURGE rules 28 to 30. Units: `at_ms` is milliseconds since 1970.
Invariants: an ask or statement of a version not known here is none. Fields are only ever added behind the last.
"""

import base64
import binascii
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

import msgspec

from banish.errors import RecordError
from banish.http.fields import Fields
from banish.mesh.frontier import Marks
from banish.purge.positions import Position
from banish.purge.records import SIGNATURE_BYTES

FIELD = "Banish-Tier"
FIELD_LOWER = FIELD.lower()

TIER_VERSION = 1
NONCE_BYTES = 12
PATH_MAX = 8
"""Edges that a request may have come through."""
POSITIONS_MAX = 8
"""Purges that a refill may name (PURGE rule 30)."""

DECISIVE = (
    "age", "cache-control", "cache-groups", "cache-group-invalidation", "cache-tag", "cdn-cache-control",
    "content-encoding", "content-range", "date", "etag", "expires", "last-modified", "set-cookie", "surrogate-control",
    "surrogate-key", "vary", "xkey", "x-cache-tags", "x-magento-tags",
)  # fmt: skip
"""Fields of a response that a statement is about: they decide whether, how long and under which names it is stored."""

_ASK, _STATEMENT = b"banish-tier-ask\0", b"banish-tier-statement\0"

Sign = Callable[[bytes], bytes]
VerifiesOne = Callable[[bytes, bytes], bool]
"""(signature, payload): whether it is the one edge's that is meant."""


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """What a child says with a request."""

    version: int
    child: str
    """Its edge id."""
    at_ms: int
    """When it asked, by its own clock."""
    nonce: bytes
    scheme: str
    """By which the client came."""
    rules: bytes
    """A digest of the site's key rules: a parent with others would find other responses under the same URL."""
    path: tuple[str, ...]
    """The edges that the request came through, this child last."""
    marks: tuple[Position, ...]
    """The causal header: of each stream, up to where purges are in effect at the child that the parent has not
    confirmed (PURGE rule 29)."""
    through: bool = False
    """Nothing stored is to answer before the origin has confirmed it."""
    since: tuple[Position, ...] = ()
    """Purges that caused the asking: nothing older may answer (PURGE rule 30)."""

    @property
    def frontier(self) -> Marks:
        """The causal header as marks."""
        return {(mark.edge, mark.epoch): mark.seq for mark in self.marks}


class Worth(StrEnum):
    """What a parent's answer is worth to a child."""

    FRESH = "fresh"
    """Usable without any stale allowance, and not older than what the ask names."""
    PASSED = "passed"
    """This edge could not catch up: what comes is its upstream's, which had the same header, and is not stored here."""
    STALE = "stale"
    """There was only this, which is stale: never to be stored, nor to renew anything."""
    FAILED = "failed"
    """A page of this edge's own, since it has no answer."""


class Statement(msgspec.Struct, frozen=True, array_like=True):
    """What a parent says of its answer."""

    version: int
    edge: str
    epoch: str
    worth: str
    covers: bool
    """All of the causal header was in effect here before the request counted as arrived."""
    since: bool
    """The response's fence is at or after all purges that the ask names, by this edge's own count."""


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """What an ask is about."""

    parent: str
    """The edge id of the one who is asked."""
    method: str
    target: str
    host: str


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """What a statement is about."""

    child: str
    nonce: bytes
    status: int
    length: str
    """Content-Length, or nothing."""
    fields: tuple[tuple[str, str], ...]


def answered(child: str, nonce: bytes, status: int, fields: Fields, length: str) -> Answered:
    """What a statement about a response with these fields is about."""
    decisive = [
        (name, value.strip(" \t"))
        for (_, value), name in zip(fields.lines, fields.names, strict=True)
        if name in _SIGNED
    ]
    return Answered(child, nonce, status, length, tuple(sorted(decisive)))


_SIGNED = frozenset(DECISIVE)

_encoder = msgspec.msgpack.Encoder()
_asks = msgspec.msgpack.Decoder(Ask)
_statements = msgspec.msgpack.Decoder(Statement)
_Said = TypeVar("_Said", Ask, Statement)


def encode_ask(ask: Ask, about: Asked, sign: Sign) -> str:
    """The field value of an ask."""
    return _signed(_ASK, ask, about, sign)


def encode_statement(statement: Statement, about: Answered, sign: Sign) -> str:
    """The field value of a statement."""
    return _signed(_STATEMENT, statement, about, sign)


def read_ask(value: str) -> Ask:
    """The ask in a field value, its signature not looked at. Raises RecordError."""
    ask = _decoded(_asks, value)
    if len(ask.nonce) != NONCE_BYTES or len(ask.path) > PATH_MAX or len(ask.since) > POSITIONS_MAX:
        raise RecordError("the ask is out of bounds")
    if ask.scheme not in ("http", "https") or ask.path[-1:] != (ask.child,):
        raise RecordError("the ask contradicts itself")
    return ask


def read_statement(value: str) -> Statement:
    """The statement in a field value, its signature not looked at. Raises RecordError."""
    return _decoded(_statements, value)


def ask_holds(value: str, about: Asked, verifies: VerifiesOne) -> bool:
    """Whether the child signed this ask, about that."""
    return _holds(_ASK, value, about, verifies)


def statement_holds(value: str, about: Answered, verifies: VerifiesOne) -> bool:
    """Whether the parent signed this statement, about that."""
    return _holds(_STATEMENT, value, about, verifies)


def _signed(kind: bytes, said: Ask | Statement, about: Asked | Answered, sign: Sign) -> str:
    payload = _encoder.encode(said)
    return base64.urlsafe_b64encode(payload + sign(_meant(kind, about, payload))).decode().rstrip("=")


def _holds(kind: bytes, value: str, about: Asked | Answered, verifies: VerifiesOne) -> bool:
    data = _bytes(value)
    payload, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    return verifies(signature, _meant(kind, about, payload))


def _meant(kind: bytes, about: Asked | Answered, payload: bytes) -> bytes:
    """What is signed. MessagePack ends where it ends, so no part can run over into the next."""
    return kind + _encoder.encode(about) + payload


def _bytes(value: str) -> bytes:
    try:
        return base64.b64decode(value.encode("ascii") + b"=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise RecordError("the field is not base64url") from error


def _decoded(decoder: "msgspec.msgpack.Decoder[_Said]", value: str) -> _Said:
    data = _bytes(value)
    if len(data) <= SIGNATURE_BYTES:
        raise RecordError("the field is too short to be signed")
    try:
        said = decoder.decode(data[:-SIGNATURE_BYTES])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"the field is damaged: {error}") from error
    if said.version != TIER_VERSION:
        raise RecordError(f"the field is of version {said.version}; known here is {TIER_VERSION}")
    return said
