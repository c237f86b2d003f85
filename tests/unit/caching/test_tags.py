import pytest

from banish.caching.policy import DEFAULT_POLICY, CachePolicy
from banish.caching.tags import TAG_BYTES_MAX, TAGS_MAX, groups, tags, within_limits

from .exchanges import fields


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Cache-Tag", "a, b ,c,,", ("a", "b", "c")),
        ("Cache-Tag", "with space, b", ("with space", "b")),
        ("X-Magento-Tags", "cat_p_1,cat_c_2", ("cat_p_1", "cat_c_2")),
        ("Surrogate-Key", " a  b,c\td ", ("a", "b,c", "d")),
        ("xkey", "a b, c", ("a", "b", "c")),
        ("X-Cache-Tags", "node:1,node_list", ("node:1", "node_list")),
        ("X-Cache-Tags", "node:1 node_list", ("node:1", "node_list")),
    ],
)
def test_each_field_separates_tags_in_its_own_way(name: str, value: str, expected: tuple[str, ...]) -> None:
    assert tags(fields((name, value)), DEFAULT_POLICY) == expected


def test_tags_of_all_fields_and_lines_come_together_once() -> None:
    given = fields(("Surrogate-Key", "x a"), ("Cache-Tag", "a"), ("Cache-Tag", "b, a"))
    assert tags(given, DEFAULT_POLICY) == ("a", "b", "x")


def test_the_operator_names_the_fields() -> None:
    policy = CachePolicy(tag_fields=("x-labels",))
    assert tags(fields(("X-Labels", "a b"), ("Cache-Tag", "c")), policy) == ("a", "b")


def test_limits_are_on_number_and_length() -> None:
    many = tuple(str(n) for n in range(TAGS_MAX))
    assert within_limits(many)
    assert not within_limits((*many, "one more"))
    assert within_limits(("x" * TAG_BYTES_MAX,))
    assert not within_limits(("x" * (TAG_BYTES_MAX + 1),))


def test_groups_are_a_list_of_strings() -> None:
    given = fields(("Cache-Groups", '"a", "b, c";x=1'), ("Cache-Groups", '"a"'))
    assert groups(given) == ("a", "b, c")


@pytest.mark.parametrize("value", ["", "a", "1", '"a", b', '("a" "b")', '"a', ":YQ==:", "?1"])
def test_anything_else_is_no_list_of_groups(value: str) -> None:
    assert groups(fields(("Cache-Groups", value))) == ()
