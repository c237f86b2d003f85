"""Asks and statements: what was written is read, and nothing else is."""

import hashlib

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from banish.errors import RecordError
from banish.http.fields import Fields
from banish.mesh.tiers import (
    DECISIVE,
    NONCE_BYTES,
    PATH_MAX,
    POSITIONS_MAX,
    TIER_VERSION,
    Ask,
    Asked,
    Statement,
    Worth,
    answered,
    ask_holds,
    encode_ask,
    encode_statement,
    read_ask,
    read_statement,
    statement_holds,
)
from banish.purge.positions import Position

EDGES = st.text("0123456789abcdef", min_size=16, max_size=16)
EPOCHS = st.builds(lambda n, rest: f"{n}-{rest:08x}", st.integers(1, 9999), st.integers(0, 2**32 - 1))
POSITIONS = st.builds(Position, EDGES, EPOCHS, st.integers(0, 2**63 - 1))
NAMES = st.sampled_from([*DECISIVE, "Server", "X-Other"])
LINES = st.lists(st.tuples(NAMES, st.text("abc =,0123", max_size=12).map(str.strip)), max_size=8)
NONCES = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)
TEXTS = st.text(max_size=20)


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    path = draw(st.lists(EDGES, min_size=1, max_size=PATH_MAX))
    return Ask(
        TIER_VERSION, path[-1], draw(st.integers(0, 2**50)), draw(NONCES), draw(st.sampled_from(["http", "https"])),
        draw(st.binary(max_size=8)), tuple(path),
        tuple(draw(st.lists(POSITIONS, max_size=20, unique_by=lambda at: (at.edge, at.epoch)))), draw(st.booleans()),
        tuple(draw(st.lists(POSITIONS, max_size=POSITIONS_MAX))),
    )  # fmt: skip


ABOUT = st.builds(Asked, TEXTS, TEXTS, TEXTS, TEXTS)


def sign(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, key=b"k", digest_size=64).digest()


def holds(signature: bytes, payload: bytes) -> bool:
    return sign(payload) == signature


@given(asks(), ABOUT)
def test_an_ask_is_read_as_it_was_written(ask: Ask, about: Asked) -> None:
    value = encode_ask(ask, about, sign)
    assert value.isascii()
    assert read_ask(value) == ask
    assert ask_holds(value, about, holds)
    assert ask.frontier == {(mark.edge, mark.epoch): mark.seq for mark in ask.marks}


@given(asks(), ABOUT, ABOUT)
def test_an_ask_holds_for_what_it_is_about_alone(ask: Ask, about: Asked, other: Asked) -> None:
    assert ask_holds(encode_ask(ask, about, sign), other, holds) == (about == other)


@given(asks(), ABOUT, st.data())
def test_an_ask_of_which_one_letter_is_changed_does_not_hold(ask: Ask, about: Asked, data: st.DataObject) -> None:
    value = encode_ask(ask, about, sign)
    at = data.draw(st.integers(0, len(value) - 1))
    letter = data.draw(st.sampled_from("ABCxyz019-_"))
    changed = value[:at] + letter + value[at + 1 :]
    try:
        same = read_ask(changed) == ask and ask_holds(changed, about, holds)
    except RecordError:
        return
    assert not same or changed == value or at == len(value) - 1  # the last letter may have bits that say nothing


@given(st.text(max_size=200))
@example("")
@example("A")
@example("é" * 80)
@example("AAAA" * 40)
@example("mgGw" * 40)
def test_whatever_is_no_ask_is_said_to_be_none(value: str) -> None:
    for read in (read_ask, read_statement):
        with pytest.raises(RecordError):
            read(value)


@pytest.mark.parametrize(
    "change",
    [
        {"version": TIER_VERSION + 1}, {"nonce": b"short"}, {"scheme": "ftp"}, {"path": ()},
        {"path": ("f" * 16,)}, {"path": ("0" * 16,) * (PATH_MAX + 1)},
        {"since": (Position("0" * 16, "1-00000001", 1),) * (POSITIONS_MAX + 1)},
    ],
)  # fmt: skip
def test_an_ask_out_of_bounds_is_none(change: dict[str, object]) -> None:
    ask = Ask(TIER_VERSION, "0" * 16, 0, b"n" * NONCE_BYTES, "http", b"", ("0" * 16,), ())
    value = encode_ask(msgspec.structs.replace(ask, **change), Asked("p", "GET", "/", "h"), sign)
    with pytest.raises(RecordError):
        read_ask(value)


STATEMENTS = st.builds(
    Statement, st.just(TIER_VERSION), EDGES, EPOCHS, st.sampled_from(list(Worth)), st.booleans(), st.booleans()
)


@given(STATEMENTS, LINES, LINES, st.integers(200, 599))
def test_a_statement_holds_for_responses_with_the_same_decisive_fields(
    said: Statement, lines: list[tuple[str, str]], others: list[tuple[str, str]], status: int
) -> None:
    def decisive(lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return sorted([line for line in lines if line[0] in DECISIVE])

    about = answered("c", b"n", status, Fields.of(lines), "5")
    other = answered("c", b"n", status, Fields.of(others), "5")
    value = encode_statement(said, about, sign)
    assert read_statement(value) == said
    assert statement_holds(value, about, holds)
    assert statement_holds(value, other, holds) == (decisive(lines) == decisive(others))


@given(STATEMENTS)
def test_a_statement_holds_for_one_child_nonce_status_and_length(said: Statement) -> None:
    about = answered("c", b"n", 200, Fields(), "5")
    value = encode_statement(said, about, sign)
    for other in (
        answered("d", b"n", 200, Fields(), "5"), answered("c", b"m", 200, Fields(), "5"),
        answered("c", b"n", 404, Fields(), "5"), answered("c", b"n", 200, Fields(), "6"),
    ):  # fmt: skip
        assert not statement_holds(value, other, holds)


def test_an_ask_is_no_statement_and_a_statement_no_ask() -> None:
    said = Statement(TIER_VERSION, "0" * 16, "1-00000001", Worth.FRESH, True, True)
    with pytest.raises(RecordError):
        read_ask(encode_statement(said, answered("c", b"n", 200, Fields(), ""), sign))
