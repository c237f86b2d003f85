import pytest

from banish.http.ranges import (
    RANGES_MAX,
    ByteRange,
    ContentRange,
    if_range_matches,
    parse_content_range,
    parse_range,
    resolve,
)


@pytest.mark.parametrize(
    ("value", "ranges"),
    [
        ("bytes=0-4", [ByteRange(0, 4)]),
        ("bytes=5-", [ByteRange(5, None)]),
        ("bytes=-5", [ByteRange(None, 5)]),
        ("Bytes=0-0", [ByteRange(0, 0)]),
        ("bytes=0-1, ,4-5 ,\t-1,", [ByteRange(0, 1), ByteRange(4, 5), ByteRange(None, 1)]),
        ("bytes=-0", [ByteRange(None, 0)]),
        ("bytes=007-010", [ByteRange(7, 10)]),
    ],
)
def test_parses_ranges(value: str, ranges: list[ByteRange]) -> None:
    assert parse_range(value) == ranges


@pytest.mark.parametrize(
    "value",
    [
        *("", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=4-3", "bytes=a-b", "bytes=0-4-5", "bytes 0-4"),
        *("bytes=0 - 4", "bytes=+1-2", "bytes =0-4", "lines=0-4", "bytes=0-4, x", "bytes=1.5-2", "bytes=٣-٤"),
    ],
)
def test_ignores_what_is_no_range_of_bytes(value: str) -> None:
    assert parse_range(value) is None


def test_ignores_too_many_ranges() -> None:
    assert parse_range("bytes=" + ",".join(["0-0"] * RANGES_MAX)) is not None
    assert parse_range("bytes=" + ",".join(["0-0"] * (RANGES_MAX + 1))) is None


def test_positions_of_any_length_are_read_without_trouble() -> None:
    ranges = parse_range(f"bytes=0-{'9' * 10_000}")
    assert ranges is not None
    assert resolve(ranges[0], 10) == (0, 10)
    beyond = parse_range(f"bytes={'9' * 10_000}-")
    assert beyond is not None
    assert resolve(beyond[0], 10) is None


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 4, (0, 5)),
        (0, 9, (0, 10)),
        (0, 100, (0, 10)),
        (9, 9, (9, 10)),
        (10, 12, None),
        (10, None, None),
        (4, None, (4, 10)),
        (None, 3, (7, 10)),
        (None, 10, (0, 10)),
        (None, 100, (0, 10)),
        (None, 0, None),
    ],
)
def test_resolves_against_ten_bytes(first: int | None, last: int | None, expected: tuple[int, int] | None) -> None:
    assert resolve(ByteRange(first, last), 10) == expected


@pytest.mark.parametrize("byte_range", [ByteRange(0, None), ByteRange(0, 0), ByteRange(None, 5)])
def test_nothing_can_be_had_from_an_empty_representation(byte_range: ByteRange) -> None:
    assert resolve(byte_range, 0) is None


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("bytes 0-4/10", ContentRange(0, 4, 10)),
        ("bytes 0-4/*", ContentRange(0, 4, None)),
        ("bytes */10", ContentRange(None, None, 10)),
    ],
)
def test_content_range_is_read_and_written(value: str, parsed: ContentRange) -> None:
    assert parse_content_range(value) == parsed
    assert str(parsed) == value


def test_content_range_takes_any_case_of_its_unit() -> None:
    assert parse_content_range("Bytes 0-0/1") == ContentRange(0, 0, 1)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "bytes",
            "bytes */*",
            "bytes 4-3/10",
            "bytes 0-10/10",
            "bytes 0-4",
            "bytes 0-/10",
            "bytes -4/10",
        ),
        *("lines 0-4/10", "bytes=0-4/10", "bytes 0-4/10, bytes 5-9/10", "bytes  0-4/10", "bytes 0 - 4/10"),
    ],
)
def test_damaged_or_contradictory_content_range_is_none(value: str) -> None:
    assert parse_content_range(value) is None


LAST_MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
MODIFIED = 784_111_777.0


def matches(
    value: str, *, etag: str | None = None, last_modified: str | None = None, date: float | None = None
) -> bool:
    return if_range_matches(value, etag=etag, last_modified=last_modified, date=date)


def test_if_range_compares_tags_strongly() -> None:
    assert matches('"a"', etag='"a"')
    assert not matches('"a"', etag='"b"')
    assert not matches('W/"a"', etag='W/"a"')
    assert not matches('"a"', etag='W/"a"')
    assert not matches('"a"')
    assert not matches("*", etag='"a"')
    assert not matches('"a", "b"', etag='"a"')


def test_if_range_takes_the_very_last_modified_date_in_any_form() -> None:
    assert matches(LAST_MODIFIED, last_modified=LAST_MODIFIED, date=MODIFIED + 60)
    assert matches("Sunday, 06-Nov-94 08:49:37 GMT", last_modified=LAST_MODIFIED, date=MODIFIED + 60)
    assert not matches("Sun, 06 Nov 1994 08:49:38 GMT", last_modified=LAST_MODIFIED, date=MODIFIED + 60)


def test_if_range_date_is_strong_only_a_second_after() -> None:
    assert matches(LAST_MODIFIED, last_modified=LAST_MODIFIED, date=MODIFIED + 1)
    assert not matches(LAST_MODIFIED, last_modified=LAST_MODIFIED, date=MODIFIED)
    assert not matches(LAST_MODIFIED, last_modified=LAST_MODIFIED, date=None)


def test_if_range_never_matches_damage() -> None:
    assert not matches("junk", last_modified="junk", date=MODIFIED)
    assert not matches(LAST_MODIFIED, etag='"a"', date=MODIFIED)
