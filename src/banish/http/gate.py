"""The gate: what a parser lets pass that must not reach anything behind it.

Not here: framing (`framing.py`), what the target means (`targets.py`), limits on size and count (`proxy/`,
`origin/`).
Source: RFC 9112 sections 2.2, 2.3, 3.2, 5.1 and 5.2; RFC 9110 sections 5.1, 5.5 and 7.2.
What llhttp is known to pass (in httptools 0.9): any number of Host fields, versions 0.9 and 2.0, fragments,
backslashes, statuses such as 099 and 999, controls in a reason phrase. The rest is checked as well: a gate
that trusted the parser's strictness would change with its version.
"""

from banish.errors import BadResponse, ClientError
from banish.http.fields import Fields
from banish.http.messages import RequestHead, ResponseHead

VERSIONS = frozenset({"1.0", "1.1"})

_TCHAR = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VCHAR = bytes(range(0x21, 0x7F))
_IN_TARGET = _VCHAR.replace(b"#", b"")
# field-content with obs-text: no control but the tab (RFC 9110 section 5.5)
_IN_VALUE = _VCHAR + b"\t " + bytes(range(0x80, 0x100))


def _made_of(text: str, allowed: bytes) -> bool:
    """True if every character is an allowed one. Deleting those that are is the fastest way to ask."""
    return not text.encode("latin-1").translate(None, allowed)


def check_request_head(head: RequestHead, raw_version: str) -> None:
    """Raise ClientError unless every reader reads the head alike. `raw_version` is as received."""
    if raw_version not in VERSIONS:
        raise ClientError(505, "the HTTP version is neither 1.0 nor 1.1")
    if not head.method or not _made_of(head.method, _TCHAR):
        raise ClientError(400, "the method is not a token")
    if not head.target or not _made_of(head.target, _IN_TARGET):
        raise ClientError(400, "the request target holds a character that may not stand there")
    fault = _field_fault(head.fields)
    if fault is not None:
        raise ClientError(400, fault)
    _check_host(head.fields, raw_version)


def _check_host(fields: Fields, raw_version: str) -> None:
    hosts = fields.names.count("host")
    if hosts > 1:
        raise ClientError(400, "more than one Host field")
    if hosts == 0 and raw_version == "1.1":
        raise ClientError(400, "no Host field")
    if hosts and "," in fields.lines[fields.names.index("host")][1]:
        raise ClientError(400, "a list in the Host field")


def check_response_head(head: ResponseHead, raw_version: str = "1.1") -> None:
    """Raise BadResponse unless the head may be relayed and stored. `raw_version` is as received."""
    if raw_version not in VERSIONS:
        raise BadResponse("the HTTP version is neither 1.0 nor 1.1")
    if not 100 <= head.status <= 599:
        raise BadResponse("the status is none (RFC 9110 section 15)")
    if not _made_of(head.reason, _IN_VALUE):
        raise BadResponse("a control character in the reason phrase")
    fault = _field_fault(head.fields)
    if fault is not None:
        raise BadResponse(fault)


def _field_fault(fields: Fields) -> str | None:
    """What is wrong with names or values; None if nothing."""
    if "" in fields.names or not _made_of("".join(fields.names), _TCHAR):
        return "a field name that is not a token"
    if not _made_of("".join([value for _, value in fields.lines]), _IN_VALUE):
        return "a control character in a field value"
    return None
