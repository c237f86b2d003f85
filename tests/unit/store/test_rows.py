import math
from pathlib import Path

import msgspec
import pytest

from banish.caching.directives import Directives
from banish.caching.stored import Metadata
from banish.errors import IndexDamaged
from banish.http.fields import Fields
from banish.purge.names import names_of
from banish.purge.targets import host_target, matches
from banish.store import rows
from banish.store.rows import BodyAt, SiteRow, StoredRow
from tests.unit.store import row_examples as examples

KEY_NAME = "main#0a1b2c3d"


def metadata(key: str) -> Metadata:
    return Metadata(key, 200, "OK", Fields.of([("Content-Type", "text/plain")]), 1.0, 2.0, 3.0, 0.0, 60.0)


def stored(key: str, serial: int = 1) -> StoredRow:
    return StoredRow(metadata(key), serial, 5, 100, BodyAt.SMALL)


class TestFormats:
    @pytest.mark.parametrize("path", sorted(examples.FILES.glob("rows-*.json")), ids=lambda path: path.stem)
    def test_every_version_can_be_read(self, path: Path) -> None:
        found = examples.read(path)
        place, value = found["object"]
        assert rows.cache_key_of(place, examples.KEY_NAME) == examples.KEY
        assert rows.decode_row(place, value, examples.KEY_NAME) == (examples.PAGE, examples.PLAIN)
        for kind in ("tag", "group", "expiry", "order"):
            assert rows.decode_pointer(found[kind][1]) == place
        serial, fence = examples.PAGE.serial, examples.PAGE.fence
        assert rows.read_tag_key(found["tag"][0]) == (examples.GEN, examples.TAG, fence, serial)
        assert rows.read_tag_key(found["group"][0]) == (examples.GEN, examples.GROUP, fence, serial)
        assert rows.read_expiry_key(found["expiry"][0]) == (1_700_000_001, examples.GEN, serial)
        assert rows.read_order_key(found["order"][0]) == serial
        assert rows.read_small_key(found["small"][0]) == (examples.GEN, 1)
        assert rows.decode_small(*found["small"]) == examples.BODY
        assert rows.key_name_of(found["site"][0]) == examples.KEY_NAME
        assert rows.decode_meta(found["site"][1], SiteRow) == examples.SITE
        assert rows.decode_meta(found["floor"][1], int) == 2**33
        assert rows.decode_meta(found["log"][1], str) == "d41d8cd98f00b204"

    def test_what_is_written_now_is_the_version_it_says(self) -> None:
        """Who changes a layout gives it a version of its own: `python -m tests.unit.store.row_examples`."""
        assert examples.read(examples.file_of(rows.ROW_VERSION)) == examples.written()

    @pytest.mark.parametrize("struct", [Metadata, Directives, StoredRow])
    def test_the_examples_leave_no_field_at_its_default(self, struct: type[msgspec.Struct]) -> None:
        """So a field that is added and not written is noticed above."""
        example = {Metadata: examples.PAGE.meta, Directives: examples.PAGE.meta.directives, StoredRow: examples.PAGE}[
            struct
        ]
        for field in msgspec.structs.fields(struct):
            assert getattr(example, field.name) != field.default, field.name

    def test_a_later_version_is_not_guessed_at(self) -> None:
        place, value = examples.written()["object"]
        later = bytes([rows.ROW_VERSION + 1]) + value[1:]
        with pytest.raises(IndexDamaged, match="version"):
            rows.decode_row(place, later, examples.KEY_NAME)
        with pytest.raises(IndexDamaged, match="version"):
            rows.decode_pointer(bytes([rows.ROW_VERSION + 1]))
        with pytest.raises(IndexDamaged, match="version"):
            rows.decode_meta(b"", int)


