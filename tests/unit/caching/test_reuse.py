import pytest

from banish.caching.policy import CachePolicy
from banish.caching.reuse import (
    Decision,
    Forward,
    Forwarded,
    Hit,
    Stale,
    Unsatisfiable,
    Validate,
    contained_range,
    decide,
    stale_on_error,
)
from banish.caching.stored import Metadata
from banish.http.messages import RequestHead

from .exchanges import DATE, NOW, answer, cached, get, http_date, stored

POLICY = CachePolicy()
META = stored(cached("max-age=60", ("ETag", '"a"')))


def after(
    elapsed_s: float, *metas: Metadata, request: RequestHead | None = None, policy: CachePolicy = POLICY
) -> Decision:
    return decide(request or get(), metas, NOW + elapsed_s, policy)


def asking(value: str) -> RequestHead:
    return get(("Cache-Control", value))


class TestSelection:
    def test_nothing_stored(self) -> None:
        assert after(0) == Forward(Forwarded.URI_MISS)

    def test_a_fresh_response_answers_get_and_head(self) -> None:
        assert after(59, META) == Hit(META)
        assert after(59, META, request=get(method="HEAD")) == Hit(META)

    @pytest.mark.parametrize("method", ["POST", "OPTIONS", "QUERY", "BREW"])
    def test_no_other_method_is_answered(self, method: str) -> None:
        assert after(0, META, request=get(method=method)) == Forward(Forwarded.METHOD)

    def test_bypass(self) -> None:
        assert after(0, META, policy=CachePolicy(bypass=True)) == Forward(Forwarded.BYPASS)

    def test_content_in_a_get_goes_by(self) -> None:
        assert after(0, META, request=get(("Content-Length", "1"))) == Forward(Forwarded.BYPASS)

    def test_another_variant_only_lends_its_entity_tag(self) -> None:
        tagged = stored(cached("max-age=60", ("Vary", "Foo"), ("ETag", '"a"')), get(("Foo", "1")))
        bare = stored(cached("max-age=60", ("Vary", "Foo")), get(("Foo", "2")))
        found = after(0, tagged, bare, request=get(("Foo", "3")))
        assert found == Forward(Forwarded.VARY_MISS, (tagged,))
        assert after(0, tagged, bare, request=get(("Foo", "2"))) == Hit(bare)

    @pytest.mark.parametrize(
        ("vary", "etag"),
        [("Foo", 'W/"a"'), ("Foo", "damaged"), ("Accept-Encoding", '"a"'), ("Foo, Accept-Encoding", '"a"')],
    )
    def test_but_not_a_tag_that_other_variants_may_have_too(self, vary: str, etag: str) -> None:
        variant = stored(cached("max-age=60", ("Vary", vary), ("ETag", etag)), get(("Accept-Encoding", "gzip")))
        other = get(("Foo", "1"), ("Accept-Encoding", "br"))
        assert after(0, variant, request=other) == Forward(Forwarded.VARY_MISS)

    def test_the_most_recent_of_several_is_used(self) -> None:
        older = stored(answer(("Date", http_date(-9)), ("Cache-Control", "max-age=600")))
        newer = stored(answer(DATE, ("Cache-Control", "max-age=5")))
        assert after(1, newer, older) == Hit(newer)
        assert after(9, newer, older) == Validate(newer, Forwarded.STALE)

    def test_a_response_that_matches_no_request_is_never_used(self) -> None:
        meta = stored(cached("max-age=60", ("Vary", "*")))
        assert after(0, meta, request=get(("*", "*"))) == Forward(Forwarded.VARY_MISS)

    @pytest.mark.parametrize("name", ["If-Match", "If-Unmodified-Since"])
    def test_conditions_on_a_change_are_for_the_origin(self, name: str) -> None:
        assert after(0, META, request=get((name, '"a"'))) == Forward(Forwarded.REQUEST)


