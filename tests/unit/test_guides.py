"""The guides' examples work."""

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from banish.admin.app import ENDPOINTS
from banish.admin.purge_forms import asked, read_form
from banish.edge.config import load
from tests.unit.cli.serving import listening

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "purging.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ banish (purges? .*|purges)$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("command", [command for command in COMMANDS if "--follow" not in command])
def test_commands_of_the_purging_guide_do_what_they_should(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with listening() as edge:
        purge = edge.purged(mode="soft")
        assert edge.invoke("purges", "export", "purges.jsonl").exit_code == 0
        result = edge.invoke(*shlex.split(command.replace("$ID", purge.id), comments=True))
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "body", re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL) + re.findall(r"-d '(.*)'$", GUIDE, re.MULTILINE)
)
def test_bodies_of_the_purging_guide_are_purges(body: str) -> None:
    assert asked(read_form(body.encode()), key="", now=1e9).targets


def test_paths_and_parameters_of_the_purging_guide_are_there() -> None:
    written = re.findall(r"`(?:(GET|DELETE|POST) )?(/(?:purges|openapi)[^` ]*)`", GUIDE)
    assert len(written) > 4
    rows = {(row.method, row.path): row for row in ENDPOINTS}
    for method, path in written:
        row = rows[method or "GET", urlsplit(path).path]
        names = {part.partition("=")[0] for part in urlsplit(path).query.split("&") if part}
        assert names <= {parameter.name for parameter in row.query}, path


def test_the_tokens_of_the_purging_guide_are_sound(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "banish.toml").write_text(f'{block}\n[[sites]]\nname = "shop"\norigin = "http://a"\n')
    (token,) = load(tmp_path / "banish.toml").admin.tokens
    assert (token.name, token.sites, token.rights) == ("deploy", ("shop",), ("purge",))
