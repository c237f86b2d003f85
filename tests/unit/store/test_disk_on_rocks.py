"""The disk store on RocksDB leaves the very rows that it leaves on the twin, which all other tests use."""

import random
from pathlib import Path

from banish.purge.stamps import Verdict
from banish.purge.targets import everything_target, pattern_target, prefix_target, tag_target
from banish.store.index import Family
from banish.store.rocks import open_index
from tests.looped import looped
from tests.ondisk import LARGE, Disk, opened
from tests.stored import HOST, SITE, key_of, stored_response, url_of

TARGETS = (
    *(url_of(f"{number}") for number in range(5)),
    *(tag_target(SITE, f"t{number}") for number in range(5)),
    prefix_target(SITE, f"{HOST}/1"),
    pattern_target(SITE, "*7"),
    everything_target(SITE),
)


async def exercise(disk: Disk, seed: int) -> list[str]:
    """Much of what can happen, drawn from a seed; what was to be seen."""
    draw, seen = random.Random(seed), []
    for number in range(300):
        match draw.randrange(10):
            case 0:
                hard, target = draw.random() < 0.7, draw.choice(TARGETS)
                index = disk.purge([target] if hard else [], [] if hard else [target])
                if not hard:
                    disk.store.release_soft(index)
            case 1:
                disk.sweep()
                await disk.store.settled()
                disk.sweep()
                disk.settle_floor()
            case 2:
                name = str(draw.randrange(40))
                seen.append(f"{name}: {[record.serial for record in await disk.load(name)]}")
            case _:
                record = stored_response(
                    str(draw.randrange(40)),
                    body=LARGE if draw.random() < 0.1 else b"%d" % number * draw.randrange(300),
                    tags=tuple(sorted({f"t{draw.randrange(20)}" for _ in range(draw.randrange(4))})),
                    vary=("x",),
                    selecting=(str(draw.randrange(2)),),
                    fence=disk.table.index,
                    received_at=1e9 + number / 1000,
                )
                record.hits = draw.randrange(2)
                assert disk.table.verdict(record.names, record.fence) is Verdict.CLEAN
                seen.append(disk.store.put(record).value)
                await disk.store.settled()
    disk.sweep()
    await disk.store.settled()
    disk.sweep()
    return seen


@looped
async def test_rows_and_outcomes_are_the_same_on_both(tmp_path: Path, ram_path: Path) -> None:
    rocks = open_index(ram_path / "index")
    async with (
        opened(tmp_path / "twin", budget_bytes=150_000) as twin,
        opened(tmp_path / "rocks", budget_bytes=150_000, index=rocks) as real,
    ):
        for seed in range(2):
            assert await exercise(twin, seed) == await exercise(real, seed)
            assert {family: twin.rows(family) for family in Family} == {family: real.rows(family) for family in Family}
            assert len(real.store) > 0
        assert sorted(twin.files.names()) == sorted(real.files.names())


@looped
async def test_it_is_found_again_as_it_was_when_it_is_opened_again(tmp_path: Path, ram_path: Path) -> None:
    async with opened(tmp_path, index=open_index(ram_path / "index")) as disk:
        disk.store.reserve(1000)
        for number in range(200):
            disk.store.put(stored_response(str(number), tags=("t",)))
        disk.purge([url_of("7")])
        disk.sweep()
        disk.settle_floor()
        await disk.store.sync()
    async with opened(tmp_path, index=open_index(ram_path / "index")) as disk:
        disk.begin()
        assert (len(disk.store), disk.store.floor) == (199, 1)
        assert await disk.bodies("8") == [b"hello"]
        assert not disk.store.may_have(key_of("7")) or not await disk.load("7")
