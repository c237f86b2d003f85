import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from banish.errors import LogDamaged, LogUnwritable
from banish.purge.positions import Position
from banish.purge.records import RecordKind, chain_holds, decode
from banish.store import ledger as ledger_module
from banish.store import ledger as ledgers
from banish.store.ledger import FORMAT, Addition, Ledger, Notes, Query, Swept, Undone, write_again
from tests.purgelogs import EDGE, EPOCH, Issuer, tags

FORMATS = Path(__file__).with_name("formats")


class Failing(Ledger):
    """Its commits fail in the way that is set."""

    code: int | None = None

    def _commit(self) -> None:
        if self.code is not None:
            error = sqlite3.OperationalError("as the test says")
            error.sqlite_errorcode = self.code
            raise error
        super()._commit()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "purges.sqlite"


def additions(count: int, issuer: Issuer | None = None) -> list[Addition]:
    issuer = issuer or Issuer()
    first = len(issuer.issued) + 1
    return [Addition(index, *issuer.record()) for index in range(first, first + count)]


def indexes(ledger: Ledger) -> list[int]:
    return [entry.index for entry in ledger.entries(Query())]


class TestWriting:
    def test_a_transaction_is_all_or_nothing(self, path: Path) -> None:
        ledger = Failing.open(path)
        ledger.write(additions(1))
        ledger.code = sqlite3.SQLITE_FULL
        with pytest.raises(LogUnwritable) as caught:
            ledger.write([Undone(1, 9), *additions(3)])
        assert caught.value.full
        assert [(entry.index, entry.undone_by) for entry in ledger.entries(Query())] == [(1, 0)]
        ledger.close()

    def test_what_is_logged_already_stays_as_it_is(self, path: Path) -> None:
        ledger = Ledger.open(path)
        first = additions(2)
        ledger.write(first)
        ledger.write([Swept(1, 5.0, b"{}")])
        ledger.write([*first, *[Addition(3, *Issuer().record(tags("another")))]])
        assert indexes(ledger) == [1, 2, 3]
        assert next(ledger.entries(Query())).swept_at == 5.0
        ledger.close()

    def test_entries_swept_at_once_each_keep_what_they_matched(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ledger_module, "SWEPT_MAX", 2)
        ledger = Ledger.open(path)
        ledger.write(additions(7))
        told = {1: b"{}", 2: b"{}", 3: b"{}", 4: b"[4]", 5: b"{}", 6: b"{}"}
        ledger.write([*[Swept(index, 5.0, counts) for index, counts in told.items()], Swept(6, 6.0, b"{}")])
        found = {entry.index: (entry.swept_at, entry.counts) for entry in ledger.entries(Query())}
        assert found == {index: (5.0, counts) for index, counts in told.items()} | {6: (6.0, b"{}"), 7: (None, None)}
        ledger.close()

    def test_notes_are_replaced(self, path: Path) -> None:
        ledger = Ledger.open(path)
        ledger.write([Notes({"a": "1", "b": "2"}), Notes({"a": "3"})])
        assert (ledger.note("a"), ledger.note("b"), ledger.note("c")) == ("3", "2", None)
        ledger.close()

    def test_a_reader_beside_it_does_not_keep_it_from_writing(self, path: Path) -> None:
        ledger = Ledger.open(path)
        ledger.write(additions(2))
        reader = ledger.reader()
        reading = reader.entries(Query())
        assert next(reading).index == 1
        ledger.write([Undone(2, 9)])
        ledger.checkpoint()
        assert next(reading).undone_by == 0  # as of when the reading began
        assert [entry.undone_by for entry in reader.entries(Query())] == [0, 9]
        reader.close()
        ledger.close()

    def test_the_wal_does_not_grow_without_end(self, path: Path) -> None:
        ledger = Ledger.open(path)
        issuer = Issuer()
        sizes = []
        for _ in range(5):
            ledger.write([Addition(len(issuer.issued), *issuer.record(tags("x" * 1000))) for _ in range(200)])
            ledger.checkpoint()
            sizes.append(path.with_name(f"{path.name}-wal").stat().st_size)
        assert max(sizes) <= 1.2 * sizes[0]
        ledger.close()


