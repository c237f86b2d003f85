import asyncio
import base64
import json
from typing import Any

import pytest

from banish.admin.app import make_app
from banish.admin.purges import PURGE_BODY_BYTES_MAX
from banish.errors import ClientError
from banish.purge.given import TARGETS_MAX, Given
from banish.purge.stamps import Mode
from banish.purge.targets import Kind
from tests.unit.admin.asking import Client, Raw, ask, get
from tests.unit.admin.subject import FakeEdge

PURGE = {"targets": [{"tag": "news"}, {"prefix": "https://h/blog/", "boundary": True, "mode": "hard"}], "mode": "soft"}
FIRST = "0123456789abcdef.1-89abcdef.1"


def purge(edge: FakeEdge, body: Any = PURGE, **headers: str) -> Any:
    """What a purge that is taken is told."""
    answer = ask(edge, "POST", "/purges", body, **headers)
    assert answer.status == 202, answer.body
    return answer.json


# --- purging


def test_a_batch_mixes_kinds_and_modes_and_is_told_as_it_was_asked() -> None:
    edge = FakeEdge()
    answer = ask(edge, "POST", "/purges", {**PURGE, "reason": "a misprint", "site": "default"})
    assert answer.status == 202
    assert answer.fields["location"] == f"/purges/{FIRST}"
    told = answer.json
    assert told["targets"] == PURGE["targets"]
    assert (told["id"], told["state"], told["mode"], told["at"]) == (FIRST, "applied", "soft", edge.clock.now())
    assert told["position"] == {"edge": "0123456789abcdef", "epoch": "1-89abcdef", "seq": 1}
    assert told["links"] == {"self": f"/purges/{FIRST}", "swept": f"/purges/{FIRST}?wait=swept"}
    (asked, _) = edge.purger.asked[0]
    assert asked.targets == (
        Given(Kind.TAG, "news"),
        Given(Kind.PREFIX, "https://h/blog/", boundary=True, mode=Mode.HARD),
    )
    assert (asked.mode, asked.reason, asked.site, asked.at) == (Mode.SOFT, "a misprint", "default", None)


@pytest.mark.parametrize(
    ("target", "given"),
    [
        ({"url": "https://h/a"}, Given(Kind.URL, "https://h/a")),
        (
            {"url": "https://h/a", "headers": {"Accept-Language": "de"}},
            Given(Kind.URL, "https://h/a", headers=(("Accept-Language", "de"),)),
        ),
        ({"prefix": "h/blog"}, Given(Kind.PREFIX, "h/blog")),
        ({"host": "*.h.example"}, Given(Kind.HOST, "*.h.example")),
        ({"tag": "news"}, Given(Kind.TAG, "news")),
        ({"group": "https://h/ news"}, Given(Kind.GROUP, "https://h/ news")),
        ({"pattern": "*/a/*"}, Given(Kind.PATTERN, "*/a/*")),
        ({"regex": "a+$"}, Given(Kind.PATTERN, "a+$", regex=True)),
        ({"everything": True}, Given(Kind.EVERYTHING)),
    ],
)
def test_a_single_target_stands_without_a_list(target: Any, given: Given) -> None:
    edge = FakeEdge()
    told = purge(edge, target)
    assert edge.purger.asked[0][0].targets == (given,)
    assert edge.purger.asked[0][0].mode is Mode.HARD
    assert told["targets"] == [target]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "target 1"),
        ({"targets": []}, "targets"),
        ({"targets": [{"tag": "a"}, {"tga": "b"}]}, "`tga` - at `$.targets[1]`"),
        ({"targets": [{"tag": "a"}, {"tag": "a", "url": "https://h/"}]}, "target 2"),
        ({"targets": [{"tag": "a"}], "url": "https://h/"}, 'write "url" within "targets"'),
        ({"tag": "a", "boundary": True}, "boundary"),
        ({"tag": 7}, "at `$.tag`"),
        ({"tag": "a", "mode": "harsh"}, "at `$.mode`"),
        ({"tag": "a", "sight": "x"}, "sight"),
        ({"tag": "a", "at": "tomorrow"}, "at: write a date"),
        ([], "Expected `object`"),
    ],
)
def test_a_body_that_is_no_purge_is_refused_with_the_place(body: Any, said: str) -> None:
    edge = FakeEdge()
    answer = ask(edge, "POST", "/purges", body)
    assert answer.status == 400
    assert said in answer.error
    assert edge.purger.asked == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"tag":' * 100_000])
def test_a_body_that_is_no_json_is_refused_however_deep(body: bytes) -> None:
    answer = ask(FakeEdge(), "POST", "/purges", Raw((body,)))
    assert answer.status == 400
    assert answer.error.startswith("the body is not a purge: ")


