"""Dates, ranges and conditions: what is written is read back, and no text makes a parser fail."""

from email.utils import formatdate, parsedate_to_datetime

from hypothesis import given
from hypothesis import strategies as st

from banish.errors import ClientError
from banish.http.conditions import lists_etag, parse_etag, parse_etags
from banish.http.dates import format_http_date, parse_http_date
from banish.http.fields import Fields
from banish.http.gate import check_request_head
from banish.http.hops import HOP_BY_HOP, end_to_end
from banish.http.messages import RequestHead
from banish.http.ranges import ByteRange, parse_content_range, parse_range, resolve

NOW = 1_750_000_000.0

moments = st.integers(-60_000_000_000, 250_000_000_000)
latin = st.text(st.characters(max_codepoint=255), max_size=40)
etagc = st.text(st.sampled_from("!#,\\*W/ab\xe9"), max_size=6)
tags = st.tuples(st.sampled_from(["", "W/"]), etagc).map(lambda pair: f'{pair[0]}"{pair[1]}"')
tokens = st.text("aZ9-!~", min_size=1, max_size=6)


@given(moments)
def test_a_date_that_is_written_is_read_back(moment: int) -> None:
    assert parse_http_date(format_http_date(moment), now=NOW) == moment


@given(st.integers(0, 250_000_000_000))
def test_dates_are_written_as_the_standard_library_writes_them(moment: int) -> None:
    assert format_http_date(moment) == formatdate(moment, usegmt=True)


@given(
    st.from_regex(
        r"(Mon|Sun), [0-3][0-9] (Jan|Feb|Dec) [12][0-9]{3} [0-2][0-9]:[0-5][0-9]:[0-5][0-9] GMT",
        fullmatch=True,
    )
)
def test_dates_are_read_as_the_standard_library_reads_them(text: str) -> None:
    try:
        expected: float | None = parsedate_to_datetime(text).timestamp()
    except ValueError:
        expected = None
    assert parse_http_date(text, now=NOW) == expected


@given(latin)
def test_no_text_makes_a_parser_fail(text: str) -> None:
    parse_http_date(text, now=NOW)
    parse_etag(text)
    parse_etags(text)
    lists_etag(text, text)
    parse_range(text)
    parse_range(f"bytes={text}")
    parse_content_range(f"bytes {text}")


@given(st.lists(tags, max_size=5), st.sampled_from([", ", ",", " ,, "]))
def test_a_list_of_tags_is_read_back_and_names_its_members_alone(listed: list[str], comma: str) -> None:
    value = comma.join(listed)
    assert parse_etags(value) == [parse_etag(tag) for tag in listed]
    for tag in listed:
        assert lists_etag(value, tag)
    assert not lists_etag(value, '"another"')


@given(st.one_of(st.none(), st.integers(0, 30)), st.one_of(st.none(), st.integers(0, 30)), st.binary(max_size=20))
def test_a_range_takes_the_bytes_that_its_words_say(first: int | None, last: int | None, body: bytes) -> None:
    ranges = parse_range(f"bytes={'' if first is None else first}-{'' if last is None else last}")
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        assert ranges is None
        return
    assert ranges == [ByteRange(first, last)]
    span = resolve(ranges[0], len(body))
    at = range(len(body))
    if first is None:
        assert last is not None
        wanted = [i for i in at if i >= len(body) - last]
    else:
        wanted = [i for i in at if first <= i and (last is None or i <= last)]
    assert (list(range(*span)) if span else []) == wanted


@given(st.lists(st.tuples(st.one_of(st.sampled_from(sorted(HOP_BY_HOP)), tokens), tokens), max_size=6))
def test_end_to_end_fields_have_nothing_more_to_lose(lines: list[tuple[str, str]]) -> None:
    fields = end_to_end(Fields.of(lines))
    assert end_to_end(fields) == fields
    assert not HOP_BY_HOP & set(fields.names)


@given(st.lists(st.tuples(latin, latin), max_size=4))
def test_whatever_passes_the_gate_is_written_and_split_again_into_the_same_lines(
    lines: list[tuple[str, str]],
) -> None:
    fields = Fields.decode([(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines])
    fields = fields.without(("host",)).plus("Host", "a")
    try:
        check_request_head(RequestHead("GET", "/", fields), "1.1")
    except ClientError:
        return
    wire = fields.encode().split(b"\r\n")
    again = [line.partition(b":") for line in wire[:-1]]
    assert Fields.decode([(name, value) for name, _, value in again]) == fields
