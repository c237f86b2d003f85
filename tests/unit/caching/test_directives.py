import math

import pytest

from banish.caching.directives import (
    NO_DIRECTIVES,
    SECONDS_MAX,
    Directives,
    delta_seconds,
    parse_cache_control,
    request_directives,
)
from banish.http.fields import Fields


def parse(*values: str) -> Directives:
    return parse_cache_control(list(values))


@pytest.mark.parametrize("value", ["max-age=60", "MaX-aGe=60", 'max-age="60"', "foo, max-age=60", " max-age=0060 "])
def test_forms_of_a_lifetime_that_are_all_understood(value: str) -> None:
    assert parse(value).max_age == 60


@pytest.mark.parametrize(
    "value",
    [
        "max-age",
        "max-age=",
        "max-age=-1",
        "max-age=60.0",
        "max-age=60.5",
        "max-age=a60",
        "max-age=60a",
        "max-age='60'",
        "max-age =60",
        "max-age= 60",
        "max-age=+60",
        "max-age=6 0",
        "max-age=²",
        "max-age=0x10",
    ],
)
def test_a_damaged_lifetime_is_no_time_at_all(value: str) -> None:
    assert parse(value).max_age == 0


@pytest.mark.parametrize("digits", ["2147483648", "2147483649", "99999999999", "9" * 5000])
def test_numbers_past_the_largest_mean_the_largest(digits: str) -> None:
    assert parse(f"max-age={digits}").max_age == SECONDS_MAX


def test_the_number_below_the_largest_means_itself() -> None:
    assert parse("max-age=2147483647").max_age == SECONDS_MAX - 1


@pytest.mark.parametrize("values", [("max-age=10, max-age=5",), ("max-age=5", "max-age=10"), ("max-age=5, max-age=5",)])
def test_the_shortest_of_several_lifetimes_counts(values: tuple[str, ...]) -> None:
    assert parse(*values).max_age == 5


def test_a_damaged_lifetime_beside_a_good_one_wins() -> None:
    assert parse("s-maxage=60, s-maxage=x").s_maxage == 0


def test_what_stands_in_a_quoted_string_is_not_a_directive() -> None:
    assert parse('extension="max-age=3600, no-store", max-age=1') == Directives(max_age=1)


def test_flags_count_in_any_case_and_with_any_argument() -> None:
    assert parse("No-StOrE, must-revalidate=1, PUBLIC") == Directives(no_store=True, must_revalidate=True, public=True)


def test_every_flag_is_known() -> None:
    storing = "no-store, no-cache, private, public, must-understand, no-transform"
    reuse = "must-revalidate, proxy-revalidate, immutable, only-if-cached"
    assert parse(storing, reuse) == Directives(
        no_store=True,
        no_cache=True,
        private=True,
        public=True,
        must_revalidate=True,
        proxy_revalidate=True,
        must_understand=True,
        no_transform=True,
        immutable=True,
        only_if_cached=True,
    )


@pytest.mark.parametrize("value", ['no-cache="A, b"', 'no-cache="A,b,"', 'no-cache=a, no-cache="b"'])
def test_a_qualified_no_cache_lists_field_names(value: str) -> None:
    assert parse(value) == Directives(no_cache_fields=("a", "b"))


def test_a_qualified_private_lists_field_names() -> None:
    assert parse('private="Set-Cookie"') == Directives(private_fields=("set-cookie",))


@pytest.mark.parametrize(
    "value",
    ["no-cache", 'no-cache=""', 'no-cache="a b"', 'no-cache ="a"', 'no-cache="vary"', 'no-cache="a, Etag"'],
)
def test_a_no_cache_that_cannot_be_limited_to_fields_is_whole(value: str) -> None:
    assert parse(value) == Directives(no_cache=True)


def test_qualified_and_unqualified_forms_may_stand_together() -> None:
    assert parse('private="a", private') == Directives(private=True, private_fields=("a",))


def test_damage_in_a_permission_permits_nothing() -> None:
    assert parse("stale-while-revalidate, stale-if-error=x, max-stale=y, min-fresh") == NO_DIRECTIVES


def test_windows_are_read_and_the_smaller_counts() -> None:
    found = parse("stale-while-revalidate=5, stale-if-error=9", "stale-if-error=7")
    assert found == Directives(stale_while_revalidate=5, stale_if_error=7)


@pytest.mark.parametrize(
    ("value", "allowed"), [("max-stale", math.inf), ("max-stale=30", 30), ("max-stale, max-stale=30", 30)]
)
def test_max_stale_without_a_value_has_no_end(value: str, allowed: float) -> None:
    assert parse(value).max_stale == allowed


def test_the_larger_of_two_min_fresh_counts() -> None:
    assert parse("min-fresh=3, min-fresh=5, min-fresh=4").min_fresh == 5


def test_nothing_comes_of_an_empty_field() -> None:
    assert parse("", " , ,", "=", "=60") == NO_DIRECTIVES


def test_an_escaped_quote_does_not_end_a_string() -> None:
    assert parse(r'x="a\", no-store, \"b", max-age=1') == Directives(max_age=1)


def test_pragma_stands_in_for_an_absent_cache_control() -> None:
    assert request_directives(Fields.of([("Pragma", "No-Cache")])).no_cache


def test_pragma_says_nothing_beside_cache_control() -> None:
    both = Fields.of([("Pragma", "no-cache"), ("Cache-Control", "max-age=9")])
    assert request_directives(both) == Directives(max_age=9)


def test_other_pragmas_say_nothing() -> None:
    assert request_directives(Fields.of([("Pragma", "foo")])) is NO_DIRECTIVES
    assert request_directives(Fields.of([])) is NO_DIRECTIVES


@pytest.mark.parametrize("text", ["", "-1", "1.0", " 1", "1 ", "one", "١"])
def test_what_is_no_whole_number_of_seconds(text: str) -> None:
    assert delta_seconds(text) is None


def test_a_value_too_long_to_be_remembered_is_read_all_the_same() -> None:
    assert parse("foo=" + "x" * 1000 + ", max-age=5") == Directives(max_age=5)


@pytest.mark.parametrize("value", ['private="a", ' * 5000, '"\\"' * 30000, " " * 60000 + "," + "\t" * 60000])
def test_the_longest_and_oddest_value_is_read_in_passing(value: str) -> None:
    parse(value + "max-age=5")
