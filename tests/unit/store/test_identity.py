import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from banish import durable
from banish.errors import ConfigError
from banish.purge.positions import Position, parse_position
from banish.store import identity as identities
from banish.store.identity import Identity
from tests.purgelogs import Issuer, open_log, play


def start(directory: Path) -> tuple[bool, str, str]:
    """One start and stop of an edge: whether it found a copy, the log's id, the epoch."""
    identity = Identity.open(directory)
    log = open_log(directory / "purges.sqlite")
    try:
        return identity.seal(log), log.id, identity.epoch
    finally:
        log.close()
        identity.close()


def copied(directory: Path, name: str) -> Path:
    return Path(shutil.copytree(directory, directory.with_name(name)))


class TestWho:
    def test_an_edge_keeps_its_id_and_its_key(self, tmp_path: Path) -> None:
        first = Identity.open(tmp_path / "data")
        signature = first.sign(b"purge")
        first.close()
        second = Identity.open(tmp_path / "data")
        assert (second.edge, second.public_key) == (first.edge, first.public_key)
        assert second.verify(signature, b"purge")
        assert not second.verify(signature, b"purges")
        assert not second.verify(b"", b"purge")
        second.close()

    def test_edges_differ(self, tmp_path: Path) -> None:
        one, other = Identity.open(tmp_path / "one"), Identity.open(tmp_path / "other")
        assert one.edge != other.edge
        assert not other.verify(one.sign(b"purge"), b"purge")
        one.close()
        other.close()

    def test_without_a_directory_it_is_as_good_as_the_process(self) -> None:
        one, other = Identity.open(None), Identity.open(None)
        assert one.edge != other.edge
        assert one.verify(one.sign(b"purge"), b"purge")
        log = open_log(None)
        assert not one.seal(log)
        assert parse_position(Position(one.edge, one.epoch, 1).text).edge == one.edge
        log.close()

    def test_nobody_else_may_read_the_key(self, tmp_path: Path) -> None:
        Identity.open(tmp_path).close()
        assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize(
        "text", ["", "{", '{"format":1,"edge":"00","key":"00"}', '{"format":1,"edge":"x","key":"zz"}', "\udcff"]
    )
    def test_a_damaged_one_is_said_and_left_as_it_is(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "identity").write_text(text, errors="surrogateescape")
        with pytest.raises(ConfigError, match="damaged"):
            Identity.open(tmp_path)
        assert (tmp_path / "identity").read_text(errors="surrogateescape") == text

    def test_one_of_a_later_release_is_refused(self, tmp_path: Path) -> None:
        identity = Identity.open(tmp_path)
        identity.close()
        text = (tmp_path / "identity").read_text().replace('"format":1', '"format":99')
        (tmp_path / "identity").write_text(text)
        with pytest.raises(ConfigError, match="later release"):
            Identity.open(tmp_path)

    def test_a_directory_that_cannot_be_used_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="cannot be used"):
            Identity.open(tmp_path / "file" / "data")

    def test_the_key_made_by_format_1_is_read(self) -> None:
        stored = identities._load(Path(__file__).with_name("formats") / "identity-1.json")
        assert stored is not None
        assert stored.edge == "00112233445566aa"


class TestLock:
    def test_a_second_edge_in_the_same_directory_is_refused_and_told_by_whom(self, tmp_path: Path) -> None:
        first = Identity.open(tmp_path)
        with pytest.raises(ConfigError, match=f"in use by another process .pid {os.getpid()}"):
            Identity.open(tmp_path)
        first.close()
        Identity.open(tmp_path).close()

    def test_a_failed_start_lets_go_of_the_lock(self, tmp_path: Path) -> None:
        (tmp_path / "identity").write_text("{")
        with pytest.raises(ConfigError):
            Identity.open(tmp_path)
        (tmp_path / "identity").unlink()
        Identity.open(tmp_path).close()

    def test_it_goes_with_its_process_however_that_ends(self, tmp_path: Path) -> None:
        code = (
            "import sys, os, pathlib; from banish.store.identity import Identity;"
            "held = Identity.open(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
        )
        subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
        Identity.open(tmp_path).close()


