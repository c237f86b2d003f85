"""`banish demo`, as a newcomer runs it."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_demo_keeps_every_promise_and_ends_by_itself_without_a_terminal() -> None:
    command = [sys.executable, "-m", "banish", "demo"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "promises kept" in done.stdout
    assert done.stderr == ""
