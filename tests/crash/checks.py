"""What a data directory holds after a crash, looked at on a copy: looking changes both log and index.

Not here: what is answered from it (`world.py`).
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from banish.purge.positions import Position
from banish.purge.records import RecordKind, chain_holds, decode, signature_holds
from banish.store.check import Report, check_store
from banish.store.identity import verifies
from banish.store.ledger import Entry, Ledger, Query
from tests.crash.world import Acknowledged

LOG_FILES = ("purges.sqlite", "purges.sqlite-wal")


class History:
    """What the log of a killed edge says."""

    def __init__(self, data: Path, scratch: Path) -> None:
        with _copy(data, scratch, LOG_FILES) as copy, contextlib.closing(Ledger.open(copy / LOG_FILES[0])) as ledger:
            self.cut = int(ledger.note("cut") or 0)
            self.reserved = int(ledger.note("reserved") or 0)
            self.entries: list[Entry] = list(ledger.entries(Query()))
        key = bytes.fromhex(msgspec.json.decode((data / "identity").read_bytes())["key"])
        self._public = Ed25519PrivateKey.from_private_bytes(key).public_key()

    def faults(self, acknowledged: list[Acknowledged]) -> Iterator[str]:
        """What is wrong with it: all that was acknowledged has to be there, each epoch has to be one chain that its
        last signature vouches for, and say where the one before ended."""
        here = {entry.position.text: entry.index for entry in self.entries}
        for purge in acknowledged:
            if purge.apply_index > self.cut and here.get(purge.id) != purge.apply_index:
                yield f"{purge.id} (index {purge.apply_index}), acknowledged, is not in the log, cut at {self.cut}"
        if not all(self.cut < entry.index <= self.reserved for entry in self.entries):
            yield f"entries beyond what is reserved ({self.reserved}) or below the cut ({self.cut})"
        last: Position | None = None
        in_epochs = sorted(
            self.entries, key=lambda entry: entry.position.here_only
        )  # what others are told, then the rest
        for epoch, group in groupby(in_epochs, key=lambda entry: entry.position.epoch):
            entries = list(group)
            if not chain_holds([entry.record for entry in entries]):
                yield f"the chain of epoch {epoch} is broken"
            if not signature_holds(entries[-1].record, lambda signed, data: verifies(self._public, signed, data)):
                yield f"epoch {epoch} ends with a signature that does not hold"
            first = decode(entries[0].record)
            if first.kind is RecordKind.OPEN and last is not None and first.about != last.text:
                yield f"epoch {epoch} says that the one before ended at {first.about!r}, it did at {last.text}"
            last = entries[-1].position


def look_through(data: Path, scratch: Path) -> Report:
    """What `banish store check` finds."""
    with _copy(data, scratch, ("index", "bodies")) as copy:
        return check_store(copy, repair=False)


@contextlib.contextmanager
def _copy(data: Path, scratch: Path, names: tuple[str, ...]) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(dir=scratch, prefix="copy-"))
    try:
        for name in names:
            copy_over(data / name, place / name)
        yield place
    finally:
        shutil.rmtree(place)


def copy_over(source: Path, target: Path) -> None:
    """Copy a file or a directory, where it is; files that go meanwhile are left out."""
    with contextlib.suppress(FileNotFoundError):
        if source.is_dir():
            target.mkdir(exist_ok=True)
            for path in source.iterdir():
                copy_over(path, target / path.name)
        else:
            shutil.copy2(source, target)
