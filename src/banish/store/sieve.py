"""SIEVE: which responses on disk make room for others; and who is let in once there is no room left.

Responses lie in the order in which they were stored. A hand goes from the oldest to the newest and takes what
was not asked for since it last came by; what was asked for stays where it is and loses its mark. So new
responses that nobody asks for twice go before old ones that are in use.

    oldest  [ a ][ b*][ c ][ d*][ e ][ f ]  newest        * asked for since the hand last passed
                       ▲ hand: c goes; d keeps its place, without its mark; e goes; …; round to the oldest

Once the disk is full, a response is let in only if its key was fetched before, not too long ago: most URLs of a
long tail are asked for once, and would push out two others each for nothing.

Source: Zhang, Yang, Yue, Vigfusson, Rashmi: "SIEVE is simpler than LRU", NSDI 2024, figure 3. Ours: the queue is
rows on disk by serial number; marks are bits in a bounded map, so two serials far apart may share one, which costs
an undeserved stay; an eviction looks at a bounded number of rows. The door: TinyLFU's doorkeeper (Einziger,
Friedman, Manes, ACM ToS 2017, section 3.4.2).
Not here: rows (`disk.py`). Pure.
Units: serials, as `rows.py` has them.
"""

from collections.abc import Hashable

MARKS = 1 << 23
"""Marks kept: a mebibyte of bits. Serials that many apart share one."""

DOOR_KEYS = 1 << 19
"""Keys remembered at the door before the older half of the memory is forgotten."""

DOOR_BITS = 1 << 23
"""Bits per half: 16 a key, two of them set, so that one in seventy strangers is taken for an acquaintance."""


class Bits:
    """A bounded map of marks."""

    __slots__ = ("_bits", "_count")

    def __init__(self, count: int) -> None:
        assert count % 8 == 0, "whole bytes"
        self._count = count
        self._bits = bytearray(count // 8)

    def __contains__(self, number: int) -> bool:
        at = number % self._count
        return bool(self._bits[at >> 3] & (1 << (at & 7)))

    def add(self, number: int) -> None:
        """Set the mark of this number."""
        at = number % self._count
        self._bits[at >> 3] |= 1 << (at & 7)

    def discard(self, number: int) -> None:
        """Take the mark of this number away."""
        at = number % self._count
        self._bits[at >> 3] &= ~(1 << (at & 7))


class Sieve:
    """The hand and the marks. The queue itself is handed in, some places at a time."""

    __slots__ = ("_marks", "hand")

    def __init__(self, hand: int = 0, *, marks: int = MARKS) -> None:
        self.hand = hand
        """The serial at which the next look begins."""

        self._marks = Bits(marks)

    def __repr__(self) -> str:
        return f"<Sieve at {self.hand}>"

    def touch(self, serial: int) -> None:
        """This response was asked for."""
        self._marks.add(serial)

    def passes(self, serial: int) -> bool:
        """Move the hand over a response: whether it stays. Its mark, if any, goes."""
        self.hand = serial + 1
        if serial not in self._marks:
            return False
        self._marks.discard(serial)
        return True

    def turn(self) -> None:
        """The hand is past the newest: begin again at the oldest."""
        self.hand = 0


class Door:
    """Who was seen before. Two halves: the younger one takes names, the older one is forgotten when it is full."""

    __slots__ = ("_bits", "_keys_max", "_older", "_seen", "_younger")

    def __init__(self, *, keys_max: int = DOOR_KEYS, bits: int = DOOR_BITS) -> None:
        self._keys_max = keys_max
        self._bits = bits
        self._younger, self._older = Bits(bits), Bits(bits)
        self._seen = 0

    def knows(self, key: Hashable) -> bool:
        """Whether this key came by before; it is remembered from now on."""
        first = hash(key)
        second = hash((key, 1))
        known = any(first in half and second in half for half in (self._younger, self._older))
        self._younger.add(first)
        self._younger.add(second)
        self._seen += 1
        if self._seen >= self._keys_max:
            self._seen = 0
            self._younger, self._older = Bits(self._bits), self._younger
        return known
