"""Edges of one mesh: a purge at one is in effect at all, whatever is lost, whoever is away, and each says so."""

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest

from banish.edge.applying import FAULTS
from banish.edge.mesh_state import Contact
from banish.edge.receipts import Reach, Stage
from banish.errors import ClientError, ConfigError
from banish.mesh import life
from banish.mesh.doubles import TOGETHER
from banish.mesh.effects import Standing
from banish.mesh.members import Members
from banish.purge.records import Record, RecordKind, decode
from banish.purge.stamps import Mode, Verdict
from banish.purge.targets import tag_target
from tests.fellows import Fellow, Network, meshed, until
from tests.looped import looped
from tests.unit.edge import services
from tests.unit.edge.services import ALICE, tag, tagged
from tests.unit.edge.test_accepting import signed

ALL = Reach()


def hit(fellow: Fellow, name: str) -> bool:
    return fellow.service.verdict(tagged(name)) is Verdict.HARD


async def caught(fellow: Fellow) -> bool:
    assert fellow.mesh is not None
    await fellow.service.settled()
    return fellow.mesh.replica.stage is life.Stage.CAUGHT_UP


@looped
async def test_a_purge_is_in_effect_on_all_edges_and_answered_once_two_hold_it(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin", "tokyo") as (_, (paris, berlin, tokyo)):
        purge = await paris.service.purge(tag("news"))
        assert (purge.copies or 0) >= 2
        state = await paris.service.purger.get(purge.id, wait=ALL, timeout_s=5)
        assert not state.missing
        assert hit(berlin, "news")
        assert hit(tokyo, "news")
        assert [one.name for one in state.edges] == ["berlin", "paris", "tokyo"]
        assert all(one.lag_s is not None for one in state.edges)
        there = await tokyo.service.purger.get(purge.id, wait=ALL, timeout_s=5)
        assert not there.missing, "any edge tells of it"
        assert there.membership == state.membership != ""


@looped
async def test_what_was_lost_is_asked_for(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin", "tokyo") as (network, (paris, berlin, _)):
        network.drops = lambda edge, kind, data: kind == "record" and edge == berlin.edge
        for name in ("a", "b", "c"):
            await paris.service.purge(tag(name))
        await until(lambda: all(hit(berlin, name) for name in ("a", "b", "c")))
        assert berlin.service.log.committed


@looped
async def test_an_edge_that_was_away_catches_up_before_it_serves(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin") as (network, fellows):
        paris, berlin = fellows
        await berlin.stop()
        purge = await paris.service.purge(*[tag(f"t{at}") for at in range(50)])
        assert purge.copies == 1, "nobody else is there"
        again = fellows[1] = Fellow(network, berlin.data, "berlin", floor=0)
        await again.start()
        assert hit(again, "t49")
        assert await caught(again)


@looped
async def test_after_a_kill_it_takes_part_under_what_its_log_holds(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin", "tokyo") as (network, fellows):
        paris, berlin, tokyo = fellows
        one = await paris.service.purge(tag("one"))
        await paris.service.purger.get(one.id, wait=ALL, timeout_s=5)
        await berlin.kill()
        await paris.service.purge(tag("two"))
        await tokyo.service.purge(tag("three"))
        again = fellows[1] = Fellow(network, berlin.data, "berlin", floor=0)
        await again.start()
        assert all(hit(again, name) for name in ("one", "two", "three"))
        positions = [entry.position for entry in await again.service.entries()]
        assert len(positions) == len(set(positions)), "nothing is logged twice"
        state = await again.service.purger.get(one.id, wait=ALL, timeout_s=5)
        assert not state.missing


@looped
async def test_what_is_held_outlives_a_trim_of_the_log(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin", retention_bytes=1) as (network, fellows):
        paris, berlin = fellows
        purge = await paris.service.purge(tag("old"))
        await paris.service.purger.get(purge.id, wait=ALL, timeout_s=5)
        berlin.service.store.synced_floor = berlin.service.table.index
        await berlin.service.purge(tag("new"))
        await berlin.service.trimmed()
        assert [entry.position.edge for entry in await berlin.service.entries()] == [berlin.edge]
        await berlin.stop()
        again = fellows[1] = Fellow(network, berlin.data, "berlin")
        mesh = again.join()
        position = decode((await paris.service.log.run((paris.edge, paris.identity.epoch), 2, 2, 1))[0]).position
        assert mesh.replica.held.has(position)
        await again.service.purger.start()
        await mesh.start()


@looped
async def test_an_edge_cut_off_knows_that_it_may_be_missing_purges(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin") as (network, (paris, berlin)):
        assert paris.mesh is not None
        assert not paris.lease.past()
        network.connect(berlin.edge, up=False)
        await until(paris.lease.past)
        assert paris.mesh.state().behind
        purge = await paris.service.purge(tag("news"))
        state = await paris.service.purger.get(purge.id, wait=ALL, timeout_s=0.1)
        assert state.missing == ("berlin",)
        assert {one.name: one.state for one in state.edges}["berlin"] is Standing.UNREACHABLE
        network.connect(berlin.edge, up=True)
        await until(lambda: hit(berlin, "news") and not paris.lease.past())


@looped
async def test_a_clean_stop_is_no_silence(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin") as (_, (paris, berlin)):
        await berlin.stop()
        assert paris.mesh is not None
        await until(lambda: paris.mesh is not None and paris.mesh.state().members[0].contact is Contact.LEFT)
        assert not paris.lease.past()


@looped
async def test_a_kind_that_is_not_known_is_applied_wider_and_passed_on_as_it_is(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin", "tokyo") as (network, (paris, berlin, tokyo)):
        network.drops = lambda edge, kind, data: kind == "record" and edge == tokyo.edge
        stranger = paris.identity
        payload = signed(1, "expire", ["shop"], "hard", [stranger.edge, "9-01234567", 1], b"", 5.0, [], "", "")[:-64]
        data = payload + stranger.sign(payload)
        network.edges[berlin.edge].hear("record", data)
        await until(lambda: hit(tokyo, "anything"))  # by a pull from berlin
        await tokyo.service.settled()
        assert await tokyo.service.log.run((stranger.edge, "9-01234567"), 1, 1, 1) == [data]
        assert tokyo.service.verdict(tagged("x", site="blog")) is Verdict.CLEAN


@looped
async def test_invalidations_reach_others_where_the_site_wants_it_and_leave_no_gap_where_not(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin", invalidates_all=lambda site: site == "shop") as (_, (paris, berlin)):
        assert berlin.mesh is not None
        for site in ("blog", "shop", "blog", "shop"):
            paris.service.purger.invalidate([tag_target(site, "x")])
        purge = await paris.service.purge(tag("last"))
        await paris.service.purger.get(purge.id, wait=ALL, timeout_s=5)
        assert berlin.service.verdict(tagged("x", site="shop")) is Verdict.HARD
        assert berlin.service.verdict(tagged("x", site="blog")) is Verdict.CLEAN
        assert not berlin.mesh.replica.received.above()
        assert berlin.mesh.replica.held.mark((paris.edge, paris.identity.epoch)) == 4


@looped
async def test_an_undo_follows_its_purge_everywhere(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin") as (_, (paris, berlin)):
        purge = await paris.service.purge(tag("news"), mode=Mode.SOFT)
        await until(lambda: berlin.service.verdict(tagged("news")) is Verdict.SOFT)
        await berlin.service.settled()
        with pytest.raises(ClientError, match="ask paris"):
            await berlin.service.purger.undo(purge.id, ALICE)
        await paris.service.purger.undo(purge.id, ALICE)
        await until(lambda: berlin.service.verdict(tagged("news")) is Verdict.CLEAN)
        await berlin.service.settled()
        assert (await berlin.service.purger.get(purge.id)).state is Stage.UNDONE


@looped
async def test_what_cannot_be_put_into_effect_is_applied_as_everything_and_the_worker_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with meshed(tmp_path, "paris", "berlin") as (_, (paris, berlin)):
        accept = berlin.service.purger.accept

        async def fails(data: bytes) -> Record:
            monkeypatch.undo()
            raise ZeroDivisionError

        monkeypatch.setattr(berlin.service.purger, "accept", fails)
        await paris.service.purge(tag("a"))
        await until(lambda: hit(berlin, "anything"))
        since = berlin.service.table.index
        await paris.service.purge(tag("b"))
        await until(lambda: berlin.service.verdict(tagged("b"), since) is Verdict.HARD)
        assert berlin.service.figure(FAULTS) == 1
        assert berlin.service.purger.accept == accept


@looped
async def test_counts_of_other_edges_are_asked_for(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin") as (_, (paris, berlin)):
        purge = await paris.service.purge(tag("news"))
        await paris.service.purger.get(purge.id, wait=ALL, timeout_s=5)
        entry = next(entry for entry in await berlin.service.entries() if entry.position.text == purge.id)
        berlin.service.purger.matched(entry.index, None, 3, 300)
        state = await paris.service.purger.get(purge.id, counts=True)
        assert [(one.name, one.matched, one.bytes) for one in state.edges] == [("berlin", 3, 300), ("paris", 0, 0)]


@looped
async def test_swept_is_told(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin") as (_, (paris, berlin)):
        purge = await paris.service.purge(tag("news"))
        state = await paris.service.purger.get(purge.id, wait=ALL, timeout_s=5)
        berlin.service.store.swept_upto = berlin.service.table.index
        berlin.service.purger.swept()
        later = await paris.service.purger.get(purge.id, after=state.cursor, timeout_s=5)
        assert {one.name: one.state for one in later.edges} == {"berlin": "swept", "paris": "applied"}


@looped
async def test_a_quorum_and_a_number_are_waited_for(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin", "tokyo") as (network, (paris, _, tokyo)):
        network.connect(tokyo.edge, up=False)
        purge = await paris.service.purge(tag("news"))
        loop = asyncio.get_running_loop()
        began = loop.time()
        for reach in (Reach(quorum=True), Reach(2)):
            state = await paris.service.purger.get(purge.id, wait=reach, timeout_s=5)
            assert state.missing == ("tokyo",)
        assert loop.time() - began < 4
        state = await paris.service.purger.get(purge.id, wait=Reach(3), timeout_s=0.05)
        assert not Reach(3).holds(state.edges)


@looped
async def test_a_newcomer_is_invited_starts_empty_and_is_heard(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin") as (network, fellows):
        paris, berlin = fellows[:2]
        await paris.service.purge(tag("before"))
        tokyo = Fellow(network, tmp_path / "tokyo", "tokyo")
        assert paris.mesh is not None
        tokyo.found(Members([*paris.mesh.members, tokyo.member]))
        record = await paris.service.purger.announce(
            RecordKind.JOIN, ALICE, about=tokyo.edge, member=msgspec.msgpack.encode(tokyo.member)
        )
        paris.mesh.belongs(record)
        fellows.append(await tokyo.start())
        await until(lambda: berlin.mesh is not None and tokyo.edge in berlin.mesh.members)
        assert await caught(tokyo)
        purge = await tokyo.service.purge(tag("after"))
        state = await tokyo.service.purger.get(purge.id, wait=ALL, timeout_s=5)
        assert [one.name for one in state.edges] == ["berlin", "paris", "tokyo"]
        assert not state.missing
        kept = berlin.directory.members
        await until(lambda: tokyo.edge in kept())


@looped
async def test_a_forgotten_edge_empties_and_passes_and_stays_out(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin") as (network, fellows):
        paris, berlin = fellows
        assert paris.mesh is not None
        edge, id_ = await paris.mesh.forget("berlin", caller=ALICE)
        assert edge == berlin.edge
        await until(lambda: berlin.outcast)
        await until(lambda: hit(berlin, "anything"))
        with pytest.raises(ClientError, match="have forgotten this one") as refused:
            await berlin.service.purge(tag("news"))
        assert refused.value.status == 503
        assert not paris.lease.past()
        state = await paris.service.purger.get(id_)
        assert [one.name for one in state.edges] == ["paris"]
        await berlin.stop()
        again = fellows[1] = Fellow(network, berlin.data, "berlin")
        await again.start()
        assert again.outcast
        with pytest.raises(ClientError):
            await paris.mesh.forget("berlin", caller=ALICE)


@looped
async def test_of_two_processes_with_one_id_the_newcomer_gives_way(tmp_path: Path) -> None:
    async with meshed(tmp_path, "paris", "berlin") as (network, (_, berlin)):
        services._KNOWN[tmp_path / "twin" / "log"] = services._KNOWN[berlin.data / "log"]
        twin = Fellow(network, tmp_path / "twin", "berlin")
        assert berlin.mesh is not None
        twin.found(berlin.mesh.members)
        said = berlin.mesh.replica._known.digests
        await until(lambda: said.number > 2 * TOGETHER)  # it is the older one beyond doubt
        with contextlib.suppress(ConfigError):  # if it is found out before it serves
            await twin.start()
        await until(lambda: twin.outcast)
        assert twin.mesh is not None
        assert twin.mesh.replica.stage is life.Stage.DOUBLED
        assert not berlin.outcast
        await twin.stop()


@looped
async def test_an_edge_that_is_no_member_of_its_own_mesh_does_not_start(tmp_path: Path) -> None:
    network = Network()
    alone = Fellow(network, tmp_path / "alone", "alone")
    other = Fellow(network, tmp_path / "other", "other")
    alone.found(Members([other.member]))
    with pytest.raises(ConfigError, match="not among the members"):
        alone.join()
    await alone.stop()
    await other.stop()
