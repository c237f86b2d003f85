"""The rows of the index: how keys are laid out, and what stands in the values.

Numbers in keys are big-endian and unsigned, so that rows lie in their order. `gen` is the generation of a site
under its key rules, 4 bytes; `serial` and `fence` take 8.

    family    key                                                      value, after its version
    objects   gen ‖ host reversed ‖ 0 ‖ path?query ‖ 0 ‖ scheme+extra  crc32 ‖ variants, newest first (msgpack)
    tags      gen ‖ length (4) ‖ "t" tag, or "g" origin " " group
                  ‖ fence ‖ serial                                     object key
    expiry    time (8) ‖ gen ‖ serial                                  object key
    order     serial                                                   object key
    small     gen ‖ serial                                             crc32 ‖ body
    meta      a name, or "gen/" key name                               msgpack

A host is reversed by its labels (`com.example.www:8080`), so that a host with its ports, all names below it,
and a prefix of a URL are one or two ranges each. The fence in `tags` lets a purge end exactly at its stamp: rows
of responses fetched later stay (PURGE rule 4). The generation in front makes a hard purge of everything one
range (rule 16). The cache key is not in the value: it is the key, read backwards.

The first byte of every value is the version of its layout. A version, once written by a release, stays readable
and is not changed: `_VariantV1` and `_DirectivesV1` are frozen, whatever becomes of Metadata and Directives.
The checksum is over key and value, so that a row in another's place is damage too.

Not here: reading and writing rows (`index.py`), which rows go together (`disk.py`).
Units: seconds since the epoch, rounded up in keys; bytes; apply indexes.
Invariants: distinct cache keys have distinct object keys, and `cache_key_of` is the way back; whatever is decoded
is what was encoded, or IndexDamaged is raised.
"""

import math
import struct
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from sys import intern
from typing import TypeVar
from zlib import crc32

import msgspec

from banish.caching.directives import NO_DIRECTIVES, Directives
from banish.caching.keys import split_key
from banish.caching.stored import Metadata
from banish.errors import IndexDamaged
from banish.http.fields import Fields
from banish.store.index import Range

ROW_VERSION = 1
"""Version of the layout of all values written now."""

SMALL_BODY_BYTES = 32 * 1024
"""Bodies up to this size are rows of their own; larger ones are files (DESIGN section 8)."""

TIME_MAX = 2**63 - 1
"""A moment that never comes, in keys."""

ALL_ROWS = Range(b"", b"\xff" * 16)
"""Every row of a family."""

META_LOG = b"log"
META_RESERVED = b"reserved"
META_FLOOR = b"floor"
META_SERIAL = b"serial"
META_HAND = b"hand"
META_GENERATION = b"generation"
"""Keys of `meta`: the version of the whole; the log's id; the apply index reserved; the prune floor; the serials
reserved; where eviction's hand stands; the newest generation."""
_META_SITE = b"gen/"

_Copy = TypeVar("_Copy", bound=msgspec.Struct)
_Value = TypeVar("_Value")

_GEN = struct.Struct(">I")
_NUMBER = struct.Struct(">Q")
_PAIR = struct.Struct(">QQ")
_GEN_LENGTH = struct.Struct(">II")
_GEN_SERIAL = struct.Struct(">IQ")
_TIME_GEN_SERIAL = struct.Struct(">QIQ")
_CHECKSUM = struct.Struct(">BI")
_VERSION = bytes([ROW_VERSION])


# Keys of objects


def split_key_name(cache_key: str) -> tuple[str, str, str]:
    """A cache key's parts: the key name of its site, what hooks added to it, and the URL."""
    parts = split_key(cache_key)
    return cache_key[: -len(parts.extra) - len(parts.url) - 1], parts.extra, parts.url


def object_key(gen: int, cache_key: str) -> bytes:
    """The key of what is stored under a cache key, in generation `gen` of its site."""
    _, extra, url = split_key_name(cache_key)
    scheme, _, place = url.partition("://")
    return url_range(gen, place).start + _bytes(scheme + extra)


def cache_key_of(key: bytes, key_name: str) -> str:
    """The cache key of an object's row. `key_name` is the name of the site and rules whose generation it is."""
    try:
        host, path, last = key[_GEN.size :].decode("utf-8", "surrogatepass").split("\0")
    except ValueError as error:
        raise IndexDamaged(f"not the key of an object: {key[:80]!r}") from error
    scheme, plus, extra = last.partition("+")
    return f"{key_name}{plus}{extra} {scheme}://{_reversed_host(host)}{path}"


