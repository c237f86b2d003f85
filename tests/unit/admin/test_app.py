import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.types import Message

import banish
from banish.admin.app import make_app
from tests.stored import stored_response
from tests.unit.admin.subject import FakeEdge


def get(edge: FakeEdge, path: str, host: str = "127.0.0.1:8081", **headers: str) -> tuple[int, str, str]:
    """Status, content type and body of one GET."""
    raw_path, _, query = path.partition("?")
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": raw_path,
        "query_string": query.encode(),
        "headers": [(b"host", host.encode()), *[(name.encode(), value.encode()) for name, value in headers.items()]],
    }
    asyncio.run(make_app(edge)(scope, receive, send))
    content_type = dict(sent[0]["headers"])[b"content-type"].decode()
    return sent[0]["status"], content_type, b"".join(message.get("body", b"") for message in sent[1:]).decode()


def ask(edge: FakeEdge, path: str) -> Any:
    status, content_type, body = get(edge, path)
    assert content_type == "application/json"
    return json.loads(body) if status == 200 else (status, json.loads(body)["error"])


def test_ready_only_while_serving() -> None:
    edge = FakeEdge()
    assert get(edge, "/readyz")[0] == 200
    edge.state = "draining"
    assert get(edge, "/readyz")[::2] == (503, "draining\n")
    assert get(edge, "/healthz")[0] == 200


def test_metrics_are_text() -> None:
    status, content_type, body = get(FakeEdge(), "/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=0.0.4")
    assert "# TYPE banish_store_bytes gauge" in body


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux tells of processes in /proc")
def test_metrics_tell_of_the_process() -> None:
    assert "\nprocess_open_fds " in get(FakeEdge(), "/metrics")[2]


def test_the_front_page_lists_the_rest() -> None:
    body = get(FakeEdge(), "/")[2]
    assert body.startswith(f"banish {banish.__version__}, node banish: serving\n")
    assert "GET /explain?url=" in body


def test_the_configuration_is_shown_without_secrets() -> None:
    assert ask(FakeEdge(), "/config")["sites"][0]["origin"] == ["http://origin.example"]


def test_objects_come_page_by_page_and_each_once() -> None:
    edge = FakeEdge()
    for nth in range(25):
        edge.store.put(stored_response(f"default http://a.example/{nth}"))
    keys: list[str] = []
    after: int | None = 0
    while after is not None:
        page = ask(edge, f"/objects?limit=10&after={after}")
        assert page["stored"] == 25
        keys += [shown["key"] for shown in page["objects"]]
        after = page["next"]
    assert sorted(keys) == sorted(f"default http://a.example/{nth}" for nth in range(25))


def test_an_object_tells_age_and_time_left() -> None:
    edge = FakeEdge()
    edge.store.put(stored_response("k", body=b"hello"))
    (shown,) = ask(edge, "/objects")["objects"]
    assert (shown["age_s"], shown["ttl_s"], shown["body_bytes"], shown["status"]) == (60, 540, 5, 200)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=-1"])
def test_a_page_that_cannot_be_is_refused(query: str) -> None:
    assert ask(FakeEdge(), f"/objects?{query}")[0] == 400


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
    status, said = ask(FakeEdge(), f"/explain?{query}")
    assert status == 400
    assert error in said


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8081", "localhost:8081", "[::1]:8081", "192.0.2.1"])
def test_it_answers_to_its_addresses(host: str) -> None:
    assert get(FakeEdge(), "/config", host)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8081", ""])
def test_a_name_that_someone_pointed_at_loopback_is_refused(host: str) -> None:
    assert get(FakeEdge(), "/config", host)[0] == 421


def test_with_a_token_set_only_its_bearer_gets_in() -> None:
    edge = FakeEdge(**{"admin.token_sha256": hashlib.sha256(b"open sesame").hexdigest()})
    assert get(edge, "/config")[0] == 401
    assert get(edge, "/config", authorization="Bearer nonsense")[0] == 401
    assert get(edge, "/config", authorization="Basic open sesame")[0] == 401
    assert get(edge, "/config", "edge.example", authorization="Bearer open sesame")[0] == 200
    assert get(edge, "/readyz")[0] == 200
