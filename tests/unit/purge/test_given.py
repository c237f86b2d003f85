from typing import Any

import pytest

from banish.caching.policy import DEFAULT_POLICY, CachePolicy
from banish.errors import ClientError
from banish.http.targets import Target as HttpTarget
from banish.purge.given import (
    HEADERS_MAX,
    TARGETS_MAX,
    VALUE_LENGTH_MAX,
    Canonical,
    Given,
    accepted,
    canonical,
    item_of,
    parse_targets,
)
from banish.purge.stamps import Mode
from banish.purge.targets import (
    Kind,
    Target,
    everything_target,
    group_target,
    host_target,
    pattern_target,
    prefix_target,
    tag_target,
    url_target,
)


def default_policy(_url: HttpTarget) -> CachePolicy:
    return DEFAULT_POLICY


def sorting_policy(_url: HttpTarget) -> CachePolicy:
    return CachePolicy(query_sort=True, query_drop=("utm_*",))


def meant(given: Given) -> Canonical:
    return canonical(given, (), default_policy)


# The JSON form


def test_every_form() -> None:
    items: list[dict[str, Any]] = [
        {"url": "https://a.example/x"},
        {"url": "https://a.example/x", "headers": {"Accept-Encoding": "gzip"}, "mode": "soft"},
        {"prefix": "a.example/x"},
        {"prefix": "a.example/x", "boundary": True, "mode": "hard"},
        {"host": "*.a.example"},
        {"tag": "news"},
        {"group": "https://a.example news"},
        {"pattern": "*/a/*"},
        {"regex": "/a/[0-9]+$"},
        {"everything": True},
    ]
    parsed = parse_targets(items)
    assert parsed == (
        Given(Kind.URL, "https://a.example/x"),
        Given(Kind.URL, "https://a.example/x", headers=(("Accept-Encoding", "gzip"),), mode=Mode.SOFT),
        Given(Kind.PREFIX, "a.example/x"),
        Given(Kind.PREFIX, "a.example/x", boundary=True, mode=Mode.HARD),
        Given(Kind.HOST, "*.a.example"),
        Given(Kind.TAG, "news"),
        Given(Kind.GROUP, "https://a.example news"),
        Given(Kind.PATTERN, "*/a/*"),
        Given(Kind.PATTERN, "/a/[0-9]+$", regex=True),
        Given(Kind.EVERYTHING),
    )
    assert [item_of(given) for given in parsed] == items
    assert not any(meant(given).widened for given in parsed)


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("news", "an object with one of url, prefix"),
        ({}, "none is there"),
        ({"tag": "a", "url": "https://a/"}, "tag and url"),
        ({"tag": "a", "colour": "red"}, "'colour' has no meaning beside 'tag'"),
        ({"tag": "a", "boundary": True}, "'boundary' has no meaning beside 'tag'"),
        ({"prefix": "a/", "headers": {"a": "b"}}, "'headers' has no meaning"),
        ({"tag": 7}, "tag is text"),
        ({"everything": False}, "everything is true"),
        ({"everything": 1}, "everything is true"),
        ({"tag": "a", "mode": "gentle"}, "mode is hard or soft"),
        ({"tag": "a", "mode": []}, "mode is hard or soft"),
        ({"prefix": "a/", "boundary": "yes"}, "boundary is true or false"),
        ({"url": "https://a/", "headers": {}}, "headers is an object"),
        ({"url": "https://a/", "headers": {"a": 1}}, "headers is an object"),
    ],
)
def test_what_is_in_no_form_is_refused_with_its_number_and_what_is_right(item: Any, told: str) -> None:
    with pytest.raises(ClientError) as refused:
        parse_targets([{"tag": "fine"}, item])
    assert refused.value.status == 400
    assert refused.value.reason.startswith("target 2: ")
    assert told in refused.value.reason


