"""In which line of a TOML file does each key stand.

The standard parser gives values without places, and a complaint without a place costs its reader minutes.
This is a scan, not a second parser: it is only run on text that `tomllib` has accepted, and only has to know
where statements begin. Keys inside inline tables are reported at the line of the statement that holds them.
"""

import re
import tomllib

Path = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_NAME = r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'"""
_KEY = re.compile(rf"\s*((?:{_NAME})(?:\s*\.\s*(?:{_NAME}))*)\s*=")
_PART = re.compile(_NAME)


def key_lines(text: str) -> dict[Path, int]:
    """Path of each key and table → its line, from 1. Members of arrays of tables are numbered from 0."""
    found: dict[Path, int] = {}
    arrays: dict[Path, int] = {}
    table: Path = ()
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        start = at
        if header := _HEADER.match(lines[at]):
            table = _descend(header[2], arrays, is_array=header[1] == "[[")
            found.setdefault(table, start + 1)
            at += 1
            continue
        key = _KEY.match(lines[at])
        if key is None:
            at += 1
            continue
        parts = _parts(key[1])
        for depth in range(1, len(parts) + 1):
            found.setdefault((*table, *parts[:depth]), start + 1)
        at = _end_of_statement(lines, start)
    return found


def line_of(path: Path, lines: dict[Path, int]) -> int | None:
    """The line of the key, or of the nearest thing around it that has one."""
    for end in range(len(path), 0, -1):
        if path[:end] in lines:
            return lines[path[:end]]
    return None


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in _PART.findall(dotted))


def _descend(dotted: str, arrays: dict[Path, int], *, is_array: bool) -> Path:
    """The path of a `[table]` or the next member of an `[[array]]`, inside the newest member of each array
    above.
    """
    path: Path = ()
    parts = _parts(dotted)
    for depth, part in enumerate(parts):
        path = (*path, part)
        if depth == len(parts) - 1 and is_array:
            arrays[path] = arrays.get(path, -1) + 1
        if path in arrays:
            path = (*path, arrays[path])
    return path


def _end_of_statement(lines: list[str], start: int) -> int:
    """The line after a `key = value` that may run over several lines: parse ever more of it until it is
    whole.
    """
    for end in range(start + 1, len(lines) + 1):
        try:
            tomllib.loads("\n".join(lines[start:end]))
        except tomllib.TOMLDecodeError:
            continue
        return end
    return len(lines)
