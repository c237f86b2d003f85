import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from banish.errors import LimitExceeded, RecordError
from banish.purge.given import Given
from banish.purge.positions import Position
from banish.purge.records import (
    EVERY_SITE,
    RECORD_BYTES_MAX,
    Header,
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
    understood,
)
from banish.purge.stamps import Mode
from banish.purge.targets import Kind

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def verify(signature: bytes, payload: bytes) -> bool:
    try:
        KEY.public_key().verify(signature, payload)
    except InvalidSignature:
        return False
    return True


def record(seq: int = 1, previous: bytes = b"", epoch: str = "1-00000000", **changes: object) -> Record:
    made = Record(1, RecordKind.PURGE, ("shop",), Mode.SOFT, Position("0" * 16, epoch, seq), previous, 1.5)
    return msgspec.structs.replace(made, **changes)


def run_of(count: int) -> list[bytes]:
    run: list[bytes] = []
    for seq in range(1, count + 1):
        run.append(encode(record(seq, digest(run[-1]) if run else b""), KEY.sign))
    return run


FULL = record(
    targets=(Given(Kind.TAG, "news"), Given(Kind.URL, "https://a/", headers=(("DNT", "1"),), mode=Mode.HARD)),
    actor="deploy",
    source="192.0.2.1",
    reason="new prices",
    key="k-1",
    request=b"\x01" * 32,
    about="0000000000000000.1-00000000.7",
    due=12.25,
)

VERSION_1 = bytes.fromhex(
    "9f01a57075726765"  # 15 members: version 1, "purge"
    "91a473686f70a4736f6674"  # ["shop"], "soft"
    "93b030303030303030303030303030303030aa312d303030303030303001c400cb3ff8000000000000"  # position, previous, at
    "9182a46b696e64a3746167a576616c7565a46e657773"  # [{"kind": "tag", "value": "news"}]
    "a0a0a0a0c400a0c0"  # the rest, empty
)


def test_a_record_is_read_back_as_it_was_written() -> None:
    assert decode(encode(FULL, KEY.sign)) == FULL


def test_version_1_stays_readable_and_is_written_the_same() -> None:
    expected = record(targets=(Given(Kind.TAG, "news"),))
    assert decode(VERSION_1 + bytes(64)) == expected
    assert encode(expected, lambda _: bytes(64)) == VERSION_1 + bytes(64)


def test_a_record_is_signed_whole() -> None:
    data = encode(FULL, KEY.sign)
    assert signature_holds(data, verify)
    assert not signature_holds(data[:-1], verify)
    assert not signature_holds(b"\x00" + data, verify)
    assert not signature_holds(b"", verify)
    assert not signature_holds(data[-64:], verify)


def test_the_head_of_a_record_of_a_version_to_come_is_readable() -> None:
    payload = msgspec.msgpack.encode([9, "recall", ["shop"], "gentle", ["0" * 16, "1-00000000", 7], b"p", {"new": 1}])
    data = payload + bytes(64)
    assert read_header(data) == Header(9, "recall", ("shop",), "gentle", Position("0" * 16, "1-00000000", 7), b"p")
    assert read_scope(data) == (("shop",), Mode.HARD)
    with pytest.raises(RecordError, match="version 9"):
        decode(data)


def test_the_scope_is_readable() -> None:
    assert read_scope(encode(FULL, KEY.sign)) == (("shop",), Mode.SOFT)
    assert read_scope(encode(record(sites=EVERY_SITE, mode=Mode.HARD), KEY.sign)) == ((), Mode.HARD)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"version": 1}),
        msgspec.msgpack.encode([1, "purge"]),
        msgspec.msgpack.encode([1, "recall", [], "hard", ["0", "1", 1], b"", 0.0]),
        msgspec.msgpack.encode([1, "purge", [], "hard", ["0", "1", 1], b"", 0.0, [{"kind": "tag", "more": 1}]]),
        VERSION_1[:-1],
        VERSION_1 + b"\x00",
        b"\x91" * 100_000,
    ],
)
def test_a_damaged_record_is_refused(payload: bytes) -> None:
    with pytest.raises(RecordError):
        decode(payload + bytes(64))


def test_one_purge_is_one_record_of_bounded_size() -> None:
    room = RECORD_BYTES_MAX - len(encode(record(), KEY.sign)) - 4
    assert len(encode(record(reason="x" * room), KEY.sign)) == RECORD_BYTES_MAX
    decode(encode(record(reason="x" * room), KEY.sign))
    with pytest.raises(LimitExceeded) as refused:
        encode(record(reason="x" * (room + 1)), KEY.sign)
    assert (refused.value.status, refused.value.limit) == (413, "purge.record_limit")
    with pytest.raises(RecordError):
        decode(bytes(RECORD_BYTES_MAX + 1))


def test_what_is_not_known_here_is_understood_as_everything_of_its_sites() -> None:
    whole = encode(record(), KEY.sign)
    assert understood(whole) == (decode(whole), "")
    for fields, kind, sites, mode in (
        ((1, "expire", ["shop"], "soft"), RecordKind.PURGE, ("shop",), Mode.SOFT),
        ((1, "purge", [], "unheard-of"), RecordKind.PURGE, (), Mode.HARD),
        ((2, "invalidation", ["shop"], "hard"), RecordKind.INVALIDATION, ("shop",), Mode.HARD),
        ((2, "open", [], "hard"), RecordKind.OPEN, (), Mode.HARD),
    ):
        data = msgspec.msgpack.encode((*fields, ["0" * 16, "1-00000000", 7], b"")) + bytes(64)
        found, why = understood(data)
        assert (found.kind, found.sites, found.mode) == (kind, sites, mode)
        assert found.targets == (Given(Kind.EVERYTHING),)
        assert found.position.seq == 7
        assert why
    with pytest.raises(RecordError):
        understood(b"x" * 100)


def test_a_join_says_who_and_a_reader_that_does_not_know_what_comes_last_reads_the_rest() -> None:
    joining = Join(**{**msgspec.structs.asdict(record(kind=RecordKind.JOIN)), "member": b"who"})
    data = encode(joining, KEY.sign)
    assert decode(data) == joining
    assert msgspec.msgpack.decode(data[:-64], type=Record) == record(kind=RecordKind.JOIN)


def test_the_chain_of_an_epoch_holds() -> None:
    run = run_of(4)
    assert chain_holds(run)
    assert chain_holds(run[2:])
    assert chain_holds([])


def test_a_chain_with_a_gap_a_swap_a_fork_or_another_epoch_does_not_hold() -> None:
    run = run_of(4)
    assert not chain_holds([run[0], run[2]])
    assert not chain_holds([run[1], run[0]])
    assert not chain_holds([run[0], run[0]])
    assert not chain_holds([run[0], encode(record(2, digest(run[1])), KEY.sign)])
    assert not chain_holds([run[0], encode(record(2, digest(run[0]), epoch="2-00000000"), KEY.sign)])
    assert not chain_holds([run[0], encode(record(3, digest(run[0])), KEY.sign)])
    assert not chain_holds([run[0], b"damage"])


def test_signatures_are_part_of_the_chain() -> None:
    first, second = run_of(2)
    assert not chain_holds([first[:-1] + bytes([first[-1] ^ 1]), second])
