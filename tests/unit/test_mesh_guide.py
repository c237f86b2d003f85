"""The commands in the guide of the mesh, from the first edge on, do what it says."""

import re
import shlex
from pathlib import Path

import pytest

from banish.mesh.directory import MeshDirectory
from tests.unit.admin.meshing import FakeMesh
from tests.unit.admin.subject import FakeEdge
from tests.unit.cli.serving import invoke, listening

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "mesh.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^\$ banish (.*)$", GUIDE, re.MULTILINE)]


def test_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    edge = FakeEdge()
    edge.mesh = FakeMesh()
    with listening(edge) as listener:
        for at, words in enumerate(COMMANDS):
            if "--relay" in words or (words[:2] == ["mesh", "init"] and at):
                continue  # a mesh of another kind
            offline = words[0] == "join" or words[1] in ("init", "install")
            home = "paris" if words[1] == "init" else "berlin"
            told = [word.replace("/var/lib/banish", str(tmp_path / home)) for word in words]
            result = invoke(*told) if offline else listener.invoke(*told)
            assert result.exit_code == 0, f"{words}: {result.output}"
    assert MeshDirectory(tmp_path / "berlin").settings().name == "berlin"
    assert MeshDirectory(tmp_path / "paris").settings().name == "paris"


def test_a_mesh_with_relays_is_begun_so(tmp_path: Path) -> None:
    (words,) = [words for words in COMMANDS if "relay" in words]
    assert invoke(*[word.replace("/var/lib/banish", str(tmp_path)) for word in words]).exit_code == 0
    assert MeshDirectory(tmp_path).settings().relay


def test_the_figures_are_there() -> None:
    reference = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(banish_mesh_\w+)", GUIDE))
    assert len(named) > 5
    assert {name for name in named if f"`{name}`" not in reference} == set()
