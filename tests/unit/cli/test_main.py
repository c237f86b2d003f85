import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import banish
from banish.cli.main import app


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, arguments)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "banish.toml"
    path.write_text('[[sites]]\nname = "shop"\norigin = "http://origin.example"\nhooks = "hooks.py"\n')
    (tmp_path / "hooks.py").write_text("def on_request(request): ...\n")
    return path


def test_the_version_is_told() -> None:
    assert invoke("--version").output == f"banish {banish.__version__}\n"


def test_a_sound_configuration_checks_out(sound: Path) -> None:
    result = invoke("check", str(sound))
    assert result.exit_code == 0
    assert result.output == f"{sound} is sound. Sites: shop.\n"


def test_a_mistake_is_told_with_place_line_and_remedy(sound: Path) -> None:
    sound.write_text(sound.read_text() + "lenientt = true\n")
    result = invoke("check", str(sound))
    assert result.exit_code == 1
    assert result.stderr == (
        "error: sites[0].lenientt is not a setting\n"
        f"  --> {sound}:5\n"
        "   5 | lenientt = true\n"
        "  = did you mean 'lenient'?\n"
    )


def test_a_mistake_in_a_hook_is_told_with_its_line(sound: Path) -> None:
    (sound.parent / "hooks.py").write_text("\ndef on_request(): ...\n")
    result = invoke("check", str(sound))
    assert result.exit_code == 1
    assert "on_request takes the wrong parameters" in result.stderr
    assert "   2 | def on_request(): ...\n" in result.stderr


def test_square_brackets_are_not_taken_for_markup(tmp_path: Path) -> None:
    path = tmp_path / "banish.toml"
    path.write_text('listen = "[red]:80:[/red]"\n[[sites]]\norigin = "http://a"')
    assert '"[red]:80:[/red]" is not an address' in invoke("check", str(path)).stderr


def test_serve_without_an_origin_says_how_to_give_one() -> None:
    result = invoke("serve")
    assert result.exit_code == 2
    assert "--origin URL" in result.stderr


def test_a_port_in_use_is_told_in_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = invoke("serve", "--origin", "http://127.0.0.1:1", "--listen", address, "--admin", "off")
    assert result.exit_code == 2
    assert f"error: --listen {address} is in use by another process\n" in result.stderr
    assert "choose another port with --listen" in result.stderr


def test_a_demo_on_a_port_that_cannot_be_is_refused() -> None:
    assert invoke("demo", "--port", "99999").exit_code == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert invoke("demo", "--port", str(taken.getsockname()[1])).exit_code == 2


def test_set_takes_any_setting_and_refuses_what_is_none() -> None:
    result = invoke("serve", "--origin", "http://a", "--set", "memory.budget=1GiB")
    assert result.exit_code == 2
    assert "did you mean 'memory.budget_bytes'?" in result.stderr
    assert 'has no "="' in invoke("serve", "--origin", "http://a", "--set", "nonsense").stderr


def test_explain_says_when_no_edge_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    result = invoke("explain", "http://a/", "--admin", address)
    assert result.exit_code == 1
    assert f"no edge answers on {address}" in result.stderr


class Served:
    """An edge as a process of its own."""

    def __init__(self, config: Path) -> None:
        command = [sys.executable, "-m", "banish", "serve", "-c", str(config)]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ, "COLUMNS": "200"}
        )
        assert self.process.stderr is not None
        self.stderr = self.process.stderr

    def read_until(self, words: str) -> str:
        """What it says up to the line with these words."""
        said = ""
        for line in self.stderr:
            said += line
            if words in line:
                return said
        raise AssertionError(f"it ended without saying {words!r}: {said}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@pytest.fixture
def admin() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def served(sound: Path, admin: str) -> Iterator[Served]:
    rest = sound.read_text()
    sound.write_text(f'listen = "127.0.0.1:0"\nadmin.listen = "{admin}"\nlog.access = "off"\n{rest}')
    served = Served(sound)
    yield served
    served.process.kill()
    served.process.wait()
    served.stderr.close()


@pytest.mark.slow
def test_serve_starts_explains_reloads_and_drains(served: Served, sound: Path, admin: str) -> None:
    told = json.loads(served.read_until('"serving"').splitlines()[-1])
    assert list(told["sites"]) == ["shop"]
    assert told["listening"][0].startswith("http://127.0.0.1:")
    with urllib.request.urlopen(f"http://{admin}/readyz") as ready:
        assert ready.read() == b"serving\n"

    explained = json.loads(invoke("explain", "http://a/", "--admin", admin, "--json").output)
    assert explained["why"] == "nothing is stored for this URL"
    assert "forward  nothing is stored for this URL" in invoke("explain", "http://a/", "--admin", admin).output

    sound.write_text(sound.read_text().replace("shop", "store"))
    served.process.send_signal(signal.SIGHUP)
    assert "store" in served.read_until("configuration in force")
    sound.write_text("nonsense")
    served.process.send_signal(signal.SIGHUP)
    assert "is not TOML" in served.read_until("the former stays in force")

    served.process.send_signal(signal.SIGTERM)
    served.read_until("stopped")
    assert served.process.wait(10) == 0
