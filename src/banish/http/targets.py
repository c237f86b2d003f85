"""Request targets and hosts, brought to one spelling, so that no two readers take one text for two resources.

Not here: the cache key (`caching/keys.py`), which sites are served (`edge/`).
Source: RFC 9112 section 3.2 and 3.3; RFC 3986 sections 5.2 and 6.2.2; RFC 9110 sections 4.2.3 and 7.4.

Refused rather than repaired is what readers are known to disagree on: userinfo, fragments, backslashes,
controls, bytes beyond ASCII, damaged percent-encoding and `%00` in a path, and dot segments that appear
only to a reader who decodes `%2F` or `%5C` (`/static/..%2Faccount` would be cached as static and answered
as the account). A query is opaque: it is checked for bytes that may not stand there and otherwise kept as
received.
Invariant: normalising what has been normalised changes nothing.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

import msgspec

from banish.errors import ClientError

DEFAULT_PORTS = {"http": 80, "https": 443}

_HOST_LENGTH_MAX = 253  # RFC 1035 section 2.3.4, less the root's dot

_LABELS = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::([1-9][0-9]{0,4}))?", re.ASCII)

# A path in its final spelling: unreserved, sub-delims, ":" and "@" (RFC 3986 section 3.3), nothing to decode
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*")
# A URL in its final spelling, as far as that can be told at a glance: no port, no address in brackets
_PLAIN_URL = re.compile(
    rf"(https?)://(?=[^/]{{1,{_HOST_LENGTH_MAX}}}/)({_LABELS.pattern})({_PLAIN_PATH.pattern})(?:\?([!-\"$-~]*))?"
)
_UNFIT_IN_PATH = re.compile(r"[^!-~]|[\\#?]|%(?![0-9A-Fa-f]{2})|%00")
_UNFIT_IN_QUERY = re.compile(r"[^!-~]|#")
_TRIPLET_OR_STRAY = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~!$&'()*+,;=:@/%]")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ENCODED_SEPARATOR = re.compile(r"%2F|%5C")

# RFC 3986 appendix B, less the fragment's content
_REFERENCE = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#.*)?")


class Target(msgspec.Struct, frozen=True, gc=False):
    """What a request is about: its target URI in one spelling.

    `host` is in lower case, IPv6 in brackets, with the port if it is not the scheme's own. `path` is `*`
    for a request about the server as a whole. A `query` of None is no query; an empty one is a bare `?`.
    """

    scheme: str
    host: str
    path: str
    query: str | None = None

    @property
    def origin(self) -> str:
        """Scheme and authority (RFC 6454)."""
        return f"{self.scheme}://{self.host}"

    @property
    def path_and_query(self) -> str:
        """The target in origin-form, as it goes to the next hop."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    @property
    def url(self) -> str:
        """The target URI. For `*` it has no path (RFC 9112 section 3.3)."""
        return self.origin if self.path == "*" else f"{self.origin}{self.path_and_query}"


def request_target(
    method: str, raw_target: str, host_field: str | None, scheme: str, *, default_host: str | None = None
) -> Target:
    """The target of a request that arrived under `scheme`; raises ClientError if there is no telling, or
    none fit.

    An absolute-form target replaces Host (RFC 9112 section 3.2.2). `default_host` is for HTTP/1.0 without
    Host.
    """
    if method == "CONNECT":
        raise ClientError(501, "CONNECT is not offered here")
    if raw_target.startswith("/"):
        host = _request_host(default_host if host_field is None else host_field, scheme)
        path, query = _split(raw_target)
    elif raw_target == "*" and method == "OPTIONS":
        host = _request_host(default_host if host_field is None else host_field, scheme)
        path, query = "*", None
    else:
        host, path, query = _absolute_form(method, raw_target, scheme)
    try:
        return Target(scheme, host, path if path == "*" else normalise_path(path), _checked_query(query))
    except ValueError as error:
        raise ClientError(400, str(error)) from error


def plain_target(url: str) -> Target | None:
    """The target of a URL that is in its final spelling as it stands, in a tenth of the time that a careful look takes;
    None: it needs one (`request_target`).
    """
    found = _PLAIN_URL.fullmatch(url)
    return None if found is None or "/." in url else Target(*found.groups())


def _absolute_form(method: str, raw_target: str, scheme: str) -> tuple[str, str, str | None]:
    found = _REFERENCE.fullmatch(raw_target)
    if found is None or found[1] is None or found[2] is None or "#" in raw_target:
        raise ClientError(400, "the request target is in no form that a server accepts")
    if found[1].lower() != scheme:
        raise ClientError(421, f"the request target's scheme is not that of the connection, {scheme}")
    path: str = found[3]
    query: str | None = found[4]
    if not path:
        path = "*" if method == "OPTIONS" and query is None else "/"
    return _request_host(found[2], scheme), path, query


