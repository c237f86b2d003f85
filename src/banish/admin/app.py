"""The admin API: one small application over a running edge.

It is put together from rows (`endpoints.py`), each with its path, its answer and the rights it asks for. `GET /`
lists them for people, `GET /openapi.json` for programs. Every refusal is JSON: {"error": "what, and what would be
right"}.

Not here: sockets and the server under it (`server.py`); who is let in (`access.py`).
"""

import asyncio
import functools
from collections.abc import Callable

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import banish
from banish.admin import inspection, mesh, purges, status
from banish.admin.access import Access, admit
from banish.admin.endpoints import Call, Endpoint, problem
from banish.admin.openapi import document
from banish.admin.polls import Gone, Polls
from banish.admin.subject import Subject
from banish.errors import BanishError, ClientError
from banish.tables import Metric

REQUESTS = Metric(
    "banish_admin_requests_total",
    "counter",
    "Requests to the admin listener by path and status; refused ones are `refused`.",
    ("path", "status"),
)

log = structlog.get_logger(__name__)


async def _index(call: Call) -> Response:
    subject = call.subject
    rows = "".join(f"{row.method:<7} {row.sample}\n        {row.help}\n" for row in ENDPOINTS)
    return PlainTextResponse(f"banish {banish.__version__}, node {subject.config.node}: {subject.state}\n\n{rows}")


async def _openapi(call: Call) -> Response:
    return Response(await asyncio.to_thread(_document), media_type="application/json")


@functools.cache
def _document() -> bytes:
    """Made once, on a thread: what stands under each field is read from the source, which takes a while."""
    return msgspec.json.encode(document(ENDPOINTS)) + b"\n"


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "/", _index, "This list.", {200: "text/plain"}, rights=inspection.ANY),
    Endpoint("GET", "/openapi.json", _openapi, "The same as an OpenAPI document.", {200: dict}, rights=inspection.ANY),
    *inspection.ENDPOINTS,
    *purges.ENDPOINTS,
    *mesh.ENDPOINTS,
    *status.ENDPOINTS,
)
"""All that is served."""

_OPEN = frozenset(row.path for row in ENDPOINTS if not row.rights)


def make_app(subject: Subject, polls: Polls | None = None) -> Starlette:
    """The application for one edge. `polls` are the long polls under way, to be ended when the edge stops."""
    under_way = Polls() if polls is None else polls
    requests = subject.accounts.tally(REQUESTS)

    def counted(path: str, response: Response) -> Response:
        requests.add(path, str(response.status_code))
        return response

    def route(row: Endpoint) -> Route:
        async def endpoint(request: Request) -> Response:
            access: Access = request.scope["banish.access"]
            return counted(row.path, await _answer(row, Call(subject, request, access, under_way)))

        return Route(row.path, endpoint, methods=[row.method])

    async def nothing_here(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        what = {404: "there is nothing here; GET / lists what there is", 405: "not with this method"}
        refusal = problem(ClientError(error.status_code, what.get(error.status_code, error.detail)))
        refusal.headers.update(error.headers or {})
        return counted("unknown", refusal)

    app = Starlette(routes=[route(row) for row in ENDPOINTS], exception_handlers={HTTPException: nothing_here})
    app.add_middleware(_Guard, subject=subject, counted=counted)
    return app


class _Guard:
    """Lets nobody in who may not be; tells the rest who it is."""

    def __init__(self, app: ASGIApp, subject: Subject, counted: Callable[[str, Response], Response]) -> None:
        self._app = app
        self._subject = subject
        self._counted = counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            scope["banish.access"] = self._access(Request(scope))
        except ClientError as error:
            await self._counted("refused", problem(error))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _access(self, request: Request) -> Access:
        if request.url.path in _OPEN:
            return Access("", "", frozenset(), ())
        return admit(self._subject.config.admin, request)


async def _answer(row: Endpoint, call: Call) -> Response:
    """What a row answers, or why it does not. A fault in one answer is that answer's alone."""
    try:
        if row.rights and row.rights.isdisjoint(call.access.rights):
            needed = " or ".join(sorted(row.rights))
            raise ClientError(403, f'the token "{call.access.name}" lacks the right: {needed}')
        return await row.answer(call)
    except ClientError as error:
        return problem(error)
    except Gone:
        return Response(status_code=499)  # nobody reads it; as nginx counts it
    except BanishError as error:
        log.warning("admin request failed", path=row.path, code=error.code, error=str(error))
        return problem(ClientError(503, str(error)))
    except Exception:
        log.exception("admin request failed", path=row.path)
        return problem(ClientError(500, "a fault of the edge; its log says more"))
