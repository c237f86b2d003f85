"""What an endpoint of the admin API is: one row that routes it, guards it and documents it.

Each module fills a tuple of rows with what it answers (`inspection.py`, `purges.py`); `app.py` makes an
application of them, `openapi.py` a document. So nothing is served that is not documented, nor the other way
round.

Not here: who may call (`access.py`).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from banish.admin.access import Access, Right
from banish.admin.polls import Polls
from banish.admin.subject import Subject
from banish.errors import ClientError

_encoder = msgspec.json.Encoder()


class Call(NamedTuple):
    """One request, with all that is needed to answer it."""

    subject: Subject
    request: Request
    access: Access
    polls: Polls


Answerer = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query."""

    name: str
    help: str
    type: type = str
    example: str | int | float | None = None
    repeats: bool = False
    required: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row: a path and method, who may, and what comes of it.

    `rights`: any one of them lets a caller in; none: open to all, without a token. `gives` maps each status of
    success to the types that its JSON may have, or to a content type.
    """

    method: str
    path: str
    answer: Answerer
    help: str
    gives: Mapping[int, type | tuple[type, ...] | str]
    rights: frozenset[Right] = frozenset({Right.READ})
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    body: type | None = None
    refuses: tuple[int, ...] = ()

    @property
    def sample(self) -> str:
        """The path with the names of its parameters, for people."""
        return self.path + (f"?{'&'.join(f'{one.name}=' for one in self.query)}" if self.query else "")


class Problem(msgspec.Struct, frozen=True):
    """What every refusal says."""

    error: str
    """What is wrong, and what would be right."""


def json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(_encoder.encode(content) + b"\n", status, headers, media_type="application/json")


def problem(error: ClientError) -> Response:
    """A refusal, with the fields that its status asks for."""
    response = json(Problem(error.reason), error.status)
    if error.status == 401:
        response.headers["www-authenticate"] = 'Bearer realm="banish"'
    if error.status == 503:
        response.headers["retry-after"] = "1"
    return response


def number(request: Request, name: str, default: float, lowest: float, highest: float) -> float:
    """A number in the query. Raises ClientError(400) that says what would be right."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not lowest <= value <= highest:
        raise ClientError(400, f"{name} is a number from {lowest:g} to {highest:g}")
    return value


def whole(request: Request, name: str, default: int, lowest: int, highest: int) -> int:
    """A whole number in the query. Raises ClientError(400) that says what would be right."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and lowest <= int(text) <= highest):
        raise ClientError(400, f"{name} is a whole number from {lowest} to {highest}")
    return int(text)
