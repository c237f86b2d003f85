"""Every wait on an origin: its name, its bound, its counter.

A wait without a bound is a leak with a delay, so each stage that an exchange can stand still in is listed
here and nowhere else. `Stage` is the label of the counter and of `OriginTimeout.stage`.

Not here: the timer that watches (`watch.py`); sizes (`limits.py`).
Units: seconds. A stage is switched off with `inf`.
Precision: stages from `write` on are watched by one coarse timer and may last longer than set: by a quarter
of the shortest of them, at most one second.
"""

from enum import StrEnum
from math import inf

import msgspec

from banish.tables import Metric


class Stage(StrEnum):
    """A place where an exchange can wait for the origin."""

    POOL_WAIT = "pool_wait"
    CONNECT = "connect"
    TLS_HANDSHAKE = "tls_handshake"
    WRITE = "write"
    FIRST_BYTE = "first_byte"
    BETWEEN_BYTES = "between_bytes"
    TOTAL = "total"
    IDLE = "idle"
    TUNNEL_IDLE = "tunnel_idle"


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How long each stage may last.

    The defaults are those of common reverse proxies (60 s for answers and silence) with a shorter connect, so
    that a second address gets its turn before a person gives up.
    """

    pool_wait_s: float = 10.0
    """For a connection to come free, once every one allowed is in use."""
    connect_s: float = 5.0
    """For the name to resolve and one address to take the TCP connection."""
    tls_handshake_s: float = 5.0
    """For the TLS handshake, after the TCP connection."""
    write_s: float = 30.0
    """For the origin to take more of the request, once the buffers on the way are full."""
    first_byte_s: float = 60.0
    """From the request sent (or an interim response) to the head of the next response whole."""
    between_bytes_s: float = 60.0
    """For more of the body, while someone waits for it."""
    total_s: float = 3600.0
    """From `fetch` called to the last byte of the response read."""
    idle_s: float = 55.0
    """How long a connection is kept for the next request. Below the 60 s at which many origins close."""
    tunnel_idle_s: float = 300.0
    """For a byte in either direction on a tunnel."""


def bound(wait_s: float) -> float | None:
    """For `asyncio.timeout`, which knows no infinity on uvloop."""
    return None if wait_s == inf else wait_s


ORIGIN_TIMEOUTS = Metric(
    "banish_origin_timeouts_total",
    "counter",
    "Waits on an origin that ran out, by the stage waited in; `idle` counts pooled connections let go.",
    ("stage",),
)
