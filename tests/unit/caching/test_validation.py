import pytest

from banish.caching.policy import CachePolicy
from banish.caching.stored import Metadata, ttl
from banish.caching.validation import (
    ETAGS_MAX,
    conditional_request,
    freshen,
    select_validated,
    update_from_head,
)
from banish.http.messages import RequestHead, ResponseHead

from .exchanges import DATE, NOW, answer, cached, get, http_date, stored

MODIFIED = ("Last-Modified", http_date(-5000))
ETAG = ("ETag", '"a"')
LATER = NOW + 100


def not_modified(*lines: tuple[str, str]) -> ResponseHead:
    return answer(("Date", http_date(100)), *lines, status=304)


def freshened(
    meta: Metadata,
    *lines: tuple[str, str],
    request: RequestHead | None = None,
    policy: CachePolicy | None = None,
) -> Metadata | None:
    return freshen(
        meta,
        not_modified(*lines),
        request or get(),
        policy or CachePolicy(),
        requested_at=LATER,
        received_at=LATER,
    )


def updated(meta: Metadata, *lines: tuple[str, str]) -> Metadata:
    found = freshened(meta, *lines)
    assert found is not None
    return found


class TestAsking:
    def test_both_validators_are_sent(self) -> None:
        sent = conditional_request(get(("Foo", "1")), [stored(cached("max-age=1", ETAG, MODIFIED))])
        assert sent.fields.get("if-none-match") == '"a"'
        assert sent.fields.get("if-modified-since") == MODIFIED[1]
        assert sent.fields.get("foo") == "1"

    def test_without_validators_the_request_is_unconditional(self) -> None:
        request = get(("If-None-Match", '"client"'), ("If-Modified-Since", http_date()))
        sent = conditional_request(request, [stored(cached("max-age=1"))])
        assert sent.fields.names == ("host",)

    def test_the_clients_conditions_are_replaced_and_its_range_is_kept(self) -> None:
        request = get(("If-None-Match", '"client"'), ("Range", "bytes=0-1"), ("If-Range", '"a"'))
        sent = conditional_request(request, [stored(cached("max-age=1", ETAG))])
        assert sent.fields.get_all("if-none-match") == ['"a"']
        assert sent.fields.get("range") == "bytes=0-1"
        assert sent.fields.get("if-range") == '"a"'

    def test_all_variants_tags_are_asked_about_once(self) -> None:
        metas = [stored(cached("max-age=1", ("ETag", tag))) for tag in ('"a"', 'W/"b"', '"a"', "damaged")]
        assert conditional_request(get(), metas).fields.get("if-none-match") == '"a", W/"b"'

    def test_a_damaged_tag_is_echoed_when_it_is_the_only_one(self) -> None:
        sent = conditional_request(get(), [stored(cached("max-age=1", ("ETag", "abc")))])
        assert sent.fields.get("if-none-match") == "abc"

    def test_the_number_of_tags_is_bounded(self) -> None:
        metas = [stored(cached("max-age=1", ("ETag", f'"{n}"'))) for n in range(ETAGS_MAX + 5)]
        sent = conditional_request(get(), metas).fields.get("if-none-match")
        assert sent is not None
        assert sent.count(",") == ETAGS_MAX - 1

    def test_a_date_does_not_tell_variants_apart(self) -> None:
        sent = conditional_request(get(), [stored(cached("max-age=1", ETAG, MODIFIED))], selected=False)
        assert "if-modified-since" not in sent.fields
        assert "if-none-match" in sent.fields


