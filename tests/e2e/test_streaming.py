"""Large bodies through a real edge: every byte arrives, and hardly any stays in the edge's memory.

The origin and the client are threads of the test with plain sockets; the edge is a process of its own, whose
peak of resident memory is read from the kernel.
"""

import contextlib
import random
import select
import socket
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.processes import WAIT_S, EdgeProcess, edge_process

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads memory from /proc")

GIB = 1 << 30
MIB = 1 << 20
GROWTH_MAX_BYTES = 64 * MIB
STALLED_S = 0.5
"""A socket that takes nothing for so long will take nothing more: the other end has stopped reading."""

BLOCK = random.Random(9111).randbytes(1_000_003)
"""Repeated to make a body. Its length is prime, so that a piece left out, doubled or misplaced changes the sum."""


def blocks(size: int) -> Iterator[memoryview]:
    """A body of `size` bytes, in pieces."""
    view = memoryview(BLOCK)
    while size > 0:
        yield view[:size]
        size -= len(BLOCK)


def checksum(size: int) -> int:
    """CRC-32 of the body of `size` bytes."""
    crc = 0
    for block in blocks(size):
        crc = zlib.crc32(block, crc)
    return crc


def received(sock: socket.socket, held: bytes, size: int) -> tuple[int, int]:
    """Take in `size` bytes of which some are held: how many came, and their CRC-32."""
    count, crc = len(held), zlib.crc32(held)
    buffer = memoryview(bytearray(MIB))
    while count < size and (n := sock.recv_into(buffer)):
        count, crc = count + n, zlib.crc32(buffer[:n], crc)
    return count, crc


def read_head(sock: socket.socket) -> tuple[str, bytes]:
    """A message's head in lower case, and what came behind it; empty at the end of the connection."""
    held = b""
    while b"\r\n\r\n" not in held:
        data = sock.recv(65536)
        if not data:
            return "", b""
        held += data
    head, _, rest = held.partition(b"\r\n\r\n")
    return head.decode("latin-1").lower() + "\r\n", rest


def field(head: str, name: str) -> str:
    return head.partition(f"\r\n{name}: ")[2].partition("\r\n")[0]


class BlockOrigin:
    """GET /no-store/SIZE and /stored/SIZE answer with a body of SIZE bytes; a POST is answered with its CRC."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.requests = 0
        self.sent: list[int] = []
        """Bytes of each body that were sent until it ended or the edge took no more."""
        self._settled = threading.Semaphore(0)
        self._over = threading.Event()

    def __enter__(self) -> "BlockOrigin":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._listening.close()

    def wait_for_bodies(self, count: int) -> None:
        """Wait until so many bodies are sent, or cannot be sent any further."""
        for _ in range(count):
            assert self._settled.acquire(timeout=WAIT_S)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while True:
                head, rest = read_head(connection)
                if not head:
                    return
                self.requests += 1
                if head.startswith("post"):
                    count, crc = received(connection, rest, int(field(head, "content-length")))
                    answer = f"{count} {crc}".encode()
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
                else:
                    self._send_body(connection, head.split()[1])

    def _send_body(self, connection: socket.socket, path: str) -> None:
        _, kind, size = path.split("/")
        control = b"no-store" if kind == "no-store" else b"max-age=600"
        connection.sendall(b"HTTP/1.1 200 OK\r\nCache-Control: %b\r\nContent-Length: %d\r\n\r\n" % (control, int(size)))
        sent = 0
        for block in blocks(int(size)):
            while block:
                _, writable, _ = select.select([], [connection], [], STALLED_S)
                if not writable:
                    self.sent.append(sent)
                    self._settled.release()
                    self._over.wait()
                    return
                n = connection.send(block)
                block, sent = block[n:], sent + n
        self.sent.append(sent)
        self._settled.release()


@pytest.fixture
def origin() -> Iterator[BlockOrigin]:
    with BlockOrigin() as running:
        yield running


@contextlib.contextmanager
def edge_before(origin: BlockOrigin, data: Path, *settings: str) -> Iterator[EdgeProcess]:
    flags = [word for setting in settings for word in ("--set", setting)]
    with edge_process(data, "--origin", origin.url, "--set", "log.access=off", *flags) as edge:
        edge.get("/stored/10")  # whatever is made at the first request is made
        yield edge


@contextlib.contextmanager
def bounded_memory(edge: EdgeProcess) -> Iterator[None]:
    """Within the block the edge's memory may not grow past the bound, at no instant."""
    edge.forget_peak()
    before = edge.rss_bytes()
    yield
    grown = edge.peak_rss_bytes() - before
    assert grown < GROWTH_MAX_BYTES, f"grew by {grown / MIB:.1f} MiB"


