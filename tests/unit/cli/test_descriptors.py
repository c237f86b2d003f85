import resource

import pytest
from structlog.testing import capture_logs

from banish.admin.server import CONNECTIONS_MAX
from banish.cli.descriptors import files_wanted, raise_limit
from banish.edge.config import load

CONFIG = load(flags={"origin": ["http://a", "http://b"], "limits.connections": "100"})


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The soft and the hard limit of a process that is not this one."""
    found = [1024, 1024]

    def put(which: int, wanted: tuple[int, int]) -> None:
        found[:] = wanted

    monkeypatch.setattr(resource, "getrlimit", lambda which: tuple(found))
    monkeypatch.setattr(resource, "setrlimit", put)
    return found


def test_every_connection_of_clients_and_to_origins_is_a_file() -> None:
    assert files_wanted(CONFIG) == 100 + 2 * 256 + CONNECTIONS_MAX + 256


def test_the_soft_limit_is_raised_as_far_as_it_may_be(limits: list[int]) -> None:
    limits[1] = 4096
    with capture_logs() as logged:
        raise_limit(CONFIG)
    assert limits == [4096, 4096]
    assert logged == []


def test_too_low_a_limit_is_told_with_what_to_do(limits: list[int]) -> None:
    limits[:] = [500, 500]
    with capture_logs() as logged:
        raise_limit(CONFIG)
    assert (logged[0]["allowed"], logged[0]["wanted"]) == (500, 868 + CONNECTIONS_MAX)
    assert "LimitNOFILE" in logged[0]["right"]
