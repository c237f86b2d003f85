"""What a hook sees of a request and a response, and what it may change.

The request view writes down what the hook read. What is decided from the method, the target and named fields
alone can be answered again from the hot table under those same values (DESIGN section 4); what is decided
from anything else cannot, and `read_outside` says so. A view cannot see a hook read the time, a file or a
global that changes: such a hook calls `request.volatile()`.

Not here: loading and running hooks (`hooks.py`). Invariant: whatever a hook writes into a view is fit to go
on the wire; the line that writes something else raises.
"""

import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import NamedTuple

import msgspec

from banish.caching.policy import CachePolicy
from banish.http.fields import Fields
from banish.http.messages import RequestHead, ResponseHead
from banish.http.targets import Target, request_target

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNFIT_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "upgrade", "trailer", "te"})
"""Fields that say where messages end or what a connection is for. They are the proxy's, and stay as they are.
"""


class HookAnswer(NamedTuple):
    """A response made by a hook."""

    status: int
    fields: Fields
    body: bytes


class HookFields(MutableMapping[str, str]):
    """Field lines as a mapping: names in any case, lines of one name joined by ", ".

    Setting replaces all lines of that name. `add` appends a line, `get_all` gives the lines apart.
    """

    def __init__(self, fields: Fields) -> None:
        self._now = fields
        self.read: set[str] = set()
        """Names looked up so far, lower case."""
        self.read_all = False
        """Were the names themselves listed?"""

    def snapshot(self) -> Fields:
        """The fields as they stand."""
        return self._now

    def __getitem__(self, name: str) -> str:
        self.read.add(name.lower())
        value = self._now.get(name.lower())
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        self.read.add(name.lower())
        return name.lower() in self._now

    def get_all(self, name: str) -> list[str]:
        """The value of each line of that name."""
        self.read.add(name.lower())
        return self._now.get_all(name.lower())

    def __setitem__(self, name: str, value: str) -> None:
        self._now = self._now.with_field(*checked_line(name, value))

    def add(self, name: str, value: str) -> None:
        """Append one line."""
        self._now = self._now.plus(*checked_line(name, value))

    def __delitem__(self, name: str) -> None:
        self[name]  # absent raises KeyError, as a mapping does
        _refuse_framing(name)
        self._now = self._now.without((name.lower(),))

    def __iter__(self) -> Iterator[str]:
        self.read_all = True
        return iter(dict.fromkeys(self._now.names))

    def __len__(self) -> int:
        self.read_all = True
        return len(set(self._now.names))

    def __repr__(self) -> str:
        return f"<HookFields {', '.join(self._now.names)}>"


class HookRequest:
    """A request, as `on_request` and `on_response` see it.

    Reading: `method`, `scheme`, `host`, `path`, `query`, `url`, `fields`, `cookies`, `peer`.
    Changing: `path`, `query`, `host` (of the cache key and the request to the origin), `fields`.
    Deciding: `respond(…)`, `bypass()`, `cache_key_extra(…)`, `volatile()`.
    """

    def __init__(self, head: RequestHead, target: Target, *, peer: str) -> None:
        self._original = head
        self._peer = peer
        self._target = target
        self.received_url = target.url
        """The URL as the client asked for it, whatever the hook made of it."""
        self._read_outside = False
        self.fields = HookFields(head.fields)
        self.answer: HookAnswer | None = None
        """What the hook answered, if it did."""
        self.bypassed = False
        self.key_extra: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        return self._original.method

    @property
    def scheme(self) -> str:
        return self._target.scheme

    @property
    def url(self) -> str:
        return self._target.url

    @property
    def host(self) -> str:
        return self._target.host

    @host.setter
    def host(self, host: str) -> None:
        self._retarget(host, self._target.path_and_query)

    @property
    def path(self) -> str:
        return self._target.path

    @path.setter
    def path(self, path: str) -> None:
        if "?" in path:
            raise ValueError("a path has no '?'; set request.query, or write it as %3F")
        query = "" if self._target.query is None else f"?{self._target.query}"
        self._retarget(self._target.host, path + query)

    @property
    def query(self) -> str | None:
        """What stands after `?`; None without one."""
        return self._target.query

    @query.setter
    def query(self, query: str | None) -> None:
        self._retarget(self._target.host, self._target.path + ("" if query is None else f"?{query}"))

    def _retarget(self, host: str, path_and_query: str) -> None:
        self._target = request_target(self.method, path_and_query, host, self._target.scheme)

    @property
    def cookies(self) -> Mapping[str, str]:
        """The request's cookies. A decision read from them depends on the whole Cookie field."""
        pairs = (pair.partition("=") for pair in self.fields.get("cookie", "").split(";"))
        return {name.strip(): value.strip() for name, equals, value in pairs if equals}

    @property
    def peer(self) -> str:
        """The client's address. A decision read from it is made anew for every request."""
        self._read_outside = True
        return self._peer

    def respond(self, status: int, fields: Mapping[str, str] | None = None, body: bytes | str = b"") -> None:
        """Answer the client now. Nothing is asked of the cache or the origin."""
        if not 200 <= status <= 599:
            raise ValueError(f"{status} is not the status of a final response")
        lines = [checked_line(name, value) for name, value in (fields or {}).items()]
        self.answer = HookAnswer(status, Fields.of(lines), body.encode() if isinstance(body, str) else bytes(body))

    def bypass(self) -> None:
        """Pass this request to the origin: no stored response is used and none is kept."""
        self.bypassed = True

    def cache_key_extra(self, *values: str) -> None:
        """Keep what is stored under these values apart from what is stored under others."""
        self.key_extra = (*self.key_extra, *[str(value) for value in values])

    def volatile(self) -> None:
        """Say that the decision depends on what this view cannot see: the time, chance, a file, another
        service.
        """
        self._read_outside = True

    @property
    def read_fields(self) -> set[str]:
        """Names of the fields read so far, lower case."""
        return self.fields.read

    @property
    def read_outside(self) -> bool:
        """Was anything read beyond the method, the target and named fields?"""
        return self._read_outside or self.fields.read_all

    @property
    def target(self) -> Target:
        """The target as it stands, for the proxy."""
        return self._target

    def head(self) -> RequestHead:
        """The request's head as it stands, for the proxy. Its target is in origin-form if the hook changed
        it.
        """
        fields = self.fields.snapshot()
        return RequestHead(self.method, self._target.path_and_query, fields, self._original.version)

    def __repr__(self) -> str:
        return f"<HookRequest {self.method} {self.url}>"


