"""A long way between two edges: a relay for TCP that delays, stalls, parts and breaks what passes.

    async with Link(("127.0.0.1", 7447), Way(delay_s=0.040, loss=0.02), seed=7) as link:
        ... dial 127.0.0.1:link.port instead of 7447
        link.part()                 # nothing arrives any more, nothing is refused: a cable was cut
        link.part("there")          # in one direction only, as seen by the one who dials
        link.heal()                 # what was under way arrives
        link.break_off()            # every connection is reset, as when the other machine has restarted

A byte arrives `delay_s` after it was sent, in order. A packet that is lost is one that TCP sends again: what comes
behind it waits for a timeout of its sender, so a loss is a stall of `RESEND_S`, drawn for each piece that is read.

Not here: UDP; bandwidth. Units: seconds.
Invariant: bytes are never changed, doubled or put into another order, and no more than `HELD_BYTES_MAX` of a direction
wait here: past it the sender is not read, as by a full socket.
"""

import asyncio
import contextlib
import random
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

RESEND_S = 0.2
"""A lost packet is sent again after this long: the least that Linux waits (RTO_MIN)."""

RESENDS_MAX = 4
"""Of one piece: each waits twice as long as the one before."""

HELD_BYTES_MAX = 4 * 1024 * 1024
"""Of one direction of one connection, on its way."""

PIECE_BYTES = 65536

Direction = Literal["there", "back"]


@dataclass(frozen=True, slots=True)
class Way:
    """What a link is like."""

    delay_s: float = 0.0
    """One way."""
    loss: float = 0.0
    """Pieces lost, as a fraction of all: each is late by `RESEND_S` or a multiple of it."""
    jitter_s: float = 0.0
    """Added to the delay of a piece, at most."""


class Link:
    """A relay in front of one address, for whoever dials it."""

    def __init__(self, target: tuple[str, int], way: Way | None = None, *, seed: int = 0, port: int = 0) -> None:
        self.way = way or Way()
        """May be changed at any time: it holds for what is read from then on."""
        self.port = port
        self._target = target
        self._draw = random.Random(seed)
        self._open = {"there": asyncio.Event(), "back": asyncio.Event()}
        self._pairs: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self.heal()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        pairs = list(self._pairs)
        for pair in pairs:
            pair.cancel()
        await asyncio.gather(*pairs, return_exceptions=True)

    def part(self, direction: Direction | None = None) -> None:
        """Let nothing through, or nothing in one direction; who dials now waits."""
        for each in (direction,) if direction else self._open:
            self._open[each].clear()

    def heal(self) -> None:
        """Let everything through."""
        for event in self._open.values():
            event.set()

    def break_off(self) -> None:
        """Reset every connection. New ones go through."""
        for writer in self._writers:
            writer.transport.abort()

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._pairs)

    # --- one connection

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = asyncio.get_running_loop().create_task(self._pair(reader, writer))
        self._pairs.add(pair)
        pair.add_done_callback(self._pairs.discard)

    async def _pair(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            for event in self._open.values():
                await event.wait()
            await asyncio.sleep(self.way.delay_s)
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            writers.append(far_writer)
            self._writers.update(writers)
            await asyncio.gather(
                self._carry(reader, far_writer, "there"),
                self._carry(far_reader, writer, "back"),
            )
        except* OSError:
            pass  # one end has gone: so does the other
        finally:
            self._writers.difference_update(writers)
            for each in writers:
                each.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        """Read at once, deliver later; at the end, pass the end on."""
        under_way: deque[tuple[float, bytes]] = deque()
        held, changed = 0, asyncio.Event()
        loop = asyncio.get_running_loop()

        async def read() -> None:
            nonlocal held
            latest = 0.0
            while True:
                data = await reader.read(PIECE_BYTES)
                latest = max(latest, loop.time() + self._takes_s())
                under_way.append((latest, data))
                held += len(data)
                changed.set()
                if not data:
                    return
                while held > HELD_BYTES_MAX:
                    changed.clear()
                    await changed.wait()

        async def deliver() -> None:
            nonlocal held
            while True:
                while not under_way:
                    changed.clear()
                    await changed.wait()
                due, data = under_way[0]
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._open[direction].wait()
                under_way.popleft()
                held -= len(data)
                changed.set()
                if not data:
                    with contextlib.suppress(OSError):
                        writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            tasks.create_task(deliver())

    def _takes_s(self) -> float:
        way, takes_s = self.way, self.way.delay_s + self._draw.random() * self.way.jitter_s
        for again in range(RESENDS_MAX if way.loss else 0):
            if self._draw.random() >= way.loss:
                break
            takes_s += RESEND_S * 2**again
        return takes_s
