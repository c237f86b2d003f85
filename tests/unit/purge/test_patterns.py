import pytest

from banish.purge.patterns import PATTERN_LENGTH_MAX, WILDCARDS_MAX, Pattern, fixed_prefix


def hits(pattern: str, url: str, *, regex: bool = False) -> bool:
    return Pattern(pattern, regex=regex).hits(url, url.partition("://")[2])


@pytest.mark.parametrize(
    ("glob", "url", "expected"),
    [
        ("*", "https://a.example/", True),
        ("a.example/x", "https://a.example/x", True),
        ("a.example/x", "https://a.example/xy", False),
        ("*/x", "https://a.example/y/x", True),
        ("*/img/*.jpg", "https://a.example/img/b/c.jpg", True),
        ("*/img/*.jpg", "https://a.example/img/b.jpg?x", False),
        ("https://*.example/*", "https://a.example/", True),
        ("https://*.example/*", "http://a.example/", False),
        ("a.example/?", "https://a.example/x", True),
        ("a.example/?", "https://a.example/", False),
        ("a.example/x?y=1", "https://a.example/x?y=1", True),
        ("a.example/[x]+(y)|.", "https://a.example/[x]+(y)|.", True),
        ("a.example/x.y", "https://a.example/x-y", False),
        (r"a.example/\d", "https://a.example/1", False),
        ("*b*b*b*", "https://a.example/b/b", False),
        ("a.*", "https://www.a.example/", False),
    ],
)
def test_globs_cover_the_whole(glob: str, url: str, expected: bool) -> None:
    assert hits(glob, url) is expected


@pytest.mark.parametrize(
    ("expression", "url", "expected"),
    [
        ("x", "https://a.example/yxz", True),
        ("^https://a", "https://a.example/", True),
        ("^a", "https://a.example/", False),
        (r"/[0-9]+$", "https://a.example/12", True),
        ("(?i)IMG", "https://a.example/img", True),
        ("^$", "https://a.example/", False),
    ],
)
def test_regular_expressions_are_searched_for_in_the_url(expression: str, url: str, expected: bool) -> None:
    assert hits(expression, url, regex=True) is expected


@pytest.mark.parametrize(
    "expression", ["(", "(?<=a)b", r"(a)\1", "a{1001}", "((a{100}){100}){100}", "a" * 2049, "\ud800"]
)
def test_what_cannot_be_matched_in_linear_time_and_bounded_memory_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Pattern(expression, regex=True)


def test_an_expression_that_is_too_large_for_its_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        Pattern("[a-z]{1000}" * 100, regex=True)


def test_an_expression_that_could_take_long_is_refused() -> None:
    assert hits("a.{400}b", "https://h/a" + "x" * 400 + "b", regex=True)
    with pytest.raises(ValueError, match="512 instructions"):
        Pattern("a.{600}b", regex=True)


def test_a_glob_that_would_ruin_a_backtracking_engine_is_a_glob_like_any_other() -> None:
    glob = "*a" * WILDCARDS_MAX
    assert hits(glob, "https://h/" + "a" * 8000)
    assert not hits(f"{glob}b", "https://h/" + "a" * 8000)


def test_the_wildcards_of_a_glob_are_bounded_and_its_text_is_not() -> None:
    with pytest.raises(ValueError, match="64 wildcards"):
        Pattern("?a" * (WILDCARDS_MAX + 1), regex=False)
    long = "x" * (PATTERN_LENGTH_MAX - 11)
    assert hits(f"a.example/{long}*", f"https://a.example/{long}y")
    assert hits("a" + "*" * 500 + "/", "https://a.example/")


def test_a_pattern_beyond_ascii_is_matched_byte_by_byte() -> None:
    assert not hits("[^é]é", "https://h/e", regex=True)
    assert hits("[^é]$", "https://h/e", regex=True)


@pytest.mark.parametrize(
    ("value", "regex", "expected"),
    [
        ("https://a.example/x/*.jpg", False, "a.example/x/"),
        ("a.example:81/x?y", False, "a.example:81/x"),
        ("a.example/", False, "a.example/"),
        ("a.example*", False, None),
        ("*.a.example/", False, None),
        ("*", False, None),
        ("https://*/x", False, None),
        (r"^https://a\.example/x", True, "a.example/"),
        (r"^https?://a-b\.example:81/[0-9]", True, "a-b.example:81/"),
        (r"^https://a.example/x", True, None),
        (r"^https://a\.example/?", True, None),
        (r"^https://a\.example/*", True, None),
        (r"^https://a\.example/x|y", True, None),
        (r"https://a\.example/x", True, None),
        (r"^https://a\.example", True, None),
    ],
)
def test_the_fixed_beginning_of_a_pattern(value: str, regex: bool, expected: str | None) -> None:
    assert fixed_prefix(value, regex=regex) == expected
