from typing import Any

import pytest

from banish.cli.api import CannotAsk
from banish.cli.explain import ask, show
from banish.cli.report import console
from banish.purge.targets import tag_target
from tests.stored import stored_response
from tests.unit.admin.subject import FakeEdge
from tests.unit.admin.tokens import digest
from tests.unit.cli.serving import listening

KEY = f"{FakeEdge().sites.all[0].key_name} http://shop.example/a"


def answer_of(edge: FakeEdge, token: str | None = None, headers: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a running admin listener answers about one URL."""
    with listening(edge) as listener:
        return ask(listener.admin, "http://shop.example/a", list(headers), token)


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
    edge = FakeEdge(**{"admin.token_sha256": digest("sesame")})
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


def test_the_purge_that_removed_what_was_stored_is_told_with_who_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    edge = FakeEdge()
    with listening(edge) as listener:
        purge = listener.purged({"tag": "news"}, {"url": "http://shop.example/a"}, reason="a misprint")
        edge.store.graves.bury(KEY, purge.index, 0.0)
        show(ask(listener.admin, "http://shop.example/a", [], None), console())
    said = capsys.readouterr().err
    assert said.startswith("forward  nothing is stored for this URL\n")
    assert f" by deploy from 192.0.2.7, hard purge {purge.id}\n" in said
    assert "of      tag news, url http://shop.example/a\n" in said
    assert "reason  a misprint\n" in said


def test_a_purge_that_the_log_has_forgotten_is_told_by_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    edge = FakeEdge()
    edge.store.graves.bury(KEY, 7, 0.0)
    show(answer_of(edge), console())
    assert "purged  by purge number 7 of this edge; its log does not go back that far\n" in capsys.readouterr().err


def test_a_soft_purge_is_told_with_the_response_that_it_hit(capsys: pytest.CaptureFixture[str]) -> None:
    edge = FakeEdge()
    edge.store.put(stored_response(KEY, tags=("news",)))
    with listening(edge) as listener:
        purge = listener.purged({"tag": "news"}, mode="soft")
        edge.store.table.apply(soft=[tag_target("default", "news")])
        show(ask(listener.admin, "http://shop.example/a", [], None), console())
    said = capsys.readouterr().err
    assert "▸ stored 200, soft-purged\n" in said
    assert f"soft purge {purge.id}\n" in said
