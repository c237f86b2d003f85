"""Spelling: what callers write of URLs, hosts and patterns, brought to the spelling that cache keys have.

Whoever purges writes a URL as a browser shows it: with or without a scheme, the host in any case and script, a port
that goes without saying, umlauts and spaces in the path, a fragment. Requests arrive in one spelling only
(`http/targets.py`), and that code has the last word here too. Without a scheme, both `https` and `http` are meant,
which matters where a port is given: `h:443` is `h` in https and `h:443` in http.

Not here: which parameters a site leaves out of its keys (`given.py`); what is compared (`targets.py`).
Source: UTS 46 for hosts beyond ASCII, as browsers do; RFC 3987 section 3.1 for paths.
Invariant: what is in the spelling of cache keys stays as it is. ValueError says what is wrong with the rest.
"""

import re

import idna

from banish.errors import ClientError
from banish.http.targets import DEFAULT_PORTS, Target, parse_host, plain_target, request_target
from banish.purge.targets import group_value

_REFERENCE = re.compile(r"(?:(?:([A-Za-z][A-Za-z0-9+.-]*):)?//)?([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_GLOB_HEAD = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*)://)?([^/]*)(.*)", re.DOTALL)
_BEYOND_ASCII = re.compile(r"[^!-~]+")


def url_targets(text: str) -> tuple[Target, ...]:
    """The URLs that `text` means: one for each scheme, if it names none."""
    plain = plain_target(text)  # most who purge write it so, and by the thousand
    if plain is not None:
        return (plain,)
    schemes, authority, rest = _taken_apart(text)
    return tuple([_target(scheme, authority, rest) for scheme in schemes])


def host_values(text: str) -> tuple[str, ...]:
    """The hosts that `text` means, with their ports, or `*.` and a host."""
    _, authority, rest = _taken_apart(text)
    if rest not in ("", "/"):
        raise ValueError("a host has no path: purge it by prefix")
    if not authority.startswith("*."):
        return hosts_of(text)
    below = _host(authority[2:], None)
    if ":" in below:
        raise ValueError("a wildcard stands before a name, and for every port of it")
    return (f"*.{below}",)


def hosts_of(text: str) -> tuple[str, ...]:
    """The hosts that a URL or the beginning of one can mean, with their ports."""
    schemes, authority, _ = _taken_apart(text)
    return tuple(dict.fromkeys(_host(authority, scheme) for scheme in schemes))


def group_values(text: str) -> tuple[str, ...]:
    """The cache group that `text`, an origin, a space and a name, means."""
    origin, space, group = text.lstrip().partition(" ")  # a group's name may be any text, even none
    schemes, authority, rest = _taken_apart(origin)
    if len(schemes) > 1 or rest not in ("", "/") or not space:
        raise ValueError("a cache group is written as its origin, a space and its name: https://example.com news")
    return (group_value(f"{schemes[0]}://{_host(authority, schemes[0])}", group),)


def tag_values(text: str) -> tuple[str, ...]:
    """The tags that `text` means. Fields are read as Latin-1, and origins write that or UTF-8; hooks write text."""
    tag = text.strip()
    if not tag:
        raise ValueError("a tag is not empty")
    return (tag,) if tag.isascii() else (tag.encode().decode("latin-1"), tag)


def globs(text: str) -> tuple[str, ...]:
    """The globs that `text` means. What it says of the host before the first wildcard is spelled as hosts are."""
    found = _GLOB_HEAD.fullmatch(text.strip())
    assert found is not None
    scheme, head, rest = found[1], found[2], _escaped(found[3])
    lead = f"{scheme.lower()}://" if scheme else ""
    if rest and not {"*", "?"} & set(head):
        schemes = (scheme.lower(),) if scheme else tuple(reversed(DEFAULT_PORTS))
        return tuple(dict.fromkeys(lead + _host(head, each) + rest for each in schemes))
    if not head.isascii():
        raise ValueError("beside a wildcard, a host is written in its ASCII form (xn--…)")
    fixed = re.split(r"[*?]", head, maxsplit=1)[0]
    return (lead + fixed.lower() + head[len(fixed) :] + rest,)


def _taken_apart(text: str) -> tuple[tuple[str, ...], str, str]:
    """The schemes it can mean, host and port as written, and the rest less its fragment."""
    found = _REFERENCE.fullmatch(text.strip())
    if found is None or not found[2]:
        raise ValueError("it names no host")
    scheme: str | None = found[1]
    if scheme is not None and scheme.lower() not in DEFAULT_PORTS:
        raise ValueError(f"nothing of the scheme {scheme} is cached: it is http or https")
    return (scheme.lower(),) if scheme else tuple(reversed(DEFAULT_PORTS)), found[2], found[3]


def _target(scheme: str, authority: str, rest: str) -> Target:
    path = rest if rest.startswith("/") else f"/{rest}"
    try:
        return request_target("GET", _escaped(path), _host(authority, scheme), scheme)
    except ClientError as error:
        raise ValueError(error.reason) from error


def _host(text: str, scheme: str | None) -> str:
    if not text.isascii():
        name, colon, port = text.partition(":")
        text = idna.encode(name, uts46=True).decode() + colon + port
    return parse_host(text, scheme)


def _escaped(text: str) -> str:
    """Text less what may not stand in a URL bare, in percent-encoded UTF-8."""
    return _BEYOND_ASCII.sub(lambda found: "".join([f"%{byte:02X}" for byte in found[0].encode()]), text)
