"""Sizes, durations and addresses as people write them.

Units: bytes and seconds. `KiB`, `MiB`, `GiB`, `TiB` are powers of 1024; `kB`, `MB`, `GB`, `TB` powers of
1000. Not here: which settings take them (`config.py`).
"""

import re
from typing import NamedTuple

_BYTES = {
    "": 1, "b": 1,
    "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4,
    "kib": 1024, "mib": 1024**2, "gib": 1024**3, "tib": 1024**4,
    "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4,
}  # fmt: skip
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

_UNIT = "ms|s|sec|seconds?|m|min|minutes?|h|hours?|d|days?|w|weeks?"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_SPAN_PART = re.compile(rf"(\d+(?:\.\d+)?)\s*({_UNIT})(?![A-Za-z])\s*")
_SPAN = re.compile(rf"(?:{_SPAN_PART.pattern})+")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Address(NamedTuple):
    """Where to listen. `host` is None for every address of the machine, IPv4 and IPv6."""

    host: str | None
    port: int

    def __str__(self) -> str:
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Can only this machine reach it?"""
        return self.host is not None and (
            self.host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", self.host) is not None
        )

    def overlaps(self, other: "Address") -> bool:
        """Can the two not be listened on at once?"""
        if not self.port or self.port != other.port:
            return False
        hosts = {self.host, other.host}
        if len(hosts) == 1 or None in hosts:
            return True
        families = {":" in host for host in hosts if host is not None}
        return len(families) == 1 and not hosts.isdisjoint(("0.0.0.0", "::"))


def parse_bytes(text: str) -> int:
    """`"256MiB"` → 268435456. Raises ValueError with what would be right."""
    match = _SIZE.fullmatch(text.strip())
    factor = _BYTES.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError('write bytes as a number, or with a unit, such as "256MiB"')
    return int(float(match[1]) * factor)


def parse_duration(text: str) -> float:
    """`"1h 30m"` → 5400.0. A bare number is seconds. Raises ValueError with what would be right."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    if _SPAN.fullmatch(text) is None:
        raise ValueError('write seconds as a number, or with a unit, such as "90s", "10m", "1h 30m" or "7d"')
    parts = _SPAN_PART.findall(text)
    return sum(float(number) * _SECONDS[unit if unit == "ms" else unit[0]] for number, unit in parts)


def parse_address(text: str) -> Address:
    """`127.0.0.1:8080`, `[::1]:8080`, `:8080` or `8080`. Raises ValueError with what would be right."""
    right = 'write HOST:PORT, such as "127.0.0.1:8080", "[::1]:8080", or ":8080" for all addresses'
    host, _, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(right)
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(right)
    if re.fullmatch(r"[A-Za-z0-9.:_%-]*", host) is None:
        raise ValueError(right)
    return Address(host or None, int(port))


def format_bytes(count: int) -> str:
    """The shortest exact writing: 268435456 → `256MiB`, 1000 → `1000`."""
    for unit, factor in (("TiB", 1024**4), ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= factor and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)
