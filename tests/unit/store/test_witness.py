from pathlib import Path

import pytest

from banish.store.witness import Witness


def test_a_new_witness_has_seen_nothing(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness")
    assert witness.seen() == 0
    witness.close()


def test_it_remembers_the_last_index_over_restarts(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness")
    for index in (1, 2**63, 42):
        witness.see(index)
        assert witness.seen() == index
    witness.close()
    again = Witness(tmp_path / "witness")
    assert again.seen() == 42
    again.close()


@pytest.mark.parametrize("left", [b"", b"\0" * 21, b"0000", b"0000000000000000001x\n", b"-0000000000000000001\n"])
def test_what_a_crash_may_leave_counts_as_nothing(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "witness").write_bytes(left)
    witness = Witness(tmp_path / "witness")
    assert witness.seen() == 0
    witness.close()


def test_a_witness_of_nothing() -> None:
    witness = Witness(None)
    witness.see(7)
    assert witness.seen() == 0
    witness.close()
