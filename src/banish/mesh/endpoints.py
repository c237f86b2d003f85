"""Endpoints: where an edge listens for other edges.

    tls/paris.example:7447     over mutual TLS: the only way to other machines
    tcp/127.0.0.1:7447         in the clear: on this machine alone, for tests and the demo

Not here: dialling (`zenoh_transport.py`); addresses of client listeners (`edge/units.py`).
Invariant: `parse_endpoint(endpoint.text) == endpoint`.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from banish.errors import ConfigError

ENDPOINTS_MAX = 8
"""Of one edge."""

_ENDPOINT = re.compile(r"(tls|tcp)/(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?):([0-9]{1,5})")
_RIGHT = "write tls/HOST:PORT, such as tls/paris.example:7447"


class Endpoint(NamedTuple):
    """One address, and how it is spoken to there."""

    protocol: str
    """`tls` or `tcp`."""
    host: str
    """A name or an address; an IPv6 address without its brackets."""
    port: int

    @property
    def text(self) -> str:
        """As it is written."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol}/{host}:{self.port}"

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The host, if it is an address."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def loopback(self) -> bool:
        """Can only this machine reach it?"""
        address = self.address
        return self.host.lower() == "localhost" if address is None else address.is_loopback


def parse_endpoint(text: str) -> Endpoint:
    """The endpoint that is written so. Raises ConfigError with what would be right."""
    found = _ENDPOINT.fullmatch(text)
    if found is None or not 1 <= int(found[3]) <= 65535:
        raise ConfigError(f'"{text}" is no endpoint of a mesh; {_RIGHT}')
    endpoint = Endpoint(found[1], found[2].strip("[]"), int(found[3]))
    if ":" in endpoint.host and endpoint.address is None:
        raise ConfigError(f'"{endpoint.host}" in "{text}" is no address; {_RIGHT}')
    return endpoint


def bind(endpoint: Endpoint) -> Endpoint:
    """Where to listen so that others reach this endpoint: every address of the machine, or loopback alone.

    What others dial is often no address of the machine itself (a name, the outside of a NAT).
    """
    if endpoint.loopback:
        return endpoint
    return endpoint._replace(host="0.0.0.0" if isinstance(endpoint.address, IPv4Address) else "::")
