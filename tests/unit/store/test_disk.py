import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from banish.purge.targets import everything_target, tag_target
from banish.store import disk as disk_module
from banish.store import diskreads, diskwrites
from banish.store.bodies import Body
from banish.store.diskwrites import DiskOutcome
from banish.store.index import Family
from banish.testing.index import Call, busy, damage, disk_error, disk_full
from tests.looped import looped
from tests.ondisk import LARGE, NOW, Disk, threads_idle, whole
from tests.stored import HOST, SITE, key_of, stored_response, url_of

QUEUES = (Family.OBJECTS, Family.TAGS, Family.EXPIRY, Family.ORDER, Family.SMALL)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def on_disk(test: Callable[[Disk], Coroutine[Any, Any, None]]) -> Callable[[Disk], None]:
    """A coroutine test of one disk, which is closed behind it."""

    def run(disk: Disk) -> None:
        @looped
        async def body() -> None:
            await test(disk)
            await disk.close()

        body()

    run.__name__ = test.__name__
    return run


class TestStoring:
    @staticmethod
    @on_disk
    async def test_what_is_put_is_loaded_again(disk: Disk) -> None:
        record = stored_response(body=b"small", tags=("t",), groups=("g",), vary=("x",), selecting=("1",))
        assert disk.store.put(record) is DiskOutcome.STORED
        (found,) = await disk.load()
        assert (found.meta, found.fence, found.serial) == (record.meta, record.fence, record.serial)
        assert await whole(found) == b"small"
        assert len(disk.store) == 1

    test_put = test_what_is_put_is_loaded_again


