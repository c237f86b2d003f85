import pytest

from banish.caching.policy import CachePolicy
from banish.caching.storing import (
    NEVER_STORED_STATUSES,
    StoreReason,
    confirm_size,
    decide_keeping,
    decide_storing,
    held_range,
)
from banish.caching.tags import GROUPS_MAX, TAG_BYTES_MAX
from banish.http.messages import RequestHead, ResponseHead
from banish.http.targets import Target

from .exchanges import DATE, NOW, answer, cached, fields, get, http_date, stored

MODIFIED = ("Last-Modified", http_date(-86400))
FRESH = cached("max-age=60")


def reason(
    response: ResponseHead, request: RequestHead | None = None, policy: CachePolicy | None = None
) -> StoreReason:
    return decide_storing(request or get(), response, policy or CachePolicy())


class TestMethod:
    def test_a_get_is_stored(self) -> None:
        assert reason(FRESH) is StoreReason.STORE
        assert reason(FRESH).storable

    @pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "BREW", "POST", "PATCH"])
    def test_others_are_not(self, method: str) -> None:
        assert reason(FRESH, get(method=method)) is StoreReason.METHOD

    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    @pytest.mark.parametrize("location", ["/a", "a", "", "http://EXAMPLE.org:80/x/../a#f"])
    def test_a_post_that_answers_for_get_is(self, method: str, location: str) -> None:
        response = cached("max-age=60", ("Content-Location", location))
        assert reason(response, get(("Content-Length", "5"), method=method)) is StoreReason.STORE

    @pytest.mark.parametrize(
        "response",
        [
            cached("max-age=60", ("Content-Location", "/b")),
            cached("max-age=60", ("Content-Location", "/a"), status=201),
            cached("public", ("Content-Location", "/a"), MODIFIED),
            cached("max-age=60"),
        ],
    )
    def test_a_post_that_does_not_is_not(self, response: ResponseHead) -> None:
        assert reason(response, get(method="POST")) is StoreReason.METHOD

    def test_a_given_target_decides_what_content_location_must_be(self) -> None:
        response = cached("max-age=60", ("Content-Location", "https://example.org/a"))
        post = get(method="POST")
        secure = Target("https", "example.org", "/a")
        assert decide_storing(post, response, CachePolicy(), target=secure).storable
        assert not decide_storing(post, response, CachePolicy()).storable

    def test_content_in_a_get_is_outside_the_key(self) -> None:
        assert reason(FRESH, get(("Content-Length", "5"))) is StoreReason.UNKEYED_INPUT


class TestStatus:
    @pytest.mark.parametrize("status", [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 599])
    def test_any_final_status_is_stored_with_explicit_freshness(self, status: int) -> None:
        assert reason(cached("max-age=60", status=status)).storable

    @pytest.mark.parametrize("status", sorted(NEVER_STORED_STATUSES | {100, 101, 103}))
    def test_these_are_never_stored(self, status: int) -> None:
        assert reason(cached("max-age=60, public", MODIFIED, status=status)) is StoreReason.STATUS

    @pytest.mark.parametrize("status", [201, 202, 302, 403, 500, 502, 503, 504, 599])
    def test_a_status_that_may_not_be_guessed_at_needs_freshness_or_public(self, status: int) -> None:
        assert reason(answer(DATE, MODIFIED, status=status)) is StoreReason.STATUS
        assert reason(answer(DATE, MODIFIED, ("Cache-Control", "public"), status=status)).storable

    def test_must_understand_lifts_no_store_where_the_status_is_understood(self) -> None:
        assert reason(cached("max-age=60, no-store, must-understand")).storable

    def test_must_understand_forbids_storing_where_it_is_not(self) -> None:
        unknown = cached("max-age=60, must-understand", status=599)
        assert reason(unknown) is StoreReason.MUST_UNDERSTAND


class TestDirectives:
    def test_no_store(self) -> None:
        assert reason(cached("max-age=60, no-store")) is StoreReason.NO_STORE

    def test_no_store_of_the_request(self) -> None:
        assert reason(FRESH, get(("Cache-Control", "no-store"))) is StoreReason.REQUEST_NO_STORE

    def test_private(self) -> None:
        assert reason(cached("max-age=60, private")) is StoreReason.PRIVATE

    def test_qualified_private_keeps_the_rest(self) -> None:
        response = cached('max-age=60, private="X-User"', ("X-User", "ann"), ("X-Page", "1"))
        assert reason(response).storable
        kept = stored(response).fields
        assert "x-user" not in kept
        assert "x-page" in kept

    def test_a_targeted_field_decides_alone(self) -> None:
        assert reason(cached("no-store", ("CDN-Cache-Control", "max-age=60"))).storable
        targeted = cached("max-age=60", ("CDN-Cache-Control", "private"))
        assert reason(targeted) is StoreReason.PRIVATE

    @pytest.mark.parametrize("policy", [CachePolicy(override_ttl_s=9), CachePolicy(default_ttl_s=9)])
    def test_no_setting_of_lifetimes_makes_these_storable(self, policy: CachePolicy) -> None:
        assert reason(cached("no-store"), policy=policy) is StoreReason.NO_STORE
        assert reason(cached("private"), policy=policy) is StoreReason.PRIVATE
        bare = answer(DATE)
        assert reason(bare, get(("Authorization", "x")), policy) is StoreReason.AUTHORIZATION
        assert reason(bare, policy=policy).storable


