"""Field lines: an immutable, ordered list whose names compare without case.

Values are `str` decoded as latin-1, so every byte survives the round trip (RFC 9110 section 5.5).
Not here: what any field means.
Invariant: `names[i]` is `lines[i][0]` in lower case.
"""

from collections.abc import Collection, Iterable, Iterator

import msgspec

NAMES_SHARED_MAX = 1024
"""Names of which one object is shared by all messages; NAME_LENGTH_SHARED_MAX is the longest such name. A stored
response would be a third larger with names of its own."""
NAME_LENGTH_SHARED_MAX = 64


class _Shared(dict[str, tuple[str, str]]):
    """Name → the shared object for it, and the one for its lower case. A memo, so no state to speak of."""

    def __missing__(self, name: str) -> tuple[str, str]:
        lower = name.lower()
        if lower in self:
            lower = self[lower][0]
        pair = (name, lower)
        if len(self) >= NAMES_SHARED_MAX:  # somebody sends names at random: begin again, the usual ones come back
            self.clear()
        if len(name) <= NAME_LENGTH_SHARED_MAX:
            self[name] = pair
        return pair


_shared = _Shared()


class Fields(msgspec.Struct, frozen=True, gc=False):
    """The field lines of one message, in the order received.

    Lookups take names in lower case. The value is immutable; changing it makes a new one.
    `gc=False` keeps a million stored responses out of the cyclic collector's reach: there are no cycles here.
    """

    lines: tuple[tuple[str, str], ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, lines: Iterable[tuple[str, str]]) -> "Fields":
        """Fields from (name, value) pairs."""
        pairs = [(_shared[name], value) for name, value in lines]
        return cls(tuple([(name[0], value) for name, value in pairs]), tuple([name[1] for name, _ in pairs]))

    @classmethod
    def decode(cls, lines: Iterable[tuple[bytes, bytes]]) -> "Fields":
        """Fields from what a parser delivers, less the white space that llhttp leaves at a value's end.

        It is no part of the value (RFC 9112 section 5): with it, `Host: a ` would be another host.
        """
        return cls.of([(name.decode("latin-1"), value.decode("latin-1").strip(" \t")) for name, value in lines])

    def get(self, name: str) -> str | None:
        """All lines of that name joined by ", " (RFC 9110 section 5.3); None if absent."""
        if name not in self.names:
            return None
        values = self.get_all(name)
        return values[0] if len(values) == 1 else ", ".join(values)

    def get_all(self, name: str) -> list[str]:
        """The value of each line of that name, in order."""
        return [line[1] for line, known in zip(self.lines, self.names, strict=True) if known == name]

    def members(self, name: str) -> list[str]:
        """The members of a list-valued field, trimmed, empty ones dropped (RFC 9110 section 5.6.1).

        Commas inside quoted strings do not separate.
        """
        found: list[str] = []
        for value in self.get_all(name):
            found.extend(split_list(value))
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def without(self, names: Collection[str]) -> "Fields":
        """These fields less all lines of the given names."""
        if not any(name in names for name in self.names):
            return self
        return Fields.of([line for line, name in zip(self.lines, self.names, strict=True) if name not in names])

    def with_field(self, name: str, value: str) -> "Fields":
        """These fields with exactly one line of that name: replaced, and moved to the end."""
        kept = self.without((name.lower(),))
        return kept.plus(name, value)

    def plus(self, name: str, value: str) -> "Fields":
        """These fields with one more line at the end."""
        shared, lower = _shared[name]
        return Fields((*self.lines, (shared, value)), (*self.names, lower))

    def encode(self) -> bytes:
        """The lines as they go on the wire, each ended by CRLF; no blank line."""
        return "".join([f"{name}: {value}\r\n" for name, value in self.lines]).encode("latin-1")


def split_list(value: str) -> list[str]:
    """The trimmed members of a list, quoted strings minded, empty ones dropped (RFC 9110 section 5.6.1)."""
    if '"' not in value:
        return [member for part in value.split(",") if (member := part.strip(" \t"))]
    members: list[str] = []
    start, quoted, escaped = 0, False, False
    for at, char in enumerate(value):
        if quoted:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                quoted = False
        elif char == '"':
            quoted = True
        elif char == ",":
            members.append(value[start:at])
            start = at + 1
    members.append(value[start:])
    return [member for part in members if (member := part.strip(" \t"))]
