import pytest

from banish.errors import ClientError
from banish.http.targets import (
    Target,
    normalise_path,
    normalise_query,
    parse_host,
    plain_target,
    request_target,
    resolve,
)


def target(raw: str, host: str | None = "a.example", *, method: str = "GET", scheme: str = "http") -> Target:
    return request_target(method, raw, host, scheme)


def refusal(raw: str, host: str | None = "a.example", *, method: str = "GET", scheme: str = "http") -> int:
    with pytest.raises(ClientError) as refused:
        request_target(method, raw, host, scheme)
    return refused.value.status


class TestHost:
    @pytest.mark.parametrize(
        ("text", "host"),
        [
            ("a.example", "a.example"),
            ("A.Example.", "a.example"),
            ("a.example:8080", "a.example:8080"),
            ("a.example:443", "a.example:443"),
            ("a.example:80", "a.example"),
            ("my_host-1", "my_host-1"),
            ("127.0.0.1:65535", "127.0.0.1:65535"),
            ("[::1]", "[::1]"),
            ("[2001:DB8:0:0::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1]:8080", "[2001:db8::1]:8080"),
        ],
    )
    def test_is_brought_to_one_spelling(self, text: str, host: str) -> None:
        assert parse_host(text, "http") == host

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "",
                ".",
                "..",
                "a..b",
                ".a",
                "a.example..",
                ":80",
                "a:",
                "a:0",
                "a:080",
                "a:65536",
                "a:1:2",
                "a:x",
            ),
            *(
                "user@a",
                "a/b",
                "a b",
                " a",
                "a ",
                "a,b",
                "a\\b",
                "a%41",
                "a\tb",
                "a\x00",
                "\xe9.example",
                "a?b",
                "a#b",
            ),
            *(
                "[",
                "[]",
                "[::1",
                "::1",
                "[::1]x",
                "[:::]",
                "[1.2.3.4]",
                "[fe80::1%eth0]",
                "[v1.x]",
                "a.example\n",
            ),
            "a" * 254,
        ],
    )
    def test_is_refused_when_readers_could_disagree(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"the (host|port)"):
            parse_host(text, "http")

    def test_keeps_any_port_when_no_scheme_is_known(self) -> None:
        assert parse_host("a.example:80") == "a.example:80"


