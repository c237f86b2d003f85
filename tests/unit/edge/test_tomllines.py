from banish.edge.tomllines import key_lines, line_of

DOCUMENT = '''\
node = "a"          # line 1
listen = [
    ":80",
    ":443",
]
text = """
fake = 1
[fake]
"""

[memory]
budget_bytes = "1GiB"
log.level = "info"

[[sites]]
name = "one"
cache = { bypass = true }
[[sites.rules]]
path = "/a"
[[sites.rules]]
path = "/b"

[[sites]]
[sites.cache]
"override_ttl_s" = 3
[[sites.rules]]
path = "/c"
'''


def test_each_key_is_found_in_its_line() -> None:
    lines = key_lines(DOCUMENT)
    found = {
        ("node",): 1,
        ("listen",): 2,
        ("memory",): 11,
        ("memory", "budget_bytes"): 12,
        ("memory", "log", "level"): 13,
        ("sites", 0, "name"): 16,
        ("sites", 0, "rules", 0, "path"): 19,
        ("sites", 0, "rules", 1, "path"): 21,
        ("sites", 1): 23,
        ("sites", 1, "cache", "override_ttl_s"): 25,
        ("sites", 1, "rules", 0, "path"): 27,
    }
    assert {path: lines.get(path) for path in found} == found


def test_what_looks_like_a_key_inside_a_text_is_none() -> None:
    assert not any("fake" in path for path in key_lines(DOCUMENT))


def test_what_has_no_line_of_its_own_has_that_of_what_holds_it() -> None:
    lines = key_lines(DOCUMENT)
    assert line_of(("sites", 0, "cache", "bypass"), lines) == 17
    assert line_of(("listen", 1), lines) == 2
    assert line_of(("absent",), lines) is None
