"""Targets as callers give them: how they are written, checked, kept and sent, and what each means on this edge.

    JSON ── parse_targets ──▶ Given ─┬─ accepted    on the edge that is asked: what has no meaning is refused ─▶ Target
                                     └─ canonical   on any other, and at start: it is widened ────────────────▶ Target

Targets travel and are logged as given, and each edge makes them canonical when it applies them, by its own rules
(PURGE rule 6). The edge that takes a purge refuses what has no meaning (`accepted`); an edge that is to apply one
never does: what it cannot understand it widens (`canonical`, rule 7).

Not here: spelling of hosts and paths (`spelling.py`); what a canonical target hits (`targets.py`).
Invariants: `canonical` never raises, and its targets hit whatever the given one names in any spelling. What is
`accepted` means the same to both, and `parse_targets([item_of(given)]) == (given,)`.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from banish.caching.keys import key_target
from banish.caching.policy import CachePolicy
from banish.caching.tags import TAG_BYTES_MAX
from banish.errors import ClientError, LimitExceeded
from banish.http.targets import Target as HttpTarget
from banish.http.targets import plain_target
from banish.purge.spelling import globs, group_values, host_values, hosts_of, tag_values, url_targets
from banish.purge.stamps import Mode
from banish.purge.targets import Kind, Target, compiled, everything_target, normal_headers, wider

TARGETS_MAX = 2000
"""Targets of one purge: it takes effect in one step, in which nothing is answered for a microsecond each."""

VALUE_LENGTH_MAX = 8192
"""Characters of a target's value: no request line that is accepted holds a longer URL."""

HEADERS_MAX = 64
"""Request fields by which one target names a variant."""

HEADER_LENGTH_MAX = 4096
"""Characters of such a field's value."""

TOLD_LENGTH_MAX = 100
"""Characters of a value that are repeated where it is told what became of it."""

_FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
_UNFIT_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")


