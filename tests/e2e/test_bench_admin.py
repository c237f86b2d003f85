"""The admin benchmark still runs: all answers are hits, and the admin listener is asked meanwhile."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "bench" / "admin" / "run.py"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the load generator uses epoll")
def test_smallest_run_measures_both_states() -> None:
    done = subprocess.run([sys.executable, str(RUN), "--smoke"], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n| idle | " in done.stdout
    assert "\n| asked | " in done.stdout
