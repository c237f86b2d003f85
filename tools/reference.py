"""Write docs/reference/ from the tables in the code, or say with --check that it is out of date.

    configuration.md   every setting: edge/config.py and the structs it is made of
    metrics.md         every `Metric` that a module of the package declares
    cli.md             every command of `banish` and its options
    words.md           what logs, metrics and Cache-Status call outcomes, reasons and errors

Nothing is described here: a sentence that should read otherwise is to be changed where it is declared.
"""

import ast
import importlib
import inspect
import pkgutil
import sys
import textwrap
from collections.abc import Iterator
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

import msgspec
import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

import banish
from banish.caching.cache_status import Outcome
from banish.caching.reuse import Forwarded
from banish.caching.storing import StoreReason
from banish.cli.main import app
from banish.edge.config import Config
from banish.edge.reading import Setting, settings
from banish.edge.units import format_bytes
from banish.errors import BanishError
from banish.tables import Metric

HOME = Path(__file__).resolve().parents[1] / "docs" / "reference"
MADE = "<!-- Made by `make docs` from the tables in the code. Changes here are lost. -->\n\n"

CONFIGURATION = """# Configuration

A TOML file (`banish serve --config banish.toml`), overlaid by environment variables, overlaid by flags
(`--set name=value` for those without a flag of their own). Names are as in the file: `[]` after a name stands
for a list of tables. A setting whose name ends in `_bytes` or `_s` may be written with a unit: `"64 MiB"`,
`"10 minutes"`. `banish check banish.toml` says what is wrong, where, and what would be right.
"""

METRICS = """# Metrics

`/metrics` on the admin listener, in the text form that Prometheus reads. Beside these come, on Linux, those of the
process: `process_resident_memory_bytes`, `process_cpu_seconds_total`, `process_open_fds`, `process_max_fds`,
`process_start_time_seconds`, `process_virtual_memory_bytes`.
"""

COMMANDS = """# Commands

Exit codes: 0 as it should be; 1 the answer is no; 2 cannot start or cannot ask, and something has to be changed first;
3 waited in vain, and what was asked stands.
"""

WORDS = """# Words

How requests end and why, in the words that `Cache-Status`, logs and metrics share.
"""


def main() -> int:
    """Write the pages, or compare them."""
    pages = {"configuration.md": configuration(), "metrics.md": metrics(), "cli.md": commands(), "words.md": words()}
    if sys.argv[1:] == ["--check"]:
        old = [name for name, text in pages.items() if not _is(HOME / name, text)]
        if old:
            print(f"reference: out of date: {', '.join(old)}. Run `make docs`.", file=sys.stderr)
        return 1 if old else 0
    HOME.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (HOME / name).write_text(text, encoding="utf-8")
    return 0


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def configuration() -> str:
    """The page of settings, a section for each table."""
    sections: dict[str, list[Setting]] = {}
    for setting in settings(Config):
        sections.setdefault(".".join(setting.path[:-1]), []).append(setting)
    parts = [MADE, CONFIGURATION]
    for table, rows in sections.items():
        parts.append(f"\n## {f'`{table}`' if table else 'Top level'}\n\n")
        parts.append("| setting | takes | default | |\n|---|---|---|---|\n")
        parts += [_setting_row(row) for row in rows]
    return "".join(parts)


def _setting_row(setting: Setting) -> str:
    env = f" Environment: `{setting.env}`." if setting.env else ""
    cells = (f"`{setting.path[-1]}`", setting.takes, _default(setting), setting.description + env)
    return _row(*cells)


def _default(setting: Setting) -> str:
    name, value = setting.path[-1], setting.default
    if value is msgspec.NODEFAULT:
        return "must be given"
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and "_bytes" in name:
        return format_bytes(value)
    if isinstance(value, int | float) and name.endswith("_s"):
        return f"{value:g} s"
    return f"`{', '.join(value) if isinstance(value, tuple) else value}`"


def metrics() -> str:
    """The page of metrics, by name."""
    parts = [MADE, METRICS, "\n| metric | kind | labels | |\n|---|---|---|---|\n"]
    for metric in sorted(set(_declared()), key=lambda metric: metric.name):
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        parts.append(_row(f"`{metric.name}`", metric.kind, labels, metric.help))
    return "".join(parts)


def _declared() -> Iterator[Metric]:
    for module in pkgutil.walk_packages(banish.__path__, "banish."):
        if module.name == "banish.__main__":  # importing it would run it
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Metric):
                yield value


def commands() -> str:
    """The page of commands, in the order that `banish --help` has them."""
    parts = [MADE, COMMANDS]
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for name, command in _commands(group):
        usage = " ".join([param.metavar or "" for param in command.params if param.param_type_name == "argument"])
        parts.append(f"\n## `banish {name}{f' {usage}' if usage else ''}`\n\n{inspect.cleandoc(command.help or '')}\n")
        options = [param for param in command.params if isinstance(param, TyperOption)]
        parts.append("\n| option | environment | |\n|---|---|---|\n" if options else "")
        parts += [_option_row(option) for option in options]
    return "".join(parts)


def _commands(group: TyperGroup, above: str = "") -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    """Each command with its full name, those of a group behind the group itself."""
    for name, command in group.commands.items():
        assert isinstance(command, TyperCommand | TyperGroup)
        if isinstance(command, TyperCommand) or command.invoke_without_command:
            yield above + name, command
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{above}{name} ")


def _option_row(option: TyperOption) -> str:
    names = ", ".join(f"`{name}{f' {option.metavar}' if option.metavar else ''}`" for name in option.opts)
    return _row(names, f"`{option.envvar}`" if option.envvar else "", option.help or "")


def words() -> str:
    """The page of reasons: one table for each enum, and the codes of errors."""
    parts = [MADE, WORDS]
    enums: tuple[tuple[str, type[StrEnum]], ...] = (
        ("Outcomes", Outcome),
        ("Reasons to ask the origin: `fwd`", Forwarded),
        ("Reasons to store or not: `detail`", StoreReason),
    )
    for title, enum in enums:
        docs = _member_docs(enum)
        parts.append(f"\n## {title}\n\n{_first_line(enum)}\n\n| word | |\n|---|---|\n")
        parts += [_row(f"`{member.value}`", docs.get(member.name, "")) for member in enum]
    parts.append("\n## Errors: `detail`, and error pages\n\n| word | |\n|---|---|\n")
    parts += [_row(f"`{error.code}`", _first_line(error)) for error in _errors(BanishError)]
    return "".join(parts)


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").partition("\n")[0]


def _member_docs(enum: type[StrEnum]) -> dict[str, str]:
    """Member name → the text under it in the source, which Python itself forgets."""
    declared = ast.parse(textwrap.dedent(inspect.getsource(enum))).body[0]
    assert isinstance(declared, ast.ClassDef)
    docs: dict[str, str] = {}
    for member, under in pairwise(declared.body):
        match member, under:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.split())
    return docs


def _errors(root: type[BanishError]) -> Iterator[type[BanishError]]:
    for error in root.__subclasses__():
        if error.__module__.startswith("banish."):
            yield error
            yield from _errors(error)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"


if __name__ == "__main__":
    sys.exit(main())
