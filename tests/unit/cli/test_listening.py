import errno
import socket

import pytest

from banish.cli.listening import explain_failure, listening_problems, try_address
from banish.edge.config import load
from banish.edge.units import Address


def test_a_free_address_is_no_problem() -> None:
    assert try_address(Address("127.0.0.1", 0)) is None
    assert try_address(Address(None, 0)) is None


def test_an_address_that_is_taken_is_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, admin = one.getsockname()[1], other.getsockname()[1]
        config = load(
            flags={"origin": ["http://a"], "listen": [f"127.0.0.1:{port}"], "admin.listen": f"127.0.0.1:{admin}"}
        )
        found = list(listening_problems(config))
    assert [problem.where for problem in found] == ["--listen", "--admin"]
    assert str(port) in found[0].right


@pytest.mark.parametrize(
    ("error", "what", "right"),
    [
        (OSError(errno.EACCES, "x"), "privileged port", "CAP_NET_BIND_SERVICE"),
        (OSError(errno.EADDRNOTAVAIL, "x"), "not an address of this machine", "--listen :80"),
        (socket.gaierror(-2, "x"), "not a known name", ""),
        (OSError(errno.EIO, "odd"), "odd", ""),
    ],
)
def test_each_failure_says_what_to_do(error: OSError, what: str, right: str) -> None:
    problem = explain_failure("--listen", Address("edge.example", 80), error)
    assert what in problem.what
    assert right in problem.right
