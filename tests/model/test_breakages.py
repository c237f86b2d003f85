"""The model finds each guarantee that is taken out of the edge, within a bounded number of steps."""

import pytest

from tests.model.breakages import BREAKAGES
from tests.model.driver import STEPS_PER_RUN, run_seed

STEPS_MAX = 60_000
"""Steps within which each is found: with these seeds, a few thousand are enough for most."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, breakage in BREAKAGES.items() if not breakage.rare])
def test_a_broken_edge_is_found(name: str) -> None:
    breakage = BREAKAGES[name]
    seeds = range(breakage.first, breakage.first + STEPS_MAX // STEPS_PER_RUN)
    with breakage.broken():
        assert any(run_seed(seed, often=breakage.often).wrong for seed in seeds)


def test_an_edge_that_is_not_broken_is_found_to_be_right() -> None:
    for seed in range(10):
        run = run_seed(seed)
        assert run.wrong is None, f"{run.story}\nagain: python -m tests.model.run --seed {seed} --shorten"
