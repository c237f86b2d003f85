"""Memory over disk, as one store."""

import asyncio
from pathlib import Path

from banish.store.records import StoredResponse
from banish.store.tiers import LOADS_MAX, Store
from banish.tables import Accounts
from tests.ondisk import Disk, opened
from tests.stored import key_of, stored_response, url_of


def store_over(disk: Disk) -> Store:
    return Store(
        memory_bytes=1 << 24,
        disk=disk.store,
        table=disk.table,
        clock=disk.clock,
        accounts=Accounts(),
        stamp_min_age_s=60.0,
        undo_window_s=60.0,
    )


def test_what_is_on_disk_is_found_however_often_purges_are_forgotten_while_it_is_read(tmp_path: Path) -> None:
    async def play() -> None:
        async with opened(tmp_path) as disk:
            disk.store.put(stored_response("a"))
            store = store_over(disk)
            load, loads = disk.store.load, 0

            async def restless(key: str) -> list[StoredResponse]:
                nonlocal loads
                loads += 1
                found = await load(key)
                disk.purge([url_of(f"other-{loads}")])
                disk.sweep()
                disk.settle_floor()
                return found

            disk.store.load = restless  # type: ignore[method-assign]
            await store.load(key_of("a"))
            assert [record.meta.key for record in store.lookup(key_of("a"))] == [key_of("a")]
            assert loads == LOADS_MAX

    asyncio.run(play())