def test_a_body_past_its_bound_is_refused_before_it_is_all_there() -> None:
    edge = FakeEdge()
    body = Raw((b" " * 65536,) * (2 * PURGE_BODY_BYTES_MAX // 65536))
    answer = ask(edge, "POST", "/purges", body, **{"content-type": "application/json; charset=utf-8"})
    assert answer.status == 413
    assert "send several" in answer.error


def test_a_body_that_does_not_arrive_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("banish.admin.bodies.BODY_S", 0.0)
    edge = FakeEdge()

    async def main() -> None:
        answer = await Client(make_app(edge), stalls=True).ask("POST", "/purges", PURGE)
        assert (answer.status, edge.purger.asked) == (408, [])

    asyncio.run(main())


def test_a_client_that_leaves_before_its_body_is_there_purges_nothing() -> None:
    edge = FakeEdge()

    async def main() -> None:
        client = Client(make_app(edge), stalls=True)
        client.left.set()
        assert (await client.ask("POST", "/purges", PURGE)).status == 499
        assert edge.purger.asked == []

    asyncio.run(main())


def test_a_batch_past_its_bound_is_refused() -> None:
    edge = FakeEdge()
    tags = [{"tag": f"article-{number}"} for number in range(TARGETS_MAX)]
    assert len(purge(edge, {"targets": tags})["targets"]) == TARGETS_MAX
    refused = ask(edge, "POST", "/purges", {"targets": [*tags, {"tag": "one more"}]})
    assert refused.status == 413
    assert "send several" in refused.error
    assert len(edge.purger.asked) == 1


def test_later_is_a_time_or_so_long_from_now() -> None:
    edge = FakeEdge()
    told = purge(edge, {"tag": "a", "at": "+5m"})
    assert (told["kind"], told["state"], told["due"]) == ("schedule", "scheduled", edge.clock.now() + 300)
    assert "swept" not in told["links"]
    purge(edge, {"tag": "a", "at": "2030-01-31T18:00:00Z"})
    assert edge.purger.asked[1][0].at == 1896112800


@pytest.mark.parametrize("key", ["deploy-1", '"deploy-1"'])
def test_the_same_key_purges_once(key: str) -> None:
    edge = FakeEdge()
    first = purge(edge, **{"idempotency-key": "deploy-1"})
    again = ask(edge, "POST", "/purges", PURGE, **{"idempotency-key": key})
    assert (again.status, again.json["id"], again.json["replayed"]) == (200, first["id"], True)
    other = ask(edge, "POST", "/purges", {"tag": "else"}, **{"idempotency-key": key})
    assert other.status == 422
    assert len(edge.purger.entries) == 1


def test_a_key_that_is_not_plain_text_is_refused() -> None:
    assert ask(FakeEdge(), "POST", "/purges", PURGE, **{"idempotency-key": "a\x00b"}).status == 400


def test_a_dry_run_purges_nothing() -> None:
    edge = FakeEdge()
    answer = ask(edge, "POST", "/purges", {**PURGE, "dry_run": True})
    assert (answer.status, edge.purger.entries) == (200, [])
    told = answer.json
    assert (told["dry_run"], told["matched"], told["complete"]) == (True, 3, True)
    assert told["targets"][0] == {"tag": "news", "matched": 3, "bytes": 2048}
    assert told["samples"] == [{"url": "https://shop.example/a", "site": "default", "bytes": 2048, "hits_per_s": 1.5}]


@pytest.mark.parametrize("status", [403, 413, 422, 503])
def test_what_the_service_refuses_is_refused_in_its_words(status: int) -> None:
    edge = FakeEdge()
    edge.purger.refusal = ClientError(status, "not today")
    answer = ask(edge, "POST", "/purges", PURGE)
    assert (answer.status, answer.error) == (status, "not today")
    assert ("retry-after" in answer.fields) == (status == 503)


# --- following one


def test_how_far_a_purge_is_and_what_each_target_matched() -> None:
    edge = FakeEdge()
    id_ = purge(edge)["id"]
    told = get(edge, f"/purges/{id_}").json
    assert (told["state"], told["matched"], told["cursor"]) == ("applied", 0, "applied.0")
    asyncio.run(edge.purger.sweep(id_))
    told = get(edge, f"/purges/{id_}").json
    assert (told["state"], told["matched"], told["swept_at"]) == ("swept", 3, edge.clock.now())
    assert told["targets"][0] == {"tag": "news", "matched": 3, "bytes": 6144}
    assert told["links"] == {"self": f"/purges/{id_}"}


def test_a_poll_waits_until_the_purge_is_swept() -> None:
    edge = FakeEdge()
    edge.purger.sweeps = False

    async def main() -> None:
        client = Client(make_app(edge))
        id_ = (await client.ask("POST", "/purges", PURGE)).json["id"]
        poll = asyncio.create_task(client.ask("GET", f"/purges/{id_}?wait=swept&timeout=60"))
        await edge.purger.somebody_waits.wait()
        assert not poll.done()
        await edge.purger.sweep(id_)
        assert (await poll).json["state"] == "swept"

    asyncio.run(main())


def test_a_broken_poll_is_resumed_from_its_cursor_and_tells_what_changed_meanwhile() -> None:
    edge = FakeEdge()
    edge.purger.sweeps = False

    async def main() -> None:
        client = Client(make_app(edge))
        id_ = (await client.ask("POST", "/purges", PURGE)).json["id"]
        cursor = (await client.ask("GET", f"/purges/{id_}")).json["cursor"]
        poll = asyncio.create_task(client.ask("GET", f"/purges/{id_}?after={cursor}"))
        await edge.purger.somebody_waits.wait()
        client.left.set()
        assert (await poll).status == 499
        assert edge.purger.waiting == 0
        client.left.clear()
        await edge.purger.sweep(id_)
        assert (await client.ask("GET", f"/purges/{id_}?after={cursor}")).json["state"] == "swept"

    asyncio.run(main())


def test_a_question_that_does_not_ask_to_wait_is_answered_at_once() -> None:
    edge = FakeEdge()
    id_ = purge(edge)["id"]
    get(edge, f"/purges/{id_}?timeout=60")
    assert edge.purger.waited == [(None, 0.0, None)]


@pytest.mark.parametrize("query", ["wait=ever", "wait=swept&timeout=61", "wait=swept&timeout=nan", "timeout=x"])
def test_a_wait_that_cannot_be_is_refused(query: str) -> None:
    edge = FakeEdge()
    assert get(edge, f"/purges/{purge(edge)['id']}?{query}").status == 400


def test_a_purge_that_is_not_there_is_not_found() -> None:
    assert get(FakeEdge(), f"/purges/{FIRST}").status == 404


# --- undoing


def test_a_soft_purge_is_undone_and_a_hard_one_is_not() -> None:
    edge = FakeEdge()
    soft = purge(edge)["id"]
    assert ask(edge, "DELETE", f"/purges/{soft}?reason=oops").json["state"] == "undone"
    hard = purge(edge, {"tag": "a"})["id"]
    assert ask(edge, "DELETE", f"/purges/{hard}").status == 409


# --- looking back


def test_the_history_goes_back_piece_by_piece_newest_first() -> None:
    edge = FakeEdge()
    ids = [purge(edge, {"tag": f"t{number}"})["id"] for number in range(5)]
    page = get(edge, "/purges?limit=2").json
    found = [entry["id"] for entry in page["purges"]]
    while page["before"] is not None:
        page = get(edge, f"/purges?limit=2&before={page['before']}").json
        found += [entry["id"] for entry in page["purges"]]
    assert found == ids[::-1]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("target=tag:a", 1),
        ("actor=local", 2),
        ("actor=nobody", 0),
        ("since=-1h", 2),
        ("until=-1h", 0),
        ("since=2030-01-31T18:00:00Z", 0),
        ("kind=schedule", 0),
        ("kind=schedule&kind=purge", 2),
        ("site=default", 2),
    ],
)
def test_the_history_is_searched_by_time_target_actor_site_and_kind(query: str, found: int) -> None:
    edge = FakeEdge()
    for tag in ("a", "b"):
        purge(edge, {"tag": tag})
    for path in ("/purges", "/purges/feed"):
        assert len(get(edge, f"{path}?{query}").json["purges"]) == found