class TestStaleness:
    def test_a_stale_response_is_validated(self) -> None:
        assert after(60, META) == Validate(META, Forwarded.STALE)

    def test_no_cache_is_validated_however_fresh(self) -> None:
        meta = stored(cached("no-cache, max-age=60, stale-while-revalidate=60", ("ETag", '"a"')))
        assert after(0, meta) == Validate(meta, Forwarded.STALE)

    def test_a_qualified_no_cache_is_used(self) -> None:
        meta = stored(cached('no-cache="a", max-age=60', ("A", "1")))
        assert after(0, meta) == Hit(meta)

    def test_stale_while_revalidate_serves_within_its_window(self) -> None:
        meta = stored(cached("max-age=60, stale-while-revalidate=10"))
        assert after(59, meta) == Hit(meta)
        assert after(70, meta) == Stale(meta, 10)
        assert after(71, meta) == Validate(meta, Forwarded.STALE)

    @pytest.mark.parametrize("forbidding", ["must-revalidate", "proxy-revalidate"])
    def test_stale_while_revalidate_does_not_lift_a_ban(self, forbidding: str) -> None:
        meta = stored(cached(f"max-age=60, stale-while-revalidate=10, {forbidding}"))
        assert after(65, meta) == Validate(meta, Forwarded.STALE)

    def test_stale_while_revalidate_beside_s_maxage_is_meant(self) -> None:
        meta = stored(cached("s-maxage=60, stale-while-revalidate=10"))
        assert after(65, meta) == Stale(meta, 10)

    def test_the_operators_window_is_for_responses_that_give_none(self) -> None:
        policy = CachePolicy(stale_while_revalidate_s=20)
        assert after(75, META, policy=policy) == Stale(META, 20)
        none = stored(cached("max-age=60, stale-while-revalidate=0"))
        assert after(61, none, policy=policy) == Validate(none, Forwarded.STALE)
        shared = stored(cached("s-maxage=60"))
        assert after(61, shared, policy=policy) == Validate(shared, Forwarded.STALE)

    def test_a_soft_purged_response_counts_as_stale(self) -> None:
        assert decide(get(), [META], NOW, POLICY, soft_purged={0}) == Validate(META, Forwarded.STALE)
        meta = stored(cached("max-age=60, stale-while-revalidate=10"))
        assert decide(get(), [meta], NOW, POLICY, soft_purged={0}) == Stale(meta, 10)
        assert decide(get(), [meta], NOW, POLICY, soft_purged={1}) == Hit(meta)
        assert decide(asking("max-stale"), [META], NOW, POLICY, soft_purged={0}) == Validate(META, Forwarded.STALE)


class TestRequestDirectives:
    @pytest.mark.parametrize("value", ["no-cache", "max-age=0", "max-age=9", "min-fresh=60", "no-cache, max-stale"])
    def test_that_a_fresh_response_does_not_satisfy(self, value: str) -> None:
        assert after(10, META, request=asking(value)) == Validate(META, Forwarded.REQUEST)

    @pytest.mark.parametrize("value", ["max-age=10", "min-fresh=50", "foo", "max-stale"])
    def test_that_it_does(self, value: str) -> None:
        assert after(10, META, request=asking(value)) == Hit(META)

    def test_no_store_is_not_answered_from_the_store(self) -> None:
        assert after(0, META, request=asking("no-store")) == Forward(Forwarded.REQUEST)

    def test_pragma_asks_as_no_cache_does(self) -> None:
        assert after(0, META, request=get(("Pragma", "no-cache"))) == Validate(META, Forwarded.REQUEST)

    def test_max_stale_takes_a_stale_response(self) -> None:
        assert after(70, META, request=asking("max-stale=10")) == Hit(META)
        assert after(71, META, request=asking("max-stale=10")) == Validate(META, Forwarded.STALE)
        assert after(9999, META, request=asking("max-stale")) == Hit(META)

    @pytest.mark.parametrize("value", ["max-age=60, must-revalidate", "max-age=60, proxy-revalidate", "s-maxage=60"])
    def test_max_stale_does_not_lift_a_ban(self, value: str) -> None:
        meta = stored(cached(value))
        assert after(61, meta, request=asking("max-stale")) == Validate(meta, Forwarded.STALE)

    def test_immutable_spares_reloads_but_not_no_cache(self) -> None:
        meta = stored(cached("max-age=60, immutable", ("ETag", '"a"')))
        assert after(10, meta, request=asking("max-age=0")) == Hit(meta)
        assert after(10, meta, request=asking("no-cache")) == Validate(meta, Forwarded.REQUEST)
        assert after(61, meta, request=asking("max-age=0")) == Validate(meta, Forwarded.REQUEST)

    def test_only_if_cached_gets_a_stored_response_or_nothing(self) -> None:
        only = asking("only-if-cached")
        assert after(0, request=only) == Unsatisfiable()
        assert after(0, META, request=only) == Hit(META)
        assert after(61, META, request=only) == Unsatisfiable()
        meta = stored(cached("max-age=60, stale-while-revalidate=10"))
        assert after(61, meta, request=only) == Stale(meta, 10)


