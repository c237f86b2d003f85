"""Short ways to write the messages and stored responses that these tests speak of."""

from typing import Any

from banish.caching.policy import DEFAULT_POLICY, CachePolicy
from banish.caching.stored import Metadata
from banish.caching.storing import make_metadata
from banish.http.dates import format_http_date
from banish.http.fields import Fields
from banish.http.messages import RequestHead, ResponseHead

NOW = 1_800_000_000.0
DATE = ("Date", format_http_date(NOW))


def http_date(offset_s: float = 0) -> str:
    return format_http_date(NOW + offset_s)


def fields(*lines: tuple[str, str]) -> Fields:
    return Fields.of(lines)


def get(*lines: tuple[str, str], method: str = "GET", target: str = "/a") -> RequestHead:
    return RequestHead(method, target, Fields.of([("Host", "example.org"), *lines]))


def answer(*lines: tuple[str, str], status: int = 200) -> ResponseHead:
    return ResponseHead(status, Fields.of(lines), "Reason")


def cached(cache_control: str, *lines: tuple[str, str], status: int = 200) -> ResponseHead:
    return answer(DATE, ("Cache-Control", cache_control), *lines, status=status)


def stored(
    response: ResponseHead,
    request: RequestHead | None = None,
    policy: CachePolicy = DEFAULT_POLICY,
    **moments: Any,
) -> Metadata:
    """The metadata of a response asked for and received at NOW."""
    asked = moments.get("requested_at", NOW)
    received = moments.get("received_at", asked)
    return make_metadata(
        "site http://example.org/a",
        request or get(),
        response,
        policy,
        requested_at=asked,
        received_at=received,
    )
