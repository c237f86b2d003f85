"""The benchmark of large bodies still runs: every way serves hits with the right bytes, by that way."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "bench" / "combined-io" / "run.py"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it drops the page cache and reads /proc")
def test_smallest_run_measures_every_way() -> None:
    done = subprocess.run([sys.executable, str(RUN), "--smoke"], capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stdout + done.stderr
    for way in ("sendfile", "runs", "short", "pages"):
        assert done.stdout.count(f"\n| {way} | ") == 3, done.stdout
