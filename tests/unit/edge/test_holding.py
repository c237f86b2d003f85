"""What a log holds of the records of all edges, and entries on their way."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from banish.edge import holding
from banish.edge.holding import Trail, frontier_of, member_of, members_of
from banish.mesh.frontier import Frontier, dump
from banish.mesh.members import Member, Members
from banish.purge.positions import Position
from banish.purge.records import Join, Record, RecordKind
from banish.purge.stamps import Mode
from tests.looped import looped
from tests.purgelogs import EDGE, EPOCH, Issuer, open_log

OTHER = "ffeeddccbbaa9988"
MINE, THEIRS = (EDGE, EPOCH), (OTHER, EPOCH)


def record(seq: int, mode: Mode = Mode.HARD) -> Record:
    return Record(1, RecordKind.PURGE, (), mode, Position(EDGE, EPOCH, seq), b"", 0.0)


@looped
async def test_runs_of_entries_are_held_with_their_gaps_and_what_stays_here_is_not_told(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    here_only = Issuer(epoch="0-89abcdef")
    theirs = Issuer(edge=OTHER)
    for index, (data, decoded) in enumerate([theirs.record() for _ in range(6)], 1):
        if index != 3:
            await log.append(index, data, decoded)
    await log.append(10, *here_only.record())
    await asyncio.to_thread(log.close)
    log = open_log(tmp_path / "log")
    frontier = frontier_of(log, EDGE)
    assert dict(frontier.marks) == {THEIRS: 2}
    assert frontier.above() == {THEIRS: {4, 5, 6}}
    await asyncio.to_thread(log.close)


@looped
async def test_of_its_own_streams_an_edge_holds_what_a_log_without_a_note_has_trimmed(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    mine, theirs = Issuer(), Issuer(edge=OTHER)
    records = [(issuer, issuer.record()) for issuer in (mine, theirs, mine, theirs)]
    for index, (_, (data, decoded)) in enumerate(records, 1):
        if index > 2:
            await log.append(index, data, decoded)
    frontier = frontier_of(log, EDGE)
    assert (frontier.mark(MINE), frontier.mark(THEIRS), frontier.above()[THEIRS]) == (2, 0, {2})
    await asyncio.to_thread(log.close)


@looped
async def test_the_note_counts_beside_the_entries_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    await log.append(1, *Issuer(edge=OTHER).record())
    await log.keep_frontier(dump(Frontier({THEIRS: 7})))
    await asyncio.to_thread(log.close)
    log = open_log(tmp_path / "log")
    assert frontier_of(log, EDGE).mark(THEIRS) == 7
    log.frontier = b"damage"
    assert frontier_of(log, EDGE).mark(THEIRS) == 1
    await asyncio.to_thread(log.close)


@looped
async def test_members_are_those_that_were_kept_with_what_the_log_says_since(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    one, two, three = (Member(f"{n}" * 16, f"edge-{n}", bytes([n]) * 32) for n in (1, 2, 3))
    issuer = Issuer()
    issuer.record()
    joining = Join(*msgspec.structs.astuple(issuer.record(())[1]))
    joining = msgspec.structs.replace(joining, kind=RecordKind.JOIN, member=msgspec.msgpack.encode(three))
    await log.append(1, msgspec.msgpack.encode(joining) + bytes(64), joining)
    await log.append(2, *issuer.record((), kind=RecordKind.FORGET, about=two.edge))
    members = members_of(log, Members([one, two]))
    assert [member.name for member in members] == ["edge-1", "edge-3"]
    assert members.is_forgotten(two.edge)
    assert member_of(msgspec.structs.replace(joining, member=b"damage")) is None
    await asyncio.to_thread(log.close)


def test_entries_are_told_once_when_on_disk_and_once_when_swept() -> None:
    trail = Trail()
    for index in (1, 2, 3):
        trail.add(index, record(index, Mode.SOFT if index == 2 else Mode.HARD))
    assert [position.seq for position in trail.written(2)] == [1, 2]
    assert [position.seq for position in trail.written(3)] == [3]
    assert [position.seq for position in trail.swept(lambda index: index != 2, 2)] == [1], "3 is not on disk"
    assert [position.seq for position in trail.swept(lambda index: index != 2, 3)] == [3], (
        "a soft one holds up no other"
    )
    assert [position.seq for position in trail.swept(lambda index: True, 3)] == [2]
    assert not list(trail.swept(lambda index: True, 3))


def test_a_start_takes_up_what_is_not_swept() -> None:
    trail = Trail()
    unswept = [(7, Position(EDGE, EPOCH, 4)), (8, Position(EDGE, "0-89abcdef", 1)), (9, Position(OTHER, EPOCH, 9))]
    marks = trail.begin(unswept, Frontier({MINE: 6, THEIRS: 9}))
    assert marks == {MINE: 3, THEIRS: 8}
    assert [position.seq for position in trail.swept(lambda index: True, 9)] == [4, 9]


def test_more_unswept_entries_than_are_remembered_are_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "UNSWEPT_MAX", 2)
    trail = Trail()
    for index in (1, 2, 3):
        trail.add(index, record(index))
    assert [position.seq for position in trail.swept(lambda index: True, 3)] == [1, 2]
    assert len(list(trail.written(3))) == 3