class TestAuthorization:
    AUTHORIZED = get(("Authorization", "Basic x"))

    def test_keeps_a_response_out(self) -> None:
        assert reason(FRESH, self.AUTHORIZED) is StoreReason.AUTHORIZATION

    @pytest.mark.parametrize("value", ["max-age=60, public", "max-age=60, must-revalidate", "s-maxage=60"])
    def test_unless_the_response_may_be_shared(self, value: str) -> None:
        assert reason(cached(value), self.AUTHORIZED).storable
        assert stored(cached(value), self.AUTHORIZED).request_had_authorization

    @pytest.mark.parametrize("value", ["max-age=60, proxy-revalidate", "max-age=60, immutable"])
    def test_which_nothing_else_says(self, value: str) -> None:
        assert reason(cached(value), self.AUTHORIZED) is StoreReason.AUTHORIZATION


class TestSetCookie:
    RESPONSE = cached("max-age=60", ("Set-Cookie", "a=b"))

    def test_keeps_a_response_out(self) -> None:
        assert reason(self.RESPONSE) is StoreReason.SET_COOKIE

    def test_is_stored_when_told(self) -> None:
        policy = CachePolicy(store_set_cookie=True)
        assert reason(self.RESPONSE, policy=policy).storable
        assert "set-cookie" in stored(self.RESPONSE, policy=policy).fields

    def test_is_left_out_when_cookies_are_ignored(self) -> None:
        policy = CachePolicy(ignore_cookies=True)
        assert reason(self.RESPONSE, policy=policy).storable
        assert "set-cookie" not in stored(self.RESPONSE, policy=policy).fields

    @pytest.mark.parametrize("directive", ["no-cache", "private"])
    def test_is_left_out_when_the_origin_says_so(self, directive: str) -> None:
        response = cached(f'max-age=60, {directive}="set-cookie"', ("Set-Cookie", "a=b"))
        assert reason(response).storable
        assert "set-cookie" not in stored(response).fields

    def test_a_cookie_in_the_request_does_not_matter(self) -> None:
        assert reason(FRESH, get(("Cookie", "a=b"))).storable


class TestUsefulness:
    @pytest.mark.parametrize("lines", [(), (("Expires", "0"),), (("Cache-Control", "max-age=0"),)])
    def test_a_response_that_could_never_be_reused_is_not_stored(self, lines: tuple[tuple[str, str], ...]) -> None:
        assert reason(answer(DATE, *lines)) is StoreReason.NO_FRESHNESS_OR_VALIDATOR

    def test_no_cache_needs_a_validator(self) -> None:
        assert reason(cached("no-cache, max-age=60")) is StoreReason.NO_FRESHNESS_OR_VALIDATOR
        assert reason(cached("no-cache", ("ETag", '"a"'))).storable

    @pytest.mark.parametrize(
        "lines",
        [
            (("ETag", '"a"'),),
            (MODIFIED,),
            (("Cache-Control", "max-age=0, stale-while-revalidate=9"),),
            (("Expires", http_date(9)),),
            (("Expires", "Thursday, 18-Aug-50 02:01:18 GMT"),),
        ],
    )
    def test_any_way_to_reuse_it_is_enough(self, lines: tuple[tuple[str, str], ...]) -> None:
        assert reason(answer(DATE, *lines)).storable

    def test_age_past_the_lifetime_is_no_obstacle(self) -> None:
        assert reason(cached("max-age=60", ("Age", "1000"))).storable


def test_bypass_stores_nothing() -> None:
    assert reason(FRESH, policy=CachePolicy(bypass=True)) is StoreReason.BYPASS


def test_vary_star_stores_nothing() -> None:
    assert reason(cached("max-age=60", ("Vary", "a, *"))) is StoreReason.VARY_STAR


def test_what_cannot_be_purged_by_all_its_tags_is_not_stored() -> None:
    assert reason(cached("max-age=60", ("Cache-Tag", "x" * (TAG_BYTES_MAX + 1)))) is StoreReason.TAGS
    too_many = ", ".join(f'"{n}"' for n in range(GROUPS_MAX + 1))
    assert reason(cached("max-age=60", ("Cache-Groups", too_many))) is StoreReason.TAGS


