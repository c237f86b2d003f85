"""The load: hits at a fixed rate, whether or not the answers keep up, and how long each answer took.

Requests fall due at even distances and go out on whichever connection is free; there are more connections than can
be busy, so a slow answer holds no other request back. Time runs from sending to the last byte.

Run: python load.py PORT RATE SECONDS URLS. Prints one JSON object: latencies in µs by percentile.
Linux only (epoll).
"""

import gc
import json
import random
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.hit import objects

CONNECTIONS: Final = 64
SIZE: Final = objects.SIZES[0]
DRAIN_S_MAX: Final = 5.0
PERCENTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
_FIELDS: Final = "Accept: */*\r\nAccept-Encoding: gzip, deflate, br\r\nUser-Agent: bench\r\n"


class Connection:
    """One keep-alive connection with at most one request in flight."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sent_at = 0.0
        self._held = b""

    def send(self, request: bytes) -> None:
        self._held = b""
        self._sent_at = time.perf_counter()
        self.socket.sendall(request)

    def received(self) -> float | None:
        """Take what has come; the time the answer took once it is whole."""
        self._held += self.socket.recv(65536)
        head, blank, body = self._held.partition(b"\r\n\r\n")
        if not blank or len(body) < SIZE:
            return None
        took_s = time.perf_counter() - self._sent_at
        if b"; hit" not in head or not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"not a hit:\n{head.decode('latin-1')}")
        return took_s


def run(port: int, rate: float, seconds: float, urls: int) -> dict[str, float]:
    """Percentiles of the time that hits took."""
    requests = [
        f"GET {objects.path(SIZE, number)} HTTP/1.1\r\nHost: {objects.HOST}\r\n{_FIELDS}\r\n".encode()
        for number in range(urls)
    ]
    connections = {opened.socket.fileno(): opened for opened in (Connection(port) for _ in range(CONNECTIONS))}
    ready, free, took_s = select.epoll(), deque(connections.values()), list[float]()
    for descriptor in connections:
        ready.register(descriptor, select.EPOLLIN)
    total, sent = int(rate * seconds), 0
    started = time.perf_counter()
    while len(took_s) < total:
        now = time.perf_counter() - started
        while sent < total and sent / rate <= now and free:
            free.popleft().send(random.choice(requests))
            sent += 1
        if now > seconds + DRAIN_S_MAX:
            raise RuntimeError(f"{sent - len(took_s)} answers did not come within {DRAIN_S_MAX} s of the end")
        for descriptor, _ in ready.poll(max(0.0, min(sent / rate - now, 0.1))):
            answered = connections[descriptor].received()
            if answered is not None:
                took_s.append(answered)
                free.append(connections[descriptor])
    took_s.sort()
    found = {name: round(took_s[min(total - 1, int(share * total))] * 1e6) for name, share in PERCENTILES.items()}
    return {"requests": total, **found}


if __name__ == "__main__":
    gc.disable()
    print(json.dumps(run(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))))
