"""`banish`: the commands, their options, and nothing else.

Exit codes: 0 as it should be; 1 the answer is no (a configuration with mistakes, an edge that does not
answer, a demo that broke its promise); 2 cannot start: something has to be changed first.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import banish
from banish.cli import mesh, purge, purges, status, store
from banish.cli.asking import AdminOption, JsonOption, TokenOption, Waits
from banish.cli.report import EXIT_CANNOT_START, console, show_problems
from banish.edge.config import DEFAULT_ADMIN, Config, load
from banish.errors import ConfigError, LogUnwritable, Problem, StoreError

app = typer.Typer(
    name="banish",
    help="A caching reverse proxy for HTTP: an edge in front of your origin.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", envvar="BANISH_CONFIG", help="Configuration (TOML)."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting that is not of a listener or a site: memory.budget_bytes=1GiB. Repeatable.",
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"banish {banish.__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command()
def serve(
    config: ConfigFile = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Where the content comes from. Repeatable: more addresses of the same."),
    ] = None,
    listen: Annotated[
        list[str] | None, typer.Option(metavar="HOST:PORT", help="Where clients connect. Repeatable.")
    ] = None,
    admin: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help='Where metrics and explain are served; or "off".')
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where this edge keeps its files. Made if missing.")
    ] = None,
    settings: Settings = None,
) -> None:
    """Run an edge in front of an origin.

    Flags win over BANISH_… variables, which win over the file.

    BANISH_ORIGIN, BANISH_LISTEN, BANISH_ADMIN and BANISH_DATA stand for the flags; commas separate several.

    Any setting that is not of a listener or a site has a variable, such as BANISH_MEMORY_BUDGET_BYTES.

    SIGTERM drains and ends; SIGHUP reads configuration, hooks and certificates and reopens the logs.
    """
    from banish.cli.banner import announce
    from banish.cli.listening import listening_problems
    from banish.cli.run import run

    out = console()
    flags: dict[str, Any] = {
        "origin": origin,
        "listen": listen,
        "admin.listen": admin,
        "data": str(data) if data is not None else None,
    }

    def read() -> Config:
        return load(config, os.environ, {**flags, **_assignments(settings or [])})

    try:
        checked = read()
        if problems := list(listening_problems(checked)):
            raise ConfigError(*problems)
        code = run(checked, reload=read, started=lambda edge: announce(checked, edge.ports, out))
    except ConfigError as error:
        show_problems(error, out)
        raise typer.Exit(EXIT_CANNOT_START) from None
    except (LogUnwritable, StoreError) as error:
        show_problems(ConfigError(f"cannot start: {error}"), out)
        raise typer.Exit(EXIT_CANNOT_START) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        show_problems(ConfigError(f"cannot start: {where}{error.strerror or error}"), out)
        raise typer.Exit(EXIT_CANNOT_START) from None
    raise typer.Exit(code)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", envvar="BANISH_CONFIG", help="Configuration (TOML).")],
    settings: Settings = None,
) -> None:
    """Say whether a configuration is sound; if not: what is wrong, where, and what would be right.

    Certificates are opened and hooks are loaded, as `serve` would. Nothing is listened on.
    """
    from banish.edge.hooks import load_module

    try:
        checked = load(file, os.environ, _assignments(settings or []))
        problems: list[Problem] = []
        for site in checked.sites:
            if site.hooks is not None:
                try:
                    load_module(site.name, site.hooks)
                except ConfigError as error:
                    problems += error.problems
        if problems:
            raise ConfigError(*problems)
    except ConfigError as error:
        show_problems(error, console())
        raise typer.Exit(1) from None
    sites = ", ".join(site.name for site in checked.sites)
    typer.echo(f"{file} is sound. Sites: {sites}.")


@app.command()
def explain(
    url: Annotated[str, typer.Argument(metavar="URL", help="As a client would ask for it.")],
    admin: AdminOption = DEFAULT_ADMIN,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="NAME:VALUE", help="A request header. Repeatable."),
    ] = None,
    token: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a running edge about a URL: stored or not, why, age, freshness, variants, tags, and which purge hit it."""
    from banish.cli.api import CannotAsk
    from banish.cli.explain import ask, show
    from banish.cli.telling import out

    try:
        answer = ask(admin, url, header or [], token)
    except CannotAsk as error:
        show_problems(ConfigError(str(error)), console())
        raise typer.Exit(1) from None
    if as_json:
        import json

        typer.echo(json.dumps(answer, indent=2))
    else:
        show(answer, out())


app.command("purge", cls=Waits)(purge.purge)
app.add_typer(purges.app, name="purges")
app.add_typer(store.app, name="store")
app.command("status")(status.status)
app.add_typer(mesh.app, name="mesh")
app.command("join")(mesh.join)


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the walk through.")] = False,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", min=0, max=65535, help="The edge's port; any free one if left out.")
    ] = None,
) -> None:
    """Start an origin and an edge in front of it, and walk through what a cache does.

    The exit code says whether all was as promised.
    """
    from banish.cli.demo import demo as walk

    try:
        raise typer.Exit(walk(once=once, port=port))
    except ConfigError as error:
        show_problems(error, console())
        raise typer.Exit(EXIT_CANNOT_START) from None


def _assignments(settings: list[str]) -> dict[str, Any]:
    """`name=value` pairs as flags."""
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(Problem("--set", None, "", f'"{setting}" has no "="', "write NAME=VALUE"))
        found[name.strip()] = value.strip()
    return found


def main() -> None:
    """The console script."""
    sys.exit(app())


if __name__ == "__main__":
    main()
