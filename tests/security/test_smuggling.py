"""Request smuggling: whatever a client writes, edge and origin see the same messages.

Each case is bytes, what the client must get for them, and what the origin must see, which is all that it may
see. Each is sent whole, byte by byte, and a line at a time, with one outcome. `KEPT` says that the connection
goes on: one more request on it is answered, and was the next thing that the origin saw. Else it is closed.
"""

from typing import NamedTuple

import pytest
from tests.support import PACES, Client, Closed, Pace, Play, Stage, chunks, request, tiny_limits

KEPT = True
CLOSED = False
GARBAGE = 0
"""Status for what is no request at all: 400, or 501 where it might have been a method."""
Seen = tuple[str, str, bytes]

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: site.example\r\n\r\n"
END = b"0\r\n\r\n"


class Case(NamedTuple):
    """`statuses` are those of the answers, in order; `seen` is (method, target, body) at the origin."""

    name: str
    data: bytes
    statuses: tuple[int, ...]
    then: bool = CLOSED
    seen: tuple[Seen, ...] = ()


def head(*lines: str | bytes, first: str | bytes = "POST /a HTTP/1.1", host: bool = True) -> bytes:
    """A head of these lines, raw."""
    all_lines = [first, *(["Host: site.example"] if host else []), *lines, "", ""]
    return b"\r\n".join([line.encode("latin-1") if isinstance(line, str) else line for line in all_lines])


def refused(name: str, data: bytes, status: int = 400) -> Case:
    """A message that is refused; nothing of it reaches the origin, nor anything after it."""
    return Case(name, data, (status,))


def passed(name: str, data: bytes, *seen: Seen) -> Case:
    """Messages that all reach the origin, and nothing else does."""
    return Case(name, data, (200,) * len(seen), KEPT, seen)


POST_A = ("POST", "/a", b"")
GET_A = ("GET", "/a", b"")
CL, TE = "Content-Length: ", "Transfer-Encoding: "

TWO_FRAMINGS = [
    refused("CL.TE", head(CL + "6", TE + "chunked") + END + b"G" + SMUGGLED),
    refused("TE.CL", head(TE + "chunked", CL + "4") + b"5c\r\n" + SMUGGLED + END),
    refused("TE.TE", head(TE + "chunked", TE + "chunked") + END + SMUGGLED),
    refused("CL.0 beside TE", head(CL + "0", TE + "chunked") + END + SMUGGLED),
    refused("CL and unknown TE", head(CL + "5", TE + "gzip") + b"hello" + SMUGGLED),
    refused("CL and empty TE", head(CL + "5", TE) + b"hello" + SMUGGLED),
    refused("TE on HTTP/1.0", head(TE + "chunked", first="POST /a HTTP/1.0") + END + SMUGGLED),
    refused(
        "TE on HTTP/1.0 keep-alive",
        head(TE + "chunked", "Connection: keep-alive", first="POST /a HTTP/1.0") + END + SMUGGLED,
    ),
    refused("TE with CL hidden by Connection", head(CL + "5", TE + "chunked", "Connection: content-length") + END),
    refused("GET with TE and CL", head(CL + "5", TE + "chunked", first="GET /a HTTP/1.1") + END + SMUGGLED),
]

