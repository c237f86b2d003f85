import pytest

from banish.caching.directives import NO_DIRECTIVES, SECONDS_MAX, Directives
from banish.caching.policy import DEFAULT_POLICY, CachePolicy
from banish.caching.targeted import Control, control, parse_targeted

from .exchanges import fields


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("max-age=60", Directives(max_age=60)),
        ("foobar, max-age=60;why=1", Directives(max_age=60)),
        ("max-age=99999999999", Directives(max_age=SECONDS_MAX)),
        ("max-age=-5", Directives(max_age=0)),
        ("max-age=5, max-age=6", Directives(max_age=6)),
        ("no-store, private", Directives(no_store=True, private=True)),
        ("no-store=?0, public", Directives(public=True)),
        ('no-cache="a, B"', Directives(no_cache_fields=("a", "b"))),
        ('private="vary"', Directives(private=True)),
        ("no-cache=set-cookie", Directives(no_cache_fields=("set-cookie",))),
        ("max-age=1, stale-while-revalidate=5", Directives(max_age=1, stale_while_revalidate=5)),
        ("foobar", NO_DIRECTIVES),
        ('max-age="60", no-store', Directives(no_store=True)),
    ],
)
def test_a_valid_field_is_read(value: str, expected: Directives) -> None:
    assert parse_targeted(value) == expected


@pytest.mark.parametrize(
    "value",
    ["", " ", "max-age =60", "max-age= 60", "MaX-aGe=60", "max-age=60, &&&&", "max-age=60,", "é"],
)
def test_an_invalid_or_empty_field_is_ignored(value: str) -> None:
    assert parse_targeted(value) is None


@pytest.mark.parametrize("value", ['max-age="60"', "max-age", "max-age=6.0", "no-store=1", "no-cache=(a b)"])
def test_a_field_left_empty_by_wrong_types_is_ignored(value: str) -> None:
    assert parse_targeted(value) is None


def test_the_first_valid_field_of_the_target_list_applies() -> None:
    policy = CachePolicy(targeted_fields=("banish-cache-control", "cdn-cache-control"))
    both = fields(("CDN-Cache-Control", "max-age=1"), ("Banish-Cache-Control", "max-age=2"))
    damaged = fields(("CDN-Cache-Control", "max-age=1"), ("Banish-Cache-Control", "max-age=!"))
    assert control(both, policy) == Control(Directives(max_age=2), "banish-cache-control")
    assert control(damaged, policy) == Control(Directives(max_age=1), "cdn-cache-control")


def test_lines_of_one_field_are_one_dictionary() -> None:
    two = fields(("CDN-Cache-Control", "max-age=1"), ("CDN-Cache-Control", "public"))
    assert control(two, DEFAULT_POLICY).directives == Directives(max_age=1, public=True)


def test_cache_control_applies_where_nothing_is_targeted() -> None:
    lines = fields(("Cache-Control", "max-age=1"))
    assert control(lines, DEFAULT_POLICY) == Control(Directives(max_age=1))
    assert control(fields(), DEFAULT_POLICY) == Control(NO_DIRECTIVES)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("max-age=600", Directives(max_age=600)),
        ("max-age=600+30", Directives(max_age=600, stale_if_error=30)),
        ('content="ESI/1.0", max-age=5', Directives(max_age=5)),
        ("no-store", Directives(no_store=True)),
        ("max-age=-1", Directives(max_age=0)),
    ],
)
def test_surrogate_control_replaces_cache_control(value: str, expected: Directives) -> None:
    lines = fields(("Surrogate-Control", value), ("Cache-Control", "private"))
    assert control(lines, DEFAULT_POLICY) == Control(expected, "surrogate-control")


@pytest.mark.parametrize("value", ['content="ESI/1.0"', "max-age=600;other", "no-store-remote", ""])
def test_surrogate_control_that_says_nothing_to_us_is_ignored(value: str) -> None:
    lines = fields(("Surrogate-Control", value), ("Cache-Control", "private"))
    assert control(lines, DEFAULT_POLICY) == Control(Directives(private=True))


def test_surrogate_control_comes_after_targeted_fields_and_can_be_turned_off() -> None:
    lines = fields(("Surrogate-Control", "max-age=1"), ("CDN-Cache-Control", "max-age=2"))
    assert control(lines, DEFAULT_POLICY).source == "cdn-cache-control"
    off = CachePolicy(targeted_fields=(), surrogate_control=False)
    assert control(lines, off) == Control(NO_DIRECTIVES)