def generation_of(key: bytes) -> int:
    """The generation of a row of `objects`, `tags` or `small`."""
    if len(key) < _GEN.size:
        raise IndexDamaged(f"a key without generation: {key!r}")
    generation: int = _GEN.unpack_from(key)[0]
    return generation


def gen_range(gen: int) -> Range:
    """All rows of a generation in `objects`, `tags` and `small`."""
    return Range(_GEN.pack(gen), _GEN.pack(gen + 1))


def url_range(gen: int, place: str) -> Range:
    """The rows of one URL: both schemes, and whatever hooks added to the key."""
    start = _place(gen, place) + b"\0"
    return Range(start, successor(start))


def prefix_range(gen: int, place: str) -> Range:
    """The rows of all URLs whose place begins with this text. It holds the `/` after the host."""
    start = _place(gen, place)
    return Range(start, successor(start))


def host_ranges(gen: int, host: str) -> tuple[Range, ...]:
    """The rows of a host: of that port if it names one, else of any. `*.` is every name below, whatever the port."""
    if host.startswith("*."):
        host = host[2:].partition(":")[0]
        ends: tuple[bytes, ...] = (b".",)
    else:
        ends = (b"\0",) if _has_port(host) else (b"\0", b":")
    name = _GEN.pack(gen) + _bytes(_reversed_host(host))
    return tuple([Range(name + end, successor(name + end)) for end in ends])


def successor(prefix: bytes) -> bytes:
    """The first key after all that begin with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    assert stem, "nothing comes after this prefix"
    return stem[:-1] + bytes([stem[-1] + 1])


def _place(gen: int, place: str) -> bytes:
    host, slash, path = place.partition("/")
    return _GEN.pack(gen) + _bytes(f"{_reversed_host(host)}\0{slash}{path}")


def _reversed_host(host: str) -> str:
    """Labels turned round, the port left at the end; an address in brackets stays. Its own inverse."""
    if host.startswith("["):
        return host
    name, colon, port = host.partition(":")
    return ".".join(reversed(name.split("."))) + colon + port


def _has_port(host: str) -> bool:
    return ":" in host.rpartition("]")[2]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# Keys of the other families


def tag_name(tag: str) -> bytes:
    """A tag, as `tag_key` and `tag_range` take it."""
    return b"t" + _bytes(tag)


def group_name(origin: str, group: str) -> bytes:
    """A cache group of one origin (`scheme://host`), as `tag_key` and `tag_range` take it."""
    return b"g" + _bytes(f"{origin} {group}")


def tag_key(gen: int, name: bytes, fence: int, serial: int) -> bytes:
    """The row that says: this response carries that tag or group."""
    return _tag(gen, name) + _PAIR.pack(fence, serial)


def tag_range(gen: int, name: bytes, below: int) -> Range:
    """The rows of all responses of that tag whose fence is below `below`: what a purge stamped so can match."""
    stem = _tag(gen, name)
    return Range(stem, stem + _NUMBER.pack(below))


def _tag(gen: int, name: bytes) -> bytes:
    return _GEN_LENGTH.pack(gen, len(name)) + name


def read_tag_key(key: bytes) -> tuple[int, bytes, int, int]:
    """Generation, name, fence and serial of a row of `tags`."""
    if len(key) < _GEN_LENGTH.size + _PAIR.size:
        raise IndexDamaged(f"not the key of a tag: {key[:80]!r}")
    gen, length = _GEN_LENGTH.unpack_from(key)
    name = key[_GEN_LENGTH.size : -_PAIR.size]
    if len(name) != length:
        raise IndexDamaged(f"not the key of a tag: {key[:80]!r}")
    fence, serial = _PAIR.unpack_from(key, len(key) - _PAIR.size)
    return gen, name, fence, serial


def expiry_key(at: float, gen: int, serial: int) -> bytes:
    """The row that says: from this moment on (seconds since the epoch) this response is of no use."""
    return _TIME_GEN_SERIAL.pack(_whole(at), gen, serial)


def expired_range(now: float) -> Range:
    """The rows of all that is of no more use at `now`."""
    return Range(b"", _NUMBER.pack(_whole(math.floor(now) + 1)))


def read_expiry_key(key: bytes) -> tuple[int, int, int]:
    """Moment, generation and serial of a row of `expiry`."""
    try:
        at, gen, serial = _TIME_GEN_SERIAL.unpack(key)
    except struct.error as error:
        raise IndexDamaged(f"not the key of an expiry: {key[:80]!r}") from error
    return at, gen, serial


def _whole(at: float) -> int:
    return TIME_MAX if at >= TIME_MAX else max(0, math.ceil(at))


def order_key(serial: int) -> bytes:
    """The row of a response in eviction's queue."""
    return _NUMBER.pack(serial)


