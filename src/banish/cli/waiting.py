"""Waiting for a purge, with its progress before one's eyes.

    POST answered ─▶ GET /purges/{id}?wait=swept&after=CURSOR ─▶ … ─▶ swept; or on all edges, a quorum, N
                              │ any change: shown, and asked again from its cursor
                              │ broken off, edge restarting: asked again
                              └ time is up: the purge stands

On a terminal the state, the counts and each edge of the mesh are drawn in place; elsewhere each change of state, of an
edge too, is a line.

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
from banish.cli.asking import EXIT_INCOMPLETE, EXIT_REFUSED, EXIT_TIMED_OUT
from banish.cli.report import aligned, console, show_problems
from banish.cli.telling import EDGE_STYLES, counted, edge_text, meaning, out, show_purge, target_text
from banish.errors import ConfigError

POLL_S = 25.0
"""How long one question waits: less than what commonly cuts silent connections."""

AGAIN_AFTER_S = 0.5
"""Pause before the edge is asked again that gave no answer."""

ROWS_MAX = 12
"""Targets drawn at once."""

EDGES_MAX = 40
"""Edges drawn at once, those that do not have it first."""

FINAL = frozenset({"swept", "undone", "cancelled"})
HAVE = frozenset({"applied", "swept", "joined-clean"})
"""States of edges on which nothing that it matches is answered any more."""

Show = Callable[[dict[str, Any]], None]


def reached(purge: dict[str, Any], wait: str) -> bool:
    """Whether what is waited for has come about, or never will."""
    if wait == "swept":
        return purge["state"] in FINAL
    edges = purge.get("edges", [])
    have = sum(edge["state"] in HAVE for edge in edges)
    if wait == "all":
        return "cursor" in purge and have == len(edges)
    return have >= (len(edges) // 2 + 1 if wait == "quorum" else int(wait))


def wait_for(api: Api, purge: dict[str, Any], wait: str, timeout_s: float, show: Show) -> dict[str, Any]:
    """The purge once it is so far, or as it is when the time is up. Raises Refused if the edge no longer knows it."""
    until = time.monotonic() + timeout_s
    show(purge)
    while not reached(purge, wait) and (left_s := until - time.monotonic()) > 0:
        known = "cursor" in purge  # the answer to a POST does not say yet how each edge is
        query = [("wait", wait), ("timeout", f"{min(POLL_S, left_s) if known or wait == 'swept' else 0:.3f}")]
        if known:
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
            live.update(Group(spinner, aligned(_counts(purge), indent="    "), *_edges(purge)))

        yield draw


def _lines(to: Console) -> Show:
    """Shows each change of state as a line."""
    last = ""
    edges: dict[str, str] = {}

    def show(purge: dict[str, Any]) -> None:
        nonlocal last
        if purge["state"] != last:
            last = purge["state"]
            to.print(_heading(purge))
        for edge in purge.get("edges", ()):
            if edges.get(edge["edge"]) != edge["state"]:
                edges[edge["edge"]] = edge["state"]
                to.print(f"{edge['name']}: {edge_text(edge)}")

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


def _edges(purge: dict[str, Any]) -> Iterator[Text]:
    """Each edge of the mesh."""
    edges = sorted(purge.get("edges", ()), key=lambda edge: edge["state"] in HAVE)
    width = max((len(edge["name"]) for edge in edges), default=0)
    for edge in edges[:EDGES_MAX]:
        yield Text.assemble(f"    {edge['name']:<{width}}  ", (edge_text(edge), EDGE_STYLES.get(edge["state"], "")))
    if len(edges) > EDGES_MAX:
        yield Text(f"    and {len(edges) - EDGES_MAX} more edges", style="dim")


def finish(api: Api, purge: dict[str, Any], wait: str | None, wait_s: float, *, as_json: bool) -> int:
    """Wait for a purge if asked to, tell how it stands, and say so in an exit code."""
    if wait is not None:
        with progress(console()) as show:
            purge = wait_for(api, purge, wait, wait_s, show)
    if as_json:
        print(json.dumps(purge, indent=2))
    else:
        show_purge(purge, out())
    if wait is None:
        return 0
    if wait != "swept":
        return _whether_on_edges(purge, wait, wait_s)
    if purge["state"] == "swept":
        return 0
    if purge["state"] in FINAL:
        return EXIT_REFUSED
    what = f"not swept within {wait_s:g} s; it stands: banish purges show {purge['id']} --wait"
    show_problems(ConfigError(what), console())
    return EXIT_TIMED_OUT


def _whether_on_edges(purge: dict[str, Any], wait: str, wait_s: float) -> int:
    if reached(purge, wait):
        return 0
    missing = ", ".join(edge["name"] for edge in purge.get("edges", ()) if edge["state"] not in HAVE)
    lacking = f"{missing} did not have it within {wait_s:g} s" if missing else f"there are fewer edges than {wait}"
    show_problems(ConfigError(f"{lacking}; it stands: banish purges show {purge['id']} --wait {wait}"), console())
    return EXIT_INCOMPLETE
