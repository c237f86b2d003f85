"""Records of other edges: in effect when they arrive, logged as they are, and the same whatever order they come in."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest

from banish.edge import consequences
from banish.edge.config import Purge as Settings
from banish.edge.consequences import RECORDS_EARLY, RECORDS_EARLY_LOST, RECORDS_IDLE
from banish.edge.issuing import RECORDS_ACCEPTED
from banish.edge.peers import Alone
from banish.edge.purging import RECORDS_UNREAD
from banish.edge.receipts import Filters, Stage
from banish.errors import ClientError, LogUnwritable, RecordError
from banish.purge.positions import Position, epoch_here_only, parse_position
from banish.purge.records import RECORD_VERSION, RecordKind, chain_holds, decode, encode, read_header
from banish.purge.stamps import Mode, Verdict
from banish.purge.targets import tag_target
from banish.store.ledger import Ledger
from banish.testing.clock import FakeClock
from tests.looped import looped
from tests.purgelogs import Disk, Issuer, tags
from tests.unit.edge.services import ALICE, UNDO_WINDOW_S, Service, serving, tag, tagged

OTHER = "ffeeddccbbaa9988"
THIRD = "aaaaaaaaaaaaaaaa"


class Ranked(Alone):
    """Two members come before this one."""

    def rank(self, issuer: str) -> int:
        return 2

    def name(self, edge: str) -> str:
        return "lyon"


class Heard(Alone):
    """Takes notes."""

    def __init__(self) -> None:
        self.issued_: list[Position] = []
        self.accepted_: list[tuple[int, Position]] = []

    def issued(self, index: int, record: Any, signed: bytes) -> None:
        assert decode(signed) == record
        self.issued_.append(record.position)

    def accepted(self, index: int, record: Any) -> None:
        self.accepted_.append((index, record.position))


def other(edge: str = OTHER) -> Issuer:
    return Issuer(edge=edge)


def signed(*fields: Any) -> bytes:
    """A record of any form."""
    return msgspec.msgpack.encode(fields) + bytes(64)


def unknown_kind(issuer: str = OTHER, sites: tuple[str, ...] = ("shop",), mode: str = "hard") -> bytes:
    return signed(RECORD_VERSION, "expire", sites, mode, [issuer, "3-01234567", 1], b"", 5.0, [], "", "")


KEPT = signed(RECORD_VERSION, "purge", [], "hard", [OTHER, "0-01234567", 1], b"", 5.0)


async def state(service: Service, id_: str) -> Stage:
    await service.settled()
    return (await service.purger.get(id_)).state


@looped
async def test_a_purge_of_another_edge_is_in_effect_at_once_and_logged_under_its_own_position() -> None:
    async with serving() as service:
        heard = service.purger.peers = Heard()
        data, record = other().record(tags("news"))
        fetched = service.table.index
        assert await service.purger.accept(data) == record
        assert service.verdict(tagged("news"), fetched) is Verdict.HARD
        assert service.store.applied_[-1][1] == (tag_target("", "news"),)
        await service.settled()
        entry = (await service.entries())[-1]
        assert (entry.index, entry.position, entry.record) == (fetched + 1, record.position, data)
        assert heard.accepted_ == [(entry.index, record.position)]
        assert heard.issued_ == [], "what others have issued is not ours to tell"
        assert service.figure(RECORDS_ACCEPTED, "purge") == 1
        service.store.swept_upto = entry.index
        service.purger.swept()
        assert await state(service, record.position.text) is Stage.SWEPT


@looped
async def test_targets_of_another_edge_are_read_by_this_ones_rules_and_never_refused() -> None:
    async with serving() as service:
        many = tags(*map(str, range(1000)))
        data, record = other().record((*many, *tags("")))
        await service.purger.accept(data)
        assert service.verdict(tagged("999")) is Verdict.HARD
        await service.settled()
        assert (await service.purger.get(record.position.text)).purge.widened, "an empty tag is applied as all"


@looped
async def test_rule_12_while_the_log_cannot_be_written_there_is_effect_and_no_entry() -> None:
    disk = Disk()
    async with serving(ledger=disk.ledger) as service:
        disk.broken = LogUnwritable("gone")
        with pytest.raises(ClientError):
            await service.purge(tag("own"))
        data, _ = other().record(tags("news"))
        await service.purger.accept(data)
        assert service.verdict(tagged("news")) is Verdict.HARD
        assert service.log.committed < service.log.taken
        disk.broken = None
        await service.log.committed_past(service.log.taken - 1)
        assert (await service.entries())[-1].record == data


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@looped
async def test_rule_20_an_undo_counts_whether_it_comes_before_its_purge_or_after(order: tuple[int, ...]) -> None:
    issuer = other()
    kept = issuer.record(tags("kept"), mode=Mode.SOFT)
    purge = issuer.record(tags("news"), mode=Mode.SOFT)
    undo = issuer.record((), kind=RecordKind.UNDO, about=purge[1].position.text)
    async with serving() as service:
        since = service.table.index
        for at in order:
            await service.purger.accept((kept, purge, undo)[at][0])
        assert service.verdict(tagged("news"), since) is Verdict.CLEAN
        assert service.verdict(tagged("kept"), since) is Verdict.SOFT
        assert await state(service, purge[1].position.text) is Stage.UNDONE
        assert await state(service, kept[1].position.text) is Stage.APPLIED
        assert service.figure(RECORDS_EARLY) == 0


@looped
async def test_an_undo_that_came_first_is_known_after_a_restart(tmp_path: Path) -> None:
    issuer = other()
    purge = issuer.record(tags("news"), mode=Mode.SOFT)
    undo = issuer.record((), kind=RecordKind.UNDO, about=purge[1].position.text)
    async with serving(tmp_path / "log") as service:
        await service.purger.accept(undo[0])
        await service.settled()
    async with serving(tmp_path / "log", floor=2) as service:
        since = service.table.index
        await service.purger.accept(purge[0])
        assert service.verdict(tagged("news"), since) is Verdict.CLEAN
        await service.settled()
    async with serving(tmp_path / "log", floor=2) as service:
        assert service.verdict(tagged("news")) is Verdict.CLEAN
        assert await state(service, purge[1].position.text) is Stage.UNDONE


@looped
async def test_rule_14_only_the_edge_that_issued_a_purge_takes_it_back() -> None:
    async with serving() as service:
        service.purger.peers = Ranked()
        data, record = other().record(tags("news"), mode=Mode.SOFT)
        await service.purger.accept(data)
        await service.settled()
        with pytest.raises(ClientError, match="ask lyon") as caught:
            await service.purger.undo(record.position.text, ALICE)
        assert caught.value.status == 409
        forged, _ = other(THIRD).record((), kind=RecordKind.UNDO, about=record.position.text)
        await service.purger.accept(forged)
        assert service.verdict(tagged("news")) is Verdict.SOFT
        assert service.figure(RECORDS_IDLE) == 1


@looped
async def test_an_undo_that_comes_when_the_window_is_over_here_changes_nothing() -> None:
    async with serving() as service:
        issuer = other()
        data, record = issuer.record(tags("news"), mode=Mode.SOFT)
        await service.purger.accept(data)
        service.clock.advance(UNDO_WINDOW_S)
        await service.purger.tick()
        assert service.store.released == [], "the undo has some time to travel"
        service.clock.advance(consequences.UNDO_DELAY_S)
        await service.purger.tick()
        assert len(service.store.released) == 1
        await service.purger.accept(issuer.record((), kind=RecordKind.UNDO, about=record.position.text)[0])
        assert service.verdict(tagged("news")) is Verdict.SOFT


@looped
async def test_early_records_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consequences, "EARLY_MAX", 2)
    async with serving() as service:
        issuer = other()
        for seq in range(100, 103):
            about = Position(OTHER, issuer.epoch, seq).text
            await service.purger.accept(issuer.record((), kind=RecordKind.UNDO, about=about)[0])
        assert (service.figure(RECORDS_EARLY), service.figure(RECORDS_EARLY_LOST)) == (2, 1)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@looped
async def test_rule_15_a_schedule_is_without_effect_and_done_once_its_purge_is_seen(order: tuple[int, ...]) -> None:
    clock = FakeClock()
    issuer = other()
    schedule = issuer.record(tags("news"), kind=RecordKind.SCHEDULE, due=clock.now() + 10)
    purge = issuer.record(tags("news"), about=schedule[1].position.text)
    async with serving(clock=clock) as service:
        for at in order:
            await service.purger.accept((schedule, purge)[at][0])
        clock.advance(1000)
        await service.purger.tick()
        await service.settled()
        purges = [entry for entry in await service.entries() if entry.kind is RecordKind.PURGE]
        assert [entry.position.edge for entry in purges] == [OTHER]
        assert await state(service, schedule[1].position.text) is Stage.APPLIED


@looped
async def test_rule_15_a_holder_carries_a_schedule_out_if_its_issuer_does_not() -> None:
    clock = FakeClock()
    async with serving(clock=clock, settings=Settings(at_grace_s=10)) as service:
        service.purger.peers = Ranked()
        data, record = other().record(
            tags("news"), kind=RecordKind.SCHEDULE, due=clock.now() + 10, sites=("shop",), actor="deploy"
        )
        await service.purger.accept(data)
        for step_s in (10, 10, 10, 9):  # its turn is the third after the issuer's
            clock.advance(step_s)
            await service.purger.tick()
            assert service.verdict(tagged("news")) is Verdict.CLEAN
        clock.advance(1)
        await service.purger.tick()
        assert service.verdict(tagged("news")) is Verdict.HARD
        await service.settled()
        carried = decode((await service.entries())[-1].record)
        assert (carried.position.edge, carried.about) == (service.identity.edge, record.position.text)
        assert (carried.actor, carried.sites) == ("deploy", ("shop",))
        clock.advance(1000)
        await service.purger.tick()
        assert len(await service.entries()) == 3


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@looped
async def test_a_schedule_that_is_cancelled_is_not_carried_out(order: tuple[int, ...]) -> None:
    clock = FakeClock()
    issuer = other()
    schedule = issuer.record(tags("news"), kind=RecordKind.SCHEDULE, due=clock.now() + 10)
    cancel = issuer.record((), kind=RecordKind.CANCEL, about=schedule[1].position.text)
    async with serving(clock=clock) as service:
        for at in order:
            await service.purger.accept((schedule, cancel)[at][0])
        clock.advance(1000)
        await service.purger.tick()
        assert await state(service, schedule[1].position.text) is Stage.CANCELLED
        await service.settled()
        assert [entry.kind for entry in await service.entries()].count(RecordKind.PURGE) == 0


@looped
async def test_rule_7_a_kind_not_known_here_is_everything_of_its_sites_and_kept_as_it_is(tmp_path: Path) -> None:
    data = unknown_kind()
    async with serving(tmp_path / "log") as service:
        record = await service.purger.accept(data)
        assert record.kind is RecordKind.PURGE
        assert service.verdict(tagged("x", site="shop")) is Verdict.HARD
        assert service.verdict(tagged("x", site="blog")) is Verdict.CLEAN
        assert service.figure(RECORDS_UNREAD) == 1
        await service.settled()
        assert await service.log.run((OTHER, "3-01234567"), 1, 9, 1) == [data], "byte for byte"
    ledger = Ledger.open(tmp_path / "log")
    assert ledger._connection.execute("SELECT kind FROM entries WHERE edge = ?", (OTHER,)).fetchall() == [("expire",)]
    ledger.close()
    async with serving(tmp_path / "log", floor=0) as service:
        assert service.verdict(tagged("x", site="shop")) is Verdict.HARD
        assert service.verdict(tagged("x", site="blog")) is Verdict.CLEAN


@looped
async def test_rule_7_of_what_is_damaged_the_head_counts_and_without_one_it_is_no_record() -> None:
    async with serving() as service:
        position = [OTHER, "3-01234567", 1]
        await service.purger.accept(signed(RECORD_VERSION, "purge", ["shop"], "soft", position, b"", "never"))
        assert service.verdict(tagged("x", site="shop")) is Verdict.SOFT
        await service.purger.accept(signed(99, "purge", ["blog"], "unheard-of", position, b""))
        assert service.verdict(tagged("x", site="blog")) is Verdict.HARD
        for data in (b"", b"x" * 100, signed(1, "purge", [], "hard", [OTHER, "3-01234567", 2**63], b""), KEPT):
            with pytest.raises(RecordError):
                await service.purger.accept(data)


@looped
async def test_moments_that_are_none_do_no_harm() -> None:
    async with serving() as service:
        data, record = other().record(tags("a"), kind=RecordKind.SCHEDULE, at=float("nan"), due=float("nan"))
        await service.purger.accept(data)
        await service.settled()
        assert (await service.entries())[-1].at == 0.0
        assert record.position.seq == 1
        await service.purger.tick()


@looped
async def test_openings_joins_and_forgets_of_others_have_no_effect_on_what_is_stored() -> None:
    async with serving() as service:
        issuer, before = other(), len(service.table)
        for kind in (RecordKind.OPEN, RecordKind.JOIN, RecordKind.FORGET):
            await service.purger.accept(issuer.record((), kind=kind)[0])
        assert len(service.table) == before
        await service.settled()
        told = (await service.purger.feed(None)).purges
        assert [(purge.kind, purge.state) for purge in told] == [("join", "applied"), ("forget", "applied")]


@looped
async def test_recovery_with_records_of_others_after_a_kill(tmp_path: Path) -> None:
    clock = FakeClock()
    issuer = other()
    async with serving(tmp_path / "log", clock=clock) as service:
        soft = issuer.record(tags("soft"), mode=Mode.SOFT, at=clock.now())
        schedule = issuer.record(tags("later"), kind=RecordKind.SCHEDULE, due=clock.now() + 5, at=clock.now())
        for data, _ in (issuer.record(tags("hard"), at=clock.now()), soft, schedule):
            await service.purger.accept(data)
        mine = await service.purge(tag("own"))
    async with serving(tmp_path / "log", floor=0, clock=clock) as service:
        since = 0
        found = [service.verdict(tagged(name), since) for name in ("hard", "soft", "own", "later")]
        assert found == [Verdict.HARD, Verdict.SOFT, Verdict.HARD, Verdict.CLEAN]
        undo = issuer.record((), kind=RecordKind.UNDO, about=soft[1].position.text)
        await service.purger.accept(undo[0])
        assert service.verdict(tagged("soft"), since) is Verdict.CLEAN
        await service.settled()
        opening = [decode(entry.record) for entry in await service.entries() if entry.kind is RecordKind.OPEN][-1]
        assert opening.about == mine.id, "the end of its own epoch, whatever others have issued since"
        clock.advance(5 + Settings().at_grace_s)
        await service.purger.tick()
        assert service.verdict(tagged("later"), since) is Verdict.HARD


@looped
async def test_rule_13_what_a_site_keeps_to_itself_leaves_no_gap_in_what_others_number() -> None:
    async with serving(invalidates_all=lambda site: site == "shop") as service:
        heard = service.purger.peers = Heard()
        await service.purge(tag("a"))
        fetched = service.table.index
        for site in ("blog", "shop", "blog"):
            service.purger.invalidate([tag_target(site, "x")])
        both = service.purger.invalidate([tag_target("blog", "y"), tag_target("shop", "y")])
        service.purger.invalidate([tag_target("shop", "z")], here_only=True)
        await service.purge(tag("b"))
        assert both == fetched + 5, "the last of the two entries that it took"
        assert service.verdict(tagged("y", site="blog"), fetched) is Verdict.HARD
        assert service.verdict(tagged("y", site="shop"), fetched) is Verdict.HARD
        assert [position.seq for position in heard.issued_] == [2, 3, 4, 5], "1 is the opening"
        assert {position.epoch for position in heard.issued_} == {service.identity.epoch}
        await service.settled()
        entries = await service.entries()
        kept = [entry for entry in entries if entry.position.here_only]
        assert [entry.position.seq for entry in kept] == [1, 2, 3, 4]
        assert {entry.position.epoch for entry in kept} == {epoch_here_only(service.identity.epoch)}
        for some in (kept, [entry for entry in entries if entry not in kept]):
            assert chain_holds([entry.record for entry in some])
        assert parse_position(kept[0].position.text) == kept[0].position, "it has an id like any other"


@looped
async def test_everything_can_be_purged_here_alone_and_durably() -> None:
    disk = Disk()
    async with serving(ledger=disk.ledger) as service:
        heard = service.purger.peers = Heard()
        disk.broken = LogUnwritable("gone")
        covering = asyncio.get_running_loop().create_task(service.purger.purge_everything_here("too-old"))
        await asyncio.sleep(0)
        assert service.verdict(tagged("anything")) is Verdict.HARD
        while not service.passed[-1]:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert not covering.done()
        disk.broken = None
        await covering
        entry = (await service.entries())[-1]
        assert (entry.position.here_only, entry.reason, heard.issued_) == (True, "too-old", [])


@looped
async def test_an_idempotency_key_used_on_another_edge_is_seen() -> None:
    async with serving() as first, serving() as second:
        purge = await first.purge(tag("a"), key="k-1")
        entry = (await first.entries())[-1]
        await second.purger.accept(entry.record)
        await second.settled()
        again = await second.purge(tag("a"), key="k-1")
        assert (again.id, again.replayed) == (purge.id, True)


@looped
async def test_history_tells_who_issued_what() -> None:
    async with serving() as service:
        data, record = other().record(tags("news"), actor="deploy", at=5.0)
        await service.purger.accept(data)
        await service.settled()
        page = await service.purger.list(Filters(actor="deploy"))
        assert [purge.id for purge in page.purges] == [record.position.text]
        assert read_header(encode(record, lambda _: bytes(64))).kind == "purge"
