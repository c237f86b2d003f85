import pytest

from banish.http.conditions import (
    EntityTag,
    has_state_changing_precondition,
    lists_etag,
    not_modified,
    parse_etag,
    parse_etags,
    strong_match,
    weak_match,
)
from banish.http.dates import format_http_date
from banish.http.fields import Fields

NOW = 1_750_000_000.0
DATE = NOW - 100


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ('"abc"', EntityTag("abc")),
        ('W/"abc"', EntityTag("abc", weak=True)),
        ('""', EntityTag("")),
        ('"a,b\\"', EntityTag("a,b\\")),
        ('"abcdef\xfc"', EntityTag("abcdef\xfc")),
    ],
)
def test_parses_entity_tags(text: str, tag: EntityTag) -> None:
    assert parse_etag(text) == tag


@pytest.mark.parametrize("text", ["", "abc", 'w/"abc"', 'W"abc"', '"abc', '"a b"', '"a"b"', '"a"\n', '"a", "b"'])
def test_refuses_what_is_no_entity_tag(text: str) -> None:
    assert parse_etag(text) is None


def test_lists_of_tags_mind_commas_and_backslashes_inside_tags() -> None:
    assert parse_etags('"a,b" , W/"c\\",, "d",') == [
        EntityTag("a,b"),
        EntityTag("c\\", weak=True),
        EntityTag("d"),
    ]


@pytest.mark.parametrize("text", ['"a" "b"', 'a, "b"', '"a", "b', "*"])
def test_a_damaged_list_of_tags_is_none(text: str) -> None:
    assert parse_etags(text) is None


def test_strong_comparison_wants_both_strong_and_weak_comparison_does_not_care() -> None:
    strong, weak = EntityTag("1"), EntityTag("1", weak=True)
    assert [strong_match(strong, strong), strong_match(strong, weak), strong_match(weak, weak)] == [
        True,
        False,
        False,
    ]
    assert [weak_match(strong, weak), weak_match(weak, weak), weak_match(weak, EntityTag("2"))] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("value", ['"abc"', 'W/"abc"', '"x", "abc", "y"', '"x","abc"', "*", ' "abc" '])
def test_a_value_names_the_stored_tag_by_weak_comparison(value: str) -> None:
    assert lists_etag(value, '"abc"')
    assert lists_etag(value, 'W/"abc"')


@pytest.mark.parametrize("value", ['"abd"', "abc", '"abc" x', "", '"abc'])
def test_a_value_names_no_other_tag(value: str) -> None:
    assert not lists_etag(value, '"abc"')


def test_damaged_tags_match_only_byte_for_byte() -> None:
    assert lists_etag("abc", "abc")
    assert not lists_etag('"abc"', "abc")
    assert not lists_etag("", "")


def test_a_star_names_a_response_without_a_tag() -> None:
    assert lists_etag("*", None)
    assert not lists_etag('"a"', None)


def answer(request: dict[str, str], stored: dict[str, str]) -> bool:
    return not_modified(Fields.of(request.items()), Fields.of(stored.items()), date=DATE, now=NOW)


def at(offset_s: float) -> str:
    return format_http_date(DATE + offset_s)


def test_without_conditions_nothing_is_not_modified() -> None:
    assert not answer({}, {"ETag": '"a"', "Last-Modified": at(-50)})


def test_if_none_match_alone_decides_when_present() -> None:
    assert answer({"If-None-Match": '"a"', "If-Modified-Since": at(-90)}, {"ETag": '"a"', "Last-Modified": at(-50)})
    assert not answer({"If-None-Match": '"b"', "If-Modified-Since": at(0)}, {"ETag": '"a"', "Last-Modified": at(-50)})
    assert not answer({"If-None-Match": '"b"', "If-Modified-Since": at(0)}, {"Last-Modified": at(-50)})


def test_several_if_none_match_lines_are_one_list() -> None:
    request = Fields.of([("If-None-Match", '"a"'), ("if-none-match", '"b"')])
    assert not_modified(request, Fields.of([("ETag", '"b"')]), date=DATE, now=NOW)


@pytest.mark.parametrize(("since_s", "expected"), [(-51, False), (-50, True), (-10, True), (5000, True)])
def test_if_modified_since_compares_with_last_modified(since_s: float, expected: bool) -> None:
    assert answer({"If-Modified-Since": at(since_s)}, {"Last-Modified": at(-50)}) is expected


@pytest.mark.parametrize("stored", [{}, {"Last-Modified": "yesterday"}])
def test_the_date_stands_in_for_a_missing_last_modified(stored: dict[str, str]) -> None:
    assert answer({"If-Modified-Since": at(0)}, stored)
    assert not answer({"If-Modified-Since": at(-1)}, stored)


def test_if_modified_since_that_is_no_date_or_several_is_ignored() -> None:
    assert not answer({"If-Modified-Since": "now"}, {"Last-Modified": at(-50)})
    twice = Fields.of([("If-Modified-Since", at(0)), ("If-Modified-Since", at(0))])
    assert not not_modified(twice, Fields.of([("Last-Modified", at(-50))]), date=DATE, now=NOW)


def test_if_modified_since_takes_the_obsolete_forms() -> None:
    assert answer({"If-Modified-Since": "Sunday, 15-Jun-25 15:06:40 GMT"}, {"Last-Modified": at(-50)})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("If-Match", True), ("If-Unmodified-Since", True), ("If-None-Match", False), ("If-Range", False)],
)
def test_conditions_on_a_change_of_state_are_the_origins(name: str, expected: bool) -> None:
    assert has_state_changing_precondition(Fields.of([(name, "x")])) is expected