class TestPart:
    ASKED = get(("Range", "bytes=0-4"))

    def part(self, *lines: tuple[str, str]) -> ResponseHead:
        return cached("max-age=60", *lines, status=206)

    def test_is_stored_with_its_place(self) -> None:
        response = self.part(("Content-Range", "bytes 0-4/10"), ("Content-Length", "5"))
        assert reason(response, self.ASKED).storable
        assert stored(response, self.ASKED).content_range == (0, 4, 10)
        assert stored(response, self.ASKED).partial

    @pytest.mark.parametrize(
        "lines",
        [
            (),
            (("Content-Type", "multipart/byteranges; boundary=x"),),
            (("Content-Range", "bytes */10"),),
            (("Content-Range", "bytes 4-0/10"),),
            (("Content-Range", "lines 0-4/10"),),
            (("Content-Range", "bytes 0-4/10"), ("Content-Range", "bytes 5-9/10")),
            (("Content-Range", "bytes 0-4/10"), ("Content-Length", "6")),
            (("Content-Range", "bytes 0-4/10"), ("Content-Length", "0")),
        ],
    )
    def test_that_cannot_be_placed_is_not(self, lines: tuple[tuple[str, str], ...]) -> None:
        assert reason(self.part(*lines), self.ASKED) is StoreReason.PARTIAL

    def test_nobody_asked_for_is_not(self) -> None:
        assert reason(self.part(("Content-Range", "bytes 0-4/10"))) is StoreReason.PARTIAL

    def test_shorter_than_it_says_holds_what_it_has(self) -> None:
        assert held_range(fields(("Content-Range", "bytes 4-9/10"), ("Content-Length", "5"))) == (4, 8, 10)

    def test_without_length_is_confirmed_once_its_content_has_ended(self) -> None:
        meta = stored(self.part(("Content-Range", "bytes 4-9/*")), self.ASKED)
        assert meta.content_range == (4, 9, None)
        shorter = confirm_size(meta, 5)
        assert shorter is not None
        assert shorter.content_range == (4, 8, None)
        assert confirm_size(meta, 6) == meta
        assert confirm_size(meta, 7) is None
        assert confirm_size(meta, 0) is None

    def test_a_whole_response_has_nothing_to_confirm(self) -> None:
        meta = stored(FRESH)
        assert confirm_size(meta, 3) is meta

    def test_content_range_on_another_status_means_nothing(self) -> None:
        response = cached("max-age=60", ("Content-Range", "foo"))
        assert reason(response).storable
        assert stored(response).content_range is None


class TestKeeping:
    META = stored(cached("max-age=60, no-store, must-understand", ("ETag", '"a"')))

    def test_a_freshened_response_that_stays_storable_is_kept(self) -> None:
        assert decide_keeping(get(method="HEAD"), self.META, CachePolicy()).storable

    def test_reasons_in_the_request_leave_what_was_stored(self) -> None:
        meta = stored(FRESH)
        found = decide_keeping(get(("Authorization", "x")), meta, CachePolicy())
        assert found is StoreReason.AUTHORIZATION
        assert found.lies_in_request

    def test_reasons_in_the_response_do_not(self) -> None:
        meta = stored(cached("private"))
        assert not decide_keeping(get(), meta, CachePolicy()).lies_in_request


class TestMetadata:
    def test_fields_of_one_hop_and_age_are_not_kept(self) -> None:
        lines = [
            ("Connection", "a, B"),
            ("a", "1"),
            ("b", "2"),
            ("C", "3"),
            ("Keep-Alive", "x"),
            ("Proxy-Authenticate", "x"),
            ("Age", "5"),
        ]
        kept = stored(cached("max-age=60", *lines)).fields
        assert kept.names == ("date", "cache-control", "c")

    @pytest.mark.parametrize("lines", [(), (("Date", "yesterday"),), (("Date", http_date()), ("Date", http_date(1)))])
    def test_a_valid_date_is_kept_in_any_case(self, lines: tuple[tuple[str, str], ...]) -> None:
        meta = stored(answer(("Cache-Control", "max-age=60"), *lines), received_at=NOW + 0.5)
        assert meta.fields.get_all("date") == [http_date()]
        assert meta.date == NOW

    def test_what_the_rules_need_later_is_noted(self) -> None:
        response = cached(
            "max-age=60",
            ("Age", "3"),
            ("ETag", 'W/"a"'),
            MODIFIED,
            ("Vary", "Foo"),
            ("Cache-Tag", "t"),
            ("Cache-Groups", '"g"'),
        )
        meta = stored(response, get(("Foo", "1")), requested_at=NOW - 2, received_at=NOW)
        assert (meta.status, meta.reason, meta.lifetime, meta.heuristic) == (200, "Reason", 60, False)
        assert (meta.initial_age, meta.requested_at, meta.received_at) == (5, NOW - 2, NOW)
        assert (meta.etag, meta.last_modified) == ('W/"a"', MODIFIED[1])
        assert (meta.vary, meta.selecting) == (("foo",), ("1",))
        assert (meta.tags, meta.groups) == (("t",), ("g",))

    def test_a_last_modified_that_is_no_date_validates_nothing(self) -> None:
        meta = stored(cached("max-age=60", ("Last-Modified", "long ago"), ("ETag", "")))
        assert (meta.etag, meta.last_modified) == (None, None)


def test_reasons_have_stable_names_fit_for_cache_status() -> None:
    assert {member.value for member in StoreReason} == {
        *("store", "bypass", "method", "unkeyed-input", "status", "must-understand", "no-store"),
        *("request-no-store", "private", "authorization", "set-cookie", "vary-star", "tags", "partial"),
        *("stale-above", "no-freshness-or-validator"),
    }
