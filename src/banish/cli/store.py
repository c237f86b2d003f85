"""`banish store check`: look through what an edge keeps on disk, while the edge is stopped.

Not here: the checks and repairs themselves (`banish.store.check`).
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from banish.cli.asking import JsonOption
from banish.cli.report import EXIT_CANNOT_START, aligned, console, show_problems
from banish.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from rich.console import Console

    from banish.store.check import Report

app = typer.Typer(no_args_is_help=True)

_MEANINGS = {
    "index": "the index cannot be opened, or does not say what is in it",
    "row": "what is stored under a URL cannot be read",
    "fence": "a response seems to be from the future of the purges: they would miss it",
    "body": "a body is missing, or is not what was written",
    "missing": "a row that should lead to a response is not there: a purge or eviction would miss it",
    "dangling": "a row leads to no response",
    "orphan": "no response has this file",
    "count": "a site's figures are not those of what it has",
}


@app.callback()
def store() -> None:
    """Look after what an edge keeps on disk."""


@app.command()
def check(
    data: Annotated[Path, typer.Argument(metavar="DATA_DIR", help="The `data` of an edge that is stopped.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Take away what is damaged, put right what follows from the rest.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check that everything stored can be found, and is what was stored.

    An edge finds damage by itself when it comes upon it, and takes it for a miss: this finds all of it at once.

    Exit codes: 0 all is sound, or is again; 1 there is damage; 2 it cannot be checked.
    """
    from banish.store.check import check_store

    try:
        if not (data / "index").is_dir():
            raise ConfigError(f"nothing is stored in {data}; name the `data` of an edge")
        with _progress(console()) as progress:
            report = check_store(data, repair=repair, progress=progress)
    except StoreError as error:
        show_problems(ConfigError(f"{data} cannot be checked: {error}; is its edge stopped?"), console())
        raise typer.Exit(EXIT_CANNOT_START) from None
    except ConfigError as error:
        show_problems(error, console())
        raise typer.Exit(EXIT_CANNOT_START) from None
    if as_json:
        import msgspec

        print(json.dumps({"sound": report.sound, **msgspec.to_builtins(report)}, indent=2))
    else:
        _show(report, data)
    raise typer.Exit(0 if report.sound else 1)


def _show(report: "Report", data: Path) -> None:
    """What was found, for people."""
    from rich.text import Text

    from banish.cli.telling import out, size

    to = out()
    faults = sum(report.faults.values())
    held = f"{report.responses} response{'' if report.responses == 1 else 's'}, {size(report.bytes)}"
    if not faults:
        to.print(Text.assemble(("sound", "bold green"), f"  {held}"))
        return
    word, style = ("repaired", "yellow") if report.sound else ("damaged", "red")
    to.print(Text.assemble((word, f"bold {style}"), f"  {faults} fault{'' if faults == 1 else 's'}; sound: {held}"))
    for fault, count in report.faults.items():
        to.print(Text.assemble(f"\n{count} × ", (fault.value, "bold"), f": {_MEANINGS[fault.value]}"))
        examples = report.examples.get(fault, [])
        more = [("", f"and {count - len(examples)} more")] if count > len(examples) else []
        to.print(aligned([*[("", example) for example in examples], *more], indent="  "))
    if report.emptied:
        to.print("\nThe store was emptied: what the index held cannot be told from what was purged.")
    elif not report.sound:
        to.print(f"\nbanish store check {data} --repair takes away what is damaged; it is fetched anew when asked for.")


@contextlib.contextmanager
def _progress(to: "Console") -> Iterator[Callable[[str, int, int], None]]:
    """Draws how far the check is, on a terminal."""
    if not to.is_terminal:
        yield lambda what, done, of: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=to, transient=True
    ) as bar:
        tasks = {}

        def progress(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=None)
            bar.update(tasks[what], completed=done, total=of or None)

        yield progress
