"""Where chance comes in: every choice is a number, drawn from a seed, played again, or drawn by hypothesis."""

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Numbers(Protocol):
    """Gives numbers."""

    def below(self, end: int) -> int:
        """One of 0 … end - 1."""
        ...


class Seeded:
    """Numbers from a seed. `drawn` are those since it was last emptied."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.drawn: list[int] = []

    def below(self, end: int) -> int:
        number = int(self._random.random() * end)
        self.drawn.append(number)
        return number


class Played:
    """Numbers that were drawn before; 0 when they run out, as when steps before were left out."""

    def __init__(self) -> None:
        self.left: list[int] = []

    def below(self, end: int) -> int:
        return self.left.pop(0) % end if self.left else 0


class Choices:
    """What is made of numbers."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers

    def pick(self, among: Sequence[T]) -> T:
        """One of these."""
        return among[self.numbers.below(len(among))]

    def percent(self, chance: int) -> bool:
        """Whether what has this chance comes about; what is left out does not."""
        return self.numbers.below(100) >= 100 - chance

    def some(self, among: Sequence[T], chance: int = 50) -> tuple[T, ...]:
        """Some of these, each with this chance."""
        return tuple([each for each in among if self.percent(chance)])

    def number(self, least: int, most: int) -> int:
        """One of least … most."""
        return least + self.numbers.below(most - least + 1)
