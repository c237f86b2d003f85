"""The command line's end of the admin API: ask, and understand a refusal.

A question that broke off can be asked again if asking twice does no harm; whether it does not is for the caller to
know (`again`).

Not here: what is asked (`explain.py`, `purge.py`, `purges.py`); the API itself (`banish.admin`).
Units: seconds.
"""

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ASK_S = 10.0
"""How long an answer may take that is not waited for."""

AGAIN_MAX = 3
"""Times a question that broke off is asked again."""

AGAIN_AFTER_S = 0.3

PIECE_BYTES = 64 * 1024
"""What of a long answer is read at once."""

Query = Sequence[tuple[str, str]]


class CannotAsk(Exception):
    """The edge gave no answer; says why and what to do."""


class Broken(CannotAsk):
    """The answer broke off: the question may have arrived, or not."""


class Refused(CannotAsk):
    """The edge said no; says why and what to do."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """The admin listener of one edge."""

    def __init__(self, admin: str, token: str | None = None) -> None:
        self.admin = admin
        self._where = (admin if "://" in admin else f"http://{admin}").rstrip("/")
        self._token = token
        # No proxy from the environment: the admin listener is on this machine or in its network.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, query: Query = (), *, wait_s: float = 0.0) -> Any:
        """The answer to a question that only looks, and that may take `wait_s` longer. Raises CannotAsk."""
        return self.ask("GET", path, query, wait_s=wait_s, again=True)

    def ask(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        wait_s: float = 0.0,
        again: bool = False,
    ) -> Any:
        """The answer. With `again`, what broke off is asked again. Raises CannotAsk."""
        for attempt in range(AGAIN_MAX + 1):
            try:
                with self._open(method, path, query, body, headers, ASK_S + wait_s) as response:
                    return json.load(response)
            except (OSError, ValueError, http.client.HTTPException) as error:
                failure = self._failure(error)
                if not (again and isinstance(failure, Broken) and attempt < AGAIN_MAX):
                    raise failure from error
                time.sleep(AGAIN_AFTER_S)
        raise AssertionError("the last attempt returns or raises")

    def lines(self, path: str, query: Query = ()) -> Iterator[bytes]:
        """The lines of a long answer, as they come. Raises CannotAsk, also if it ends early."""
        try:
            with self._open("GET", path, query, None, None, ASK_S) as response:
                yield from _lines(response)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._failure(error) from error

    def _open(
        self, method: str, path: str, query: Query, body: Any, headers: Mapping[str, str] | None, timeout_s: float
    ) -> Any:
        question = f"?{urllib.parse.urlencode(query)}" if query else ""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._where}{path}{question}", data, dict(headers or {}), method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        return self._opener.open(request, timeout=timeout_s)

    def _failure(self, error: Exception) -> CannotAsk:
        if isinstance(error, urllib.error.HTTPError):
            hint = {401: "; give it with --token or BANISH_TOKEN", 404: "; is that its --admin?"}.get(error.code, "")
            reason, told = _reason(error)
            return Refused(
                f"{self.admin} refused ({error.code}): {reason}{'' if told and error.code == 404 else hint}", error.code
            )
        why = getattr(error, "reason", error)
        if isinstance(why, ConnectionRefusedError) or not _is_break(error, why):
            return CannotAsk(f"no edge answers on {self.admin} ({why}); is that its --admin?")
        return Broken(f"the answer of {self.admin} broke off ({why or type(why).__name__})")


def _lines(response: Any) -> Iterator[bytes]:
    """The lines of an answer. Read in pieces: the iteration of http.client takes a broken answer for a whole one."""
    rest = b""
    while piece := response.read(PIECE_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        yield from [line + b"\n" for line in lines]
    if rest:
        yield rest


def _is_break(error: Exception, why: object) -> bool:
    """Whether the edge was reached: the question may have had its effect."""
    return isinstance(error, http.client.HTTPException) or isinstance(why, ConnectionError | TimeoutError)


def _reason(error: urllib.error.HTTPError) -> tuple[str, bool]:
    """What is wrong, and whether it was banish that said so."""
    try:
        return str(json.load(error)["error"]), True
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return error.reason, False