TE_SPELLINGS = [
    refused("xchunked", head(TE + "xchunked") + END + SMUGGLED),
    refused("chunkedx", head(TE + "chunkedx") + END + SMUGGLED),
    refused("chunked, identity", head(TE + "chunked, identity") + END + SMUGGLED),
    refused("identity, chunked", head(TE + "identity, chunked") + END + SMUGGLED),
    refused("gzip, chunked", head(TE + "gzip, chunked") + END + SMUGGLED),
    refused("chunked, chunked", head(TE + "chunked, chunked") + END + SMUGGLED),
    refused("chunked,", head(TE + "chunked,") + END + SMUGGLED),
    refused(",chunked", head(TE + ",chunked") + END + SMUGGLED),
    refused("chunked; parameter", head(TE + "chunked;q=1") + END + SMUGGLED),
    refused("quoted", head(TE + '"chunked"') + END + SMUGGLED),
    refused("vertical tab before", head(TE + "\x0bchunked") + END + SMUGGLED),
    refused("vertical tab after", head(TE + "chunked\x0b") + END + SMUGGLED),
    refused("form feed after", head(TE + "chunked\x0c") + END + SMUGGLED),
    refused("NUL after", head(TE + "chunked\0") + END + SMUGGLED),
    refused("no-break space before", head(TE + "\xa0chunked") + END + SMUGGLED),
    refused("DEL after", head(TE + "chunked\x7f") + END + SMUGGLED),
    refused("space before the colon", head("Transfer-Encoding : chunked") + END + SMUGGLED),
    refused("tab before the colon", head("Transfer-Encoding\t: chunked") + END + SMUGGLED),
    refused("NUL in the name", head("Transfer\0-Encoding: chunked") + END + SMUGGLED),
    refused("obs-fold before the value", head("Transfer-Encoding:", " chunked") + END + SMUGGLED),
    refused("obs-fold after the value", head(TE + "chunked", " , identity") + END + SMUGGLED),
    refused("folded into another field", head("X: a", " Transfer-Encoding: chunked") + END + SMUGGLED),
    refused("first line folded", head(" Transfer-Encoding: chunked", host=False) + END + SMUGGLED),
    refused("after bare LF", head(b"X: a\nTransfer-Encoding: chunked") + END + SMUGGLED),
    refused("after bare CR", head(b"X: a\rTransfer-Encoding: chunked") + END + SMUGGLED),
    refused("after CR CR LF", head(b"X: a\r\r\nTransfer-Encoding: chunked") + END + SMUGGLED),
    refused("after LF CR", head(b"X: a\n\rTransfer-Encoding: chunked") + END + SMUGGLED),
    refused("identity", head(TE + "identity") + SMUGGLED, 501),
    refused("gzip", head(TE + "gzip") + SMUGGLED, 501),
    refused("trailers alone", head(TE + "trailers") + SMUGGLED, 501),
    refused("two lines, identity first", head(TE + "identity", TE + "chunked") + END + SMUGGLED),
    refused("two lines, identity last", head(TE + "chunked", TE + "identity") + END + SMUGGLED),
    passed("upper case", head(TE + "CHUNKED") + END, POST_A),
    passed("space after the value", head(TE + "chunked ") + END, POST_A),
    Case(
        "tab after the value", head(TE + "chunked \t") + END + SMUGGLED, (400,), CLOSED, (("POST", "/a", b"(broken)"),)
    ),
    passed("tab and spaces before the value", head("Transfer-Encoding:\t  chunked") + END, POST_A),
    passed("no space after the colon", head("transfer-encoding:chunked") + b"1\r\nx\r\n" + END, ("POST", "/a", b"x")),
    Case(
        "underscore is another field",
        head("Transfer_Encoding: chunked") + END + SMUGGLED,
        (200, GARBAGE),
        CLOSED,
        (POST_A,),
    ),
]