def fetch(edge: EdgeProcess, path: str) -> tuple[str, int, int]:
    """One GET: head, length and CRC-32 of the body."""
    with socket.create_connection(edge.address, timeout=WAIT_S) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: site.example\r\n\r\n".encode())
        head, rest = read_head(sock)
        count, crc = received(sock, rest, int(field(head, "content-length")))
        return head, count, crc


def until_on_disk(edge: EdgeProcess) -> None:
    """Wait until the body that was fetched is on disk, beside that of `edge_before`."""
    edge.until_metric('banish_disk_puts_total{outcome="stored"}', 2)


def test_a_gigabyte_that_may_not_be_stored_passes_through(tmp_path: Path, origin: BlockOrigin) -> None:
    with edge_before(origin, tmp_path) as edge:
        with bounded_memory(edge):
            head, count, crc = fetch(edge, f"/no-store/{GIB}")
        assert (count, crc) == (GIB, checksum(GIB))
        assert "detail=no-store" in field(head, "cache-status")
        assert edge.metrics()["banish_spool_bytes"] == 0


def test_a_gigabyte_past_the_spool_budget_passes_through_and_is_not_stored(tmp_path: Path, origin: BlockOrigin) -> None:
    with edge_before(origin, tmp_path, "memory.spool_bytes=64MiB") as edge:
        with bounded_memory(edge):
            _, count, crc = fetch(edge, f"/stored/{GIB}")
        assert (count, crc) == (GIB, checksum(GIB))
        metrics = edge.metrics()
        assert metrics["banish_spool_refused_total"] == 1
        assert metrics['banish_store_responses{tier="spool"}'] == 0


@pytest.mark.slow
def test_a_gigabyte_within_the_spool_budget_is_stored_and_hit(tmp_path: Path, origin: BlockOrigin) -> None:
    with edge_before(origin, tmp_path, "memory.spool_bytes=2GiB") as edge:
        with bounded_memory(edge):
            head, count, crc = fetch(edge, f"/stored/{GIB}")
            assert (count, crc) == (GIB, checksum(GIB))
            assert "; stored" in field(head, "cache-status")
            until_on_disk(edge)
            head, count, crc = fetch(edge, f"/stored/{GIB}")
            assert (count, crc) == (GIB, checksum(GIB))
            assert "; hit" in field(head, "cache-status")
        assert origin.requests == 2  # the first was that of `edge_before`
        assert edge.metrics()["banish_spool_bytes"] == 0


def test_a_large_body_is_found_again_after_a_crash_and_sent_by_the_kernel(tmp_path: Path, origin: BlockOrigin) -> None:
    size = 128 * MIB
    with edge_before(origin, tmp_path) as edge:
        fetch(edge, f"/stored/{size}")
        until_on_disk(edge)
    with edge_before(origin, tmp_path) as edge, bounded_memory(edge):
        asked = origin.requests
        head, count, crc = fetch(edge, f"/stored/{size}")
        assert (count, crc) == (size, checksum(size))
        assert "; hit" in field(head, "cache-status")
        assert origin.requests == asked
        assert edge.metrics()['banish_body_file_bytes_total{way="sendfile"}'] == size


@pytest.mark.parametrize("at", [5, 20 * MIB])
def test_a_large_body_damaged_while_the_edge_was_away_is_fetched_anew(
    tmp_path: Path, origin: BlockOrigin, at: int
) -> None:
    size = 32 * MIB
    with edge_before(origin, tmp_path) as edge:
        fetch(edge, f"/stored/{size}")
        until_on_disk(edge)
    (path,) = [each for each in (tmp_path / "bodies").rglob("*") if each.is_file()]
    with path.open("r+b") as raw:
        raw.seek(at)
        byte = raw.read(1)[0]
        raw.seek(at)
        raw.write(bytes([byte ^ 1]))
    with edge_before(origin, tmp_path) as edge:
        asked = origin.requests
        if at > MIB:  # the chunks before it are sound, and sent before it is known
            with contextlib.suppress(ConnectionResetError):
                assert fetch(edge, f"/stored/{size}")[1] <= at
        head, count, crc = fetch(edge, f"/stored/{size}")
        assert (count, crc) == (size, checksum(size))
        assert "; hit" not in field(head, "cache-status")
        assert origin.requests == asked + 1
        until_on_disk(edge)
        head, count, crc = fetch(edge, f"/stored/{size}")
        assert (count, crc) == (size, checksum(size))
        assert "; hit" in field(head, "cache-status")
        assert origin.requests == asked + 1
        assert edge.metrics()['banish_body_files_damaged_total{damage="checksum"}'] == 1


