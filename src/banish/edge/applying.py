"""The worker of the mesh: puts into effect what the core has taken, one after the other, between requests.

    Apply ─▶ ┌ queue ─▶ worker ─▶ purge service: in effect, on its way to the log ┐
    CoverAll │                 ─▶ everything purged here, what counts as held noted │ ─▶ told to the core (`meshing.py`)
    Adopt ─▶ └                 ─▶ another list of members                           ┘

One queue, one order: what came first takes effect first. After `WORK_S` the event loop gets its turn. While the log has
more to write than it may be given, the worker waits (while it cannot be written at all, everything is passed anyway).

Not here: what is taken (`mesh/intake.py`); what follows (`meshing.py`).
Units: bytes; seconds. Invariant: whatever fails, the worker goes on; what cannot be applied is applied as everything.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from banish.edge.purging import Purger
from banish.errors import RecordError
from banish.mesh.effects import Adopt, CoverAll
from banish.purge.records import Record
from banish.store.log import PurgeLog
from banish.tables import Accounts, Metric

WORK_S = 0.001
"""How long records are put into effect before requests get their turn."""

BACKLOG_BYTES_MAX = 32 * 1024 * 1024
"""Records that wait to be put into effect. Past it what is published is dropped: the core misses it, and asks later."""

BACKLOG = Metric("banish_mesh_backlog_bytes", "gauge", "Records of other edges that wait to be put into effect.")
FAULTS = Metric(
    "banish_mesh_faults_total",
    "counter",
    "Records of other edges that could not be put into effect for a fault of this edge: everything was purged instead.",
)

log = structlog.get_logger(__name__)


class Worker:
    """Does what is left to it. Belongs to the event loop. `applied` is told of each record, `cover` and `adopt` carry
    the rest out, `idle` is called when nothing is left.
    """

    def __init__(
        self,
        purger: Purger,
        purge_log: PurgeLog,
        *,
        applied: Callable[[Record], None],
        cover: Callable[[CoverAll], Awaitable[None]],
        adopt: Callable[[Adopt], None],
        idle: Callable[[], None],
        accounts: Accounts,
    ) -> None:
        self._purger = purger
        self._log = purge_log
        self._applied = applied
        self._cover = cover
        self._adopt = adopt
        self._idle = idle
        self._left: deque[bytes | CoverAll | Adopt] = deque()
        self._bytes = 0
        self._wanted = asyncio.Event()
        self._working = False
        self._faults = accounts.tally(FAULTS)
        accounts.read(BACKLOG, lambda: [((), self._bytes)])

    @property
    def idle(self) -> bool:
        """Whether all that was left to it is done."""
        return not (self._left or self._working)

    @property
    def full(self) -> bool:
        """Whether nothing more had better be taken."""
        return self._bytes >= BACKLOG_BYTES_MAX

    def leave(self, work: bytes | CoverAll | Adopt) -> None:
        """Have it done, after all that was left before."""
        if isinstance(work, bytes):
            self._bytes += len(work)
        self._left.append(work)
        self._wanted.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._wanted.clear()
            rest_at = time.monotonic() + WORK_S
            while self._left:
                self._working = True
                await self._do(self._left.popleft())
                if time.monotonic() >= rest_at:
                    await asyncio.sleep(0)
                    rest_at = time.monotonic() + WORK_S
            self._working = False
            self._idle()
            await self._wanted.wait()

    async def _do(self, work: bytes | CoverAll | Adopt) -> None:
        try:
            if isinstance(work, bytes):
                self._bytes -= len(work)
                await self._apply(work)
            elif isinstance(work, CoverAll):
                await self._cover(work)
            else:
                self._adopt(work)
        except RecordError as error:
            log.warning("a record of another edge is none", error=str(error))
        except Exception:
            self._faults.add()
            log.exception("what another edge has issued cannot be put into effect: everything is purged instead")
            await self._purger.purge_everything_here("a record could not be put into effect")

    async def _apply(self, data: bytes) -> None:
        while self._log.crowded:
            await self._log.committed_past(self._log.committed)
        self._applied(await self._purger.accept(data))
