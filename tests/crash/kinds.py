"""The kinds of crashes: what happens to an edge at work, and what may be missing afterwards.

A kind has a disk, and a `round` that begins with an edge at work and ends with none. After each round the log and the
store are inspected, an edge is started on them, and everything is asked for: whatever happened, nothing older than an
acknowledged purge requires may be answered, ever.

Not here: the order of rounds, and totals (`run.py`).
"""

import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from banish.store.check import Fault
from tests.crash.checks import copy_over
from tests.crash.disks import ForgetfulDisk, MountedDisk, PlainDisk
from tests.crash.scene import Scene
from tests.crash.world import STATES, World
from tests.faultydisk import Fault as DiskFault
from tests.processes import WAIT_S, EdgeProcess

FULL_S = 6.0
"""How long a disk stays full at most."""

UNHARMED = frozenset({Fault.ORPHAN})
"""What a killed edge may leave: files that were not entered yet. The next start deletes them."""

POWERLESS = UNHARMED | {Fault.BODY}
"""Bodies are not synced: what is missing of one is found when it is read."""

ANYTHING = frozenset(Fault)


class Kind:
    """One kind of crash."""

    name = ""
    allowed = UNHARMED
    """Faults of the store that are to be expected."""
    complete = True
    """Whether the log has all that was acknowledged."""
    empties = False
    """Whether there is a reason to empty the store."""

    @property
    def lenient(self) -> bool:
        """Whether bodies may be damaged: behind their first part that breaks off an answer."""
        return Fault.BODY in self.allowed

    warm_share_min = 0.9
    """Of what an edge had stored and no purge was sent for, how much the next one has to have."""
    module = "banish.cli.main"

    def disk(self) -> PlainDisk:
        """A disk for one scene. Raises Unavailable, or skips."""
        return PlainDisk()

    def round(self, scene: Scene) -> None:
        """An edge is at work when this begins; none is there when it ends."""
        raise NotImplementedError


class Kill(Kind):
    """SIGKILL at any instant, that of starting among them."""

    name = "kill"

    def round(self, scene: Scene) -> None:
        time.sleep(scene.draw.uniform(0.0, 1.2))  # what is being tested is the instant
        scene.kill()
        if scene.draw.random() < 0.2:
            scene.launch()
            time.sleep(scene.draw.uniform(0.2, 1.2))
            scene.kill()


class Power(Kind):
    """The power goes: a journalling file system keeps what was synced, and as much of the rest as it likes."""

    name = "power"
    allowed = POWERLESS
    warm_share_min = 0.2  # the store is synced once a second
    file_system = "ext4"

    def disk(self) -> PlainDisk:
        return MountedDisk(self.file_system)

    def round(self, scene: Scene) -> None:
        time.sleep(scene.draw.choice((scene.draw.uniform(0.0, 1.0), scene.draw.uniform(1.0, 3.0))))
        scene.cut_power()


class PowerXfs(Power):
    """The same on XFS."""

    name = "power-xfs"
    file_system = "xfs"


class Forget(Power):
    """The power goes, and with it all that was not synced, to the last byte."""

    name = "forget"

    def disk(self) -> PlainDisk:
        return ForgetfulDisk()


class Pause(Kind):
    """The process stands still for a while, longer than purges can be undone or are remembered; the first thing that it
    meets then is a hit, the second a purge."""

    name = "pause"

    def round(self, scene: Scene) -> None:
        assert scene.edge is not None
        time.sleep(scene.draw.uniform(0.0, 0.5))
        for _ in range(2):
            waiting = [scene.load.opened() for _ in range(8)]
            scene.edge.signal(signal.SIGSTOP)
            answers = [connection.ask(scene.draw.choice(STATES)) for connection in waiting]
            time.sleep(scene.draw.choice((0.1, 0.7, 2.5)))
            scene.edge.signal(signal.SIGCONT)
            for answer in answers:
                answer.result(WAIT_S)
            for connection in waiting:
                connection.close()
            time.sleep(scene.draw.uniform(0.0, 0.3))
        scene.kill()


