"""Framing: where a message's body ends, decided by one pure function each for requests and responses.

Not here: chunks themselves (the parser's), which is checked against what is decided here; how long a
connection is kept.
Source: RFC 9112 section 6. Stricter than its letter wherever two readers could see two different ends:
Transfer-Encoding is `chunked` and nothing else, on HTTP/1.1 only, and never beside Content-Length;
Content-Length is digits, once.
Units: bytes.
"""

import enum
import re

import msgspec

from banish.errors import BadResponse, ClientError
from banish.http.fields import Fields
from banish.http.messages import Version

CONTENT_LENGTH_MAX = 2**63 - 1
"""Lengths above this are refused: parsers count in 64 bits, some of them signed."""

_DIGITS = re.compile(r"[0-9]+", re.ASCII)


class FramingKind(enum.StrEnum):
    """How the end of a body is known."""

    NONE = "none"
    """There is no body, whatever the fields say."""
    LENGTH = "length"
    """After so many bytes."""
    CHUNKED = "chunked"
    """At the last chunk."""
    UNTIL_CLOSE = "until_close"
    """When the sender closes the connection, cleanly if it is TLS."""


class Framing(msgspec.Struct, frozen=True, gc=False):
    """Where a body ends. `length` counts for LENGTH alone.

    `reusable` says that the connection can carry another message once this one has ended. It is False until
    close, and when a response that has no body by its status announces one all the same (1xx and 204, RFC
    9112 section 6.3): bytes that follow may be that body rather than the next response.
    """

    kind: FramingKind
    length: int = 0
    reusable: bool = True


NO_BODY = Framing(FramingKind.NONE)
EMPTY = Framing(FramingKind.LENGTH, 0)
CHUNKED = Framing(FramingKind.CHUNKED)
UNTIL_CLOSE = Framing(FramingKind.UNTIL_CLOSE, reusable=False)
_ANNOUNCED_BODY = Framing(FramingKind.NONE, reusable=False)


class _Damaged(Exception):
    """Framing fields that must not be trusted, before it is known whose they are."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


def request_framing(method: str, version: Version, fields: Fields) -> Framing:
    """Where a request's body ends; raises ClientError, after which the connection must be closed."""
    if method == "CONNECT":
        raise ClientError(501, "CONNECT is not offered here")
    try:
        return _announced(version, fields, lenient=False) or NO_BODY
    except _Damaged as damaged:
        raise ClientError(damaged.status, str(damaged)) from damaged


def response_framing(
    request_method: str, status: int, version: Version, fields: Fields, *, lenient: bool = False
) -> Framing:
    """Where a response's body ends; raises BadResponse.

    Fields are checked even if the response has no body: they are passed on, and the next reader may use them.
    `lenient` takes equal Content-Length values given several times for one (RFC 9112 section 6.3, item 5).
    """
    try:
        announced = _announced(version, fields, lenient=lenient)
    except _Damaged as damaged:
        raise BadResponse(str(damaged)) from damaged
    if request_method == "HEAD" or status == 304:
        return NO_BODY
    if status < 200 or status == 204:
        return NO_BODY if announced is None or announced == Framing(FramingKind.LENGTH) else _ANNOUNCED_BODY
    return UNTIL_CLOSE if announced is None else announced


def _announced(version: Version, fields: Fields, *, lenient: bool) -> Framing | None:
    """What Transfer-Encoding and Content-Length say; None if neither is there."""
    if "transfer-encoding" in fields:
        if "content-length" in fields:
            raise _Damaged("Transfer-Encoding and Content-Length together")
        _check_transfer_encoding(version, fields.get_all("transfer-encoding"))
        return CHUNKED
    if "content-length" in fields:
        return Framing(FramingKind.LENGTH, _content_length(fields.get_all("content-length"), lenient=lenient))
    return None


def _check_transfer_encoding(version: Version, values: list[str]) -> None:
    if version == "1.0":
        raise _Damaged("Transfer-Encoding on HTTP/1.0")
    if len(values) != 1:
        raise _Damaged("Transfer-Encoding more than once")
    coding = values[0].strip(" \t").lower()
    if coding == "chunked":
        return
    if "chunked" in coding:
        raise _Damaged("Transfer-Encoding is not exactly chunked")
    raise _Damaged("a transfer coding other than chunked", status=501)


def _content_length(values: list[str], *, lenient: bool) -> int:
    if lenient:
        values = list({part.strip(" \t") for value in values for part in value.split(",")})
    if len(values) != 1:
        raise _Damaged("Content-Length more than once")
    digits = values[0].strip(" \t")
    if _DIGITS.fullmatch(digits) is None:
        raise _Damaged("Content-Length is not a number")
    # 19 digits hold the bound; longer texts are refused before they cost a conversion.
    if len(digits) > 19 or int(digits) > CONTENT_LENGTH_MAX:
        raise _Damaged("Content-Length is beyond any body")
    return int(digits)