class TestPath:
    @pytest.mark.parametrize(
        ("path", "normal"),
        [
            ("/", "/"),
            ("/a/b.html", "/a/b.html"),
            ("/%61%7e%2D", "/a~-"),
            ("/%c3%a9", "/%C3%A9"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%5cb", "/a%5Cb"),
            ("/a;b=1,c:d@e!$&'()*+", "/a;b=1,c:d@e!$&'()*+"),
            ('/a|b"<>^`{}[]', "/a%7Cb%22%3C%3E%5E%60%7B%7D%5B%5D"),
            ("/%2525", "/%2525"),
            ("/a//b", "/a//b"),
            ("//", "//"),
            ("/./a", "/a"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/b/../c", "/a/c"),
            ("/a/b/../..", "/"),
            ("/../../a", "/a"),
            ("/a//../b", "/a/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/...", "/a/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a..b/c.", "/a..b/c."),
        ],
    )
    def test_is_brought_to_one_spelling(self, path: str, normal: str) -> None:
        assert normalise_path(path) == normal

    @pytest.mark.parametrize(
        "path",
        [
            *(
                "",
                "a",
                "/a\\b",
                "/a b",
                "/\t",
                "/\x7f",
                "/\x00",
                "/\xe9",
                "/%",
                "/%4",
                "/%4g",
                "/%%41",
                "/%00",
                "/a#b",
            ),
            *("/a/..%2fb", "/a%2F..", "/a%2f.%2e%2fb", "/a%5c..%5Cb", "/a/..%5c", "/.%2f", "/a?b", "/a\n"),
        ],
    )
    def test_is_refused_when_readers_could_disagree(self, path: str) -> None:
        with pytest.raises(ValueError, match="the path"):
            normalise_path(path)


class TestRequestTarget:
    def test_origin_form_takes_the_host_field(self) -> None:
        assert target("/a?b=1", "A.example:80") == Target("http", "a.example", "/a", "b=1")

    def test_absolute_form_replaces_the_host_field(self) -> None:
        assert target("HTTP://b.example/x?y", "a.example") == Target("http", "b.example", "/x", "y")

    def test_absolute_form_without_a_path_means_the_root(self) -> None:
        assert target("http://b.example") == Target("http", "b.example", "/")
        assert target("http://b.example?q") == Target("http", "b.example", "/", "q")

    def test_two_slashes_in_origin_form_are_a_path(self) -> None:
        assert target("//evil.example/x") == Target("http", "a.example", "//evil.example/x")

    def test_the_default_port_belongs_to_the_scheme(self) -> None:
        assert target("/", "a.example:443", scheme="https").host == "a.example"
        assert target("/", "a.example:443", scheme="http").host == "a.example:443"

    @pytest.mark.parametrize("raw", ["*", "http://a.example"])
    def test_options_of_the_server_as_a_whole(self, raw: str) -> None:
        found = target(raw, method="OPTIONS")
        assert (found.path, found.path_and_query, found.url) == ("*", "*", "http://a.example")

    @pytest.mark.parametrize(
        "raw",
        [
            *(
                "",
                "*",
                "a",
                "a.example:80",
                "http:/a",
                "http:a",
                "http://",
                "http:///x",
                "http://u@a.example/",
            ),
            *(
                "/a#b",
                "/?a#b",
                "http://a.example/#",
                "/a b",
                "/?a b",
                "/?\xe9",
                "/?\x00",
                "/\\",
                "http://a,b/",
            ),
        ],
    )
    def test_other_forms_and_characters_are_refused(self, raw: str) -> None:
        assert refusal(raw) == 400

    def test_a_scheme_that_is_not_the_connections_is_misdirected(self) -> None:
        assert refusal("https://a.example/") == 421
        assert refusal("ftp://a.example/") == 421

    def test_connect_is_not_offered(self) -> None:
        assert refusal("a.example:443", method="CONNECT") == 501

    def test_no_host_is_refused_unless_there_is_a_default(self) -> None:
        assert refusal("/", None) == 400
        assert refusal("/", "") == 400
        assert request_target("GET", "/", None, "http", default_host="d.example").host == "d.example"
        assert request_target("OPTIONS", "*", None, "http", default_host="d.example").host == "d.example"

    def test_a_query_is_kept_as_received(self) -> None:
        assert target("/?b=%7e&a=100%&c=\\|[]").query == "b=%7e&a=100%&c=\\|[]"

    def test_an_empty_query_is_not_no_query(self) -> None:
        assert target("/?").query == ""
        assert target("/?").url == "http://a.example/?"
        assert target("/").query is None

    def test_a_second_question_mark_belongs_to_the_query(self) -> None:
        assert target("/a?b?c").query == "b?c"


BASE = Target("http", "a.example", "/b/c/d", "q=1")


class TestPlainTarget:
    @pytest.mark.parametrize(
        ("text", "plain"),
        [
            ("https://www.example.com/a/b-c_d~e/f.html", Target("https", "www.example.com", "/a/b-c_d~e/f.html")),
            ("http://10.0.0.1/x?a=%c3&b=[1]", Target("http", "10.0.0.1", "/x", "a=%c3&b=[1]")),
            ("https://a.example/?", Target("https", "a.example", "/", "")),
            ("https://a.example/a/../b", None),
            ("https://a.example:443/", None),
            ("https://A.example/", None),
            ("https://a.example", None),
            ("https://a.example/%41", None),
            ("https://a.example/x#y", None),
            (" https://a.example/", None),
            ("https://a.example/\n", None),
            (f"https://{'a' * 254}/", None),
        ],
    )
    def test_is_known_at_a_glance_if_it_is_in_its_final_spelling(self, text: str, plain: Target | None) -> None:
        assert plain_target(text) == plain


class TestResolve:
    @pytest.mark.parametrize(
        ("reference", "url"),
        [
            ("http://B.example:80/x#f", "http://b.example/x"),
            ("https://b.example", "https://b.example/"),
            ("//b.example/x", "http://b.example/x"),
            ("/x?y", "http://a.example/x?y"),
            ("x", "http://a.example/b/c/x"),
            ("./x", "http://a.example/b/c/x"),
            ("../x", "http://a.example/b/x"),
            ("../../../x", "http://a.example/x"),
            ("..", "http://a.example/b/"),
            ("?y", "http://a.example/b/c/d?y"),
            ("#f", "http://a.example/b/c/d?q=1"),
            ("", "http://a.example/b/c/d?q=1"),
            (" x ", "http://a.example/b/c/x"),
        ],
    )
    def test_finds_what_a_reference_means(self, reference: str, url: str) -> None:
        found = resolve(BASE, reference)
        assert found is not None
        assert found.url == url

    @pytest.mark.parametrize(
        "reference",
        [
            "mailto:a@b",
            "http:x",
            "ftp://a/",
            "http://u@a/",
            "http://[x]/",
            "/%",
            "/a b",
            "?a b",
            "/\xe9",
            "//",
            "a\nb",
        ],
    )
    def test_gives_up_on_what_is_no_target(self, reference: str) -> None:
        assert resolve(BASE, reference) is None

    def test_beside_the_server_as_a_whole_a_relative_reference_begins_at_the_root(self) -> None:
        found = resolve(Target("http", "a.example", "*"), "x")
        assert found is not None
        assert found.url == "http://a.example/x"


class TestQuery:
    @pytest.mark.parametrize("query", [None, "", "b=2&a=1", "&&", "utm_source=x"])
    def test_is_kept_as_it_is_unless_told_otherwise(self, query: str | None) -> None:
        assert normalise_query(query) == query

    def test_is_sorted_by_name_and_not_by_value(self) -> None:
        assert normalise_query("b=2&a=2&&a=1&ab", sort=True) == "a=2&a=1&ab&b=2"

    def test_loses_parameters_whose_names_match(self) -> None:
        assert normalise_query("utm_source=x&a=utm_b&fbclid&utm_", drop=("utm_*", "fbclid")) == "a=utm_b"

    def test_is_gone_when_all_of_it_is_dropped(self) -> None:
        assert normalise_query("utm_source=x", drop=("utm_*",)) is None

    def test_names_are_compared_as_spelled(self) -> None:
        assert normalise_query("UTM_a=1&utm%5Fb=1", drop=("utm_*",)) == "UTM_a=1&utm%5Fb=1"