class TestRanges:
    WHOLE = stored(cached("max-age=60"))
    PART = stored(
        cached("max-age=60", ("Content-Range", "bytes 4-8/10"), ("ETag", '"a"'), status=206),
        get(("Range", "bytes=4-8")),
    )
    UNMEASURED = stored(cached("max-age=60", ("Content-Range", "bytes 4-8/*"), status=206), get(("Range", "bytes=4-8")))

    @pytest.mark.parametrize("value", ["bytes=0-1", "bytes=-5", "bytes=99-", "bytes=0-0,2-3", "lines=1-2"])
    def test_a_whole_response_answers_any_range(self, value: str) -> None:
        assert after(0, self.WHOLE, request=get(("Range", value))) == Hit(self.WHOLE)

    @pytest.mark.parametrize(("value", "span"), [("bytes=4-8", (4, 9)), ("bytes=6-7", (6, 8)), ("bytes=8-8", (8, 9))])
    def test_a_part_answers_what_lies_in_it(self, value: str, span: tuple[int, int]) -> None:
        request = get(("Range", value))
        assert after(0, self.PART, request=request) == Hit(self.PART)
        assert contained_range(request, self.PART) == span
        assert contained_range(request, self.UNMEASURED) == span

    def test_a_part_up_to_the_end_answers_open_and_suffix_ranges(self) -> None:
        end = stored(cached("max-age=60", ("Content-Range", "bytes 4-9/10"), status=206), get(("Range", "bytes=4-")))
        assert contained_range(get(("Range", "bytes=6-")), end) == (6, 10)
        assert contained_range(get(("Range", "bytes=-2")), end) == (8, 10)
        assert contained_range(get(("Range", "bytes=5-99")), end) == (5, 10)

    @pytest.mark.parametrize("value", ["bytes=3-5", "bytes=6-9", "bytes=6-", "bytes=-2", "bytes=4-5,6-7", "x=4-5"])
    def test_a_part_answers_nothing_else(self, value: str) -> None:
        request = get(("Range", value))
        assert after(0, self.PART, request=request) == Forward(Forwarded.PARTIAL)
        assert contained_range(request, self.UNMEASURED) is None

    def test_a_part_answers_no_request_for_the_whole(self) -> None:
        assert after(0, self.PART) == Forward(Forwarded.PARTIAL)
        assert after(0, self.PART, request=get(("Range", "bytes=4-8"), method="HEAD")) == Forward(Forwarded.PARTIAL)

    def test_if_range_must_name_the_part(self) -> None:
        wanted = ("Range", "bytes=4-8")
        assert after(0, self.PART, request=get(wanted, ("If-Range", '"a"'))) == Hit(self.PART)
        assert after(0, self.PART, request=get(wanted, ("If-Range", '"b"'))) == Forward(Forwarded.PARTIAL)

    def test_a_whole_beside_a_part_answers_what_the_part_cannot(self) -> None:
        assert after(0, self.PART, self.WHOLE) == Hit(self.WHOLE)


