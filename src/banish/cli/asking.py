"""What the commands that ask a running edge have in common: options, exit codes, times as people write them.

Not here: the questions (`api.py`); the commands (`purge.py`, `purges.py`, `main.py`).
"""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer

from banish.cli.report import console, show_problems
from banish.edge.units import parse_duration
from banish.errors import ConfigError

EXIT_REFUSED = 1
"""The edge said no, or what was to happen did not."""
EXIT_CANNOT_ASK = 2
"""The command is not right, or no edge answers."""
EXIT_TIMED_OUT = 3
"""What was waited for had not come about in time. What was asked stands."""

AdminOption = Annotated[
    str, typer.Option("--admin", metavar="HOST:PORT", envvar="BANISH_ADMIN", help="The edge's admin listener.")
]
TokenOption = Annotated[
    str | None, typer.Option("--token", metavar="TOKEN", envvar="BANISH_TOKEN", help="If the listener asks for one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
ReasonOption = Annotated[str, typer.Option(metavar="TEXT", help="For the history.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until all that it matched is gone.")]
TimeoutOption = Annotated[str, typer.Option(metavar="TIME", help="How long to wait, as in 90s or 5m.")]

WAIT = "5m"
"""How long --wait waits if it is not said."""


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """Ends the command with a message and an exit code if the edge says no, or nothing."""
    from banish.cli.api import CannotAsk, Refused

    try:
        yield
    except CannotAsk as error:
        show_problems(ConfigError(str(error)), console())
        raise typer.Exit(EXIT_REFUSED if isinstance(error, Refused) else EXIT_CANNOT_ASK) from None


def seconds(text: str, option: str) -> float:
    """A length of time. Raises typer.BadParameter."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def moment(text: str, *, sign: str) -> str:
    """A moment as the API takes it. What has no zone is meant by this machine's; a bare length of time is so long
    ago, or from now, as `sign` says.
    """
    with contextlib.suppress(ValueError):
        at = datetime.fromisoformat(text)
        return text if at.tzinfo is not None else at.astimezone().isoformat()
    if text[:1].isdigit() and not text.replace(".", "", 1).isdecimal():
        return f"{sign}{text}"
    return text