def test_more_targets_than_one_purge_may_have_are_refused() -> None:
    many = [{"tag": str(number)} for number in range(TARGETS_MAX)]
    assert len(parse_targets(many)) == TARGETS_MAX
    with pytest.raises(ClientError, match=f"{TARGETS_MAX} targets at most, not {TARGETS_MAX + 1}") as refused:
        parse_targets([*many, {"tag": "one more"}])
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ({"tag": ""}, "it is empty"),
        ({"tag": " "}, "it is empty"),
        ({"tag": "x" * 1025}, "1024 bytes"),
        ({"url": "https://a/", "headers": {"a b": "c"}}, "no name of a field"),
        ({"url": "https://a/", "headers": {"a": "b\r\nc: d"}}, "none that a field can have"),
        ({"url": "https://a/", "headers": {f"x{n}": "" for n in range(HEADERS_MAX + 1)}}, "more than 64"),
        ({"url": "/x"}, "names no host"),
        ({"url": "ftp://a/x"}, "http or https"),
        ({"url": "https://user@a/x"}, "host"),
        ({"url": "https://a/%zz"}, "percent-encoding"),
        ({"url": "https://a/" + "x" * VALUE_LENGTH_MAX}, "longer than 8192"),
        ({"prefix": "https://a/%C3%"}, "percent-encoding"),
        ({"host": "a.example/x"}, "purge it by prefix"),
        ({"host": "*"}, "host"),
        ({"host": "*.a.example:80"}, "every port"),
        ({"group": "news"}, "its origin"),
        ({"group": "a.example news"}, "its origin"),
        ({"group": "https://a.example"}, "its origin"),
        ({"group": "https://a.example/x news"}, "its origin"),
        ({"pattern": "*.bücher.example/*"}, "ASCII form"),
        ({"pattern": "*" * 2049}, "longer than 2048"),
        ({"pattern": "*/" * 65}, "64 wildcards"),
        ({"regex": "("}, "missing )"),
        ({"regex": "a{600}"}, "512 instructions"),
    ],
)
def test_what_has_no_meaning_is_refused_with_what_is_right(item: Any, told: str) -> None:
    (given,) = parse_targets([item])
    with pytest.raises(ClientError) as refused:
        accepted(given, (), default_policy)
    assert refused.value.status == 400
    assert told in refused.value.reason


@pytest.mark.parametrize(
    "given",
    [
        Given(Kind.EVERYTHING, "x"),
        Given(Kind.TAG, "x", boundary=True),
        Given(Kind.TAG, "x", regex=True),
        Given(Kind.HOST, "x", headers=(("a", "b"),)),
    ],
)
def test_what_means_nothing_for_its_kind_is_refused(given: Given) -> None:
    with pytest.raises(ClientError):
        accepted(given, (), default_policy)


# What is meant


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("https://a.example/x", ["a.example/x"]),
        ("http://a.example/x", ["a.example/x"]),
        (" HTTPS://A.Example:443/x#part ", ["a.example/x"]),
        ("a.example/x", ["a.example/x"]),
        ("//a.example/x", ["a.example/x"]),
        ("a.example", ["a.example/"]),
        ("a.example?x", ["a.example/?x"]),
        ("a.example:8080/x", ["a.example:8080/x"]),
        ("a.example:443/x", ["a.example/x", "a.example:443/x"]),
        ("a.example:80/x", ["a.example:80/x", "a.example/x"]),
        ("http://a.example:443/x", ["a.example:443/x"]),
        ("https://a.example/%7Ea/../b/%c3%a9?%c3", ["a.example/b/%C3%A9?%c3"]),
        ("https://a.example/é ü?q=ß x", ["a.example/%C3%A9%20%C3%BC?q=%C3%9F%20x"]),
        ("https://Bücher.example/", ["xn--bcher-kva.example/"]),
        ("https://straße.example:8080/", ["xn--strae-oqa.example:8080/"]),
        ("https://[2001:DB8:0::1]:443/", ["[2001:db8::1]/"]),
        ("https://a.example./", ["a.example/"]),
    ],
)
def test_urls_are_spelled_as_requests_are(text: str, places: list[str]) -> None:
    given = Given(Kind.URL, text)
    assert (
        accepted(given, (), default_policy) == meant(given) == (tuple(url_target("", place) for place in places), None)
    )


