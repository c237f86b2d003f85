"""What belongs to one hop and what to the whole way: fields taken off, and the traces a proxy leaves.

Not here: framing fields being put back on for the next hop (`origin/`, `proxy/`).
Source: RFC 9110 sections 7.6.1 and 7.6.3; RFC 7239; RFC 9111 section 3.1 for what may be stored.
Invariant: what `end_to_end` returns can be forwarded or stored; applying it again changes nothing.
"""

import re
from collections.abc import Collection

from banish.http.fields import Fields

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        # Between a client and its own proxy; never stored (RFC 9111 section 3.1), and we are not its proxy.
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
    }
)
"""Fields about the connection itself. Trailer is not one: what it announces is forwarded with the body."""

_END_TO_END = frozenset(
    {
        *("accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges", "age", "allow"),
        *("authorization", "cache-control", "cdn-cache-control", "content-encoding", "content-language"),
        *("content-length", "content-location", "content-range", "content-type", "cookie", "date", "etag"),
        *("expires", "forwarded", "host", "if-match", "if-modified-since", "if-none-match", "if-range"),
        *("if-unmodified-since", "last-modified", "location", "origin", "pragma", "range", "set-cookie"),
        *("surrogate-control", "trailer", "vary", "via", "www-authenticate", "x-forwarded-for"),
        *("x-forwarded-host", "x-forwarded-proto"),
    }
)
"""Fields meant for all recipients, which Connection must not name (RFC 9110 section 7.6.1).

Naming them anyway would strip a request of what its cache key or its authorization was decided on, or a
response of what forbids storing it; so the option is ignored, not obeyed.
"""

_CLAIMS = frozenset(
    {
        *("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"),
        *("x-forwarded-prefix", "x-forwarded-scheme", "x-forwarded-server", "x-forwarded-ssl", "x-forwarded"),
        *("x-forwarded-path", "x-forwarded-protocol", "x-forwarded-uri", "forwarded-for", "x-real-ip"),
        *("client-ip", "true-client-ip", "x-client-ip", "x-cluster-client-ip", "front-end-https"),
        *("x-scheme", "x-url-scheme", "x-host", "x-http-host-override", "x-original-host"),
        *("x-original-uri", "x-original-url", "x-rewrite-url"),
    }
)
"""What a client can claim about itself or its target beside the request line: unkeyed, yet believed."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def end_to_end(fields: Fields, *, also: Collection[str] = ()) -> Fields:
    """These fields less the hop-by-hop ones, those that Connection lists, and `also` (in lower case)."""
    listed = {option.lower() for option in fields.members("connection")} - _END_TO_END
    return fields.without(HOP_BY_HOP.union(listed, also))


def via(fields: Fields, version: str, pseudonym: str) -> Fields:
    """These fields with a Via line saying that we received the message, in which version."""
    return fields.plus("Via", f"{version} {pseudonym}")


def via_count(fields: Fields, pseudonym: str) -> int:
    """How many times a message has passed through a proxy of this name: more than it should is a loop."""
    wanted = pseudonym.lower()
    return sum(member.lower().split()[1:2] == [wanted] for member in fields.members("via"))


def forwarded(fields: Fields, *, peer: str | None, host: str, scheme: str, trust_incoming: bool) -> Fields:
    """These request fields with Forwarded and X-Forwarded-For, -Host and -Proto saying who asked, and for
    what.

    `peer` is an address without port, or None if it has none (a unix socket). Unless incoming claims are
    trusted they are dropped, relatives included. Trusted ones are kept: lists grow by us; host and scheme
    stay the first hop's.
    """
    if not trust_incoming:
        fields = fields.without(_CLAIMS)
    node = "unknown" if peer is None else f"[{peer}]" if ":" in peer else peer
    element = f"for={_value(node)};host={_value(host)};proto={scheme}"
    fields = _appended(fields, "Forwarded", element)
    fields = _appended(fields, "X-Forwarded-For", peer or "unknown")
    if "x-forwarded-host" not in fields:
        fields = fields.plus("X-Forwarded-Host", host)
    if "x-forwarded-proto" not in fields:
        fields = fields.plus("X-Forwarded-Proto", scheme)
    return fields


def _appended(fields: Fields, name: str, member: str) -> Fields:
    """These fields with `member` ending a list on one line: many origins read the first line only."""
    before = fields.get(name.lower())
    return fields.with_field(name, f"{before}, {member}" if before else member)


def _value(text: str) -> str:
    """A token, or else a quoted string (RFC 7239 section 4: IPv6 addresses and ports need quotes)."""
    if _TOKEN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
