import pytest

from banish.testing.clock import FakeClock


def test_both_readings_move_together_and_only_when_told() -> None:
    clock = FakeClock(100.0)
    assert clock.now() == clock.now() == 100.0
    before = clock.monotonic()
    clock.advance(2.5)
    assert clock.now() == 102.5
    assert clock.monotonic() - before == 2.5


def test_the_two_readings_cannot_be_mistaken_for_one_another() -> None:
    clock = FakeClock()
    assert clock.monotonic() > 100 * clock.now()


def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="back"):
        FakeClock().advance(-1)
