import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from banish.caching.cache_status import Outcome
from banish.http.dates import format_http_date
from banish.http.fields import Fields
from banish.http.messages import RequestHead
from banish.proxy.answers import REACH_BYTES, from_stored, in_304, within_reach
from banish.proxy.exchange import Answer
from banish.store.bodies import Body, BodyReader
from banish.store.records import StoredResponse
from tests.byhand import NEVER_KEPT, read, run
from tests.stored import stored_response

NOW = 1e9 + 100
DATE = format_http_date(1e9)
BEFORE, LATER = format_http_date(1e9 - 50), format_http_date(1e9 + 50)
LINES = (
    ("Date", DATE), ("ETag", '"1"'), ("Last-Modified", BEFORE), ("Content-Type", "text/plain"),
    ("Cache-Control", "max-age=600"), ("Content-Length", "5"), ("Age", "7"), ("X-Custom", "1"), ("Vary", "X"),
    ("Content-Encoding", "x"), ("Set-Cookie", "a=b"),
)  # fmt: skip


def record(
    body: bytes | Body = b"hello",
    *,
    status: int = 200,
    held: tuple[int, int, int | None] | None = None,
    lines: tuple[tuple[str, str], ...] = LINES,
) -> StoredResponse:
    """A response stored a hundred seconds ago; with `held`, the part of one."""
    made = stored_response(body=body, fields=Fields.of(lines))
    fields = made.meta.fields
    made.meta = msgspec.structs.replace(
        made.meta, status=status, content_range=held, etag=fields.get("etag"), last_modified=fields.get("last-modified")
    )
    return made


def answered(stored: StoredResponse, *lines: tuple[str, str], method: str = "GET") -> Answer:
    return from_stored(
        RequestHead(method, "/a", Fields.of(lines)), stored, NOW, outcome=Outcome.HIT, cache_status="banish; hit"
    )


def test_a_stored_response_is_given_whole_with_its_age() -> None:
    answer = answered(record())
    assert (answer.status, answer.reason, answer.body, answer.length) == (200, "OK", b"hello", 5)
    assert answer.fields.get_all("age") == ["100"]
    assert answer.fields.get("cache-status") == "banish; hit"
    assert "content-length" not in answer.fields  # framing is chosen where it is written
    assert answer.fields.get("x-custom") == "1"


def test_an_answer_to_head_has_the_length_and_no_body() -> None:
    answer = answered(record(), method="HEAD")
    assert (answer.status, answer.body, answer.length) == (200, None, None)
    assert answer.fields.get_all("content-length") == ["5"]


@pytest.mark.parametrize("status", [203, 301, 404, 410])
def test_other_statuses_are_given_as_they_are(status: int) -> None:
    stored = record(status=status)
    for lines in ((), (("Range", "bytes=0-1"),), (("If-None-Match", '"1"'),), (("If-Modified-Since", LATER),)):
        answer = answered(stored, *lines)
        assert (answer.status, answer.body) == (status, b"hello")


# --- not modified


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([("If-None-Match", '"1"')], 304),
        ([("If-None-Match", 'W/"1"')], 304),
        ([("If-None-Match", '"0", "1"')], 304),
        ([("If-None-Match", '"0"'), ("If-None-Match", '"1"')], 304),
        ([("If-None-Match", "*")], 304),
        ([("If-None-Match", '"2"')], 200),
        ([("If-None-Match", '"2"'), ("If-Modified-Since", LATER)], 200),
        ([("If-Modified-Since", BEFORE)], 304),
        ([("If-Modified-Since", LATER)], 304),
        ([("If-Modified-Since", format_http_date(1e9 - 51))], 200),
        ([("If-Modified-Since", "yesterday")], 200),
        ([("If-None-Match", '"1"'), ("Range", "bytes=0-1")], 304),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions_come_first(lines: list[tuple[str, str]], status: int, method: str) -> None:
    answer = answered(record(), *lines, method=method)
    assert answer.status == status
    assert status == 200 or answer.body is None


def test_a_304_has_what_refreshes_a_copy_and_nothing_that_describes_content() -> None:
    answer = answered(record(), ("If-None-Match", '"1"'))
    assert dict(answer.fields) == {
        "Date": DATE, "ETag": '"1"', "Last-Modified": BEFORE, "Cache-Control": "max-age=600", "Vary": "X", "Age": "100",
        "Cache-Status": "banish; hit",
    }  # fmt: skip
    assert (answer.length, answer.body) == (None, None)


