import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from banish.cli.api import Api
from banish.cli.waiting import progress, wait_for
from banish.edge.receipts import EdgeReceipt
from banish.errors import ClientError
from banish.mesh.effects import Standing
from banish.purge.given import item_of
from tests.unit.admin.tokens import TOKEN, guarded
from tests.unit.cli.serving import Listener, invoke, listening

FIRST = "0123456789abcdef.1-89abcdef.1"


@pytest.fixture
def edge() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


def targets(edge: Listener) -> list[dict[str, Any]]:
    """What the last purge named."""
    return [item_of(given) for given in edge.purger.asked[-1][0].targets]


# --- asking


def test_a_purge_is_in_effect_when_the_command_returns(edge: Listener) -> None:
    result = edge.invoke("purge", "--tag", "news", "--reason", "a misprint")
    assert result.exit_code == 0
    assert result.stdout.startswith("applied  in effect; what it matched is being deleted\n")
    for row in (f"id       {FIRST}", "mode     hard", "targets  tag news", "by       local from 127.0.0.1"):
        assert row in result.stdout
    assert "reason   a misprint" in result.stdout
    assert result.stderr == ""


def test_every_kind_of_target_has_its_option_and_goes_in_one_batch(edge: Listener) -> None:
    options = {
        "--url": "https://h/a", "--prefix": "https://h/blog/", "--host": "*.h.example", "--tag": "news",
        "--group": "https://h sport", "--pattern": "*/a/*", "--regex": "a+$",
    }  # fmt: skip
    words = [word for option in options.items() for word in option]
    result = edge.invoke("purge", *words, "--everything", "--boundary", "-H", "Accept: a/b", "--tag", "sport")
    assert result.exit_code == 0, result.output
    assert targets(edge) == [
        {"url": "https://h/a", "headers": {"Accept": "a/b"}},
        {"prefix": "https://h/blog/", "boundary": True},
        {"host": "*.h.example"},
        {"tag": "news"},
        {"tag": "sport"},
        {"group": "https://h sport"},
        {"pattern": "*/a/*"},
        {"regex": "a+$"},
        {"everything": True},
    ]
    assert len(edge.purger.entries) == 1


def test_mode_site_and_time_are_passed_on(edge: Listener) -> None:
    result = edge.invoke("purge", "--tag", "a", "--soft", "--site", "default", "--at", "5m")
    assert result.exit_code == 0
    assert result.stdout.startswith("scheduled  schedule, without effect until it is due\n")
    assert f"undo     banish purges undo {FIRST}\n" in result.stdout
    (asked, _) = edge.purger.asked[0]
    assert (asked.mode, asked.site, asked.at) == ("soft", "default", edge.edge.clock.now() + 300)


def test_a_time_without_a_zone_is_meant_by_this_machines(edge: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    assert edge.invoke("purge", "--tag", "a", "--at", "2030-01-31T18:00:00").exit_code == 0
    assert edge.purger.asked[0][0].at is not None


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("tag news", {"tag": "news"}),
        ("prefix   https://h/blog/ ", {"prefix": "https://h/blog/"}),
        ("group https://h sport", {"group": "https://h sport"}),
        ("https://h/a?b", {"url": "https://h/a?b"}),
        ("everything", {"everything": True}),
        ('{"prefix": "h/a", "boundary": true}', {"prefix": "h/a", "boundary": True}),
    ],
)
def test_targets_come_from_a_file_or_standard_input_too(
    edge: Listener, tmp_path: Path, line: str, target: dict[str, Any]
) -> None:
    text = f"# of last night\n\n{line}\n"
    (tmp_path / "targets").write_text(text)
    assert edge.invoke("purge", "--from", str(tmp_path / "targets")).exit_code == 0
    assert targets(edge) == [target]
    assert edge.invoke("purge", "--from", "-", "--tag", "more", stdin=text).exit_code == 0
    assert targets(edge) == [{"tag": "more"}, target]


def test_a_dry_run_tells_what_would_be_purged_and_what_that_would_cost(edge: Listener) -> None:
    words = ("--tag", "news", "--prefix", "https://h/blog/", "--soft", "--wait", "--dry-run")
    result = edge.invoke("purge", *words)
    assert result.exit_code == 0
    assert result.stdout.startswith("dry run  nothing was purged; 3 responses, 6 KiB would be\n")
    assert "targets  prefix https://h/blog/   3 responses, 2 KiB\n" in result.stdout
    assert "         tag news   3 responses, 2 KiB\n" in result.stdout
    assert "origin   about 0.78 more requests in the first second, 3 in the first minute\n" in result.stdout
    assert "such as  https://shop.example/a   2 KiB, 1.5 hits/s" in result.stdout
    told = json.loads(edge.invoke("purge", *words, "--json").stdout)
    assert (told["dry_run"], told["matched"]) == (True, 3)
    assert edge.purger.entries == []


