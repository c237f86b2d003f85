"""Answers as bytes: heads, chunks, and the pages of errors.

Framing is chosen here and nowhere else: what the origin used is gone by now (RFC 9112 section 6).
"""

from html import escape

from banish.caching.cache_status import Outcome, cache_status
from banish.errors import BanishError, ClientError
from banish.http.fields import Fields
from banish.http.messages import ResponseHead, Version, reason_phrase
from banish.proxy.exchange import Answer

_NO_LENGTH = frozenset({204, 304})


def encode_head(answer: Answer, *, keep: bool, chunked: bool, version: Version, switching: bool = False) -> bytes:
    """Status line, the answer's fields, and the framing of this connection.

    `answer.fields` carry Content-Length only where the body does not decide it: responses to HEAD and 304.
    """
    reason = answer.reason or reason_phrase(answer.status)
    lines = [f"HTTP/1.1 {answer.status} {reason}\r\n".encode("latin-1"), answer.fields.encode()]
    if switching:
        lines.append(b"Connection: upgrade\r\nUpgrade: websocket\r\n")
    elif chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif answer.length is not None and answer.status not in _NO_LENGTH and "content-length" not in answer.fields:
        lines.append(b"Content-Length: %d\r\n" % answer.length)
    if not keep:
        lines.append(b"Connection: close\r\n")
    elif version == "1.0":
        lines.append(b"Connection: keep-alive\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


def encode_interim(head: ResponseHead) -> bytes:
    """A 1xx response (RFC 9110 section 15.2)."""
    reason = head.reason or reason_phrase(head.status)
    return f"HTTP/1.1 {head.status} {reason}\r\n".encode("latin-1") + head.fields.encode() + b"\r\n"


def error_answer(
    status: int, error: BanishError, *, cache_status: str, outcome: Outcome, close: bool = False
) -> Answer:
    """A page that says what happened, for people; `Cache-Status` says the same for programs."""
    phrase = reason_phrase(status) or "Error"
    body = (
        f"<!doctype html>\n<html lang=en><meta charset=utf-8><title>{status} {escape(phrase)}</title>\n"
        "<style>body{font:16px/1.5 system-ui;max-width:38em;margin:4em auto;padding:0 1em}"
        "code{color:#666}</style>\n"
        f"<h1>{status} {escape(phrase)}</h1>\n<p>{escape(error.told or str(error))}.</p>\n"
        f"<p><code>banish: {escape(error.code)}</code></p>\n"
    ).encode()
    fields = Fields.of(
        [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Cache-Control", "no-store"),
            ("Cache-Status", cache_status),
        ]
    )
    return Answer(status, fields, outcome, body=body, length=len(body), close=close)


def refusal(error: ClientError, node: str) -> Answer:
    """The answer to a message that was not accepted."""
    return error_answer(
        error.status,
        error,
        cache_status=cache_status(node, detail=error.code),
        outcome=Outcome.REFUSED,
        close=error.close,
    )