def read_order_key(key: bytes) -> int:
    """The serial of a row of `order`."""
    try:
        serial: int = _NUMBER.unpack(key)[0]
    except struct.error as error:
        raise IndexDamaged(f"not the key of a place in the queue: {key[:80]!r}") from error
    return serial


def small_key(gen: int, serial: int) -> bytes:
    """The row of a small body."""
    return _GEN_SERIAL.pack(gen, serial)


def read_small_key(key: bytes) -> tuple[int, int]:
    """Generation and serial of a row of `small`."""
    try:
        gen, serial = _GEN_SERIAL.unpack(key)
    except struct.error as error:
        raise IndexDamaged(f"not the key of a body: {key[:80]!r}") from error
    return gen, serial


# Values of objects


class BodyAt(StrEnum):
    """Where the body of a stored response is."""

    SMALL = "small"
    """In a row of `small`, under its generation and serial."""

    FILE = "file"
    """In a file, named by its generation and serial."""


class StoredRow(msgspec.Struct, frozen=True, gc=False):
    """One stored response as it is on disk: all but its body.

    `serial` names it and is never given twice. `fence` and `soft_at` are as in StoredResponse. `checksums`
    are those of a body in a file (`files.py`); a small body's stands in its own row.
    """

    meta: Metadata
    serial: int
    fence: int
    size: int
    body_at: BodyAt
    soft_at: int = 0
    checksums: bytes = b""
    trailers: Fields = Fields()


class _DirectivesV1(msgspec.Struct, frozen=True, omit_defaults=True):
    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    max_stale: float | None = None
    min_fresh: int | None = None
    no_store: bool = False
    no_cache: bool = False
    private: bool = False
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    no_transform: bool = False
    immutable: bool = False
    only_if_cached: bool = False
    no_cache_fields: tuple[str, ...] = ()
    private_fields: tuple[str, ...] = ()


_Lines = tuple[tuple[str, str], ...]