def test_fields_of_a_304_keep_order_and_repetitions() -> None:
    kept = in_304(Fields.of([("vary", "A"), ("X", "1"), ("Cache-Control", "a"), ("Vary", "B"), ("cache-control", "b")]))
    assert kept.lines == (("vary", "A"), ("Cache-Control", "a"), ("Vary", "B"), ("cache-control", "b"))


# --- ranges of a whole


@pytest.mark.parametrize(
    ("asked", "body", "said"),
    [
        ("bytes=0-1", b"he", "bytes 0-1/5"),
        ("bytes=1-3", b"ell", "bytes 1-3/5"),
        ("bytes=4-", b"o", "bytes 4-4/5"),
        ("bytes=0-", b"hello", "bytes 0-4/5"),
        ("bytes=3-100", b"lo", "bytes 3-4/5"),
        ("bytes=-2", b"lo", "bytes 3-4/5"),
        ("bytes=-100", b"hello", "bytes 0-4/5"),
        ("BYTES=0-0", b"h", "bytes 0-0/5"),
    ],
)
def test_a_single_range_is_cut_out(asked: str, body: bytes, said: str) -> None:
    answer = answered(record(), ("Range", asked))
    assert (answer.status, answer.body, answer.length) == (206, body, len(body))
    assert answer.fields.get("content-range") == said
    assert answer.fields.get("etag") == '"1"'


@pytest.mark.parametrize("asked", ["bytes=5-", "bytes=9-10", "bytes=-0"])
def test_a_range_that_cannot_be_satisfied_tells_the_size_and_describes_nothing(asked: str) -> None:
    answer = answered(record(), ("Range", asked))
    assert (answer.status, answer.body, answer.length) == (416, b"", 0)
    assert answer.fields.get("content-range") == "bytes */5"
    assert not {"content-type", "content-encoding", "etag", "last-modified", "content-length"} & set(
        answer.fields.names
    )


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "bytes=", "bytes=x", "bytes=3-1", "lines=0-1", "bytes=0-1, x", ""])
def test_several_ranges_and_damaged_ones_get_the_whole(asked: str) -> None:
    answer = answered(record(), ("Range", asked))
    assert (answer.status, answer.body) == (200, b"hello")


def test_a_range_of_nothing_gets_the_whole_nothing() -> None:
    answer = answered(record(b""), ("Range", "bytes=0-"))
    assert (answer.status, answer.body, answer.length) == (200, b"", 0)


def test_head_has_no_ranges() -> None:
    answer = answered(record(), ("Range", "bytes=0-1"), method="HEAD")
    assert (answer.status, answer.fields.get("content-length")) == (200, "5")
    assert "content-range" not in answer.fields


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"1"', 206), ('"2"', 200), ('W/"1"', 200), (BEFORE, 206), (LATER, 200), ("nonsense", 200), ("", 200)],
)
def test_if_range_decides_between_part_and_whole(condition: str, status: int) -> None:
    answer = answered(record(), ("Range", "bytes=0-1"), ("If-Range", condition))
    assert answer.status == status


def test_if_range_saves_from_416_too() -> None:
    assert answered(record(), ("Range", "bytes=9-"), ("If-Range", '"2"')).status == 200
    assert answered(record(), ("Range", "bytes=9-"), ("If-Range", '"1"')).status == 416


def test_a_weak_tag_of_ours_is_no_match_for_if_range() -> None:
    weak = record(lines=(("ETag", 'W/"1"'),))
    assert answered(weak, ("Range", "bytes=0-1"), ("If-Range", 'W/"1"')).status == 200


POSITIONS = st.one_of(st.none(), st.integers(0, 60), st.integers(0, 2**70))


@given(body=st.binary(max_size=50), first=POSITIONS, last=POSITIONS)
@example(body=b"x", first=None, last=0)
def test_any_single_range_is_exact(body: bytes, first: int | None, last: int | None) -> None:
    answer = answered(record(body), ("Range", f"bytes={'' if first is None else first}-{'' if last is None else last}"))
    if not body or (first is None and last is None) or (first is not None and last is not None and last < first):
        assert (answer.status, answer.body) == (200, body)
        return
    wanted = body[-last:] if first is None and last else body[first : None if last is None else last + 1]
    if first is None and not last:
        wanted = b""
    if not wanted:
        assert (answer.status, answer.fields.get("content-range")) == (416, f"bytes */{len(body)}")
        return
    at = len(body) - len(wanted) if first is None else first
    assert (answer.status, answer.body, answer.length) == (206, wanted, len(wanted))
    assert answer.fields.get("content-range") == f"bytes {at}-{at + len(wanted) - 1}/{len(body)}"


