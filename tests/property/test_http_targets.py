"""Targets: normalising is idempotent, keeps meaning, and leaves nothing that could be read otherwise."""

from urllib.parse import unquote_to_bytes, urljoin

from hypothesis import assume, given, settings
from hypothesis import strategies as st

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

pieces = st.sampled_from(
    [
        "/",
        ".",
        "..",
        "a",
        "B",
        "%2e",
        "%2E",
        "%2f",
        "%5C",
        "%61",
        "%c3",
        "%41",
        "%25",
        "~",
        ";",
        "|",
        "é",
        "\\",
        " ",
        "%",
    ]
)
paths = st.lists(pieces, max_size=12).map(lambda parts: "/" + "".join(parts))
clean_paths = st.lists(st.sampled_from(["/", ".", "..", "a", "b", "/../", "/./", "//"]), max_size=10).map(
    lambda parts: "/" + "".join(parts)
)
hosts = st.one_of(
    st.text("aB.-_:[]018@ %,", max_size=12),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.tuples(st.from_regex(r"[a-z]{1,5}(\.[A-Z]{1,3})?\.?", fullmatch=True), st.integers(1, 65535)).map(
        lambda pair: f"{pair[0]}:{pair[1]}"
    ),
)


def normalised(path: str) -> str:
    try:
        return normalise_path(path)
    except ValueError:
        assume(False)
        raise


@given(paths)
def test_normalising_a_path_twice_changes_nothing(path: str) -> None:
    normal = normalised(path)
    assert normalise_path(normal) == normal


@given(paths)
def test_a_normal_path_holds_no_dot_segment_however_often_slashes_are_decoded(path: str) -> None:
    normal = normalised(path)
    assert normal.startswith("/")
    for reading in (normal, normal.replace("%2F", "/").replace("%5C", "/")):
        assert not {".", ".."} & set(reading.split("/"))


@given(paths)
def test_a_normal_path_is_printable_ascii_with_whole_triplets(path: str) -> None:
    normal = normalised(path)
    assert all("!" <= char <= "~" and char not in '\\#?"<>^`{|}' for char in normal)
    assert all(len(rest) >= 2 and rest[:2] == rest[:2].upper() for rest in normal.split("%")[1:])


@given(paths)
def test_normalising_keeps_the_bytes_that_a_path_means(path: str) -> None:
    normal = normalised(path)
    if "." not in path and "%2e" not in path.lower():
        assert unquote_to_bytes(normal) == unquote_to_bytes(path)


@given(clean_paths)
def test_dot_segments_go_as_the_standard_library_removes_them(path: str) -> None:
    assume("//" not in path)  # urljoin merges empty segments at the end of a path
    assert f"http://a{normalised(path)}" == urljoin("http://a/", path)


@given(hosts)
def test_a_host_is_refused_or_has_one_spelling(text: str) -> None:
    try:
        host = parse_host(text, "http")
    except ValueError:
        return
    assert parse_host(host, "http") == host
    assert parse_host(host.upper(), "http") == host
    assert not set(host) & set("@ %,/\\")


@given(
    st.sampled_from(["GET", "OPTIONS", "POST"]),
    st.one_of(paths, st.text("/ahtp:.*?#%\\@ 1", max_size=15), hosts.map(lambda host: f"http://{host}/x?y")),
    hosts,
)
def test_a_request_has_one_target_or_none(method: str, raw_target: str, host: str) -> None:
    """What is accepted, sent on in origin-form or absolute-form, is accepted again as the same target."""
    try:
        target = request_target(method, raw_target, host, "http")
    except ClientError:
        return
    assert request_target(method, target.path_and_query, target.host, "http") == target
    assert request_target(method, target.url, "other.example", "http") == target


@settings(max_examples=500)
@given(
    st.sampled_from(["http", "https"]),
    st.sampled_from(["a.example", "_a-1", "10.0.0.1", "a.example:80", "A.example", "a" * 253, "a" * 254]),
    st.lists(st.sampled_from(["/", ".", "..", "a", "B", "~", "+", ":", "%41", "|"]), max_size=4),
    st.none() | st.text('a=?/#"[% é', max_size=3),
)
def test_what_is_plain_at_a_glance_is_what_a_careful_look_finds(
    scheme: str, host: str, path: list[str], query: str | None
) -> None:
    path_and_query = "/" + "".join(path) + ("" if query is None else f"?{query}")
    plain = plain_target(f"{scheme}://{host}{path_and_query}")
    if plain is not None:
        assert request_target("GET", path_and_query, host, scheme) == plain
        assert plain.url == f"{scheme}://{host}{path_and_query}"


@given(paths, st.text("/ahtps:.*?#%\\@[] 1", max_size=20))
def test_what_a_reference_resolves_to_is_a_normal_target(path: str, reference: str) -> None:
    base = Target("http", "a.example", normalised(path), None)
    found = resolve(base, reference)
    if found is not None:
        assert resolve(base, found.url) == found


@given(st.text("ab=&1", max_size=20))
def test_a_query_loses_only_what_is_dropped_and_sorts_to_one_form(query: str) -> None:
    kept = normalise_query(query, sort=True, drop=("a",)) or ""
    wanted = [part for part in query.split("&") if part and part.partition("=")[0] != "a"]
    assert sorted(filter(None, kept.split("&"))) == sorted(wanted)
    assert (normalise_query(kept, sort=True, drop=("a",)) or "") == kept
