from typing import Any

import msgspec
import pytest

from banish.caching.policy import DEFAULT_POLICY, CachePolicy
from banish.edge.hook_views import HookRequest
from banish.http.fields import Fields
from banish.http.messages import RequestHead, ResponseHead
from banish.http.targets import Target, request_target
from banish.proxy.exchange import Request, RequestBody
from banish.proxy.plan import Plan, upstream_head
from banish.purge.names import Names
from tests.byhand import HOST, ByHand


def plan(
    target: str = "/a", *lines: str, method: str = "GET", policy: CachePolicy = DEFAULT_POLICY, **changes: Any
) -> Plan:
    """A plan for a request as it came; `changes` go to the site's configuration, or to the request."""
    site = {name: changes.pop(name) for name in ("host_header", "trust_forwarded", "origin") if name in changes}
    edge = ByHand(**site)
    request = edge.request(target, *lines, method=method, **changes)
    return Plan(request, request.head, edge.site, policy, "key")


def sent(made: Plan) -> RequestHead:
    return upstream_head(made, made.head, "edge1")


def values(made: Plan, name: str) -> list[str]:
    return sent(made).fields.get_all(name)


def body() -> RequestBody:
    return RequestBody(lambda: None, lambda: None, lambda: None)


def test_fields_go_on_in_order_behind_host() -> None:
    head = sent(plan("/a?b", "User-Agent: x", "X-B: 1", "x-a: 2", "X-B: 3"))
    assert (head.method, head.target) == ("GET", "/a?b")
    assert head.fields.lines[:5] == (("Host", HOST), ("User-Agent", "x"), ("X-B", "1"), ("x-a", "2"), ("X-B", "3"))


def test_via_grows_by_us_with_the_version_received() -> None:
    made = plan("/a", "Via: 1.0 before")
    assert values(made, "via") == ["1.0 before", "1.1 edge1"]
    old = plan()
    head = msgspec.structs.replace(old.request.head, version="1.0")
    old.request.head = old.head = head
    assert values(old, "via") == ["1.0 edge1"]


def test_who_asked_is_told_and_claims_are_not_believed() -> None:
    made = plan("/a", "Forwarded: for=6.6.6.6", "X-Forwarded-For: 6.6.6.6", "X-Real-IP: 6.6.6.6", "X-Original-URL: /x")
    assert values(made, "forwarded") == [f"for=192.0.2.1;host={HOST};proto=http"]
    assert values(made, "x-forwarded-for") == ["192.0.2.1"]
    assert values(made, "x-forwarded-host") == [HOST]
    assert values(made, "x-forwarded-proto") == ["http"]
    assert values(made, "x-real-ip") == values(made, "x-original-url") == []


