import pytest
from hypothesis import given
from hypothesis import strategies as st

from banish.caching.policy import DEFAULT_POLICY
from banish.edge.hook_views import HookRequest, HookResponse
from banish.errors import ClientError
from banish.http.fields import Fields
from banish.http.messages import RequestHead, ResponseHead
from banish.http.targets import Target


def request() -> HookRequest:
    fields = Fields.of([("Host", "shop.example"), ("Cookie", "a=1; plan=gold"), ("Accept", "*/*"), ("Accept", "x/y")])
    return HookRequest(
        RequestHead("GET", "/a?b=c", fields), Target("https", "shop.example", "/a", "b=c"), peer="192.0.2.1"
    )


def response(status: int = 200) -> HookResponse:
    return HookResponse(ResponseHead(status, Fields.of([("Cache-Control", "max-age=60")]), "Fine"))


def test_the_target_and_the_method_are_read_without_a_trace() -> None:
    view = request()
    assert (view.method, view.scheme, view.host, view.path, view.query) == ("GET", "https", "shop.example", "/a", "b=c")
    assert view.url == "https://shop.example/a?b=c"
    assert view.read_fields == set()
    assert not view.read_outside


def test_fields_that_are_read_are_written_down_even_if_absent() -> None:
    view = request()
    assert view.fields.get("ACCEPT") == "*/*, x/y"
    assert view.fields.get_all("accept") == ["*/*", "x/y"]
    assert "X-Absent" not in view.fields
    assert view.cookies == {"a": "1", "plan": "gold"}
    assert view.read_fields == {"accept", "x-absent", "cookie"}
    assert not view.read_outside


def test_what_is_not_in_a_cache_key_is_outside() -> None:
    by_peer, by_names, by_word = request(), request(), request()
    assert by_peer.peer == "192.0.2.1"
    assert list(by_names.fields) == ["host", "cookie", "accept"]
    by_word.volatile()
    assert by_peer.read_outside
    assert by_names.read_outside
    assert by_word.read_outside


def test_changes_show_in_the_head_that_goes_on() -> None:
    view = request()
    view.path = "/other//./x"
    view.query = None
    view.host = "OTHER.example"
    view.fields["Accept"] = "text/html"
    view.fields.add("X-Tier", "gold")
    del view.fields["cookie"]
    head = view.head()
    assert head.target == "/other//x"
    assert view.target == Target("https", "other.example", "/other//x", None)
    assert head.fields.lines == (("Host", "shop.example"), ("Accept", "text/html"), ("X-Tier", "gold"))


def test_untouched_it_gives_back_the_fields_it_was_given() -> None:
    view = request()
    assert view.head().fields is view.fields.snapshot()


@pytest.mark.parametrize("path", ["no-slash", "/a b", "/a#b", "/%zz", "/a?b", "/\r\nX: y"])
def test_a_target_that_could_not_be_received_cannot_be_set(path: str) -> None:
    view = request()
    with pytest.raises((ValueError, ClientError)):
        view.path = path
    assert view.path == "/a"


@pytest.mark.parametrize(
    ("name", "value"),
    [("X", "a\r\nY: b"), ("X", "a\x00"), ("X Y", "a"), ("", "a"), ("X", "€"), ("Content-Length", "0"),
     ("transfer-encoding", "chunked"), ("Connection", "close")],
)  # fmt: skip
def test_a_field_that_must_not_be_sent_cannot_be_set(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        request().fields[name] = value
    with pytest.raises(ValueError, match=r".+"):
        request().fields.add(name, value)
    with pytest.raises(ValueError, match=r".+"):
        request().respond(200, {name: value})


@given(st.text())
def test_whatever_a_hook_writes_stays_in_its_line(value: str) -> None:
    view = request()
    try:
        view.fields["X-Any"] = value
    except ValueError:
        return
    assert view.head().fields.encode().count(b"\r\n") == 5
    assert b"\n" not in view.head().fields.encode().replace(b"\r\n", b"")


def test_an_answer_is_kept_as_bytes() -> None:
    view = request()
    view.respond(403, {"Content-Type": "text/plain"}, "nö")
    assert view.answer is not None
    assert (view.answer.status, view.answer.body) == (403, "nö".encode())
    assert view.answer.fields.get("content-type") == "text/plain"


@pytest.mark.parametrize("status", [100, 199, 600, 0])
def test_only_a_final_status_answers(status: int) -> None:
    with pytest.raises(ValueError, match="final"):
        request().respond(status)


def test_decisions_add_up() -> None:
    view = request()
    view.bypass()
    view.cache_key_extra("gold", "eu")
    view.cache_key_extra("de")
    assert view.bypassed
    assert view.key_extra == ("gold", "eu", "de")


def test_a_response_can_be_told_its_lifetime_tags_and_fields() -> None:
    view = response()
    view.ttl_s = 5
    view.add_tags("product-1", "product-2")
    view.fields["Cache-Control"] = "no-cache"
    view.do_not_store()
    assert view.policy(DEFAULT_POLICY).override_ttl_s == 5
    assert view.tags == ("product-1", "product-2")
    assert view.head().fields.get("cache-control") == "no-cache"
    assert not view.stored


def test_a_response_left_alone_is_what_it_was() -> None:
    view = response()
    assert view.policy(DEFAULT_POLICY) is DEFAULT_POLICY
    assert view.head() == ResponseHead(200, Fields.of([("Cache-Control", "max-age=60")]), "Fine")
    assert view.stored


def test_a_status_changes_only_to_one_with_the_same_kind_of_body() -> None:
    view = response()
    view.status = 404
    assert view.head().reason == ""
    with pytest.raises(ValueError, match="body would not fit"):
        view.status = 204
    with pytest.raises(ValueError, match="body would not fit"):
        response(304).status = 200


@pytest.mark.parametrize("tag", ["", "a\nb", "x" * 1025])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="not a tag"):
        response().add_tags(tag)


def test_a_lifetime_is_never_negative() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        response().ttl_s = -1
    with pytest.raises(ValueError, match="0 or more"):
        response().ttl_s = float("nan")
