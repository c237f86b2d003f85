import pytest

from banish.http.dates import format_http_date, parse_http_date

NOW = 1_750_000_000.0  # 15 June 2025
MOMENT = 784_111_777.0  # the example of RFC 9110


def parse(text: str, now: float = NOW) -> float | None:
    return parse_http_date(text, now=now)


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
    ids=["imf-fixdate", "rfc850", "asctime"],
)
def test_each_of_the_three_forms_names_the_same_moment(text: str) -> None:
    assert parse(text) == MOMENT


def test_asctime_takes_a_two_digit_day() -> None:
    assert parse("Wed Nov 16 08:49:37 1994") == MOMENT + 10 * 86400


@pytest.mark.parametrize(
    "text",
    ["SUN, 06 Nov 1994 08:49:37 GMT", "Sun, 06 NOV 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 gMT"],
)
def test_case_does_not_matter(text: str) -> None:
    assert parse(text) == MOMENT


def test_a_weekday_that_disagrees_with_the_date_is_overlooked() -> None:
    assert parse("Tue, 06 Nov 1994 08:49:37 GMT") == MOMENT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "Xyz, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov  1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:38 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 1994 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:60 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
    ],
)
def test_anything_else_is_no_date(text: str) -> None:
    assert parse(text) is None


def test_a_leap_second_is_the_second_after() -> None:
    assert parse("Sat, 31 Dec 2016 23:59:60 GMT") == parse("Sun, 01 Jan 2017 00:00:00 GMT")


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("Thursday, 18-Aug-50 02:01:18 GMT", 2050),
        ("Sunday, 15-Jun-75 00:00:00 GMT", 2075),
        ("Sunday, 16-Jun-75 00:00:00 GMT", 1975),
        ("Sunday, 15-Jun-76 00:00:00 GMT", 1976),
        ("Sunday, 15-Jun-24 00:00:00 GMT", 2024),
    ],
)
def test_a_two_digit_year_lies_at_most_fifty_years_ahead(text: str, year: int) -> None:
    moment = parse(text)
    assert moment is not None
    assert format_http_date(moment)[12:16] == str(year)


def test_a_two_digit_year_crosses_the_century_with_now() -> None:
    now = parse("Sat, 01 Jan 2095 00:00:00 GMT")
    assert now is not None
    moment = parse("Friday, 01-Jan-10 00:00:00 GMT", now)
    assert moment == parse("Wed, 01 Jan 2110 00:00:00 GMT")


def test_dates_beyond_32_bits_and_before_1970_are_dates() -> None:
    assert parse("Sun, 21 Nov 2286 04:46:39 GMT") == 10_000_039_599.0
    assert parse("Wed, 31 Dec 1969 23:59:59 GMT") == -1.0


def test_formats_as_imf_fixdate() -> None:
    assert format_http_date(MOMENT) == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_formatting_cuts_fractions_off() -> None:
    assert format_http_date(MOMENT + 0.999) == "Sun, 06 Nov 1994 08:49:37 GMT"
