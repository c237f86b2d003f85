"""Waiting for a purge, with its progress before one's eyes.

    POST answered ─▶ GET /purges/{id}?wait=swept&after=CURSOR ─▶ … ─▶ swept
                              │ any change: shown, and asked again from its cursor
                              │ broken off, edge restarting: asked again
                              └ time is up: the purge stands

On a terminal the state and the counts are drawn in place; elsewhere each change of state is a line.

Not here: what is told of a purge that is over (`telling.py`).
Units: seconds by the monotonic clock.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from banish.cli.api import Api, CannotAsk, Refused
from banish.cli.asking import EXIT_REFUSED, EXIT_TIMED_OUT
from banish.cli.report import aligned, console, show_problems
from banish.cli.telling import counted, meaning, out, show_purge, target_text
from banish.errors import ConfigError

POLL_S = 25.0
"""How long one question waits: less than what commonly cuts silent connections."""

AGAIN_AFTER_S = 0.5
"""Pause before the edge is asked again that gave no answer."""

ROWS_MAX = 12
"""Targets drawn at once."""

FINAL = frozenset({"swept", "undone", "cancelled"})

Show = Callable[[dict[str, Any]], None]


def wait_for(api: Api, purge: dict[str, Any], timeout_s: float, show: Show) -> dict[str, Any]:
    """The purge once it is swept, or as it is when the time is up. Raises Refused if the edge no longer knows it."""
    until = time.monotonic() + timeout_s
    show(purge)
    while purge["state"] not in FINAL and (left_s := until - time.monotonic()) > 0:
        query = [("wait", "swept"), ("timeout", f"{min(POLL_S, left_s):.3f}")]
        if "cursor" in purge:
            query.append(("after", purge["cursor"]))
        try:
            purge = api.get(f"/purges/{purge['id']}", query, wait_s=POLL_S)
        except CannotAsk as error:
            if isinstance(error, Refused) and error.status != 503:
                raise
            time.sleep(min(AGAIN_AFTER_S, max(0.0, until - time.monotonic())))
        else:
            show(purge)
    return purge


@contextlib.contextmanager
def progress(to: Console) -> Iterator[Show]:
    """Draws what is waited for as it changes."""
    if not to.is_terminal:
        yield _lines(to)
        return
    spinner = Spinner("dots")
    with Live(spinner, console=to, transient=True, refresh_per_second=10) as live:

        def draw(purge: dict[str, Any]) -> None:
            spinner.update(text=_heading(purge))
            live.update(Group(spinner, aligned(_counts(purge), indent="    ")))

        yield draw


def _lines(to: Console) -> Show:
    """Shows each change of state as a line."""
    last = ""

    def show(purge: dict[str, Any]) -> None:
        nonlocal last
        if purge["state"] != last:
            last = purge["state"]
            to.print(_heading(purge))

    return show


def _heading(purge: dict[str, Any]) -> Text:
    matched = f", {counted(purge)}" if "matched" in purge else ""
    return Text(f"{purge['state']}: {meaning(purge)}{matched}")


def _counts(purge: dict[str, Any]) -> Iterator[tuple[str, str]]:
    targets = purge["targets"]
    for target in targets[:ROWS_MAX]:
        yield target_text(target), counted(target) if "matched" in target else ""
    if len(targets) > ROWS_MAX:
        yield f"and {len(targets) - ROWS_MAX} more", ""


def finish(api: Api, purge: dict[str, Any], wait_s: float | None, *, as_json: bool) -> int:
    """Wait for a purge if asked to, tell how it stands, and say so in an exit code."""
    if wait_s is not None:
        with progress(console()) as show:
            purge = wait_for(api, purge, wait_s, show)
    if as_json:
        print(json.dumps(purge, indent=2))
    else:
        show_purge(purge, out())
    if wait_s is None or purge["state"] == "swept":
        return 0
    if purge["state"] in FINAL:
        return EXIT_REFUSED
    what = f"not swept within {wait_s:g} s; it stands: banish purges show {purge['id']} --wait"
    show_problems(ConfigError(what), console())
    return EXIT_TIMED_OUT
