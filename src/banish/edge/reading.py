"""From plain data (a TOML document, environment, flags) to a typed struct, finding every problem on the way.

`msgspec.convert` stops at the first mistake and speaks of types; an operator wants all mistakes at once, each
with its place and with what would be right. So structs and lists of structs are walked here, and only leaves
are converted. The same walk over the schema gives the rows of the reference page and the names of environment
variables.

Not here: the schema (`config.py`), rules that join several settings (`checks.py`).
Units: a setting whose name ends in `_bytes` or `_s` may be written with a unit (`units.py`).
"""

import ast
import difflib
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from banish.edge.tomllines import Path as KeyPath
from banish.edge.tomllines import line_of
from banish.edge.units import parse_bytes, parse_duration
from banish.errors import Problem

_IS_BYTES = re.compile(r".*_bytes(_max)?").fullmatch
_UNREAD: Any = object()
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


class Setting(NamedTuple):
    """One row of the schema, as the reference page shows it."""

    path: tuple[str, ...]
    """Names from the top; a list's name ends in `[]`."""
    default: Any
    """`msgspec.NODEFAULT` if it must be given."""
    takes: str
    description: str
    extra: Mapping[str, Any]

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def env(self) -> str | None:
        """The environment variable that sets it; None inside lists, which have no one place to be set."""
        if any(part.endswith("[]") for part in self.path):
            return None
        return "BANISH_" + "_".join(self.path).upper()


class Places(NamedTuple):
    """Where each value came from: the file, unless an environment variable or flag has overlaid it."""

    file: str
    lines: dict[KeyPath, int]
    overlaid: dict[KeyPath, str]

    def problem(self, path: KeyPath, what: str, right: str = "") -> Problem:
        """A problem at the place that `path` was read from."""
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        source = self.source(path)
        if source is not None:
            return Problem(source, None, key, what, right)
        return Problem(self.file, line_of(path, self.lines), key, what, right)

    def source(self, path: KeyPath) -> str | None:
        """The variable or flag that gave the value at or around `path`; None if the file did."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.overlaid:
                return self.overlaid[path[:end]]
        return None


def settings(cls: type[Any], above: tuple[str, ...] = (), *, described: bool = True) -> Iterator[Setting]:
    """Every setting below a struct, in the order declared. Descriptions are read from the source, which takes a third
    of a second: a start does without.
    """
    documented = attribute_docs(cls) if described else {}
    for field in msgspec.structs.fields(cls):
        base, metas = _unwrap(field.type)
        inner, is_list = _struct_of(base)
        if inner is not None:
            yield from settings(inner, (*above, field.encode_name + ("[]" if is_list else "")), described=described)
            continue
        default = field.default
        if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        extra = {key: value for meta in metas for key, value in (meta.extra or {}).items()}
        said = documented.get(field.name, "")
        yield Setting((*above, field.encode_name), default, takes(field.type, field.encode_name), said, extra)


class Reader:
    """One reading of one document. `problems` gathers what is wrong, by the path it is wrong at.

    A setting that cannot be read keeps its default, so that what follows can be looked at too; `incomplete`
    says that one without a default was missing, and what came out must not be looked at.
    """

    def __init__(self, places: Places, base: Path, shorthands: Mapping[type, str]) -> None:
        self.problems: dict[KeyPath, Problem] = {}
        self.incomplete = False
        self._places = places
        self._base = base
        self._shorthands = shorthands

    def struct(self, cls: type[Any], raw: Any, path: KeyPath = ()) -> Any:
        """Build a `cls` from a table; a lone value stands for the field that `shorthands` names."""
        if not isinstance(raw, dict) and (short := self._shorthands.get(cls)) is not None:
            raw = {short: raw}
        if not isinstance(raw, dict):
            return self._wrong(path, f"{_show(raw)} is not a table", f"write a [{_table(path)}] section")
        fields = {field.encode_name: field for field in msgspec.structs.fields(cls)}
        for key in [key for key in raw if key not in fields]:
            self._wrong((*path, key), "is not a setting", did_you_mean(key, list(fields)))
        values: dict[str, Any] = {}
        for name, field in fields.items():
            if name in raw:
                values[field.name] = self._value(field.type, raw[name], (*path, name))
            elif field.required:
                values[field.name] = self._wrong((*path, name), "is missing", attribute_docs(cls).get(field.name, ""))
            if values.get(field.name) is _UNREAD:
                del values[field.name]
                self.incomplete |= field.required
        return _UNREAD if self.incomplete else cls(**values)

    def _value(self, annotation: Any, raw: Any, path: KeyPath) -> Any:
        base, metas = _unwrap(annotation)
        inner, is_list = _struct_of(base)
        if inner is None:
            return self._leaf(annotation, metas, raw, path)
        if not is_list:
            return self.struct(inner, raw, path)
        members = raw if isinstance(raw, list) else [raw]
        read = [self.struct(inner, member, (*path, at)) for at, member in enumerate(members)]
        return _UNREAD if _UNREAD in read else tuple(read)

    def _leaf(self, annotation: Any, metas: tuple[msgspec.Meta, ...], raw: Any, path: KeyPath) -> Any:
        name = str(path[-1])
        is_text = self._places.source(path) is not None
        try:
            value = _with_unit(raw, name, annotation)
            value = _listed(value, annotation, split=is_text)
            value = msgspec.convert(value, annotation, strict=not is_text)
        except ValueError as error:  # msgspec.ValidationError is one
            right = "" if isinstance(error, msgspec.ValidationError) else str(error)
            return self._wrong(path, f"{_show(raw)} is not {takes(annotation, name)}", right)
        if isinstance(value, str) and any("path" in (meta.extra or {}) for meta in metas):
            base = Path.cwd() if is_text else self._base
            return value if value in ("-", "off", "") else str(base / Path(value).expanduser())
        return value

    def _wrong(self, path: KeyPath, what: str, right: str = "") -> Any:
        self.problems[path] = self._places.problem(path, what, right)
        return _UNREAD


def did_you_mean(word: str, known: list[str]) -> str:
    """The nearest known word, or all of them when there are few enough to read."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    near = near or [name for name in known if name.rsplit("_", 1)[0] == word][:1]
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known here: {', '.join(known)}" if len(known) <= 24 else ""