def test_urls_lose_what_keys_lose() -> None:
    given = Given(Kind.URL, "https://a.example/x?b=2&utm_source=mail&a=1")
    assert canonical(given, (), sorting_policy).targets == (url_target("", "a.example/x?a=1&b=2"),)


def test_the_policy_is_that_of_the_url() -> None:
    seen: list[HttpTarget] = []

    def policy_of(url: HttpTarget) -> CachePolicy:
        seen.append(url)
        return DEFAULT_POLICY

    canonical(Given(Kind.URL, "https://A.example/x?y"), (), policy_of)
    assert seen == [HttpTarget("https", "a.example", "/x", "y")]


def test_variants_are_named_by_normal_forms() -> None:
    given = Given(Kind.URL, "https://a.example/", headers=(("DNT", " 1"), ("Accept-Encoding", "gzip, br;q=1.0")))
    assert meant(given).targets[0].headers == (("accept-encoding", "br,gzip"), ("dnt", "1"))


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("a.example", ["a.example/"]),
        ("https://A.example/Blog", ["a.example/Blog"]),
        ("a.example/b%6cog/", ["a.example/blog/"]),
        ("a.example:80", ["a.example:80/", "a.example/"]),
        ("a.example/x?page=", ["a.example/x?page="]),
    ],
)
def test_prefixes(text: str, places: list[str]) -> None:
    given = Given(Kind.PREFIX, text)
    assert (
        accepted(given, (), default_policy)
        == meant(given)
        == (tuple(prefix_target("", place) for place in places), None)
    )


def test_a_prefix_into_a_query_that_keys_rearrange_is_its_path() -> None:
    found = canonical(Given(Kind.PREFIX, "https://a.example/x?utm_source="), (), sorting_policy)
    assert found.targets == (prefix_target("", "a.example/x", boundary=True),)
    assert "does not keep queries" in (found.widened or "")
    assert canonical(Given(Kind.PREFIX, "https://a.example/x"), (), sorting_policy).widened is None


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("A.example", ["a.example"]),
        ("https://a.example/", ["a.example"]),
        ("a.example:8080", ["a.example:8080"]),
        ("a.example:443", ["a.example", "a.example:443"]),
        ("*.Bücher.example", ["*.xn--bcher-kva.example"]),
        ("[::1]", ["[::1]"]),
    ],
)
def test_hosts(text: str, hosts: list[str]) -> None:
    given = Given(Kind.HOST, text)
    assert accepted(given, (), default_policy) == meant(given) == (tuple(host_target("", host) for host in hosts), None)


def test_a_tag_beyond_ascii_is_meant_however_fields_and_hooks_write_it() -> None:
    assert meant(Given(Kind.TAG, " café ")).targets == (tag_target("", "cafÃ©"), tag_target("", "café"))
    in_utf_8 = "日本".encode().decode("latin-1")
    assert meant(Given(Kind.TAG, "日本")).targets == (tag_target("", in_utf_8), tag_target("", "日本"))
    assert meant(Given(Kind.TAG, "a b")).targets == (tag_target("", "a b"),)


def test_groups_belong_to_an_origin() -> None:
    assert meant(Given(Kind.GROUP, "HTTPS://A.example:443 breaking news")).targets == (
        group_target("", "https://a.example", "breaking news"),
    )
    assert meant(Given(Kind.GROUP, "https://a.example  x ")).targets == (group_target("", "https://a.example", " x "),)
    assert meant(Given(Kind.GROUP, "https://a.example ")).targets == (group_target("", "https://a.example", ""),)


