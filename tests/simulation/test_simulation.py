"""Seeds of simulated meshes: all that must hold, holds; and what is taken out is found."""

import pytest

from banish.mesh.replica import Settings
from banish.testing.network import cities
from tests.simulation.breakages import BREAKAGES
from tests.simulation.cities import Earth, percentile, sharing
from tests.simulation.world import play

SEEDS = 132
PARTS = 6

SEEDS_MAX = 60
"""Within which each breakage is found; each was by the first, once."""

RARE = {"the-end-of-the-epoch-before-is-not-looked-at"}
"""Digests tell of the end of an epoch too."""


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_mesh_keeps_its_guarantees_through_a_storm(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        world, wrong = play(seed)
        assert wrong is None, f"{wrong!r}\nagain: python -m tests.simulation.run --seed {world.seed}"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BREAKAGES if name not in RARE])
def test_a_broken_core_is_found(name: str) -> None:
    broken, seed = BREAKAGES[name]
    with broken():
        assert any(play(seed + more)[1] is not None for more in range(SEEDS_MAX))


def test_a_run_can_be_played_again() -> None:
    first, again = (play(seed=7, trace=True)[0] for _ in range(2))
    assert first.story == again.story
    assert first.timeline.steps == again.timeline.steps


@pytest.mark.slow
def test_a_purge_takes_as_long_as_the_way() -> None:
    with sharing():
        earth = Earth(cities()[::12], Settings(), loss=0.1)
        earth.start()
        earth.purge_everywhere()
    assert not earth.missing
    assert percentile(earth.delays(), 50) < 0.1
    assert percentile(earth.delays(), 99) < 1.0
