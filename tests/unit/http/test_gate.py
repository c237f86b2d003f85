import pytest

from banish.errors import BadResponse, ClientError
from banish.http.fields import Fields
from banish.http.gate import check_request_head, check_response_head
from banish.http.messages import RequestHead, ResponseHead

HOST = ("Host", "a.example")


def refusal(
    *lines: tuple[str, str], method: str = "GET", target: str = "/", version: str = "1.1", host: bool = True
) -> int | None:
    fields = Fields.of([HOST, *lines] if host else lines)
    try:
        check_request_head(RequestHead(method, target, fields), version)
    except ClientError as refused:
        return refused.status
    return None


def check_response(*lines: tuple[str, str], status: int = 200, reason: str = "OK", version: str = "1.1") -> None:
    check_response_head(ResponseHead(status, Fields.of(lines), reason), version)


def test_an_ordinary_request_passes() -> None:
    assert refusal(("User-Agent", "x/1 (\ty) \xe9"), ("X-Empty", ""), ("!#$%&'*+-.^_`|~", "1")) is None


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "0.0", "", "1.1 "])
def test_other_versions_are_not_supported(version: str) -> None:
    assert refusal(version=version) == 505


def test_http_1_1_wants_exactly_one_host() -> None:
    assert refusal(host=False) == 400
    assert refusal(HOST) == 400
    assert refusal(("host", "b.example")) == 400
    assert refusal(("Host", "a.example, b.example"), host=False) == 400


def test_http_1_0_may_do_without_host_but_not_have_two() -> None:
    assert refusal(version="1.0", host=False) is None
    assert refusal(version="1.0") is None
    assert refusal(HOST, version="1.0") == 400


@pytest.mark.parametrize("method", ["", "GET ", "G(T", "G\x00T", "G\xe9T", '"GET"'])
def test_a_method_is_a_token(method: str) -> None:
    assert refusal(method=method) == 400


def test_unknown_methods_are_tokens_too() -> None:
    assert refusal(method="M-SEARCH") is None


@pytest.mark.parametrize("target", ["", "/#", "/a b", "/\t", "/\x00", "/\x7f", "/\xe9", "/\r\n"])
def test_a_target_is_printable_ascii_without_fragment(target: str) -> None:
    assert refusal(target=target) == 400


BAD_NAMES = ["", "A B", "A ", " A", "A:", "A\t", "A\x00", "A\r\nB", "\xe9", "(A)", 'A"']
BAD_VALUES = ["a\x00b", "a\rb", "a\nb", "a\r\n b", "\x01", "\x1f", "\x7f", "\x0b", "\x0c"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_field_name_is_a_token(name: str) -> None:
    assert refusal((name, "x")) == 400
    with pytest.raises(BadResponse):
        check_response((name, "x"))


@pytest.mark.parametrize("value", BAD_VALUES)
def test_a_field_value_has_no_controls(value: str) -> None:
    assert refusal(("A", value)) == 400
    with pytest.raises(BadResponse):
        check_response(("A", value))


def test_an_ordinary_response_passes() -> None:
    check_response(("Server", "x"), ("ETag", '"\xfc"'), status=599, reason="What\tever \xe9")
    check_response(status=100, reason="", version="1.0")


@pytest.mark.parametrize("status", [0, 99, 600, 999])
def test_a_status_out_of_range_is_refused(status: int) -> None:
    with pytest.raises(BadResponse):
        check_response(status=status)


def test_a_reason_phrase_has_no_controls() -> None:
    with pytest.raises(BadResponse):
        check_response(reason="O\rK")


def test_a_response_of_another_version_is_refused() -> None:
    with pytest.raises(BadResponse):
        check_response(version="2.0")