class TestEpochs:
    """PURGE rule 1."""

    def test_every_start_opens_a_new_one(self, tmp_path: Path) -> None:
        epochs = [start(tmp_path)[2] for _ in range(3)]
        assert [epoch.split("-")[0] for epoch in epochs] == ["1", "2", "3"]

    def test_copies_of_a_directory_open_different_ones(self, tmp_path: Path) -> None:
        start(tmp_path / "data")
        copies = [copied(tmp_path / "data", f"copy-{n}") for n in range(3)]
        assert len({start(directory)[2] for directory in copies}) == 3

    def test_it_is_on_disk_before_its_first_use(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        identity = Identity.open(tmp_path)
        synced: list[int] = []
        sync = os.fsync

        def noted(descriptor: int) -> None:
            synced.append(os.fstat(descriptor).st_mode)
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", noted)
        epoch = identity.next_epoch()
        assert (tmp_path / "epoch").read_text() == f"{epoch}\n"
        assert [mode & 0o170000 for mode in synced] == [0o100000, 0o040000]  # the file, then its name
        identity.close()

    def test_a_lost_count_begins_anew_with_another_random_part(self, tmp_path: Path) -> None:
        first = start(tmp_path)[2]
        (tmp_path / "epoch").write_text("garbage")
        second = start(tmp_path)[2]
        assert first != second
        assert second.startswith("1-")


class TestSeal:
    """PURGE rules 2 and 19: restoring an older data directory empties the store, by the log's new id."""

    def test_an_ordinary_restart_finds_everything_in_order(self, tmp_path: Path) -> None:
        first = start(tmp_path)
        second = start(tmp_path)
        assert (first[0], second[0], first[1]) == (False, False, second[1])

    def test_a_copied_directory_is_found_out_once(self, tmp_path: Path) -> None:
        _, log_id, _ = start(tmp_path / "data")
        copy = copied(tmp_path / "data", "copy")
        found, new_id, _ = start(copy)
        assert found
        assert new_id != log_id
        assert start(copy)[:2] == (False, new_id)
        assert start(tmp_path / "data")[:2] == (False, log_id)

    def test_an_older_copy_put_in_place_is_found_out(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        start(data)
        copy = copied(data, "copy")
        start(data)
        shutil.rmtree(data)
        copy.rename(data)
        assert start(data)[0]

    def test_an_older_copy_written_over_the_files_is_found_out(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        start(data)
        copy = copied(data, "copy")
        for file in copy.iterdir():
            shutil.copy2(file, data / file.name)  # same inodes
        assert start(data)[0]

    def test_a_log_from_a_copy_is_found_out(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        start(data)
        copy = copied(data, "copy")
        start(data)
        (data / "purges.sqlite").unlink()
        shutil.copy2(copy / "purges.sqlite", data)
        assert start(data)[0]

    def test_a_lost_marker_counts_as_a_copy(self, tmp_path: Path) -> None:
        start(tmp_path)
        (tmp_path / "epoch").unlink()
        assert start(tmp_path)[0]

    @pytest.mark.parametrize("step", [1, 2])
    def test_a_crash_while_sealing_is_no_copy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        _, log_id, _ = start(tmp_path)

        class Crash(Exception):
            pass

        def crashing(*arguments: object, **more: object) -> None:
            raise Crash

        identity = Identity.open(tmp_path)
        log = open_log(tmp_path / "purges.sqlite")
        if step == 1:  # the log knows what is coming, and the file was not written
            monkeypatch.setattr(durable, "replace", crashing)
        else:  # the file was written, and the log does not know it yet
            seal = log.record_seal
            monkeypatch.setattr(
                log,
                "record_seal",
                lambda text, *, renew: (seal if '"opening":""' not in text else crashing)(text, renew=renew),
            )
        with pytest.raises(Crash):
            identity.seal(log)
        log.close()
        identity.close()
        monkeypatch.undo()
        assert start(tmp_path)[:2] == (False, log_id)

    def test_a_crash_before_the_store_is_emptied_forgets_nothing(self, tmp_path: Path) -> None:
        _, bound, _ = start(tmp_path / "data")
        copy = copied(tmp_path / "data", "copy")
        start(copy)  # found out, then a crash: the store is still bound to the old id
        assert start(copy)[1] != bound

    def test_a_log_begun_anew_is_sealed_without_alarm(self, tmp_path: Path) -> None:
        _, first, _ = start(tmp_path)
        (tmp_path / "purges.sqlite").write_bytes(b"damage" * 1000)
        found, second, _ = start(tmp_path)
        assert not found
        assert first != second

    def test_purges_logged_meanwhile_change_nothing(self, tmp_path: Path) -> None:
        identity = Identity.open(tmp_path)
        log = open_log(tmp_path / "purges.sqlite")
        identity.seal(log)

        async def scene() -> None:
            issuer = Issuer(edge=identity.edge, epoch=identity.epoch, sign=identity.sign)
            for index in range(1, 50):
                await log.append(index, *issuer.record())

        play(log, scene())
        identity.close()
        assert start(tmp_path)[:2] == (False, log.id)