def test_clients_that_stop_reading_a_stored_body_cost_no_memory(tmp_path: Path, origin: BlockOrigin) -> None:
    clients, size = 100, 32 * MIB
    with edge_before(origin, tmp_path) as edge, contextlib.ExitStack() as stack:
        fetch(edge, f"/stored/{size}")
        until_on_disk(edge)
        with bounded_memory(edge):
            for _ in range(clients):
                sock = stack.enter_context(socket.create_connection(edge.address, timeout=WAIT_S))
                sock.sendall(f"GET /stored/{size} HTTP/1.1\r\nHost: site.example\r\n\r\n".encode())
                assert "; hit" in field(read_head(sock)[0], "cache-status")
            _, count, crc = fetch(edge, f"/stored/{size}")
            assert (count, crc) == (size, checksum(size))


def test_several_clients_share_one_large_fetch(tmp_path: Path, origin: BlockOrigin) -> None:
    size, got = 128 * MIB, []
    with edge_before(origin, tmp_path) as edge:
        threads = [threading.Thread(target=lambda: got.append(fetch(edge, f"/stored/{size}"))) for _ in range(4)]
        with bounded_memory(edge):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(WAIT_S)
        assert [(count, crc) for _, count, crc in got] == [(size, checksum(size))] * 4
        assert origin.requests == 2


def test_an_upload_is_streamed_to_the_origin(tmp_path: Path, origin: BlockOrigin) -> None:
    size = 256 * MIB
    with edge_before(origin, tmp_path) as edge, socket.create_connection(edge.address, timeout=WAIT_S) as sock:
        with bounded_memory(edge):
            sock.sendall(f"POST / HTTP/1.1\r\nHost: site.example\r\nContent-Length: {size}\r\n\r\n".encode())
            for block in blocks(size):
                sock.sendall(block)
            head, rest = read_head(sock)
        assert head.startswith("http/1.1 200 ")
        assert rest.decode() == f"{size} {checksum(size)}"


@pytest.mark.parametrize("kind", ["no-store", "stored"])
def test_clients_that_stop_reading_do_not_make_memory_grow(tmp_path: Path, origin: BlockOrigin, kind: str) -> None:
    clients, size = 8, 256 * MIB
    with (
        edge_before(origin, tmp_path, "memory.spool_bytes=64MiB") as edge,
        contextlib.ExitStack() as stack,
        bounded_memory(edge),
    ):
        for number in range(clients):
            sock = stack.enter_context(socket.create_connection(edge.address, timeout=WAIT_S))
            # Bodies of their own: each is a fetch of its own.
            sock.sendall(f"GET /{kind}/{size + number} HTTP/1.1\r\nHost: site.example\r\n\r\n".encode())
            assert read_head(sock)[0].startswith("http/1.1 200 ")
        origin.wait_for_bodies(clients + 1)
        assert max(origin.sent) < size
        assert sum(origin.sent) < 64 * MIB + clients * 16 * MIB
        assert edge.admin("/healthz").status == 200


def test_a_client_that_goes_away_frees_what_was_held_for_it(tmp_path: Path, origin: BlockOrigin) -> None:
    with edge_before(origin, tmp_path) as edge:
        with socket.create_connection(edge.address, timeout=WAIT_S) as sock:
            sock.sendall(f"GET /no-store/{GIB} HTTP/1.1\r\nHost: site.example\r\n\r\n".encode())
            assert read_head(sock)[0].startswith("http/1.1 200 ")
            assert edge.metrics()["banish_fetches_running"] == 1
        while edge.metrics()["banish_fetches_running"]:
            pass
        assert edge.get("/stored/10").body == BLOCK[:10]
