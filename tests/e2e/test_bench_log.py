"""The benchmark of the purge log still runs: all of its cases."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "bench" / "log" / "run.py"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="clocks of threads")
def test_smallest_run_measures_every_case(tmp_path: Path) -> None:
    command = [sys.executable, str(RUN), "--smoke", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    for case in ("bare", "one", "batch", "first", "roomless", "steady", "full"):
        assert f"\n| {case} | " in done.stdout