class TestRoom:
    def test_is_taken_in_the_wal_and_in_the_tables_and_used_by_what_comes(self, path: Path) -> None:
        ledger = Ledger.open(path)
        wal = path.with_name(f"{path.name}-wal")
        ledger.make_room(1 << 20)
        taken = wal.stat(), path.stat()
        assert min(file.st_blocks * 512 for file in taken) >= 1 << 20
        assert ledger.used_bytes() < 100_000
        issuer = Issuer()
        for index in range(20):
            ledger.write([Addition(index, *issuer.record(tags("x" * 1000)))])
        ledger.checkpoint()
        assert (wal.stat().st_size, path.stat().st_size) == tuple(file.st_size for file in taken)
        ledger.close()

    def test_is_not_taken_twice_and_what_a_crash_left_of_it_goes(self, path: Path) -> None:
        ledger = Ledger.open(path)
        ledger.make_room(1 << 20)
        size = path.stat().st_size
        ledger.write([Notes({"room": "left"})])
        ledger.make_room(1 << 20)
        assert (path.stat().st_size, ledger.note("room")) == (size, None)
        ledger.close()

    def test_in_memory_there_is_none_to_take(self) -> None:
        ledger = Ledger.open(None)
        ledger.make_room(1 << 20)
        assert ledger.used_bytes() < 100_000
        ledger.close()