def _request_host(text: str | None, scheme: str) -> str:
    if text is None:
        raise ClientError(400, "no Host field")
    try:
        return parse_host(text, scheme)
    except ValueError as error:
        raise ClientError(400, str(error)) from error


@lru_cache(maxsize=1024)
def parse_host(text: str, scheme: str | None = None) -> str:
    """A host with its port, if any, in one spelling; raises ValueError. The port of `scheme` is left out.

    Names are letters, digits, `-`, `_` and dots: what reg-name allows beyond that (RFC 3986 section 3.2.2) no
    resolver, certificate or virtual host uses, but readers disagree on it.
    """
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        raise ValueError("the host is not a name or address with an optional port")
    host = _ipv6(found[1]) if text[0] == "[" else _name(found[1])
    if found[2] is None:
        return host
    port = int(found[2])
    if port > 65535:
        raise ValueError("the port is above 65535")
    return host if scheme is not None and DEFAULT_PORTS.get(scheme) == port else f"{host}:{port}"


def _ipv6(bracketed: str) -> str:
    try:
        return f"[{IPv6Address(bracketed[1:-1]).compressed}]"
    except AddressValueError as error:
        raise ValueError("the host is not an IPv6 address") from error


def _name(text: str) -> str:
    name = text.lower().removesuffix(".")
    if _LABELS.fullmatch(name) is None or len(name) > _HOST_LENGTH_MAX:
        raise ValueError("the host is not a name")
    return name


def normalise_path(path: str) -> str:
    """A path in one spelling; raises ValueError if readers could disagree on it.

    Unreserved characters are decoded, what may not stand bare is encoded, hexadecimal is in upper case, dot
    segments are removed. `//` and `%2F` stay: they are names of their own.
    """
    if _PLAIN_PATH.fullmatch(path) is not None and "/." not in path:
        return path
    if not path.startswith("/"):
        raise ValueError("the path does not begin with a slash")
    if _UNFIT_IN_PATH.search(path) is not None:
        raise ValueError("the path holds a character or percent-encoding that may not stand there")
    path = _remove_dot_segments(_TRIPLET_OR_STRAY.sub(_respell, path))
    if "%" in path and not {".", ".."}.isdisjoint(_ENCODED_SEPARATOR.sub("/", path).split("/")):
        raise ValueError("the path hides a dot segment behind an encoded slash")
    return path


def _respell(found: re.Match[str]) -> str:
    text = found[0]
    if text[0] != "%":
        return f"%{ord(text):02X}"
    char = chr(int(text[1:], 16))
    return char if char in _UNRESERVED else text.upper()


def _remove_dot_segments(path: str) -> str:
    """RFC 3986 section 5.2.4 for a path that begins with a slash."""
    if "/." not in path:
        return path
    segments = path.split("/")[1:]
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _split(path_and_query: str) -> tuple[str, str | None]:
    path, mark, query = path_and_query.partition("?")
    return path, query if mark else None


def _checked_query(query: str | None) -> str | None:
    if query is not None and _UNFIT_IN_QUERY.search(query) is not None:
        raise ValueError("the query holds a character that may not stand there")
    return query


def resolve(base: Target, reference: str) -> Target | None:
    """What a Location or Content-Location beside `base` refers to (RFC 3986 section 5.2), less its fragment.

    None if it is not an http or https URI or does not pass the checks of a request target.
    """
    found = _REFERENCE.fullmatch(reference.strip(" \t"))
    if found is None:
        return None
    scheme = (found[1] or base.scheme).lower()
    authority, path, query = found[2], found[3], found[4]
    if scheme not in DEFAULT_PORTS or (found[1] is not None and authority is None):
        return None
    try:
        if authority is not None:
            return Target(scheme, parse_host(authority, scheme), normalise_path(path or "/"), _checked_query(query))
        if not path:
            return Target(base.scheme, base.host, base.path, base.query if query is None else _checked_query(query))
        if not path.startswith("/"):
            path = base.path[: base.path.rfind("/") + 1] + path if base.path != "*" else f"/{path}"
        return Target(base.scheme, base.host, normalise_path(path), _checked_query(query))
    except ValueError:
        return None


def normalise_query(query: str | None, *, sort: bool = False, drop: Sequence[str] = ()) -> str | None:
    """A query less the parameters whose names match a glob in `drop`, and sorted by name if asked.

    Names are compared as spelled: `utm%5Fsource` is kept, which costs a miss and risks nothing. Parameters
    of one name stay in their order, since it often has a meaning. None when nothing is left of what was
    there.
    """
    if not query:
        return query
    parameters = query.split("&")
    kept = [parameter for parameter in parameters if not _dropped(parameter, drop)]
    if sort:
        kept = sorted(filter(None, kept), key=_parameter_name)
    return "&".join(kept) or None


def _parameter_name(parameter: str) -> str:
    return parameter.partition("=")[0]


def _dropped(parameter: str, drop: Sequence[str]) -> bool:
    name = _parameter_name(parameter)
    return any(fnmatchcase(name, pattern) for pattern in drop)
