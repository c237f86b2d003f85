"""How the command line says that something is wrong: the place, the line itself, and what would be right.

Everything here goes to standard error. Not here: finding out what is wrong (`edge/config.py`).
"""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from banish.errors import ConfigError, Problem

EXIT_CANNOT_START = 2
"""The operator has to change something; a restart will not help."""


def console() -> Console:
    """Standard error, as wide as the terminal. Text is printed as it is: nothing is taken for markup."""
    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def aligned(rows: Iterable[tuple[str, str]], indent: str = "") -> Text:
    """Labels in one column, what they label in the next. Long lines run on, so that they can be copied."""
    pairs = list(rows)
    width = max((len(label) for label, _ in pairs), default=0) + 2
    parts = [Text.assemble(indent, (f"{label:<{width}}", "dim"), value) for label, value in pairs]
    return Text("\n").join(parts)


def show_problems(error: ConfigError, out: Console) -> None:
    """Each problem: what, where, the line of the file, what would be right."""
    for problem in error.problems:
        out.print(_told(problem))
    count = len(error.problems)
    if count > 1:
        out.print(Text(f"{count} problems", style="bold"))


def _told(problem: Problem) -> Text:
    text = Text.assemble(("error", "bold red"), ": ")
    if problem.key and problem.key != problem.where:
        text.append(problem.key, style="bold").append(" ")
    elif problem.where and problem.line is None:
        text.append(problem.where, style="bold").append(" ")
    text.append(problem.what)
    place = f"{problem.where}:{problem.line}" if problem.line else problem.where
    if place and not (problem.line is None and problem.key in ("", problem.where)):
        text.append(f"\n  --> {place}", style="cyan")
    if (line := _source_line(problem)) is not None:
        text.append(f"\n   {problem.line} | ", style="dim").append(line)
    if problem.right:
        text.append("\n  = ", style="cyan").append(problem.right)
    return text


def _source_line(problem: Problem) -> str | None:
    """The line that the problem stands in, if it can still be read."""
    if problem.line is None:
        return None
    try:
        lines = Path(problem.where).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return lines[problem.line - 1].rstrip() if problem.line <= len(lines) else None
