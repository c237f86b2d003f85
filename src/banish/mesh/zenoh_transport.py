"""The transport over zenoh: messages between the edges of a mesh, over TCP or mutual TLS.

                    loop                          threads
    publish_record ──────▶ outbox ──────────────▶ put ─────────────────▶ every edge
    on_record ◀─────────── inbox ◀─────────────── callback ◀──────────── an edge
    pull ────────────────────────── to a thread ─▶ get ─────────────────▶ one edge
    on_pull ◀──────────────────────────────────── callback ◀──────────── an edge
        └────────────────────────── to a thread ─▶ reply ───────────────▶ that edge

zenoh loses messages in six ways (docs/formats/mesh.md names them): nothing here makes up for that; the log does.

The list of members cannot be changed while a session is open, nor can its certificates be exchanged. So the transport
is opened anew: close, open, dial. What is published meanwhile waits in the outbox. One exchange at a time; what is
asked for while one is under way is done by the next.

Not here: what is said and when (`replica.py`); sessions (`zenoh_sessions.py`). To be started after any fork.
Units: seconds. Invariant: nothing here blocks the loop.
"""

import asyncio
import contextlib
import dataclasses
import functools
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog
import zenoh

from banish.errors import ConfigError
from banish.mesh.answering import Answers
from banish.mesh.handover import Inbox, Outbox, on_thread
from banish.mesh.links import Links
from banish.mesh.members import Member
from banish.mesh.messages import MESSAGE_BYTES_MAX
from banish.mesh.transport import Receiver
from banish.mesh.zenoh_config import Credentials, Topology, Wiring
from banish.mesh.zenoh_sessions import Asked, Ears, Heard, Link, Opening, Question
from banish.tables import Accounts, Metric, Samples

CLOSE_S = 5.0
"""How long a closing is waited for: it can take 10 s with a dial to an edge that hangs. It then goes on by itself."""

HOLD_S = 0.5
"""How long the message that is being sent is waited for, before its session is closed under it."""

RELINK_S = 1.0
"""How long what is published waits, after that, for those who were linked before: who dials this edge tries again
within 0.3 s."""

LONELY_S = 5.0
"""How long an edge without any link waits for those who ought to dial it. Then it dials them: they may have forgotten
it, and it has to learn that."""

DRAIN_S = 1.0
"""How long a stop waits until what was published is sent: the goodbye among it."""

RETRY_S = 0.1
"""After an opening that failed (the address is not free yet), doubled each time up to `RETRY_MAX_S`."""
RETRY_MAX_S = 2.0

ASKED_MAX = 8
"""Questions of this edge under way; each takes a thread. More wait."""

RECENT_MAX = 8192
"""Messages that are remembered to tell what comes again by another relay."""

LINKS = Metric("banish_mesh_links", "gauge", "Links with another edge, in either direction.", ("member",))
WAITING = Metric(
    "banish_mesh_waiting", "gauge", "Messages that wait to be sent (`out`), or for the loop (`in`).", ("way",)
)
DROPPED = Metric(
    "banish_mesh_dropped_total",
    "counter",
    "Messages dropped because too many waited (`out`, `in`), because they were too large (`large`), or because the"
    " session was closed under them (`closed`). What a peer that does not read loses is not known here.",
    ("why",),
)
PUTS = Metric("banish_mesh_puts_total", "counter", "Messages published, by kind.", ("kind",))
PUT_SECONDS = Metric("banish_mesh_put_seconds_total", "counter", "Time that publishing took, by kind.", ("kind",))
PUT_SECONDS_MAX = Metric("banish_mesh_put_seconds_max", "gauge", "The longest that publishing one message took.")
HEARD = Metric("banish_mesh_heard_total", "counter", "Messages heard, by kind.", ("kind",))
DOUBLED = Metric("banish_mesh_doubled_total", "counter", "Messages that came again by another relay.")
REOPENED = Metric(
    "banish_mesh_reopened_total", "counter", "Times all links were ended and dialled anew, by reason.", ("why",)
)
OPEN_FAILED = Metric("banish_mesh_open_failures_total", "counter", "Times the links could not be opened at once.")
STRANGERS = Metric(
    "banish_mesh_strangers_total", "counter", "Links of whoever is no member, or is another than its certificate says."
)
VALID_UNTIL = Metric(
    "banish_mesh_certificate_valid_until_seconds", "gauge", "When this edge's certificate ends, in seconds since 1970."
)

