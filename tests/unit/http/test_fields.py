import pytest

from banish.http.fields import Fields, split_list

FIELDS = Fields.of([("A", "1"), ("b", "2, 3"), ("a", "4")])


def test_lookups_take_no_notice_of_case_and_combine_lines() -> None:
    assert FIELDS.get("a") == "1, 4"
    assert FIELDS.get("b") == "2, 3"
    assert FIELDS.get("c") is None
    assert FIELDS.get_all("a") == ["1", "4"]
    assert "a" in FIELDS
    assert "c" not in FIELDS


def test_members_span_lines() -> None:
    assert FIELDS.members("b") == ["2", "3"]
    assert FIELDS.members("a") == ["1", "4"]


def test_changing_makes_new_fields() -> None:
    assert FIELDS.without(("a",)).lines == (("b", "2, 3"),)
    assert FIELDS.with_field("A", "9").lines == (("b", "2, 3"), ("A", "9"))
    assert FIELDS.plus("C", "5").lines[-1] == ("C", "5")
    assert len(FIELDS) == 3


def test_names_stay_in_step_with_lines() -> None:
    for fields in (FIELDS, FIELDS.plus("C", "5"), FIELDS.with_field("A", "9"), FIELDS.without(("b",))):
        assert fields.names == tuple(name.lower() for name, _ in fields)


def test_what_a_parser_leaves_at_the_end_of_a_value_is_cut_off() -> None:
    assert Fields.decode([(b"Host", b"a \t "), (b"B", b""), (b"C", b"x\x0b")]).lines == (
        ("Host", "a"),
        ("B", ""),
        ("C", "x\x0b"),
    )


def test_every_byte_survives_the_round_trip() -> None:
    value = bytes(range(0x80, 0x100))
    assert Fields.decode([(b"A", value)]).encode() == b"A: " + value + b"\r\n"


@pytest.mark.parametrize(
    ("value", "members"),
    [
        ("a, b ,,c", ["a", "b", "c"]),
        ("", []),
        (" , ", []),
        ('a="x, y", b', ['a="x, y"', "b"]),
        ('a="x\\", y", b', ['a="x\\", y"', "b"]),
        ('"unclosed, a', ['"unclosed, a']),
    ],
)
def test_lists_are_split_outside_quotes(value: str, members: list[str]) -> None:
    assert split_list(value) == members
