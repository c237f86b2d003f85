"""The life of a replica: its stages, and what leads from one to the next.

    stage         what is true in it
    STARTING      nobody has answered; nothing may be taken to be fresh
    CATCHING_UP   some have; not all that they held when they first answered is in effect here
    CAUGHT_UP     all of that is, or nobody who can be reached has the rest; whether this edge is behind is now a
                  matter of lease and gaps alone
    FORGOTTEN     the others hold that this id belongs no more: nothing is said, nothing is taken
    DOUBLED       another process lives under this id, and has for longer: nothing is said, nothing is taken

Drawn in docs/architecture.md; a test compares that with the table below. Not here: how it is known (`catchup.py`,
`doubles.py`).
Source: PURGE rules 1, 23, 25.
"""

from enum import StrEnum


class Stage(StrEnum):
    """Where in its life a replica is."""

    STARTING = "starting"
    """Nobody has answered yet."""
    CATCHING_UP = "catching-up"
    """Some have; not all that they held then is held here."""
    CAUGHT_UP = "caught-up"
    """All that was held by those who answered at the start is in effect here."""
    FORGOTTEN = "forgotten"
    """Others have forgotten this id: nothing is said under it any more."""
    DOUBLED = "doubled"
    """Another process has the same id: nothing is said any more."""

    @property
    def over(self) -> bool:
        """Whether nothing is said or taken any more."""
        return self in (Stage.FORGOTTEN, Stage.DOUBLED)


class Turn(StrEnum):
    """What leads to another stage."""

    ALONE = "alone"
    """There is no other member."""
    UNANSWERED = "nobody answered"
    """The wait for answers is over, and there was none."""
    ANSWERED = "answered"
    """A member has said how far it is."""
    REACHED = "reached"
    """All that those who answered held then is in effect here, and all answered or the wait is over."""
    FORGOTTEN = "forgotten"
    DOUBLED = "doubled"


TURNS: dict[tuple[Stage, Turn], Stage] = {
    (Stage.STARTING, Turn.ALONE): Stage.CAUGHT_UP,
    (Stage.STARTING, Turn.UNANSWERED): Stage.CAUGHT_UP,
    (Stage.STARTING, Turn.ANSWERED): Stage.CATCHING_UP,
    (Stage.STARTING, Turn.FORGOTTEN): Stage.FORGOTTEN,
    (Stage.STARTING, Turn.DOUBLED): Stage.DOUBLED,
    (Stage.CATCHING_UP, Turn.REACHED): Stage.CAUGHT_UP,
    (Stage.CATCHING_UP, Turn.FORGOTTEN): Stage.FORGOTTEN,
    (Stage.CATCHING_UP, Turn.DOUBLED): Stage.DOUBLED,
    (Stage.CAUGHT_UP, Turn.FORGOTTEN): Stage.FORGOTTEN,
    (Stage.CAUGHT_UP, Turn.DOUBLED): Stage.DOUBLED,
}
"""All that can happen. Anything else is a bug, and stops at once."""
