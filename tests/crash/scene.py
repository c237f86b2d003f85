"""One data directory and the edges that live and die on it, under load.

    scene.start()      an edge on the data as they are; every state asked for once; everybody goes to work
    ...                something happens (`kinds.py`)
    scene.kill()       or cut_power, or stop
    scene.inspect()    the log and the store that it left

Not here: what happens, and what may be missing afterwards (`kinds.py`).
"""

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from banish.store.check import Fault
from tests.crash.broken import BROKEN
from tests.crash.checks import History, look_through
from tests.crash.disks import PlainDisk
from tests.crash.load import Load
from tests.crash.world import World
from tests.processes import WAIT_S, EdgeProcess, free_port, spawn

SETTINGS = {
    "log.access": "off",
    "memory.budget_bytes": "1MiB",
    "memory.body_memory_bytes": "64KiB",
    "purge.stamp_min_age_s": "0.3",
    "purge.undo_window_s": "0.5",
    "purge.retention_bytes": "1MiB",
}
"""Little memory, so that much comes from disk; stamps forgotten and the log trimmed soon."""


class Scene:
    """What goes on in one data directory."""

    def __init__(
        self, world: World, load: Load, disk: PlainDisk, *, module: str = "banish.cli.main", broken: str = ""
    ) -> None:
        self.world = world
        self.load = load
        self.disk = disk
        self.draw = world.draw
        self.edge: EdgeProcess | None = None
        self.emptied: Counter[str] = Counter()
        """Why edges emptied their store when they started, after the first."""
        self._module = "tests.crash.broken" if broken else module
        self._extra = disk.environment | {BROKEN: broken}
        self._starts = 0

    def launch(self) -> EdgeProcess:
        """An edge, not yet waited for."""
        port, admin_port = free_port(), free_port()
        where = ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin_port}", "--data", str(self.disk.data)]
        where += ["--origin", f"http://127.0.0.1:{self.load.origin_port}"]
        for name, value in SETTINGS.items():
            where += ["--set", f"{name}={value}"]
        process = spawn("serve", *where, extra=self._extra, module=self._module)
        self.edge = EdgeProcess(process, port, admin_port)
        return self.edge

    def start(self) -> EdgeProcess:
        """Serving, and everything asked for once: half of the time before anybody else comes."""
        edge = self.launch()
        edge.err.wait_for("curl -i ")
        self._starts += 1
        for why, count in _emptied(edge):
            if self._starts > 1:
                self.emptied[why] += count
                self.world.note(f"the store was emptied: {why}")
        self.world.note("an edge is started")
        self.load.aim(edge.port, edge.admin_port, work=self.draw.random() < 0.5)
        found = self.load.round_up()
        self.world.counts["warm hits expected"] += found.expected
        self.world.counts["warm hits"] += found.warm
        self.load.work()
        return edge

    def until_acknowledged(self, count: int) -> None:
        """Wait for so many purges more."""
        had, end = len(self.world.acknowledged), time.monotonic() + 2 * WAIT_S
        while len(self.world.acknowledged) < had + count:
            assert time.monotonic() < end, "no purge is taken"
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL, amid the work."""
        self.load.tolerate(True)
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, amid the work."""
        self.load.tolerate(True)
        self._end(signal.SIGTERM)

    def cut_power(self) -> None:
        """What the edge had not synced is lost."""
        self.load.tolerate(True)
        self._end(signal.SIGKILL)
        self.disk.cut()
        self.disk.restore()
        self.world.note("the power was cut")

    def cut_disk(self) -> None:
        """The disk goes from under a working edge. No sync may be under way meanwhile: the file system would call it
        done, and lose it."""
        assert self.edge is not None
        self.load.tolerate(True)
        self.edge.signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.edge.process.pid}/task")
        while any((task / "stat").read_text().rpartition(") ")[2][0] != "T" for task in stat.iterdir()):
            pass
        self.disk.cut()
        self.edge.signal(signal.SIGCONT)
        self.world.note("the disk is dead")

    def _end(self, number: signal.Signals) -> None:
        assert self.edge is not None
        self.edge.signal(number)
        try:
            self.edge.process.wait(2 * WAIT_S)
        except subprocess.TimeoutExpired:
            self.world.problem(f"an edge did not end after {number.name}")
            self.edge.process.kill()
            self.edge.process.wait()
        self.load.calm()
        self.world.note(f"the edge has ended: {number.name}")
        self._listen()
        self.edge = None
        self.world.counts[f"ended by {number.name}"] += 1

    def _listen(self) -> None:
        """What did it say that it should not?"""
        assert self.edge is not None
        said = self.edge.err.rest()
        self.edge.out.rest()
        for line in said:
            if "Traceback" in line or "Fatal error" in line or '"exception"' in line:
                self.world.problem(f"the edge said: {line[:2000]}")

    def read_back(self) -> None:
        """Does the edge itself tell of all that was acknowledged?"""
        assert self.edge is not None
        known = list(self.world.acknowledged)
        told = [json.loads(line) for line in self.edge.admin("/purges/export").text.splitlines()]
        ids, oldest = {purge["id"] for purge in told}, min((purge["index"] for purge in told), default=0)
        for purge in known:
            if purge.apply_index >= oldest and purge.id not in ids:
                self.world.problem(f"{purge.id} was acknowledged, and the edge does not know of it")

    def inspect(self, *, allowed: frozenset[Fault], complete: bool) -> None:
        """Look at what is on the disk: the log has to have all that was acknowledged if `complete`, the store only
        faults that are allowed."""
        if complete:
            for fault in History(self.disk.data, self.disk.scratch).faults(self.world.acknowledged):
                self.world.problem(f"log: {fault}")
        report = look_through(self.disk.data, self.disk.scratch)
        self.world.counts["responses found on disk"] += report.responses
        for kind, count in report.faults.items():
            self.world.counts[f"store: {kind}"] += count
            if kind not in allowed:
                self.world.problem(f"store: {count} × {kind}, such as {report.examples[kind][:3]}")

    def close(self) -> None:
        """Leave nothing running."""
        if self.edge is not None:
            self.kill()


def _emptied(edge: EdgeProcess) -> Iterator[tuple[str, int]]:
    for sample, value in edge.metrics().items():
        if sample.startswith("banish_store_emptied_total") and value:
            yield sample.partition('why="')[2].rstrip('"}'), int(value)
