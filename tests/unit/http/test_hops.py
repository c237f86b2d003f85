import pytest

from banish.http.fields import Fields
from banish.http.hops import end_to_end, forwarded, via, via_count


def names(fields: Fields) -> list[str]:
    return list(fields.names)


def test_hop_by_hop_fields_are_removed_and_the_rest_keeps_its_order() -> None:
    fields = Fields.of(
        [
            ("Host", "a"),
            ("Connection", "close"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "close"),
            ("X", "1"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAM"),
            ("Proxy-Authenticate", "Basic"),
            ("Proxy-Authentication-Info", "x"),
            ("Proxy-Authorization", "Basic x"),
            ("Trailer", "Sum"),
            ("X", "2"),
        ]
    )
    assert end_to_end(fields).lines == (("Host", "a"), ("X", "1"), ("Trailer", "Sum"), ("X", "2"))


def test_fields_listed_in_connection_are_removed_whatever_their_case() -> None:
    fields = Fields.of([("Connection", "A, close"), ("connection", "b"), ("a", "1"), ("B", "2"), ("c", "3")])
    assert end_to_end(fields).lines == (("c", "3"),)


@pytest.mark.parametrize(
    "name",
    ["Host", "Cache-Control", "Authorization", "Cookie", "Set-Cookie", "Content-Length", "Vary", "Age"],
)
def test_connection_cannot_remove_what_is_meant_for_all_recipients(name: str) -> None:
    fields = Fields.of([("Connection", f"close, {name}"), (name, "v")])
    assert end_to_end(fields).lines == ((name, "v"),)


def test_removes_more_when_asked() -> None:
    assert names(end_to_end(Fields.of([("Expect", "x"), ("A", "1")]), also=("expect",))) == ["a"]


def test_fields_without_any_of_these_come_back_as_they_are() -> None:
    fields = Fields.of([("A", "1")])
    assert end_to_end(fields) is fields


def test_via_comes_after_those_before_us() -> None:
    fields = via(Fields.of([("Via", "1.0 fred")]), "1.1", "banish")
    assert fields.get("via") == "1.0 fred, 1.1 banish"


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("1.1 banish", 1),
        ("1.0 fred, HTTP/1.1 Banish (x), 1.1 banish", 2),
        ("1.1 other (banish)", 0),
        ("banish", 0),
        ("", 0),
    ],
)
def test_counts_how_often_a_message_has_passed_here(value: str, count: int) -> None:
    assert via_count(Fields.of([("Via", value)]), "banish") == count


CLAIMS = [
    ("Forwarded", "for=1.1.1.1"),
    ("X-Forwarded-For", "1.1.1.1"),
    ("X-Forwarded-Host", "evil"),
    ("X-Forwarded-Proto", "https"),
]


def told(claims: list[tuple[str, str]], *, trust: bool, peer: str | None = "192.0.2.1") -> Fields:
    return forwarded(Fields.of(claims), peer=peer, host="a.example:8080", scheme="http", trust_incoming=trust)


def test_claims_of_an_untrusted_client_are_replaced() -> None:
    fields = told([*CLAIMS, ("X-Original-URL", "/admin"), ("X-Real-IP", "1.1.1.1"), ("A", "1")], trust=False)
    assert fields.lines == (
        ("A", "1"),
        ("Forwarded", 'for=192.0.2.1;host="a.example:8080";proto=http'),
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Host", "a.example:8080"),
        ("X-Forwarded-Proto", "http"),
    )


def test_trusted_claims_are_kept_and_lists_grow_by_us() -> None:
    fields = told([*CLAIMS, ("X-Forwarded-For", "2.2.2.2")], trust=True)
    assert fields.get_all("forwarded") == ['for=1.1.1.1, for=192.0.2.1;host="a.example:8080";proto=http']
    assert fields.get_all("x-forwarded-for") == ["1.1.1.1, 2.2.2.2, 192.0.2.1"]
    assert fields.get("x-forwarded-host") == "evil"
    assert fields.get("x-forwarded-proto") == "https"


def test_an_ipv6_peer_is_bracketed_and_quoted_in_forwarded_only() -> None:
    fields = told([], trust=False, peer="2001:db8::1")
    assert (fields.get("forwarded") or "").startswith('for="[2001:db8::1]";')
    assert fields.get("x-forwarded-for") == "2001:db8::1"


def test_a_peer_without_address_is_unknown() -> None:
    fields = told([], trust=False, peer=None)
    assert (fields.get("forwarded") or "").startswith("for=unknown;")
    assert fields.get("x-forwarded-for") == "unknown"
