"""The same beside Varnish 7 with xkey, Varnish with bans, and nginx with ngx_cache_purge, all from Debian's packages.

    latency   from sending a purge to its acknowledgement, one at a time, by URL and by tags that many objects have
    first     the first hits after many purges that match nothing, and later ones, beside those before
    crash     what is stored and what is purged, after a clean stop and after kill -9

All are filled over HTTP from one origin. What a system cannot do is left out: nginx knows no tags.
"""

import argparse
import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.hit import objects
from bench.hit.measure import Case, Load, Sample, compile_load, sample
from bench.purge import stored
from bench.purge.systems import START_S_MAX, SYSTEMS, Origin, System, Target, available, running

CASE: Final = Case(stored.SIZE, True)
FILLERS: Final = 16
DEPTH: Final = 16
"""Requests on their way on one connection during the fill."""

BY_URL: Final = 200
BY_TAG: Final = {10: 50, 1000: 5, 100_000: 1}
"""Purges timed, by how many objects the tag has. The largest tag there is takes all that is left."""

HIT_CONNECTIONS: Final = 32
PURGED_BEFORE_CRASH: Final = 100
AFTER_CRASH: Final = 1000
SECONDS: Final = 2.0


class Line:
    """One keep-alive connection, one request after the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> tuple[float, str]:
        """How many seconds until the answer was whole, and its head."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=START_S_MAX)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        self._socket.sendall(request)
        received = b""
        while not (whole := _whole(received)):
            piece = self._socket.recv(1 << 20)
            if not piece:
                raise ConnectionError(f"closed after {received!r}")
            received += piece
        took_s = time.perf_counter() - began
        head = received[:whole].decode("latin-1")
        if "connection: close" in head.lower():
            self.close()
        return took_s, head

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _whole(received: bytes) -> int:
    """The length of the head if the answer has come whole, else 0."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return 0
    length = re.search(rb"\r\ncontent-length: *(\d+)", received[:end], re.IGNORECASE)
    return end if len(received) >= end + 4 + (int(length[1]) if length else 0) else 0


def get(number: int) -> bytes:
    """The request for one object."""
    return f"GET {objects.path(stored.SIZE, number)} HTTP/1.1\r\nHost: {objects.HOST}\r\n\r\n".encode()


def by_url(number: int) -> Target:
    """The purge of one object by its URL."""
    return Target("url", stored.url(number).removeprefix("http://"))


def fill(port: int, count: int, depth: int = DEPTH) -> float:
    """Ask for every object once, so that it is stored; how many seconds that took."""
    began = time.monotonic()
    lines = [socket.create_connection(("127.0.0.1", port), timeout=START_S_MAX) for _ in range(FILLERS)]
    step = FILLERS * depth
    for first in range(0, count, step):
        for at, line in enumerate(lines):
            numbers = range(first + at * depth, min(first + (at + 1) * depth, count))
            line.sendall(b"".join(map(get, numbers)))
        for at, line in enumerate(lines):
            wanted = len(range(first + at * depth, min(first + (at + 1) * depth, count)))
            _read(line, wanted)
    for line in lines:
        line.close()
    return time.monotonic() - began


def _read(line: socket.socket, answers: int) -> None:
    """Read so many answers with a body of the usual size."""
    received = b""
    for _ in range(answers):
        while (end := received.find(b"\r\n\r\n")) < 0 or len(received) < end + 4 + stored.SIZE:
            piece = line.recv(1 << 20)
            if not piece:
                raise ConnectionError(f"closed after {received[:300]!r}")
            received += piece
        if not received.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(received[:300].decode("latin-1"))
        received = received[end + 4 + stored.SIZE :]


def measure(options: argparse.Namespace, scratch: Path, cpu: int, load_cpu: int) -> dict[str, Any]:
    """The whole measurement."""
    names = available(SYSTEMS)
    if not available(["nginx"]):
        raise SystemExit("the origin of this part is nginx")
    found: dict[str, Any] = {"latency": {}, "fill_s": {}, "hits": {}, "crash": {}, "bans": options.bans}
    with running(Origin(scratch / "origin", cpu=load_cpu)) as origin:
        for size in options.rival_sizes:
            for name in names:
                place = scratch / f"{name}-{size}"
                place.mkdir()
                place.chmod(0o755)
                with running(SYSTEMS[name](place / "data", origin.port, cpu=cpu)) as system:
                    found["fill_s"].setdefault(name, {})[size] = fill(system.port, size)
                    found["latency"].setdefault(name, {})[size] = _latencies(system, size)
                print(f"{name}: {size:,} stored and purged", flush=True)
        load = Load(compile_load(scratch), load_cpu, HIT_CONNECTIONS, options.urls)
        found["hits"] = _hits(names, options, scratch, origin.port, cpu, load)
        for name in names:
            for how in ("clean stop", "kill -9"):
                found["crash"].setdefault(name, {})[how] = _crash(name, how, options, scratch, origin.port, cpu)
    return found


# Latency


def _latencies(system: System, size: int) -> dict[str, list[float]]:
    """Seconds to the acknowledgement, by what was purged. Each purge is seen to have had its effect."""
    found: dict[str, list[float]] = {}
    purger, client = Line(system.purge_port), Line(system.port)
    count = min(BY_URL, size // 20)
    found["url"] = [_purge(system, purger, client, by_url(number), number) for number in range(count)]
    if "tag" in system.kinds:
        for share, times in BY_TAG.items():
            if share > size:
                continue
            first = 0 if share == max(tag for tag in BY_TAG if tag <= size) else size // 2
            taken = [first + share * at for at in range(times) if first + share * (at + 1) <= size]
            found[f"tag of {share:,}"] = [
                _purge(system, purger, client, Target("tag", stored.tag(share, number)), number + share - 1)
                for number in taken
            ]
    purger.close()
    client.close()
    return found


def _purge(system: System, purger: Line, client: Line, target: Target, number: int) -> float:
    took_s, head = purger.ask(system.request([target]))
    if not head.startswith(("HTTP/1.1 200", "HTTP/1.1 202")):
        raise RuntimeError(f"{system.name}: {target}: {head}")
    _, head = client.ask(get(number))
    if system.hit in head:
        raise RuntimeError(f"{system.name}: {target} was acknowledged and had no effect:\n{head}")
    return took_s


# Hits after purges


def _hits(
    names: list[str], options: argparse.Namespace, scratch: Path, origin_port: int, cpu: int, load: Load
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        systems = []
        for name in names:
            place = scratch / f"{name}-hits"
            place.mkdir()
            place.chmod(0o755)
            systems.append(stack.enter_context(running(SYSTEMS[name](place / "data", origin_port, cpu=cpu))))
            for _ in range(2):
                fill(systems[-1].port, options.urls)
            load.run(systems[-1].server(), CASE, seconds=0.5)
        before = _samples(systems, load, options)
        purges_s = {system.name: _purges(system, options.bans) for system in systems}
        first = {system.name: _first(system, load, options.urls) for system in systems}
        after = _samples(systems, load, options)
        for system in systems:
            name = system.name
            found[name] = {
                "before": [one._asdict() for one in before[name]],
                "purges_per_s": options.bans / purges_s[name],
                "first_cpu_us": first[name],
                "after": [one._asdict() for one in after[name]],
                "bans": _bans(system),
            }
    return found


def _samples(systems: list[System], load: Load, options: argparse.Namespace) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {system.name: [] for system in systems}
    for number in range(min(options.rounds, 3)):
        for system in systems if number % 2 == 0 else reversed(systems):
            found[system.name].append(sample(load, system.server(), CASE, min(SECONDS, options.seconds)))
    return found


def _first(system: System, load: Load, urls: int) -> float:
    """CPU microseconds of one hit, over as many hits as there are objects, each of them asked for once."""
    from bench.hit.measure import cpu_ns

    used_ns = cpu_ns(system.server())
    fill(system.port, urls, depth=1)
    return (cpu_ns(system.server()) - used_ns) / 1000 / urls


def _purges(system: System, count: int) -> float:
    """Purge what does not exist, so many times; the seconds it took."""
    line = Line(system.purge_port)
    began = time.monotonic()
    for number in range(count):
        target = (
            Target("tag", f"gone-{number}") if "tag" in system.kinds else Target("url", f"{objects.HOST}/gone/{number}")
        )
        line.ask(system.request([target]))
    line.close()
    return time.monotonic() - began


def _bans(system: System) -> int | None:
    """Bans that Varnish still holds."""
    if not system.name.startswith("varnish"):
        return None
    command = ["varnishstat", "-n", str(system.data), "-1", "-f", "MAIN.bans"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(done.stdout.split()[1]) if done.returncode == 0 and done.stdout else None


# Ends


def _crash(
    name: str, how: str, options: argparse.Namespace, scratch: Path, origin_port: int, cpu: int
) -> dict[str, Any]:
    """Fill, purge some, end, start again: what is there of that which was purged, and of the rest."""
    count = min(AFTER_CRASH, options.rival_sizes[0])
    purged = count // 10 if count < AFTER_CRASH else PURGED_BEFORE_CRASH
    place = scratch / f"{name}-{how.replace(' ', '')}"
    place.mkdir()
    place.chmod(0o755)
    system = SYSTEMS[name](place / "data", origin_port, cpu=cpu)
    with running(system):
        for _ in range(2):
            fill(system.port, count)
        line = Line(system.purge_port)
        for number in range(purged):
            line.ask(system.request([by_url(number)]))
        line.close()
        if how == "kill -9":
            system.kill()
        else:
            system.stop()
        began = time.monotonic()
        system.start()
        client = Line(system.port)
        heads = [client.ask(get(number))[1] for number in range(1)]
        took_s = time.monotonic() - began
        heads += [client.ask(get(number))[1] for number in range(1, count)]
        client.close()
    hits = [system.hit in head for head in heads]
    return {
        "purged": purged,
        "purged_seen": sum(hits[:purged]),
        "others": count - purged,
        "others_seen": sum(hits[purged:]),
        "first_answer_s": took_s,
    }


def passes(found: dict[str, Any]) -> bool:
    """Whether it is as it should be: of banish nothing purged comes back, and all else does."""
    crash = found["crash"]["banish"].values()
    return all(one["purged_seen"] == 0 and one["others_seen"] == one["others"] for one in crash)


def _ms(values: Iterable[float]) -> str:
    values = list(values)
    return f"{1000 * median(values):.2f} ({1000 * max(values):.2f})" if values else ""


def page(found: dict[str, Any]) -> list[str]:
    """The result for people."""
    names = list(found["latency"])
    lines = ["## Until a purge is acknowledged", "", "Milliseconds, median (longest).", ""]
    lines += ["| stored | purged by | " + " | ".join(names) + " |", "|---:|---|" + "---:|" * len(names)]
    for size in next(iter(found["latency"].values())):
        kinds = dict.fromkeys([kind for name in names for kind in found["latency"][name][size]])
        for kind in kinds:
            cells = [_ms(found["latency"][name][size].get(kind, ())) for name in names]
            lines.append(f"| {size:,} | {kind} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "banish answers when the purge is on the disk, synced; the others when it is in effect, or begun. xkey removes",
        "all objects of the tag before it answers. The fill took "
        + "; ".join(
            f"{name} " + ", ".join(f"{s:.1f} s for {size:,}" for size, s in found["fill_s"][name].items())
            for name in names
        )
        + ".",
        "",
        f"## Hits after {found['bans']:,} purges that match nothing",
        "",
        "| system | CPU µs a hit before | each object's first hit after | × before | later hits | × before |"
        " purges/s, one at a time | bans held at the end |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, one in found["hits"].items():
        before = median([sample["cpu_us"] for sample in one["before"]])
        after = median([sample["cpu_us"] for sample in one["after"]])
        bans = "" if one["bans"] is None else f"{one['bans']:,}"
        lines.append(
            f"| {name} | {before:.2f} | {one['first_cpu_us']:.2f} | {one['first_cpu_us'] / before:.2f} | {after:.2f} |"
            f" {after / before:.2f} | {one['purges_per_s']:,.0f} | {bans} |"
        )
    lines += [
        "",
        "Purges by tag; nginx: by URL.",
        "",
        "## What is left",
        "",
        "| system | ended by | purged before | seen again | not purged | seen again | first answer after s |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, by in found["crash"].items():
        for how, one in by.items():
            lines.append(
                f"| {name} | {how} | {one['purged']:,} | {one['purged_seen']:,} | {one['others']:,} |"
                f" {one['others_seen']:,} | {one['first_answer_s']:.2f} |"
            )
    return lines