LENGTHS = [
    refused("two equal", head(CL + "5", CL + "5") + b"hello" + SMUGGLED),
    refused("two unequal", head(CL + "5", CL + "0") + b"hello" + SMUGGLED),
    refused("two unequal, zero first", head(CL + "0", CL + "47") + SMUGGLED),
    refused("list", head(CL + "5,5") + b"hello" + SMUGGLED),
    refused("list with a space", head(CL + "5, 5") + b"hello" + SMUGGLED),
    refused("plus", head(CL + "+5") + b"hello" + SMUGGLED),
    refused("minus", head(CL + "-5") + b"hello" + SMUGGLED),
    refused("minus zero", head(CL + "-0") + SMUGGLED),
    refused("hexadecimal", head(CL + "0x5") + b"hello" + SMUGGLED),
    refused("exponent", head(CL + "5e0") + b"hello" + SMUGGLED),
    refused("fraction", head(CL + "5.0") + b"hello" + SMUGGLED),
    refused("underscore", head(CL + "1_0") + b"hello" + SMUGGLED),
    refused("space inside", head(CL + "4 7") + b"hello" + SMUGGLED),
    refused("empty", head(CL) + SMUGGLED),
    refused("quoted", head(CL + '"5"') + b"hello" + SMUGGLED),
    refused("beyond 64 bits", head(CL + "18446744073709551621") + b"hello" + SMUGGLED),
    refused("a million digits are not read", head(CL + "9" * 1000) + b"hello" + SMUGGLED),
    refused("superscript digit", head(CL + "\xb2") + b"hello" + SMUGGLED),
    refused("NUL after", head(CL + "5\0") + b"hello" + SMUGGLED),
    refused("obs-fold", head(CL + "5", " 0") + b"hello" + SMUGGLED),
    refused("space before the colon", head("Content-Length : 5") + b"hello" + SMUGGLED),
    refused("larger than allowed", head(CL + "9223372036854775807") + b"hello" + SMUGGLED, 413),
    passed("leading zeros are digits", head(CL + "0005") + b"hello", ("POST", "/a", b"hello")),
    passed("a body that looks like a request", head(CL + str(len(SMUGGLED))) + SMUGGLED, ("POST", "/a", SMUGGLED)),
    passed("none on POST: no body", head() + SMUGGLED, POST_A, ("GET", "/smuggled", b"")),
    passed(
        "GET with a body",
        head(CL + "5", first="GET /a HTTP/1.1") + b"hello" + SMUGGLED,
        ("GET", "/a", b"hello"),
        ("GET", "/smuggled", b""),
    ),
    passed(
        "GET whose body is a request",
        head(CL + str(len(SMUGGLED)), first="GET /a HTTP/1.1") + SMUGGLED,
        ("GET", "/a", SMUGGLED),
    ),
    passed(
        "named by Connection",
        head(CL + str(len(SMUGGLED)), "Connection: content-length") + SMUGGLED,
        ("POST", "/a", SMUGGLED),
    ),
    passed("Connection names Host", head("Connection: host") + SMUGGLED, POST_A, ("GET", "/smuggled", b"")),
    passed(
        "Connection names Transfer-Encoding",
        head(TE + "chunked", "Connection: transfer-encoding") + chunks(SMUGGLED),
        ("POST", "/a", SMUGGLED),
    ),
]


def chunked(body: bytes) -> bytes:
    return head(TE + "chunked") + body


def broken(name: str, body: bytes) -> Case:
    """A chunked body with a fault. The head was fine: the origin may have seen it begin, never end."""
    return Case(name, chunked(body), (400,), CLOSED, (("POST", "/a", b"(broken)"),))


