import asyncio
from typing import Any

import pytest
import structlog.testing

import banish
from banish.admin.app import ENDPOINTS, REQUESTS, make_app
from tests.unit.admin.asking import Client, ask, get
from tests.unit.admin.subject import FakeEdge


def test_the_front_page_lists_the_rest() -> None:
    body = get(FakeEdge(), "/").text
    assert body.startswith(f"banish {banish.__version__}, node banish: serving\n")
    for row in ENDPOINTS:
        assert f"{row.method:<7} {row.path}" in body


def test_what_is_not_there_is_said_in_json() -> None:
    assert get(FakeEdge(), "/nonsense").error == "there is nothing here; GET / lists what there is"
    refused = ask(FakeEdge(), "PUT", "/purges")
    assert (refused.status, refused.error) == (405, "not with this method")
    assert "POST" in refused.fields["allow"] or "GET" in refused.fields["allow"]


def test_a_fault_in_one_answer_is_that_answers_alone() -> None:
    edge = FakeEdge()
    purger, edge.purger = edge.purger, None  # type: ignore[assignment]
    with structlog.testing.capture_logs() as logs:
        refused = get(edge, "/purges")
    assert (refused.status, refused.error) == (500, "a fault of the edge; its log says more")
    assert logs[0]["event"] == "admin request failed"
    edge.purger = purger
    assert get(edge, "/purges").status == 200


def test_requests_are_counted_by_path_and_status() -> None:
    edge = FakeEdge()

    async def main() -> None:
        client = Client(make_app(edge))
        for path in ("/healthz", "/explain", "/purges/x", "/nonsense"):
            await client.ask("GET", path)
        await client.ask("GET", "/config", host="evil.example")

    asyncio.run(main())
    counted: dict[Any, Any] = dict(next(samples for metric, samples in edge.accounts.collect() if metric is REQUESTS))
    assert counted == {
        ("/healthz", "200"): 1,
        ("/explain", "400"): 1,
        ("/purges/{id}", "404"): 1,
        ("unknown", "404"): 1,
        ("refused", "421"): 1,
    }


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/"])
def test_head_is_answered_like_get(path: str) -> None:
    assert ask(FakeEdge(), "HEAD", path).status == 200
