import math

from banish.mesh.lease import Lease, boottime


class Clocks:
    def __init__(self) -> None:
        self.boot, self.wall = 1000.0, 1_700_000_000.0
        self.told: list[bool] = []
        self.lease = Lease(lambda: self.boot, lambda: self.wall)
        self.lease.on_change = self.told.append


def test_without_a_mesh_it_is_never_past() -> None:
    clocks = Clocks()
    clocks.boot = clocks.wall = math.inf
    assert not clocks.lease.past()


def test_it_holds_until_its_moment() -> None:
    clocks = Clocks()
    clocks.lease.renew(1010.0)
    clocks.boot, clocks.wall = 1009.9, clocks.wall + 9.9
    assert not clocks.lease.past()
    clocks.boot = 1010.0
    assert clocks.lease.past()


def test_rule_22_past_on_either_clock_is_past() -> None:
    for boot, wall in ((1010.0, 0.0), (1000.0, 10.0)):
        clocks = Clocks()
        clocks.lease.renew(1010.0)
        clocks.boot, clocks.wall = boot, clocks.wall + wall
        assert clocks.lease.past()


def test_a_wall_clock_that_is_set_back_makes_it_no_longer() -> None:
    clocks = Clocks()
    clocks.lease.renew(1010.0)
    clocks.boot, clocks.wall = 1010.0, 0.0
    assert clocks.lease.past()


def test_it_is_told_once_when_it_is_found_past_and_once_when_it_is_renewed() -> None:
    clocks = Clocks()
    clocks.lease.renew(1010.0)
    clocks.boot = 1011.0
    assert clocks.lease.past()
    assert clocks.lease.past()
    clocks.lease.renew(1020.0)
    clocks.lease.renew(1005.0)
    assert clocks.told == [True, False, True]
    clocks.lease.renew(math.inf)
    assert clocks.told == [True, False, True, False]


def test_boottime_goes_on() -> None:
    assert boottime() <= boottime()