# --- stored parts


@pytest.mark.parametrize(
    ("asked", "body", "said"),
    [
        ("bytes=2-6", b"cdefg", "bytes 2-6/10"),
        ("bytes=3-4", b"de", "bytes 3-4/10"),
        ("bytes=6-6", b"g", "bytes 6-6/10"),
    ],
)
def test_a_range_within_a_stored_part_is_cut_out_of_it(asked: str, body: bytes, said: str) -> None:
    stored = record(b"cdefg", status=206, held=(2, 6, 10), lines=(("Content-Range", "bytes 2-6/10"),))
    answer = answered(stored, ("Range", asked))
    assert (answer.status, answer.body, answer.length) == (206, body, len(body))
    assert answer.fields.get_all("content-range") == [said]


def test_a_suffix_within_a_stored_part() -> None:
    stored = record(b"fghij", status=206, held=(5, 9, 10))
    answer = answered(stored, ("Range", "bytes=-2"))
    assert (answer.body, answer.fields.get("content-range")) == (b"ij", "bytes 8-9/10")


def test_a_range_within_a_part_of_a_whole_of_unknown_size_is_exact_too() -> None:
    answer = answered(record(b"cdefg", status=206, held=(2, 6, None)), ("Range", "bytes=3-4"))
    assert (answer.body, answer.fields.get("content-range")) == (b"de", "bytes 3-4/*")


@given(data=st.data(), total=st.integers(1, 40))
def test_any_range_within_any_stored_part_is_exact(data: st.DataObject, total: int) -> None:
    whole = bytes(range(total))
    first = data.draw(st.integers(0, total - 1))
    last = data.draw(st.integers(first, total - 1))
    start = data.draw(st.integers(first, last))
    end = data.draw(st.integers(start, last))
    answer = answered(
        record(whole[first : last + 1], status=206, held=(first, last, total)), ("Range", f"bytes={start}-{end}")
    )
    assert (answer.status, answer.body) == (206, whole[start : end + 1])
    assert answer.fields.get_all("content-range") == [f"bytes {start}-{end}/{total}"]


# --- bodies that are still coming


def test_what_is_still_coming_is_read_as_it_comes() -> None:
    async def scene() -> None:
        body = Body.filling(NEVER_KEPT, kept=True)
        stored = record(body)
        body.write(b"he")
        whole, part = answered(stored), answered(stored, ("Range", "bytes=1-3"))
        assert isinstance(part.body, BodyReader)
        assert (whole.length, part.status, part.length) == (5, 206, 3)
        assert part.fields.get("content-range") == "bytes 1-3/5"
        body.write(b"llo")
        body.finish()
        assert (await read(whole)).body == b"hello"
        assert (await read(part)).body == b"ell"

    run(scene())


def test_without_a_length_told_what_is_still_coming_is_given_whole() -> None:
    async def scene() -> None:
        stored = record(Body.filling(NEVER_KEPT, kept=True), lines=())
        answer = answered(stored, ("Range", "bytes=1-3"))
        assert (answer.status, answer.length) == (200, None)
        assert "content-length" not in answered(stored, method="HEAD").fields
        answer.close_body()

    run(scene())


@pytest.mark.parametrize(
    ("asked", "reach"),
    [
        ("bytes=0-1", True), (f"bytes={REACH_BYTES}-", True), (f"bytes={REACH_BYTES + 1}-", False), ("bytes=-1", False),
        ("x", True), (None, True), (f"bytes={3 * REACH_BYTES}-", True),
    ],
)  # fmt: skip
def test_a_range_far_ahead_of_what_has_come_is_not_worth_waiting_for(asked: str | None, reach: bool) -> None:
    async def scene() -> None:
        request = RequestHead("GET", "/a", Fields.of([("Range", asked)] if asked is not None else []))
        stored = record(Body.filling(NEVER_KEPT, kept=True), lines=(("Content-Length", str(2 * REACH_BYTES)),))
        assert within_reach(request, stored) == reach
        untold = record(Body.filling(NEVER_KEPT, kept=True), lines=())
        assert within_reach(request, untold) == (asked is None or not asked.startswith("bytes"))
        assert within_reach(request, record())

    run(scene())
