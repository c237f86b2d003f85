"""Targets as given: whatever is written, something is meant, and it covers what the writer named."""

import contextlib
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from banish.caching.keys import key_target
from banish.caching.policy import DEFAULT_POLICY, CachePolicy
from banish.errors import ClientError
from banish.http.targets import Target as HttpTarget
from banish.http.targets import request_target
from banish.purge.given import Canonical, Given, accepted, canonical, item_of, parse_targets
from banish.purge.names import Names
from banish.purge.stamps import Mode, PurgeTable, Verdict
from banish.purge.targets import Kind, matches

POLICIES = [DEFAULT_POLICY, CachePolicy(query_sort=True), CachePolicy(query_drop=("utm_*", "x"))]
policies = st.sampled_from(POLICIES)
texts = st.text(max_size=40) | st.text("aB.*?:/%[]{}()|\\+^$# \t\né0129-@&=", max_size=40)
values = texts | st.builds("{}{}{}".format, st.sampled_from(["", "https://", "http://", "//"]), texts, texts)

givens = st.builds(
    Given,
    st.sampled_from(Kind),
    values,
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    st.none() | st.sampled_from(Mode),
)

paths = st.text("aB/.%7eE-~é ", max_size=12).map("/{}".format)
queries = st.none() | st.text("aBx=&%7_utm?", max_size=12)
hosts = st.sampled_from(
    ["a.example", "A.Example", "a.example:80", "a.example:443", "a.example:8080", "xn--bcher-kva.example", "[::1]"]
)
schemes = st.sampled_from(["http", "https"])


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, HttpTarget]:
    """A URL as somebody may write it, and what a request for it is about."""
    scheme, host, path, query = draw(schemes), draw(hosts), draw(paths), draw(queries)
    written = (path if query is None else f"{path}?{query}").rstrip()  # as browsers leave spaces out
    sent = "".join(
        [char if char.isascii() and char != " " else "".join(f"%{b:02x}" for b in char.encode()) for char in written]
    )
    try:
        return f"{scheme}://{host}{written}", request_target("GET", sent, host, scheme)
    except ClientError:
        return f"{scheme}://{host}/", request_target("GET", "/", host, scheme)


@given(givens, policies, st.lists(st.sampled_from(["shop", "blog"]), unique=True))
def test_something_is_meant_whatever_is_given(given: Given, policy: CachePolicy, sites: list[str]) -> None:
    found = canonical(given, sites, lambda _url: policy)
    assert found.targets
    assert {target.site for target in found.targets} == set(sites or [""])
    table = PurgeTable()
    table.apply(found.targets)
    assert not table.widenings, "what is canonical can be held"


@given(givens)
def test_what_is_accepted_is_meant_as_it_is_and_survives_its_json_form(given: Given) -> None:
    with contextlib.suppress(ClientError):
        meant = accepted(given, (), lambda _url: DEFAULT_POLICY)
        assert meant == canonical(given, (), lambda _url: DEFAULT_POLICY)
        assert meant.widened is None
        assert not given.headers or len(dict(given.headers)) == len(given.headers)
        assert parse_targets([item_of(given)]) == (given,)


@given(requests(), policies, st.booleans())
def test_a_url_however_written_hits_what_its_request_stored(
    request: tuple[str, HttpTarget], policy: CachePolicy, scheme_left_out: bool
) -> None:
    written, target = request
    names = Names("shop", key_target(target, policy).url)
    text = written.partition("://")[2] if scheme_left_out else written
    for kind in (Kind.URL, Kind.PREFIX):
        found = canonical(Given(kind, text), ("shop",), lambda _url: policy)
        assert any(matches(each, names) for each in found.targets)
    host = canonical(Given(Kind.HOST, written.split("/")[2]), ("shop",), lambda _url: policy)
    assert any(matches(each, names) for each in host.targets)


@given(
    st.sampled_from([Kind.URL, Kind.PREFIX, Kind.TAG]),
    values | requests().map(lambda request: request[0]),
    st.booleans(),
    policies,
)
def test_what_is_plain_at_a_glance_means_what_it_does_taken_apart(
    kind: Kind, text: str, boundary: bool, policy: CachePolicy
) -> None:
    given = Given(kind, text, boundary and kind is Kind.PREFIX)
    with (
        patch("banish.purge.spelling.plain_target", return_value=None),
        patch("banish.purge.given._plain", return_value=None),
    ):
        taken_apart = canonical(given, ("shop",), lambda _url: policy), _accepted(given, policy)
    assert (canonical(given, ("shop",), lambda _url: policy), _accepted(given, policy)) == taken_apart


def _accepted(given: Given, policy: CachePolicy) -> Canonical | str:
    """What is accepted of it, or why it is refused."""
    try:
        return accepted(given, ("shop",), lambda _url: policy)
    except ClientError as error:
        return error.reason


@given(requests(), st.integers(0, 60), policies)
def test_a_prefix_hits_all_that_begins_with_it(
    request: tuple[str, HttpTarget], length: int, policy: CachePolicy
) -> None:
    _, target = request
    begin = target.url[: max(length, len(target.origin))]
    names = Names("shop", key_target(target, policy).url)
    found = canonical(Given(Kind.PREFIX, begin), (), lambda _url: policy)
    assert any(matches(each, names) for each in found.targets)


@given(givens, requests(), st.integers(0, 2))
def test_what_is_held_wider_hits_no_less(given: Given, request: tuple[str, HttpTarget], bound: int) -> None:
    names = Names("shop", request[1].url, ("a",))
    meant = canonical(given, (), lambda _url: DEFAULT_POLICY)
    table = PurgeTable(stamps_max=bound, patterns_max=bound, variants_max=bound)
    table.apply(meant.targets)
    if any(matches(target, names) for target in meant.targets):
        assert table.verdict(names, 0) is Verdict.HARD