class TestDamage:
    @pytest.mark.parametrize("kind", ["object", "small"])
    def test_any_bit_that_is_turned_is_noticed(self, kind: str) -> None:
        key, value = examples.written()[kind]
        for bit in range(len(value) * 8):
            turned = bytearray(value)
            turned[bit // 8] ^= 1 << bit % 8
            with pytest.raises(IndexDamaged):
                rows.decode_small(key, bytes(turned))

    def test_a_value_that_is_cut_is_noticed_wherever_it_ends(self) -> None:
        for kind in ("object", "small"):
            key, value = examples.written()[kind]
            for end in range(len(value)):
                with pytest.raises(IndexDamaged):
                    rows.decode_small(key, value[:end])

    def test_a_row_in_the_place_of_another_is_damage(self) -> None:
        first, second = (rows.object_key(1, f"{KEY_NAME} http://a/{n}") for n in (1, 2))
        value = rows.encode_row(first, [stored(f"{KEY_NAME} http://a/1")])
        with pytest.raises(IndexDamaged):
            rows.decode_row(second, value, KEY_NAME)
        with pytest.raises(IndexDamaged):
            rows.decode_small(rows.small_key(1, 2), rows.encode_small(rows.small_key(1, 1), b"body"))

    def test_sound_bytes_that_say_nothing_known_are_damage(self) -> None:
        key = rows.object_key(1, f"{KEY_NAME} http://a/")
        with pytest.raises(IndexDamaged):
            rows.decode_row(key, rows.encode_small(key, b"\x91\x01"), KEY_NAME)
        with pytest.raises(IndexDamaged):
            rows.decode_meta(rows.encode_meta("seven"), int)

    @pytest.mark.parametrize("key", [b"", b"\0\0\0", b"\0\0\0\x01abc", b"\0" * 11, b"\0" * 40, b"\xff" * 9])
    def test_keys_that_are_none_are_damage(self, key: bytes) -> None:
        for read in (rows.read_tag_key, rows.read_expiry_key, rows.read_order_key, rows.read_small_key):
            with pytest.raises(IndexDamaged):
                read(key)
        with pytest.raises(IndexDamaged):
            rows.cache_key_of(key, KEY_NAME)


class TestObjectKeys:
    def test_the_layout_is_as_drawn(self) -> None:
        key = rows.object_key(258, f"{KEY_NAME}+de https://www.example.com:8443/a?b=c")
        assert key == b"\0\0\x01\x02" + b"com.example.www:8443\0/a?b=c\0https+de"
        assert rows.generation_of(key) == 258

    @pytest.mark.parametrize(
        "url",
        [
            "http://example.com/",
            "https://a.b.c.example.com:8443/x/y?z=1//http://other/",
            "http://localhost/",
            "http://[2001:db8::1]/a",
            "http://[2001:db8::1]:8080/a?",
            "http://192.0.2.1:81/",
            "http://example.com",
        ],
    )
    @pytest.mark.parametrize("owner", ["main", KEY_NAME, f"{KEY_NAME}+a+b%2B", "a+b#c#00000000", "a+b#c#00000000+x"])
    def test_the_way_back_gives_the_cache_key(self, owner: str, url: str) -> None:
        cache_key = f"{owner} {url}"
        key_name = rows.split_key_name(cache_key)[0]
        assert rows.cache_key_of(rows.object_key(3, cache_key), key_name) == cache_key

    def test_generations_do_not_meet(self) -> None:
        for gen in (0, 1, 255, 2**32 - 2):
            start, end = rows.gen_range(gen)
            key = rows.object_key(gen, f"{KEY_NAME} http://a/")
            assert start <= key < end
            assert not start <= rows.object_key(gen + 1, f"{KEY_NAME} http://a/") < end


HOSTS = (
    *("example.com", "example.com:8080", "www.example.com", "a.www.example.com:81", "example.community"),
    *("xexample.com", "example.com.org", "example-x.com", "com", "[2001:db8::1]", "[2001:db8::1]:8080", "192.0.2.1"),
)


class TestRanges:
    @pytest.mark.parametrize(
        "asked", [*HOSTS, "*.example.com", "*.com", "*.www.example.com", "*.example.com:8080", "www.example.com:80"]
    )
    def test_the_ranges_of_a_host_hold_all_that_a_purge_of_it_matches(self, asked: str) -> None:
        ranges = rows.host_ranges(9, asked)
        for host in HOSTS:
            cache_key = f"{KEY_NAME} https://{host}/a"
            key = rows.object_key(9, cache_key)
            within = any(start <= key < end for start, end in ranges)
            if matches(host_target("main", asked), names_of(metadata(cache_key))):
                assert within, host
            elif ":" not in asked:
                assert not within, host

    def test_the_range_of_a_prefix_is_that_of_its_text(self) -> None:
        start, end = rows.prefix_range(1, "www.example.com/blog")
        for path, within in {
            "/blog": True,
            "/blog/": True,
            "/blog?x": True,
            "/blogs": True,
            "/blo": False,
            "/blof~": False,
            "/bloh": False,
        }.items():
            key = rows.object_key(1, f"{KEY_NAME} http://www.example.com{path}")
            assert (start <= key < end) is within, path

    def test_the_range_of_a_url_is_both_schemes_and_all_that_hooks_add(self) -> None:
        start, end = rows.url_range(1, "a.com/x")
        for cache_key, within in {
            f"{KEY_NAME} http://a.com/x": True,
            f"{KEY_NAME} https://a.com/x": True,
            f"{KEY_NAME}+mobile https://a.com/x": True,
            f"{KEY_NAME} https://a.com/x?": False,
            f"{KEY_NAME} https://a.com/": False,
            f"{KEY_NAME} https://a.com/x/": False,
            f"{KEY_NAME} https://a.com:81/x": False,
        }.items():
            assert (start <= rows.object_key(1, cache_key) < end) is within, cache_key

    def test_a_purge_of_a_tag_ends_at_its_stamp(self) -> None:
        start, end = rows.tag_range(1, rows.tag_name("news"), below=10)
        for name, fence, within in [
            ("news", 0, True),
            ("news", 9, True),
            ("news", 10, False),
            ("news", 2**40, False),
            ("new", 5, False),
            ("newsx", 5, False),
        ]:
            key = rows.tag_key(1, rows.tag_name(name), fence, 2**64 - 1)
            assert (start <= key < end) is within, (name, fence)

    def test_tags_and_groups_of_one_name_are_two(self) -> None:
        assert rows.tag_name("http://a x") != rows.group_name("http://a", "x")

    def test_what_ends_with_a_moment_has_expired_then(self) -> None:
        for at, now, expired in [(10.0, 9.9, False), (10.0, 10.0, True), (10.5, 10.9, False), (10.5, 11.0, True)]:
            start, end = rows.expired_range(now)
            assert (start <= rows.expiry_key(at, 1, 2) < end) is expired, (at, now)

    @pytest.mark.parametrize("at", [math.inf, 1e300, 2.0**64])
    def test_what_never_ends_has_a_key_too(self, at: float) -> None:
        assert rows.read_expiry_key(rows.expiry_key(at, 1, 2))[0] == rows.TIME_MAX
        assert rows.expiry_key(at, 1, 2) > rows.expired_range(4e9).end

    def test_what_ended_before_the_epoch_has_expired(self) -> None:
        start, end = rows.expired_range(0.0)
        assert start <= rows.expiry_key(-5.0, 1, 2) < end

    def test_all_rows_are_all_rows(self) -> None:
        start, end = rows.ALL_ROWS
        for key, _ in examples.written().values():
            assert start <= key < end
        assert start <= rows.order_key(2**64 - 1) < end
