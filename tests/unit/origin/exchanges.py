"""What the tests of fetching share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from banish.http.fields import Fields
from banish.http.messages import RequestHead
from banish.origin.client import OriginGroup, OriginResponse
from banish.tables import Accounts
from banish.testing.clock import FakeClock


def request(method: str = "GET", target: str = "/", *fields: tuple[str, str]) -> RequestHead:
    return RequestHead(method, target, Fields.of([("Host", "example.org"), *fields]))


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def read_all(response: OriginResponse) -> bytes:
    body = b""
    while data := await response.read():
        body += data
    return body


class Group(OriginGroup):
    """An origin group whose books can be asked."""

    def __init__(self, *urls: str, **settings: Any) -> None:
        self.accounts = Accounts()
        settings.setdefault("clock", FakeClock())
        super().__init__(urls, accounts=self.accounts, **settings)

    def count(self, metric: str, *labels: str) -> float:
        for row, counts in self.accounts.collect():
            if row.name == metric:
                return counts.get(labels, 0)
        raise KeyError(metric)

    async def get(self, target: str = "/", *fields: tuple[str, str]) -> bytes:
        return await read_all(await self.fetch(request("GET", target, *fields), None))


@asynccontextmanager
async def group_of(*urls: str, **settings: Any) -> AsyncIterator[Group]:
    group = Group(*urls, **settings)
    try:
        yield group
    finally:
        await group.close()
