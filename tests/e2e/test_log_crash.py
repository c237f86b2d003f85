"""The purge log in a process that is killed at random instants, with and without what the disk had not synced yet."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from tests.faultydisk import Fault, FaultyDisk
from tests.processes import WAIT_S, environment

from banish.purge.records import chain_holds
from banish.store.ledger import Ledger, Query

ROUNDS = int(os.environ.get("LOG_CRASH_ROUNDS", "8"))
"""Kills of each test."""

SEED = 7


class Writer:
    """A running log_writer.py, and what it has said."""

    def __init__(self, directory: Path, seed: int, disk: FaultyDisk | None = None) -> None:
        self.durable: list[int] = []
        self.log_id = ""
        self.restored = False
        self.reserved = 0
        self.writable = True
        self._said = threading.Condition()
        command = [sys.executable, "-m", "tests.e2e.log_writer", str(directory), str(seed)]
        extra = disk.environment if disk is not None else {}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment() | extra)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, *values = line.decode().split()
            with self._said:
                if word == "start":
                    self.restored, self.log_id, self.reserved = values[0] == "1", values[1], int(values[2])
                elif word == "durable" and line.endswith(b"\n"):
                    self.durable.append(int(values[0]))
                elif word == "writable":
                    self.writable = values[0] == "1"
                self._said.notify_all()

    def wait(self, *, durable: int | None = None, writable: bool | None = None) -> None:
        """Until so many records are durable, or the log is (not) writable."""

        def so() -> bool:
            enough = durable is None or len(self.durable) >= durable
            return enough and (writable is None or self.writable is writable) and bool(self.log_id)

        with self._said:
            assert self._said.wait_for(so, WAIT_S), (len(self.durable), self.writable)

    def kill(self) -> None:
        """SIGKILL; afterwards everything that was said has been read."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *failure: object) -> None:
        self.kill()


class History:
    """What was said to be durable by all that ran in one directory, held against what is there."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "purges.sqlite"
        self._scratch = Path(tempfile.mkdtemp(dir=directory.parent))
        self._durable: set[int] = set()
        self.log_id = ""

    def check(self, writer: Writer) -> None:
        """After a kill: nothing that was acknowledged is missing, and all that is there hangs together."""
        self._durable.update(writer.durable)
        if writer.log_id:
            assert not writer.restored
            assert self.log_id in ("", writer.log_id)
            self.log_id = writer.log_id
        with contextlib.closing(Ledger.open(self._copy())) as ledger:
            cut = int(ledger.note("cut") or 0)
            reserved = int(ledger.note("reserved") or 0)
            entries = list(ledger.entries(Query()))
        found = {entry.index: entry for entry in entries}
        assert {index for index in self._durable if index > cut} <= found.keys()
        assert all(cut < index <= reserved for index in found)
        for _, epoch in groupby(entries, key=lambda entry: entry.position.epoch):
            assert chain_holds([entry.record for entry in epoch])

    def _copy(self) -> Path:
        """The log, in another place: reading it would write to it."""
        place = Path(tempfile.mkdtemp(dir=self._scratch))
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(self._path.with_name(self._path.name + suffix), place)
        return place / self._path.name


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
def disk(directory: Path, tmp_path: Path) -> FaultyDisk:
    return FaultyDisk(directory, tmp_path / "scratch")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_9_at_any_instant_loses_nothing_acknowledged(directory: Path) -> None:
    draw, history = random.Random(SEED), History(directory)
    for number in range(ROUNDS):
        with Writer(directory, number) as writer:
            if number % 4 != 3:
                writer.wait(durable=1)
            time.sleep(draw.uniform(0, 0.3))  # what is being tested is the instant
        history.check(writer)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nor_does_a_loss_of_power(directory: Path, disk: FaultyDisk) -> None:
    draw, history, lost = random.Random(SEED), History(directory), 0
    for number in range(ROUNDS):
        with Writer(directory, number, disk) as writer:
            writer.wait(durable=1)
            time.sleep(draw.uniform(0, 0.3))
        lost += disk.cut_power()
        history.check(writer)
    assert lost > 0, "the disk forgot nothing, so nothing was tested"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", [Fault.SYNC, Fault.WRITE, Fault.FULL])
def test_a_failing_disk_confirms_nothing_and_what_it_confirms_afterwards_is_there(
    directory: Path, disk: FaultyDisk, fault: Fault
) -> None:
    history = History(directory)
    for number in range(3):
        with Writer(directory, number, disk) as writer:
            writer.wait(durable=50)
            disk.fail(fault)
            writer.wait(writable=False)
            time.sleep(0.05)  # what was confirmed just before may be told behind it
            confirmed = len(writer.durable)
            time.sleep(0.05)
            assert len(writer.durable) == confirmed
            disk.heal()
            writer.wait(durable=confirmed + 100, writable=True)
        disk.cut_power()
        history.check(writer)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_a_failed_sync_left_in_sight_is_made_durable_before_anything_is_built_on_it(
    directory: Path, disk: FaultyDisk
) -> None:
    """The kernel shows bytes that the disk never got; the process dies; the next one reads them, and goes on behind
    them; the power fails. Without writing them once more the log would end where they are missing."""
    history = History(directory)
    for number in range(3):
        with Writer(directory, 2 * number, disk) as failing:
            failing.wait(durable=50)
            disk.fail(Fault.SYNC)
            failing.wait(writable=False)
        disk.heal()
        with Writer(directory, 2 * number + 1, disk) as writer:
            writer.wait(durable=50)
        disk.cut_power()
        history.check(failing)
        history.check(writer)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_older_copy_of_the_log_is_found_out_however_the_process_ended(directory: Path, tmp_path: Path) -> None:
    with Writer(directory, 1) as writer:
        writer.wait(durable=20)
        for name in ("purges.sqlite", "purges.sqlite-wal"):
            shutil.copy2(directory / name, tmp_path)
        writer.wait(durable=len(writer.durable) + 50)
    for name in ("purges.sqlite", "purges.sqlite-wal"):
        shutil.copy2(tmp_path / name, directory / name)
    with Writer(directory, 2) as again:
        again.wait(durable=1)
    assert again.log_id != writer.log_id


@contextlib.contextmanager
def small_disk(tmp_path: Path, size_bytes: int) -> Iterator[Path]:
    """An ext4 file system of its own, where this may be mounted."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("mounting needs root")
    image, place = tmp_path / "image", tmp_path / "mounted"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, place], capture_output=True).returncode != 0:
        pytest.skip("loop devices cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_on_a_disk_that_is_really_full_the_ballast_goes_first_then_purges_are_refused_until_there_is_room(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path, 64 << 20) as place:
        directory = place / "data"
        directory.mkdir()
        history = History(directory)
        with Writer(directory, 1) as writer:
            writer.wait(durable=50)
            ballast = directory / "purges.sqlite.ballast"
            assert ballast.exists()
            filler = place / "filler"
            _fill(filler)
            confirmed = len(writer.durable)
            writer.wait(durable=confirmed + 50)
            while writer.writable:
                _fill(filler)
            assert not ballast.exists()
            filler.unlink()
            writer.wait(writable=True)
            writer.wait(durable=len(writer.durable) + 50)
        history.check(writer)


def _fill(path: Path) -> None:
    """Take all the space that is left."""
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