def test_claims_of_a_trusted_proxy_are_kept_and_added_to() -> None:
    made = plan("/a", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", trust_forwarded=True)
    assert values(made, "x-forwarded-for") == ["6.6.6.6, 192.0.2.1"]
    assert values(made, "x-forwarded-proto") == ["https"]


@pytest.mark.parametrize(
    ("host_header", "origin", "host"),
    [
        ("preserve", "http://origin.example:8080", HOST),
        ("origin", "http://origin.example", "origin.example"),
        ("origin", "http://origin.example:8080", "origin.example:8080"),
        ("origin", "https://origin.example:443", "origin.example"),
        ("origin", "http://[::1]:8080", "[::1]:8080"),
        ("origin", "unix:/run/app.sock", HOST),
        ("www.example.org", "http://origin.example", "www.example.org"),
    ],
)
def test_host_is_the_clients_the_origins_or_given(host_header: str, origin: str, host: str) -> None:
    made = plan("/a", "hOST: spoofed.example", host_header=host_header, origin=(origin,))
    assert values(made, "host") == [host]
    assert sent(made).fields.names[0] == "host"
    assert values(made, "x-forwarded-host") == [HOST]


@pytest.mark.parametrize(
    "line",
    [
        "Connection: keep-alive", "Keep-Alive: 300", "Proxy-Connection: keep-alive", "TE: trailers", "Upgrade: h2c",
        "Transfer-Encoding: chunked", "Proxy-Authorization: x", "HTTP2-Settings: x", "Expect: 100-continue",
        "Content-Length: 0",
    ],
)  # fmt: skip
def test_what_belongs_to_the_hop_stays_here(line: str) -> None:
    name = line.partition(":")[0].lower()
    assert values(plan("/a", line), name) == []


def test_what_connection_lists_stays_here_unless_everything_rests_on_it() -> None:
    made = plan("/a", "Connection: X-Hop, Authorization, Cookie", "X-Hop: 1", "Authorization: x", "Cookie: a=b")
    assert values(made, "x-hop") == []
    assert (values(made, "authorization"), values(made, "cookie")) == (["x"], ["a=b"])


def test_the_length_of_a_body_goes_along_with_the_body() -> None:
    assert values(plan("/a", "Content-Length: 5", method="POST", body=body()), "content-length") == ["5"]


def test_cookies_go_on_unless_they_have_no_say() -> None:
    assert values(plan("/a", "Cookie: a=b"), "cookie") == ["a=b"]
    assert values(plan("/a", "Cookie: a=b", policy=CachePolicy(ignore_cookies=True)), "cookie") == []


@pytest.mark.parametrize(
    ("method", "given", "sent_on"),
    [
        ("OPTIONS", "5", ["4"]), ("OPTIONS", "1", ["0"]), ("OPTIONS", "x", ["x"]), ("OPTIONS", "-1", ["-1"]),
        ("OPTIONS", "9999999999999", ["999999998"]), ("GET", "5", ["5"]),
    ],
)  # fmt: skip
def test_max_forwards_counts_down_for_options_alone(method: str, given: str, sent_on: list[str]) -> None:
    assert values(plan("/a", f"Max-Forwards: {given}", method=method), "max-forwards") == sent_on


def test_the_query_goes_in_the_spelling_it_is_keyed_by() -> None:
    policy = CachePolicy(query_sort=True, query_drop=("utm_*",))
    assert sent(plan("/a?b=2&utm_source=x&a=1", policy=policy)).target == "/a?a=1&b=2"
    assert sent(plan("/a?utm_source=x", policy=policy)).target == "/a"
    assert sent(plan("/%61?b&a")).target == "/a?b&a"


def test_an_upgrade_is_asked_for_anew() -> None:
    head = sent(plan("/a", "Connection: Upgrade, X", "Upgrade: websocket", "Sec-WebSocket-Key: x", upgrade=True))
    assert head.fields.get_all("connection") == ["Upgrade"]
    assert head.fields.get_all("upgrade") == ["websocket"]
    assert head.fields.get("sec-websocket-key") == "x"


def test_what_a_response_can_be_purged_by() -> None:
    made = plan("/a?b=2&a=1", policy=CachePolicy(query_sort=True))
    assert made.names == Names("default", f"http://{HOST}/a?a=1&b=2")


def test_a_hook_decides_what_is_asked_for() -> None:
    made = plan("/a")
    made.view = HookRequest(made.head, request_target("GET", "/a", HOST, "http"), peer="")
    made.view.path, made.view.host = "/b", "other.example"
    assert made.target == Target("http", "other.example", "/b")
    assert (sent(made).target, values(made, "host")) == ("/b", ["other.example"])
    assert values(made, "x-forwarded-host") == [HOST]
    assert made.names == Names("default", "http://other.example/b")


def test_interim_responses_go_to_who_asked_end_to_end() -> None:
    told: list[ResponseHead] = []
    made = plan("/a", interim=told.append)
    for status in (100, 101, 102, 103):
        made.pass_interim(ResponseHead(status, Fields.of([("Link", "</a>"), ("Connection", "x"), ("X", "1")])))
    assert [(head.status, head.fields.names) for head in told] == [(102, ("link",)), (103, ("link",))]


def test_a_repeated_request_tells_nobody_of_interim_responses() -> None:
    told: list[ResponseHead] = []
    made = plan("/a", interim=told.append)
    repeated: Request = made.request.repeated()
    Plan(repeated, made.head, made.site, made.policy, "key").pass_interim(ResponseHead(103, Fields()))
    assert told == []