class TestFreshening:
    META = stored(cached("max-age=1", ETAG, MODIFIED, ("A", "1"), ("A", "2"), ("B", "1"), ("Content-Length", "9")))

    def test_makes_a_response_fresh_again(self) -> None:
        found = updated(self.META, ETAG)
        assert ttl(found, LATER) > 0
        assert (found.date, found.received_at) == (LATER, LATER)
        assert found.fields.get_all("date") == [http_date(100)]

    def test_replaces_all_lines_of_a_field_and_keeps_the_others(self) -> None:
        found = updated(self.META, ETAG, ("a", "3"), ("C", "4"))
        assert found.fields.get_all("a") == ["3"]
        assert (found.fields.get("b"), found.fields.get("c")) == ("1", "4")
        assert (found.status, found.reason) == (200, "Reason")

    def test_takes_over_lifetime_and_directives(self) -> None:
        found = updated(self.META, ETAG, ("Cache-Control", "max-age=3600, must-revalidate"))
        assert found.lifetime == 3600
        assert found.directives.must_revalidate

    def test_does_not_touch_how_the_stored_bytes_are_read(self) -> None:
        lines = (("Content-Length", "0"), ("Content-Encoding", "br"), ("Content-Range", "bytes 0-1/2"))
        found = updated(self.META, ETAG, *lines)
        assert found.fields.get("content-length") == "9"
        assert "content-encoding" not in found.fields
        assert found.content_range is None

    def test_counts_age_by_the_304(self) -> None:
        old = stored(cached("max-age=60", ETAG, ("Age", "50")))
        assert updated(old, ETAG).initial_age == 0
        assert updated(old, ETAG, ("Age", "7")).initial_age == 7

    def test_does_not_take_up_fields_of_one_hop_or_let_them_remove_stored_ones(self) -> None:
        found = updated(self.META, ETAG, ("Connection", "b, x"), ("X", "1"), ("Keep-Alive", "5"))
        assert found.fields.get("b") == "1"
        assert not {"x", "keep-alive", "connection"} & set(found.fields.names)

    def test_does_not_take_up_a_cookie(self) -> None:
        assert "set-cookie" not in updated(self.META, ETAG, ("Set-Cookie", "a=b")).fields
        kept = freshened(self.META, ETAG, ("Set-Cookie", "a=b"), policy=CachePolicy(store_set_cookie=True))
        assert kept is not None
        assert kept.fields.get("set-cookie") == "a=b"

    def test_keeps_tags_and_groups_that_the_304_does_not_name(self) -> None:
        tagged = stored(cached("max-age=1", ETAG, ("Cache-Tag", "t"), ("Cache-Groups", '"g"')))
        assert (updated(tagged, ETAG).tags, updated(tagged, ETAG).groups) == (("t",), ("g",))
        assert updated(tagged, ETAG, ("Cache-Tag", "u")).tags == ("u",)

    def test_keeps_the_place_of_a_part(self) -> None:
        request = get(("Range", "bytes=4-9"))
        lines = (ETAG, ("Content-Range", "bytes 4-9/10"), ("Content-Length", "5"))
        part = stored(cached("max-age=1", *lines, status=206), request)
        found = freshened(part, ETAG, request=request)
        assert found is not None
        assert (found.status, found.content_range) == (206, (4, 8, 10))

    def test_remembers_an_authorization_of_old(self) -> None:
        meta = stored(cached("s-maxage=1", ETAG), get(("Authorization", "x")))
        assert updated(meta, ETAG).request_had_authorization

    def test_files_a_confirmed_variant_under_the_request_that_asked(self) -> None:
        meta = stored(cached("max-age=1", ETAG, ("Vary", "Foo")), get(("Foo", "1")))
        found = freshened(meta, ETAG, request=get(("Foo", "2")))
        assert found is not None
        assert found.selecting == ("2",)


