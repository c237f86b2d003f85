"""One edge's dealings with children and parents; whole exchanges are in tests/unit/proxy/test_tiers.py."""

import itertools
from unittest import mock

from banish.edge import tiering
from banish.edge.tiering import CLOCK_S_MAX, Asking, Tiers
from banish.http.fields import Fields
from banish.mesh.tiers import PATH_MAX, POSITIONS_MAX, Worth
from banish.purge.positions import Position
from tests.byhand import ByHand
from tests.tiering import FakeMesh, edge_of

ABOUT = ("GET", "/a", "site.example")


class Two:
    """A child and a parent, and nothing between them."""

    def __init__(self) -> None:
        self.mesh = FakeMesh()
        self.parent, self.child = edge_of(self.mesh, "paris"), edge_of(self.mesh, "kyoto")
        self.above, self.below = self.parent.tiers, self.child.tiers

    @property
    def parent_id(self) -> str:
        return self.mesh.of(self.parent).edge

    def ask(self, **more: object) -> Asking:
        asking = self.below.ask(self.parent_id, ABOUT, scheme="http", rules=b"", **more)  # type: ignore[arg-type]
        assert asking is not None
        return asking


def test_an_ask_counts_at_the_edge_that_it_was_for() -> None:
    two = Two()
    lagos = edge_of(two.mesh, "lagos")
    value = two.ask().value
    assert lagos.tiers.recognise(value, ABOUT) is None
    child = two.above.recognise(value, ABOUT)
    assert child is not None
    assert child.ask.child == two.mesh.of(two.child).edge


def test_an_ask_counts_once_and_for_as_long_as_clocks_may_be_apart() -> None:
    two = Two()
    value = two.ask().value
    assert two.above.recognise(value, ABOUT) is not None
    assert two.above.recognise(value, ABOUT) is None
    later = two.ask().value
    two.parent.clock.advance(CLOCK_S_MAX + 1)
    assert two.above.recognise(later, ABOUT) is None
    assert two.above.recognise(two.ask().value, ABOUT) is not None


def test_more_asks_than_can_be_remembered_let_none_count_twice() -> None:
    two = Two()
    with mock.patch.object(tiering, "NONCES_MAX", 3):
        values = []
        for _ in range(6):
            values.append(two.ask().value)
            assert two.above.recognise(values[-1], ABOUT) is not None
            two.parent.clock.advance(1)
        assert [value for value in values if two.above.recognise(value, ABOUT) is not None] == []
        assert len(two.above._nonces) == 3


def test_what_is_remembered_of_asks_goes_with_their_time() -> None:
    two = Two()
    for _ in range(5):
        two.above.recognise(two.ask().value, ABOUT)
    two.parent.clock.advance(CLOCK_S_MAX + 1)
    two.above.recognise(two.ask().value, ABOUT)
    assert len(two.above._nonces) == 1


def test_an_edge_that_a_request_came_through_does_not_take_it_again() -> None:
    two = Two()
    child = two.above.recognise(two.ask().value, ABOUT)
    assert child is not None
    back = two.above.ask(two.mesh.of(two.child).edge, ABOUT, scheme="http", rules=b"", child=child)
    assert back is not None
    assert two.below.recognise(back.value, ABOUT) is None


def test_a_way_that_is_too_long_and_too_many_purges_are_not_asked() -> None:
    two = Two()
    edges: list[ByHand] = [two.child, two.parent, *[edge_of(two.mesh, f"e{at}") for at in range(PATH_MAX)]]
    child = None
    for one, other in itertools.pairwise(edges):
        asking = one.tiers.ask(two.mesh.of(other).edge, ABOUT, scheme="http", rules=b"", child=child)
        if asking is None:
            break
        child = other.tiers.recognise(asking.value, ABOUT)
        assert child is not None
    assert child is not None
    assert len(child.ask.path) == PATH_MAX
    many = [Position("0" * 16, "1-00000001", at) for at in range(POSITIONS_MAX + 1)]
    assert two.below.ask(two.parent_id, ABOUT, scheme="http", rules=b"", since=many) is None


def test_only_the_worth_that_a_parent_signed_is_believed() -> None:
    two = Two()
    asking = two.ask()
    child = two.above.recognise(asking.value, ABOUT)
    assert child is not None
    child.covers = True
    fields = Fields.of([("ETag", '"1"')])
    said = two.above.statement(child, Worth.STALE, 200, fields, "")
    assert two.below.proven(asking, 200, fields, said, since=False) is Worth.STALE
    assert two.below.proven(asking, 304, fields, said, since=False) is None
    assert two.below.proven(two.ask(), 200, fields, said, since=False) is None
    assert two.below.proven(asking, 200, Fields(), said, since=False) is None
    assert two.below.proven(asking, 200, fields, None, since=False) is None
    assert two.below.proven(asking, 200, fields, asking.value, since=False) is None


def test_fresh_without_covering_is_worth_nothing_and_passed_is() -> None:
    two = Two()
    asking = two.ask()
    child = two.above.recognise(asking.value, ABOUT)
    assert child is not None
    for worth, believed in ((Worth.FRESH, None), (Worth.STALE, None), (Worth.PASSED, Worth.PASSED)):
        said = two.above.statement(child, worth, 200, Fields(), "")
        assert two.below.proven(asking, 200, Fields(), said, since=False) is believed


def test_without_a_mesh_nobody_is_known() -> None:
    two = Two()
    value = two.ask().value
    alone: Tiers = two.above
    alone.tier = None
    assert alone.recognise(value, ABOUT) is None
    assert alone.ask(two.parent_id, ABOUT, scheme="http", rules=b"") is None


def test_a_purge_that_is_not_known_here_lets_only_what_is_fetched_from_now_on_answer() -> None:
    two = Two()
    known = two.mesh.purge(two.parent, [two.parent.url()])
    two.parent.stamps.apply([two.parent.url("/x")])
    child = two.above.recognise(two.ask(since=[known]).value, ABOUT)
    other = two.above.recognise(two.ask(since=[known, Position("f" * 16, "1-00000001", 1)]).value, ABOUT)
    neither = two.above.recognise(two.ask().value, ABOUT)
    assert child is not None
    assert other is not None
    assert neither is not None
    assert (two.above.fence_min(child, 2), two.above.fence_min(other, 2), two.above.fence_min(neither, 2)) == (1, 3, 0)
