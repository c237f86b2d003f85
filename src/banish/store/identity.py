"""Who this edge is: its id, its key, its epoch; and that its directory is its own, and no older copy.

    lock        held (flock) by the one process that uses the directory; says which
    identity    edge id and Ed25519 key, made once; never given away (0600)
    epoch       the epoch of the last start, replaced by each start before its first use: also the marker

The marker: a copied or restored file has another inode or another change time (which nobody can set) than the
one that the log remembers from the last start. If they differ, or the log is another file than it was, then the
directory is a copy: what was purged after the copy was made is not known here, the log takes a new id, and with
it the store is emptied. A recursive chmod or chown changes that time too; it costs the cache, never truth. What
puts back a whole disk (snapshots of volumes and machines) cannot be told from within.

Not here: a log that is older than its witness (`witness.py`, `log.py`); what positions are (`purge/positions.py`).
Format of `identity`: JSON with `format` 1. Invariant: no two starts have the same epoch, not even on copies.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from banish import durable
from banish.errors import ConfigError

FORMAT = 1


class SealedLog(Protocol):
    """What the seal needs of the log."""

    seal: str
    path: Path | None

    def record_seal(self, seal: str, *, renew: bool) -> None:
        """Keep it durably; `renew`: under a new id of the log."""
        ...


class _Stored(msgspec.Struct, frozen=True):
    format: int
    edge: str
    key: str
    """The private key's 32 bytes, in hex."""


class _Marker(msgspec.Struct, frozen=True):
    """What a log remembers of the last start."""

    inode: int = 0
    changed_ns: int = 0
    log_inode: int = 0
    opening: str = ""
    """The epoch that a start was about to write to the file: a crash then is no copy."""


class Identity:
    """The identity of one edge, held until `close`. Without a directory it is new with each process."""

    def __init__(self, directory: Path | None, edge: str, key: Ed25519PrivateKey, lock: int) -> None:
        """For `open`."""
        self.edge = edge
        """16 hexadecimal digits."""
        self.epoch = ""
        """`N-hhhhhhhh`: the N-th start; empty until `next_epoch` or `seal`."""
        self.restored = False
        """Whether the directory was found to be a copy."""
        self._directory = directory
        self._key = key
        self._public = key.public_key()
        self._lock = lock

    def __repr__(self) -> str:
        return f"<Identity {self.edge} epoch={self.epoch or None}>"

    @classmethod
    def open(cls, directory: Path | None) -> Self:
        """The identity kept in `directory`, which is made if missing. Takes the lock. Blocks.

        Raises ConfigError if another process holds it, or if what is there cannot be read or written.
        """
        if directory is None:
            return cls(None, secrets.token_hex(8), Ed25519PrivateKey.generate(), -1)
        lock = -1
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = _lock(directory)
            stored = _load(directory / "identity") or _make(directory / "identity")
            key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(stored.key))
        except BaseException as error:
            if lock >= 0:
                os.close(lock)
            if isinstance(error, OSError):
                raise ConfigError(f"the data directory {directory} cannot be used: {error}") from error
            raise
        return cls(directory, stored.edge, key, lock)

    def close(self) -> None:
        """Let go of the directory."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of an Ed25519 signature by this edge."""
        return self._key.sign(data)

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether `signature` is this edge's, of `data`."""
        return verifies(self._public, signature, data)

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that others need to check signatures."""
        return self._public.public_bytes_raw()

    def next_epoch(self) -> str:
        """Open the next epoch: durable when this returns. Blocks. Raises ConfigError."""
        return self._open_epoch(self._coming())

    def seal(self, log: SealedLog) -> bool:
        """Open the next epoch and find out whether the directory is a copy (`restored`); remember its marker in
        `log`, which takes a new id if it is one. Blocks. Raises ConfigError, LogUnwritable.
        """
        if self._directory is None or log.path is None:
            self.next_epoch()
            return False
        before = msgspec.json.decode(log.seal, type=_Marker) if log.seal else None
        self.restored = before is not None and not self._holds(before, log.path)
        coming = self._coming()
        opening = msgspec.structs.replace(before or _Marker(), opening=coming)
        log.record_seal(msgspec.json.encode(opening).decode(), renew=self.restored)
        self._open_epoch(coming)
        log.record_seal(msgspec.json.encode(self._marker(log.path)).decode(), renew=False)
        return self.restored

    def _coming(self) -> str:
        count = 0
        with contextlib.suppress(OSError, ValueError):
            count = int(self._written().split("-")[0])
        return f"{count + 1}-{secrets.token_hex(4)}"

    def _written(self) -> str:
        """The text of the epoch file; raises OSError."""
        return "" if self._directory is None else (self._directory / "epoch").read_text().strip()

    def _open_epoch(self, epoch: str) -> str:
        if self._directory is not None:
            try:
                durable.replace(self._directory / "epoch", f"{epoch}\n".encode())
            except OSError as error:
                raise ConfigError(f"the data directory {self._directory} cannot be written: {error}") from error
        self.epoch = epoch
        return epoch

    def _marker(self, log: Path) -> _Marker:
        assert self._directory is not None
        try:
            epoch, found = (self._directory / "epoch").stat(), log.stat()
        except OSError:
            return _Marker()
        return _Marker(epoch.st_ino, epoch.st_ctime_ns, found.st_ino)

    def _holds(self, before: _Marker, log: Path) -> bool:
        """Whether everything is as it was when the log last saw it."""
        now = self._marker(log)
        if now.log_inode != before.log_inode and before.log_inode:
            return False
        if (now.inode, now.changed_ns) == (before.inode, before.changed_ns) and now.inode:
            return True
        with contextlib.suppress(OSError):
            return bool(before.opening) and self._written() == before.opening
        return False


def become(directory: Path, edge: str, key: bytes, *, before: Callable[[], None] = lambda: None) -> None:
    """Give a directory that has no identity that of an edge which was made elsewhere. Blocks.

    `before` is called with the lock held. Raises ConfigError if a process uses the directory, if it has an identity
    then, or if it cannot be written.
    """
    path, lock = directory / "identity", -1
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = _lock(directory)
        before()
        if path.exists():
            raise ConfigError(f"{directory} is that of an edge already")
        durable.replace(path, _bytes(_Stored(FORMAT, edge, key.hex())))
    except OSError as error:
        raise ConfigError(f"the data directory {directory} cannot be used: {error}") from error
    finally:
        if lock >= 0:
            os.close(lock)


def verifies(key: Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether `signature` is that of `data` by the holder of `key`."""
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _lock(directory: Path) -> int:
    """The descriptor that holds the lock. Raises OSError, ConfigError."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise ConfigError(
            f"the data directory {directory} is in use by another process{f' ({holder})' if holder else ''};"
            " give each edge a directory of its own"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"pid {os.getpid()}\n".encode(), 0)
    return descriptor


def _load(path: Path) -> _Stored | None:
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_Stored)
        if len(bytes.fromhex(stored.key)) != 32 or len(bytes.fromhex(stored.edge)) != 8:
            raise ValueError("not of this length")
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(
            f"{path} is damaged: put it back from a backup, or move it away to become a new edge"
        ) from error
    if stored.format > FORMAT:
        raise ConfigError(f"{path} was written by a later release (format {stored.format}, here {FORMAT})")
    return stored


def _make(path: Path) -> _Stored:
    key = Ed25519PrivateKey.generate().private_bytes_raw().hex()
    stored = _Stored(FORMAT, secrets.token_hex(8), key)
    durable.replace(path, _bytes(stored))
    return stored


def _bytes(stored: _Stored) -> bytes:
    return msgspec.json.encode(stored) + b"\n"
