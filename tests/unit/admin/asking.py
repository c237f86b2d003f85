"""Requests to the admin application, without a socket."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.types import Message

from banish.admin.app import make_app
from tests.unit.admin.subject import FakeEdge

HOST = "127.0.0.1:8081"


@dataclass
class Answer:
    """What an application answered."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.fields["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """What the refusal says."""
        assert self.status >= 400, self.body
        said: str = self.json["error"]
        return said

    @property
    def text(self) -> str:
        return self.body.decode()


class Raw(NamedTuple):
    """A body as it goes over the wire."""

    pieces: tuple[bytes, ...]


@dataclass
class Client:
    """Asks one application. `left` is set when it goes away."""

    app: Starlette
    headers: Mapping[str, str] = field(default_factory=dict)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    address: str = "192.0.2.7"
    stalls: bool = False
    """It begins a body and never ends it."""

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request; `body` is sent as JSON, if it is not Raw. Underscores in names of fields are hyphens."""
        raw_path, _, query = path.partition("?")
        pieces = body.pieces if isinstance(body, Raw) else () if body is None else (json.dumps(body).encode(),)
        given = {"content-type": "application/json"} if body is not None else {}
        fields = {"host": HOST, **given, **self.headers, **headers}
        incoming: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        if not self.stalls:
            incoming.append({"type": "http.request", "body": b"", "more_body": False})
        sent: list[Message] = []

        async def receive() -> Message:
            if incoming:
                return incoming.pop(0)
            await self.left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": raw_path,
            "query_string": query.encode(),
            "client": (self.address, 40000),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()],
        }
        await self.app(scope, receive, send)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:]))


def ask(edge: FakeEdge, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """One request to an edge's admin application."""

    async def main() -> Answer:
        return await Client(make_app(edge)).ask(method, path, body, **headers)

    return asyncio.run(main())


def get(edge: FakeEdge, path: str, **headers: str) -> Answer:
    """One GET."""
    return ask(edge, "GET", path, **headers)