class TestMending:
    """PURGE rule 12: after a failed sync the log is reopened and read back before use."""

    def test_after_a_failed_sync_every_byte_of_the_wal_is_written_and_synced_before_it_is_read(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger = Failing.open(path)
        ledger.write(additions(3))
        done: list[str] = []
        monkeypatch.setattr(ledgers, "write_again", lambda file: done.append(file.name))
        connect = sqlite3.connect

        def connected(*arguments: Any, **more: Any) -> sqlite3.Connection:
            done.append("connect")
            connection: sqlite3.Connection = connect(*arguments, **more)
            return connection

        monkeypatch.setattr(sqlite3, "connect", connected)
        ledger.code = sqlite3.SQLITE_IOERR | 4 << 8  # SQLITE_IOERR_FSYNC
        with pytest.raises(LogUnwritable):
            ledger.write(additions(1))
        ledger.code = None
        ledger.mend()
        assert done[0] == "purges.sqlite-wal"
        assert done[-1] == "connect"
        assert indexes(ledger) == [1, 2, 3]
        ledger.close()

    @pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY])
    def test_what_leaves_nothing_open_needs_no_mending(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        ledger = Failing.open(path)
        ledger.code = code
        with pytest.raises(LogUnwritable):
            ledger.write(additions(1))
        monkeypatch.delattr(ledgers, "write_again")
        ledger.mend()
        ledger.close()

    def test_damage_is_found(self, path: Path) -> None:
        ledger = Failing.open(path)
        issuer = Issuer()
        ledger.write([Addition(index, *issuer.record(tags("x" * 1000))) for index in range(1, 100)])
        ledger.checkpoint()
        ledger.code = sqlite3.SQLITE_IOERR
        with pytest.raises(LogUnwritable):
            ledger.write(additions(1))
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(os.urandom(path.stat().st_size - 8192))
        with pytest.raises(LogDamaged):
            ledger.mend()
        ledger.close()

    def test_writing_again_changes_no_byte(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "file"
        data = os.urandom(3 << 20)
        file.write_bytes(data)
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", synced.append)
        write_again(file)
        assert file.read_bytes() == data
        assert len(synced) == 1

    def test_there_may_be_nothing_to_write_again(self, tmp_path: Path) -> None:
        write_again(tmp_path / "none")
        assert not (tmp_path / "none").exists()


class TestStreams:
    """Records of one edge and epoch, numbered one after the other, whatever else is logged between them."""

    def ledger(self, path: Path) -> Ledger:
        ledger = Ledger.open(path)
        issuers = [Issuer(edge=edge) for edge in ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb")]
        records = [issuers[at % 2].record(tags("x" * 100)) for at in range(12)]
        missing = {4, 9}
        ledger.write([Addition(at + 1, *record) for at, record in enumerate(records) if at not in missing])
        return ledger

    def test_their_runs_without_a_gap_are_told(self, path: Path) -> None:
        ledger = self.ledger(path)
        a, b = ("aaaaaaaaaaaaaaaa", EPOCH), ("bbbbbbbbbbbbbbbb", EPOCH)
        assert ledger.runs() == [(a, 1, 2), (a, 4, 6), (b, 1, 4), (b, 6, 6)]
        ledger.trim(upto=6, older_than=1e9, bytes_max=0)
        assert ledger.runs() == [(a, 4, 6), (b, 4, 4), (b, 6, 6)]
        assert [ledger.oldest(stream) for stream in (a, b, ("c", EPOCH))] == [4, 4, 0]
        ledger.close()

    def test_a_run_ends_at_a_gap_at_its_end_or_when_it_is_large_enough(self, path: Path) -> None:
        ledger = self.ledger(path)
        stream = ("aaaaaaaaaaaaaaaa", EPOCH)
        numbers = [
            [decode(data).position.seq for data in ledger.run(stream, *asked)]
            for asked in ((1, 9, 10**6), (3, 9, 10**6), (4, 9, 10**6), (4, 5, 10**6), (4, 9, 1), (7, 9, 1))
        ]
        assert numbers == [[1, 2], [], [4, 5, 6], [4, 5], [4], []]
        assert chain_holds(ledger.run(stream, 4, 9, 10**6))
        ledger.close()

    def test_of_two_records_with_one_number_one_is_told(self, path: Path) -> None:
        ledger = Ledger.open(path)
        first, forked = Issuer(), Issuer()
        ledger.write(
            [Addition(1, *first.record()), Addition(2, *forked.record(tags("b"))), Addition(3, *first.record())]
        )
        assert ledger.runs() == [((EDGE, EPOCH), 1, 2)]
        assert ledger.run((EDGE, EPOCH), 1, 2, 10**6) == first.issued
        ledger.close()

    def test_the_last_that_an_edge_told_others_is_found(self, path: Path) -> None:
        ledger = Ledger.open(path)
        assert ledger.last_issued(EDGE) is None
        told, kept, another = Issuer(), Issuer(epoch="0-89abcdef"), Issuer(edge="f" * 16)
        records = [told.record(), told.record(), kept.record(), another.record()]
        ledger.write([Addition(at + 1, *record) for at, record in enumerate(records)])
        assert ledger.last_issued(EDGE) == Position(EDGE, EPOCH, 2)
        ledger.close()

    def test_bytes_are_kept_as_they_are(self, path: Path) -> None:
        ledger = Ledger.open(path)
        assert ledger.kept("frontier") == b""
        ledger.write([Notes({"frontier": b"\x00\xff"})])
        assert ledger.kept("frontier") == b"\x00\xff"
        ledger.close()


class TestFormats:
    """Every format that was ever written stays readable."""

    @pytest.mark.parametrize("version", range(1, FORMAT + 1))
    def test_is_read(self, path: Path, version: int) -> None:
        tables = sqlite3.connect(path)
        tables.executescript((FORMATS / f"purges-{version}.sql").read_text())
        tables.close()
        ledger = Ledger.open(path)
        entries = list(ledger.entries(Query()))
        assert [entry.index for entry in entries] == [2, 3, 5]
        assert [entry.position for entry in entries] == [Position(EDGE, EPOCH, seq) for seq in (1, 2, 3)]
        assert [entry.kind for entry in entries] == [RecordKind.OPEN, RecordKind.PURGE, RecordKind.UNDO]
        purge = entries[1]
        assert (purge.at, purge.actor, purge.source, purge.reason) == (1.5, "deploy", "192.0.2.1", "new prices")
        assert (purge.swept_at, purge.counts, purge.undone_by) == (9.5, b'{"matched":3}', 5)
        assert decode(purge.record).targets == tags("news", "prices")
        assert chain_holds([entry.record for entry in entries])
        assert (ledger.note("id"), ledger.note("cut"), ledger.note("reserved")) == ("0123456789abcdef", "1", "1000")
        assert ledger.with_key("deploy-1", "deploy") == purge
        ledger.write(additions(1))
        ledger.close()
