"""Bodies of requests to the admin API: JSON, no larger than they may be, in time.

A page of another site can send a body without being let to, but cannot say that it is JSON: what changes anything asks
for that.
"""

import asyncio

from starlette.requests import ClientDisconnect, Request

from banish.admin.polls import Gone
from banish.errors import ClientError, LimitExceeded

BODY_S = 10.0
"""How long a body may take to arrive."""


async def read_json(request: Request, bytes_max: int, limit: str, what: str) -> bytes:
    """The whole body. Raises ClientError; past `bytes_max`, whose name is `limit`, it says `what`."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise ClientError(415, "send JSON, and say so: Content-Type: application/json")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                size += len(part)
                if size > bytes_max:
                    raise LimitExceeded(413, limit, what)
                parts.append(part)
    except TimeoutError as error:
        raise ClientError(408, f"the body did not arrive within {BODY_S:g} s") from error
    except ClientDisconnect as error:
        raise Gone from error
    return b"".join(parts)
