import pytest

from banish.errors import ClientError
from banish.purge.positions import SEQUENCE_MAX, Position, parse_position

POSITION = Position("0123456789abcdef", "7-89abcdef", 42)


def test_a_position_as_text() -> None:
    assert POSITION.text == str(POSITION) == "0123456789abcdef.7-89abcdef.42"
    assert parse_position(POSITION.text) == POSITION


def test_the_largest_number() -> None:
    largest = Position("0123456789abcdef", "7-89abcdef", SEQUENCE_MAX)
    assert parse_position(largest.text) == largest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0123456789abcdef.7-89abcdef",
        "0123456789ABCDEF.7-89abcdef.42",
        "0123456789abcde.7-89abcdef.42",
        "0123456789abcdef.07-89abcdef.42",
        "0123456789abcdef.7-89abcde.42",
        "0123456789abcdef.7-89abcdef.042",
        "0123456789abcdef.7-89abcdef.-1",
        "0123456789abcdef.7-89abcdef.42\n",
        "0123456789abcdef.7-89abcdef.٤",
        f"0123456789abcdef.7-89abcdef.{SEQUENCE_MAX + 1}",
    ],
)
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(ClientError) as refused:
        parse_position(text)
    assert refused.value.status == 400
