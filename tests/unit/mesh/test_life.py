"""The stages of a replica, as they are drawn."""

import re
from pathlib import Path

import pytest

from banish.mesh.life import TURNS, Stage, Turn

PAGE = Path(__file__).resolve().parents[3] / "docs" / "architecture.md"

LINE = re.compile(r"^([a-z-]+) +── ([a-z ]+?) ─*▶ ([a-z-]+)", re.MULTILINE)


def test_the_drawing_shows_what_the_code_does() -> None:
    drawn = {(Stage(before), Turn(turn)): Stage(after) for before, turn, after in LINE.findall(PAGE.read_text())}
    assert drawn == TURNS


@pytest.mark.parametrize("stage", [Stage.FORGOTTEN, Stage.DOUBLED])
def test_nothing_leads_out_of_an_end(stage: Stage) -> None:
    assert stage.over
    assert not [turn for before, turn in TURNS if before is stage]
