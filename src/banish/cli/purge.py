"""`banish purge`: a batch of targets, from options and files, to a running edge.

Each run has an idempotency key, its own if none is given, so that a request which broke off is sent again and
purges once.

Not here: what targets mean (`banish.purge.given`); waiting (`waiting.py`); the history (`purges.py`).
"""

import json
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from banish.cli.asking import (
    WAIT,
    AdminOption,
    JsonOption,
    ReasonOption,
    TimeoutOption,
    TokenOption,
    WaitOption,
    answered,
    moment,
    seconds,
    waited_for,
)
from banish.edge.config import DEFAULT_ADMIN

FORMS = ("url", "prefix", "host", "tag", "group", "pattern", "regex")
"""The words that a line of --from may begin with."""

Several = list[str] | None
Target = dict[str, Any]


def purge(
    url: Annotated[Several, typer.Option(metavar="URL", help="A URL, with all its variants.")] = None,
    header: Annotated[
        Several,
        typer.Option("--header", "-H", metavar="NAME:VALUE", help="With --url: only the variant of such a request."),
    ] = None,
    prefix: Annotated[Several, typer.Option(metavar="PREFIX", help="Every URL that begins so.")] = None,
    boundary: Annotated[bool, typer.Option("--boundary", help="With --prefix: whole path segments only.")] = False,
    host: Annotated[Several, typer.Option(metavar="HOST", help="A host, or *.HOST for all below it.")] = None,
    tag: Annotated[Several, typer.Option(metavar="TAG", help="What the origin has tagged so.")] = None,
    group: Annotated[Several, typer.Option(metavar="'ORIGIN GROUP'", help="A cache group of an origin.")] = None,
    pattern: Annotated[
        Several, typer.Option(metavar="GLOB", help="URLs that a glob matches: * is any text, ? one character.")
    ] = None,
    regex: Annotated[Several, typer.Option(metavar="RE2", help="URLs in which an expression is found.")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="All that is stored.")] = False,
    file: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help='Targets, one a line, as in "tag news"; - is standard input.'),
    ] = None,
    site: Annotated[str | None, typer.Option(metavar="SITE", help="Only of this site.")] = None,
    soft: Annotated[bool, typer.Option("--soft", help="Stale, not gone; can be undone for a while.")] = False,
    reason: ReasonOption = "",
    at: Annotated[str | None, typer.Option(metavar="WHEN", help="Later: 5m, or 2030-01-31T18:00:00Z.")] = None,
    wait: WaitOption = None,
    timeout: TimeoutOption = WAIT,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Purge nothing; say what would be purged.")] = False,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Idempotency key: sent again with it, it purges once.")
    ] = None,
    as_json: JsonOption = False,
    admin: AdminOption = DEFAULT_ADMIN,
    token: TokenOption = None,
) -> None:
    """Make a running edge forget: all that is named, as one batch.

    When it returns, the purge is in effect and on disk; with --wait, all that it matched is gone too. --wait all waits
    until every edge of the mesh has it, and shows them one by one.

    A line of a file is a word and a value (tag news), a URL, or a target in JSON ({"tag": "news"}).

    Exit codes: 0 done; 1 refused; 2 the command is not right, or no edge answers; 3 --wait ran out; 4 --wait all,
    quorum or N did, and some edges do not have it. In both the purge stands.
    """
    _check(url=url, header=header, prefix=prefix, boundary=boundary)
    targets = [
        *_several("url", url, headers=_headers(header or [])),
        *_several("prefix", prefix, boundary=boundary),
        *_several("host", host),
        *_several("tag", tag),
        *_several("group", group),
        *_several("pattern", pattern),
        *_several("regex", regex),
        *([{"everything": True}] if everything else []),
        *(_from_file(file) if file is not None else []),
    ]
    if not targets:
        raise typer.BadParameter("say what: --tag, --url, --prefix, --host, --pattern, --regex, --everything or --from")
    body = {"targets": targets, "mode": "soft" if soft else "hard", "site": site, "reason": reason, "dry_run": dry_run}
    body["at"] = moment(at, sign="+") if at is not None else None
    wait = waited_for(wait)
    wait_s = seconds(timeout, "--timeout")
    sent = {name: value for name, value in body.items() if value}
    raise typer.Exit(_ask(admin, token, sent, key or str(uuid.uuid4()), wait, wait_s, as_json=as_json))


def _ask(
    admin: str, token: str | None, body: Target, key: str, wait: str | None, wait_s: float, *, as_json: bool
) -> int:
    """Purge, or say what would be; the exit code."""
    from banish.cli.api import Api
    from banish.cli.telling import out, show_dry_run
    from banish.cli.waiting import finish

    api = Api(admin, token)
    with answered():
        answer = api.ask("POST", "/purges", body=body, headers={"Idempotency-Key": key}, again=True)
        if "dry_run" not in body:
            return finish(api, answer, wait, wait_s, as_json=as_json)
        if as_json:
            print(json.dumps(answer, indent=2))
        else:
            show_dry_run(answer, out())
        return 0


def _check(*, url: Several, header: Several, prefix: Several, boundary: bool) -> None:
    if header and not url:
        raise typer.BadParameter("it names a variant of a --url", param_hint="--header")
    if boundary and not prefix:
        raise typer.BadParameter("it is about a --prefix", param_hint="--boundary")


def _several(form: str, values: Several, **beside: Any) -> Iterator[Target]:
    for value in values or []:
        yield {form: value, **{name: what for name, what in beside.items() if what}}


def _headers(lines: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise typer.BadParameter(f'"{line}" is not NAME:VALUE', param_hint="--header")
        found[name.strip()] = value.strip()
    return found


def _from_file(name: str) -> list[Target]:
    """The targets of a file, one a line; empty lines and those that begin with # are passed over."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise typer.BadParameter(f"{name}: {what}", param_hint="--from") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    targets = [_from_line(line, f"{name}:{number}") for number, line in lines if line and not line.startswith("#")]
    if not targets:
        raise typer.BadParameter(f"{name} names nothing to purge", param_hint="--from")
    return targets


def _from_line(line: str, place: str) -> Target:
    if line.startswith("{"):
        try:
            target: Target = json.loads(line)
        except ValueError as error:
            raise typer.BadParameter(f"{place}: is not JSON: {error}", param_hint="--from") from error
        return target
    if line.startswith(("http://", "https://")):
        return {"url": line}
    if line == "everything":
        return {"everything": True}
    form, _, value = line.partition(" ")
    if form not in FORMS or not value.strip():
        right = f"write a URL, a target in JSON, or one of {', '.join(FORMS)} and a value"
        raise typer.BadParameter(f'{place}: "{line}" is no target; {right}', param_hint="--from")
    return {form: value.strip()}
