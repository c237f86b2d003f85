"""The whole edge against the model, in the steps of hypothesis: short runs, made shorter when they fail.

`make model` does the same from seeds, a million steps at a time (`run.py`).
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.model.choices import Choices, Seeded
from tests.model.driver import finish, shared_memory
from tests.model.steps import KEEPS_GOING, STEPS, Step, drawn_by_chance, take
from tests.model.world import World

SEEDS = st.integers(0, 1 << 16)
"""Of what a step leaves open."""


class EdgeMachine(RuleBasedStateMachine):
    """One edge. Each step that there is, is a rule; what keeps things going is there more often."""

    world: World

    @initialize(seed=SEEDS)
    def begin(self, seed: int) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="banish-model-", dir=shared_memory())
        choices = Choices(Seeded(seed))
        self.world = World(choices, Path(self.directory.name)).__enter__()
        self.world.wheel = drawn_by_chance(choices)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        try:
            note("\n".join(world.trace))
            world.choices.numbers = Seeded(0)
            finish(world)
        finally:
            world.__exit__()
            self.directory.cleanup()
            del self.world  # hypothesis keeps its machines


def _rule(step: Step) -> Callable[..., Any]:
    def taken(self: EdgeMachine, seed: int) -> None:
        self.world.choices.numbers = Seeded(seed)
        take(self.world, step)

    taken.__name__ = step.name.replace(" ", "_")
    can = precondition(lambda self: hasattr(self, "world") and bool(step.among(self.world)))
    return rule(seed=SEEDS)(can(taken))


for _step in STEPS:
    for _number in range(4 if _step.name in KEEPS_GOING else 1):
        setattr(EdgeMachine, f"{_step.name.replace(' ', '_')}_{_number}", _rule(_step))

TestEdge = EdgeMachine.TestCase
TestEdge.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
