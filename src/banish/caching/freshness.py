"""Freshness: how long a response may be reused without asking the origin, and how old it already is.

Not here: whether it may be stored (`storing.py`); what to do once it is stale (`reuse.py`).
Source: RFC 9111 sections 4.2.1 to 4.2.3 and 5.1.
Units: moments are seconds since the epoch, durations seconds.
Invariant: lifetime and age are never negative.
"""

import math
from typing import NamedTuple

from banish.caching.directives import delta_seconds
from banish.caching.policy import CachePolicy
from banish.caching.targeted import Control
from banish.http.dates import parse_http_date
from banish.http.fields import Fields

HEURISTICALLY_CACHEABLE = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""Statuses that may be given a lifetime where the origin gave none (RFC 9110 section 15.1)."""


class Lifetime(NamedTuple):
    """A freshness lifetime and where it came from.

    `explicit`: the origin gave it, or the operator in its stead. `heuristic`: estimated from Last-Modified.
    Neither: there is none.
    """

    seconds: float
    explicit: bool = False
    heuristic: bool = False


def freshness_lifetime(
    status: int, fields: Fields, control: Control, policy: CachePolicy, *, received_at: float
) -> Lifetime:
    """How long from its generation a response stays fresh in a shared cache."""
    given = _explicit(fields, control, policy, received_at)
    if given is not None:
        return Lifetime(max(0.0, given), explicit=True)
    if status not in HEURISTICALLY_CACHEABLE and not control.directives.public:
        return Lifetime(0.0)
    if policy.default_ttl_s is not None:
        return Lifetime(policy.default_ttl_s, explicit=True)
    modified = date_field(fields, "last-modified", now=received_at)
    if modified is None:
        return Lifetime(0.0)
    since = generated_at(fields, received_at=received_at) - modified
    share = math.floor(since * policy.heuristic_fraction)
    return Lifetime(float(max(0.0, min(share, policy.heuristic_max_s))), heuristic=True)


def _explicit(fields: Fields, control: Control, policy: CachePolicy, received_at: float) -> float | None:
    """The lifetime given by operator or origin, in order of precedence (RFC 9111 section 4.2.1)."""
    if policy.override_ttl_s is not None:
        return policy.override_ttl_s
    if control.directives.s_maxage is not None:
        return control.directives.s_maxage
    if control.directives.max_age is not None:
        return control.directives.max_age
    if control.source is not None or "expires" not in fields:
        return None
    expires = date_field(fields, "expires", now=received_at)
    if expires is None:
        return 0.0  # section 5.3: an invalid date, especially "0", is in the past
    return expires - generated_at(fields, received_at=received_at)


def initial_age(fields: Fields, *, requested_at: float, received_at: float) -> float:
    """corrected_initial_age: how old the response was when it was received (RFC 9111 section 4.2.3).

    Date counts whole seconds, so it is compared with the whole seconds of the moment of receipt: a response
    made just now must not look up to a second old.
    """
    apparent_age = max(0.0, math.floor(received_at) - generated_at(fields, received_at=received_at))
    response_delay = max(0.0, received_at - requested_at)
    return max(apparent_age, age_value(fields) + response_delay)


def age_value(fields: Fields) -> int:
    """The Age field: its first member counts; what is no whole number counts as absent (section 5.1)."""
    for value in fields.get_all("age"):
        return delta_seconds(value.partition(",")[0].strip(" \t")) or 0
    return 0


def generated_at(fields: Fields, *, received_at: float) -> float:
    """The Date field; when it is missing or invalid, the moment of receipt (RFC 9110 section 6.6.1)."""
    date = date_field(fields, "date", now=received_at)
    return math.floor(received_at) if date is None else date


def date_field(fields: Fields, name: str, *, now: float) -> float | None:
    """The date in a field; None if absent, invalid or given more than once with different values.

    Two Expires lines that disagree make the response stale, the choice of section 4.2.1 that cannot err.
    """
    values = set(fields.get_all(name))
    return parse_http_date(values.pop(), now=now) if len(values) == 1 else None
