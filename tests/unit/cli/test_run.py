import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from banish.cli import run
from banish.edge.config import Config, load
from banish.errors import ConfigError, Problem
from banish.proxy.serve import Edge


class FakeEdge:
    """Writes down what is asked of it; draining takes until it is cut."""

    def __init__(self) -> None:
        self.config = load(flags={"origin": ["http://a"]})
        self.asked: list[object] = []
        self.access_log = SimpleNamespace(reopen=lambda: self.asked.append("reopen"))

    async def stop(self, *, drain_s: float = 0.0) -> None:
        self.asked.append(drain_s)
        if drain_s:
            await asyncio.Event().wait()

    def reload(self, config: Config) -> None:
        self.config = config


def edge() -> tuple[FakeEdge, Edge]:
    fake = FakeEdge()
    return fake, cast(Any, fake)


def test_a_second_signal_cuts_the_drain_short() -> None:
    fake, one = edge()

    async def main() -> None:
        cut = asyncio.Event()
        drain = asyncio.create_task(run._drain(one, cut))
        cut.set()
        await drain

    asyncio.run(main())
    assert fake.asked == [30, 0]


@pytest.fixture(autouse=True)
def _logging_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "configure_logging", lambda settings: None)


def test_a_reload_says_what_it_could_not_change() -> None:
    fake, one = edge()
    with capture_logs() as logged:
        run._reload(one, lambda: load(flags={"origin": ["http://b"], "listen": [":1"]}))
    assert fake.config.sites[0].origin == ("http://b",)
    assert fake.config.listen[0].address == "127.0.0.1:8080", "what is not in force is not shown as if it were"
    assert logged[-1]["settings"] == ["listen"]


def test_a_reload_that_does_not_read_changes_nothing_but_the_logs() -> None:
    fake, one = edge()
    former = fake.config

    def read() -> Config:
        raise ConfigError(Problem("banish.toml", 3, "dta", "is not a setting"))

    with capture_logs() as logged:
        run._reload(one, read)
    assert fake.config is former
    assert fake.asked == ["reopen"]
    assert logged[0]["problem"] == "banish.toml:3: dta: is not a setting"
