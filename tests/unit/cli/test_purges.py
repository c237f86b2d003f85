import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from banish.purge.given import item_of
from tests.unit.admin.tokens import TOKEN, guarded
from tests.unit.cli.serving import Listener, invoke, listening


@pytest.fixture
def edge() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


# --- the list


def test_purges_are_listed_with_the_newest_last(edge: Listener) -> None:
    first = edge.purged({"tag": "news"}, {"url": "https://h/a"}, reason="a misprint")
    second = edge.purged({"prefix": "h/b"}, mode="soft", site="default")
    lines = edge.invoke("purges").stdout.splitlines()
    assert [line.rsplit(None, 1)[-1] for line in lines] == [first.id, second.id]
    assert "  applied    hard  tag news and 1 more  by deploy from 192.0.2.7  “a misprint”  " in lines[0]
    assert "  applied    soft  prefix h/b of default  by deploy from 192.0.2.7  " in lines[1]


def test_the_list_goes_over_pieces_and_stops_where_it_is_told_to(
    edge: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("banish.cli.purges.PIECE", 10)
    ids = [edge.purged({"tag": f"t{number}"}).id for number in range(45)]

    def listed(*words: str) -> list[str]:
        return [json.loads(line)["id"] for line in edge.invoke("purges", "--json", *words).stdout.splitlines()]

    assert listed() == ids[-20:]
    assert listed("-n", "33") == ids[-33:]
    assert listed("--since", "1h") == ids
    assert listed("--since", "1h", "-n", "3") == ids[-3:]
    assert listed("--until", "1h") == []
    assert listed("--target", "tag:t7") == [ids[7]]
    assert listed("--actor", "nobody") == []
    assert listed("--site", "default", "-n", "1") == ids[-1:]


def test_following_shows_each_purge_once_as_it_comes_and_ends_when_it_cannot_go_on(edge: Listener) -> None:
    before = edge.purged({"tag": "before"})
    results: list[Result] = []
    command = threading.Thread(target=lambda: results.append(edge.invoke("purges", "--follow", "--json")))
    command.start()
    came = []
    for number in range(3):
        edge.run(edge.purger.somebody_waits.wait())
        edge.purger.somebody_waits.clear()
        came.append(edge.purged({"tag": f"t{number}"}))
    edge.run(edge.purger.somebody_waits.wait())
    edge.run(_lose_the_log(edge))
    command.join(30)
    (result,) = results
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [one.id for one in (before, *came)]
    assert result.exit_code == 1
    assert "refused (410): the cursor cannot be continued" in result.stderr


async def _lose_the_log(edge: Listener) -> None:
    """Who waits for news is told that there can be none."""
    edge.purger.log = "0000000000000000"
    await edge.purger.tell()


def test_following_outlives_an_edge_that_is_away(edge: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    from banish.cli.api import Api, CannotAsk

    purge, get, asked = edge.purged(), Api.get, []

    def away(self: Api, path: str, query: Any = (), **how: Any) -> Any:
        if path == "/purges/feed":
            asked.append(query)
            if len(asked) < 3:
                raise CannotAsk("no edge answers")
            if len(asked) > 4:
                raise KeyboardInterrupt
        return get(self, path, [*query, ("wait", "0")], **how)

    monkeypatch.setattr(Api, "get", away)
    monkeypatch.setattr("banish.cli.purges.AGAIN_AFTER_S", 0.0)
    result = edge.invoke("purges", "-f")
    assert result.stderr == "no edge answers; trying again\n"
    assert result.stdout.count(purge.id) == 1
    assert result.exit_code == 0


# --- one


def test_one_purge_is_shown_in_full(edge: Listener) -> None:
    purge = edge.purged({"prefix": "h/a", "boundary": True}, {"tag": "x", "mode": "soft"}, key="deploy-1")
    edge.run(edge.purger.sweep(purge.id))
    result = edge.invoke("purges", "show", purge.id)
    assert result.exit_code == 0
    assert "targets   prefix h/a (whole segments)   3 responses, 6 KiB\n" in result.stdout
    assert "          tag x (soft)   3 responses, 6 KiB\n" in result.stdout
    assert json.loads(edge.invoke("purges", "show", purge.id, "--json").stdout)["key"] == "deploy-1"


def test_a_purge_that_is_not_there_is_refused(edge: Listener) -> None:
    result = edge.invoke("purges", "show", "0123456789abcdef.1-89abcdef.9")
    assert result.exit_code == 1
    assert "refused (404): no such purge in the log\n" in result.stderr


def test_undo_takes_a_soft_purge_back_and_no_hard_one(edge: Listener) -> None:
    soft, hard = edge.purged(mode="soft"), edge.purged()
    result = edge.invoke("purges", "undo", soft.id, "--reason", "oops")
    assert result.exit_code == 0
    assert result.stdout.startswith("undone  taken back\n")
    refused = edge.invoke("purges", "undo", hard.id)
    assert refused.exit_code == 1
    assert "only a soft purge can be undone" in refused.stderr


def test_listener_and_token_may_stand_before_the_word() -> None:
    with listening(guarded()) as edge:
        purge = edge.purged()
        result = invoke("purges", "--admin", edge.admin, "--token", TOKEN, "show", purge.id)
        assert result.exit_code == 0


# --- elsewhere


def test_what_was_exported_is_replayed_on_another_edge_once(edge: Listener, tmp_path: Path) -> None:
    edge.purged({"tag": "news"}, {"prefix": "h/b", "boundary": True, "mode": "hard"}, mode="soft", reason="a misprint")
    taken_back = edge.purged({"tag": "oops"}, mode="soft")
    edge.run(edge.purger.undo(taken_back.id, edge.purger.asked[0][1]))
    edge.purged({"everything": True}, site="shop")
    edge.purged({"tag": "later"}, at=2e9)
    file = str(tmp_path / "purges.jsonl")
    exported = edge.invoke("purges", "export", file)
    assert (exported.exit_code, exported.stderr) == (0, "4 purges exported\n")
    assert [path.name for path in tmp_path.iterdir()] == ["purges.jsonl"]

    with listening() as other:
        dry = other.invoke("purges", "replay", file, "--dry-run")
        assert (dry.exit_code, len(dry.stdout.splitlines()), other.purger.entries) == (0, 3, [])
        assert other.invoke("purges", "replay", file).stderr == "3 purges replayed\n"
        assert other.invoke("purges", "replay", file).stderr == "0 purges replayed, 3 had been before\n"
        first, second, third = other.purger.entries
        assert [item_of(one) for one in first.targets] == [
            {"tag": "news"},
            {"prefix": "h/b", "boundary": True, "mode": "hard"},
        ]
        assert (first.mode, first.reason, first.key) == ("soft", "a misprint", "0123456789abcdef.1-89abcdef.1")
        assert (second.sites, third.due) == (("shop",), 2e9)


def test_a_purge_of_several_sites_is_replayed_for_each(edge: Listener) -> None:
    exported = {"id": "x", "kind": "purge", "state": "swept", "mode": "hard", "targets": [{"tag": "a"}]}
    line = json.dumps({**exported, "sites": ["shop", "press"]})
    assert edge.invoke("purges", "replay", "-", stdin=line).exit_code == 0
    assert [entry.sites for entry in edge.purger.entries] == [("shop",), ("press",)]


def test_a_replay_that_stops_says_where(edge: Listener) -> None:
    exported = {"id": "x", "kind": "purge", "state": "swept", "mode": "hard", "sites": []}
    lines = [json.dumps({**exported, "targets": [{"tag": "a"}]}), json.dumps({**exported, "targets": [{"tga": "a"}]})]
    result = edge.invoke("purges", "replay", "-", stdin="\n".join(lines))
    assert result.exit_code == 1
    assert "-: stopped at purge 2, x\n" in result.stderr


@pytest.mark.parametrize("line", ["{", "[]", '{"kind": "purge"}', "7"])
def test_what_is_no_export_is_refused_by_line(line: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(f"{line}\n")
    result = invoke("purges", "replay", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert "is no purge of an export" in " ".join(result.stderr.replace("│", "").split())


def test_an_export_that_broke_off_leaves_no_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening_:
        admin = f"127.0.0.1:{listening_.getsockname()[1]}"

        def breaks_off() -> None:
            connection, _ = listening_.accept()
            connection.recv(65536)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head + b"3\r\n{}\n\r\n")
            connection.close()

        answering = threading.Thread(target=breaks_off)
        answering.start()
        result = invoke("purges", "export", str(tmp_path / "file"), "--admin", admin)
        answering.join()
    assert result.exit_code == 2
    assert "broke off" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_export_goes_to_standard_output_too(edge: Listener) -> None:
    purge = edge.purged()
    assert json.loads(edge.invoke("purges", "export", "-").stdout)["id"] == purge.id
