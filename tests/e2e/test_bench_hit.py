"""The hit benchmark still runs: every server, every case, every answer a hit with the right bytes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "bench" / "hit" / "run.py"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the load generator uses epoll")
@pytest.mark.skipif(shutil.which("cc") is None, reason="the load generator is compiled when it runs")
def test_smallest_run_measures_banish_in_every_case() -> None:
    done = subprocess.run(
        [sys.executable, str(RUN), "--smoke"], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n| banish | ") >= 4
