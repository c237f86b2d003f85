"""`banish serve` as a process: its signals, its admin listener, its logs, its exit codes."""

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from tests.processes import (
    WAIT_S,
    EdgeProcess,
    OriginThread,
    edge_process,
    free_port,
    origin_thread,
    spawn,
)

STORABLE = [("Cache-Control", "max-age=600")]


@pytest.fixture
def origin() -> Iterator[OriginThread]:
    with origin_thread() as running:
        yield running


def configured(path: Path, origin: str, *lines: str) -> Path:
    """A configuration of one site, with more lines to it."""
    path.write_text("\n".join(["[[sites]]", 'name = "shop"', f'origin = "{origin}"', *lines, ""]))
    return path


def refuses_connections(edge: EdgeProcess) -> bool:
    """Wait for the listener to go: from the moment it drains, nobody new gets in."""
    edge.said("draining")
    try:
        socket.create_connection(edge.address, timeout=WAIT_S).close()
    except ConnectionRefusedError:
        return True
    return False


@contextlib.contextmanager
def slow_response(edge: EdgeProcess, origin: OriginThread) -> Iterator[tuple[http.client.HTTPResponse, asyncio.Event]]:
    """A response under way, of which half has come; opening the gate sends the other half."""
    gate = asyncio.Event()
    origin.script.play("/slow", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst", gate, b"after")
    with contextlib.closing(edge.connect()) as connection:
        connection.request("GET", "/slow")
        with contextlib.closing(connection.getresponse()) as response:
            assert response.read(5) == b"first"
            yield response, gate


class TestSigterm:
    def test_lets_a_response_under_way_end_whole_and_takes_no_new_connections(
        self, tmp_path: Path, origin: OriginThread
    ) -> None:
        with edge_process(tmp_path, "--origin", origin.url) as edge, slow_response(edge, origin) as (response, gate):
            edge.signal(signal.SIGTERM)
            assert refuses_connections(edge)
            assert edge.admin("/readyz").text == "draining\n"
            assert edge.admin("/readyz").status == 503
            assert edge.admin("/healthz").status == 200
            origin.open(gate)
            assert response.read() == b"after"
            assert edge.exit_code() == 0
            assert '"GET /slow HTTP/1.1" 200 10' in edge.out.rest()[0]
            assert "stopped" in edge.err.rest()[-1]

    def test_closes_idle_connections_at_once(self, tmp_path: Path, origin: OriginThread) -> None:
        origin.script.respond("/", body=b"hello")
        with edge_process(tmp_path, "--origin", origin.url) as edge, contextlib.closing(edge.connect()) as connection:
            connection.request("GET", "/")
            connection.getresponse().read()
            with socket.create_connection(edge.address, timeout=WAIT_S) as silent:
                edge.until_metric("banish_client_connections", 2)
                edge.signal(signal.SIGTERM)
                assert edge.exit_code() == 0
                assert connection.sock.recv(1) == b""
                assert silent.recv(1) == b""

    def test_is_the_last_request_of_a_connection(self, tmp_path: Path, origin: OriginThread) -> None:
        with edge_process(tmp_path, "--origin", origin.url) as edge:
            gate = asyncio.Event()
            origin.script.play("/", gate, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            with contextlib.closing(edge.connect()) as connection:
                connection.request("GET", "/")
                origin.wait_for(1)
                edge.signal(signal.SIGTERM)
                edge.said("draining")
                origin.open(gate)
                response = connection.getresponse()
                assert response.getheader("connection") == "close"
                assert response.read() == b"ok"
            assert edge.exit_code() == 0

    def test_a_second_one_cuts_what_is_under_way(self, tmp_path: Path, origin: OriginThread) -> None:
        with edge_process(tmp_path, "--origin", origin.url) as edge, slow_response(edge, origin) as (response, _):
            edge.signal(signal.SIGTERM)
            edge.said("draining")
            edge.signal(signal.SIGTERM)
            edge.said("cut short")
            assert edge.exit_code() == 0
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                response.read()

    def test_draining_has_an_end(self, tmp_path: Path, origin: OriginThread) -> None:
        flags = ("--origin", origin.url, "--set", "timeouts.drain_s=0.2")
        with edge_process(tmp_path, *flags) as edge, slow_response(edge, origin) as (response, _):
            edge.signal(signal.SIGTERM)
            assert edge.exit_code() == 0
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                response.read()


class TestSighup:
    def test_puts_a_new_rule_in_force(self, tmp_path: Path, origin: OriginThread) -> None:
        origin.script.respond("/page", headers=STORABLE, body=b"hello")
        file = configured(tmp_path / "banish.toml", origin.url)
        with edge_process(tmp_path / "data", "--config", str(file)) as edge:
            edge.get("/page")
            for _ in range(2):  # the second of them out of the hot table
                assert "; hit" in edge.get("/page").fields["cache-status"]
            configured(file, origin.url, "[[sites.rules]]", 'path = "/page"', "bypass = true")
            edge.signal(signal.SIGHUP)
            assert edge.said("configuration in force")["sites"] == ["shop"]
            assert "fwd=bypass" in edge.get("/page").fields["cache-status"]

    def test_a_bad_configuration_is_refused_and_the_old_one_stays_in_force(
        self, tmp_path: Path, origin: OriginThread
    ) -> None:
        origin.script.respond("/page", headers=STORABLE, body=b"hello")
        file = configured(tmp_path / "banish.toml", origin.url)
        with edge_process(tmp_path / "data", "--config", str(file)) as edge:
            edge.get("/page")
            configured(file, origin.url, "lenientt = true")
            edge.signal(signal.SIGHUP)
            refused = edge.said("configuration refused")
            assert refused["level"] == "error"
            assert "lenientt" in refused["problem"]
            assert "; hit" in edge.get("/page").fields["cache-status"]
            configured(file, origin.url)
            edge.signal(signal.SIGHUP)
            edge.said("configuration in force")
            assert "; hit" in edge.get("/page").fields["cache-status"]

    def test_a_hook_that_does_not_load_is_refused(self, tmp_path: Path, origin: OriginThread) -> None:
        origin.script.respond("/page", headers=STORABLE, body=b"hello")
        file = configured(tmp_path / "banish.toml", origin.url, 'hooks = "hooks.py"')
        hooks = tmp_path / "hooks.py"
        hooks.write_text("def on_response(request, response):\n    response.fields['x-hook'] = 'one'\n")
        with edge_process(tmp_path / "data", "--config", str(file)) as edge:
            hooks.write_text("def on_response(:\n")
            edge.signal(signal.SIGHUP)
            assert "hooks.py" in edge.said("configuration refused")["problem"]
            assert edge.get("/page").fields["x-hook"] == "one"

    def test_what_needs_a_restart_is_told(self, tmp_path: Path, origin: OriginThread) -> None:
        file = configured(tmp_path / "banish.toml", origin.url)
        with edge_process(tmp_path / "data", "--config", str(file)) as edge:
            file.write_text("memory.budget_bytes = '64MiB'\n" + file.read_text())
            edge.signal(signal.SIGHUP)
            assert edge.said("needs a restart")["settings"] == ["memory"]

    def test_shows_renewed_certificates(self, tmp_path: Path, origin: OriginThread) -> None:
        authority = trustme.CA()

        def renew(*names: str) -> None:
            made = authority.issue_cert(*names)
            made.cert_chain_pems[0].write_to_path(str(tmp_path / "a.pem"))
            made.private_key_pem.write_to_path(str(tmp_path / "a.key"))

        def shown(port: int) -> set[str]:
            context = ssl.create_default_context()
            authority.configure_trust(context)
            raw = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
            with context.wrap_socket(raw, server_hostname="site.example") as connection:
                return {str(entry[1]) for entry in cast(Any, connection.getpeercert())["subjectAltName"]}

        renew("site.example")
        port = free_port()
        tls = [f'address = "127.0.0.1:{port}"', "[[listen.tls]]", 'certificate = "a.pem"', 'key = "a.key"']
        file = configured(tmp_path / "banish.toml", origin.url, "[[listen]]", *tls)
        with edge_process(tmp_path / "data", "--config", str(file), port=port) as edge:
            assert shown(port) == {"site.example"}
            renew("site.example", "more.example")
            edge.signal(signal.SIGHUP)
            edge.said("configuration in force")
            assert shown(port) == {"site.example", "more.example"}
            (tmp_path / "a.key").write_text("damaged")
            edge.signal(signal.SIGHUP)
            assert "certificate" in edge.said("configuration refused")["problem"]
            assert shown(port) == {"site.example", "more.example"}

    def test_opens_the_access_log_anew_after_it_was_renamed(self, tmp_path: Path, origin: OriginThread) -> None:
        origin.script.respond("/", body=b"hello")
        path, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
        with edge_process(tmp_path / "data", "--origin", origin.url, "--set", f"log.access={path}") as edge:
            edge.get("/?before")
            edge.until_metric("banish_access_log_lines_total", 1)
            path.rename(rotated)
            edge.signal(signal.SIGHUP)
            edge.said("configuration in force")
            edge.get("/?after")
            edge.signal(signal.SIGTERM)
            assert edge.exit_code() == 0
        assert [line.split()[6] for line in rotated.read_text().splitlines()] == ["/?before"]
        assert [line.split()[6] for line in path.read_text().splitlines()] == ["/?after"]

    def test_loses_no_request_while_it_is_repeated(self, tmp_path: Path, origin: OriginThread) -> None:
        origin.script.respond("/page", headers=STORABLE, body=b"hello")
        file = configured(tmp_path / "banish.toml", origin.url)
        with edge_process(tmp_path / "data", "--config", str(file)) as edge:
            with contextlib.closing(edge.connect()) as connection:
                for _ in range(20):
                    edge.signal(signal.SIGHUP)
                    connection.request("GET", "/page")
                    assert connection.getresponse().read() == b"hello"
            assert len(origin.script.requests) == 1


class TestStart:
    @pytest.mark.parametrize("flag", ["--listen", "--admin"])
    def test_a_port_in_use_is_one_clear_line_and_exit_code_2(self, tmp_path: Path, flag: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            others = {"--listen": f"127.0.0.1:{free_port()}", "--admin": "off"} | {flag: address}
            where = [word for pair in others.items() for word in pair]
            process = spawn("serve", "--origin", "http://127.0.0.1:1", "--data", str(tmp_path), *where)
            out, err = process.communicate(timeout=WAIT_S)
        assert process.returncode == 2
        assert out == ""
        assert err.splitlines()[0] == f"error: {flag} {address} is in use by another process"
        assert "Traceback" not in err

    def test_the_log_on_standard_error_is_json_when_it_is_no_terminal(
        self, tmp_path: Path, origin: OriginThread
    ) -> None:
        with edge_process(tmp_path, "--origin", origin.url) as edge:
            edge.signal(signal.SIGTERM)
            entry = edge.said("stopped")
            assert list(entry)[:3] == ["timestamp", "level", "event"]
            assert edge.exit_code() == 0

    def test_ctrl_c_ends_it_as_well(self, tmp_path: Path, origin: OriginThread) -> None:
        with edge_process(tmp_path, "--origin", origin.url) as edge:
            edge.signal(signal.SIGINT)
            assert edge.exit_code() == 0

    def test_leaves_no_files_behind(
        self, tmp_path: Path, origin: OriginThread, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        where = ["--listen", f"127.0.0.1:{free_port()}", "--admin", "off"]
        process = spawn("serve", "--origin", origin.url, *where)
        assert process.stderr is not None
        while "curl" not in process.stderr.readline():
            assert process.poll() is None
        assert list(tmp_path.glob("banish-*"))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WAIT_S)
        assert list(tmp_path.glob("banish-*")) == []


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeProcess]:
    """An edge of which one page was asked three times."""
    with origin_thread() as origin:
        origin.script.respond("/page", headers=[*STORABLE, ("Cache-Tag", "a, b"), ("ETag", '"1"')], body=b"hello")
        with edge_process(tmp_path_factory.mktemp("edge"), "--origin", origin.url) as running:
            for _ in range(3):
                running.get("/page", {"Host": "shop.example"})
            yield running


class TestAdmin:
    def test_health_and_readiness(self, used: EdgeProcess) -> None:
        assert (used.admin("/healthz").status, used.admin("/healthz").text) == (200, "ok\n")
        assert (used.admin("/readyz").status, used.admin("/readyz").text) == (200, "serving\n")

    def test_metrics_count_each_outcome_hot_hits_included(self, used: EdgeProcess) -> None:
        metrics = used.metrics()
        assert metrics['banish_responses_total{outcome="miss"}'] == 1
        assert metrics['banish_responses_total{outcome="hit"}'] == 1
        assert metrics['banish_responses_total{outcome="hot"}'] == 1
        assert metrics["banish_response_body_bytes_total"] == 15
        assert metrics['banish_store_responses{tier="memory"}'] == 1
        assert used.admin("/metrics").fields["content-type"].startswith("text/plain; version=0.0.4")

    def test_explain_tells_what_is_stored(self, used: EdgeProcess) -> None:
        done = spawn("explain", "http://shop.example/page", "--admin", f"127.0.0.1:{used.admin_port}")
        out, err = done.communicate(timeout=WAIT_S)
        assert (done.returncode, err) == (0, "")
        assert out.startswith("hit  a stored response matches and may be used as it is")
        assert "a, b" in out

    def test_explain_for_programs(self, used: EdgeProcess) -> None:
        done = spawn("explain", "http://shop.example/none", "--admin", f"127.0.0.1:{used.admin_port}", "--json")
        out, _ = done.communicate(timeout=WAIT_S)
        answer = json.loads(out)
        assert done.returncode == 0
        assert (answer["stored"], answer["answer"], answer["site"]) == (False, "forward", "default")

    def test_explain_says_so_when_no_edge_answers(self) -> None:
        done = spawn("explain", "http://shop.example/", "--admin", f"127.0.0.1:{free_port()}")
        _, err = done.communicate(timeout=WAIT_S)
        assert done.returncode == 1
        assert "no edge answers" in err
        assert "Traceback" not in err

    def test_objects_are_listed(self, used: EdgeProcess) -> None:
        listed = json.loads(used.admin("/objects").body)
        assert [entry["body_bytes"] for entry in listed["objects"]] == [5]
        assert listed["next"] is None

    def test_the_clients_listener_has_none_of_it(self, used: EdgeProcess) -> None:
        assert "fwd=" in used.get("/metrics").fields["cache-status"]


class TestAccessLog:
    def test_combined_lines_hot_hits_included(self, tmp_path: Path, origin: OriginThread) -> None:
        origin.script.respond("/page", headers=STORABLE, body=b"hello")
        fields = {"Referer": "http://a.example/", "User-Agent": 'agent "1"'}
        with edge_process(tmp_path, "--origin", origin.url) as edge:
            for _ in range(3):
                edge.get("/page?q=1", fields)
            edge.get("/none", fields)
            lines = edge.out.wait_for_count(4)
            assert edge.metrics()['banish_responses_total{outcome="hot"}'] == 1
        form = re.compile(
            r'127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET (\S+) HTTP/1\.1" (\d+) (\d+) '
            r'"http://a\.example/" "agent \\x221\\x22"'
        )
        found = [form.fullmatch(line) for line in lines]
        assert [one and one.groups() for one in found] == [("/page?q=1", "200", "5")] * 3 + [("/none", "404", "0")]

    def test_json_lines_hot_hits_included(self, tmp_path: Path, origin: OriginThread) -> None:
        origin.script.respond("/page", headers=[*STORABLE, ("ETag", '"1"')], body=b"hello")
        with edge_process(tmp_path, "--origin", origin.url, "--set", "log.format=json") as edge:
            for _ in range(3):
                edge.get("/page", {"Host": "shop.example"})
            edge.get("/page", {"Host": "shop.example", "If-None-Match": '"1"'})
            entries = [json.loads(line) for line in edge.out.wait_for_count(4)]
            assert edge.metrics()['banish_responses_total{outcome="hot"}'] == 2
        assert [entry["outcome"] for entry in entries] == ["miss", "hit", "hit", "hit"]
        assert [entry["status"] for entry in entries] == [200, 200, 200, 304]
        assert [entry["sent_bytes"] for entry in entries] == [5, 5, 5, 0]
        for entry in entries:
            assert (entry["host"], entry["method"], entry["target"]) == ("shop.example", "GET", "/page")
            assert entry["cache_status"].startswith("banish; ")
            assert entry["site"] == "default"
            assert entry["received_bytes"] > 0
        assert [set(entry) for entry in entries] == [set(entries[0])] * 4

    def test_a_log_that_cannot_be_opened_is_one_clear_line(self, tmp_path: Path) -> None:
        where = ["--listen", f"127.0.0.1:{free_port()}", "--admin", "off", "--data", str(tmp_path)]
        process = spawn(
            "serve", "--origin", "http://127.0.0.1:1", *where, "--set", f"log.access={tmp_path}/none/access.log"
        )
        _, err = process.communicate(timeout=WAIT_S)
        assert process.returncode == 2
        assert "none/access.log" in err
        assert "Traceback" not in err
