import gc

import pytest

from banish.purge.names import Names
from banish.purge.targets import (
    Kind,
    Target,
    everything_target,
    group_target,
    host_target,
    matches,
    pattern_target,
    prefix_target,
    tag_target,
    url_target,
    wider,
)

BLOG = Names("shop", "https://www.a.example:8443/blog/x?page=2", ("news",), ("g",), ("accept-encoding",), ("gzip",))
ROOT = Names("shop", "http://a.example/")


def at(place: str) -> Names:
    return Names("shop", f"https://{place}")


@pytest.mark.parametrize(
    "target",
    [
        url_target("", "https://www.a.example:8443/blog/x?page=2"),
        url_target("", "http://www.a.example:8443/blog/x?page=2"),
        url_target("", "www.a.example:8443/blog/x?page=2", {"Accept-Encoding": "gzip"}.items()),
        url_target("", "www.a.example:8443/blog/x?page=2", [("accept-encoding", "x-gzip"), ("dnt", "1")]),
        prefix_target("", "www.a.example:8443/"),
        prefix_target("", "www.a.example:8443/blo"),
        prefix_target("", "www.a.example:8443/blog", boundary=True),
        prefix_target("", "www.a.example:8443/blog/x", boundary=True),
        prefix_target("", "www.a.example:8443/blog/x?page=2", boundary=True),
        host_target("", "www.a.example:8443"),
        host_target("", "www.a.example"),
        host_target("", "*.a.example"),
        host_target("", "*.example"),
        tag_target("", "news"),
        group_target("", "https://www.a.example:8443", "g"),
        pattern_target("", "*/blog/*"),
        pattern_target("", "https://*.a.example:8443/*"),
        pattern_target("", r"/blog/[a-z]\?page=[0-9]+$", regex=True),
        everything_target(),
        everything_target("shop"),
    ],
    ids=str,
)
def test_hit(target: Target) -> None:
    assert matches(target, BLOG)


@pytest.mark.parametrize(
    "target",
    [
        url_target("", "www.a.example:8443/blog/x"),
        url_target("", "www.a.example:8443/blog/x?page=2", [("accept-encoding", "br")]),
        url_target("", "www.a.example:8443/blog/x?page=2", [("dnt", "1")]),
        prefix_target("", "www.a.example/"),
        prefix_target("", "www.a.example:8443/blo", boundary=True),
        prefix_target("", "www.a.example:8443/blog/x?page", boundary=True),
        host_target("", "www.a.example:8444"),
        host_target("", "a.example"),
        host_target("", "*.www.a.example"),
        host_target("", "*.ample"),
        tag_target("", "new"),
        tag_target("", "g"),
        group_target("", "http://www.a.example:8443", "g"),
        group_target("", "https://www.a.example:8443", "h"),
        pattern_target("", "/blog/*"),
        pattern_target("", "http://*"),
        pattern_target("", r"^/blog", regex=True),
        everything_target("blog"),
        tag_target("blog", "news"),
    ],
    ids=str,
)
def test_no_hit(target: Target) -> None:
    assert not matches(target, BLOG)


def test_a_boundary_is_the_end_a_slash_or_a_question_mark() -> None:
    blog = prefix_target("", "a.example/blog", boundary=True)
    assert [matches(blog, at(f"a.example/blog{rest}")) for rest in ("", "/", "/x", "?x", "s", "%2Fx", "&")] == [
        *[True] * 4,
        *[False] * 3,
    ]


def test_a_prefix_that_ends_with_a_slash_ends_at_a_boundary() -> None:
    assert matches(prefix_target("", "a.example/blog/", boundary=True), at("a.example/blog/x"))
    assert matches(prefix_target("", "a.example/", boundary=True), ROOT)
    assert not matches(prefix_target("", "a.example/blog/", boundary=True), at("a.example/blog"))


