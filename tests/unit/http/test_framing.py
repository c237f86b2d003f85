import pytest

from banish.errors import BadResponse, ClientError
from banish.http.fields import Fields
from banish.http.framing import (
    CHUNKED,
    CONTENT_LENGTH_MAX,
    NO_BODY,
    UNTIL_CLOSE,
    Framing,
    FramingKind,
    request_framing,
    response_framing,
)
from banish.http.messages import Version

Lines = list[tuple[str, str]]


def length(count: int) -> Framing:
    return Framing(FramingKind.LENGTH, count)


def of_request(lines: Lines, version: Version = "1.1") -> Framing:
    return request_framing("POST", version, Fields.of(lines))


def of_response(
    lines: Lines, *, method: str = "GET", status: int = 200, version: Version = "1.1", lenient: bool = False
) -> Framing:
    return response_framing(method, status, version, Fields.of(lines), lenient=lenient)


GOOD: list[tuple[Lines, Framing]] = [
    ([("Content-Length", "5")], length(5)),
    ([("Content-Length", "0")], length(0)),
    ([("Content-Length", "005")], length(5)),
    ([("content-length", " 5\t")], length(5)),
    ([("Content-Length", str(CONTENT_LENGTH_MAX))], length(CONTENT_LENGTH_MAX)),
    ([("Transfer-Encoding", "chunked")], CHUNKED),
    ([("transfer-encoding", "Chunked ")], CHUNKED),
]

DAMAGED: list[Lines] = [
    [("Content-Length", "")],
    [("Content-Length", "+5")],
    [("Content-Length", "-5")],
    [("Content-Length", "5.0")],
    [("Content-Length", "0x5")],
    [("Content-Length", "5 5")],
    [("Content-Length", "5_0")],
    [("Content-Length", "\xb2")],
    [("Content-Length", "\x0b5")],
    [("Content-Length", "5\n")],
    [("Content-Length", "5"), ("Content-Length", "6")],
    [("Content-Length", "5, 6")],
    [("Content-Length", "5,")],
    [("Content-Length", str(CONTENT_LENGTH_MAX + 1))],
    [("Content-Length", "0" * 20)],
    [("Content-Length", "9" * 10_000)],
    [("Transfer-Encoding", "chunked"), ("Content-Length", "5")],
    [("Transfer-Encoding", "chunked"), ("Content-Length", "")],
    [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
    [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "")],
    [("Transfer-Encoding", "chunked, chunked")],
    [("Transfer-Encoding", "chunked,")],
    [("Transfer-Encoding", "chunked;q=1")],
    [("Transfer-Encoding", "xchunked")],
    [("Transfer-Encoding", "\x0bchunked")],
    [("Transfer-Encoding", '"chunked"')],
    [("Transfer-Encoding", "chunked, identity")],
]
OTHER_CODINGS: list[Lines] = [[("Transfer-Encoding", value)] for value in ("identity", "gzip", "", "chunke")]
EQUAL_LENGTHS: list[Lines] = [
    [("Content-Length", "5"), ("Content-Length", "5")],
    [("Content-Length", "5, 5")],
    [("Content-Length", "5,5"), ("Content-Length", " 5")],
]


@pytest.mark.parametrize(("lines", "framing"), GOOD)
def test_length_and_chunked_are_read_alike_in_both_directions(lines: Lines, framing: Framing) -> None:
    assert of_request(lines) == framing
    assert of_response(lines) == framing


def test_a_request_that_announces_no_body_has_none() -> None:
    assert of_request([]) == NO_BODY


def test_a_response_that_announces_no_length_ends_with_the_connection() -> None:
    assert of_response([]) == UNTIL_CLOSE
    assert of_response([], version="1.0") == UNTIL_CLOSE
    assert not UNTIL_CLOSE.reusable


@pytest.mark.parametrize("lines", [*DAMAGED, *EQUAL_LENGTHS])
def test_damaged_framing_refuses_the_request_and_closes(lines: Lines) -> None:
    with pytest.raises(ClientError) as refused:
        of_request(lines)
    assert (refused.value.status, refused.value.close) == (400, True)


@pytest.mark.parametrize("lines", OTHER_CODINGS)
def test_another_coding_of_a_request_is_not_implemented(lines: Lines) -> None:
    with pytest.raises(ClientError) as refused:
        of_request(lines)
    assert refused.value.status == 501


@pytest.mark.parametrize("lines", [*DAMAGED, *OTHER_CODINGS])
@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("HEAD", 200), ("GET", 304), ("GET", 204)])
def test_damaged_framing_refuses_the_response_even_where_no_body_follows(
    lines: Lines, lenient: bool, method: str, status: int
) -> None:
    with pytest.raises(BadResponse):
        of_response(lines, method=method, status=status, lenient=lenient)


def test_transfer_encoding_does_not_exist_in_http_1_0() -> None:
    with pytest.raises(ClientError):
        of_request([("Transfer-Encoding", "chunked")], "1.0")
    with pytest.raises(BadResponse):
        of_response([("Transfer-Encoding", "chunked")], version="1.0")


@pytest.mark.parametrize("lines", EQUAL_LENGTHS)
def test_equal_lengths_pass_for_one_only_under_lenient(lines: Lines) -> None:
    with pytest.raises(BadResponse):
        of_response(lines)
    assert of_response(lines, lenient=True) == length(5)


@pytest.mark.parametrize("lines", [[], [("Content-Length", "5")], [("Transfer-Encoding", "chunked")]])
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("HEAD", 404), ("GET", 304)])
def test_answers_to_head_and_304_announce_bodies_that_do_not_follow(lines: Lines, method: str, status: int) -> None:
    assert of_response(lines, method=method, status=status) == NO_BODY


@pytest.mark.parametrize("status", [100, 101, 103, 199, 204])
def test_1xx_and_204_have_no_body(status: int) -> None:
    assert of_response([], status=status) == NO_BODY
    assert of_response([("Content-Length", "0")], status=status) == NO_BODY


@pytest.mark.parametrize("status", [103, 204])
@pytest.mark.parametrize("line", [("Content-Length", "5"), ("Transfer-Encoding", "chunked")])
def test_1xx_and_204_that_announce_a_body_spoil_the_connection(status: int, line: tuple[str, str]) -> None:
    framing = of_response([line], status=status)
    assert (framing.kind, framing.reusable) == (FramingKind.NONE, False)


def test_connect_is_not_offered() -> None:
    with pytest.raises(ClientError) as refused:
        request_framing("CONNECT", "1.1", Fields())
    assert refused.value.status == 501