class Restore(Kind):
    """Old copies are put back: made while an edge was at work, or while none was."""

    complete = False
    allowed = ANYTHING
    empties = True
    warm_share_min = 0.0
    parts: tuple[str, ...] = ()
    """Files and directories that are put back; none: the whole directory."""

    def round(self, scene: Scene) -> None:
        old = scene.disk.scratch / "old"
        time.sleep(scene.draw.uniform(0.1, 0.6))
        if running := scene.draw.random() < 0.5:
            self._copy(scene.disk.data, old)
        else:
            self._end(scene)
            self._copy(scene.disk.data, old)
            scene.start()
        scene.until_acknowledged(scene.draw.choice((5, 10, 20)))
        self._end(scene)
        how = scene.draw.choice(("over", "instead"))
        scene.world.note(f"old copies ({self.name}) are put {how}; made while an edge was there: {running}")
        if how == "instead":
            for name in self._names(scene.disk.data):
                _remove(scene.disk.data / name)
        for name in self._names(old):
            copy_over(old / name, scene.disk.data / name)
        shutil.rmtree(old)

    def _names(self, place: Path) -> list[str]:
        names = [path.name for path in place.iterdir() if path.name != "spool"]
        return [name for name in names if name.startswith(self.parts)] if self.parts else names

    def _copy(self, data: Path, old: Path) -> None:
        old.mkdir()
        for name in self._names(data):
            copy_over(data / name, old / name)

    def _end(self, scene: Scene) -> None:
        scene.draw.choice((scene.kill, scene.stop))()


class RestoreLog(Restore):
    """Of the log alone."""

    name = "old-log"
    parts = ("purges.sqlite",)


class RestoreStore(Restore):
    """Of the store alone: index and bodies."""

    name = "old-store"
    parts = ("index", "bodies")
    complete = True


class RestoreIndex(Restore):
    """Of the index alone: bodies are newer."""

    name = "old-index"
    parts = ("index",)
    complete = True


class RestoreBoth(Restore):
    """Of log and store, but not of who the edge is."""

    name = "old-both"
    parts = ("purges.sqlite", "index", "bodies")


class RestoreAll(Restore):
    """Of the whole directory."""

    name = "old-all"


class Damage(Kind):
    """Bits rot in files of the store: rows, bodies, what leads to them."""

    name = "damage"
    allowed = ANYTHING
    empties = True
    warm_share_min = 0.0
    patterns: tuple[str, ...] = ("index/*", "bodies/*/*/*", "bodies/*/*/*")

    def round(self, scene: Scene) -> None:
        time.sleep(scene.draw.uniform(0.2, 1.0))
        scene.kill()
        for _ in range(scene.draw.choice((1, 3, 10))):
            files = [path for path in scene.disk.data.glob(scene.draw.choice(self.patterns)) if path.is_file()]
            if files:
                path = scene.draw.choice(sorted(files))
                scene.world.note(f"{path.name}: {_spoil(path, scene.draw)}")


class DamageLog(Damage):
    """Bits rot in the log of purges."""

    name = "damage-log"
    patterns = ("purges.sqlite", "purges.sqlite-wal")
    complete = False


class Full(Kind):
    """The disk is full for a while: the log lives on what room it has, then purges are refused; all else goes on."""

    name = "full"
    allowed = POWERLESS
    warm_share_min = 0.0
    module = "tests.crash.impatient"

    def disk(self) -> PlainDisk:
        return MountedDisk(size_bytes=96 << 20)

    def round(self, scene: Scene) -> None:
        disk, edge = scene.disk, scene.edge
        assert isinstance(disk, MountedDisk)
        assert edge is not None
        time.sleep(scene.draw.uniform(0.1, 0.5))
        scene.load.tolerate(True)
        end = time.monotonic() + scene.draw.uniform(1.0, FULL_S)
        while (writable := edge.metrics()["banish_log_writable"]) and time.monotonic() < end:
            disk.fill()
        if writable:
            scene.world.counts["the log had room enough"] += 1
        else:
            scene.world.counts["the log was full"] += 1
            edge.said("the purge log cannot be written")
            _requires_passing(scene)
        _requires_serving(scene)
        disk.free()
        _recovered(scene, edge)
        scene.draw.choice((scene.kill, scene.cut_power))()


