"""What only looks: metrics, health, explain, stored responses, configuration.

A token for some sites sees of stored responses only those of its sites, and no configuration, which is of all.

Not here: purges (`purges.py`); the application (`app.py`).
"""

from starlette.responses import PlainTextResponse, Response

from banish.admin import metrics
from banish.admin.access import Right
from banish.admin.budget import budgeted
from banish.admin.endpoints import Call, Endpoint, Parameter, json, whole
from banish.admin.explain import Explained, ObjectPage, StoredSummary, explain, summary
from banish.caching.keys import split_key
from banish.edge.config import redacted
from banish.errors import ClientError

PAGE_MAX = 1000
"""Stored responses in one page of a listing."""
PAGE = 100
"""As many if the caller does not say."""

PLACE_MAX = 2**63 - 1

ANY = frozenset(Right)
"""Whatever a token is for."""


async def _metrics(call: Call) -> Response:
    return Response(await metrics.render(call.subject.accounts), headers={"content-type": metrics.CONTENT_TYPE})


async def _healthz(call: Call) -> Response:
    return PlainTextResponse("ok\n")


async def _readyz(call: Call) -> Response:
    state, mesh = call.subject.state, call.subject.mesh
    behind = ", may be missing purges" if mesh is not None and mesh.state().behind else ""
    return PlainTextResponse(f"{state}{behind}\n", 200 if state == "serving" else 503)


async def _explain(call: Call) -> Response:
    url = call.request.query_params.get("url")
    if not url:
        raise ClientError(400, "say which: /explain?url=https://host/path, and header=Name:value at will")
    lines = [line.partition(":") for line in call.request.query_params.getlist("header")]
    if any(not separator or not name.strip() for name, separator, _ in lines):
        raise ClientError(400, "write a header as Name:value")
    fields = [(name.strip(), value.strip()) for name, _, value in lines]
    return json(await explain(call.subject, url, fields, covers=call.access.covers))


async def _objects(call: Call) -> Response:
    """One page. `next` is where the following one begins; what comes or goes meanwhile may be missed or seen
    twice.
    """
    after = whole(call.request, "after", 0, 0, PLACE_MAX)
    limit = whole(call.request, "limit", PAGE, 1, PAGE_MAX)
    now = call.subject.clock.now()
    page: list[StoredSummary] = []
    following = None
    async for place, record in budgeted(call.subject.store.walk_from(after)):
        if len(page) == limit:
            following = after
            break
        if call.access.covers(split_key(record.meta.key).site):
            page.append(summary(record, now))
        after = place
    return json(ObjectPage(objects=page, stored=len(call.subject.store), next=following))


async def _config(call: Call) -> Response:
    if call.access.sites is not None:
        raise ClientError(403, f'the token "{call.access.name}" is for some sites, and the configuration is of all')
    return json(redacted(call.subject.config))


ENDPOINTS = (
    Endpoint("GET", "/metrics", _metrics, "All figures, as Prometheus reads them.", {200: "text/plain"}),
    Endpoint("GET", "/healthz", _healthz, "200 while the event loop turns.", {200: "text/plain"}, rights=frozenset()),
    Endpoint(
        "GET",
        "/readyz",
        _readyz,
        "200 while serving; 503 before and after. For load balancers.",
        {200: "text/plain", 503: "text/plain"},
        rights=frozenset(),
    ),
    Endpoint(
        "GET",
        "/explain",
        _explain,
        "What a request would meet, and why; which purge removed what was stored.",
        {200: Explained},
        query=(
            Parameter("url", "The URL, as a client would ask for it.", example="https://shop.example/a", required=True),
            Parameter("header", "A request field, as Name:value.", repeats=True),
        ),
        refuses=(400, 403),
    ),
    Endpoint(
        "GET",
        "/objects",
        _objects,
        "Stored responses in memory, page by page.",
        {200: ObjectPage},
        query=(
            Parameter("after", "`next` of the page before.", int),
            Parameter("limit", f"At most so many, up to {PAGE_MAX}.", int, PAGE),
        ),
        refuses=(400,),
    ),
    Endpoint("GET", "/config", _config, "The configuration in force, secrets left out.", {200: dict}, refuses=(403,)),
)
