"""Connecting: from an address to a connection that is ready to carry a request.

Names are resolved by the system, each time: caching answers is the resolver's work. Among several IP
addresses the race of RFC 8305 (Happy Eyeballs) decides. TLS is verified against the system's certificates, or
those given; the server's name goes out as SNI and is what the certificate must be for.

Not here: which address (`pool.py`); the exchange (`connection.py`).
Source: RFC 8305 section 5 (delay between attempts); RFC 9110 section 4.3.4.
Units: seconds.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

import aiohappyeyeballs
import msgspec

from banish.errors import ConfigError, ConnectFailed, OriginTimeout
from banish.origin.addresses import Address
from banish.origin.connection import OriginConnection
from banish.origin.exchange import Owner
from banish.origin.timeouts import Stage, bound

ATTEMPT_DELAY_S = 0.25
"""RFC 8305 section 8: the recommended Connection Attempt Delay."""

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]


class OriginTls(msgspec.Struct, frozen=True, kw_only=True):
    """How an https origin is verified."""

    verify: bool = True
    """Off: any certificate will do. For tests and private networks only."""
    ca_file: str | None = None
    """PEM file of the authorities to trust instead of the system's."""
    server_name: str | None = None
    """Name to ask for and to verify, where it is not the host of the address."""


def tls_context(tls: OriginTls) -> ssl.SSLContext:
    """The TLS settings for one group's connections."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"origin TLS: the file {tls.ca_file!r} is no PEM file of certificates: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Connector:
    """Opens connections for one origin group."""

    def __init__(self, owner: Owner, addresses: Sequence[Address], tls: OriginTls) -> None:
        self._owner = owner
        self._server_name = tls.server_name
        secure = any(address.scheme == "https" for address in addresses)
        self._context = tls_context(tls) if secure else None

    async def connect(self, address: Address) -> OriginConnection:
        """A connection to `address`. Raises `ConnectFailed` or `OriginTimeout`."""
        loop = asyncio.get_running_loop()
        connection = OriginConnection(address, self._owner, loop)
        with self._named(Stage.CONNECT, address):
            async with asyncio.timeout(bound(self._owner.timeouts.connect_s)):
                if address.scheme == "unix":
                    await loop.create_unix_connection(lambda: connection, address.host)
                    return connection
                sock = await self._race(loop, address)
        try:
            await self._adopt(loop, connection, sock)
        except BaseException:
            sock.close()
            raise
        return connection

    async def _race(self, loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket:
        infos: Sequence[AddressInfo] | None = _literal(address)
        if infos is None:
            infos = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        return await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=ATTEMPT_DELAY_S, loop=loop)

    async def _adopt(self, loop: asyncio.AbstractEventLoop, connection: OriginConnection, sock: socket.socket) -> None:
        address = connection.address
        if address.scheme != "https":
            with self._named(Stage.CONNECT, address):
                await loop.create_connection(lambda: connection, sock=sock)
            return
        wait_s = self._owner.timeouts.tls_handshake_s
        name = self._server_name or address.host.rstrip(".")
        with self._named(Stage.TLS_HANDSHAKE, address):
            async with asyncio.timeout(bound(wait_s)):
                # The loop's own bound stands behind ours: its error cannot be told from a reset.
                await loop.create_connection(
                    lambda: connection,
                    sock=sock,
                    ssl=self._context,
                    server_hostname=name,
                    ssl_handshake_timeout=min(2 * wait_s, 86_400),
                )

    @contextlib.contextmanager
    def _named(self, stage: Stage, address: Address) -> Iterator[None]:
        """Errors of the system and its loops, as ours."""
        try:
            yield
        except TimeoutError as error:
            self._owner.count_timeout(stage)
            reason = f"the wait on the origin ran out: {stage} to {address}"
            raise OriginTimeout(stage, reason, retryable=True) from error
        except (OSError, RuntimeError, UnicodeError) as error:
            # ssl.SSLError and socket.gaierror are OSErrors; uvloop has RuntimeErrors among its own; a host
            # that cannot be a name fails to encode.
            raise ConnectFailed(f"no connection to {address}: {_reason(error)}", retryable=True) from error


def _literal(address: Address) -> list[AddressInfo] | None:
    """What the resolver would say of an IP address, without asking it."""
    try:
        ip = ipaddress.ip_address(address.host)
    except ValueError:
        return None
    if ip.version == 6:
        if ip.scope_id is not None:
            return None
        return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address.host, address.port, 0, 0))]
    return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address.host, address.port))]


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return str(error) or type(error).__name__
