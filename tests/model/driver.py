"""Runs of the model: so many steps from a seed, then everything is brought to an end and all is asked for once more.

A run that fails tells the seed and what happened. It can be made shorter: steps are left out as long as it still fails.

Not here: the command (`run.py`).
"""

import tempfile
import traceback
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.model.choices import Choices, Numbers, Played, Seeded
from tests.model.steps import BY_NAME, LANGUAGES, drawn_by_chance, take
from tests.model.world import PAGES, World, Wrong

STEPS_PER_RUN = 500

ROUNDS_MAX = 500
"""Rounds after which what does not come to an end never will."""

LONG_S = 100.0
"""After that, no purge need be remembered."""

Taken = tuple[str, list[int]]
"""A step, and what was drawn for it."""


@dataclass
class Run:
    """What came of a run. `wrong` is what is wrong, if anything is."""

    seed: int = 0
    steps: int = 0
    wrong: str | None = None
    trace: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    setting: list[int] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)

    @property
    def story(self) -> str:
        """What happened, for people."""
        return "\n".join([*self.trace, f"wrong: {self.wrong}"])


def run_seed(seed: int, steps: int = STEPS_PER_RUN, *, often: Collection[str] = ()) -> Run:
    """Play so many steps drawn from a seed; those of these names more often than else."""
    run, numbers = Run(seed), Seeded(seed)
    with _judged(run, numbers, often) as world:
        run.setting = numbers.drawn
        while run.steps < steps:
            step = world.choices.pick(world.wheel)
            numbers.drawn = []
            run.taken.append((step.name, numbers.drawn))
            if take(world, step):
                run.steps += 1
                run.counts[step.name] += 1
            else:
                run.taken.pop()
        numbers.drawn = []
        finish(world)
    return run


def run_again(setting: list[int], taken: list[Taken]) -> Run:
    """Play steps drawn before, as far as they can be taken."""
    run, numbers = Run(), Played()
    numbers.left = list(setting)
    with _judged(run, numbers) as world:
        run.setting = setting
        for name, drawn in taken:
            numbers.left = list(drawn)
            run.taken.append((name, drawn))
            if not take(world, BY_NAME[name]):
                run.taken.pop()
        numbers.left = []
        finish(world)
    return run


def shortened(run: Run) -> Run:
    """The same failure with as few steps as can be found by leaving some out."""
    best = run_again(run.setting, run.taken)
    if best.wrong is None:
        return run
    size = len(best.taken) // 2
    while size:
        at = 0
        while at < len(best.taken):
            shorter = run_again(best.setting, best.taken[:at] + best.taken[at + size :])
            if shorter.wrong is not None and _kind(shorter) == _kind(run):
                best = shorter
            else:
                at += size
        size //= 2
    best.seed = run.seed
    return best


def _kind(run: Run) -> str:
    """What tells one failure from another, numbers aside."""
    return "".join(letter for letter in (run.wrong or "").partition(": ")[2][:24] if not letter.isdigit())


@contextmanager
def _judged(run: Run, numbers: Numbers, often: Collection[str] = ()) -> Iterator[World]:
    with (
        tempfile.TemporaryDirectory(prefix="banish-model-", dir=shared_memory()) as directory,
        World(Choices(numbers), Path(directory)) as world,
    ):
        world.wheel = drawn_by_chance(world.choices, often)
        try:
            yield world
        except Wrong as wrong:
            run.wrong = str(wrong)
        except Exception as error:  # the edge's own assertions too
            run.wrong = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        run.trace = world.trace
        run.counts.update(world.counts)


def shared_memory() -> str | None:
    """Where files cost least."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


# Bringing all to an end


def finish(world: World) -> None:
    """Let everything end that is under way; see that nothing waits for ever; ask for all that is stored."""
    world.note("— everything is brought to an end")
    world.index.fail_no_more()
    _settle(world)
    _hold(world, not world.asked, "requests wait for ever")
    _ask_for_all(world)
    for _ in range(4):  # schedules are carried out, at first maybe not all of them
        world.clock.advance(LONG_S)
        _settle(world)
    _sweep_all(world)
    _hold(world, not len(world.edge.stamps), "purges are never forgotten")
    disk = world.edge.store.disk
    _hold(world, disk is None or disk._shelf.generations.count >= 0, "less than nothing is stored")
    _ask_for_all(world)
    world.kill()
    world.start()
    _ask_for_all(world)


def _settle(world: World) -> None:
    for _ in range(ROUNDS_MAX):
        for asked in [asked for asked in world.asked if asked.task is None]:
            world.answer(asked)
        world.loop.rest()
        for talk in list(world.talks):
            take_named(world, "piece" if talk.exchange.has_head else "head")
        world.writer.commit()
        world.writer.retry()
        world.hands.finish()
        world.loop.rest()
        world.check()
        if not (world.asked or world.talks or world.writer.waiting or world.hands.jobs or world.loop.busy):
            return
        world.clock.advance(0.25)
    left = [
        *map(str, world.asked),
        *map(str, world.talks),
        *map(str, world.writer.waiting),
        *map(str, world.hands.jobs),
    ]
    raise Wrong(f"there is no end to {left[:5]}")


def take_named(world: World, name: str) -> None:
    """Take a step of this name."""
    take(world, BY_NAME[name])


def _sweep_all(world: World) -> None:
    for _ in range(ROUNDS_MAX):
        idle = world.within(lambda: world.edge.store.sweep(1.0, world.clock.monotonic))
        _settle(world)
        disk = world.edge.store.disk
        if idle and not (disk is not None and disk.failed):
            return
        world.clock.advance(1.0)
    raise Wrong("the sweep does not come to an end")


def _ask_for_all(world: World) -> None:
    """Ask for everything that is stored, and nothing else."""
    for page in PAGES:
        for lines in LANGUAGES if page.varies else LANGUAGES[:1]:
            world.hot(page, *lines)
            world.answer(world.ask(page, *lines, "Cache-Control: only-if-cached"))
            _settle(world)


def _hold(world: World, holds: bool, otherwise: str) -> None:
    if not holds:
        raise Wrong(otherwise)
