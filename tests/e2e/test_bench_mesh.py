"""The benchmark of the mesh goes all the way through."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("part", ["overhead", "intake"])
def test_smallest_run_goes_through_each_part(part: str) -> None:
    command = [sys.executable, "bench/mesh/run.py", "--smoke", "--parts", part]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=220)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"python bench/mesh/run.py --parts {part}" in done.stdout