@pytest.mark.parametrize("query", ["since=tomorrow", "kind=nonsense", "limit=0", "limit=1001", "before=1&limit=x"])
def test_a_search_that_makes_no_sense_is_refused(query: str) -> None:
    assert get(FakeEdge(), f"/purges?{query}").status == 400


def test_the_feed_goes_on_from_the_history_and_leaves_nothing_out() -> None:
    edge = FakeEdge()
    purge(edge)
    cursor = get(edge, "/purges").json["cursor"]
    ids = [purge(edge, {"tag": f"t{number}"})["id"] for number in range(5)]
    found: list[str] = []
    while feed := get(edge, f"/purges/feed?after={cursor}&limit=2").json:
        found += [entry["id"] for entry in feed["purges"]]
        if cursor == feed["cursor"]:
            break
        cursor = feed["cursor"]
    assert found == ids


def test_the_feed_waits_for_what_comes() -> None:
    edge = FakeEdge()

    async def main() -> None:
        client = Client(make_app(edge))
        poll = asyncio.create_task(client.ask("GET", "/purges/feed?wait=60"))
        await edge.purger.somebody_waits.wait()
        await client.ask("POST", "/purges", PURGE)
        assert [entry["id"] for entry in (await poll).json["purges"]] == [FIRST]

    asyncio.run(main())


def test_a_cursor_of_another_log_is_gone() -> None:
    assert get(FakeEdge(), "/purges/feed?after=0000000000000000.1").status == 410


def test_an_export_is_a_purge_a_line_with_its_signed_record() -> None:
    edge = FakeEdge()
    ids = [purge(edge)["id"], purge(edge, {"tag": "a"})["id"]]
    answer = get(edge, "/purges/export")
    assert answer.fields["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert [line["id"] for line in lines] == ids
    assert [base64.b64decode(line["record"]).decode() for line in lines] == ids
    assert lines[0]["targets"] == PURGE["targets"]
