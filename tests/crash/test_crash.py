"""A short selection of what `make crash` does at length, and proof that a broken edge would be found out."""

import pytest

from tests.crash.disks import Unavailable
from tests.crash.kinds import KINDS
from tests.crash.run import play
from tests.crash.world import STATES, World, entity_tag, read_entity_tag

SEED = 11
CLIENTS = 3
"""Fewer than at length: most of the time here is that of starting."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def found(kind: str, rounds: int, *, broken: str = "") -> list[str]:
    """The problems of one scene."""
    try:
        return play(KINDS[kind](), SEED, rounds, broken=broken, clients=CLIENTS).problems
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("kind", "rounds"),
    [
        ("kill", 2),
        ("power", 1),
        ("forget", 1),
        ("pause", 1),
        ("old-both", 1),
        ("failing", 1),
    ],
)
def test_no_crash_loses_a_purge_or_brings_anything_back(kind: str, rounds: int) -> None:
    assert found(kind, rounds) == []


def test_an_edge_that_believes_an_old_copy_is_found_out() -> None:
    assert any(problem.startswith("stale") for problem in found("old-log", 2, broken="trusting"))


def test_a_body_and_its_tag_say_what_they_are_of() -> None:
    for state in STATES:
        assert read_entity_tag(entity_tag(state, 12)) == (state, 12)
        assert len(state.body(1)) == state.size
        assert state.body(1) != state.body(2)


def test_a_seed_says_what_is_purged() -> None:
    assert World(3).draw_purge() == World(3).draw_purge()
    assert World(3).draw_purge() != World(4).draw_purge()