def test_an_address_is_a_host_with_and_without_its_port_and_below_nothing() -> None:
    names = at("[2001:db8::1]:8080/")
    assert matches(host_target("", "[2001:db8::1]"), names)
    assert matches(host_target("", "[2001:db8::1]:8080"), names)
    assert matches(host_target("", "[2001:db8::1]"), at("[2001:db8::1]/"))
    assert not matches(host_target("", "[2001:db8:"), names)


def test_a_wildcard_is_every_name_below_at_any_depth_and_not_the_name_itself() -> None:
    target = host_target("", "*.a.example")
    assert matches(target, at("x.a.example/"))
    assert matches(target, at("x.y.a.example:81/"))
    assert not matches(target, at("a.example/"))
    assert not matches(target, at("xa.example/"))


def test_a_url_with_headers_is_the_variant_that_such_a_request_selects() -> None:
    gzip, plain, unvaried = (
        Names("shop", "https://a.example/", (), (), vary, selecting)
        for vary, selecting in ((("accept-encoding",), ("gzip",)), (("accept-encoding",), (None,)), ((), ()))
    )
    target = url_target("shop", "a.example/", [("Accept-Encoding", " GZIP ")])
    assert (matches(target, gzip), matches(target, plain), matches(target, unvaried)) == (True, False, True)
    other = url_target("shop", "a.example/", [("X-Other", "1")])
    assert (matches(other, gzip), matches(other, plain)) == (False, True)


def test_headers_of_one_name_are_one_list() -> None:
    assert url_target("", "a/", [("A", "x"), ("a", "y")]).headers == (("a", "x,y"),)


def test_targets_of_two_sites_differ() -> None:
    assert url_target("shop", "https://a.example/") != url_target("blog", "https://a.example/")


def test_a_group_and_a_url_of_one_value_differ() -> None:
    group = group_target("shop", "https://a.example", "news")
    assert group != url_target("shop", group.value)
    assert group.kind is Kind.GROUP


def test_a_group_is_scoped_to_its_origin() -> None:
    assert group_target("shop", "https://a.example", "x") != group_target("shop", "http://a.example", "x")


def test_a_group_name_may_hold_spaces() -> None:
    names = Names("shop", "https://a.example/", groups=("breaking news",))
    assert matches(group_target("", "https://a.example", "breaking news"), names)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (url_target("s", "a.example/x", [("dnt", "1")]), url_target("s", "a.example/x")),
        (url_target("s", "a.example:81/x"), host_target("s", "a.example:81")),
        (prefix_target("s", "a.example/x"), host_target("s", "a.example")),
        (pattern_target("s", "https://a.example/x/*.jpg"), prefix_target("s", "a.example/x/")),
        (pattern_target("s", "*.jpg"), everything_target("s")),
        (tag_target("s", "x"), everything_target("s")),
        (host_target("s", "a.example"), everything_target("s")),
        (everything_target("s"), everything_target()),
    ],
    ids=str,
)
def test_the_next_wider_target(target: Target, expected: Target) -> None:
    assert wider(target) == expected


def test_a_pattern_that_does_not_compile_hits_what_is_next_wider() -> None:
    assert matches(pattern_target("", "(", regex=True), BLOG)
    assert matches(pattern_target("", r"^http://a\.example/(", regex=True), ROOT)
    assert not matches(pattern_target("", r"^http://a\.example/(", regex=True), BLOG)


def test_targets_as_people_read_them() -> None:
    assert str(tag_target("shop", "news")) == "tag news of shop"
    assert str(everything_target()) == "everything"
    assert str(prefix_target("", "a/x", boundary=True)) == "prefix a/x (whole segments)"
    assert str(pattern_target("", "a.*b", regex=True)) == "regex a.*b"
    assert str(url_target("", "a/", [("DNT", "1")])) == "url a/ (dnt: 1)"


def test_equal_targets_hash_alike() -> None:
    assert len({url_target("shop", "https://a.example/") for _ in range(3)}) == 1


def test_a_tuple_of_targets_leaves_the_collectors_reach() -> None:
    targets = (url_target("shop", "https://a.example/"),)
    gc.collect()
    assert not gc.is_tracked(targets[0])
    assert not gc.is_tracked(targets)
