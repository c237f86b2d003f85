"""Who may call the admin listener, and for what.

    no token configured     whoever can connect: the listener is on loopback (`edge/checks.py` sees to that)
    admin.token_sha256      one token with all rights on all sites
    [[admin.tokens]]        named tokens, each with its sites and rights

Tokens are kept as digests, and a caller's is compared with every one of them in constant time.

Without tokens, anybody on this machine may do anything, a browser among them. So a Host that is a name other
than localhost is refused (a page could reach the API through a name of its own that it points at loopback:
DNS rebinding), and so is what a browser says another site's page has asked for.

Not here: what needs which right (`endpoints.py` and the modules that fill it); purging within sites, which the
purge service sees to (`edge/purging.py`).
"""

import hashlib
import hmac
from enum import StrEnum
from ipaddress import ip_address
from typing import NamedTuple

from starlette.requests import Request

from banish.edge.config import Admin
from banish.edge.receipts import Caller
from banish.errors import ClientError

UNNAMED = "admin"
"""What the history of purges calls the holder of `admin.token_sha256`."""

NO_TOKEN = "local"
"""What it calls a caller of a listener that asks for no token."""

_OTHER_PAGES = frozenset({"cross-site", "same-site"})
"""Values of Sec-Fetch-Site that a browser sends on behalf of a page that did not come from here."""


class Right(StrEnum):
    """What a token may be for."""

    READ = "read"
    """Everything that only looks."""

    PURGE = "purge"
    """Purge, undo, and follow what it has purged itself."""


EVERY_RIGHT = frozenset(Right)


class Access(NamedTuple):
    """A caller that was let in."""

    name: str
    source: str
    """Address of the peer."""
    rights: frozenset[Right]
    sites: tuple[str, ...] | None
    """None: all."""

    @property
    def caller(self) -> Caller:
        """As the purge service knows it."""
        return Caller(self.name, self.source, self.sites)

    @property
    def own_only(self) -> str | None:
        """The name whose purges alone may be looked at; None: everybody's."""
        return None if Right.READ in self.rights else self.name

    def covers(self, site: str) -> bool:
        """Whether the site is one of this caller's."""
        return self.sites is None or site in self.sites


def admit(admin: Admin, request: Request) -> Access:
    """The caller of a request. Raises ClientError: 401 without a token that is known, 403, 421."""
    source = _source(request)
    if not admin.guarded:
        if not _is_own_name(request.headers.get("host", "")):
            raise ClientError(421, "call it localhost")
        if request.headers.get("sec-fetch-site") in _OTHER_PAGES:
            raise ClientError(403, "a page of another site may not ask")
        return Access(NO_TOKEN, source, EVERY_RIGHT, None)
    digest = _presented(request)
    found: Access | None = None
    if admin.token_sha256 is not None and hmac.compare_digest(digest, admin.token_sha256.lower()):
        found = Access(UNNAMED, source, EVERY_RIGHT, None)
    for token in admin.tokens:
        if hmac.compare_digest(digest, token.sha256.lower()) and found is None:
            sites = None if "*" in token.sites else token.sites
            found = Access(token.name, source, frozenset(map(Right, token.rights)), sites)
    if found is None:
        raise ClientError(401, "send Authorization: Bearer TOKEN")
    return found


def _source(request: Request) -> str:
    """The caller's address. It may come from a field that anybody can write, so nothing else is taken for one."""
    host = request.client.host if request.client is not None else ""
    return host if _is_address(host) else ""


def _presented(request: Request) -> str:
    """The digest of the token that the request carries; of nothing if it carries none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    shown = token.strip() if scheme.lower() == "bearer" else ""
    return hashlib.sha256(shown.encode("latin-1")).hexdigest() if shown else ""


def _is_own_name(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return name.lower() == "localhost" or _is_address(name.strip("[]"))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