@pytest.mark.parametrize(
    ("text", "globs"),
    [
        ("https://A.example/X/*", ["https://a.example/X/*"]),
        ("A.example/X/*", ["a.example/X/*"]),
        ("a.example:443/*", ["a.example/*", "a.example:443/*"]),
        ("https://a.example:443/*", ["https://a.example/*"]),
        ("WWW.*/X", ["www.*/X"]),
        ("*.Example/X", ["*.Example/X"]),
        ("*Foo*", ["*Foo*"]),
        ("*/café/*", ["*/caf%C3%A9/*"]),
        ("bücher.example/*", ["xn--bcher-kva.example/*"]),
        ("*://a.example/x", ["*://a.example/x"]),
    ],
)
def test_globs_are_spelled_as_far_as_they_are_fixed(text: str, globs: list[str]) -> None:
    given = Given(Kind.PATTERN, text)
    assert (
        accepted(given, (), default_policy) == meant(given) == (tuple(pattern_target("", glob) for glob in globs), None)
    )


def test_expressions_stay_as_they_are() -> None:
    given = Given(Kind.PATTERN, " A|b ", regex=True)
    assert meant(given).targets == (pattern_target("", " A|b ", regex=True),)


def test_targets_are_confined_to_each_site_of_the_purge() -> None:
    found = canonical(Given(Kind.URL, "a.example:443/"), ("shop", "blog"), default_policy)
    assert [(target.site, target.value) for target in found.targets] == [
        ("shop", "a.example/"),
        ("shop", "a.example:443/"),
        ("blog", "a.example/"),
        ("blog", "a.example:443/"),
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Given(Kind.URL, "https://a.example/%zz"), host_target("shop", "a.example")),
        (Given(Kind.URL, "https://a.example:81/\\", headers=(("a", "b"),)), host_target("shop", "a.example:81")),
        (Given(Kind.URL, "/x"), everything_target("shop")),
        (Given(Kind.URL, ""), everything_target("shop")),
        (Given(Kind.URL, "https://user@a.example/"), everything_target("shop")),
        (Given(Kind.URL, "ftp://a.example/"), everything_target("shop")),
        (Given(Kind.PREFIX, "https://a.example/%C3%"), host_target("shop", "a.example")),
        (Given(Kind.HOST, "*.a.example:80"), everything_target("shop")),
        (Given(Kind.HOST, "*"), everything_target("shop")),
        (Given(Kind.TAG, ""), everything_target("shop")),
        (Given(Kind.GROUP, "news"), everything_target("shop")),
        (Given(Kind.PATTERN, "*.bücher.example/*"), everything_target("shop")),
        (Given(Kind.PATTERN, "A.example/" + "x*" * 2000), prefix_target("shop", "a.example/x")),
        (Given(Kind.PATTERN, "(", regex=True), everything_target("shop")),
        (Given(Kind.PATTERN, r"^https://a\.example/(", regex=True), prefix_target("shop", "a.example/")),
    ],
)
def test_rule_7_what_cannot_be_understood_is_widened_and_says_so(given: Given, expected: Target) -> None:
    found = canonical(given, ("shop",), default_policy)
    assert found.targets == (expected,)
    assert found.widened is not None
    assert len(found.widened) < 500


def test_what_means_nothing_for_its_kind_does_not_narrow() -> None:
    odd = Given(Kind.TAG, "news", boundary=True, regex=True, headers=(("a", "b"),))
    assert meant(odd).targets == (tag_target("", "news"),)


def test_targets_as_people_read_them() -> None:
    assert str(Given(Kind.TAG, "news")) == "tag news"
    assert str(Given(Kind.EVERYTHING)) == "everything"
    assert str(Given(Kind.PREFIX, "a/", boundary=True, mode=Mode.SOFT)) == "prefix a/ boundary mode soft"
