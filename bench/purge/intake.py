"""How many targets a second one edge takes durably, in batches of a hundred over HTTP, and what hits lose meanwhile.

Rounds in turns: hits undisturbed; hits while batches come at the rate that is required; batches as fast as they are
acknowledged, with and without hits. Purges come from a process of its own (`python intake.py PORT …`), on several
keep-alive connections; each batch is sent when it is due, or, at full speed, when the one before is acknowledged.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import uvloop

from bench.hit import objects
from bench.hit.measure import Case, Load, Sample, compile_load, cpu_ns, prime, sample
from bench.hit.servers import Server, origin
from bench.purge import stored
from bench.purge.systems import Banish, running

TARGETS_PER_S: Final = 10_000
HITS_SHARE: Final = 0.8
BATCH: Final = 100
CONNECTIONS: Final = 8
HIT_CONNECTIONS: Final = 32
CASE: Final = Case(stored.SIZE, True)
REST_S: Final = 1.0
FASTEST: Final = 2000
"""Batches a second that no edge takes: so many are prepared where no rate is set."""

ALONE_S_MAX: Final = 1.0
"""At full speed no longer than this: stamps are kept for a minute, and the table holds a million."""
MIXES: Final = {
    "tags": ("tag",),
    "mixed": ("tag", "url", "url", "prefix"),
    "near": ("tag", "url", "url", "near"),
}
"""Kinds of the targets of a batch, in turns. Nothing that they name is stored, as with most purges on most edges; but
the prefixes of `near` begin as the objects do, so that each of these is matched again after each batch."""

JUDGED: Final = ("tags", "mixed")
"""Those for which the share of hits is required; the other one is told."""


# Sending


def batch(kinds: tuple[str, ...], number: int) -> bytes:
    """The request with one batch; no two have a target in common."""
    values = {
        "tag": lambda n: {"tag": f"product-{n}"},
        "url": lambda n: {"url": f"http://{objects.HOST}/products/{n}"},
        "prefix": lambda n: {"prefix": f"http://{objects.HOST}/categories/{n}/"},
        "near": lambda n: {"prefix": f"http://{objects.HOST}{objects.path(stored.SIZE, n)}"},
    }
    targets = [values[kinds[at % len(kinds)]](number * BATCH + at) for at in range(BATCH)]
    body = json.dumps({"targets": targets}).encode()
    head = "POST /purges HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def send(port: int, mix: str, rate: float, seconds: float) -> dict[str, float]:
    """Send batches, `rate` a second (0: as fast as they are acknowledged); targets a second and how long each took."""
    first = time.time_ns() // 1000
    prepared = asyncio.Queue[bytes]()
    for number in range(int((rate or FASTEST) * seconds) + CONNECTIONS):
        prepared.put_nowait(batch(MIXES[mix], first + number))
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
    took_s: list[float] = []
    print("ready", flush=True)
    began = time.monotonic()
    due = iter(range(1 << 62))

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not prepared.empty():
            at = began + next(due) / rate if rate else time.monotonic()
            if at - began >= seconds:
                return
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            writer.write(prepared.get_nowait())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 202"):
                raise RuntimeError(head.decode())
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(lengths[0].partition(b":")[2]))
            took_s.append(time.monotonic() - at)

    await asyncio.gather(*[work(*pair) for pair in streams])
    ended = time.monotonic() - began
    took_s.sort()
    return {
        "targets_per_s": BATCH * len(took_s) / ended,
        "p50_ms": 1000 * took_s[len(took_s) // 2],
        "p99_ms": 1000 * took_s[min(len(took_s) - 1, int(0.99 * len(took_s)))],
    }


# Measuring


@contextlib.contextmanager
def purging(port: int, mix: str, rate: float, seconds: float, cpu: int) -> Iterator[dict[str, float]]:
    """Batches meanwhile; afterwards, what became of them."""
    command = [sys.executable, str(Path(__file__)), str(port), mix, str(rate), str(seconds)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {cpu})
    )
    assert process.stdout is not None
    process.stdout.readline()  # it is ready
    sent: dict[str, float] = {}
    yield sent
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("not all batches were taken")
    sent.update(json.loads(out))


def measure(options: argparse.Namespace, scratch: Path, cpu: int, load_cpu: int) -> dict[str, Any]:
    """The whole measurement."""
    rounds: list[dict[str, Any]] = []
    load = Load(compile_load(scratch), load_cpu, HIT_CONNECTIONS, options.urls, awake=True)
    with contextlib.ExitStack() as stack:
        origin_port = stack.enter_context(origin(load_cpu, scratch))
        edge = stack.enter_context(running(Banish(scratch / "data", origin_port, cpu=cpu)))
        server = edge.server()
        prime(server, options.urls)
        load.run(server, CASE, seconds=min(1.0, options.seconds))
        for number in range(options.rounds):
            for mix in MIXES if number % 2 == 0 else reversed(MIXES):
                rounds.append(_round(options, load, server, edge.purge_port, mix, load_cpu))
                print(json.dumps(rounds[-1]), flush=True)
    return {"rounds": rounds, "seconds": options.seconds}


def _round(options: argparse.Namespace, load: Load, server: Server, port: int, mix: str, cpu: int) -> dict[str, Any]:
    """Hits alone, hits and batches at the rate, batches alone; hits alone again."""
    before = sample(load, server, CASE, options.seconds)
    rate = TARGETS_PER_S / BATCH * 1.02
    with purging(port, mix, rate, options.seconds + 0.2, cpu) as paced:
        during = sample(load, server, CASE, options.seconds)
    time.sleep(min(REST_S, options.seconds))
    used_ns = cpu_ns(server)
    alone_s = min(options.seconds, ALONE_S_MAX)
    with purging(port, mix, 0, alone_s, cpu) as alone:
        pass
    used_ns = cpu_ns(server) - used_ns
    time.sleep(min(REST_S, options.seconds))
    after = sample(load, server, CASE, options.seconds)
    undisturbed = (before.rate + after.rate) / 2
    return {
        "mix": mix,
        "undisturbed": _told(before, after),
        "during": _told(during),
        "hits_share": during.rate / undisturbed,
        "paced": paced,
        "alone": {**alone, "cpu_us_a_target": used_ns / 1000 / (alone["targets_per_s"] * alone_s)},
    }


_TOLD: Final = ("rate", "cpu_us", "p99_us", "load_share")


def _told(*samples: Sample) -> dict[str, float]:
    return {name: sum([getattr(one, name) for one in samples]) / len(samples) for name in _TOLD}


def _middle(found: dict[str, Any], mix: str, *path: str) -> float:
    values = []
    for one in found["rounds"]:
        if one["mix"] == mix:
            for name in path:
                one = one[name]
            values.append(one)
    return float(median(values))


def passes(found: dict[str, Any]) -> bool:
    """Whether it is as it should be."""
    return all(
        _middle(found, mix, "paced", "targets_per_s") >= TARGETS_PER_S
        and _middle(found, mix, "hits_share") >= HITS_SHARE
        for mix in JUDGED
    )


def page(found: dict[str, Any]) -> list[str]:
    """The result for people."""
    lines = [
        "**"
        + "; ".join(
            f"{mix}: {_middle(found, mix, 'paced', 'targets_per_s'):,.0f} targets a second, hits at"
            f" {_middle(found, mix, 'hits_share'):.0%} of their undisturbed rate"
            for mix in MIXES
        )
        + f"** (at least {TARGETS_PER_S:,}, and {HITS_SHARE:.0%}).",
        "",
        "| batches | targets/s with hits | acknowledged p50 ms | p99 ms | hits/s alone | hits/s meanwhile | share |"
        " each round | hits p99 µs alone | meanwhile | targets/s without hits | CPU µs a target |",
        "|---|" + "---:|" * 6 + "---|" + "---:|" * 4,
    ]
    for mix in MIXES:
        each = " ".join(f"{one['hits_share']:.2f}" for one in found["rounds"] if one["mix"] == mix)
        cells = [f"{_middle(found, mix, 'paced', 'targets_per_s'):,.0f}"]
        cells += [f"{_middle(found, mix, 'paced', name):.1f}" for name in ("p50_ms", "p99_ms")]
        cells += [f"{_middle(found, mix, name, 'rate'):,.0f}" for name in ("undisturbed", "during")]
        cells += [f"{_middle(found, mix, 'hits_share'):.0%}", each]
        cells += [f"{_middle(found, mix, name, 'p99_us'):,.0f}" for name in ("undisturbed", "during")]
        cells += [f"{_middle(found, mix, 'alone', 'targets_per_s'):,.0f}"]
        cells += [f"{_middle(found, mix, 'alone', 'cpu_us_a_target'):.1f}"]
        lines.append(f"| {mix} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"{CONNECTIONS} connections with batches of {BATCH}; {HIT_CONNECTIONS} connections with hits in a closed loop:",
        "they take all that the edge has left. The edge, its log and its disk store have one CPU together, both loads",
        "the other.",
        "`mixed` is a quarter tags, half URLs, a quarter prefixes. `near`, told and not judged, has other prefixes,",
        "which begin as the objects do: after each batch, each hit is matched again.",
    ]
    return lines


async def _main() -> None:
    port, mix, rate, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    print(json.dumps(await send(port, mix, rate, seconds)))


if __name__ == "__main__":
    uvloop.run(_main())
