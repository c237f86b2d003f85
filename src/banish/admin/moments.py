"""Moments as callers write them: a date and time with its zone, seconds since 1970, or so long from now.

    2030-01-31T18:00:00Z   2030-01-31T18:00:00+01:00   1896112800   +5m   -1h 30m

A time without a zone is refused: it would be another moment on each machine that reads it.

Source: RFC 3339, and what ISO 8601 allows beyond it as Python reads it. Units: seconds since 1970.
"""

from datetime import datetime

from banish.edge.units import parse_duration
from banish.errors import ClientError

LATEST = 253_402_300_800.0
"""The first moment of the year 10000, which no date can write."""

_RIGHT = (
    "write a date and time with its zone (2030-01-31T18:00:00Z), seconds since 1970, or so long from now (+5m, -1h)"
)


def moment(given: str | float, now: float, name: str) -> float:
    """The moment that the parameter `name` means. Raises ClientError(400) that says what would be right."""
    try:
        at = float(given) if isinstance(given, int | float) else _read(given.strip(), now)
    except (ValueError, OverflowError) as error:
        raise ClientError(400, f"{name}: {error if str(error).startswith('write') else _RIGHT}") from error
    if not 0 <= at < LATEST:
        raise ClientError(400, f"{name}: that is no moment between 1970 and the year 10000")
    return at


def _read(text: str, now: float) -> float:
    if text[:1] in ("+", "-"):
        span = parse_duration(text[1:])
        return now - span if text[0] == "-" else now + span
    if text.replace(".", "", 1).isdecimal():
        return float(text)
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"write the zone too: {text}Z, or {text}+01:00" if "T" in text or " " in text else _RIGHT)
    return at.timestamp()
