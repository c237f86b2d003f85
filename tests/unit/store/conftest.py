"""Where tests that sync a great deal keep their files."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def ram_path() -> Iterator[Path]:
    """As `tmp_path`, in memory where there is such a place: opening an index syncs a dozen times."""
    with tempfile.TemporaryDirectory(prefix="banish-", dir=MEMORY if MEMORY.is_dir() else None) as path:
        yield Path(path)
