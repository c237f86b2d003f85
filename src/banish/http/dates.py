"""HTTP dates: the three forms that may arrive, the one form that is sent.

Not here: what a date means for freshness (`caching/freshness.py`).
Source: RFC 9110 section 5.6.7. Names compare without case, since that is what deployed caches accept;
everything else is held to the grammar: two-digit fields, single spaces, "GMT" and nothing after it. A
weekday must be a weekday's name, but need not be the right one: senders that fill it in wrongly mean the
date.
Units: seconds since the epoch. `now` is passed in; it only decides the century of a two-digit year.
"""

import re
from datetime import UTC, datetime

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBER = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}

_DAY = f"(?:{'|'.join(_DAYS)})"
_LONG_DAY = f"(?:{'|'.join(_LONG_DAYS)})"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"

# IMF-fixdate = day-name "," SP date1 SP time-of-day SP GMT
_IMF = f"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"
# rfc850-date = day-name-l "," SP date2 SP time-of-day SP GMT
_RFC850 = f"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"
# asctime-date = day-name SP date3 SP time-of-day SP year
_ASCTIME = f"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})"

_FORMS = tuple(re.compile(form, re.ASCII | re.IGNORECASE) for form in (_IMF, _RFC850, _ASCTIME))

_FUTURE_YEARS_MAX = 50
"""A two-digit year may lie this far ahead; beyond, it was in the last century (RFC 9110 section 5.6.7)."""


def parse_http_date(text: str, *, now: float) -> float | None:
    """The moment that `text` names, or None if it is not an HTTP date."""
    for form in _FORMS:
        found = form.fullmatch(text)
        if found is not None:
            return _moment(found, now)
    return None


def _moment(found: re.Match[str], now: float) -> float | None:
    month = _MONTH_NUMBER[found["month"].lower()]
    day, hour, minute, second = (int(found[part]) for part in ("day", "hour", "minute", "second"))
    leap = (hour, minute, second) == (23, 59, 60)
    if leap:
        second = 59
    year = int(found["year"])
    if len(found["year"]) == 2:
        year = _four_digit_year(year, (month, day, hour, minute, second), now)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return moment.timestamp() + leap


def _four_digit_year(year: int, rest: tuple[int, ...], now: float) -> int:
    """The latest year with these two last digits that puts the moment at most 50 years ahead of `now`."""
    today = datetime.fromtimestamp(now, UTC)
    bound = (today.year + _FUTURE_YEARS_MAX, *today.timetuple()[1:6])
    year += today.year - today.year % 100 + 100
    while (year, *rest) > bound:
        year -= 100
    return year


def format_http_date(when: float) -> str:
    """`when` as an IMF-fixdate; fractions of a second are cut off."""
    at = datetime.fromtimestamp(when // 1, UTC)
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04} "
        f"{at.hour:02}:{at.minute:02}:{at.second:02} GMT"
    )
