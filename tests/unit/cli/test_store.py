import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import Result

from banish.cli.store import _MEANINGS, _progress
from banish.store.check import Fault
from banish.store.index import Batch, Family
from banish.store.rocks import open_index
from tests.looped import looped
from tests.ondisk import opened
from tests.stored import stored_response
from tests.unit.cli.serving import invoke


@looped
async def fill(data: Path, *, breaks: int = 0) -> None:
    """What an edge leaves behind: 30 responses, so many of them without what leads to them."""
    data.mkdir()
    async with opened(data, index=open_index(data / "index")) as disk:
        for number in range(30):
            disk.store.put(stored_response(str(number), tags=("news",)))
        disk.store.reserve(100)
        await disk.store.settled()
        batch = Batch()
        for key in list(disk.rows(Family.TAGS))[:breaks]:
            batch.delete(Family.TAGS, key)
        disk.index.write(batch)


def check(data: Path, *options: str) -> Result:
    return invoke("store", "check", str(data), *options)


def test_a_sound_store_is_said_to_be_sound(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    result = check(tmp_path / "data")
    assert result.exit_code == 0
    assert result.stdout.startswith("sound  30 responses, ")
    assert result.stderr == ""


def test_damage_is_told_by_kind_with_examples_and_the_remedy(tmp_path: Path) -> None:
    fill(tmp_path / "data", breaks=25)
    result = check(tmp_path / "data")
    assert result.exit_code == 1
    assert result.stdout.startswith("damaged  25 faults; sound: 30 responses, ")
    assert "\n25 × missing: a row that should lead to a response is not there: a purge or eviction" in result.stdout
    assert "  tags of shop#0123456789ab https://shop.example/" in result.stdout
    assert "  and 5 more\n" in result.stdout
    assert f"banish store check {tmp_path / 'data'} --repair" in result.stdout


def test_what_is_repaired_is_sound_from_then_on(tmp_path: Path) -> None:
    fill(tmp_path / "data", breaks=1)
    result = check(tmp_path / "data", "--repair")
    assert result.exit_code == 0
    assert result.stdout.startswith("repaired  1 fault; sound: 30 responses, ")
    assert check(tmp_path / "data").stdout.startswith("sound  30 responses, ")


def test_an_index_past_repair_is_emptied_and_that_is_said(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    for manifest in (tmp_path / "data" / "index").glob("MANIFEST-*"):
        manifest.write_bytes(b"")
    assert check(tmp_path / "data").exit_code == 1
    result = check(tmp_path / "data", "--repair")
    assert (result.exit_code, "The store was emptied" in result.stdout) == (0, True)


def test_json_is_for_programs(tmp_path: Path) -> None:
    fill(tmp_path / "data", breaks=1)
    result = check(tmp_path / "data", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["sound"], told["responses"], told["faults"]) == (1, False, 30, {"missing": 1})


def test_a_store_in_use_and_a_directory_without_one_cannot_be_checked(tmp_path: Path) -> None:
    missing = check(tmp_path)
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert missing.stderr == f"error: nothing is stored in {tmp_path}; name the `data` of an edge\n"
    fill(tmp_path / "data")
    index = open_index(tmp_path / "data" / "index")
    try:
        used = check(tmp_path / "data")
    finally:
        index.close()
    assert used.exit_code == 2
    assert "is its edge stopped?" in used.stderr


def test_every_fault_has_a_meaning() -> None:
    assert _MEANINGS.keys() == {fault.value for fault in Fault}


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_drawn_on_a_terminal_alone(terminal: bool) -> None:
    drawn = io.StringIO()
    with _progress(Console(file=drawn, force_terminal=terminal, width=80)) as progress:
        progress("responses", 3, 30)
        progress("tags", 3, 0)
    assert ("responses" in drawn.getvalue()) == terminal
