import pytest

from banish.caching.freshness import Lifetime, age_value, freshness_lifetime, initial_age
from banish.caching.policy import DEFAULT_POLICY, CachePolicy
from banish.caching.targeted import control

from .exchanges import DATE, NOW, fields, http_date


def lifetime(
    *lines: tuple[str, str], status: int = 200, policy: CachePolicy = DEFAULT_POLICY, date: bool = True
) -> Lifetime:
    given = fields(DATE, *lines) if date else fields(*lines)
    return freshness_lifetime(status, given, control(given, policy), policy, received_at=NOW)


EXPIRES_IN_90 = ("Expires", http_date(90))


class TestPrecedence:
    def test_a_targeted_field_comes_first(self) -> None:
        lines = (
            ("CDN-Cache-Control", "max-age=1"),
            ("Cache-Control", "s-maxage=2, max-age=3"),
            EXPIRES_IN_90,
        )
        assert lifetime(*lines) == Lifetime(1, explicit=True)

    def test_a_targeted_field_without_a_lifetime_silences_the_others_all_the_same(self) -> None:
        lines = (("CDN-Cache-Control", "public"), ("Cache-Control", "max-age=3"), EXPIRES_IN_90)
        assert lifetime(*lines) == Lifetime(0)

    def test_then_s_maxage(self) -> None:
        assert lifetime(("Cache-Control", "max-age=3, s-maxage=2"), EXPIRES_IN_90) == Lifetime(2, explicit=True)

    def test_then_max_age(self) -> None:
        assert lifetime(("Cache-Control", "max-age=3"), EXPIRES_IN_90) == Lifetime(3, explicit=True)

    def test_then_expires_minus_date(self) -> None:
        assert lifetime(EXPIRES_IN_90) == Lifetime(90, explicit=True)

    def test_the_operator_overrides_all(self) -> None:
        policy = CachePolicy(override_ttl_s=7)
        assert lifetime(("Cache-Control", "s-maxage=2"), policy=policy) == Lifetime(7, explicit=True)


class TestExpires:
    def test_counts_from_receipt_without_a_usable_date(self) -> None:
        assert lifetime(EXPIRES_IN_90, date=False) == Lifetime(90, explicit=True)
        assert lifetime(EXPIRES_IN_90, ("Date", "foo"), date=False) == Lifetime(90, explicit=True)

    def test_is_compared_with_date_and_not_with_our_clock(self) -> None:
        lines = (("Date", http_date(400)), ("Expires", http_date(300)))
        assert lifetime(*lines, date=False) == Lifetime(0, explicit=True)
        fast = (("Date", http_date(10)), ("Expires", http_date(20)))
        assert lifetime(*fast, date=False) == Lifetime(10, explicit=True)

    @pytest.mark.parametrize("value", ["0", "-1", "", "never", "Thu, 18 Aug 2050 02:01:18 UTC"])
    def test_that_is_no_date_is_in_the_past(self, value: str) -> None:
        assert lifetime(("Expires", value)) == Lifetime(0, explicit=True)

    def test_twice_with_different_dates_is_in_the_past(self) -> None:
        assert lifetime(EXPIRES_IN_90, ("Expires", http_date(80))) == Lifetime(0, explicit=True)
        assert lifetime(EXPIRES_IN_90, EXPIRES_IN_90) == Lifetime(90, explicit=True)

    def test_a_two_digit_year_is_read_by_the_present(self) -> None:
        assert lifetime(("Expires", "Thursday, 18-Aug-50 02:01:18 GMT")).seconds > 20 * 365 * 86400


class TestHeuristic:
    def test_is_a_tenth_of_the_time_since_last_modified(self) -> None:
        assert lifetime(("Last-Modified", http_date(-1000))) == Lifetime(100, heuristic=True)

    def test_has_a_bound(self) -> None:
        assert lifetime(("Last-Modified", http_date(-10_000_000))).seconds == 86400

    def test_is_nothing_without_last_modified_or_with_one_in_the_future(self) -> None:
        assert lifetime() == Lifetime(0)
        assert lifetime(("Last-Modified", "yesterday")) == Lifetime(0)
        assert lifetime(("Last-Modified", http_date(1000))).seconds == 0

    @pytest.mark.parametrize("status", [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501])
    def test_is_made_for_these_statuses(self, status: int) -> None:
        assert lifetime(("Last-Modified", http_date(-1000)), status=status).seconds == 100

    @pytest.mark.parametrize("status", [201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 504, 599])
    def test_is_made_for_others_only_when_public(self, status: int) -> None:
        modified = ("Last-Modified", http_date(-1000))
        assert lifetime(modified, status=status).seconds == 0
        assert lifetime(modified, ("Cache-Control", "public"), status=status).seconds == 100

    def test_gives_way_to_the_operators_default(self) -> None:
        policy = CachePolicy(default_ttl_s=30)
        assert lifetime(("Last-Modified", http_date(-1000)), policy=policy) == Lifetime(30, explicit=True)
        assert lifetime(("Cache-Control", "max-age=5"), policy=policy).seconds == 5
        assert lifetime(status=500, policy=policy) == Lifetime(0)


class TestAge:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ((), 0),
            (("7200",), 7200),
            (("abc",), 0),
            (("-7200",), 0),
            (("7200.0",), 0),
            (("7200;foo=bar",), 0),
            (("7200, 0",), 7200),
            (("0, 7200",), 0),
            (("7200", "0"), 7200),
            (("0", "7200"), 0),
            (("2147483649",), 2**31),
            (("9" * 40,), 2**31),
        ],
    )
    def test_the_first_member_counts_if_it_is_a_number(self, values: tuple[str, ...], expected: int) -> None:
        assert age_value(fields(*[("Age", value) for value in values])) == expected

    def test_time_in_transit_counts_as_age(self) -> None:
        given = fields(DATE, ("Age", "10"))
        assert initial_age(given, requested_at=NOW - 5, received_at=NOW) == 15

    def test_an_old_date_shows_age_that_no_field_tells(self) -> None:
        assert initial_age(fields(("Date", http_date(-100))), requested_at=NOW, received_at=NOW) == 100

    def test_the_larger_of_the_two_estimates_counts(self) -> None:
        given = fields(("Date", http_date(-100)), ("Age", "120"))
        assert initial_age(given, requested_at=NOW - 1, received_at=NOW) == 121

    def test_a_date_of_this_very_second_is_no_age(self) -> None:
        assert initial_age(fields(DATE), requested_at=NOW + 0.9, received_at=NOW + 0.9) == 0

    def test_a_date_in_the_future_is_no_negative_age(self) -> None:
        assert initial_age(fields(("Date", http_date(100))), requested_at=NOW, received_at=NOW) == 0

    def test_a_clock_set_back_in_transit_is_no_negative_delay(self) -> None:
        assert initial_age(fields(DATE, ("Age", "3")), requested_at=NOW + 9, received_at=NOW) == 3
