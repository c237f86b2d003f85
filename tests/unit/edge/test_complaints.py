import structlog.testing

from banish.edge import complaints
from banish.edge.complaints import Complaints
from banish.testing.clock import FakeClock


def test_a_kind_is_complained_of_once_and_then_with_the_count_since() -> None:
    clock = FakeClock()
    with structlog.testing.capture_logs() as logged:
        made = Complaints(structlog.get_logger(), clock)
        for _ in range(3):
            made.make("origin failed", "shop", "connect", reason="refused")
        made.make("origin failed", "shop", "timeout", reason="silent")
        clock.advance(complaints.EVERY_S)
        made.make("origin failed", "shop", "connect", reason="refused")
    assert [(line["reason"], line["unsaid"]) for line in logged] == [("refused", 0), ("silent", 0), ("refused", 2)]


def test_kinds_are_bounded() -> None:
    with structlog.testing.capture_logs() as logged:
        made = Complaints(structlog.get_logger(), FakeClock())
        for n in range(complaints.KINDS_MAX + 1):
            made.make("odd", str(n))
        made.make("odd", "0")
    assert len(logged) == complaints.KINDS_MAX + 2
