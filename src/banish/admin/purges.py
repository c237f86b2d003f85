"""The native API of purging: purge, follow, undo, look back.

    POST   /purges              202 when in effect and durable; 200 when it was before, or is a dry run
    GET    /purges              the history, newest first
    GET    /purges/feed         the same, oldest first, from a cursor on; waits for what is to come
    GET    /purges/export       all of it in lines of JSON, with the signed records
    GET    /purges/{id}         how far a purge is; waits for it if asked
    DELETE /purges/{id}         undo a soft purge; cancel a scheduled one

A request of a browser's page cannot purge: it would have to say `application/json`, which another site's page
may not without being let to, and nothing here lets it.

Not here: purging (`edge/purging.py`); what the JSON looks like (`purge_forms.py`).
"""

from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from banish.admin.access import Access, Right
from banish.admin.bodies import read_json
from banish.admin.endpoints import Call, Endpoint, Parameter, json, number, whole
from banish.admin.moments import moment
from banish.admin.polls import POLL_S, POLL_S_MAX
from banish.admin.purge_forms import (
    DryRunTold,
    FeedTold,
    PageTold,
    PurgeForm,
    PurgeTold,
    asked,
    dry_run_told,
    feed_told,
    page_told,
    read_form,
    state_told,
    told,
)
from banish.edge.receipts import Filters, Purge, Reach, Wait, reach_of
from banish.errors import ClientError
from banish.purge.records import RecordKind

PURGE_BODY_BYTES_MAX = 1024**2
"""The body of one request: four times what a record may hold, since JSON is more wordy."""

PAGE = 100
PAGE_MAX = 1000
"""Entries in one piece of the history or of the feed."""

_EITHER = frozenset({Right.READ, Right.PURGE})


async def _purge(call: Call) -> Response:
    body = await _body(call.request)
    form = read_form(body)
    request = asked(form, key=_idempotency_key(call.request), now=call.subject.clock.now(), body=body)
    if form.dry_run:
        return json(dry_run_told(await call.subject.purger.dry_run(request, call.access.caller)))
    _need(call.access, Right.PURGE)
    wait, timeout_s = _wait(call.request)
    purge = await call.subject.purger.purge(request, call.access.caller)
    answer = told(purge)
    if wait is not None:
        waits = call.subject.purger.get(purge.id, wait=wait, timeout_s=timeout_s, counts=_counts(call.request))
        answer = state_told(await call.polls.wait(call.request, waits))
        answer.copies, answer.widened, answer.replayed = purge.copies, purge.widened, purge.replayed
    return json(answer, 200 if purge.replayed else 202, {"location": f"/purges/{purge.id}"})


def _wait(request: Request) -> tuple[Wait | Reach | None, float]:
    """What a caller waits for, and for how long. Raises ClientError(400)."""
    timeout_s = number(request, "timeout", POLL_S, 0.0, POLL_S_MAX)
    text = request.query_params.get("wait")
    if text is None:
        return None, timeout_s
    wait = Wait(text) if text in list(Wait) else reach_of(text)
    if wait is None:
        raise ClientError(400, f"wait for one of: {', '.join(Wait)}, all, quorum, or a number of edges")
    return wait, timeout_s


def _counts(request: Request) -> bool:
    """Whether other edges are asked what a purge matched there."""
    asked = request.query_params.get("counts")
    if asked not in (None, "edges"):
        raise ClientError(400, "counts are those of edges: counts=edges")
    return asked is not None


async def _undo(call: Call) -> Response:
    id_ = call.request.path_params["id"]
    await _own(call, id_)
    reason = call.request.query_params.get("reason", "")
    return json(told(await call.subject.purger.undo(id_, call.access.caller, reason)))


async def _get(call: Call) -> Response:
    id_, query = call.request.path_params["id"], call.request.query_params
    wait, timeout_s = _wait(call.request)
    counts = _counts(call.request)
    await _own(call, id_)
    state = await call.polls.wait(
        call.request,
        call.subject.purger.get(
            id_,
            wait=wait,
            timeout_s=timeout_s if wait is not None or "after" in query else 0.0,
            after=query.get("after"),
            sites=call.access.sites,
            counts=counts,
        ),
    )
    return json(state_told(state))


async def _list(call: Call) -> Response:
    filters, limit = _filters(call), whole(call.request, "limit", PAGE, 1, PAGE_MAX)
    page = await call.subject.purger.list(filters, limit=limit, before=call.request.query_params.get("before"))
    return json(page_told(page))


async def _feed(call: Call) -> Response:
    feed = await call.polls.wait(
        call.request,
        call.subject.purger.feed(
            call.request.query_params.get("after") or None,
            wait_s=number(call.request, "wait", 0.0, 0.0, POLL_S_MAX),
            limit=whole(call.request, "limit", PAGE, 1, PAGE_MAX),
            filters=_filters(call),
        ),
    )
    return json(feed_told(feed))


async def _export(call: Call) -> Response:
    entries = call.subject.purger.export(_filters(call))
    return StreamingResponse(_lines(entries), media_type="application/x-ndjson")


async def _lines(entries: AsyncIterator[tuple[Purge, bytes]]) -> AsyncIterator[bytes]:
    encoder = msgspec.json.Encoder()
    async for purge, record in entries:
        yield encoder.encode(told(purge, record=record)) + b"\n"


