"""Connections that a closed session leaves behind.

A peer that dials just when a session closes may end up with a link that nobody owns: the handshake is carried on after
the session has gone, the connection stays open, keep-alives and all, and the peer waits for ever on a link that is
deaf (zenoh 1.10.2: 3 of 40 members that joined while another edge reopened; ADR 15). So once a session is closed, every
connection of this process on the ports that it listened on is cut; the peer then dials anew.

Not here: closing (`zenoh_sessions.py`).
Invariant: connections on other ports, and those of other processes, are left alone.
"""

import contextlib
import os
import socket
from collections.abc import Collection


def cut(ports: Collection[int]) -> int:
    """Cut the connections of this process that were accepted on these ports; how many there were. Takes about 5 µs for
    each file that is open.
    """
    found = 0
    for name in os.listdir("/dev/fd") if ports else ():
        with contextlib.suppress(OSError):  # it is closed by now
            # A second descriptor of the same file: whoever owns the first may close it meanwhile.
            found += _cut(os.dup(int(name)), ports)
    return found


def _cut(descriptor: int, ports: Collection[int]) -> bool:
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:  # it is no socket
        os.close(descriptor)
        return False
    with connection, contextlib.suppress(OSError):  # it listens, or its other end has gone
        if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getsockname()[1] in ports:
            connection.getpeername()
            connection.shutdown(socket.SHUT_RDWR)
            return True
    return False
