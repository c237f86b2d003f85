"""The queues between threads and the loop, and links as they are told."""

import asyncio
import threading

import pytest

from banish.mesh import handover
from banish.mesh.handover import Inbox, Outbox, on_thread
from banish.mesh.leftovers import cut
from banish.mesh.links import Links
from tests.looped import looped
from tests.meshed import until

WAIT_S = 5.0


@looped
async def test_what_threads_put_in_comes_out_on_the_loop_in_their_order() -> None:
    here, done = threading.get_ident(), asyncio.Event()
    heard: list[bytes] = []

    def take(data: bytes) -> None:
        assert threading.get_ident() == here
        heard.append(data)
        if len(heard) == 2000:
            done.set()

    inbox = Inbox(asyncio.get_running_loop())

    def talk(name: bytes) -> None:
        for n in range(1000):
            inbox.put(take, b"%s %d" % (name, n))

    threads = [threading.Thread(target=talk, args=(name,)) for name in (b"a", b"b")]
    for thread in threads:
        thread.start()
    await asyncio.wait_for(done.wait(), WAIT_S)
    for name in (b"a", b"b"):
        assert [one for one in heard if one.startswith(name)] == [b"%s %d" % (name, n) for n in range(1000)]


@looped
async def test_a_flood_leaves_the_loop_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "SLICE_S", 0.0)
    inbox = Inbox(asyncio.get_running_loop())
    order: list[str] = []
    for _ in range(3):
        inbox.put(lambda _: order.append("message"), b"")
    asyncio.get_running_loop().call_later(0, lambda: order.append("request"))
    await until(lambda: len(order) == 4)
    assert order.index("request") < 3


@looped
async def test_past_its_bound_an_inbox_drops_and_counts_but_for_what_must_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handover, "INBOX_MAX", 2)
    inbox = Inbox(asyncio.get_running_loop())
    heard: list[bytes] = []
    for n in range(4):
        inbox.put(heard.append, b"%d" % n)
    inbox.put(heard.append, b"a link", bounded=False)
    await until(lambda: not len(inbox))
    assert heard == [b"0", b"1", b"a link"]
    assert inbox.dropped == 2


@looped
async def test_a_fault_in_one_message_is_that_messages_alone() -> None:
    inbox = Inbox(asyncio.get_running_loop())
    heard: list[bytes] = []

    def fails(data: bytes) -> None:
        raise ValueError(data)

    inbox.put(fails, b"bad")
    inbox.put(heard.append, b"good")
    await until(lambda: bool(heard))
    assert heard == [b"good"]


@looped
async def test_an_outbox_waits_while_it_is_held_and_loses_nothing() -> None:
    outbox, done = Outbox("test"), threading.Event()
    sent: list[bytes] = []

    def send(data: bytes) -> None:
        sent.append(data)
        if len(sent) == 3:
            done.set()

    assert all(outbox.put(send, b"%d" % n) for n in range(3))
    assert sent == []
    outbox.release()
    assert await asyncio.to_thread(done.wait, WAIT_S)
    assert sent == [b"0", b"1", b"2"]
    assert await asyncio.to_thread(outbox.drain, WAIT_S)
    outbox.close()
    assert not outbox.put(send, b"late")
    assert outbox.dropped == 1


@looped
async def test_a_hold_waits_for_what_is_being_sent_but_not_for_ever() -> None:
    outbox, begun, go_on = Outbox("test"), threading.Event(), threading.Event()

    def slow(data: bytes) -> None:
        begun.set()
        go_on.wait(WAIT_S)

    outbox.put(slow, b"")
    outbox.release()
    assert await asyncio.to_thread(begun.wait, WAIT_S)
    assert not await asyncio.to_thread(outbox.hold, 0.01)
    go_on.set()
    assert await asyncio.to_thread(outbox.hold, WAIT_S)
    outbox.close()


@looped
async def test_what_is_done_on_a_thread_comes_back_or_fails_here() -> None:
    assert await on_thread(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        await on_thread(lambda: 1 // 0)


class TestLinks:
    def links(self) -> tuple[Links, list[tuple[str, bool]]]:
        told: list[tuple[str, bool]] = []
        return Links(lambda edge, up: told.append((edge, up))), told

    @looped
    async def test_a_link_is_told_once_the_other_end_has_answered(self) -> None:
        links, told = self.links()
        links.connected("a", 1, True)
        assert told == []
        links.listens("a", True)
        links.connected("a", 2, True)
        links.connected("a", 1, False)
        assert told == [("a", True)]
        links.connected("a", 2, False)
        assert told == [("a", True), ("a", False)]

    def test_one_that_does_not_answer_is_told_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("banish.mesh.links.READY_S", 0.0)

        @looped
        async def run() -> None:
            links, told = self.links()
            links.connected("a", 1, True)
            await links.back({"a"}, WAIT_S)
            assert told == [("a", True)]

        run()

    @looped
    async def test_the_end_of_all_is_told_of_each(self) -> None:
        links, told = self.links()
        for edge in ("a", "b"):
            links.listens(edge, True)
            links.connected(edge, 1, True)
        links.connected("c", 1, True)  # never told, so never taken back
        links.end()
        assert told == [("a", True), ("b", True), ("a", False), ("b", False)]
        assert links.told == frozenset()

    @looped
    async def test_whoever_waits_for_them_is_woken_when_all_are_back(self) -> None:
        links, _ = self.links()
        waiting = asyncio.ensure_future(links.back({"a", "b"}, WAIT_S))
        for edge in ("a", "b"):
            assert not waiting.done()
            links.listens(edge, True)
            links.connected(edge, 1, True)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert waiting.done()
        await links.back({"c"}, 0.001)


@looped
async def test_what_a_closed_session_left_is_cut_and_nothing_else() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    one, other = [await asyncio.start_server(serve, "127.0.0.1", 0) for _ in range(2)]
    ports = [server.sockets[0].getsockname()[1] for server in (one, other)]
    ends = [await asyncio.open_connection("127.0.0.1", port) for port in ports]
    ends[1][1].write(b"?")
    await until(lambda: cut({ports[0]}) == 1)  # once it is accepted
    assert await asyncio.wait_for(ends[0][0].read(), WAIT_S) == b""
    assert not ends[1][0].at_eof()
    for _, writer in ends:
        writer.close()
    for server in (one, other):
        server.close()
        await server.wait_closed()
    await until(lambda: len(asyncio.all_tasks()) == 1)
