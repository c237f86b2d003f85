"""Tiers: a child and its parents, whole pipelines, moved by hand."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import structlog.testing

from banish.caching.cache_status import Outcome
from banish.caching.policy import CachePolicy
from banish.errors import ConnectFailed, OriginTimeout
from banish.http.fields import Fields
from banish.http.messages import RequestHead, ResponseHead
from banish.proxy.upstream import AVOID_PARENT_S, FAILURES_MAX
from banish.purge.targets import tag_target
from tests.byhand import ByHand, Exchange, Whole, run
from tests.tiering import FakeMesh, edge_of, join, without

FRESH = ("Cache-Control: max-age=60", 'ETag: "1"')


class Pair:
    """A child below a parent."""

    def __init__(self, **site: Any) -> None:
        self.mesh = FakeMesh()
        self.parent = edge_of(self.mesh, "paris", **site)
        self.child = edge_of(self.mesh, "kyoto", parents=["paris"], **site)
        self.way = join(self.child, self.parent)
        self.at_parent, self.at_child = self.mesh.of(self.parent), self.mesh.of(self.child)
        self.mesh.spread()

    async def above(self, *lines: str, body: bytes = b"one", target: str = "/a") -> None:
        """The parent has something stored."""
        await self.parent.store_one(target, *(lines or FRESH), body=body)

    async def ask(self, target: str = "/a", *lines: str) -> Whole:
        """A client of the child asks for what is answered without an origin."""
        whole = await self.child.ask(target, *lines)
        await self.child.settled()
        return whole

    async def ask_by_origin(self, edge: ByHand, *lines: str, body: bytes = b"two", status: int = 200) -> Whole:
        """The same, and this edge's way to the origin gives an answer."""
        asked = self.child.ask("/a")
        await give(edge, *(lines or FRESH), body=body, status=status)
        whole = await asked
        await self.child.settled()
        return whole


async def give(edge: ByHand, *lines: str, body: bytes = b"two", status: int = 200) -> Exchange:
    exchange = await edge.origin.next()
    exchange.answer(status, *lines)
    if status != 304:
        exchange.end(body)
    return exchange


def test_a_child_refills_from_its_parent_and_the_origin_is_not_asked() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        assert (await pair.ask()).body == b"one"
        assert (await pair.ask()).outcome is Outcome.HIT
        assert len(pair.way.asked) == 1
        assert pair.child.origin.exchanges == []

    run(scene())


def test_what_the_parent_lacks_is_fetched_by_it_and_kept_by_both() -> None:
    async def scene() -> None:
        pair = Pair()
        assert (await pair.ask_by_origin(pair.parent)).body == b"two"
        assert pair.child.origin.exchanges == []
        assert (await pair.child.ask("/a")).outcome is Outcome.HIT
        assert (await pair.parent.ask("/a")).outcome is Outcome.HIT

    run(scene())


def test_unsafe_requests_bodies_and_bypassed_ones_go_to_the_origin() -> None:
    async def scene() -> None:
        pair = Pair()
        asked = pair.child.ask("/a", method="POST")
        await give(pair.child)
        assert (await asked).body == b"two"
        assert pair.way.asked == []

    run(scene())


def test_the_client_sees_nothing_of_what_edges_say_and_no_origin_does() -> None:
    async def scene() -> None:
        pair = Pair()
        whole = await pair.ask_by_origin(pair.parent)
        assert "banish-tier" in pair.way.asked[0].fields
        assert "banish-tier" in pair.way.answered[0].fields
        assert "banish-tier" not in whole.answer.fields
        assert "banish-tier" not in pair.parent.origin.exchanges[0].asked.fields
        assert "banish-tier" not in (await pair.ask()).answer.fields

    run(scene())


def test_cache_status_lists_every_tier_from_origin_to_client() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        whole = await pair.ask()
        above, own = whole.answer.fields.members("cache-status")
        assert above.startswith("paris; hit")
        assert own.startswith("kyoto; fwd=uri-miss; fwd-status=200; stored")

    run(scene())


