"""What must hold of each response, whatever came before.

A request is judged by what was true when it was *invoked*, just before it was sent, and when it was *complete*: so
whatever order the edge saw things in, what is said here is not too strict.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import http_sf

from banish.http.ranges import parse_content_range
from tests.soak.world import Served, Tag, World, read_tag, variant
from tests.support import Response

if TYPE_CHECKING:
    from tests.soak.clients import Ask

_MEMBERS = frozenset({"hit", "fwd", "fwd-status", "stored", "collapsed", "ttl", "detail", "key"})
_ONCE = ("age", "date", "etag", "content-length", "content-range", "cache-status", "x-serial", "x-tag", "vary")


@dataclass
class Invoked:
    """What was true when a request was about to be sent."""

    least: int
    """The least state that may answer it."""
    serials: int
    """Responses that the origin had begun: those later are answers to requests sent no earlier."""
    at: float
    events: int
    seen: Tag | None
    """The tag that an own condition names."""


class Broken(Exception):
    """Something that must hold does not."""


def check(world: World, ask: "Ask", invoked: Invoked, response: Response, *, may_be_cut: bool) -> None:
    """Find what is wrong with a response, and what is learnt from it."""
    try:
        told = _cache_status(response)
        kind = f"{ask.method if ask.method in ('GET', 'HEAD') else 'unsafe'} {response.status} {_kind(told)}"
        world.outcomes[kind] = world.outcomes.get(kind, 0) + 1
        _form(response)
        if "only-if-cached" in (ask.fields.get("cache-control") or "") and ask.method in ("GET", "HEAD"):
            _hold("hit" in told or response.status == 504, "only-if-cached went to the origin")
        if response.status in (500, 502, 503, 504, 412, 416, 201, 204, 303):
            _hold(response.status != 500 or "x-serial" in response.fields, "a fault inside the edge")
            return
        _hold(response.status in (200, 206, 304, 404), f"status {response.status} was not asked for")
        _content(world, ask, invoked, response, told, may_be_cut=may_be_cut)
    except Broken as broken:
        world.problem(ask.path, f"{broken}: {ask} got {response.status} {list(response.fields)}")


def _hold(holds: object, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


def _cache_status(response: Response) -> dict[str, Any]:
    """The parameters of our own member."""
    try:
        members: Any = http_sf.parse(response["cache-status"].encode("latin-1"), tltype="list")
    except http_sf.StructuredFieldError as error:
        raise Broken(f"Cache-Status does not parse: {error}") from error
    _hold(members and str(members[-1][0]) == "banish", "Cache-Status says nothing of us")
    told: dict[str, Any] = dict(members[-1][1])
    _hold(told.keys() <= _MEMBERS, f"Cache-Status says {told}")
    _hold(("hit" in told) + ("fwd" in told) <= 1, "both hit and forwarded")
    return told


def _kind(told: dict[str, Any]) -> str:
    return (
        "hit"
        if "hit" in told and "detail" not in told
        else " ".join(
            [name if value is True else str(value) for name, value in told.items() if name not in ("ttl", "fwd-status")]
        )
    )


def _form(response: Response) -> None:
    for name in _ONCE:
        _hold(len(response.fields.get_all(name)) <= 1, f"{name} more than once")
    age = response["age"]
    _hold(not age or age.isdecimal(), f"Age is {age!r}")
    _hold("\n" not in response.reason, "a reason of two lines")


def _content(
    world: World, ask: "Ask", invoked: Invoked, response: Response, told: dict[str, Any], *, may_be_cut: bool
) -> None:
    """A page, whole, in part, or not modified."""
    if response.status == 304:
        return _not_modified(ask, invoked, response)
    tag = read_tag(response["x-tag"])
    _hold(tag is not None and tag.path == ask.path, f"of another URL: {tag}")
    assert tag is not None
    _hold(response["etag"] == tag.etag, f"ETag {response['etag']} and {tag} are two responses")
    _hold(tag.variant == variant(ask.path, tag.state, ask.fields), f"of another variant: {tag}")
    _hold(tag.state >= invoked.least, f"purged: {tag} is older than {invoked.least}")
    _hold(response.status in (tag.status, 206), f"{tag} has status {tag.status}")
    _hold(response.status != 206 or "range" in ask.fields, "206 without Range")
    serial = int(response["x-serial"])
    served = world.served[serial]
    if ask.method != "HEAD":
        _body(tag, served, response, may_be_cut=may_be_cut)
    elif response["content-length"]:
        _hold(int(response["content-length"]) == len(tag.body), f"Content-Length is not that of {tag}")
    if ask.method in ("GET", "HEAD"):
        _reuse(world, ask, invoked, response, told, serial)
    _age(world, invoked, response, served)
    return None


def _not_modified(ask: "Ask", invoked: Invoked, response: Response) -> None:
    _hold(ask.condition, "304 to a request without a condition")
    _hold(not response.body, "304 with a body")
    tag = read_tag(response["etag"])
    if tag is None:  # the origin may leave it out
        return
    _hold(
        invoked.seen is not None and tag == invoked.seen and ask.condition == "seen", f"304 of {tag}, never asked about"
    )
    _hold(tag.state >= invoked.least, f"304 of what was purged: {tag} is older than {invoked.least}")


def _body(tag: Tag, served: Served, response: Response, *, may_be_cut: bool) -> None:
    """Every byte."""
    whole, start = tag.body, 0
    if response.status == 206:
        found = parse_content_range(response["content-range"])
        _hold(found is not None and found.first is not None and found.last is not None, "206 of nowhere")
        assert found is not None
        assert found.first is not None
        assert found.last is not None
        start, expected = found.first, whole[found.first : found.last + 1]
        _hold(found.total in (None, len(whole)), f"Content-Range of {found.total} bytes, not {len(whole)}")
    else:
        expected = whole
    if response.whole:
        _hold(
            response.body == expected,
            f"{len(response.body)} bytes {_difference(response.body, expected)} of {tag} from {start}",
        )
        return
    _hold(served.cut or may_be_cut, "cut, though the origin's was not")
    if "transfer-encoding" not in response.fields:
        _hold(expected.startswith(response.body), f"cut, and {_difference(response.body, expected)}")


def _difference(body: bytes, expected: bytes) -> str:
    at = next((at for at, (one, other) in enumerate(zip(body, expected, strict=False)) if one != other), None)
    return f"instead of {len(expected)}" if at is None else f"which differ at {at}: {body[at : at + 40]!r}"


def _reuse(world: World, ask: "Ask", invoked: Invoked, response: Response, told: dict[str, Any], serial: int) -> None:
    """What the origin said of reuse, and what the client wanted."""
    served, wanted = world.served[serial], ask.fields.get("cache-control") or ""
    served.answers += 1
    _hold(served.answers == 1 or not served.alone, f"#{serial} was for one client alone ({served.terms.text})")
    _hold(not (served.alone and "hit" in told), f"#{serial} must not be stored ({served.terms.text})")
    if "no-cache" in wanted or "no-store" in wanted:
        _hold(serial >= invoked.serials, f"#{serial} was there before, and {wanted} was asked for")
    if "hit" not in told or served.seen_at is None:
        return
    terms, detail = served.terms, str(told.get("detail", ""))
    age = invoked.at - served.seen_at + served.age
    allowed: float = terms.lifetime
    if detail == "stale-while-revalidate":
        allowed += terms.stale
    elif detail.startswith("origin-"):
        allowed += terms.error if "stale-if-error" in terms.text else -1
    elif detail:
        allowed += terms.error
    elif stale := re.search(r"max-stale(?:=([0-9]+))?", wanted):
        allowed += float(stale[1] or "inf") if terms.error else 0
    _hold("no-cache" not in terms.text, "a hit that had to be confirmed")
    _hold(age <= allowed, f"stale by {age - allowed} s ({terms.text}, {detail})")


def _age(world: World, invoked: Invoked, response: Response, served: Served) -> None:
    if not response.whole:
        return
    if served.seen_at is None:
        served.seen_at = world.clock.now()
    if response["age"]:
        age = int(response["age"])
        least = int(invoked.at - served.seen_at) + served.age - 1  # the hot table reckons by the second
        _hold(age >= least, f"Age {age}, though it is at least {least} old")
        before = max((other for when, other in served.ages if when <= invoked.events), default=0)
        _hold(age >= before, f"Age {age}, though it was {before} before")
        served.ages.append((len(world.events), age))
