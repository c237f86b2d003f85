"""Message heads: what a request and a response say before their body.

Not here: bodies (they stream) and framing (`framing.py`).
"""

from http import HTTPStatus
from typing import Literal

import msgspec

from banish.http.fields import Fields

Version = Literal["1.0", "1.1"]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"})
"""Methods that ask for no change (RFC 9110 section 9.2.1 and the IANA registry). Any other may be unsafe."""

IDEMPOTENT_METHODS = SAFE_METHODS | {"PUT", "DELETE"}
"""Methods that a client may repeat on its own (RFC 9110 section 9.2.2)."""


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """A request's line and fields. `target` is as received (RFC 9112 section 3.2)."""

    method: str
    target: str
    fields: Fields
    version: Version = "1.1"


class ResponseHead(msgspec.Struct, frozen=True, gc=False):
    """A response's status line and fields."""

    status: int
    fields: Fields
    reason: str = ""
    version: Version = "1.1"


def reason_phrase(status: int) -> str:
    """The usual reason phrase of a status; empty if unknown."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
