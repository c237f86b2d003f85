"""What the commands that ask a running edge have in common: options, exit codes, times as people write them.

Not here: the questions (`api.py`); the commands (`purge.py`, `purges.py`, `main.py`).
"""

import contextlib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from banish.cli.report import console, show_problems
from banish.edge.units import parse_duration
from banish.errors import ConfigError

EXIT_REFUSED = 1
"""The edge said no, or what was to happen did not."""
EXIT_CANNOT_ASK = 2
"""The command is not right, or no edge answers."""
EXIT_TIMED_OUT = 3
"""What was waited for had not come about in time. What was asked stands."""
EXIT_INCOMPLETE = 4
"""The same of edges that were waited for: not as many have it. It reaches them when they can be reached."""

_WAITED_FOR = re.compile("swept|all|quorum|[1-9][0-9]{0,3}")

AdminOption = Annotated[
    str, typer.Option("--admin", metavar="HOST:PORT", envvar="BANISH_ADMIN", help="The edge's admin listener.")
]
TokenOption = Annotated[
    str | None, typer.Option("--token", metavar="TOKEN", envvar="BANISH_TOKEN", help="If the listener asks for one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
ReasonOption = Annotated[str, typer.Option(metavar="TEXT", help="For the history.")]
WaitOption = Annotated[
    str | None,
    typer.Option(
        "--wait",
        metavar="[swept|all|quorum|N]",
        help="Wait until all that it matched is gone here; or until all edges of the mesh have it, more than half, N.",
    ),
]
TimeoutOption = Annotated[str, typer.Option(metavar="TIME", help="How long to wait, as in 90s or 5m.")]

WAIT = "5m"
"""How long --wait waits if it is not said."""


class Waits(TyperCommand):
    """A command whose `--wait` may stand alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Say what a `--wait` without a word waits for."""
        found: list[str] = []
        for at, arg in enumerate(args):
            alone = arg == "--wait" and not (at + 1 < len(args) and _WAITED_FOR.fullmatch(args[at + 1]))
            found.append("--wait=swept" if alone else arg)
        return super().parse_args(ctx, found)


def waited_for(text: str | None) -> str | None:
    """What `--wait` names. Raises typer.BadParameter."""
    if text is not None and not _WAITED_FOR.fullmatch(text):
        raise typer.BadParameter(f'"{text}": wait for swept, all, quorum, or a number of edges', param_hint="--wait")
    return text


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