def test_age_goes_on_counting_across_tiers() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        pair.parent.clock.advance(20)
        assert (await pair.ask())["age"] == "20"
        pair.child.clock.advance(15)
        hit = await pair.ask()
        assert (hit.outcome, hit["age"]) == (Outcome.HIT, "35")
        pair.child.clock.advance(26)  # past 60 s since the origin made it: stale at both
        asked = pair.child.ask("/a")
        exchange = await pair.parent.origin.next()
        assert exchange.conditional
        exchange.answer(304, *FRESH)
        await asked
        assert pair.child.origin.exchanges == []

    run(scene())


def test_the_host_the_scheme_and_what_is_said_of_the_client_are_those_of_the_client() -> None:
    async def scene() -> None:
        pair = Pair(host_header="backend.internal")
        asked = pair.child.ask("/a")
        exchange = await pair.parent.origin.next()
        assert pair.way.asked[0].fields.get("host") == "site.example"
        assert exchange.asked.fields.get("host") == "backend.internal"
        assert exchange.asked.fields.get("x-forwarded-for") == "192.0.2.1, 198.51.100.7"
        assert exchange.asked.fields.get("x-forwarded-proto") == "http"
        exchange.answer(200)
        exchange.end(b"")
        await asked

    run(scene())


def test_rule_30_tags_groups_and_targeted_control_pass_to_children_with_a_304_too() -> None:
    async def scene() -> None:
        pair = Pair()
        told = (
            "Cache-Control: max-age=5", "CDN-Cache-Control: max-age=60", "Surrogate-Key: t1 t2", 'Cache-Groups: "g"',
            'ETag: "1"',
        )  # fmt: skip
        await pair.above(*told)
        await pair.ask()
        (meta,) = pair.child.store.metas(pair.child.key())
        assert (meta.tags, meta.groups, meta.lifetime) == (("t1", "t2"), ("g",), 60)
        pair.child.clock.advance(70)
        renewed = pair.child.ask("/a")
        await give(pair.parent, "CDN-Cache-Control: max-age=60", "Surrogate-Key: t3", 'ETag: "1"', status=304)
        assert (await renewed).outcome is Outcome.REVALIDATED
        (meta,) = pair.child.store.metas(pair.child.key())
        assert "t3" in meta.tags
        assert meta.lifetime == 60

    run(scene())


# --- parents that cannot answer


def test_a_parent_that_cannot_be_reached_is_passed_over_and_left_alone_for_a_while() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        pair.way.down = True
        assert (await pair.ask_by_origin(pair.child)).body == b"two"
        pair.way.down = False
        asked = pair.child.ask("/b")
        await give(pair.child)
        await asked
        assert pair.way.asked == []
        pair.child.clock.advance(AVOID_PARENT_S)
        other = pair.child.ask("/c")
        await give(pair.parent)
        await other
        assert len(pair.way.asked) == 1

    run(scene())


def test_of_several_parents_each_has_its_share_and_the_next_takes_over() -> None:
    async def scene() -> None:
        mesh = FakeMesh()
        names = ["paris", "quito", "delhi"]
        parents = {name: edge_of(mesh, name) for name in names}
        child = edge_of(mesh, "kyoto", parents=names)
        ways = {name: join(child, parent) for name, parent in parents.items()}
        mesh.spread()
        for at in range(12):
            for parent in parents.values():
                await parent.store_one(f"/{at}", body=parent.node.encode())
            answered = (await child.ask(f"/{at}")).body.decode()
            ways[answered].down = True
            await child.settled()
            child.stamps.apply([child.url(f"/{at}")])
            second = (await child.ask(f"/{at}")).body.decode()
            assert second != answered
            ways[answered].down = False
            child.clock.advance(AVOID_PARENT_S)
            mesh.spread()
        assert {name for name in names if ways[name].asked} == set(names)

    run(scene())


def test_a_page_of_the_parents_own_is_no_answer() -> None:
    async def scene() -> None:
        pair = Pair()
        asked = pair.child.ask("/a")
        (await pair.parent.origin.next()).fail(ConnectFailed("down"))
        await give(pair.child)
        assert (await asked).body == b"two"

    run(scene())


