"""How long from the start of the process to the first hit, with many stored responses on disk.

After `kill -9` under hits and purges, and after a clean stop, in turns. "First hit" is the first answer, to a
client that has been trying since the start, for a URL drawn at random from those stored, that is a hit. The system's
page cache is warm, as it is after a crash or an upgrade of the process; after a reboot it is not.

    start ─▶ interpreter ─▶ imports ─▶ log ─▶ index ─▶ edge ─▶ listening ─▶ first hit

The parts come from starts of their own (`python restart.py MARKS serve …` notes when each was reached).
"""

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

STARTED: Final = "BENCH_PURGE_STARTED"
"""The variable with the moment of the start, by the monotonic clock."""

LIMIT_S: Final = 2.0
TRIES_S: Final = 0.002
WAIT_S_MAX: Final = 60.0
PARTS: Final = ("interpreter", "imports", "log", "index", "edge", "listening", "first hit")


def measure(options: argparse.Namespace, scratch: Path, cpu: int, load_cpu: int) -> dict[str, Any]:
    """The whole measurement."""
    from bench.purge.effect import filled

    size = options.sizes[-1]
    place = filled(options, scratch, size)
    found: dict[str, list[float]] = {"clean stop": [], "kill -9": [], "kill -9, unsynced": []}
    cpu_s: dict[str, list[float]] = {how: [] for how in found}
    parts: list[dict[str, Any]] = []
    for _ in range(options.starts):
        for how in found:
            took_s, used_s, marks = _once(place, size, cpu, how)
            found[how].append(took_s)
            cpu_s[how].append(used_s)
            parts.append({**marks, "how": how})
            print(how, f"{took_s:.3f}", json.dumps({name: round(at, 3) for name, at in marks.items()}), flush=True)
    return {"stored": size, "seconds": found, "cpu_s": cpu_s, "parts": parts}


def _once(place: Path, size: int, cpu: int, how: str) -> tuple[float, float, dict[str, float]]:
    """Start twice: plainly, and with marks; each ended in this way before the next start."""
    plain, cpu_s = _start(place, size, cpu, how, None)
    marks = place.parent / "marks.json"
    with_marks, _ = _start(place, size, cpu, how, marks)
    reached = {**json.loads(marks.read_text()), "first hit": with_marks}
    marks.unlink()
    return plain, cpu_s, reached


def _start(place: Path, size: int, cpu: int, how: str, marks: Path | None) -> tuple[float, float]:
    """End an edge in this way, then start it; how many seconds to the first hit, and how much CPU time."""
    from bench.hit.measure import cpu_ns
    from bench.purge.systems import running

    edge = _edge(place, cpu, None)
    with running(edge):
        _ended(edge, size, how)
    again = _edge(place, cpu, marks)
    again.began = time.monotonic()
    again.launch()
    try:
        _first_hit(again.port, size)
        return float(time.monotonic() - again.began), cpu_ns(again.server()) / 1e9
    finally:
        again.stop()


def _ended(edge: Any, size: int, how: str) -> None:
    from bench.purge.asking import Admin

    _first_hit(edge.port, size)
    if how != "clean stop":
        _busy(edge.port, Admin(edge.purge_port), size, seconds=0.5 if how.endswith("unsynced") else 0.0)
        edge.kill()


def _busy(port: int, admin: Any, size: int, seconds: float) -> None:
    """Hits and purges for a while, so that there is something to recover."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        admin.purge(*[{"tag": f"nothing-{random.random()}"} for _ in range(100)])
        _ask(port, size)


def _first_hit(port: int, size: int) -> None:
    """Try until a stored response is answered as a hit. Raises RuntimeError if it is a miss, or nobody answers."""
    end = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            head = _ask(port, size)
            if "; hit" not in head:
                raise RuntimeError(f"what is stored was not a hit:\n{head}")
            return
        time.sleep(TRIES_S)
    raise RuntimeError("nobody answers")


def _ask(port: int, size: int) -> str:
    from bench.hit import objects
    from bench.purge import stored

    target = objects.path(stored.SIZE, random.randrange(size))
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S_MAX) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {objects.HOST}\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while piece := connection.recv(65536):
            received += piece
    if not received:
        raise ConnectionError
    return received.partition(b"\r\n\r\n")[0].decode("latin-1")


def _edge(place: Path, cpu: int, marks: Path | None) -> Any:
    from bench.purge.systems import Banish

    class Marked(Banish):
        """An edge that notes when it has got how far, if asked to."""

        began = 0.0

        def command(self) -> list[str]:
            plain = super().command()
            if marks is None:
                return plain
            os.environ[STARTED] = repr(self.began)
            return [sys.executable, str(Path(__file__)), str(marks), *plain[3:]]

    return Marked(place, 1, cpu=cpu)


def passes(found: dict[str, Any]) -> bool:
    """Whether it is as it should be."""
    return all(max(seconds) < LIMIT_S for seconds in found["seconds"].values())


def page(found: dict[str, Any]) -> list[str]:
    """The result for people."""
    slowest = max(max(seconds) for seconds in found["seconds"].values())
    lines = [
        f"**At most {slowest:.2f} s to the first hit with {found['stored']:,} stored responses** (less than"
        f" {LIMIT_S:g} s).",
        "",
        "| after | median s | CPU s | each start |",
        "|---|---:|---:|---|",
    ]
    for how, seconds in found["seconds"].items():
        cpu_s, each = median(found["cpu_s"][how]), " ".join(f"{one:.2f}" for one in seconds)
        lines.append(f"| {how} | {median(seconds):.2f} | {cpu_s:.2f} | {each} |")
    lines += ["", "| seconds until, median | " + " | ".join(PARTS) + " |", "|---|" + "---:|" * len(PARTS)]
    for how in found["seconds"]:
        of = [one for one in found["parts"] if one["how"] == how]
        lines.append(f"| {how} | " + " | ".join(f"{median([one[part] for one in of]):.3f}" for part in PARTS) + " |")
    lines += [
        "",
        "The parts are from starts of their own, each counted from the start of the process: `log` is when the log of",
        "purges was open, `index` when the index of the store was, `edge` when the purges were recovered, `listening`",
        "when connections were taken. `unsynced`: killed while purges came at full speed.",
    ]
    return lines


def _marked(marks: Path) -> None:
    """Be `banish`, and note when it has got how far."""
    started, reached = float(os.environ[STARTED]), {"interpreter": time.monotonic()}
    from banish.cli import main, run  # noqa: F401 (imports most of the rest)
    from banish.edge import datadir
    from banish.proxy.serve import Edge
    from banish.store.log import PurgeLog

    reached["imports"] = time.monotonic()
    patched: Any = datadir
    open_log, open_index, start = PurgeLog.open, patched.open_index, Edge.start

    def opened_log(*args: Any, **named: Any) -> Any:
        opened = open_log(*args, **named)
        reached["log"] = time.monotonic()
        return opened

    def opened_index(*args: Any, **named: Any) -> Any:
        opened = open_index(*args, **named)
        reached["index"] = time.monotonic()
        return opened

    async def begun(edge: Edge) -> None:
        reached["edge"] = time.monotonic()
        await start(edge)
        reached["listening"] = time.monotonic()
        marks.write_text(json.dumps({name: at - started for name, at in reached.items()}))

    PurgeLog.open = opened_log  # type: ignore[method-assign]
    Edge.start = begun  # type: ignore[method-assign, assignment]
    patched.open_index = opened_index
    main.main()


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    target = Path(sys.argv[1])
    del sys.argv[1]
    _marked(target)