class Given(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One target as given. Fields mean what they mean in `targets.Target`, before they are spelled canonically."""

    kind: Kind
    value: str = ""
    boundary: bool = False
    regex: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    mode: Mode | None = None
    """Its own mode, if it is not that of its purge."""

    def __str__(self) -> str:
        return " ".join([f"{name} {value}" if type(value) is str else name for name, value in item_of(self).items()])


class Canonical(NamedTuple):
    """What a given target means on this edge."""

    targets: tuple[Target, ...]
    widened: str | None
    """Why these are wider than what was given, in words; None if they are not."""


# The JSON form: an object with one of these names, and what changes its meaning beside it

_FORMS: dict[str, tuple[Kind, bool]] = {
    "url": (Kind.URL, False),
    "prefix": (Kind.PREFIX, False),
    "host": (Kind.HOST, False),
    "tag": (Kind.TAG, False),
    "group": (Kind.GROUP, False),
    "pattern": (Kind.PATTERN, False),
    "regex": (Kind.PATTERN, True),
    "everything": (Kind.EVERYTHING, False),
}
_BESIDE = {"headers": "url", "boundary": "prefix"}
_NAMES = {kind: kind.value for kind in Kind}  # `value` of an enumeration's member takes longer than all else here


def parse_targets(items: Sequence[Any]) -> tuple[Given, ...]:
    """Targets in their JSON form, whatever they may mean. Raises ClientError: 400 with the number of the
    one that is in no such form and what is right, 413 there are too many.
    """
    if len(items) > TARGETS_MAX:
        raise too_many(len(items))
    parsed: list[Given] = []
    try:
        for item in items:
            parsed.append(_parsed(item))  # noqa: PERF401 (the number of the one that is wrong)
    except ClientError as error:
        raise numbered(error, len(parsed) + 1) from error
    return tuple(parsed)


def numbered(error: ClientError, number: int) -> ClientError:
    """What is wrong with one target, told of a batch."""
    return ClientError(error.status, f"target {number}: {error.reason}", close=False)


def too_many(count: int) -> LimitExceeded:
    """The refusal of a batch that is too large."""
    return LimitExceeded(413, "TARGETS_MAX", f"a purge names {TARGETS_MAX} targets at most, not {count}: send several")


def item_of(given: Given) -> dict[str, Any]:
    """The JSON form of a target."""
    item: dict[str, Any] = {_form(given): True if given.kind is Kind.EVERYTHING else given.value}
    if given.headers:
        item["headers"] = dict(given.headers)
    if given.boundary:
        item["boundary"] = True
    if given.mode is not None:
        item["mode"] = given.mode.value
    return item


def _form(given: Given) -> str:
    return "regex" if given.regex and given.kind is Kind.PATTERN else _NAMES[given.kind]


def _parsed(item: Any) -> Given:
    if not isinstance(item, dict):
        raise _refusal(f"it is an object with one of {', '.join(_FORMS)}")
    if len(item) == 1:  # as most are, by the thousand
        ((form, value),) = item.items()
        if form in _FORMS and type(value) is str and form != "everything":
            kind, regex = _FORMS[form]
            return Given(kind, value, False, regex)
    forms = [name for name in item if name in _FORMS]
    if len(forms) != 1:
        raise _refusal(f"it has one of {', '.join(_FORMS)}, and {' and '.join(forms) or 'none'} is there")
    form = forms[0]
    kind, regex = _FORMS[form]
    value = item[form]
    if value is not True if kind is Kind.EVERYTHING else not isinstance(value, str):
        raise _refusal(f"{form} is {'true' if kind is Kind.EVERYTHING else 'text'}")
    text = "" if value is True else value
    for name in item:
        if name not in (form, "mode") and _BESIDE.get(name) != form:
            raise _refusal(f"{name!r} has no meaning beside {form!r}")
    boundary = item.get("boundary", False)
    if not isinstance(boundary, bool):
        raise _refusal("boundary is true or false")
    return Given(kind, text, boundary, regex, _parsed_headers(item), _parsed_mode(item))


def _parsed_headers(item: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    if "headers" not in item:
        return ()
    headers = item["headers"]
    if not isinstance(headers, dict) or not headers or not all(isinstance(value, str) for value in headers.values()):
        raise _refusal("headers is an object of request fields, each a text; without it, all variants are meant")
    return tuple(headers.items())


def _parsed_mode(item: dict[str, Any]) -> Mode | None:
    mode = item.get("mode")
    if mode is None:
        return None
    if mode not in tuple(Mode):
        raise _refusal(f"mode is {' or '.join(Mode)}")
    return Mode(mode)


# Meaning


def accepted(given: Given, sites: Sequence[str], policy_of: Callable[[HttpTarget], CachePolicy]) -> Canonical:
    """What the target means on the edge that is asked to purge it, as `canonical` says. Raises ClientError, with what
    is wrong and what is right, if it means nothing on any edge.
    """
    if (plain := _plain(given, sites)) is not None:
        return plain
    try:
        _check(given)
        targets, reason = _meaning(given, policy_of)
    except ValueError as error:
        raise _refusal(f"{_form(given)}: {error}") from error
    return _canonical(given, sites, targets, reason)


def canonical(given: Given, sites: Sequence[str], policy_of: Callable[[HttpTarget], CachePolicy]) -> Canonical:
    """What the target means on this edge, within `sites` (none: every site).

    `policy_of` knows the caching policy of a URL, which may leave parameters out of its key.
    """
    if (plain := _plain(given, sites)) is not None:
        return plain
    reason: str | None
    try:
        targets, reason = _meaning(given, policy_of)
    except ValueError as error:
        targets, reason = _wider(given), str(error)
    return _canonical(given, sites, targets, reason)


def _plain(given: Given, sites: Sequence[str]) -> Canonical | None:
    """What a target means that is in its final spelling, in half the time: most are, and they come by the thousand.
    None: it needs a careful look.
    """
    kind, value = given.kind, given.value
    if given.headers or given.regex or (given.boundary and kind is not Kind.PREFIX):
        return None
    if kind is Kind.TAG:
        if not value.isascii() or value != value.strip() or not 0 < len(value) <= TAG_BYTES_MAX:
            return None
    elif kind is Kind.URL or kind is Kind.PREFIX:
        url = plain_target(value) if len(value) <= VALUE_LENGTH_MAX else None
        if url is None or url.query is not None:  # what policies leave out of keys is in queries
            return None
        value = url.host + url.path
    else:
        return None
    if not sites:
        return Canonical((Target(kind, "", value, given.boundary),), None)
    return Canonical(tuple([Target(kind, site, value, given.boundary) for site in sites]), None)


def _canonical(given: Given, sites: Sequence[str], targets: tuple[Target, ...], reason: str | None) -> Canonical:
    widened = None if reason is None else _widened(given, reason, targets)
    if sites:
        targets = tuple([msgspec.structs.replace(target, site=site) for site in sites for target in targets])
    return Canonical(targets, widened)


def _check(given: Given) -> None:
    """What can be said without spelling it. Raises ValueError."""
    if len(given.value) > VALUE_LENGTH_MAX:
        raise ValueError(f"it is longer than {VALUE_LENGTH_MAX} characters")
    if given.kind is Kind.EVERYTHING:
        if given.value:
            raise ValueError("it takes no value")
    elif not given.value.strip():
        raise ValueError("it is empty")
    if given.boundary and given.kind is not Kind.PREFIX:
        raise ValueError("boundary is for prefixes")
    if given.regex and given.kind is not Kind.PATTERN:
        raise ValueError("regex is for patterns")
    if given.headers:
        _check_headers(given)
    if given.kind is Kind.TAG and len(given.value.strip().encode()) > TAG_BYTES_MAX:
        raise ValueError(f"no response is stored with a tag of more than {TAG_BYTES_MAX} bytes")


def _check_headers(given: Given) -> None:
    if given.kind is not Kind.URL:
        raise ValueError("headers are for URLs")
    if len(given.headers) > HEADERS_MAX:
        raise ValueError(f"it has more than {HEADERS_MAX} headers")
    if len(dict(given.headers)) < len(given.headers):
        raise ValueError("it names a header twice: give its values in one, with commas between them")
    for name, value in given.headers:
        if _FIELD_NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is no name of a field")
        if len(value) > HEADER_LENGTH_MAX or _UNFIT_IN_VALUE.search(value) is not None:
            raise ValueError(f"the value of {name!r} is none that a field can have")


def _refusal(reason: str) -> ClientError:
    return ClientError(400, reason, close=False)


def _meaning(given: Given, policy_of: Callable[[HttpTarget], CachePolicy]) -> tuple[tuple[Target, ...], str | None]:
    """What it means on every site, and why that is wider than given, if it is. ValueError: it means nothing."""
    kind, value = given.kind, given.value
    match kind:
        case Kind.URL:
            headers = normal_headers(given.headers)
            targets = [Target(kind, value=_place(url, policy_of), headers=headers) for url in url_targets(value)]
        case Kind.TAG:
            targets = [Target(kind, value=tag) for tag in tag_values(value)]
        case Kind.PREFIX:
            return _meant_by_prefix(given, policy_of)
        case Kind.HOST:
            targets = [Target(kind, value=host) for host in host_values(value)]
        case Kind.GROUP:
            targets = [Target(kind, value=group) for group in group_values(value)]
        case Kind.PATTERN:
            patterns = (value,) if given.regex else globs(value)
            targets = [Target(kind, value=pattern, regex=given.regex) for pattern in patterns]
            for pattern in patterns:
                compiled(pattern, given.regex)
        case Kind.EVERYTHING:
            targets = [Target(kind)]
    return tuple(targets if len(targets) == 1 else dict.fromkeys(targets)), None


def _place(url: HttpTarget, policy_of: Callable[[HttpTarget], CachePolicy]) -> str:
    """The place of a URL as cache keys have it. What policies leave out of keys is in queries, so others need none."""
    if url.query is None:
        return url.host + url.path
    kept = key_target(url, policy_of(url))
    return kept.host + kept.path_and_query


def _meant_by_prefix(
    given: Given, policy_of: Callable[[HttpTarget], CachePolicy]
) -> tuple[tuple[Target, ...], str | None]:
    """Where keys have their queries sorted or cut, a prefix that reaches into the query stands for its whole path."""
    targets: dict[Target, None] = {}
    reason = None
    for url in url_targets(given.value):
        if url.query is not None and ((policy := policy_of(url)).query_sort or policy.query_drop):
            reason = "the site does not keep queries as they are"
            targets[Target(Kind.PREFIX, value=url.host + url.path, boundary=True)] = None
        else:
            targets[Target(Kind.PREFIX, value=url.host + url.path_and_query, boundary=given.boundary)] = None
    return tuple(targets), reason


def _wider(given: Given) -> tuple[Target, ...]:
    """What covers a target that has no meaning here: its host if that is to be had, else everything."""
    try:
        if given.kind is Kind.PATTERN:
            patterns = (given.value,) if given.regex else globs(given.value)
            targets = [wider(Target(Kind.PATTERN, value=value, regex=given.regex)) for value in patterns]
            return tuple(dict.fromkeys(targets))
        if given.kind in (Kind.URL, Kind.PREFIX):
            return tuple([Target(Kind.HOST, value=host) for host in hosts_of(given.value)])
    except ValueError:
        pass
    return (everything_target(),)


def _widened(given: Given, reason: str, targets: tuple[Target, ...]) -> str:
    value = given.value if len(given.value) <= TOLD_LENGTH_MAX else given.value[:TOLD_LENGTH_MAX] + "…"
    return f"{_form(given)} {value!r}: {reason}; applied as {', '.join(map(str, targets))}"
