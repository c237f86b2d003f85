"""Rendezvous: which of several answers for a key, so that all who ask agree and few keys move when one goes.

Each name is weighed anew for each key; the heaviest answers, the next one if it cannot (highest random weight, Thaler
and Ravishankar 1998). A name that leaves moves its own keys and no others.

Not here: who is up (`proxy/upstream.py`).
Invariant: the order depends on the key and the set of names alone.
"""

import hashlib
from collections.abc import Iterable


def ranked(key: str, names: Iterable[str]) -> list[str]:
    """The names, each once, in the order in which they are to be asked for this key."""
    return sorted(set(names), key=lambda name: (_weight(key, name), name), reverse=True)


def _weight(key: str, name: str) -> bytes:
    return hashlib.blake2b(f"{name}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
