"""The purge benchmark still runs, all of its parts; and the race is run for a moment, without anything stale."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench" / "purge"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the load generators use epoll"),
]


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("cc") is None, reason="the load generator is compiled when it runs")
@pytest.mark.parametrize("part", ["restart", "effect", "hits", "intake"])
def test_smallest_run_goes_through_each_part(part: str, tmp_path: Path) -> None:
    said = run(str(BENCH / "run.py"), "--smoke", "--parts", part, "--directory", str(tmp_path))
    assert f"Method: [README](../README.md#{part})." in said


@pytest.mark.timeout(120)
@pytest.mark.parametrize("system", ["banish", "banish_killed"])
def test_nothing_stale_is_seen_after_a_purge_was_acknowledged(system: str) -> None:
    said = run(str(BENCH / "race.py"), "--systems", system, "--seconds", "3", "--kill-every", "1", "--results", "-")
    assert re.search(rf"\n\| {system} \| \d+ \| ", said), said
