import pytest

from banish.caching.invalidation import invalidated, invalidated_groups, is_unsafe
from banish.http.targets import Target

from .exchanges import answer, cached, stored

TARGET = Target("https", "example.org", "/a/b", "c=1")
URL = "https://example.org/a/b?c=1"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "BREW", "get"])
def test_methods_that_may_change_something(method: str) -> None:
    assert is_unsafe(method)
    assert invalidated(method, TARGET, answer()) == (URL,)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND"])
def test_safe_methods_invalidate_nothing(method: str) -> None:
    response = answer(("Location", "/x"), ("Cache-Group-Invalidation", '"g"'))
    assert invalidated(method, TARGET, response) == ()
    assert invalidated_groups(method, response) == ()


@pytest.mark.parametrize("status", [200, 201, 204, 303, 399])
def test_success_and_redirection_invalidate(status: int) -> None:
    assert invalidated("POST", TARGET, answer(status=status)) == (URL,)


@pytest.mark.parametrize("status", [400, 404, 500, 503, 103])
def test_failures_invalidate_nothing(status: int) -> None:
    assert invalidated("POST", TARGET, answer(status=status)) == ()


@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("reference", "also"),
    [
        ("/x", ("https://example.org/x",)),
        ("x?y#z", ("https://example.org/a/x?y",)),
        ("https://EXAMPLE.org:443/x", ("https://example.org/x",)),
        ("", ()),
        ("http://example.org/x", ()),
        ("https://example.net/x", ()),
        ("https://example.org:8443/x", ()),
        ("//example.net/x", ()),
        ("mailto:a@example.org", ()),
        ("https://[damaged/x", ()),
    ],
)
def test_named_urls_of_the_same_origin_go_too(name: str, reference: str, also: tuple[str, ...]) -> None:
    assert invalidated("PUT", TARGET, answer((name, reference))) == (URL, *also)


def test_both_named_urls_go() -> None:
    response = answer(("Location", "/x"), ("Content-Location", "/y"), status=201)
    assert invalidated("POST", TARGET, response) == (URL, "https://example.org/x", "https://example.org/y")


def test_groups_are_invalidated_by_name() -> None:
    assert invalidated_groups("POST", answer(("Cache-Group-Invalidation", '"g", "h"'))) == ("g", "h")
    assert invalidated_groups("POST", answer(("Cache-Group-Invalidation", "g"))) == ()


def test_groups_of_an_invalidated_response_go_with_it() -> None:
    meta = stored(cached("max-age=9", ("Cache-Groups", '"g", "h"')))
    response = answer(("Cache-Group-Invalidation", '"h", "i"'))
    assert invalidated_groups("POST", response, [meta]) == ("h", "i", "g")
    assert invalidated_groups("POST", answer(status=500), [meta]) == ()
