"""The disk that other tests rely on to fail and to forget: does it?"""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.faultydisk import Fault, FaultyDisk
from tests.processes import environment

KEPT, LOST = b"k" * 5000, b"l" * 7000


@pytest.fixture
def disk(tmp_path: Path) -> FaultyDisk:
    (tmp_path / "data").mkdir()
    return FaultyDisk(tmp_path / "data", tmp_path / "scratch")


def run(disk: FaultyDisk, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A process on this disk."""
    command = [sys.executable, "-c", f"import os, sys; {code}", *map(str, arguments)]
    return subprocess.run(command, env=environment() | disk.environment, capture_output=True, text=True)


def test_what_was_synced_stays_and_what_was_not_goes_with_the_power(disk: FaultyDisk, tmp_path: Path) -> None:
    file, other = tmp_path / "data" / "file", tmp_path / "data" / "other"
    code = """
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); os.write(fd, b"k" * 5000); os.fdatasync(fd)
os.pwrite(fd, b"l" * 7000, 5000); os.pwrite(fd, b"l", 0); open(sys.argv[2], "wb").write(b"never synced")
"""
    assert run(disk, code.strip().replace("\n", "; "), file, other).returncode == 0
    assert len(file.read_bytes()) == 12_000
    inode = file.stat().st_ino
    assert disk.cut_power() == 2
    assert (file.read_bytes(), other.read_bytes()) == (KEPT, b"")
    assert file.stat().st_ino == inode
    assert disk.cut_power() == 0


def test_what_a_failed_sync_was_to_write_is_lost_even_to_later_syncs(disk: FaultyDisk, tmp_path: Path) -> None:
    file = tmp_path / "data" / "file"
    code = "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); os.pwrite(fd, sys.argv[2].encode(), int(sys.argv[3]));"
    assert run(disk, f"{code} os.fsync(fd)", file, KEPT.decode(), 0).returncode == 0
    disk.fail(Fault.SYNC)
    failed = run(disk, f"{code} os.fsync(fd)", file, LOST.decode(), 5000)
    assert "Input/output error" in failed.stderr
    disk.heal()
    assert run(disk, f"{code} os.fsync(fd)", file, "x", 12_000).returncode == 0
    assert file.read_bytes() == KEPT + LOST + b"x"
    disk.cut_power()
    assert file.read_bytes() == KEPT + bytes(len(LOST)) + b"x"


@pytest.mark.parametrize(("fault", "words"), [(Fault.WRITE, "Input/output error"), (Fault.FULL, "No space left")])
def test_writes_fail_on_this_disk_and_on_no_other(disk: FaultyDisk, tmp_path: Path, fault: Fault, words: str) -> None:
    disk.fail(fault)
    code = "os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), b'x')"
    assert words in run(disk, code, tmp_path / "data" / "file").stderr
    assert run(disk, code, tmp_path / "file").returncode == 0
