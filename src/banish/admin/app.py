"""The admin API: one small application over a running edge.

    GET /metrics                          Prometheus text
    GET /healthz                          200 while the event loop turns
    GET /readyz                           200 while serving; 503 before and after
    GET /explain?url=&header=Name:value   what a request would meet, and why
    GET /objects?after=&limit=            stored responses, page by page
    GET /config                           the configuration in force, secrets left out

Whoever may connect may read: the listener is on loopback, or a token is asked for (`edge/checks.py` sees to
that). Without a token, a Host that is a name other than localhost is refused, so that a page in a browser on
this machine cannot read the API through a name of its own that it points at loopback (DNS rebinding).

Not here: sockets and the server under it (`server.py`).
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import banish
from banish.admin import metrics
from banish.admin.budget import budgeted
from banish.admin.explain import explain, summary
from banish.admin.subject import Subject
from banish.edge.config import redacted
from banish.errors import ClientError

PAGE_MAX = 1000
PAGE = 100
_OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that a load balancer asks, without a token."""

_encoder = msgspec.json.Encoder()


def make_app(subject: Subject) -> Starlette:
    """The application for one edge."""

    def route(path: str, answer: Callable[[Subject, Request], Awaitable[Response]]) -> Route:
        async def endpoint(request: Request) -> Response:
            return await answer(subject, request)

        return Route(path, endpoint, methods=["GET"])

    return Starlette(
        routes=[
            route("/", _index),
            route("/metrics", _metrics),
            route("/healthz", _healthz),
            route("/readyz", _readyz),
            route("/explain", _explain),
            route("/objects", _objects),
            route("/config", _config),
        ],
        middleware=[Middleware(_Guard, subject=subject)],
    )


class _Guard:
    """Lets nobody in who may not be."""

    def __init__(self, app: ASGIApp, subject: Subject) -> None:
        self._app = app
        self._subject = subject

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(Request(scope))) is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        token_sha256 = self._subject.config.admin.token_sha256
        if request.url.path in _OPEN:
            return None
        if token_sha256 is None:
            return None if _is_own_name(request.headers.get("host", "")) else _problem(421, "call it localhost")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(token.strip().encode("latin-1")).hexdigest()
        if scheme.lower() == "bearer" and hmac.compare_digest(digest, token_sha256.lower()):
            return None
        refusal = _problem(401, "send Authorization: Bearer TOKEN")
        refusal.headers["www-authenticate"] = 'Bearer realm="banish"'
        return refusal


def _is_own_name(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name.lower() == "localhost":
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _json(content: Any, status: int = 200) -> Response:
    return Response(_encoder.encode(content) + b"\n", status, media_type="application/json")


def _problem(status: int, what: str) -> Response:
    return _json({"error": what}, status)


async def _index(subject: Subject, request: Request) -> Response:
    paths = "".join(f"{line.strip()}\n" for line in (__doc__ or "").splitlines() if "GET /" in line)
    return PlainTextResponse(f"banish {banish.__version__}, node {subject.config.node}: {subject.state}\n\n{paths}")


async def _metrics(subject: Subject, request: Request) -> Response:
    return Response(await metrics.render(subject.accounts), headers={"content-type": metrics.CONTENT_TYPE})


async def _healthz(subject: Subject, request: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _readyz(subject: Subject, request: Request) -> Response:
    return PlainTextResponse(f"{subject.state}\n", 200 if subject.state == "serving" else 503)


async def _explain(subject: Subject, request: Request) -> Response:
    url = request.query_params.get("url")
    if not url:
        return _problem(400, "say which: /explain?url=https://host/path, and header=Name:value at will")
    lines = [line.partition(":") for line in request.query_params.getlist("header")]
    if any(not separator or not name.strip() for name, separator, _ in lines):
        return _problem(400, "write a header as Name:value")
    try:
        return _json(explain(subject, url, [(name.strip(), value.strip()) for name, _, value in lines]))
    except ClientError as error:
        return _problem(400, error.reason)


async def _objects(subject: Subject, request: Request) -> Response:
    """One page. `next` is where the following one begins; what comes or goes meanwhile may be missed or seen
    twice.
    """
    try:
        after = int(request.query_params.get("after", "0"))
        limit = int(request.query_params.get("limit", str(PAGE)))
    except ValueError:
        return _problem(400, "after and limit are whole numbers")
    if after < 0 or not 1 <= limit <= PAGE_MAX:
        return _problem(400, f"limit is from 1 to {PAGE_MAX}, after is what `next` of a page said")
    now = subject.clock.now()
    page: list[dict[str, Any]] = []
    following = None
    async for place, record in budgeted(subject.store.walk_from(after)):
        if len(page) == limit:
            following = after
            break
        page.append(summary(record, now))
        after = place
    return _json({"objects": page, "stored": len(subject.store), "next": following})


async def _config(subject: Subject, request: Request) -> Response:
    return _json(redacted(subject.config))
