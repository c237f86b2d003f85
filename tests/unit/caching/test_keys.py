import pytest

from banish.caching.keys import KeyParts, cache_key, has_unkeyed_input, key_target, split_key
from banish.caching.policy import DEFAULT_POLICY, CachePolicy
from banish.http.targets import Target

from .exchanges import get

TARGET = Target("https", "example.org", "/a", "b=2&utm_x=1&a=1")


def test_the_key_names_site_and_url() -> None:
    assert cache_key("shop", TARGET, DEFAULT_POLICY) == "shop https://example.org/a?b=2&utm_x=1&a=1"


def test_different_urls_have_different_keys() -> None:
    targets = [
        Target("https", "example.org", "/a"),
        Target("https", "example.org", "/a", ""),
        Target("https", "example.org", "/A"),
        Target("https", "example.org", "/a/"),
        Target("https", "example.org", "/a", "b"),
        Target("https", "example.org:8443", "/a"),
        Target("https", "example.net", "/a"),
        Target("http", "example.org", "/a"),
    ]
    keys = {cache_key(site, target, DEFAULT_POLICY) for target in targets for site in ("one", "one two")}
    assert len(keys) == 2 * len(targets)


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("shop#0123abcd https://a/", KeyParts("shop", "0123abcd", "", "https://a/")),
        ("shop#0123abcd+de+x%2By https://a/?b", KeyParts("shop", "0123abcd", "+de+x%2By", "https://a/?b")),
        ("my #1+shop#0123abcd+de https://a/", KeyParts("my #1+shop", "0123abcd", "+de", "https://a/")),
        ("shop https://a/", KeyParts("shop", "", "", "https://a/")),
    ],
)
def test_a_key_is_taken_apart(key: str, parts: KeyParts) -> None:
    assert split_key(key) == parts


def test_the_query_is_normalised_only_as_told() -> None:
    policy = CachePolicy(query_sort=True, query_drop=("utm_*",))
    assert key_target(TARGET, policy).query == "a=1&b=2"
    assert key_target(TARGET, DEFAULT_POLICY) is TARGET


@pytest.mark.parametrize(
    "line",
    [
        ("Content-Length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("X-HTTP-Method-Override", "POST"),
        ("x-method-override", "PUT"),
        ("X-HTTP-Method", "DELETE"),
    ],
)
def test_what_a_key_does_not_cover_is_noticed(line: tuple[str, str]) -> None:
    assert has_unkeyed_input(get(line))


def test_an_ordinary_request_is_covered() -> None:
    assert not has_unkeyed_input(get(("Content-Length", "0"), ("Cookie", "a=b"), ("Accept", "*/*")))
