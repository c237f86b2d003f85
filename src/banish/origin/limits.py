"""Every size and count that an origin, or the traffic to it, could push without end.

Not here: waits (`timeouts.py`). Units are in the names.
"""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The bounds of one origin group."""

    head_bytes_max: int = 65_536
    """The head of a response, and likewise its trailer section or a run of chunk extensions."""
    fields_max: int = 256
    """Field lines in a head or in a trailer section."""
    interims_max: int = 32
    """Interim (1xx) responses to one request."""
    read_ahead_bytes: int = 262_144
    """Body bytes held for a reader that is slower than the origin; then reading pauses."""
    connections_max: int = 256
    """Connections to one address, idle ones included."""
    idle_max: int = 64
    """Connections to one address that are kept for later."""
    waiting_max: int = 1024
    """Requests that wait for a connection to come free, over all addresses of the group."""
