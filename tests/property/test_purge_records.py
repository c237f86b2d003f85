"""Records of purges: written and read back, damaged, and chained."""

import hashlib
import hmac
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from banish.errors import RecordError
from banish.purge.given import Given
from banish.purge.positions import Position, parse_position
from banish.purge.records import (
    RECORD_VERSION,
    Join,
    Record,
    RecordKind,
    chain_holds,
    decode,
    digest,
    encode,
    read_header,
    read_scope,
    signature_holds,
)
from banish.purge.stamps import Mode
from banish.purge.targets import Kind

texts = st.text(max_size=30)
moments = st.floats(0, 2**40, allow_nan=False)


def sign(payload: bytes) -> bytes:
    return hmac.digest(b"key", payload, hashlib.sha512)


def verify(signature: bytes, payload: bytes) -> bool:
    return hmac.compare_digest(signature, sign(payload))


positions = st.builds(
    Position,
    st.text("0123456789abcdef", min_size=16, max_size=16),
    st.builds("{}-{:08x}".format, st.integers(0, 10**6), st.integers(0, 2**32 - 1)),
    st.integers(0, 2**63 - 1),
)
givens = st.builds(
    Given,
    st.sampled_from(Kind),
    texts,
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
    st.none() | st.sampled_from(Mode),
)


def _record(*, member: bytes, **fields: Any) -> Record:
    return Join(member=member, **fields) if fields["kind"] is RecordKind.JOIN else Record(**fields)


records = st.builds(
    _record,
    member=st.binary(max_size=32),
    version=st.just(RECORD_VERSION),
    kind=st.sampled_from(RecordKind),
    sites=st.lists(texts, max_size=3).map(tuple),
    mode=st.sampled_from(Mode),
    position=positions,
    previous=st.binary(max_size=32),
    at=moments,
    targets=st.lists(givens, max_size=5).map(tuple),
    actor=texts,
    source=texts,
    reason=texts,
    key=texts,
    request=st.binary(max_size=32),
    about=texts,
    due=st.none() | moments,
)


@given(positions)
def test_a_position_is_read_back(position: Position) -> None:
    assert parse_position(position.text) == position


@given(records)
def test_a_record_is_read_back_and_its_signature_holds(record: Record) -> None:
    data = encode(record, sign)
    assert decode(data) == record
    assert signature_holds(data, verify)
    assert read_scope(data) == (record.sites, record.mode)
    header = read_header(data)
    assert (header.version, header.kind, header.position, header.previous) == (
        record.version,
        record.kind.value,
        record.position,
        record.previous,
    )


@given(records, st.data())
def test_damage_is_found(record: Record, data: st.DataObject) -> None:
    whole = encode(record, sign)
    at = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    flipped = bytearray(whole)
    flipped[at] ^= 1 << bit
    for damaged in (bytes(flipped), whole[:at], whole + b"\x00", whole[at:] + whole[:at]):
        assume(damaged != whole)
        assert not signature_holds(damaged, verify)
        assert digest(damaged) != digest(whole)


@given(st.binary(max_size=300))
def test_noise_is_refused_and_never_raises_anything_else(noise: bytes) -> None:
    for reads in (decode, read_header, read_scope):
        try:
            reads(noise)
        except RecordError:
            continue
    assert not signature_holds(noise, verify)


@given(records, st.binary(max_size=40), st.integers(0, 10**6))
def test_a_damaged_payload_is_refused_or_is_a_record(record: Record, splice: bytes, at: int) -> None:
    whole = bytearray(encode(record, sign))
    at %= len(whole)
    whole[at : at + len(splice)] = splice
    try:
        found = decode(bytes(whole))
    except RecordError:
        return
    assert isinstance(found, Record)


@given(st.lists(records, min_size=2, max_size=6), st.data())
def test_a_chain_holds_until_anything_is_changed_left_out_or_moved(drawn: list[Record], data: st.DataObject) -> None:
    run: list[bytes] = []
    first = drawn[0].position
    for n, record in enumerate(drawn):
        position = Position(first.edge, first.epoch, first.seq % 10**9 + n)
        previous = digest(run[-1]) if run else b""
        run.append(encode(msgspec.structs.replace(record, position=position, previous=previous), sign))
    assert chain_holds(run)
    at = data.draw(st.integers(0, len(run) - 2))
    flipped = bytes([run[at][0]]) + bytes([run[at][1] ^ 1]) + run[at][2:]
    assert not chain_holds([*run[:at], flipped, *run[at + 1 :]])
    assert not chain_holds([*run[:at], run[at + 1], run[at], *run[at + 2 :]])
    if at:
        assert not chain_holds([*run[:at], *run[at + 1 :]])


def test_a_record_may_not_hold_what_is_no_text() -> None:
    with pytest.raises(RecordError):
        decode(b"\x9f\x01\xa2\xff\xff" + bytes(64))
