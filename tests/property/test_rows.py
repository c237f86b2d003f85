"""Rows: keys lie where purges look for them, and what is written is what is read."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from banish.caching.directives import Directives
from banish.caching.stored import Metadata
from banish.errors import IndexDamaged
from banish.http.fields import Fields
from banish.purge.names import names_of
from banish.purge.targets import Target, host_target, matches, prefix_target, url_target
from banish.store import rows
from banish.store.index import Range
from banish.store.rows import BodyAt, StoredRow

SITE = "main"
KEY_NAME = "main#0a1b2c3d"

labels = st.sampled_from(["a", "b", "ab", "com", "www", "a-b"])
names = st.lists(labels, min_size=1, max_size=4).map(".".join)
ports = st.sampled_from(["", ":1", ":81", ":8080"])
hosts = st.one_of(st.builds(str.__add__, names, ports), st.builds(str.__add__, st.just("[::1]"), ports))
paths = st.text("ab/?=.~!", max_size=6).map("/".__add__)
places = st.builds(str.__add__, hosts, paths)
extras = st.sampled_from(["", "+a", "+a+b", "+%2B"])
cache_keys = st.builds("{}{} {}://{}".format, st.just(KEY_NAME), extras, st.sampled_from(["http", "https"]), places)
gens = st.integers(0, 2**32 - 2)

texts = st.text(st.characters(max_codepoint=255, exclude_categories=()), max_size=5)
fields = st.lists(st.tuples(st.sampled_from(["A", "b-C", "Vary"]), texts), max_size=3).map(Fields.of)
numbers = st.integers(0, 2**63)
moments = st.floats(allow_nan=False)
optional_numbers = st.none() | st.integers(0, 2**31)
directives = st.builds(
    Directives,
    max_age=optional_numbers,
    max_stale=st.none() | st.just(float("inf")),
    no_cache=st.booleans(),
    immutable=st.booleans(),
    no_cache_fields=st.lists(texts, max_size=2).map(tuple),
)
tags = st.lists(st.text(max_size=5), max_size=3).map(tuple)


@st.composite
def metadata(draw: st.DrawFn, key: str) -> Metadata:
    selecting = draw(st.lists(st.tuples(texts, st.none() | texts), max_size=2))
    return Metadata(
        key,
        status=draw(st.integers(200, 599)),
        reason=draw(texts),
        fields=draw(fields),
        requested_at=draw(moments),
        received_at=draw(moments),
        date=draw(moments),
        initial_age=draw(moments),
        lifetime=draw(moments),
        heuristic=draw(st.booleans()),
        directives=draw(directives),
        vary=tuple([name for name, _ in selecting]),
        selecting=tuple([value for _, value in selecting]),
        etag=draw(st.none() | texts),
        last_modified=draw(st.none() | texts),
        content_range=draw(st.none() | st.tuples(numbers, numbers, st.none() | numbers)),
        request_had_authorization=draw(st.booleans()),
        groups=draw(tags),
        tags=draw(tags),
    )


@st.composite
def objects(draw: st.DrawFn) -> tuple[str, list[StoredRow]]:
    cache_key = draw(cache_keys)
    rest = (numbers, numbers, numbers, st.sampled_from(BodyAt), numbers, st.binary(max_size=8), fields)
    return cache_key, draw(st.lists(st.builds(StoredRow, metadata(cache_key), *rest), max_size=3))


@given(gens, cache_keys, cache_keys)
def test_object_keys_are_one_to_one_with_cache_keys(gen: int, one: str, other: str) -> None:
    key = rows.object_key(gen, one)
    assert rows.cache_key_of(key, KEY_NAME) == one
    assert rows.generation_of(key) == gen
    assert (rows.object_key(gen, other) == key) is (one == other)


@given(gens, objects())
def test_what_is_written_is_what_is_read(gen: int, stored: tuple[str, list[StoredRow]]) -> None:
    cache_key, variants = stored
    key = rows.object_key(gen, cache_key)
    assert rows.decode_row(key, rows.encode_row(key, variants), KEY_NAME) == tuple(variants)


@given(st.binary(max_size=60))
def test_bytes_at_random_are_damage_even_under_a_right_checksum(payload: bytes) -> None:
    key = rows.object_key(1, f"{KEY_NAME} http://a/")
    for value in (payload, rows.encode_small(key, payload)):
        with contextlib.suppress(IndexDamaged):
            assert isinstance(rows.decode_row(key, value, KEY_NAME), tuple)


@given(st.binary(max_size=60))
def test_keys_at_random_are_damage_or_keys(key: bytes) -> None:
    for read in (rows.read_tag_key, rows.read_expiry_key, rows.read_order_key, rows.read_small_key, rows.generation_of):
        with contextlib.suppress(IndexDamaged):
            read(key)
    with contextlib.suppress(IndexDamaged):
        assert rows.cache_key_of(key, KEY_NAME).startswith(KEY_NAME)


asked_hosts = st.one_of(hosts, names.map("*.".__add__))


@st.composite
def purges(draw: st.DrawFn) -> tuple[Target, tuple[Range, ...]]:
    """A target that the index can be scanned for, and the ranges in which what it matches must lie."""
    kind = draw(st.sampled_from(["url", "prefix", "host"]))
    if kind == "host":
        host = draw(asked_hosts)
        return host_target(SITE, host), rows.host_ranges(1, host)
    place = draw(places)
    if kind == "url":
        return url_target(SITE, place), (rows.url_range(1, place),)
    return prefix_target(SITE, place, boundary=draw(st.booleans())), (rows.prefix_range(1, place),)


@given(purges(), cache_keys)
def test_all_that_a_target_matches_lies_in_its_ranges(purge: tuple[Target, tuple[Range, ...]], cache_key: str) -> None:
    target, ranges = purge
    key = rows.object_key(1, cache_key)
    names = names_of(Metadata(cache_key, 200, "", Fields(), 0.0, 0.0, 0.0, 0.0, 0.0))
    if matches(target, names):
        assert any(start <= key < end for start, end in ranges)


group_names = st.builds(rows.group_name, st.just("http://a"), st.text(max_size=3))
tag_names = st.builds(rows.tag_name, st.text(max_size=3)) | group_names
fences = st.integers(0, 2**64 - 1)


@given(gens, tag_names, fences, fences, gens, tag_names, fences)
def test_a_tag_s_range_holds_just_its_rows_below_the_stamp(
    gen: int, name: bytes, fence: int, serial: int, asked_gen: int, asked: bytes, below: int
) -> None:
    key = rows.tag_key(gen, name, fence, serial)
    assert rows.read_tag_key(key) == (gen, name, fence, serial)
    start, end = rows.tag_range(asked_gen, asked, below)
    assert (start <= key < end) is (gen == asked_gen and name == asked and fence < below)


@given(st.floats(-1e6, 5e9), st.floats(0, 5e9))
def test_expiry_is_never_early_and_at_most_a_second_late(at: float, now: float) -> None:
    start, end = rows.expired_range(now)
    expired = start <= rows.expiry_key(at, 1, 2) < end
    assert expired or now < at + 1
    assert not expired or now >= at
