"""`banish status`: a running edge, and its mesh as it hears it.

Not here: figures over time (`/metrics`); who may belong (`mesh.py`).
"""

import json
from collections.abc import Iterator
from typing import Any

import typer

from banish.cli.asking import EXIT_REFUSED, AdminOption, JsonOption, TokenOption, answered
from banish.edge.config import DEFAULT_ADMIN

STYLES = {"self": "dim", "heard": "green", "silent": "bold red", "left": "yellow", "new": "cyan"}


def status(as_json: JsonOption = False, admin: AdminOption = DEFAULT_ADMIN, token: TokenOption = None) -> None:
    """Say how a running edge is: whether it serves, may be missing purges, and how it hears each member of its mesh.

    Exit codes: 0 it serves, and is missing nothing that it knows of; 1 not so; 2 no edge answers.
    """
    from banish.cli.api import Api

    with answered():
        told = Api(admin, token).get("/status")
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        _show(told)
    raise typer.Exit(0 if told["state"] == "serving" and not (told["behind"] or told["passing"]) else EXIT_REFUSED)


def _show(told: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from banish.cli.report import aligned
    from banish.cli.telling import out

    to = out()
    to.print(Text.assemble((told["name"] or told["node"], "bold"), f"  {told['state']}"))
    to.print(aligned(_rows(told)))
    if not told["members"]:
        return
    table = Table(box=None, pad_edge=False)
    for column in ("member", "", "heard", "lag", "edge"):
        table.add_column(column, header_style="dim", no_wrap=True)
    for one in told["members"]:
        table.add_row(
            one["name"],
            Text(one["contact"], style=STYLES.get(one["contact"], "")),
            "" if one["heard_ago_s"] is None else f"{one['heard_ago_s']:.1f} s ago",
            "" if one["lag_ms"] is None else f"{one['lag_ms']:.1f} ms",
            one["edge"],
        )
    to.print(table)


def _rows(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "edge", told["edge"]
    yield "version", told["version"]
    if told["passing"]:
        yield "passing", "nothing is answered from what is stored"
    if told["name"] is None:
        yield "mesh", "none: it is alone"
        return
    yield "mesh", f"{told['stage']}, {len(told['members'])} members ({told['membership']})"
    if told["behind"]:
        doing = ", ".join(f"{site}: {policy}" for site, policy in told["partition"].items())
        yield "behind", f"it may be missing purges; {doing}"
