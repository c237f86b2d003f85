import pytest

from banish.caching.cache_status import Outcome
from banish.errors import BadResponse, ClientError, LimitExceeded
from banish.http.fields import Fields
from banish.http.messages import ResponseHead, Version
from banish.proxy.exchange import Answer
from banish.proxy.wire import encode_head, encode_interim, error_answer, refusal


def answer(status: int = 200, *lines: tuple[str, str], reason: str = "", length: int | None = None) -> Answer:
    return Answer(status, Fields.of(lines), Outcome.MISS, reason, length=length)


def head(made: Answer, *, keep: bool = True, chunked: bool = False, version: Version = "1.1") -> list[bytes]:
    raw = encode_head(made, keep=keep, chunked=chunked, version=version)
    assert raw.endswith(b"\r\n\r\n")
    return raw[:-4].split(b"\r\n")


def test_a_head_has_its_fields_in_order_and_a_length() -> None:
    made = answer(200, ("B", "1"), ("a", "2"), ("B", "\xe9"), length=5)
    assert head(made) == [b"HTTP/1.1 200 OK", b"B: 1", b"a: 2", b"B: \xe9", b"Content-Length: 5"]


def test_the_origins_reason_is_kept_and_a_missing_one_looked_up() -> None:
    assert head(answer(200, reason="Very Well"))[0] == b"HTTP/1.1 200 Very Well"
    assert head(answer(404))[0] == b"HTTP/1.1 404 Not Found"
    assert head(answer(299))[0] == b"HTTP/1.1 299 "  # the space stays (RFC 9112 section 4)


def test_the_version_is_ours_whatever_the_clients() -> None:
    assert head(answer(length=0), version="1.0")[0] == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    ("keep", "version", "said"),
    [
        (True, "1.1", []),
        (False, "1.1", [b"Connection: close"]),
        (True, "1.0", [b"Connection: keep-alive"]),
        (False, "1.0", [b"Connection: close"]),
    ],
)
def test_connection_says_only_what_is_not_understood(keep: bool, version: Version, said: list[bytes]) -> None:
    assert head(answer(length=0), keep=keep, version=version)[2:] == said


def test_a_body_of_unknown_length_is_chunked_or_ends_with_the_connection() -> None:
    assert head(answer(), chunked=True)[1:] == [b"Transfer-Encoding: chunked"]
    assert head(answer(), keep=False, version="1.0")[1:] == [b"Connection: close"]


def test_chunks_and_length_never_stand_side_by_side() -> None:
    assert head(answer(length=5), chunked=True)[1:] == [b"Transfer-Encoding: chunked"]


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_content_get_no_length_of_ours(status: int) -> None:
    assert head(answer(status, length=0))[1:] == []


def test_a_length_among_the_fields_is_not_said_twice() -> None:
    made = answer(200, ("Content-Length", "7"), length=7)
    assert head(made)[1:] == [b"Content-Length: 7"]


def test_an_upgrade_says_so_and_has_no_framing() -> None:
    raw = encode_head(answer(101), keep=True, chunked=False, version="1.1", switching=True)
    assert raw.split(b"\r\n")[1:3] == [b"Connection: upgrade", b"Upgrade: websocket"]
    assert b"ength" not in raw


def test_an_interim_response_is_a_bare_head() -> None:
    hints = ResponseHead(103, Fields.of([("Link", "</a>")]))
    assert encode_interim(hints) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    assert encode_interim(ResponseHead(102, Fields(), "Working")) == b"HTTP/1.1 102 Working\r\n\r\n"


def test_an_error_page_says_what_happened_and_is_not_stored() -> None:
    error = BadResponse("no connection to unix:/run/inner.sock")
    page = error_answer(502, error, cache_status="x; fwd=miss", outcome=Outcome.ERROR)
    assert isinstance(page.body, bytes)
    assert (page.status, page.length, page.close) == (502, len(page.body), False)
    assert page.fields.get("cache-control") == "no-store"
    assert page.fields.get("cache-status") == "x; fwd=miss"
    assert page.fields.get("content-type") == "text/html; charset=utf-8"
    for text in (b"502 Bad Gateway", b"the origin answered with something that is not acceptable", b"bad_response"):
        assert text in page.body
    assert b"inner" not in page.body, "what is inside is for the log"


def test_an_error_page_escapes_what_a_client_or_origin_wrote() -> None:
    error = ClientError(421, "no site for <script>alert('x')</script> & \"y\"")
    page = error_answer(421, error, cache_status="x", outcome=Outcome.REFUSED)
    assert isinstance(page.body, bytes)
    assert b"<script>" not in page.body
    assert b"&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;y&quot;" in page.body


def test_a_status_without_a_phrase_still_has_a_page() -> None:
    page = error_answer(499, ClientError(499, "gone"), cache_status="x", outcome=Outcome.REFUSED)
    assert isinstance(page.body, bytes)
    assert b"<h1>499 Error</h1>" in page.body


@pytest.mark.parametrize("close", [True, False])
def test_a_refusal_closes_if_the_error_says_so(close: bool) -> None:
    made = refusal(ClientError(400, "bad", close=close), "edge1")
    assert (made.status, made.outcome, made.close) == (400, Outcome.REFUSED, close)
    assert made.fields.get("cache-status") == "edge1; detail=client"


def test_a_refusal_by_a_limit_says_so() -> None:
    made = refusal(LimitExceeded(431, "request_fields", "too many"), "edge1")
    assert made.fields.get("cache-status") == "edge1; detail=limit"
