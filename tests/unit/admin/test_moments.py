import pytest

from banish.admin.moments import moment
from banish.errors import ClientError

NOW = 1e9


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2001-09-09T01:46:40Z", 1e9),
        ("2001-09-09T03:46:40+02:00", 1e9),
        ("2001-09-09 01:46:40.5+00:00", 1e9 + 0.5),
        ("1000000000", 1e9),
        (1000000000, 1e9),
        (1000000000.25, 1e9 + 0.25),
        ("+5m", 1e9 + 300),
        ("-1h 30m", 1e9 - 5400),
        ("+0", 1e9),
    ],
)
def test_moments_are_read_as_people_and_programs_write_them(text: str | float, at: float) -> None:
    assert moment(text, NOW, "at") == at


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "5m", "2001-09-09", "+", "-", "+5parsecs", -1.0, 1e300, "1e9", "9" * 400, "²", "-99999999h"],
)
def test_what_is_no_moment_is_refused_by_name(text: str | float) -> None:
    with pytest.raises(ClientError, match=r"^since: ") as refused:
        moment(text, NOW, "since")
    assert refused.value.status == 400


def test_a_time_without_a_zone_is_refused_with_what_would_be_right() -> None:
    with pytest.raises(ClientError, match=r"at: write the zone too: 2030-01-31T18:00:00Z, or"):
        moment("2030-01-31T18:00:00", NOW, "at")