class HookResponse:
    """A response of the origin, as `on_response` sees it before anything is stored. The body is not seen.

    Reading: `status`, `reason`, `fields`.
    Changing: `status`, `fields`, `ttl_s` (freshness lifetime, whatever the response says), `add_tags(…)`,
    `do_not_store()`.
    """

    def __init__(self, head: ResponseHead) -> None:
        self._original = head
        self._status = head.status
        self._ttl_s: float | None = None
        self.fields = HookFields(head.fields)
        self.tags: tuple[str, ...] = ()
        """Tags that the hook added; those in fields are not among them."""
        self.stored = True
        """False once the hook said `do_not_store()`."""

    @property
    def status(self) -> int:
        return self._status

    @status.setter
    def status(self, status: int) -> None:
        if not 200 <= status <= 599 or _has_no_body(status) != _has_no_body(self._original.status):
            raise ValueError(f"a {self._original.status} cannot become {status}: the body would not fit")
        self._status = status

    @property
    def reason(self) -> str:
        return self._original.reason if self._status == self._original.status else ""

    @property
    def ttl_s(self) -> float | None:
        """Freshness lifetime set by the hook, in seconds; None leaves it to the response and the site's
        rules.
        """
        return self._ttl_s

    @ttl_s.setter
    def ttl_s(self, ttl_s: float | None) -> None:
        if ttl_s is not None and not ttl_s >= 0:
            raise ValueError("a freshness lifetime is 0 or more seconds")
        self._ttl_s = ttl_s

    def add_tags(self, *tags: str) -> None:
        """Add tags to purge it by."""
        for tag in tags:
            if not tag or not tag.isprintable() or len(tag) > 1024:
                raise ValueError(f"not a tag: {tag[:40]!r}")
        self.tags = (*self.tags, *tags)

    def do_not_store(self) -> None:
        """Relay this response without keeping it."""
        self.stored = False

    def head(self) -> ResponseHead:
        """The response's head as it stands, for the proxy."""
        return ResponseHead(self._status, self.fields.snapshot(), self.reason, self._original.version)

    def policy(self, policy: CachePolicy) -> CachePolicy:
        """The caching policy as the hook left it, for the proxy."""
        if self._ttl_s is None:
            return policy
        return msgspec.structs.replace(policy, override_ttl_s=self._ttl_s)

    def __repr__(self) -> str:
        return f"<HookResponse {self.status}>"


def checked_line(name: str, value: str) -> tuple[str, str]:
    """A field line that is fit for the wire; raises ValueError (RFC 9110 sections 5.1 and 5.5)."""
    if _TOKEN.fullmatch(name) is None:
        raise ValueError(f"not a field name: {name!r}")
    _refuse_framing(name)
    text = str(value).strip(" \t")
    if _UNFIT_IN_VALUE.search(text) is not None:
        raise ValueError(f"the value of {name} holds a control character or a line break")
    if not _is_latin1(text):
        raise ValueError(f"the value of {name} cannot be sent in a field; percent-encode it")
    return name, text


def _refuse_framing(name: str) -> None:
    if name.lower() in _FRAMING:
        raise ValueError(f"{name} belongs to the connection; a hook cannot change it")


def _is_latin1(text: str) -> bool:
    return all(ord(char) < 256 for char in text)


def _has_no_body(status: int) -> bool:
    return status in (204, 304)
