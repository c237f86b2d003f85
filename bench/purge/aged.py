"""An edge that has seen many purges, all of them still in its table of stamps: as `banish serve`, with them applied.

    python aged.py PURGES READY-FILE serve …

They are applied as the purge service applies them, less the log, which would take minutes; swept; and never forgotten,
since the caller sets `purge.stamp_min_age_s`. READY-FILE is written once that is done.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from banish.cli import main, run
from banish.proxy.serve import Edge
from banish.purge.stamps import STAMPS_MAX
from banish.purge.targets import Target, host_target, pattern_target, prefix_target, tag_target, url_target
from bench.hit import objects

ROOM: Final = 20_000
"""Left in the table for the purges during the measurement: one stamp more than it holds, and all become one."""

YIELD_EVERY: Final = 500
PATTERNS: Final = 100


def target(number: int) -> Target:
    """Targets of all kinds, about the objects' own host and site, that none of the objects matches."""
    at = number % 20
    if at < 12:
        return url_target("", f"http://{objects.HOST}/gone/{number}")
    if at < 17:
        return tag_target("", f"gone-{number}")
    if at < 19:
        return prefix_target("", f"{objects.HOST}/{'long/' * (number % 7)}gone/{number}/", boundary=bool(number % 2))
    if number < 20 * PATTERNS:
        return pattern_target("", f"*{objects.HOST}/*/gone-{number}-*")
    return host_target("", f"h{number}.example")


def stamps(purges: int) -> int:
    """How many stamps so many purges of one target leave."""
    return min(purges, STAMPS_MAX - ROOM)


class Aged(Edge):
    """An edge with a past."""

    purges = 0
    ready = Path()

    async def start(self) -> None:
        await super().start()
        for number in range(stamps(self.purges)):
            index = self.stamps.apply([target(number)])
            self.store.applied(index, *self.stamps.stamped(index), self.clock.monotonic())
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        while self.purger.passing or not self.store.has_swept(self.stamps.index):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert len(self.stamps) >= stamps(self.purges), "some are forgotten"
        self.ready.write_text(str(len(self.stamps)))


if __name__ == "__main__":
    Aged.purges, Aged.ready = int(sys.argv[1]), Path(sys.argv[2])
    del sys.argv[1:3]
    started: Any = run
    started.Edge = Aged
    main.main()