def test_a_parent_with_other_rules_for_the_site_is_no_parent() -> None:
    async def scene() -> None:
        mesh = FakeMesh()
        parent = edge_of(mesh, "paris", cache=CachePolicy(query_sort=True))
        child = edge_of(mesh, "kyoto", parents=["paris"])
        join(child, parent)
        await parent.store_one("/a", *FRESH, body=b"one")
        asked = child.ask("/a")
        await give(child)
        assert (await asked).body == b"two"

    run(scene())


def test_edges_that_are_each_others_parents_do_not_ask_in_circles() -> None:
    async def scene() -> None:
        mesh = FakeMesh()
        one, two = edge_of(mesh, "paris", parents=["kyoto"]), edge_of(mesh, "kyoto", parents=["paris"])
        there, back = join(one, two), join(two, one)
        asked = one.ask("/a")
        await give(two)
        assert (await asked).body == b"two"
        assert (len(there.asked), len(back.asked)) == (1, 0)

    run(scene())


def test_a_request_through_three_tiers_is_answered_by_the_first_that_can() -> None:
    async def scene() -> None:
        mesh = FakeMesh()
        top = edge_of(mesh, "paris")
        middle, low = edge_of(mesh, "delhi", parents=["paris"]), edge_of(mesh, "kyoto", parents=["delhi"])
        join(middle, top)
        join(low, middle)
        await top.store_one("/a", *FRESH, body=b"one")
        whole = await low.ask("/a")
        assert whole.body == b"one"
        assert [member.partition(";")[0] for member in whole.answer.fields.members("cache-status")] == [
            "paris", "delhi", "kyoto",
        ]  # fmt: skip

    run(scene())


# --- rule 28


def test_rule_28_what_is_stale_at_the_parent_is_confirmed_before_it_travels() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above("Cache-Control: max-age=10, stale-while-revalidate=100", 'ETag: "1"')
        pair.parent.clock.advance(20)
        whole = await pair.ask_by_origin(pair.parent, 'ETag: "1"', "Cache-Control: max-age=10", status=304)
        assert whole.body == b"one"
        assert pair.parent.origin.exchanges[-1].conditional

    run(scene())


def test_rule_28_a_clients_max_stale_does_not_reach_beyond_its_edge() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above("Cache-Control: max-age=10", 'ETag: "1"')
        pair.parent.clock.advance(20)
        asked = pair.child.ask("/a", "Cache-Control: max-stale=1000")
        await give(pair.parent, 'ETag: "1"', "Cache-Control: max-age=10", status=304)
        assert (await asked).body == b"one"

    run(scene())


def test_rule_28_only_stale_at_the_parent_is_passed_on_under_the_childs_policy_and_never_stored() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above("Cache-Control: max-age=10", 'ETag: "1"')
        pair.parent.clock.advance(20)
        asked = pair.child.ask()
        (await pair.parent.origin.next()).fail(ConnectFailed("down"))
        (await pair.child.origin.next()).fail(ConnectFailed("down"))
        whole = await asked
        await pair.child.settled()
        assert (whole.body, whole.outcome) == (b"one", Outcome.STALE_ERROR)
        assert "detail=stale-above" in whole["cache-status"]
        assert list(pair.child.store.metas(pair.child.key())) == []

    run(scene())


def test_rule_28_a_child_whose_policy_wants_nothing_stale_passes_on_nothing_stale() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above("Cache-Control: max-age=10", 'ETag: "1"')
        policy = pair.child.site.site._base  # windows for what is stale are each edge's own: no digest tells them apart
        pair.child.site.site._merged[()] = pair.child.site.site._base = msgspec.structs.replace(
            policy, stale_when_unreachable_s=0.0
        )
        pair.parent.clock.advance(20)
        asked = pair.child.ask()
        (await pair.parent.origin.next()).fail(ConnectFailed("down"))
        (await pair.child.origin.next()).fail(ConnectFailed("down"))
        assert (await asked).status == 502

    run(scene())


