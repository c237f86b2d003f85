import gc

from banish.http.fields import Fields
from tests.stored import SITE, stored_response


def test_the_variant_tells_selecting_names_and_values_apart() -> None:
    english = stored_response(vary=("accept-language",), selecting=("en",))
    german = stored_response(vary=("accept-language",), selecting=("de",))
    zipped = stored_response(vary=("accept-encoding",), selecting=("en",))
    assert len({english.variant, german.variant, zipped.variant}) == 3
    assert english.variant == stored_response(vary=("accept-language",), selecting=("en",)).variant


def test_each_part_adds_its_weight() -> None:
    plain = stored_response().memory_bytes()
    assert stored_response(body=b"x" * 1005).memory_bytes() == plain + 1000
    assert stored_response(fields=Fields.of([("Server", "x" * 100)])).memory_bytes() > plain + 200
    assert stored_response(tags=("news", "sport")).memory_bytes() > plain + 100


def test_a_response_is_named_by_what_is_stored_of_it() -> None:
    record = stored_response("a?b", tags=("news",), groups=("g",), vary=("x",), selecting=("1",))
    names = record.names
    assert (names.site, names.url, names.place) == (SITE, "https://shop.example/a?b", "shop.example/a?b")
    assert (names.tags, names.groups, names.vary, names.selecting) == (("news",), ("g",), ("x",), ("1",))


def test_a_soft_purge_marks_by_its_apply_index() -> None:
    record = stored_response()
    assert not record.soft
    record.soft_at = 3
    assert record.soft


def test_records_are_out_of_the_collectors_reach() -> None:
    record = stored_response(fields=Fields.of([("Server", "x"), ("Date", "y")]))
    for _ in range(2):  # a tuple is let go of once what it holds has been
        gc.collect()
    for part in (record, record.meta, record.body, record.meta.fields, record.meta.fields.lines):
        assert not gc.is_tracked(part)
