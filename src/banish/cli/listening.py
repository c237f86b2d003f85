"""Can the addresses of a configuration be listened on? Asked before anything is started, and answered in
words.

Not here: the listeners themselves (`proxy/serve.py`). Between this look and theirs an address may be taken;
then the start fails with the same words.
"""

import errno
import socket
from collections.abc import Iterator

from banish.edge.config import Config
from banish.edge.units import Address, parse_address
from banish.errors import Problem


def listening_problems(config: Config) -> Iterator[Problem]:
    """What stands in the way of listening, address by address."""
    for listener in config.listen:
        address = parse_address(listener.address)
        if (error := try_address(address)) is not None:
            yield explain_failure("--listen", address, error)
    if config.admin.listen != "off":
        address = parse_address(config.admin.listen)
        if (error := try_address(address)) is not None:
            yield explain_failure("--admin", address, error)


def try_address(address: Address) -> OSError | None:
    """Bind and let go. The error, if it cannot be done."""
    try:
        found = socket.getaddrinfo(
            address.host,
            address.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV,
        )
        for family, kind, protocol, _, name in found:
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                trial.bind(name)
                trial.listen(1)
    except OSError as error:
        # A machine without IPv6 is no reason not to listen on all of IPv4.
        return None if address.host is None and error.errno == errno.EAFNOSUPPORT else error
    return None


def explain_failure(flag: str, address: Address, error: OSError) -> Problem:
    """Why an address cannot be listened on, and what to do."""
    what, right = f"{address} cannot be listened on: {error.strerror or error}", ""
    if error.errno == errno.EADDRINUSE:
        what = f"{address} is in use by another process"
        right = f"stop it (`ss -ltnp 'sport = :{address.port}'` names it), or choose another port with {flag}"
    elif error.errno in (errno.EACCES, errno.EPERM):
        what = f"{address} is a privileged port"
        right = (
            f"choose a port from 1024 with {flag}, or allow it: "
            'sudo setcap cap_net_bind_service=+ep "$(readlink -f .venv/bin/python)", '
            "or AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit"
        )
    elif error.errno == errno.EADDRNOTAVAIL:
        what = f"{address.host} is not an address of this machine"
        right = f"`ip addr` lists them; {flag} :{address.port} takes them all"
    elif isinstance(error, socket.gaierror):
        what = f"{address.host} is not a known name"
    return Problem(flag, None, "", what, right)
