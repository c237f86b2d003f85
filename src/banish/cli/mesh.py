"""`banish mesh` and `banish join`: edges that belong together, from making a mesh to leaving it.

    on the first edge     banish mesh init --data DIR --name paris --listen tls/paris.example:7447
    there, while it runs  banish mesh invite berlin --listen tls/berlin.example:7447 -o berlin.invite
    on the new edge       banish join berlin.invite --data DIR

What is written to a file holds keys: nobody else may read it, and it is deleted once it was used.

Not here: what an invitation is (`banish.mesh.invitations`); the files of an edge (`banish.edge.joining`).
"""

import contextlib
import json
import os
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from banish.cli.asking import AdminOption, JsonOption, TokenOption, answered
from banish.cli.report import EXIT_CANNOT_START, aligned, console, show_problems
from banish.edge.config import DEFAULT_ADMIN
from banish.errors import ConfigError
from banish.mesh.zenoh_config import Topology

app = typer.Typer(no_args_is_help=True)

DataOption = Annotated[
    Path, typer.Option("--data", metavar="DIR", envvar="BANISH_DATA", help="The `data` of an edge that is stopped.")
]
ListenOption = Annotated[
    list[str] | None,
    typer.Option(
        "--listen", metavar="ENDPOINT", help="Where others dial it: tls/HOST:PORT. Repeatable; none: it only dials."
    ),
]
BindOption = Annotated[
    list[str] | None,
    typer.Option(
        "--bind", metavar="ENDPOINT", help="Where it listens itself, if not on all its addresses. Repeatable."
    ),
]
RelayOption = Annotated[bool, typer.Option("--relay", help="In topology relay: it passes on what others publish.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write it; if left out: NAME and a suffix.")
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What the edge is called.")]


@app.callback()
def mesh() -> None:
    """Edges that belong together: each purge reaches all of them."""


@app.command()
def init(
    data: DataOption,
    name: Annotated[str, typer.Option(metavar="NAME", help="What this edge is called.")],
    listen: ListenOption = None,
    topology: Annotated[
        Topology, typer.Option(help="Each edge linked with each (up to about 50), or all through relays.")
    ] = Topology.MESH,
    relay: RelayOption = False,
    bind: BindOption = None,
) -> None:
    """Make a mesh of one edge: its authority, its certificate. Others are invited once it runs.

    In topology relay the first edge is a relay.

    With tcp/127.0.0.1:PORT a mesh is in the clear, and on one machine.
    """
    from banish.edge.joining import begin_mesh

    with _done():
        me = begin_mesh(
            data,
            name,
            listen or [],
            topology=topology,
            relay=relay or topology is Topology.RELAY,
            listen=bind or [],
            now=time.time(),
        )
    rows = [("edge", me.edge), *[("listens", text) for text in me.endpoints], ("files", str(data / "mesh"))]
    _tell(f"{name} is a mesh of one", rows, "start it, then: banish mesh invite NAME --listen tls/HOST:PORT")


@app.command()
def invite(
    name: NameArgument,
    listen: ListenOption = None,
    relay: RelayOption = False,
    file: OutOption = None,
    admin: AdminOption = DEFAULT_ADMIN,
    token: TokenOption = None,
) -> None:
    """Make a new edge a member, and write all that it needs to come to a file: a secret, to be used once.

    The edge that is asked has to have the key of the authority, as the one has that made the mesh.
    """
    form = {"name": name, "endpoints": listen or [], "relay": relay}
    path = file or Path(f"{name}.invite")
    with _secret(path) as write:
        invited = _ask(admin, token, "POST", "/mesh/invitations", form)
        write(invited)
    rows = [("edge", invited["edge"]), ("use it until", _day(invited["until"])), ("file", str(path))]
    _tell(f"{name} is invited", rows, f"on its machine, as its user: banish join {path.name} --data DIR")


@app.command("members")
def members(as_json: JsonOption = False, admin: AdminOption = DEFAULT_ADMIN, token: TokenOption = None) -> None:
    """List who belongs, and how the edge that is asked hears them.

    Exit codes: 0 all are heard; 1 not all; 2 no edge answers.
    """
    state = _ask(admin, token, "GET", "/mesh")
    if as_json:
        print(json.dumps(state, indent=2))
    else:
        _show(state)
    raise typer.Exit(0 if not any(one["contact"] == "silent" for one in state["members"]) else 1)


@app.command()
def forget(name: NameArgument, admin: AdminOption = DEFAULT_ADMIN, token: TokenOption = None) -> None:
    """Forget an edge that will not come back, or must not: no other hears it any more, or waits for it.

    Its certificate is of no more use. It may come again as a new edge: invite it.
    """
    gone = _ask(admin, token, "DELETE", f"/mesh/members/{urllib.parse.quote(name, safe='')}")
    _tell(f"{name} is forgotten", [("edge", gone["edge"]), ("entry", gone["id"])])


@app.command()
def renew(
    name: NameArgument,
    listen: ListenOption = None,
    file: OutOption = None,
    admin: AdminOption = DEFAULT_ADMIN,
    token: TokenOption = None,
) -> None:
    """Make a new certificate for an edge, before the old one ends or when it is to listen elsewhere.

    banish mesh install puts it in its place.
    """
    path = file or Path(f"{name}.renewal")
    form = {"endpoints": listen} if listen else {}
    with _secret(path) as write:
        write(_ask(admin, token, "POST", f"/mesh/members/{urllib.parse.quote(name, safe='')}/certificate", form))
    _tell(
        f"a new certificate for {name}",
        [("file", str(path))],
        f"on its machine, as its user: banish mesh install {path.name} --data DIR",
    )


@app.command()
def install(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As banish mesh renew has written it.")],
    data: DataOption,
) -> None:
    """Use a new certificate. An edge that runs takes it at its next reload (SIGHUP)."""
    from banish.edge.joining import install_certificate

    with _done():
        renewed = install_certificate(data, _read(file))
    _tell(f"{renewed.name} has a new certificate", [], f"reload it (SIGHUP), and delete {file}")


def join(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The invitation, as banish mesh invite has written it.")],
    data: DataOption,
    bind: BindOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete what is there: another edge, what it stored and purged.")
    ] = False,
) -> None:
    """Become the edge that an invitation is for. Its directory must be empty: a newcomer starts so."""
    from banish.edge.joining import join_mesh

    with _done():
        invited = join_mesh(data, _read(file), listen=bind or [], replace=replace, now=time.time())
    others = [one.name for one in invited.members if one.edge != invited.edge]
    rows = [("edge", invited.edge), ("with", ", ".join(others)), ("files", str(data / "mesh"))]
    _tell(f"{data} is {invited.name}", rows, f"start it, and delete {file}")


