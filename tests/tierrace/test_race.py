"""A few of the tier races; `make tier-race` runs a hundred thousand."""

import random
from collections import Counter

import pytest

from tests.tierrace.race import BREAKAGES, RACES_PER_WORLD, run_world

WORLDS = 24
BROKEN_WORLDS = 300
"""So many are enough to see what each breakage leads to, with room to spare."""


def test_no_race_brings_back_what_was_purged() -> None:
    first = random.SystemRandom().randrange(1 << 40)
    counts: Counter[str] = Counter()
    for seed in range(first, first + WORLDS):
        found, race, what = run_world(seed)
        assert race is None, f"{what}\n" + "\n".join([*race.story, f"python -m tests.tierrace.run --seed {seed}"])
        counts += found
    assert counts["races"] == WORLDS * RACES_PER_WORLD
    for what in (
        "asked: fresh",
        "asked: passed",
        "answered: caught_up",
        "answers: hit",
        "answers: collapsed",
        "stored",
    ):
        assert counts[what] > 10, f"the races hardly come to {what}: {counts}"


@pytest.mark.parametrize("broken", BREAKAGES)
def test_without_one_of_the_guarantees_something_comes_back(broken: str) -> None:
    with BREAKAGES[broken]():
        assert any(run_world(seed)[1] is not None for seed in range(BROKEN_WORLDS))


def test_a_seed_is_always_the_same_races() -> None:
    with BREAKAGES["header"]():
        seed = next(seed for seed in range(BROKEN_WORLDS) if run_world(seed)[1] is not None)
        one, two = run_world(seed), run_world(seed)
    assert one[1] is not None
    assert two[1] is not None
    assert one[1].story == two[1].story
    assert one[2] == two[2]