class TestOriginFailure:
    def test_a_stale_response_stands_in_when_the_origin_cannot_be_reached(self) -> None:
        assert stale_on_error(META, NOW + 100, POLICY, get(), "unreachable")

    def test_for_a_bounded_time(self) -> None:
        assert stale_on_error(META, NOW + 60 + 86400, POLICY, get(), "unreachable")
        assert not stale_on_error(META, NOW + 61 + 86400, POLICY, get(), "unreachable")
        never = CachePolicy(stale_when_unreachable_s=0)
        assert not stale_on_error(META, NOW + 61, never, get(), "unreachable")

    @pytest.mark.parametrize(
        "value",
        ["max-age=2, must-revalidate", "max-age=2, proxy-revalidate", "max-age=2, no-cache", "s-maxage=2"],
    )
    def test_unless_the_response_forbids_it(self, value: str) -> None:
        meta = stored(cached(value, ("ETag", '"a"')))
        assert not stale_on_error(meta, NOW + 3, POLICY, get(), "unreachable")

    def test_only_for_requests_that_select_it(self) -> None:
        meta = stored(cached("max-age=60, stale-if-error=60", ("Vary", "Cookie")), get(("Cookie", "user=1")))
        assert stale_on_error(meta, NOW + 61, POLICY, get(("Cookie", "user=1")), "unreachable")
        assert not stale_on_error(meta, NOW + 61, POLICY, get(("Cookie", "user=2")), "unreachable")
        assert not stale_on_error(meta, NOW, POLICY, get(), 503)

    def test_a_part_only_for_those_who_ask_for_it(self) -> None:
        meta = stored(
            cached("max-age=60, stale-if-error=60", ("Content-Range", "bytes 0-4/10"), status=206),
            get(("Range", "bytes=0-4")),
        )
        assert stale_on_error(meta, NOW + 61, POLICY, get(("Range", "bytes=1-3")), "unreachable")
        for other in (get(), get(("Range", "bytes=3-7")), get(method="HEAD")):
            assert not stale_on_error(meta, NOW + 61, POLICY, other, "unreachable")
            assert not stale_on_error(meta, NOW + 61, POLICY, other, 503)

    def test_unless_the_client_insists(self) -> None:
        assert not stale_on_error(META, NOW + 61, POLICY, asking("no-cache"), "unreachable")

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_an_error_takes_stale_if_error(self, status: int) -> None:
        meta = stored(cached("max-age=60, stale-if-error=10"))
        assert stale_on_error(meta, NOW + 70, POLICY, get(), status)
        assert not stale_on_error(meta, NOW + 71, POLICY, get(), status)
        assert not stale_on_error(META, NOW + 61, POLICY, get(), status)

    @pytest.mark.parametrize("status", [200, 404, 429, 501, 505])
    def test_other_statuses_are_answers(self, status: int) -> None:
        meta = stored(cached("max-age=60, stale-if-error=10"))
        assert not stale_on_error(meta, NOW + 61, POLICY, get(), status)

    def test_a_given_window_replaces_the_default_one(self) -> None:
        meta = stored(cached("s-maxage=60, stale-if-error=10"))
        assert stale_on_error(meta, NOW + 70, POLICY, get(), "unreachable")
        assert not stale_on_error(meta, NOW + 71, POLICY, get(), "unreachable")

    def test_request_and_operator_can_open_a_window(self) -> None:
        assert stale_on_error(META, NOW + 70, POLICY, asking("stale-if-error=10"), 503)
        assert stale_on_error(META, NOW + 70, CachePolicy(stale_if_error_s=10), get(), 503)