# --- asking, files, showing


def _ask(admin: str, token: str | None, method: str, path: str, form: Any = None) -> Any:
    from banish.cli.api import Api

    with answered():
        return Api(admin, token).ask(method, path, body=form)


@contextlib.contextmanager
def _done() -> Iterator[None]:
    """Ends the command with what is wrong."""
    try:
        yield
    except ConfigError as error:
        show_problems(error, console())
        raise typer.Exit(EXIT_CANNOT_START) from None


@contextlib.contextmanager
def _secret(path: Path) -> Iterator[Callable[[Any], None]]:
    """What writes a file that nobody else may read. It is made before anything happens that cannot be asked for again,
    and removed if nothing does.
    """
    with _done():
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise ConfigError(f"{path} cannot be made: {error.strerror}") from error
    written = False

    def write(paper: Any) -> None:
        nonlocal written
        with open(descriptor, "wb", closefd=False) as to:
            to.write(json.dumps(paper, indent=1).encode() + b"\n")
        os.fsync(descriptor)
        written = True

    try:
        yield write
    finally:
        os.close(descriptor)
        if not written:
            path.unlink()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _tell(what: str, rows: list[tuple[str, str]], then: str = "") -> None:
    from rich.text import Text

    from banish.cli.telling import out

    to = out()
    to.print(Text(what, style="bold green"))
    if rows:
        to.print(aligned(rows))
    if then:
        to.print(f"Now: {then}")


STYLES = {"self": "dim", "heard": "green", "silent": "bold red", "left": "yellow", "new": "cyan"}


def _show(state: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from banish.cli.telling import out

    table = Table(box=None, pad_edge=False)
    for column in ("member", "", "heard", "lag", "edge", "listens"):
        table.add_column(column, header_style="dim", no_wrap=True)
    for one in state["members"]:
        table.add_row(
            f"{one['name']}{' (relay)' if one['relay'] else ''}",
            Text(one["contact"], style=STYLES.get(one["contact"], "")),
            "" if one["heard_ago_s"] is None else f"{one['heard_ago_s']:.1f} s ago",
            "" if one["lag_s"] is None else f"{one['lag_s'] * 1000:.1f} ms",
            one["edge"],
            " ".join(one["endpoints"]),
        )
    to = out()
    behind = "; it may be missing purges" if state["behind"] else ""
    to.print(
        f"{state['name']}: {state['stage']}{behind}. {len(state['members'])} members, topology {state['topology']}"
    )
    to.print(table)