def test_json_is_the_edges_own_answer(edge: Listener) -> None:
    told = json.loads(edge.invoke("purge", "--tag", "news", "--json").stdout)
    assert (told["id"], told["state"], told["targets"]) == (FIRST, "applied", [{"tag": "news"}])


def test_a_token_comes_from_an_option_or_the_environment() -> None:
    with listening(guarded("deploy")) as edge:
        refused = edge.invoke("purge", "--tag", "a")
        assert refused.exit_code == 1
        assert "send Authorization: Bearer TOKEN; give it with --token or BANISH_TOKEN" in refused.stderr
        assert "by       deploy" in edge.invoke("purge", "--tag", "a", "--token", TOKEN).stdout


# --- doing it once


def test_what_broke_off_is_sent_again_and_purges_once(edge: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    open_ = Api._open
    lost: list[bytes] = []

    def loses_the_first_answer(self: Api, *arguments: Any) -> Any:
        answer = open_(self, *arguments)
        if not lost:
            lost.append(answer.read())
            answer.close()
            raise http.client.RemoteDisconnected("Remote end closed connection without response")
        return answer

    monkeypatch.setattr(Api, "_open", loses_the_first_answer)
    monkeypatch.setattr("banish.cli.api.AGAIN_AFTER_S", 0.0)
    told = json.loads(edge.invoke("purge", "--tag", "news", "--json").stdout)
    assert lost
    assert (told["id"], told["replayed"]) == (FIRST, True)
    assert len(edge.purger.entries) == 1


def test_the_same_command_with_the_same_key_purges_once(edge: Listener) -> None:
    for _ in range(2):
        assert edge.invoke("purge", "--tag", "news", "--key", "deploy-1").exit_code == 0
    assert len(edge.purger.entries) == 1
    for _ in range(2):
        assert edge.invoke("purge", "--tag", "news").exit_code == 0
    assert len(edge.purger.entries) == 3


# --- waiting


def test_waiting_shows_each_state_and_ends_with_the_counts(edge: Listener) -> None:
    result = edge.invoke("purge", "--tag", "news", "--tag", "sport", "--wait")
    assert result.exit_code == 0
    assert result.stderr == (
        "applied: in effect; what it matched is being deleted\n"
        "swept: in effect; all that it matched is gone, 3 responses, 6 KiB\n"
    )
    assert result.stdout.startswith("swept  in effect; all that it matched is gone\n")
    assert "targets   tag news   3 responses, 6 KiB\n" in result.stdout
    assert "matched   3 responses, 6 KiB\n" in result.stdout


def test_while_waiting_standard_output_is_json_alone(edge: Listener) -> None:
    result = edge.invoke("purge", "--tag", "news", "--wait", "--json")
    assert json.loads(result.stdout)["state"] == "swept"


def test_time_that_ran_out_has_an_exit_code_of_its_own_and_the_purge_stands(edge: Listener) -> None:
    edge.purger.sweeps = False
    result = edge.invoke("purge", "--tag", "news", "--wait", "--timeout", "50ms")
    assert result.exit_code == 3
    assert result.stdout.startswith("applied  in effect")
    assert f"it stands: banish purges show {FIRST} --wait" in result.stderr


def test_a_purge_that_is_undone_while_it_is_waited_for_is_not_done(edge: Listener) -> None:
    edge.purger.sweeps = False
    purge = edge.purged(mode="soft")
    edge.run(edge.purger.undo(purge.id, edge.purger.asked[0][1]))
    result = edge.invoke("purges", "show", purge.id, "--wait")
    assert result.exit_code == 1
    assert result.stdout.startswith("undone  taken back\n")


def test_an_edge_that_gives_no_answer_for_a_while_is_asked_again(
    edge: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    purge = edge.purged()
    monkeypatch.setattr("banish.cli.waiting.AGAIN_AFTER_S", 0.0)
    monkeypatch.setattr("banish.cli.api.AGAIN_AFTER_S", 0.0)
    get, refusals = Api.get, [ClientError(503, "the edge stops; ask again")] * 3
    purger_get = edge.purger.get

    async def refuses(*arguments: Any, **how: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return await purger_get(*arguments, **how)

    monkeypatch.setattr(edge.purger, "get", refuses)
    api = Api(edge.admin)
    told = wait_for(api, {**get(Api(edge.admin), "/purges")["purges"][0]}, "swept", 30.0, lambda purge: None)
    assert (told["id"], told["state"], refusals) == (purge.id, "swept", [])


def receipts(**states: str) -> tuple[EdgeReceipt, ...]:
    return tuple(
        [EdgeReceipt(name=name, edge=name, state=Standing(state), lag_s=0.012) for name, state in states.items()]
    )


def test_all_edges_are_waited_for_and_shown_one_by_one(edge: Listener) -> None:
    edge.run(edge.purger.confirm(*receipts(berlin="behind", paris="applied")))

    def confirm() -> None:
        edge.run(_once_waited_for(edge))
        edge.run(edge.purger.confirm(*receipts(berlin="applied", paris="applied")))

    confirming = threading.Thread(target=confirm)
    confirming.start()
    result = edge.invoke("purge", "--tag", "news", "--wait", "all")
    confirming.join()
    assert result.exit_code == 0
    assert result.stderr.endswith("berlin: behind, 12.0 ms\nparis: applied, 12.0 ms\nberlin: applied, 12.0 ms\n")
    assert result.stdout.endswith("edges    berlin: applied, 12.0 ms\n         paris: applied, 12.0 ms\n")


async def _once_waited_for(edge: Listener) -> None:
    await edge.purger.somebody_waits.wait()


@pytest.mark.parametrize(("wait", "code"), [("all", 4), ("3", 4), ("quorum", 0), ("2", 0), ("1", 0)])
def test_edges_that_do_not_have_it_in_time_are_named_by_an_exit_code_of_its_own(
    edge: Listener, wait: str, code: int
) -> None:
    edge.run(edge.purger.confirm(*receipts(berlin="unreachable", paris="applied", tokyo="joined-clean")))
    result = edge.invoke("purge", "--tag", "news", "--wait", wait, "--timeout", "50ms")
    assert result.exit_code == code
    if code:
        assert "berlin did not have it within 0.05 s; it stands" in result.stderr


def test_what_is_waited_for_has_to_be_known(edge: Listener) -> None:
    assert edge.invoke("purge", "--tag", "news", "--wait=never").exit_code == 2


def test_on_a_terminal_progress_is_drawn_in_place() -> None:
    drawn = io.StringIO()
    purge = {
        "kind": "purge", "mode": "hard", "state": "applied", "matched": 7, "bytes": 2048,
        "targets": [{"tag": f"t{number}", "matched": number, "bytes": 1} for number in range(20)],
    }  # fmt: skip
    with progress(Console(file=drawn, force_terminal=True, width=120)) as show:
        show(purge)
    said = drawn.getvalue()
    assert "applied: in effect; what it matched is being deleted, 7 responses, 2 KiB" in said
    assert "3 responses" in said
    assert "and 8 more" in said


# --- refusals


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say what: --tag"),
        (("--tag", "a", "--header", "A: b"), "it names a variant of a --url"),
        (("--url", "https://h/", "--header", "nonsense"), '"nonsense" is not NAME:VALUE'),
        (("--tag", "a", "--boundary"), "it is about a --prefix"),
        (("--tag", "a", "--wait", "--timeout", "soon"), "write seconds as a number"),
        (("--from", "/nowhere"), "/nowhere: No such file"),
        (("--from", "-"), "names nothing to purge"),
    ],
)
def test_a_command_that_is_not_right_says_what_would_be(words: tuple[str, ...], said: str) -> None:
    result = invoke("purge", *words, stdin="")
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", "").split())


@pytest.mark.parametrize(
    ("line", "said"), [("tga news", '"tga news" is no target'), ("tag", "is no target"), ("{", "JSON")]
)
def test_a_line_that_is_no_target_is_named(line: str, said: str) -> None:
    result = invoke("purge", "--from", "-", stdin=f"tag a\n{line}\n")
    assert result.exit_code == 2
    words = " ".join(result.stderr.replace("│", "").split())
    assert "-:2:" in words
    assert said in words


def test_what_the_edge_refuses_is_said_in_its_words(edge: Listener) -> None:
    edge.purger.refusal = ClientError(503, "the log of purges cannot be written")
    result = edge.invoke("purge", "--tag", "a")
    assert result.exit_code == 1
    assert result.stderr == f"error: {edge.admin} refused (503): the log of purges cannot be written\n"
    assert result.stdout == ""


def test_no_edge_is_another_thing_than_an_edge_that_says_no() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        admin = f"127.0.0.1:{taken.getsockname()[1]}"
    result = invoke("purge", "--tag", "a", "--admin", admin)
    assert result.exit_code == 2
    assert f"no edge answers on {admin}" in result.stderr
