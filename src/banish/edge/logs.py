"""Two logs: what clients asked (the access log, one line a request) and what the edge has to say (structlog).

Access lines are made and written by a thread of their own. The event loop only appends a tuple to a bounded
queue; the thread takes what is there ten times a second, WRITE_LINES lines at a time, so that it gives the
interpreter lock back (every write does) long before the loop would miss it. When the disk cannot keep up the
queue fills, and records are dropped and counted: a log never holds a request back.

Not here: which requests are logged with what outcome (`proxy/`). Source of the combined form: the Apache HTTP
Server's log format of that name; control characters and quotes are escaped as `\\xHH`, so a line is always
one line.
"""

import functools
import logging
import os
import sys
import threading
import time
from collections import deque
from typing import IO, NamedTuple, TextIO

import msgspec
import structlog

from banish.edge.config import Log
from banish.tables import Accounts, Metric

QUEUE_RECORDS_MAX = 65_536
"""Records waiting to be written: at 20,000 requests a second, three seconds of a disk that does not answer.
"""
WRITE_LINES = 64
"""Lines of one write: about 0.2 ms of formatting between two releases of the interpreter lock."""
FLUSH_S = 0.1

ACCESS_WRITTEN = Metric("banish_access_log_lines_total", "counter", "Access log lines written.")
ACCESS_DROPPED = Metric(
    "banish_access_log_dropped_total",
    "counter",
    "Access log records dropped: the queue was full, or the file could not be written.",
    ("reason",),
)

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), ord('"'), ord("\\"), *range(127, 256))}

log = structlog.get_logger(__name__)


class AccessRecord(NamedTuple):
    """One request, as the access log tells it. `outcome` is a member of `caching.cache_status.Outcome`."""

    time: float
    """When the response ended, seconds since the epoch."""
    peer: str
    method: str
    target: str
    """As the client sent it."""
    version: str
    status: int
    sent_bytes: int
    """Body bytes given to the client."""
    received_bytes: int
    """Request bytes, head and body."""
    duration_s: float
    """From the first byte of the request head to the end of the response."""
    outcome: str
    host: str
    referer: str = ""
    user_agent: str = ""
    cache_status: str = ""
    site: str = ""


class AccessLog:
    """The access log. `write` may be called whether it is on or off; `enabled` tells who would rather not
    bother.
    """

    def __init__(self, settings: Log, accounts: Accounts) -> None:
        self.enabled = settings.access != "off"
        self._path = settings.access
        self._line = combined_line if settings.format == "combined" else json_line
        self._queue: deque[AccessRecord] = deque()
        self._reopen = False
        self._failing = False
        self._stopping = threading.Event()
        self._written = accounts.tally(ACCESS_WRITTEN)
        self._dropped = accounts.tally(ACCESS_DROPPED)
        self._descriptor = -1
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the file and begin writing. Raises OSError if it cannot be opened."""
        if self.enabled:
            self._descriptor = self._open()
            self._thread = threading.Thread(target=self._work, name="access-log", daemon=True)
            self._thread.start()

    def write(self, record: AccessRecord) -> None:
        """Queue one record. Never waits."""
        if not self.enabled:
            return
        if len(self._queue) >= QUEUE_RECORDS_MAX:
            self._dropped.add("queue_full")
            return
        self._queue.append(record)

    def reopen(self) -> None:
        """Open the file anew before the next line: it has been moved away (log rotation)."""
        self._reopen = True

    def close(self) -> None:
        """Write what is queued and stop. Waits for the disk."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._queue:
            self._dropped.add("not_written", n=len(self._queue))
            self._queue.clear()
        if self._descriptor > 2:
            os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> int:
        if self._path == "-":
            return 1
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _work(self) -> None:
        while not self._stopping.wait(FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        if self._reopen:
            self._reopen = False
            self._swap()
        while self._queue:
            records = [self._queue.popleft() for _ in range(min(WRITE_LINES, len(self._queue)))]
            try:
                _write_all(self._descriptor, "".join(map(self._line, records)).encode())
                self._written.add(n=len(records))
                self._failing = False
            except OSError as error:
                self._dropped.add("not_written", n=len(records))
                if not self._failing:  # once, not ten times a second
                    log.error("access log cannot be written", path=self._path, error=error.strerror)
                self._failing = True
                return

    def _swap(self) -> None:
        try:
            fresh = self._open()
        except OSError as error:
            log.error(
                "access log cannot be reopened, old file stays",
                path=self._path,
                error=error.strerror,
            )
            return
        if self._descriptor > 2:
            os.close(self._descriptor)
        self._descriptor = fresh


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def combined_line(record: AccessRecord) -> str:
    """`peer - - [time] "request" status bytes "referer" "agent"`, the form log analysers know."""
    return (
        f"{record.peer or '-'} - - [{_clf_time(int(record.time))}] "
        f'"{_quoted(record.method)} {_quoted(record.target)} HTTP/{record.version}" '
        f"{record.status} {record.sent_bytes} "
        f'"{_quoted(record.referer) or "-"}" "{_quoted(record.user_agent) or "-"}"\n'
    )


def json_line(record: AccessRecord) -> str:
    """One JSON object: every member of the record, the time in RFC 3339."""
    members = record._asdict()
    members["time"] = _rfc3339(record.time)
    members["duration_s"] = round(record.duration_s, 6)
    return _encoder.encode(members).decode() + "\n"


_encoder = msgspec.json.Encoder()


def _quoted(text: str) -> str:
    return (
        text
        if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
        else text.translate(_ESCAPES)
    )


@functools.lru_cache(maxsize=4)
def _clf_time(second: int) -> str:
    at = time.gmtime(second)
    month = _MONTHS[at.tm_mon - 1]
    return f"{at.tm_mday:02}/{month}/{at.tm_year}:{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} +0000"


@functools.lru_cache(maxsize=4)
def _rfc3339_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _rfc3339(when: float) -> str:
    second = int(when)
    return f"{_rfc3339_second(second)}.{int((when - second) * 1000):03}Z"


def writes_json(settings: Log, stream: IO[str]) -> bool:
    """Does the edge's own log have the form of JSON on this stream?"""
    return settings.format_app == "json" or (settings.format_app == "auto" and not stream.isatty())


def configure_logging(settings: Log, stream: TextIO | None = None) -> None:
    """Send everything that is logged, by this package and by libraries, to one stream in one form."""
    out = stream if stream is not None else sys.stderr
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    renderer: list[structlog.types.Processor] = (
        [_telling_first, _traceback, structlog.processors.JSONRenderer()]
        if writes_json(settings, out)
        else [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)]
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    # A library that announces its own start would drown the edge's banner.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"):
        logging.getLogger(name).setLevel("WARNING")


_traceback = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
"""Where an exception came from. Not the variables there: they hold the fields of requests, tokens and cookies."""


def _telling_first(logger: object, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """When, how bad and what, before the details."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return {**first, **event}