class _VariantV1(msgspec.Struct, frozen=True, array_like=True):
    serial: int
    fence: int
    soft_at: int
    size: int
    body_at: BodyAt
    checksums: bytes
    trailers: _Lines
    status: int
    reason: str
    fields: _Lines
    requested_at: float
    received_at: float
    date: float
    initial_age: float
    lifetime: float
    heuristic: bool
    directives: _DirectivesV1 | None
    vary: tuple[str, ...]
    selecting: tuple[str | None, ...]
    etag: str | None
    last_modified: str | None
    content_range: tuple[int, int, int | None] | None
    request_had_authorization: bool
    groups: tuple[str, ...]
    tags: tuple[str, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode_v1 = msgspec.msgpack.Decoder(tuple[_VariantV1, ...]).decode


def encode_row(key: bytes, variants: Sequence[StoredRow]) -> bytes:
    """The value of the object at `key`: its variants, newest first."""
    return _sealed(key, _encode([_variant_v1(variant) for variant in variants]))


def decode_row(key: bytes, value: bytes, key_name: str) -> tuple[StoredRow, ...]:
    """The variants stored at `key`, newest first; raises IndexDamaged."""
    payload = _unsealed(key, value)
    try:
        variants = _decode_v1(payload)
    except (msgspec.MsgspecError, ValueError) as error:
        raise IndexDamaged(f"the row of {key[4:80]!r} cannot be read") from error
    cache_key = cache_key_of(key, key_name)
    return tuple([_stored_row(cache_key, variant) for variant in variants])


def _variant_v1(row: StoredRow) -> _VariantV1:
    meta = row.meta
    return _VariantV1(
        row.serial,
        row.fence,
        row.soft_at,
        row.size,
        row.body_at,
        row.checksums,
        row.trailers.lines,
        meta.status,
        meta.reason,
        meta.fields.lines,
        meta.requested_at,
        meta.received_at,
        meta.date,
        meta.initial_age,
        meta.lifetime,
        meta.heuristic,
        None if meta.directives == NO_DIRECTIVES else _copied(meta.directives, _DirectivesV1),
        meta.vary,
        meta.selecting,
        meta.etag,
        meta.last_modified,
        meta.content_range,
        meta.request_had_authorization,
        meta.groups,
        meta.tags,
    )


def _stored_row(cache_key: str, variant: _VariantV1) -> StoredRow:
    # One object for equal texts and directives, as they are when they come from an origin: else a response would weigh
    # 250 bytes more in memory for having been on disk.
    fields = Fields.of(variant.fields)
    etag = fields.get("etag")
    meta = Metadata(
        cache_key,
        variant.status,
        intern(variant.reason),
        fields,
        variant.requested_at,
        variant.received_at,
        variant.date,
        variant.initial_age,
        variant.lifetime,
        variant.heuristic,
        NO_DIRECTIVES if variant.directives is None else _shared(_copied(variant.directives, Directives)),
        variant.vary,
        variant.selecting,
        etag if etag == variant.etag else variant.etag,
        variant.last_modified,
        variant.content_range,
        variant.request_had_authorization,
        variant.groups,
        variant.tags,
    )
    return StoredRow(
        meta,
        variant.serial,
        variant.fence,
        variant.size,
        variant.body_at,
        variant.soft_at,
        variant.checksums,
        Fields.of(variant.trailers),
    )


@lru_cache(maxsize=1024)
def _shared(directives: Directives) -> Directives:
    return directives


def _copied(source: msgspec.Struct, into: type[_Copy]) -> _Copy:
    return into(*[getattr(source, name) for name in _DirectivesV1.__struct_fields__])


# Values of the other families


def encode_small(key: bytes, body: bytes) -> bytes:
    """The value of the small body at `key`."""
    return _sealed(key, body)


def decode_small(key: bytes, value: bytes) -> bytes:
    """The small body at `key`; raises IndexDamaged."""
    return _unsealed(key, value)


def encode_pointer(key: bytes) -> bytes:
    """The value of a row of `tags`, `expiry` or `order` that leads to the object at `key`."""
    return _VERSION + key


def decode_pointer(value: bytes) -> bytes:
    """The key of the object that a row of `tags`, `expiry` or `order` leads to; raises IndexDamaged."""
    return _payload(value)


class SiteRow(msgspec.Struct, frozen=True, array_like=True):
    """What the store knows of one site under its key rules: its generation, and what is stored in it.

    `opened_at` is the apply index at which the generation was opened: a purge up to it concerns older ones alone.
    """

    gen: int
    bytes: int = 0
    count: int = 0
    opened_at: int = 0


def site_key(key_name: str) -> bytes:
    """The row of `meta` for a site's key name."""
    return _META_SITE + _bytes(key_name)


SITES_RANGE = Range(_META_SITE, successor(_META_SITE))
"""The rows of `meta` for all sites."""


def key_name_of(key: bytes) -> str:
    """The key name of a row of `SITES_RANGE`."""
    return key.removeprefix(_META_SITE).decode("utf-8", "surrogatepass")


def encode_meta(value: msgspec.Struct | int | str) -> bytes:
    """The value of a row of `meta`."""
    return _VERSION + _encode(value)


def decode_meta(value: bytes, of: type[_Value]) -> _Value:
    """What a row of `meta` says, as a value of type `of`; raises IndexDamaged."""
    try:
        return msgspec.msgpack.decode(_payload(value), type=of)
    except msgspec.MsgspecError as error:
        raise IndexDamaged(f"a row of meta cannot be read: {value[:80]!r}") from error


# Versions and checksums


def _payload(value: bytes) -> bytes:
    if value[:1] != _VERSION:
        raise IndexDamaged(f"version {value[:1]!r} of a row is not known here")
    return value[1:]


def _sealed(key: bytes, payload: bytes) -> bytes:
    return _CHECKSUM.pack(ROW_VERSION, crc32(payload, crc32(key))) + payload


def _unsealed(key: bytes, value: bytes) -> bytes:
    if value[:1] != _VERSION:
        raise IndexDamaged(f"version {value[:1]!r} of a row is not known here")
    payload = value[_CHECKSUM.size :]
    if len(value) < _CHECKSUM.size or _CHECKSUM.unpack_from(value)[1] != crc32(payload, crc32(key)):
        raise IndexDamaged(f"the checksum of {key[4:80]!r} is not that of its bytes")
    return payload
