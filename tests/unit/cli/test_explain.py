import asyncio
import hashlib
import socket
from typing import Any

import pytest

from banish.admin.app import make_app
from banish.admin.server import AdminServer
from banish.cli.explain import CannotAsk, ask, show
from banish.cli.report import console
from tests.stored import stored_response
from tests.unit.admin.subject import FakeEdge

KEY = f"{FakeEdge().sites.all[0].key_name} http://shop.example/a"


def answer_of(edge: FakeEdge, token: str | None = None, headers: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a running admin listener answers about one URL."""

    async def main() -> dict[str, Any]:
        server = AdminServer(make_app(edge), socket.create_server(("127.0.0.1", 0)))
        await server.start()
        try:
            where = "{}:{}".format(*server.address)
            return await asyncio.to_thread(ask, where, "http://shop.example/a", list(headers), token)
        finally:
            await server.stop()

    return asyncio.run(main())


def test_what_is_stored_is_shown_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    edge = FakeEdge()
    edge.store.put(stored_response(KEY, vary=("accept-language",), selecting=("de",)))
    show(answer_of(edge, headers=("Accept-Language: de",)), console())
    said = capsys.readouterr().err
    assert said.startswith("hit  a stored response matches")
    assert "▸ stored 200, fresh" in said
    assert "    age        60 s of 600 s\n" in said
    assert "    varies on  accept-language: de\n" in said


def test_without_the_token_it_says_how_to_give_it() -> None:
    edge = FakeEdge(**{"admin.token_sha256": hashlib.sha256(b"sesame").hexdigest()})
    with pytest.raises(CannotAsk, match=r"401.*--token or BANISH_TOKEN"):
        answer_of(edge)
    assert answer_of(edge, token="sesame")["stored"] is False


def test_what_is_not_stored_comes_with_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    show(answer_of(FakeEdge()), console())
    said = capsys.readouterr().err
    assert said.startswith("forward  nothing is stored for this URL\n")
    assert "Cache-Status" in said


def test_what_makes_no_sense_is_said_by_the_edge() -> None:
    with pytest.raises(CannotAsk, match=r"400.*Name:value"):
        answer_of(FakeEdge(), headers=("nonsense",))