def takes(annotation: Any, name: str = "") -> str:
    """What a setting takes, in words: `a whole number from 1 to 100 (bytes)`."""
    base, metas = _unwrap(annotation)
    members = _members(base)
    words = _alternatives(members)
    low = next((meta.ge for meta in metas if meta.ge is not None), None)
    high = next((meta.le for meta in metas if meta.le is not None), None)
    above = next((meta.gt for meta in metas if meta.gt is not None), None)
    if low is not None and high is not None:
        words += f" from {_plain(low)} to {_plain(high)}"
    elif low is not None:
        words += f" from {_plain(low)}"
    elif high is not None:
        words += f" up to {_plain(high)}"
    elif above is not None:
        words += f" above {_plain(above)}"
    words += "".join(f" {meta.description}" for meta in metas if meta.description)
    unit = "bytes" if _IS_BYTES(name) else "seconds" if name.endswith("_s") else ""
    return f"{words} ({unit})" if unit else words


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _alternatives(members: tuple[Any, ...]) -> str:
    found: list[str] = []
    for member in members:
        if get_origin(member) is Literal:
            found.extend(f'"{value}"' for value in get_args(member))
        elif get_origin(member) in (tuple, list, frozenset):
            found.append("a list of texts" if get_args(member)[0] is str else "a list")
        elif member is not type(None):
            found.append(_WORDS.get(member, getattr(member, "__name__", str(member))))
    return " or ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


def _unwrap(annotation: Any) -> tuple[Any, tuple[msgspec.Meta, ...]]:
    """The type inside `Annotated`, and the Meta around it."""
    if get_origin(annotation) is Annotated:
        base, *metas = get_args(annotation)
        return base, tuple(meta for meta in metas if isinstance(meta, msgspec.Meta))
    return annotation, ()


def _members(base: Any) -> tuple[Any, ...]:
    if get_origin(base) in (Union, types.UnionType):
        return tuple(_unwrap(member)[0] for member in get_args(base))
    return (base,)


def _struct_of(base: Any) -> tuple[type[msgspec.Struct] | None, bool]:
    """The struct that a setting holds, and whether it holds a list of them."""
    for member in _members(base):
        if isinstance(member, type) and issubclass(member, msgspec.Struct):
            return member, False
        if get_origin(member) in (tuple, list):
            inner = get_args(member)[0]
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                return inner, True
    return None, False


def _with_unit(raw: Any, name: str, annotation: Any) -> Any:
    if not isinstance(raw, str):
        return raw
    parse: Callable[[str], float] | None = None
    if _IS_BYTES(name):
        parse = parse_bytes
    elif name.endswith("_s"):
        parse = parse_duration
    if parse is None:
        return raw
    value = parse(raw)
    return int(value) if int in _members(_unwrap(annotation)[0]) and float(value).is_integer() else value


def _listed(raw: Any, annotation: Any, *, split: bool) -> Any:
    """A lone text where a list is expected is a list of one; from a variable, commas separate."""
    origins = {get_origin(member) for member in _members(_unwrap(annotation)[0])}
    if not isinstance(raw, str) or not origins & {tuple, list, frozenset}:
        return raw
    return [part.strip() for part in raw.split(",") if part.strip()] if split else [raw]


def _show(raw: Any) -> str:
    if isinstance(raw, bool):
        return str(raw).lower()
    shown = f'"{raw}"' if isinstance(raw, str) else repr(raw)
    return shown if len(shown) <= 60 else shown[:57] + "…"


def _table(path: KeyPath) -> str:
    return ".".join(str(part) for part in path if isinstance(part, str))


def attribute_docs(cls: type) -> dict[str, str]:
    """The text under each attribute of a class, first sentence, for structs that describe their fields that
    way.
    """
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError):
        return {}
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match after:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[statement.target.id] = " ".join(text.split())
    return found
