import pytest

from banish.caching.policy import DEFAULT_POLICY, CachePolicy
from banish.caching.vary import matches, normal_form, selecting_values, vary_names

from .exchanges import cached, fields, get, stored


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ((), ()),
        (("",), ()),
        (("Foo",), ("foo",)),
        (("Foo, bar",), ("bar", "foo")),
        (("foo", "Bar", "FOO"), ("bar", "foo")),
    ],
)
def test_names_come_sorted_and_once(values: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert vary_names(fields(*[("Vary", value) for value in values]), DEFAULT_POLICY) == names


@pytest.mark.parametrize("values", [("*",), ("*, *",), ("*", "*"), (", *",), ("", "*"), ("*, Foo",), ("Foo, *",)])
def test_a_star_anywhere_matches_nothing(values: tuple[str, ...]) -> None:
    assert vary_names(fields(*[("Vary", value) for value in values]), DEFAULT_POLICY) is None


@pytest.mark.parametrize("value", ["foo bar", "foo;q=1", '"foo"', "foo: bar"])
def test_a_damaged_vary_matches_nothing(value: str) -> None:
    assert vary_names(fields(("Vary", value)), DEFAULT_POLICY) is None


def test_the_operator_adds_and_takes_away_names() -> None:
    policy = CachePolicy(vary_on=("x-device",), vary_ignore=("user-agent",), ignore_cookies=True)
    assert vary_names(fields(("Vary", "User-Agent, Cookie, Foo")), policy) == ("foo", "x-device")


def test_a_request_matches_by_equal_values_and_equal_absences() -> None:
    meta = stored(cached("max-age=9", ("Vary", "Foo, Bar")), get(("Foo", "1"), ("Other", "2")))
    assert meta.selecting == (None, "1")
    assert matches(meta, get(("Foo", "1"), ("Other", "3")).fields, DEFAULT_POLICY)
    assert not matches(meta, get(("Foo", "2")).fields, DEFAULT_POLICY)
    assert not matches(meta, get().fields, DEFAULT_POLICY)
    assert not matches(meta, get(("Foo", "1"), ("Bar", "")).fields, DEFAULT_POLICY)


def test_lines_are_joined_before_comparing() -> None:
    two = selecting_values(("foo",), fields(("Foo", "1"), ("Foo", "2")), DEFAULT_POLICY)
    one = selecting_values(("foo",), fields(("Foo", "1, 2")), DEFAULT_POLICY)
    assert one == two


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("foo", "1,2", " 1, 2 "),
        ("foo", "x" * 300 + ", a", "x" * 300 + ",a"),
        ("accept-language", "en, de", "de, en"),
        ("accept-language", "en, de", "eN ,   De"),
        ("accept-language", "de;q=0.5, en", "en;q=1.0,de; q=0.50"),
        ("accept-encoding", "gzip, deflate, br", "br,gzip,deflate"),
        ("accept-encoding", "x-gzip;q=1", "GZIP"),
    ],
)
def test_values_that_mean_the_same_have_one_form(name: str, one: str, other: str) -> None:
    assert normal_form(name, one) == normal_form(name, other)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("foo", "a", "A"),
        ("foo", "1,2", "2,1"),
        ("foo", "a,,b", "a,b"),
        ("foo", '"a,b"', '"a , b"'),
        ("foo", "x" * 300 + ",a", "x" * 300 + ",A"),
        ("foo", "a b", "a  b"),
        ("accept-language", "en, de", "en;q=0.9, de"),
        ("accept-encoding", "gzip", "gzip;q=0"),
        ("accept-encoding", "gzip", ""),
        ("accept-encoding", "gzip;q=2", "gzip"),
        ("accept-encoding", "gzip;level=9", "gzip"),
    ],
)
def test_values_that_may_differ_in_meaning_keep_apart(name: str, one: str, other: str) -> None:
    assert normal_form(name, one) != normal_form(name, other)


@pytest.mark.parametrize("value", [" " * 60000 + "x", '"\\"' * 20000, "gzip;q=0." + " " * 60000, "a," * 30000])
@pytest.mark.parametrize("name", ["foo", "accept-encoding"])
def test_the_longest_and_oddest_value_has_a_form(name: str, value: str) -> None:
    assert len(normal_form(name, value)) <= len(value)