class Dead(Power):
    """The disk goes, and the edge goes on without for a while: everything is passed, purges are refused."""

    name = "dead"

    def round(self, scene: Scene) -> None:
        assert scene.edge is not None
        time.sleep(scene.draw.uniform(0.1, 1.0))
        scene.load.tolerate(True)
        with _refused(scene.world):
            scene.cut_disk()
            _until(scene.edge, "banish_log_writable", 0)
            time.sleep(scene.draw.uniform(0.1, 0.7))
        scene.edge.said("the purge log cannot be written")
        _requires_passing(scene)
        scene.cut_power()


class Failing(Kind):
    """Writes fail, or syncs do, or all is full; then the disk works again, and the power goes."""

    name = "failing"
    allowed = POWERLESS
    warm_share_min = 0.0
    module = "tests.crash.impatient"

    def disk(self) -> PlainDisk:
        return ForgetfulDisk()

    def round(self, scene: Scene) -> None:
        disk, edge = scene.disk, scene.edge
        assert isinstance(disk, ForgetfulDisk)
        assert edge is not None
        time.sleep(scene.draw.uniform(0.1, 0.5))
        scene.load.tolerate(True)
        fault = scene.draw.choice((DiskFault.SYNC, DiskFault.WRITE, DiskFault.FULL))
        scene.world.note(f"the disk fails: {fault.name}")
        with _refused(scene.world):
            disk.faulty.fail(fault)
            _until(edge, "banish_log_writable", 0)
            time.sleep(scene.draw.uniform(0.1, 1.0))
        edge.said("the purge log cannot be written")
        _requires_passing(scene)
        if scene.draw.random() < 0.3:  # the power goes while it fails
            scene.cut_power()
            disk.faulty.heal()
            return
        disk.faulty.heal()
        _recovered(scene, edge)
        scene.draw.choice((scene.kill, scene.cut_power))()


@contextmanager
def _refused(world: World) -> Iterator[None]:
    """Purges are refused meanwhile."""
    before = world.counts["purges answered 503"]
    yield
    if world.counts["purges answered 503"] == before:
        world.problem("no purge was refused though the log could not be written")


def _until(edge: EdgeProcess, sample: str, value: float, work: object = None) -> None:
    end = time.monotonic() + WAIT_S
    while edge.metrics()[sample] != value:
        assert time.monotonic() < end, f"{sample} did not become {value}: {edge.metrics()}"
        if callable(work):
            work()


def _requires_passing(scene: Scene) -> None:
    """While purges cannot be kept, everything is asked of the origin."""
    for state in scene.draw.sample(STATES, 5):
        answer = scene.load.ask(state)
        if answer is None or answer.status != 200 or "banish; hit" in answer.cache_status:
            said = scene.edge.err.all[-4:] if scene.edge is not None else []
            scene.world.problem(f"not passed while the log cannot be written: {answer}; the edge said {said}", state)


def _requires_serving(scene: Scene) -> None:
    """Whatever the disk does, clients are served."""
    for state in scene.draw.sample(STATES, 5):
        answer = scene.load.ask(state)
        if answer is None or answer.status != 200:
            scene.world.problem(f"not served while the disk fails: {answer}", state)


def _recovered(scene: Scene, edge: EdgeProcess) -> None:
    """The disk works again: so do purges, and the store."""
    _until(edge, "banish_log_writable", 1)
    _until(edge, "banish_disk_failed", 0)
    scene.load.tolerate(False)
    scene.until_acknowledged(10)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _spoil(path: Path, draw: random.Random) -> str:
    """Do some damage to a file; what it was."""
    size = path.stat().st_size
    what = draw.choice(("bits", "bits", "bits", "zeroes", "shorter", "gone"))
    if what == "gone":
        path.unlink()
    elif what == "shorter":
        with path.open("r+b") as file:
            file.truncate(draw.randrange(size + 1))
    elif size:
        at = draw.randrange(size)
        with path.open("r+b") as file:
            file.seek(at)
            had = file.read(1 if what == "bits" else 4096)
            file.seek(at)
            file.write(bytes([had[0] ^ (1 << draw.randrange(8))]) if what == "bits" else bytes(len(had)))
        return f"{what} at {at}"
    return what


KINDS: dict[str, type[Kind]] = {
    kind.name: kind
    for kind in (
        *(Kill, Power, PowerXfs, Forget, Pause),
        *(RestoreLog, RestoreStore, RestoreIndex, RestoreBoth, RestoreAll),
        *(Damage, DamageLog, Full, Failing, Dead),
    )
}
