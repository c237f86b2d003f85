"""`banish` with one thing broken, for the question whether crashes would show it: the environment says which.

CRASH_BROKEN=forgets     stamps are not rebuilt from the log at start
             careless    the log does not wait for the disk
             hurried     purges are acknowledged before they are in the log
             trusting    the store is believed whatever the log says
"""

import os
from typing import Any
from unittest import mock

from banish.cli.main import main

BROKEN = "CRASH_BROKEN"


async def _at_once(issued: Any) -> None:
    """Wait for nothing."""


def _careless(connect: Any) -> Any:
    def connected(*args: Any, **more: Any) -> Any:
        ledger = connect(*args, **more)
        ledger._connection.execute("PRAGMA synchronous=OFF")
        return ledger

    return connected


def _broken(what: str) -> Any:
    from banish.store.ledger import Ledger

    match what:
        case "forgets":
            return mock.patch("banish.store.log.PurgeLog.above", side_effect=lambda *args, **more: iter(()))
        case "careless":
            return mock.patch.object(Ledger, "_connect", _careless(Ledger._connect))
        case "hurried":
            return mock.patch("banish.edge.purging._durable", _at_once)
        case "trusting":
            return mock.patch("banish.edge.datadir._distrust", return_value=None)
        case _:
            raise ValueError(what)


if __name__ == "__main__":
    with _broken(os.environ[BROKEN]):
        main()
