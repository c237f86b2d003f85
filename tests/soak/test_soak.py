"""The soak itself does not rot: small runs, and it finds what is wrong with a broken edge."""

from unittest import mock

import pytest

from banish.purge.stamps import PurgeTable, Verdict
from tests.soak.scene import draw_run, soak
from tests.soak.world import PAGES, Tag, World, read_tag


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_small_run_finds_nothing(loop: str) -> None:
    world = soak(draw_run(7, clients=3, visits=6), loop=loop)
    assert [problem.what for problem in world.problems] == []
    assert sum(world.outcomes.values()) > 10


def test_an_edge_that_forgets_purges_is_found_out() -> None:
    run = draw_run(7, clients=4, visits=20)
    run.events = ("purge", "group")
    run.habits.plain, run.habits.leave = 1.0, 0.0
    with mock.patch.object(PurgeTable, "verdict", return_value=Verdict.CLEAN):
        world = soak(run)
    found = next(problem for problem in world.problems if problem.what.startswith("purged"))
    assert any("purge" in line for line in world.trace(found))


def test_a_seed_says_what_a_run_is_like() -> None:
    assert repr(draw_run(3)) == repr(draw_run(3))
    assert repr(draw_run(3)) != repr(draw_run(4))


def test_bodies_say_what_they_are_of() -> None:
    for path in PAGES:
        tag = Tag(path, "en", 4)
        assert read_tag(tag.etag) == tag
        assert tag.body != Tag(path, "en", 6).body or not tag.body
    assert World(1).least.keys() == PAGES.keys()
