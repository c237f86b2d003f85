"""Every error banish raises, in one tree.

    BanishError
    ├── ConfigError            the operator wrote something that cannot work
    ├── ClientError            the client broke a rule; carries the status to answer with
    │   └── LimitExceeded      … by going past a named limit
    ├── StoreError             what was kept here cannot be read back
    │   ├── IndexDamaged       … because its bytes are not what was written
    │   ├── IndexFailed        … or the disk gives way: it is full, or fails
    │   │   └── IndexBusy      … or is too slow just now: nothing was written
    │   └── LogDamaged         the log of purges cannot be read back
    ├── LogUnwritable          purges cannot be made durable now; nothing is confirmed
    ├── RecordError            a record of a purge is damaged, or of a version not known here
    └── OriginError            the origin broke a rule, or could not be reached
        ├── ConnectFailed      no connection came about
        ├── OriginTimeout      a named wait ran out
        ├── BadResponse        the response cannot be parsed or must not be trusted
        └── Truncated          the connection ended before the message did

`code` is stable: the same string stands in logs, metrics, `Cache-Status` and error pages.
Foreign errors are translated on the line that meets them, with the original as `__cause__`.
"""

from typing import ClassVar, NamedTuple


class BanishError(Exception):
    """Root of all errors that banish raises on purpose.

    `told` is what a client may read of it, where the error's own words speak of what is inside; else None.
    """

    code: ClassVar[str] = "error"
    told: ClassVar[str | None] = None


class Problem(NamedTuple):
    """One thing that is wrong with a configuration: where, what, and what would be right."""

    where: str
    """The file, environment variable or flag that says it."""
    line: int | None
    key: str
    what: str
    right: str = ""

    def __str__(self) -> str:
        place = f"{self.where}:{self.line}" if self.line else self.where
        parts = [part for part in (place, self.key if self.key != self.where else "", self.what) if part]
        return ": ".join(parts) + (f"; {self.right}" if self.right else "")


class ConfigError(BanishError):
    """A configuration that cannot work: says where, what, and what would be right, for every problem found."""

    code = "config"

    def __init__(self, *problems: Problem | str) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(
            Problem("", None, "", problem) if isinstance(problem, str) else problem for problem in problems
        )


class ClientError(BanishError):
    """A request that must be refused.

    `status` is the response status to answer with; `close` says that the connection cannot be trusted for
    another message (RFC 9112 section 9.3: when framing is in doubt, close).
    """

    code = "client"

    def __init__(self, status: int, reason: str, *, close: bool = True) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.close = close


class LimitExceeded(ClientError):
    """A request past a named limit. `limit` is the name of the setting."""

    code = "limit"

    def __init__(self, status: int, limit: str, reason: str) -> None:
        super().__init__(status, reason)
        self.limit = limit


class StoreError(BanishError):
    """The edge's own memory or disk failed. Never the client's fault, nor the origin's."""

    code = "store"
    told = "what was kept here cannot be read back"


class IndexDamaged(StoreError):
    """Bytes of the index are not what was written there. The row, or the whole index, counts as missing."""

    code = "index_damaged"


class IndexFailed(StoreError):
    """The index cannot be read or written now: the disk is full or fails, or the index is closed.

    Whether a write that failed took effect is not known until the index is opened anew.
    """

    code = "index_failed"


class IndexBusy(IndexFailed):
    """The disk does not keep up with what is written. Nothing was written; soon the same can be tried again."""

    code = "index_busy"


class LogDamaged(StoreError):
    """The log of purges is not what was written there."""

    code = "log_damaged"


class LogUnwritable(BanishError):
    """Purges cannot be made durable now. One that was refused for it may be in effect, and may be logged later.

    `full` says that the disk is full.
    """

    code = "log"
    told = "purges cannot be kept at present"

    def __init__(self, reason: str, *, full: bool = False) -> None:
        super().__init__(reason)
        self.full = full


class RecordError(BanishError):
    """A record of a purge cannot be read: it is damaged, or of a version not known here."""

    code = "record"


class OriginError(BanishError):
    """The origin could not give a response that may be relayed.

    `status` is what a client is told when nothing stored can be served instead: 502 or 504.
    `retryable` says that the request cannot have had an effect, or had none that a repeat would double.
    """

    code = "origin"
    told = "the origin gave no response that can be passed on"
    status: ClassVar[int] = 502

    def __init__(self, reason: str, *, retryable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable


class ConnectFailed(OriginError):
    """No address of the origin took a connection (refused, unreachable, name or TLS failure)."""

    code = "connect"
    told = "the origin cannot be reached"


class OriginTimeout(OriginError):
    """A wait on the origin ran out. `stage` is the name of the wait, as in `origin/timeouts.py`."""

    code = "timeout"
    told = "the origin did not answer in time"
    status = 504

    def __init__(self, stage: str, reason: str, *, retryable: bool = False) -> None:
        super().__init__(reason, retryable=retryable)
        self.stage = stage


class BadResponse(OriginError):
    """The origin's bytes are not an acceptable HTTP response."""

    code = "bad_response"
    told = "the origin answered with something that is not acceptable as HTTP"


class Truncated(OriginError):
    """The connection ended before the response was whole."""

    code = "truncated"
    told = "the origin broke its response off"
