"""Addresses: where an origin listens, as an operator writes it.

    http://host[:port]      https://host[:port]      unix:/path/to/socket

Not here: names to IP addresses (`connect.py`); which address is next (`pool.py`).
"""

from typing import Literal
from urllib.parse import urlsplit

import msgspec

from banish.errors import ConfigError

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Address(msgspec.Struct, frozen=True, gc=False):
    """One place to connect to. `host` of a `unix` address is the socket's path and `port` is 0."""

    scheme: Literal["http", "https", "unix"]
    host: str
    port: int

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_address(text: str) -> Address:
    """The address that `text` names; `ConfigError` says what would be right."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ConfigError(f"origin {text!r}: a unix socket is named by its absolute path, as in unix:/run/app.sock")
        return Address("unix", path, 0)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"origin {text!r}: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise ConfigError(f"origin {text!r}: expected http://host[:port], https://host[:port] or unix:/path")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise ConfigError(f"origin {text!r}: only scheme, host and port belong here")
    if port == 0:
        raise ConfigError(f"origin {text!r}: port 0 cannot be connected to")
    scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
    return Address(scheme, host, port or _DEFAULT_PORTS[scheme])