def test_rule_28_the_childs_own_stale_response_comes_before_the_parents() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above("Cache-Control: max-age=10", 'ETag: "1"')
        await pair.ask()
        pair.parent.clock.advance(20)
        asked = pair.child.ask("/a")
        (await pair.parent.origin.next()).fail(ConnectFailed("down"))
        (await pair.child.origin.next()).fail(ConnectFailed("down"))
        whole = await asked
        assert (whole.body, whole.outcome) == (b"one", Outcome.STALE_ERROR)
        assert "hit" in whole.answer.fields.members("cache-status")[-1]
        (meta,) = pair.child.store.metas(pair.child.key())
        assert meta.lifetime == 10
        assert pair.child.clock.now() - meta.received_at == 20

    run(scene())


# --- rule 29


def test_rule_29_a_parent_that_lacks_a_purge_catches_up_before_the_request_arrives() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        await pair.ask()
        pair.mesh.purge(pair.child, [pair.child.url()])
        whole = await pair.ask_by_origin(pair.parent)
        assert whole.body == b"two"
        assert pair.child.origin.exchanges == []

    run(scene())


def test_rule_29_without_the_header_the_same_refill_is_stale() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        await pair.ask()
        pair.mesh.purge(pair.child, [pair.child.url()])
        pair.at_child.confirmed[pair.at_parent.edge] = dict(pair.at_child.held.marks)  # a lie
        pair.child.purge_id = lambda index: None  # type: ignore[method-assign]
        assert (await pair.ask()).body == b"one"

    run(scene())


def test_rule_29_a_parent_that_cannot_catch_up_passes_stores_nothing_and_says_so() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        await pair.ask()

        async def never(marks: object) -> None:
            return None

        pair.at_parent.catching_up = never
        pair.mesh.purge(pair.child, [pair.child.url()])
        whole = await pair.ask_by_origin(pair.parent)
        assert whole.body == b"two"
        assert (await pair.ask()).outcome is Outcome.HIT  # the child may keep it: it is the origin's, and newer
        assert (await pair.parent.ask("/a")).body == b"one"  # nothing was stored there

    run(scene())


def test_rule_29_what_is_confirmed_does_not_travel_and_another_epoch_has_confirmed_nothing() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.mesh.purge(pair.child, [pair.child.url("/x")])
        pair.mesh.spread()
        await pair.above()
        await pair.ask()
        short = len(pair.way.asked[-1].fields.get("banish-tier") or "")
        await pair.above(target="/b")
        pair.at_parent.epoch = "2-00000002"  # it was started anew: the child has not heard of it yet
        asked = pair.child.ask("/b")
        await give(pair.child)
        assert (await asked).body == b"two"
        pair.at_child.confirmed.clear()
        pair.at_child.epochs.clear()
        pair.child.clock.advance(AVOID_PARENT_S)
        other = pair.child.ask("/c")
        await give(pair.parent)
        await other
        assert len(pair.way.asked[-1].fields.get("banish-tier") or "") > short

    run(scene())


def test_rule_29_a_header_that_would_be_too_long_sends_the_child_to_the_origin() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        pair.child.tiers.settings = msgspec.structs.replace(pair.child.tiers.settings, header_limit_bytes=100)
        assert (await pair.ask_by_origin(pair.child)).body == b"two"
        assert pair.way.asked == []

    run(scene())


def test_rule_29_the_header_goes_on_to_the_next_tier() -> None:
    async def scene() -> None:
        mesh = FakeMesh()
        top = edge_of(mesh, "paris")
        middle, low = edge_of(mesh, "delhi", parents=["paris"]), edge_of(mesh, "kyoto", parents=["delhi"])
        join(middle, top)
        join(low, middle)
        mesh.spread()
        await top.store_one("/a", *FRESH, body=b"one")

        async def never(marks: object) -> None:
            return None

        mesh.of(middle).catching_up = never  # it passes; its own parent can catch up
        mesh.purge(low, [low.url()])
        asked = low.ask("/a")
        await give(top)
        assert (await asked).body == b"two"

    run(scene())


