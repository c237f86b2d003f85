"""Patterns: globs and regular expressions on URLs, in time linear in the URL whoever wrote them.

A glob covers the whole of what it is held against: the URL if the glob has `://` in it, else the URL less its
scheme. `*` is any text, slashes included, and `?` one character. A regular expression (RE2's syntax) is searched for
in the URL. Both run on RE2, which neither backtracks nor outgrows the memory it is given.

Not here: which patterns are live (`stamps.py`); how they are written by callers (`given.py`).
Invariant: `fixed_prefix` covers whatever the pattern matches, and maybe more.
"""

import re
from typing import Any

import re2

PATTERN_LENGTH_MAX = 2048
"""Characters of a pattern."""

WILDCARDS_MAX = 64
"""Wildcards of a glob, `**` counted as one. The worst such glob takes 3 ms for the worst URL of 8 KiB, and 10 µs for
others."""

PROGRAM_SIZE_MAX = 512
"""Instructions of a compiled regular expression; everyday ones have some 50. The worst takes 14 ms for the worst URL of
8 KiB."""

PATTERN_MEMORY_BYTES = 256 * 1024
"""What RE2 may spend on one pattern, program and automaton together: a thousand of them stay within 256 MiB. With
less, everyday expressions fall back from RE2's automaton to an engine a hundred times slower."""

_WILDCARD = re.compile(r"\*+|\?")

_OPTIONS = re2.Options()
_OPTIONS.max_mem = PATTERN_MEMORY_BYTES
_OPTIONS.encoding = re2.Options.Encoding.LATIN1  # URLs are ASCII; UTF-8 would make programs of `.` thrice as large
_OPTIONS.log_errors = False
_OPTIONS.never_capture = True
_OPTIONS.dot_nl = True


class Pattern:
    """A compiled pattern. `_piece` is fixed text that whatever it matches must hold: most URLs do not."""

    __slots__ = ("_expression", "_full", "_piece")

    def __init__(self, value: str, *, regex: bool) -> None:
        """Raises ValueError with a reason if the pattern has no meaning or is too large."""
        if len(value) > PATTERN_LENGTH_MAX:
            raise ValueError(f"it is longer than {PATTERN_LENGTH_MAX} characters")
        self._full = regex or "://" in value
        self._piece = "" if regex else max(_WILDCARD.split(value), key=len)
        self._expression = _regex(value) if regex else _glob(value)

    def hits(self, url: str, place: str) -> bool:
        """Whether it matches a URL, given with and without its scheme."""
        if self._piece not in url:
            return False
        # Bytes, since of text RE2's binding also finds out where the match lies, at twice the price.
        return self._expression.search((url if self._full else place).encode()) is not None


def _regex(value: str) -> Any:
    compiled = _compiled(value)
    if compiled.programsize > PROGRAM_SIZE_MAX:
        raise ValueError(f"it compiles to more than {PROGRAM_SIZE_MAX} instructions")
    return compiled


def _glob(value: str) -> Any:
    wildcards = _WILDCARD.findall(value)
    if len(wildcards) > WILDCARDS_MAX:
        raise ValueError(f"it has more than {WILDCARDS_MAX} wildcards")
    gaps = [".*" if wildcard[0] == "*" else "." for wildcard in wildcards]
    pieces = [re2.escape(piece) for piece in _WILDCARD.split(value)]
    return _compiled("".join([r"\A", *[piece + gap for piece, gap in zip(pieces, [*gaps, r"\z"], strict=True)]]))


def _compiled(expression: str) -> Any:
    try:
        return re2.compile(expression.encode(), _OPTIONS)
    except (re2.error, UnicodeEncodeError) as error:
        raise ValueError(_reason(error)) from error


def _reason(error: Exception) -> str:
    told = error.args[0] if isinstance(error, re2.error) and error.args else "it is not text"
    return told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)


_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_FIXED_HEAD = re.compile(r"[a-z0-9._:\[\]-]+/[^*?]*")
_FIXED_HOST = re.compile(r"\^https?\??://((?:[a-z0-9_-]|\\\.)+(?::[0-9]+)?)/(?![?*{])")


def fixed_prefix(value: str, *, regex: bool) -> str | None:
    """The beginning of every place that the pattern can match, its host and slash at least; None if there is none.

    Of a regular expression, what is understood is one that begins `^https://` and a host with its dots escaped.
    """
    if not regex:
        scheme = _SCHEME.match(value)
        found = _FIXED_HEAD.match(value, scheme.end() if scheme is not None else 0)
        return found[0] if found is not None else None
    found = _FIXED_HOST.match(value)
    return None if found is None or "|" in value else found[1].replace("\\.", ".") + "/"
