"""What the documents say is true where a machine can tell."""

import re
import tomllib
from pathlib import Path

import pytest
import trustme
from packaging.requirements import Requirement

from banish.edge.config import load

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_that_is_named_is_there(document: Path) -> None:
    named = re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", document.read_text(encoding="utf-8"))
    assert [path for path, _ in named if not (ROOT / path).exists()] == []
    assert [name for path, name in named if name and f"def {name}(" not in (ROOT / path).read_text("utf-8")] == []


def test_the_configuration_in_the_readme_is_sound(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    authority = trustme.CA()
    for name in ("shop", "press"):
        certificate = authority.issue_cert(f"{name}.example.com")
        certificate.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        certificate.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
    (tmp_path / "press_hooks.py").write_text("def on_request(request):\n    pass\n")
    file = tmp_path / "banish.toml"
    file.write_text(block.replace("/etc/banish", str(tmp_path)).replace("/var/lib/banish", str(tmp_path)))
    config = load(file)
    assert [site.name for site in config.sites] == ["shop", "press"]
    assert config.memory.budget_bytes == 2 * 1024**3
    assert config.sites[0].cache.stale_when_unreachable_s == 86400


@pytest.mark.parametrize("name", ["runtime.txt", "dev.txt"])
def test_the_lock_pins_by_hash_and_names_no_index(name: str) -> None:
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if re.match(r"[a-z0-9]", line)]
    assert pins
    assert all(re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+ \\$|[a-z0-9._-]+==\S+ ; ", line) for line in pins)
    assert not [line for line in lines if "://" in line or line.startswith("-")]


def test_the_lock_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = {
        "runtime.txt": project["project"]["dependencies"],
        "dev.txt": project["project"]["dependencies"] + project["dependency-groups"]["dev"],
    }
    for name, requirements in asked.items():
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        pinned = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE))
        for requirement in map(Requirement, requirements):
            assert requirement.specifier.contains(pinned[requirement.name]), f"{requirement}: run `make lock`"
