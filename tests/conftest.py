"""Fixtures for whatever runs a whole edge."""

from typing import Any

import pytest

from tests.support import Play, Scene, run_scene


@pytest.fixture
def play() -> Play:
    """Run a scene on uvloop."""
    return run_scene


@pytest.fixture(params=["uvloop", "asyncio"])
def play_on_both(request: pytest.FixtureRequest) -> Play:
    """Run a scene on each of the two event loops."""

    def run(scene: Scene, **changes: Any) -> None:
        run_scene(scene, loop=request.param, **changes)

    return run