async def _own(call: Call, id_: str) -> None:
    """Whether a caller without the right to read asks for a purge of its own. Raises ClientError(404): of others'
    it is not told so much as that they exist.
    """
    if (name := call.access.own_only) is None:
        return
    state = await call.subject.purger.get(id_, sites=call.access.sites)
    if state.purge.actor != name:
        raise ClientError(404, "there is no such purge")


def _need(access: Access, right: Right) -> None:
    if right not in access.rights:
        raise ClientError(403, f'the token "{access.name}" may not {right.value}')


def _filters(call: Call) -> Filters:
    query, now = call.request.query_params, call.subject.clock.now()
    actor, own = query.get("actor"), call.access.own_only
    if own is not None and actor not in (None, own):
        raise ClientError(403, f'the token "{own}" may look at its own purges only')
    kinds = query.getlist("kind")
    if not set(kinds) <= set(RecordKind):
        raise ClientError(400, f"kind is one of: {', '.join(RecordKind)}")
    return Filters(
        since=moment(query["since"], now, "since") if "since" in query else None,
        until=moment(query["until"], now, "until") if "until" in query else None,
        actor=own or actor,
        site=query.get("site"),
        sites=call.access.sites,
        target=query.get("target"),
        kinds=tuple(map(RecordKind, kinds)) or None,
    )


def _idempotency_key(request: Request) -> str:
    """The key that a caller gave, quoted as in the IETF's draft or bare."""
    key = request.headers.get("idempotency-key", "").strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not (key.isascii() and key.isprintable()):
        raise ClientError(400, "Idempotency-Key is printable ASCII")
    return key


async def _body(request: Request) -> bytes:
    """The whole body, if it is JSON and no larger than it may be."""
    what = f"a purge is at most {PURGE_BODY_BYTES_MAX} bytes of JSON: send several"
    return await read_json(request, PURGE_BODY_BYTES_MAX, "PURGE_BODY_BYTES_MAX", what)


_FILTERS = (
    Parameter("since", "Entries from this moment on: 2030-01-31T18:00:00Z, seconds since 1970, or -1h."),
    Parameter("until", "Entries up to this moment."),
    Parameter("target", "Entries with this target: its value, or kind:value.", example="tag:news"),
    Parameter("actor", "Entries by the holder of this token."),
    Parameter("site", "Entries about this site, those about all sites among them."),
    Parameter("kind", f"Entries of this kind: {', '.join(RecordKind)}.", repeats=True),
)

ENDPOINTS = (
    Endpoint(
        "POST",
        "/purges",
        _purge,
        "Purge a batch of targets, at once or later. In effect and durable when it answers 202.",
        {202: PurgeTold, 200: (PurgeTold, DryRunTold)},
        rights=_EITHER,
        headers=(
            Parameter("Idempotency-Key", "The same key with the same body purges once, however often it is sent."),
        ),
        query=(
            Parameter(
                "wait", "Wait until it is applied or swept here, or durable on all edges, a quorum, or a number."
            ),
            Parameter(
                "timeout", f"For so many seconds, up to {POLL_S_MAX:g}; it is answered 202 all the same.", float, POLL_S
            ),
            Parameter("counts", "edges: with `wait`, ask each edge what it matched there."),
        ),
        body=PurgeForm,
        refuses=(400, 403, 408, 413, 415, 422, 503),
    ),
    Endpoint(
        "GET",
        "/purges",
        _list,
        "The history of purges, newest first.",
        {200: PageTold},
        rights=_EITHER,
        query=(
            *_FILTERS,
            Parameter("limit", f"At most so many, up to {PAGE_MAX}.", int, PAGE),
            Parameter("before", "`before` of the piece before."),
        ),
        refuses=(400, 403),
    ),
    Endpoint(
        "GET",
        "/purges/feed",
        _feed,
        "The history from a cursor on, oldest first: each entry once, and none left out.",
        {200: FeedTold},
        rights=_EITHER,
        query=(
            Parameter("after", "`cursor` of the piece before, or of the history. From the log's start if left out."),
            Parameter("wait", f"Wait so many seconds for an entry to come, up to {POLL_S_MAX:g}.", float, 30),
            *_FILTERS,
            Parameter("limit", f"At most so many, up to {PAGE_MAX}.", int, PAGE),
        ),
        refuses=(400, 403, 410, 503),
    ),
    Endpoint(
        "GET",
        "/purges/export",
        _export,
        "The history, oldest first, a JSON object a line, each with its signed record.",
        {200: "application/x-ndjson"},
        query=_FILTERS,
        refuses=(400, 403),
    ),
    Endpoint(
        "GET",
        "/purges/{id}",
        _get,
        "How far a purge is, and what each target matched.",
        {200: PurgeTold},
        rights=_EITHER,
        query=(
            Parameter(
                "wait", "Wait until it is applied or swept here, or durable on all edges, a quorum, or a number."
            ),
            Parameter("timeout", f"For so many seconds, up to {POLL_S_MAX:g}.", float, POLL_S),
            Parameter("after", "`cursor` last seen: answers as soon as anything has changed since."),
            Parameter("counts", "edges: ask each edge what it matched there."),
        ),
        refuses=(400, 403, 404, 503),
    ),
    Endpoint(
        "DELETE",
        "/purges/{id}",
        _undo,
        "Undo a soft purge within its window, or cancel a scheduled one.",
        {200: PurgeTold},
        rights=frozenset({Right.PURGE}),
        query=(Parameter("reason", "For the history."),),
        refuses=(400, 403, 404, 409, 503),
    ),
)