CHUNKS = [
    passed("several chunks", chunked(chunks(b"hello", b" ", b"world")), ("POST", "/a", b"hello world")),
    passed(
        "upper and lower hexadecimal",
        chunked(b"A\r\n0123456789\r\nb\r\n0123456789a\r\n" + END),
        ("POST", "/a", b"01234567890123456789a"),
    ),
    passed("leading zeros", chunked(b"0005\r\nhello\r\n000\r\n\r\n"), ("POST", "/a", b"hello")),
    passed("extensions are dropped", chunked(b"5;name=value\r\nhello\r\n0;last\r\n\r\n"), ("POST", "/a", b"hello")),
    passed("quoted extension", chunked(b'5;a="b;c"\r\nhello\r\n' + END), ("POST", "/a", b"hello")),
    passed("a chunk that looks like a request", chunked(chunks(SMUGGLED)), ("POST", "/a", SMUGGLED)),
    broken("size with 0x", b"0x5\r\nhello\r\n" + END + SMUGGLED),
    broken("size with plus", b"+5\r\nhello\r\n" + END + SMUGGLED),
    broken("size negative", b"-1\r\nhello\r\n" + END + SMUGGLED),
    broken("size empty", b"\r\nhello\r\n" + END + SMUGGLED),
    broken("size of 17 digits", b"10000000000000005\r\nhello\r\n" + END + SMUGGLED),
    broken("size with space before", b" 5\r\nhello\r\n" + END + SMUGGLED),
    broken("size with space after", b"5 \r\nhello\r\n" + END + SMUGGLED),
    broken("size with tab after", b"5\t\r\nhello\r\n" + END + SMUGGLED),
    broken("size with space inside", b"0 5\r\nhello\r\n" + END + SMUGGLED),
    broken("bare LF after the size", b"5\nhello\r\n" + END + SMUGGLED),
    broken("bare CR after the size", b"5\rhello\r\n" + END + SMUGGLED),
    broken("no CRLF after the chunk", b"5\r\nhello0\r\n\r\n" + SMUGGLED),
    broken("bare LF after the chunk", b"5\r\nhello\n" + END + SMUGGLED),
    broken("more than the chunk's size", b"5\r\nhelloX\r\n" + END + SMUGGLED),
    broken("bare LF in an extension", b"5;a\nb\r\nhello\r\n" + END + SMUGGLED),
    broken("bare LF after an extension", b"5;a\nhello\r\n" + END + SMUGGLED),
    broken("NUL in an extension", b"5;a=\0\r\nhello\r\n" + END + SMUGGLED),
    broken("bare CR in an extension", b"5;a=\rb\r\nhello\r\n" + END + SMUGGLED),
    broken("bare LF in the last chunk", b"5\r\nhello\r\n0\n\n" + SMUGGLED),
    broken("bare LF ends the trailers", b"5\r\nhello\r\n0\r\n\n" + SMUGGLED),
    broken("a trailer without colon", b"5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n" + SMUGGLED),
    broken("a trailer with a space before its colon", b"5\r\nhello\r\n0\r\nX : y\r\n\r\n" + SMUGGLED),
    broken("a length in the trailers", b"5\r\nhello\r\n0\r\nContent-Length: 47\r\n\r\n" + SMUGGLED),
    broken("a coding in the trailers", b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n" + SMUGGLED),
    broken("a folded trailer", b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n" + SMUGGLED),
]

HOSTS = [
    refused("two equal", head("Host: site.example")),
    refused("two different", head("Host: other.example")),
    refused("none", head(host=False)),
    refused("empty", head("Host:", host=False)),
    refused("list", head("Host: site.example, other.example", host=False)),
    refused("userinfo", head("Host: user@site.example", host=False)),
    refused("path", head("Host: site.example/a", host=False)),
    refused("space inside", head("Host: site.example other.example", host=False)),
    refused("port beyond", head("Host: site.example:65536", host=False)),
    refused("port signed", head("Host: site.example:-80", host=False)),
    refused("port twice", head("Host: site.example:80:80", host=False)),
    refused("NUL", head("Host: site.example\0.evil.example", host=False)),
    refused("percent", head("Host: site%2eexample", host=False)),
    refused("backslash", head("Host: site.example\\evil", host=False)),
    refused("IPv6 without end", head("Host: [::1", host=False)),
    refused("folded", head("Host:", " site.example", host=False)),
    refused("space before the colon", head("Host : site.example", host=False)),
    refused("beyond ASCII", head("Host: s\xefte.example", host=False)),
    refused("absolute-form without Host", head(first="GET http://site.example/a HTTP/1.1", host=False)),
    refused("absolute-form, userinfo", head(first="GET http://u@site.example/a HTTP/1.1")),
    refused("absolute-form, no host", head(first="GET http:///a HTTP/1.1")),
    refused("absolute-form, other scheme", head(first="GET ftp://site.example/a HTTP/1.1"), 421),
    passed("absolute-form replaces Host", head(first="GET http://site.example/a HTTP/1.1"), GET_A),
    passed("upper case and port", head("Host: SITE.example:80", host=False), POST_A),
    passed("port", head("Host: site.example:8080", host=False), POST_A),
]

LINES = [
    passed("two spaces are one", head(first="GET  /a HTTP/1.1"), GET_A),
    refused("tab", head(first="GET\t/a HTTP/1.1")),
    refused("space at the end", head(first="GET /a HTTP/1.1 ")),
    refused("space in the target", head(first="GET /a b HTTP/1.1")),
    refused("a request in the target", head(first="GET /a HTTP/1.1 GET /smuggled HTTP/1.1")),
    refused("fragment", head(first="GET /a#b HTTP/1.1")),
    refused("NUL in the target", head(first="GET /a\0b HTTP/1.1")),
    refused("control in the target", head(first="GET /a\x01b HTTP/1.1")),
    refused("DEL in the target", head(first="GET /a\x7f HTTP/1.1")),
    refused("raw UTF-8 in the target", head(first="GET /\xc3\xa4 HTTP/1.1")),
    refused("backslash in the target", head(first="GET /a\\b HTTP/1.1")),
    refused("no slash", head(first="GET a HTTP/1.1")),
    refused("asterisk on GET", head(first="GET * HTTP/1.1")),
    refused("authority-form on GET", head(first="GET site.example:80 HTTP/1.1")),
    refused("bad percent", head(first="GET /%zz HTTP/1.1")),
    refused("bare LF", b"GET /a HTTP/1.1\nHost: site.example\r\n\r\n"),
    refused("bare LF at the end", b"GET /a HTTP/1.1\r\nHost: site.example\r\n\n" + SMUGGLED),
    refused("only bare LF", b"GET /a HTTP/1.1\nHost: site.example\n\n" + SMUGGLED),
    refused("bare CR", b"GET /a HTTP/1.1\rHost: site.example\r\n\r\n"),
    refused("leading space", b" GET /a HTTP/1.1\r\nHost: site.example\r\n\r\n"),
    refused("NUL before", b"\0GET /a HTTP/1.1\r\nHost: site.example\r\n\r\n"),
    refused("HTTP/0.9", b"GET /a\r\n\r\n", 505),
    refused("HTTP/0.9 named", head(first="GET /a HTTP/0.9"), 505),
    refused("HTTP/1.2", head(first="GET /a HTTP/1.2")),
    refused("HTTP/2.0", head(first="GET /a HTTP/2.0"), 505),
    refused("HTTP/1.10", head(first="GET /a HTTP/1.10")),
    refused("HTTP/01.1", head(first="GET /a HTTP/01.1")),
    refused("lower-case version", head(first="GET /a http/1.1")),
    refused("HTTPS/1.1", head(first="GET /a HTTPS/1.1")),
    refused("HTTP/1.", head(first="GET /a HTTP/1.")),
    refused("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64),
    refused("a response", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    refused("CONNECT", b"CONNECT site.example:443 HTTP/1.1\r\nHost: site.example:443\r\n\r\n" + SMUGGLED, 501),
    refused(
        "CONNECT with a length",
        b"CONNECT site.example:443 HTTP/1.1\r\nHost: site.example:443\r\nContent-Length: 47\r\n\r\n" + SMUGGLED,
        501,
    ),
    Case("TRACE", head(first="TRACE /a HTTP/1.1"), (405,), KEPT),
    Case("TRACE with a body", head(CL + str(len(SMUGGLED)), first="TRACE /a HTTP/1.1") + SMUGGLED, (405,), KEPT),
    passed("blank lines before", b"\r\n\r\n" + head(), POST_A),
    passed("a lower-case method is another", head(first="get /a HTTP/1.1"), ("get", "/a", b"")),
    passed("a long method", head(first="PURGEKEYS /a HTTP/1.1"), ("PURGEKEYS", "/a", b"")),
]

FIELDS = [
    refused("NUL in a value", head("X: a\0b") + SMUGGLED),
    refused("control in a value", head("X: a\x01b") + SMUGGLED),
    refused("ESC in a value", head("X: \x1b[31m") + SMUGGLED),
    refused("DEL in a value", head("X: a\x7f") + SMUGGLED),
    refused("bare CR in a value", head(b"X: a\rb") + SMUGGLED),
    refused("bare LF in a value", head(b"X: a\nb") + SMUGGLED),
    refused("obs-fold", head("X: a", " b") + SMUGGLED),
    refused("obs-fold with a tab", head("X: a", "\tb") + SMUGGLED),
    refused("empty name", head(": a") + SMUGGLED),
    refused("no colon", head("X") + SMUGGLED),
    refused("space in a name", head("X Y: a") + SMUGGLED),
    refused("space before the colon", head("X : a") + SMUGGLED),
    refused("control in a name", head("X\x01: a") + SMUGGLED),
    refused("slash in a name", head("X/Y: a") + SMUGGLED),
    refused("beyond ASCII in a name", head("\xc4: a") + SMUGGLED),
    refused("brackets in a name", head("X[0]: a") + SMUGGLED),
    passed("obs-text in a value", head("X: \xff\x80") + SMUGGLED, POST_A, ("GET", "/smuggled", b"")),
    passed("empty value", head("X:") + SMUGGLED, POST_A, ("GET", "/smuggled", b"")),
]

GET = "GET /a HTTP/1.1"
H2C = ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__")
UPGRADES = [
    passed("h2c with a body", head(*H2C, CL + str(len(SMUGGLED))) + SMUGGLED, ("POST", "/a", SMUGGLED)),
    passed("h2c with a chunked body", head(*H2C, TE + "chunked") + chunks(SMUGGLED), ("POST", "/a", SMUGGLED)),
    passed(
        "h2c with a body, then a request",
        head(*H2C, CL + "5") + b"hello" + SMUGGLED,
        ("POST", "/a", b"hello"),
        ("GET", "/smuggled", b""),
    ),
    passed("h2c on GET, then a request", head(*H2C, first=GET) + SMUGGLED, GET_A, ("GET", "/smuggled", b"")),
    passed(
        "h2c on GET with a body", head(*H2C, CL + str(len(SMUGGLED)), first=GET) + SMUGGLED, ("GET", "/a", SMUGGLED)
    ),
    passed(
        "websocket with a body",
        head("Upgrade: websocket", "Connection: Upgrade", CL + str(len(SMUGGLED)), first=GET) + SMUGGLED,
        ("GET", "/a", SMUGGLED),
    ),
    passed(
        "websocket on POST",
        head("Upgrade: websocket", "Connection: Upgrade", CL + str(len(SMUGGLED))) + SMUGGLED,
        ("POST", "/a", SMUGGLED),
    ),
    passed(
        "TLS/1.0 with a body",
        head("Upgrade: TLS/1.0", "Connection: Upgrade", CL + str(len(SMUGGLED))) + SMUGGLED,
        ("POST", "/a", SMUGGLED),
    ),
    passed("unnamed by Connection", head("Upgrade: h2c", CL + str(len(SMUGGLED))) + SMUGGLED, ("POST", "/a", SMUGGLED)),
    passed(
        "h2c twice in a row",
        head(*H2C, first=GET) + head(*H2C, CL + "2") + b"hi" + SMUGGLED,
        GET_A,
        ("POST", "/a", b"hi"),
        ("GET", "/smuggled", b""),
    ),
    refused("h2c with two framings", head(*H2C, CL + "6", TE + "chunked") + END + b"G" + SMUGGLED),
    Case(
        "h2c with a broken body",
        head(*H2C, TE + "chunked") + b"zz\r\n" + SMUGGLED,
        (400,),
        CLOSED,
        (("POST", "/a", b"(broken)"),),
    ),
]

PIPELINES = [
    passed("three requests", request("GET", "/a") * 3, GET_A, GET_A, GET_A),
    passed(
        "body between",
        request("POST", "/a", body=b"hello") + SMUGGLED,
        ("POST", "/a", b"hello"),
        ("GET", "/smuggled", b""),
    ),
    passed(
        "chunked between", chunked(chunks(b"hello")) + SMUGGLED, ("POST", "/a", b"hello"), ("GET", "/smuggled", b"")
    ),
    passed("an unknown method before", request("BAN", "/b") + request("GET", "/a"), ("BAN", "/b", b""), GET_A),
    passed(
        "an unknown method with a body between",
        request("BAN", "/b", body=SMUGGLED) + request("GET", "/a"),
        ("BAN", "/b", SMUGGLED),
        GET_A,
    ),
    Case(
        "an error behind a whole message", request("GET", "/a") + head("X : y") + SMUGGLED, (200, 400), CLOSED, (GET_A,)
    ),
    Case(
        "garbage behind a body",
        request("POST", "/a", body=b"hello") + b"\0\0\0" + SMUGGLED,
        (200, GARBAGE),
        CLOSED,
        (("POST", "/a", b"hello"),),
    ),
    Case(
        "a request after Connection: close", head("Connection: close", first=GET) + SMUGGLED, (200,), CLOSED, (GET_A,)
    ),
    Case("a request after HTTP/1.0", head(first="GET /a HTTP/1.0") + SMUGGLED, (200,), CLOSED, (GET_A,)),
    Case(
        "refused framing behind a whole message",
        request("GET", "/a") + head(CL + "6", TE + "chunked") + END + b"G" + SMUGGLED,
        (200, 400),
        CLOSED,
        (GET_A,),
    ),
]

UNKNOWN = [
    refused("CL.TE", head(CL + "6", TE + "chunked", first="BAN /a HTTP/1.1") + END + b"G" + SMUGGLED),
    refused("two unequal lengths", head(CL + "5", CL + "0", first="BAN /a HTTP/1.1") + b"hello" + SMUGGLED),
    refused("two equal lengths", head(CL + "5", CL + "5", first="BAN /a HTTP/1.1") + b"hello" + SMUGGLED),
    refused("list of lengths", head(CL + "5, 5", first="BAN /a HTTP/1.1") + b"hello" + SMUGGLED),
    refused("xchunked", head(TE + "xchunked", first="BAN /a HTTP/1.1") + END + SMUGGLED),
    refused("obs-fold", head("X: a", " b", first="BAN /a HTTP/1.1") + SMUGGLED),
    refused("bare LF", b"BAN /a HTTP/1.1\nHost: site.example\n\n" + SMUGGLED),
    refused("two hosts", head("Host: other.example", first="BAN /a HTTP/1.1") + SMUGGLED),
    refused("no host", head(first="BAN /a HTTP/1.1", host=False) + SMUGGLED),
    refused("fragment", head(first="BAN /a#b HTTP/1.1") + SMUGGLED),
    refused("HTTP/2.0", head(first="BAN /a HTTP/2.0") + SMUGGLED, 505),
    passed("two spaces are one", head(first="BAN  /a HTTP/1.1"), ("BAN", "/a", b"")),
    refused("method with a control", head(first="BA\x01N /a HTTP/1.1") + SMUGGLED),
    refused("method with a slash", head(first="BA/N /a HTTP/1.1") + SMUGGLED),
    passed(
        "chunked body",
        head(TE + "chunked", first="BAN /a HTTP/1.1") + chunks(SMUGGLED) + SMUGGLED,
        ("BAN", "/a", SMUGGLED),
        ("GET", "/smuggled", b""),
    ),
    passed(
        "with Upgrade", head(*H2C, CL + str(len(SMUGGLED)), first="BAN /a HTTP/1.1") + SMUGGLED, ("BAN", "/a", SMUGGLED)
    ),
]

TABLES = {
    "framings": TWO_FRAMINGS,
    "te": TE_SPELLINGS,
    "length": LENGTHS,
    "chunk": CHUNKS,
    "host": HOSTS,
    "line": LINES,
    "field": FIELDS,
    "upgrade": UPGRADES,
    "pipeline": PIPELINES,
    "unknown-method": UNKNOWN,
}
CASES = [pytest.param(case, id=f"{table}: {case.name}") for table, cases in TABLES.items() for case in cases]


@pytest.mark.parametrize("case", CASES)
def test_client_and_origin_see_the_same_messages(case: Case, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        for path in ("/a", "/b", "/alive", "/smuggled"):
            stage.origin.respond(path, headers=[("Cache-Control", "no-store")], body=path.encode())
        for pace in PACES:
            stage.origin.requests.clear()
            async with stage.client() as client:
                outcome = await _send(client, case, pace)
            await stage.settled()
            assert outcome == (case.statuses, case.then), pace
            assert _seen(stage, case) == [*case.seen, *([("GET", "/alive", b"")] if case.then else [])], pace

    play(scene)


async def _send(client: Client, case: Case, pace: Pace) -> tuple[tuple[int, ...], bool]:
    """Statuses of the answers, and whether the connection goes on after them."""
    await client.send(case.data, pace)
    statuses: list[int] = []
    try:
        while len(statuses) < len(case.statuses):
            method = "HEAD" if case.data.startswith(b"HEAD ") else "GET"
            status = (await client.response(method)).status
            garbage = status in (400, 501) and case.statuses[len(statuses)] == GARBAGE
            statuses.append(GARBAGE if garbage else status)
        if case.then is CLOSED and statuses == list(case.statuses):
            assert await client.closed(), "something came after the last answer"
            return tuple(statuses), CLOSED
        alive = await client.get("/alive")
    except Closed:
        return tuple(statuses), CLOSED
    assert alive.body == b"/alive", "the answer to something else"
    return tuple(statuses), KEPT


def _seen(stage: Stage, case: Case) -> list[Seen]:
    """What reached the origin; a body that did not come whole is called broken, and may not have begun."""
    seen = [
        (received.method, received.target, received.body if received.whole else b"(broken)")
        for received in stage.origin.requests
    ]
    begun_at_most = [entry for entry in case.seen if entry[2] == b"(broken)"]
    return seen or begun_at_most


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("first", [request("GET", "/a"), request("POST", "/a", body=b"hello"), request("BAN", "/a")])
def test_an_unknown_method_behind_another_request_repeats_nothing(first: bytes, pace: Pace, play: Play) -> None:
    """It may be refused, since llhttp does not say where it began; what came before it is not read again."""

    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a")
        stage.origin.respond("/b")
        async with stage.client() as client:
            await client.send(first + request("PURGEKEYS", "/b"), pace)
            assert (await client.response()).status == 200
            second = await client.response()
            if second.status == 501:
                assert await client.closed()
        await stage.settled()
        behind = [] if second.status == 501 else [("PURGEKEYS", "/b")]
        assert stage.seen()[1:] == behind

    play(scene)


def test_a_request_is_never_sent_upstream_with_two_framings(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a")
        for data in (request("POST", "/a", body=b"hello"), chunked(chunks(b"hello")), request("POST", "/a")):
            async with stage.client() as client:
                await client.send(data)
                await client.response()
        for received in stage.origin.requests:
            fields = received.fields
            assert len(fields.get_all("content-length")) + len(fields.get_all("transfer-encoding")) <= 1

    play(scene)


def test_trailers_never_join_the_fields(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a")
        async with stage.client() as client:
            trailers = ("Host: evil.example", "Authorization: x", "X-Forwarded-For: evil", "Cookie: evil")
            await client.send(chunked(chunks(b"hello", trailers=trailers)))
            assert (await client.response()).status == 200
            assert (await client.get("/a")).status == 200
        first = stage.origin.requests[0]
        assert first.body == b"hello"
        assert first.fields.get_all("host") == [first.fields.get("host")]
        assert b"evil" not in first.raw
        assert "authorization" not in first.fields
        assert "content-length" not in first.fields

    play(scene)


@pytest.mark.parametrize("pace", ["whole", "bytes"])
def test_chunk_extensions_without_end_are_cut_off(pace: Pace, play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a")
        async with stage.client() as client:
            await client.send(chunked(b""))
            await client.send(b"5;a=" + b"x" * 40_000, pace)
            assert (await client.response()).status in (400, 413, 431)
            assert await client.closed()
        assert stage.count("banish_limits_reached_total", "request_head_bytes") == 1
        assert not any(received.whole for received in stage.origin.requests)

    play(scene, limits=tiny_limits(request_head_bytes=1024))


def test_many_small_chunks_with_extensions_are_cut_off(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a")
        async with stage.client() as client:
            await client.send(chunked(b""))
            await client.send((b"1;" + b"x" * 500 + b"\r\na\r\n") * 200)
            assert (await client.response()).status in (400, 413, 431)
            assert await client.closed()
        assert not any(received.whole for received in stage.origin.requests)

    play(scene, limits=tiny_limits(request_head_bytes=1024))


def test_trailers_without_end_are_cut_off(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a")
        async with stage.client() as client:
            await client.send(chunked(b"0\r\n"))
            await client.send(b"X: y\r\n" * 10_000)
            assert (await client.response()).status in (400, 413, 431)
            assert await client.closed()
        assert stage.count("banish_limits_reached_total", "request_head_bytes") == 1

    play(scene, limits=tiny_limits(request_head_bytes=1024))


def test_an_incomplete_body_never_becomes_a_whole_request(play: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.origin.respond("/a")
        for data in (head(CL + "9") + b"hello", chunked(b"9\r\nhello"), chunked(b"5\r\nhello\r\n0\r\n")):
            async with stage.client() as client:
                await client.send(data)
                client.shut()
                assert (await client.response()).status == 400
                assert await client.closed()
        await stage.settled()
        assert not any(received.whole for received in stage.origin.requests)

    play(scene)