# --- rule 30


def test_rule_30_a_refill_names_its_purge_and_nothing_older_answers_whatever_its_tags() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above("Cache-Control: max-age=60", "Surrogate-Key: old")
        await pair.ask()
        (record,) = pair.child.store.lookup(pair.child.key())
        record.meta = msgspec.structs.replace(record.meta, tags=("t",))  # as if it had come under other tags
        pair.mesh.purge(pair.child, [tag_target("default", "t")])
        pair.mesh.spread()
        whole = await pair.ask_by_origin(pair.parent)
        assert whole.body == b"two"

    run(scene())


def test_rule_30_a_purge_that_the_parent_does_not_know_lets_nothing_stored_answer() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        await pair.ask()
        pair.mesh.purge(pair.child, [pair.child.url()])
        pair.mesh.spread()
        pair.at_parent.indexes.clear()
        whole = await pair.ask_by_origin(pair.parent)
        assert whole.body == b"two"

    run(scene())


# --- who is believed


def forged(change: Callable[[RequestHead], RequestHead]) -> None:
    """A request that is changed on its way: the parent must take it for a client's, the child must not use it."""

    async def scene() -> None:
        pair = Pair()
        await pair.above()
        await pair.above(target="/b")
        pair.way.on_request = change
        assert (await pair.ask_by_origin(pair.child)).body == b"two"
        assert all("banish-tier" not in head.fields for head in pair.way.answered)

    run(scene())


def test_an_ask_for_another_target_is_nobodys() -> None:
    forged(lambda head: msgspec.structs.replace(head, target="/b"))


def test_an_ask_for_another_method_is_nobodys() -> None:
    forged(lambda head: msgspec.structs.replace(head, method="HEAD"))


def test_an_ask_for_another_host_is_nobodys() -> None:
    forged(lambda head: msgspec.structs.replace(head, fields=head.fields.with_field("Host", "SITE.example")))


def test_two_asks_are_none() -> None:
    value = "x"
    forged(lambda head: msgspec.structs.replace(head, fields=head.fields.plus("Banish-Tier", value)))


def test_an_ask_that_is_changed_by_one_letter_is_nobodys() -> None:
    def change(head: RequestHead) -> RequestHead:
        value = head.fields.get("banish-tier") or ""
        other = ("A" if value[20] != "A" else "B").join([value[:20], value[21:]])
        return msgspec.structs.replace(head, fields=head.fields.with_field("Banish-Tier", other))

    forged(change)


def test_an_edge_that_was_forgotten_is_a_client() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        pair.mesh.forgotten.add(pair.at_child.edge)
        assert (await pair.ask_by_origin(pair.child)).body == b"two"
        assert "banish-tier" not in pair.way.answered[0].fields

    run(scene())


def test_an_old_ask_is_refused() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()

        async def late() -> None:
            pair.parent.clock.advance(31)

        pair.way.before_arrival = late
        assert (await pair.ask_by_origin(pair.child)).body == b"two"

    run(scene())


def test_an_ask_counts_once() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        await pair.ask()
        again = await pair.way.fetch(pair.way.asked[0], None)
        assert "banish-tier" not in again.head.fields

    run(scene())


def unproved(change: Callable[[ResponseHead], ResponseHead]) -> None:
    """A response that is changed on its way is not used."""

    async def scene() -> None:
        pair = Pair()
        await pair.above()
        pair.way.on_response = change
        assert (await pair.ask_by_origin(pair.child)).body == b"two"

    run(scene())


def test_an_answer_without_a_statement_is_not_used() -> None:
    unproved(lambda head: without(head, "banish-tier"))


def test_an_answer_with_another_status_is_not_used() -> None:
    unproved(lambda head: msgspec.structs.replace(head, status=404))