log = structlog.get_logger(__name__)


class ZenohTransport:
    """A `Transport` over zenoh. Belongs to one event loop."""

    def __init__(
        self,
        me: Member,
        *,
        topology: Topology = Topology.MESH,
        credentials: Credentials | None = None,
        listen: Sequence[str] = (),
        reach: Mapping[str, tuple[str, ...]] | None = None,
        forgotten: Callable[[], Iterable[str]] = tuple,
        accounts: Accounts | None = None,
    ) -> None:
        """`listen`: where, if not as the endpoints of `me` say; `reach`: the same of others (`Wiring`). `forgotten`:
        ids of edges that belong no more, asked for at each start and `reform`. Raises ConfigError.
        """
        self._me = me
        self._topology = topology
        self._credentials = credentials
        self._listen = tuple(listen)
        self._reach = dict(reach or {})
        self._forgotten = forgotten
        self._wiring = Wiring(me, (), Topology.MESH, credentials, self._listen)
        self._opening: Opening | None = None
        self._openings = 0
        self._recent: OrderedDict[int, None] = OrderedDict()
        self._keeper: asyncio.Task[None] | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._wanted = self._done = 0
        self._stopping = False
        self._changed = asyncio.Condition()
        self._asking = asyncio.Semaphore(ASKED_MAX)
        self._valid_until = self._put_max_s = 0.0
        self._count(accounts or Accounts())

    def _count(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._puts = accounts.tally(PUTS)
        self._put_seconds = accounts.tally(PUT_SECONDS)
        self._heard = accounts.tally(HEARD)
        self._doubled = accounts.tally(DOUBLED)
        self._reopened = accounts.tally(REOPENED)
        self._open_failed = accounts.tally(OPEN_FAILED)
        self._strangers = accounts.tally(STRANGERS)
        self._dropped = accounts.tally(DROPPED)
        accounts.read(PUT_SECONDS_MAX, lambda: [((), self._put_max_s)])
        accounts.read(VALID_UNTIL, lambda: [((), self._valid_until)] if self._valid_until else [])

    def _count_queues(self) -> None:
        outbox, inbox = self._outbox, self._inbox
        self._accounts.read(LINKS, self._count_links)
        self._accounts.read(WAITING, lambda: [(("out",), len(outbox)), (("in",), len(inbox))])
        self._accounts.read(DROPPED, lambda: [(("out",), outbox.dropped), (("in",), inbox.dropped)])

    def _count_links(self) -> Samples:
        return [((one.name,), self._links.count(one.edge)) for one in self._wiring.others]

    # --- from start to stop

    async def start(self, members: Sequence[Member], receiver: Receiver) -> None:
        """Listen and dial. Raises ConfigError. To be called once."""
        self._wiring = self._wire(members)
        self._loop = asyncio.get_running_loop()
        self._receiver = receiver
        self._takers = {
            Heard.RECORD: receiver.on_record,
            Heard.DIGEST: receiver.on_digest,
            Heard.ACK: receiver.on_ack,
        }
        self._inbox, self._outbox = Inbox(self._loop), Outbox("mesh-out")
        self._links = Links(receiver.on_link)
        self._answers = Answers(self._accounts)
        self._askers = ThreadPoolExecutor(ASKED_MAX, thread_name_prefix="mesh-ask")
        self._count_queues()
        await self._open(self._wiring)
        self._outbox.release()
        self._keeper = self._loop.create_task(self._keep())

    async def stop(self) -> None:
        """End all links, after what was published is sent: within `DRAIN_S` and `CLOSE_S`, and an opening under way."""
        if self._keeper is None or self._stopping:
            return
        await on_thread(lambda: self._outbox.drain(DRAIN_S))
        self._outbox.close()
        async with self._changed:
            self._stopping = True
            self._changed.notify_all()
        await self._keeper
        if self._reopening is not None:
            await self._reopening
        await self._answers.end()
        await self._close()
        self._inbox.close()
        self._askers.shutdown(wait=False, cancel_futures=True)

    async def reform(self, members: Sequence[Member]) -> None:
        """Others belong now. Raises ConfigError, and changes nothing, if this edge cannot be linked with them."""
        wiring = self._wire(members)
        if wiring != self._wiring:
            self._wiring = wiring
            await self._again("members")

    async def reopen(self) -> None:
        """End all links and dial anew. Raises ConfigError, and changes nothing, if the certificates are not right."""
        self._wire(self._wiring.members)
        await self._again("asked")

    def _wire(self, members: Sequence[Member]) -> Wiring:
        """How this edge is linked with these. Raises ConfigError."""
        me = next((one for one in members if one.edge == self._me.edge), self._me)
        forgotten = tuple(sorted(self._forgotten()))
        how = self._topology, self._credentials, self._listen, self._reach, forgotten
        wiring = Wiring(me, tuple(members), *how)
        if self._credentials is not None:
            self._valid_until = self._credentials.check(me, time.time())
        return wiring

    async def _again(self, why: str) -> None:
        self._reopened.add(why)
        self._wanted += 1
        mine = self._wanted
        async with self._changed:
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._done >= mine or self._stopping)

    async def _keep(self) -> None:
        """Open anew whenever that is wanted, as often as it takes."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._done < self._wanted or self._stopping)
            if self._stopping:
                return
            doing, linked = self._wanted, self._links.told
            await on_thread(lambda: self._outbox.hold(HOLD_S))
            await self._close()
            await self._open_somehow()
            await self._links.back(linked & self._wiring.ids, RELINK_S)
            self._outbox.release()
            async with self._changed:
                self._done = doing
                self._changed.notify_all()

    async def _open_somehow(self) -> None:
        retry_s = RETRY_S
        while not self._stopping:
            try:
                await self._open(self._wiring)
                return
            except ConfigError as error:
                self._open_failed.add()
                log.warning("the mesh is not open", error=str(error), again_in_s=retry_s)
            async with self._changed:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(retry_s):
                        await self._changed.wait_for(lambda: self._stopping)
            retry_s = min(2 * retry_s, RETRY_MAX_S)

    async def _open(self, wiring: Wiring) -> None:
        self._openings += 1
        opening = Opening(wiring, self._ears(self._openings))
        try:
            await on_thread(opening.open)
        except asyncio.CancelledError:
            on_thread(lambda: opening.close(CLOSE_S))  # once it is open
            raise
        self._opening = opening
        self._loop.call_later(LONELY_S, self._look_around, self._openings)

    def _look_around(self, opening: int) -> None:
        lonely = self._wiring.others and not self._links.told and not self._wiring.dials_all
        if lonely and opening == self._openings and not self._stopping and self._topology is Topology.MESH:
            self._wiring = dataclasses.replace(self._wiring, dials_all=True)
            self._reopening = self._loop.create_task(self._again("lonely"))

    async def _close(self) -> None:
        opening, self._opening = self._opening, None
        self._openings += 1  # what links of it say now is said of what has ended
        self._links.end()
        if opening is not None and not await on_thread(lambda: opening.close(CLOSE_S)):
            log.warning("the links of the mesh take long to close; that goes on behind", waited_s=CLOSE_S)

    # --- saying

    def publish_record(self, data: bytes) -> bool:
        """Send a record to all. False: too much waits, or it is too large; it is dropped, and counted."""
        return self._publish(Heard.RECORD, f"{Heard.RECORD}/{self._me.edge}", data)

    def publish_digest(self, data: bytes) -> bool:
        """The same for a digest."""
        return self._publish(Heard.DIGEST, f"{Heard.DIGEST}/{self._me.edge}", data)

    def send_ack(self, edge: str, data: bytes) -> bool:
        """The same for an ack, to one edge."""
        return self._publish(Heard.ACK, f"{Heard.ACK}/{edge}/{self._me.edge}", data)

    def _publish(self, kind: Heard, key: str, data: bytes) -> bool:
        if len(data) > MESSAGE_BYTES_MAX:
            self._dropped.add("large")
            return False
        return self._outbox.put(functools.partial(self._put, kind, key), data)

    def _put(self, kind: Heard, key: str, data: bytes) -> None:
        """On the outbox's thread, which is held while the sessions are exchanged."""
        began = time.monotonic()
        try:
            if self._opening is None:
                raise zenoh.ZError("closed")
            self._opening.put(key, data)
        except zenoh.ZError:
            self._dropped.add("closed")
            return
        took = time.monotonic() - began
        self._puts.add(kind)
        self._put_seconds.add(kind, n=took)
        self._put_max_s = max(self._put_max_s, took)

    async def pull(self, edge: str, data: bytes, timeout_s: float) -> list[bytes]:
        """Ask one edge for records; the parts of its answer. Empty: no answer."""
        return await self._ask(edge, Asked.LOG, data, timeout_s)

    async def counts(self, edge: str, data: bytes, timeout_s: float) -> bytes | None:
        """Ask one edge what a purge matched there. None: no answer."""
        return next(iter(await self._ask(edge, Asked.COUNTS, data, timeout_s)), None)

    async def _ask(self, edge: str, asked: Asked, data: bytes, timeout_s: float) -> list[bytes]:
        until = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._asking.acquire()
        except TimeoutError:
            return []
        try:
            opening, left_s = self._opening, until - time.monotonic()
            if opening is None or left_s <= 0:
                return []
            return await self._loop.run_in_executor(self._askers, opening.ask, f"sync/{edge}/{asked}", data, left_s)
        except (zenoh.ZError, RuntimeError):  # closed meanwhile
            return []
        finally:
            self._asking.release()

    # --- hearing: on threads of zenoh's, then on the loop

    def _hear(self, kind: Heard, data: bytes) -> None:
        self._inbox.put(functools.partial(self._take, kind), data)

    def _ears(self, opening: int) -> Ears:
        def link(link: Link, up: bool) -> None:
            self._inbox.put(lambda _: self._linked(opening, link, up), b"", bounded=False)

        def listens(edge: str, ready: bool) -> None:
            self._inbox.put(lambda _: self._listens(opening, edge, ready), b"", bounded=False)

        return Ears(heard=self._hear, link=link, listens=listens, asked=self._be_asked)

    def _be_asked(self, asked: Asked, question: Question) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._answer, asked, question)

    def _take(self, kind: Heard, data: bytes) -> None:
        if self._topology is Topology.RELAY and self._came_before(kind, data):
            self._doubled.add()
            return
        self._heard.add(kind)
        self._takers[kind](data)

    def _came_before(self, kind: Heard, data: bytes) -> bool:
        """Every message comes by each relay. Told by 64 bits of a keyed hash."""
        told = hash((kind, data))
        if told in self._recent:
            return True
        self._recent[told] = None
        if len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)
        return False

    def _linked(self, opening: int, link: Link, up: bool) -> None:
        if opening != self._openings:
            return
        if link.edge not in self._wiring.ids:
            if up and link.edge not in self._wiring.forgotten:
                self._strangers.add()
                log.warning("a link of whoever is no member", edge=link.edge or None, address=link.there)
            return
        self._links.connected(link.edge, link, up)

    def _listens(self, opening: int, edge: str, ready: bool) -> None:
        if opening == self._openings:
            self._links.listens(edge, ready)

    def _answer(self, asked: Asked, question: Question) -> None:
        if asked is Asked.LOG:
            self._answers.begin(question, self._receiver.on_pull)
        else:
            self._answers.begin(question, self._on_counts)

    async def _on_counts(self, data: bytes) -> Sequence[bytes]:
        return (await self._receiver.on_counts(data),)