class TestConfirming:
    def test_another_tag_is_another_response(self) -> None:
        meta = stored(cached("max-age=1", ETAG, MODIFIED))
        assert freshened(meta, ("ETag", '"b"'), MODIFIED) is None

    def test_a_tag_for_a_response_without_one_is_another_response(self) -> None:
        assert freshened(stored(cached("max-age=1", MODIFIED)), ETAG, MODIFIED) is None

    def test_another_date_is_another_response(self) -> None:
        assert freshened(stored(cached("max-age=1", MODIFIED)), ("Last-Modified", http_date(-1))) is None

    def test_an_equal_tag_outweighs_another_date(self) -> None:
        meta = stored(cached("max-age=1", ETAG, MODIFIED))
        found = freshened(meta, ETAG, ("Last-Modified", http_date(-1)))
        assert found is not None
        assert found.last_modified == http_date(-1)

    def test_no_validator_confirms_what_was_asked_about(self) -> None:
        assert freshened(stored(cached("max-age=1", ETAG))) is not None

    @pytest.mark.parametrize(("ours", "theirs"), [('W/"a"', '"a"'), ('"a"', 'W/"a"'), ("a", "a")])
    def test_a_tag_of_other_strength_confirms_and_is_not_taken_over(self, ours: str, theirs: str) -> None:
        found = freshened(stored(cached("max-age=1", ("ETag", ours))), ("ETag", theirs))
        assert found is not None
        assert (found.etag, found.fields.get_all("etag")) == (ours, [ours])

    def test_the_variant_with_the_tag_is_selected(self) -> None:
        one = stored(cached("max-age=1", ("ETag", '"1"')))
        two = stored(cached("max-age=1", ("ETag", '"2"')))
        again = stored(answer(("Date", http_date(9)), ("Cache-Control", "max-age=1"), ("ETag", '"2"')))
        assert select_validated([one, two, again], not_modified(("ETag", '"2"'))) is again
        assert select_validated([one, two], not_modified(("ETag", '"3"'))) is None

    def test_without_a_tag_only_a_single_candidate_can_be_meant(self) -> None:
        one = stored(cached("max-age=1", ("ETag", '"1"')))
        assert select_validated([one], not_modified()) is one
        assert select_validated([one, one], not_modified()) is None
        assert select_validated([], not_modified()) is None


class TestHead:
    META = stored(cached("max-age=1", ETAG, MODIFIED, ("Content-Length", "9"), ("A", "1"), ("B", "1")))

    def update(self, response: ResponseHead, *, request: RequestHead | None = None, size: int = 9) -> Metadata | None:
        return update_from_head(
            self.META,
            response,
            request or get(method="HEAD"),
            CachePolicy(),
            requested_at=LATER,
            received_at=LATER,
            body_size=size,
        )

    def test_updates_the_stored_fields(self) -> None:
        found = self.update(answer(DATE, ETAG, ("A", "2"), ("Cache-Control", "max-age=1000")))
        assert found is not None
        assert (found.lifetime, found.fields.get("a"), found.fields.get("b")) == (1000, "2", "1")

    @pytest.mark.parametrize(
        "line",
        [
            ("ETag", '"b"'),
            ("Last-Modified", http_date()),
            ("Content-Length", "8"),
            ("Cache-Control", "no-store"),
        ],
    )
    def test_that_tells_of_another_response_invalidates(self, line: tuple[str, str]) -> None:
        assert self.update(answer(DATE, line)) is None

    @pytest.mark.parametrize("status", [204, 301, 404, 410])
    def test_of_another_status_invalidates(self, status: int) -> None:
        assert self.update(answer(DATE, status=status)) is None

    @pytest.mark.parametrize("status", [304, 500, 503])
    def test_that_says_nothing_about_the_response_changes_nothing(self, status: int) -> None:
        assert self.update(answer(DATE, status=status)) is self.META

    def test_under_authorization_changes_nothing(self) -> None:
        request = get(("Authorization", "x"), method="HEAD")
        assert self.update(answer(DATE, ETAG, ("A", "2")), request=request) is self.META

    def test_is_compared_with_the_size_of_a_body_that_had_no_length(self) -> None:
        meta = stored(cached("max-age=1"))
        for size, kept in ((9, True), (8, False)):
            found = update_from_head(
                meta,
                cached("max-age=5", ("Content-Length", "9")),
                get(method="HEAD"),
                CachePolicy(),
                requested_at=LATER,
                received_at=LATER,
                body_size=size,
            )
            assert (found is not None) is kept