@pytest.mark.parametrize("line", [("Cache-Control", "max-age=9999"), ("Age", "0"), ("ETag", '"2"')])
def test_an_answer_with_other_decisive_fields_is_not_used(line: tuple[str, str]) -> None:
    def change(head: ResponseHead) -> ResponseHead:
        if head.fields.get(line[0].lower()) == line[1]:
            return without(head, line[0].lower())
        return msgspec.structs.replace(head, fields=head.fields.with_field(*line))

    unproved(change)


def test_a_statement_for_another_request_is_not_used() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        await pair.above(target="/b")
        await pair.ask("/b")
        other = pair.way.answered[0].fields.get("banish-tier") or ""
        pair.way.on_response = lambda head: msgspec.structs.replace(
            head, fields=head.fields.with_field("Banish-Tier", other)
        )
        assert (await pair.ask_by_origin(pair.child)).body == b"two"

    run(scene())


def test_a_client_that_sends_the_field_is_a_client() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        for value in ("", "x", "AAAA" * 40, "é", "A" * 5000):
            whole = await pair.parent.ask("/a", f"Banish-Tier: {value}")
            assert whole.outcome is Outcome.HIT
            assert "banish-tier" not in whole.answer.fields

    run(scene())


def test_an_origin_that_sends_the_field_proves_nothing_and_no_client_sees_it() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above(*FRESH, "Banish-Tier: x")
        assert "banish-tier" not in (await pair.parent.ask("/a")).answer.fields
        assert (await pair.ask()).body == b"one"

    run(scene())


def test_edges_without_a_mesh_ask_the_origin() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.child.tiers.tier = None
        assert (await pair.ask_by_origin(pair.child)).body == b"two"

    run(scene())


# --- what no client may bring about


def test_one_slow_page_does_not_keep_the_others_from_their_parent() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        await pair.above(target="/b")

        async def cut_off() -> None:
            raise OriginTimeout("first_byte", "too slow")

        pair.way.before_return = cut_off
        for _ in range(FAILURES_MAX - 1):
            assert (await pair.ask_by_origin(pair.child, "Cache-Control: no-store")).body == b"two"
        pair.way.before_return = None
        assert (await pair.ask("/b")).body == b"one"
        pair.way.before_return = cut_off
        for _ in range(FAILURES_MAX):
            assert (await pair.ask_by_origin(pair.child, "Cache-Control: no-store")).body == b"two"
        pair.way.before_return = None
        asked = len(pair.way.asked)
        assert (await pair.ask_by_origin(pair.child)).body == b"two"
        assert len(pair.way.asked) == asked

    run(scene())


def test_a_head_too_large_for_the_parent_does_not_keep_others_from_it() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()
        await pair.above(target="/b")
        pair.way.on_response = lambda head: ResponseHead(431, Fields())
        assert (await pair.ask_by_origin(pair.child)).body == b"two"
        pair.way.on_response = lambda head: head
        assert (await pair.ask("/b")).body == b"one"

    run(scene())


def test_a_mesh_that_fails_leaves_a_childs_request_a_clients() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()

        async def fail(marks: object) -> None:
            raise RuntimeError("a fault")

        pair.at_parent.catching_up = fail
        pair.mesh.purge(pair.child, [pair.child.url("/x")])
        with structlog.testing.capture_logs() as logs:
            assert (await pair.ask_by_origin(pair.child)).body == b"two"
        assert "a child's request cannot be taken in as one" in [entry["event"] for entry in logs]

    run(scene())


def test_a_mesh_that_is_gone_meanwhile_proves_nothing() -> None:
    async def scene() -> None:
        pair = Pair()
        await pair.above()

        async def gone() -> None:
            pair.child.tiers.tier = None

        pair.way.before_return = gone
        assert (await pair.ask_by_origin(pair.child)).body == b"two"

    run(scene())


def test_the_lane_leaves_what_says_it_is_a_childs_to_the_pipeline() -> None:
    async def scene() -> None:
        edge = ByHand()
        await edge.store_one("/a", *FRESH)
        await edge.ask("/a")
        assert edge.lane_answers() is not None
        for name in ("Banish-Tier", "banish-tier", "BANISH-TIER"):
            assert edge.lane_answers("/a", f"{name}: x") is None

    run(scene())
