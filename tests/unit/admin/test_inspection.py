from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.stored import key_of, stored_response
from tests.unit.admin.asking import get
from tests.unit.admin.subject import FakeEdge
from tests.unit.admin.tokens import bearer, guarded


def test_ready_only_while_serving() -> None:
    edge = FakeEdge()
    assert get(edge, "/readyz").status == 200
    edge.state = "draining"
    answer = get(edge, "/readyz")
    assert (answer.status, answer.text) == (503, "draining\n")
    assert get(edge, "/healthz").status == 200


def test_metrics_are_text() -> None:
    answer = get(FakeEdge(), "/metrics")
    assert answer.status == 200
    assert answer.fields["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE banish_store_bytes gauge" in answer.text


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux tells of processes in /proc")
def test_metrics_tell_of_the_process() -> None:
    assert "\nprocess_open_fds " in get(FakeEdge(), "/metrics").text


def test_the_configuration_is_shown_without_secrets() -> None:
    edge = guarded(name="ci")
    shown = get(edge, "/config", **bearer()).json
    assert shown["sites"][0]["origin"] == ["http://origin.example"]
    assert shown["admin"]["tokens"][0]["sha256"] == "***"


def test_objects_come_page_by_page_and_each_once() -> None:
    edge = FakeEdge()
    for nth in range(25):
        edge.store.put(stored_response(str(nth)))
    keys: list[str] = []
    after: int | None = 0
    while after is not None:
        page = get(edge, f"/objects?limit=10&after={after}").json
        assert page["stored"] == 25
        keys += [shown["key"] for shown in page["objects"]]
        after = page["next"]
    assert sorted(keys) == sorted(key_of(str(nth)) for nth in range(25))


def test_an_object_tells_age_and_time_left() -> None:
    edge = FakeEdge()
    edge.store.put(stored_response(body=b"hello"))
    (shown,) = get(edge, "/objects").json["objects"]
    assert (shown["age_s"], shown["ttl_s"], shown["body_bytes"], shown["status"]) == (60, 540, 5, 200)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=-1", "after=1e3", "limit=²"])
def test_a_page_that_cannot_be_is_refused(query: str) -> None:
    assert get(FakeEdge(), f"/objects?{quote(query, safe='=')}").status == 400


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", "say which"),
        ("url=%2Fa", "must begin with http"),
        ("url=http%3A%2F%2F", "host"),
        ("url=http://a/&header=nonsense", "Name:value"),
        ("url=" + quote("http://a/%zz"), ""),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(query: str, error: str) -> None:
    answer = get(FakeEdge(), f"/explain?{query}")
    assert answer.status == 400
    assert error in answer.error


def test_a_token_for_some_sites_sees_the_responses_of_these_alone() -> None:
    edge = guarded(sites=("shop",), site_names=("shop", "press"))
    for site in ("shop", "press"):
        edge.store.put(stored_response(f"{site}#0123456789ab http://{site}.example/a"))

    def sites() -> list[Any]:
        return [shown["key"].partition("#")[0] for shown in get(edge, "/objects", **bearer()).json["objects"]]

    assert sites() == ["shop"]
    assert get(edge, "/explain?url=http://shop.example/a", **bearer()).status == 200
    refused = get(edge, "/explain?url=http://press.example/a", **bearer())
    assert (refused.status, refused.error) == (403, 'this token is not for the site "press"')
    assert get(edge, "/config", **bearer()).status == 403
