"""`banish purges`: the history of purges, live if asked; one of them, undoing it; taking the history elsewhere.

Printed oldest first, so that the newest stands last and what follows goes on below it. In JSON it is one object a
line.

Not here: purging (`purge.py`); how a purge looks (`telling.py`); the log itself (`banish.store.log`).
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from banish.cli.asking import (
    WAIT,
    AdminOption,
    JsonOption,
    ReasonOption,
    TimeoutOption,
    TokenOption,
    WaitOption,
    Waits,
    answered,
    moment,
    seconds,
    waited_for,
)
from banish.cli.report import console
from banish.edge.config import DEFAULT_ADMIN

LIMIT = 20
"""Purges listed if neither number nor time is said."""

PIECE = 500
"""Purges asked for at once."""

FOLLOW_S = 25.0
"""How long one question for news waits."""

AGAIN_AFTER_S = 1.0
"""Pause before an edge is asked again that gave no answer."""

Purge = dict[str, Any]

app = typer.Typer(invoke_without_command=True)


@app.callback()
def purges(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="From then on: 1h (ago), or 2030-01-31T18:00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Up to then.")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="TARGET", help="With this target: its value, or as in tag:news.")
    ] = None,
    actor: Annotated[str | None, typer.Option(metavar="NAME", help="By the holder of this token.")] = None,
    site: Annotated[str | None, typer.Option(metavar="SITE", help="About this site.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="N", min=1, help=f"The newest N; {LIMIT} without --since.")
    ] = None,
    as_json: JsonOption = False,
    admin: AdminOption = DEFAULT_ADMIN,
    token: TokenOption = None,
) -> None:
    """List purges: when, how far, what, by whom, why; or follow them.

    banish purges show ID has the whole of one. --admin and --token go before or behind such a word.
    """
    context.obj = (admin, token)
    if context.invoked_subcommand is not None:
        return
    from banish.cli.api import Api

    filters = [("target", target), ("actor", actor), ("site", site)]
    times = [("since", since), ("until", until)]
    query = [(name, value) for name, value in filters if value is not None]
    query += [(name, moment(value, sign="-")) for name, value in times if value is not None]
    if limit is None and since is None:
        limit = LIMIT
    show = _json_line if as_json else _line
    with answered(), contextlib.suppress(KeyboardInterrupt):
        api = Api(admin, token)
        found, cursor = _newest(api, query, limit)
        for purge in reversed(found):
            show(purge)
        if follow:
            _follow(api, query, cursor, show)


def _newest(api: Any, query: list[tuple[str, str]], limit: int | None) -> tuple[list[Purge], str]:
    """The newest purges first, as many as are wanted, and where the feed goes on behind them."""
    found: list[Purge] = []
    cursor, before = None, None
    while limit is None or len(found) < limit:
        wanted = PIECE if limit is None else min(PIECE, limit - len(found))
        piece = [("limit", str(wanted)), *([("before", before)] if before is not None else [])]
        page = api.get("/purges", [*query, *piece])
        found += page["purges"]
        cursor = page["cursor"] if cursor is None else cursor  # the first: later ones would skip what came meanwhile
        before = page["before"]
        if before is None:
            break
    return found, cursor or ""


def _follow(api: Any, query: list[tuple[str, str]], cursor: str, show: Callable[[Purge], None]) -> None:
    """Show what comes, each once, whatever breaks off in between. Ends when it is interrupted."""
    from banish.cli.api import CannotAsk, Refused

    lost = False
    while True:
        try:
            feed = api.get("/purges/feed", [*query, ("after", cursor), ("wait", f"{FOLLOW_S:g}")], wait_s=FOLLOW_S)
        except CannotAsk as error:
            if isinstance(error, Refused) and error.status != 503:
                raise
            if not lost:
                console().print(f"{error}; trying again")
            lost = True
            time.sleep(AGAIN_AFTER_S)
            continue
        lost = False
        for purge in feed["purges"]:
            show(purge)
        cursor = feed["cursor"]


def _line(purge: Purge) -> None:
    from banish.cli.telling import line, out

    out().print(line(purge))


def _json_line(purge: Purge) -> None:
    print(json.dumps(purge, separators=(",", ":")), flush=True)


IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `banish purge` and the list give it.")]
AdminAgain = Annotated[
    str | None, typer.Option("--admin", metavar="HOST:PORT", help="The edge's admin listener.", show_default=False)
]
TokenAgain = Annotated[str | None, typer.Option("--token", metavar="TOKEN", help="If the listener asks for one.")]


@app.command(cls=Waits)
def show(
    context: typer.Context,
    id_: IdArgument,
    wait: WaitOption = None,
    timeout: TimeoutOption = WAIT,
    as_json: JsonOption = False,
    admin: AdminAgain = None,
    token: TokenAgain = None,
) -> None:
    """Show one purge: how far it is, what each target matched; or wait for it.

    Exit codes are those of banish purge.
    """
    from banish.cli.waiting import finish

    wait, wait_s = waited_for(wait), seconds(timeout, "--timeout")
    with answered():
        api = _api(context, admin, token)
        raise typer.Exit(finish(api, api.get(f"/purges/{id_}"), wait, wait_s, as_json=as_json))


@app.command()
def undo(
    context: typer.Context,
    id_: IdArgument,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
    admin: AdminAgain = None,
    token: TokenAgain = None,
) -> None:
    """Take back a soft purge while its window lasts, or a scheduled one before it is due."""
    from banish.cli.waiting import finish

    with answered():
        api = _api(context, admin, token)
        query = [("reason", reason)] if reason else []
        raise typer.Exit(finish(api, api.ask("DELETE", f"/purges/{id_}", query), None, 0.0, as_json=as_json))


@app.command()
def export(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON, a purge a line; - is standard output.")],
    since: Annotated[str | None, typer.Option(metavar="WHEN", help="From then on: 1h (ago), or a time.")] = None,
    admin: AdminAgain = None,
    token: TokenAgain = None,
) -> None:
    """Write the history to a file, oldest first, each purge with its signed record."""
    query = [("since", moment(since, sign="-"))] if since is not None else []
    with answered(), _written(file) as to:
        count = 0
        for line in _api(context, admin, token).lines("/purges/export", query):
            to.write(line)
            count += 1
    console().print(f"{_purges(count)} exported")


@contextlib.contextmanager
def _written(name: str) -> Iterator[IO[bytes]]:
    """A file that is there when it is whole, and not before."""
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    path = Path(name)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as to:
            yield to
        part.replace(path)
    except OSError as error:
        raise typer.BadParameter(f"{name}: {error.strerror}", param_hint="FILE") from error
    finally:
        part.unlink(missing_ok=True)


@app.command()
def replay(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What export has written; - is standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Purge nothing; list what would be purged.")] = False,
    admin: AdminAgain = None,
    token: TokenAgain = None,
) -> None:
    """Purge again, on another edge, what was purged on the one that the file came from.

    Each purge is known by its id there, so a replay that broke off can be started again: nothing is purged twice. What
    was undone or cancelled is left out.
    """
    api = _api(context, admin, token)
    purged = again = 0
    with answered():
        for at, purge in enumerate(_read(file), 1):
            if dry_run:
                _line(purge)
                continue
            for body, key in _repeated(purge):
                try:
                    answer = api.ask("POST", "/purges", body=body, headers={"Idempotency-Key": key}, again=True)
                except Exception:
                    console().print(f"{file}: stopped at purge {at}, {purge['id']}")
                    raise
                again += answer.get("replayed", False)
                purged += not answer.get("replayed", False)
    if not dry_run:
        console().print(f"{_purges(purged)} replayed" + (f", {again} had been before" if again else ""))


def _read(name: str) -> Iterator[Purge]:
    """The purges of an export that are to be made again."""
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    purge = json.loads(line)
                    wanted = purge["kind"] in ("purge", "invalidation", "schedule") and purge["targets"]
                    taken_back = purge["state"] in ("undone", "cancelled")
                except (ValueError, KeyError, TypeError) as error:
                    raise typer.BadParameter(f"{name}:{number}: is no purge of an export", param_hint="FILE") from error
                carried_out = purge["kind"] == "schedule" and purge["state"] != "scheduled"
                if wanted and not taken_back and not carried_out:
                    yield purge
    except OSError as error:
        raise typer.BadParameter(f"{name}: {error.strerror}", param_hint="FILE") from error


def _repeated(purge: Purge) -> Iterator[tuple[dict[str, Any], str]]:
    """The requests that bring a purge about again, each with its key: one for each site that it was about."""
    body = {"targets": purge["targets"], "mode": purge["mode"]}
    if purge.get("reason"):
        body["reason"] = purge["reason"]
    if purge.get("due") is not None and purge["kind"] == "schedule":
        body["at"] = purge["due"]
    for site in purge["sites"] or [None]:
        yield {**body, "site": site} if site else body, f"{purge['id']} {site}" if site else purge["id"]


def _api(context: typer.Context, admin: str | None, token: str | None) -> Any:
    from banish.cli.api import Api

    outer_admin, outer_token = context.obj
    return Api(admin or outer_admin, token or outer_token)


def _purges(count: int) -> str:
    return f"{count} purge{'' if count == 1 else 's'}"
