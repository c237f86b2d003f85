from typing import Any

import http_sf
import pytest

from banish.caching.cache_status import Outcome, append, cache_status
from banish.caching.reuse import Forwarded

from .exchanges import fields


def test_a_hit_tells_how_long_it_is_fresh() -> None:
    assert cache_status("banish", hit=True, ttl=59.7) == "banish; hit; ttl=59"


def test_a_stale_hit_has_a_negative_ttl() -> None:
    assert cache_status("banish", hit=True, ttl=-0.5) == "banish; hit; ttl=-1"


def test_a_hit_says_nothing_about_forwarding() -> None:
    value = cache_status("banish", hit=True, fwd=Forwarded.STALE, fwd_status=304, stored=True, collapsed=True)
    assert value == "banish; hit"


def test_a_forwarded_request_tells_why_and_what_came_of_it() -> None:
    value = cache_status(
        "banish",
        fwd=Forwarded.URI_MISS,
        fwd_status=200,
        stored=True,
        collapsed=True,
        ttl=60,
        key="s http://e/",
        detail="no-store",
    )
    assert value == (
        'banish; fwd=uri-miss; fwd-status=200; stored; collapsed; ttl=60; key="s http://e/"; detail=no-store'
    )


@pytest.mark.parametrize("text", ['a"b\\c', "a b", "1a", "", "é\r\nX: y", "edge:1/x"])
def test_any_text_makes_a_valid_member(text: str) -> None:
    value = cache_status(text, hit=True, key=text, detail=text, ttl=float(10**20))
    members: Any = http_sf.parse(value.encode("ascii"), tltype="list")
    assert len(members) == 1


def test_our_member_comes_after_those_nearer_the_origin() -> None:
    extended = append(fields(("Cache-Status", "parent; hit")), "banish; fwd=uri-miss")
    assert extended.get("cache-status") == "parent; hit, banish; fwd=uri-miss"


@pytest.mark.parametrize("member", [*Outcome, *Forwarded])
def test_names_are_fit_for_labels_and_tokens(member: str) -> None:
    assert member.replace("-", "").isalpha()
    assert member == member.lower()
