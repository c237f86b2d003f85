import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from banish.edge import logs
from banish.edge.config import Log
from banish.edge.logs import (
    ACCESS_DROPPED,
    ACCESS_WRITTEN,
    AccessLog,
    AccessRecord,
    combined_line,
    configure_logging,
    json_line,
)
from banish.tables import Accounts

RECORD = AccessRecord(
    time=1_700_000_000.25,
    peer="192.0.2.1",
    method="GET",
    target="/a?b=c",
    version="1.1",
    status=200,
    sent_bytes=5,
    received_bytes=120,
    duration_s=0.0123456789,
    outcome="hit",
    host="shop.example",
    referer="https://shop.example/",
    user_agent="curl/8",
    cache_status="banish; hit",
)


def counts(accounts: Accounts) -> dict[str, dict[tuple[str, ...], float]]:
    return {metric.name: samples for metric, samples in accounts.collect()}


def test_the_combined_form_is_the_usual_one() -> None:
    assert combined_line(RECORD) == (
        '192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] "GET /a?b=c HTTP/1.1" 200 5 "https://shop.example/" "curl/8"\n'
    )


def test_an_absent_field_is_a_dash() -> None:
    assert combined_line(RECORD._replace(referer="", user_agent="")).endswith('200 5 "-" "-"\n')


@given(st.text(st.characters(max_codepoint=255)))
def test_a_combined_line_is_one_line_whatever_a_client_sends(text: str) -> None:
    line = combined_line(RECORD._replace(user_agent=text, target=text))
    assert line.count("\n") == 1
    assert line.isascii()
    assert line.count('"') == 6


def test_the_json_form_tells_everything() -> None:
    told = json.loads(json_line(RECORD))
    assert told["time"] == "2023-11-14T22:13:20.250Z"
    assert told["duration_s"] == 0.012346
    assert told["outcome"] == "hit"
    assert set(told) == set(AccessRecord._fields)


def test_records_reach_the_file_before_close_returns(tmp_path: Path) -> None:
    accounts = Accounts()
    log = AccessLog(Log(access=str(tmp_path / "access.log")), accounts)
    log.start()
    for _ in range(200):
        log.write(RECORD)
    log.close()
    assert (tmp_path / "access.log").read_text() == combined_line(RECORD) * 200
    assert counts(accounts)[ACCESS_WRITTEN.name] == {(): 200}


def test_a_log_that_is_off_takes_no_records_and_starts_no_thread() -> None:
    log = AccessLog(Log(access="off"), Accounts())
    log.start()
    log.write(RECORD)
    log.close()
    assert not log.enabled


def test_a_full_queue_drops_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "QUEUE_RECORDS_MAX", 2)
    accounts = Accounts()
    log = AccessLog(Log(access="-"), accounts)
    for _ in range(5):
        log.write(RECORD)
    assert counts(accounts)[ACCESS_DROPPED.name] == {("queue_full",): 3}


def test_after_rotation_lines_go_to_the_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(Log(access=str(path)), Accounts())
    monkeypatch.setattr(logs, "FLUSH_S", 3600)  # the one flush is that of close
    log.start()
    path.rename(tmp_path / "access.log.1")
    log.reopen()
    log.write(RECORD)
    log.close()
    assert path.read_text() == combined_line(RECORD)
    assert (tmp_path / "access.log.1").read_text() == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_drops_and_counts(caplog: pytest.LogCaptureFixture) -> None:
    accounts = Accounts()
    log = AccessLog(Log(access="/dev/full"), accounts)
    log.start()
    log.write(RECORD)
    log.close()
    assert counts(accounts)[ACCESS_DROPPED.name] == {("not_written",): 1}


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("restored_logging")
def test_our_own_log_and_those_of_libraries_come_out_in_one_form() -> None:
    out = io.StringIO()
    configure_logging(Log(level="info", format_app="json"), out)
    structlog.get_logger("banish.test").warning("slow", took_ms=3)
    logging.getLogger("library").error("odd %s", "thing")
    structlog.get_logger("banish.test").debug("not shown")
    ours, theirs = [json.loads(line) for line in out.getvalue().splitlines()]
    assert list(ours)[:3] == ["timestamp", "level", "event"]
    assert (ours["event"], ours["took_ms"], ours["logger"]) == ("slow", 3, "banish.test")
    assert (theirs["event"], theirs["level"]) == ("odd thing", "error")


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.usefixtures("restored_logging")
def test_a_traceback_tells_the_lines_and_not_what_the_variables_held(form: str) -> None:
    out = io.StringIO()
    configure_logging(Log(format_app=form), out)  # type: ignore[arg-type]

    def fail() -> None:
        token = "".join(["s3", "cr3t"])
        raise ValueError(len(token))

    try:
        fail()
    except ValueError:
        structlog.get_logger("banish.test").exception("went wrong")
    assert "ValueError" in out.getvalue()
    assert "test_logs.py" in out.getvalue()
    assert "s3cr3t" not in out.getvalue()
