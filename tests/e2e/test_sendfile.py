"""Stored bodies in files, sent by the kernel: every byte, however the client reads or leaves; no descriptor is left."""

import asyncio
import contextlib
import errno
import os
import random
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from unittest import mock

import msgspec
import pytest
import trustme
from tests.support import Client, Play, Stage, request, tiny_timeouts

from banish.edge.config import Certificate, Listener
from banish.proxy import sendfile
from banish.store.bodies import Body
from banish.store.checksums import CHUNK_BYTES
from banish.store.files import BodyFiles, StoredFile
from banish.store.readers import READ_BYTES, FileReader

WHOLE = random.Random(3).randbytes(3 * CHUNK_BYTES + 4321)
LARGE = 3 * WHOLE
"""More than the kernel's buffers take from a client that does not read."""
LATE = 2
"""Ticks by which a deadline may be late (`wheel.py`)."""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "bodies"


@contextlib.asynccontextmanager
async def stored(
    stage: Stage, directory: Path, body: bytes = WHOLE, *, scheme: str = "http"
) -> AsyncIterator[StoredFile]:
    """The response to GET /a, in store, with its body in a file."""
    fields = [("Cache-Control", "max-age=60"), ("ETag", '"1"')]
    stage.origin.respond("/a", body=b"small", headers=fields)
    await stage.get("/a")
    await stage.settled()
    stage.origin.respond("/a", body=body, headers=fields)
    site = stage.edge.sites.all[0].key_name
    (record,) = stage.edge.store.lookup(f"{site} http://site.example/a")
    files = BodyFiles(directory, accounts=stage.edge.accounts)
    file = files.keep(1, 1, Body.complete(body))
    meta = msgspec.structs.replace(record.meta, key=f"{site} {scheme}://site.example/a")
    stage.edge.store.put(msgspec.structs.replace(record, meta=meta, body=Body.stored(file)))
    before = descriptors()
    yield file
    for connection in stage.connections:
        connection.abort()
    await stage.until(lambda: not stage.connections and not stage.edge._front._tasks)
    files.close()
    left = descriptors() - before
    assert not left, f"left open: {left}"


def descriptors() -> set[str]:
    """What this process has open of what a sender may forget: sockets, and files of bodies."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return {each for each in found if "socket:" in each or "bodies" in each}


def by_kernel(stage: Stage) -> float:
    """Bytes that the kernel has sent so far."""
    return stage.count("banish_body_file_bytes_total", "sendfile")


def by_hand(stage: Stage) -> float:
    """Bytes that were read into memory to be written."""
    return stage.count("banish_body_file_bytes_total", "read")


async def stalled(stage: Stage) -> None:
    """Wait until the one client there is has not read for so long that the edge waits for it."""
    await stage.until(lambda: [each._stage for each in stage.connections] == ["write"])


async def all_of(client: Client, size: int) -> bytes:
    """The body of a response, read bit by bit."""
    head = await client.head()
    assert head["content-length"] == str(size)
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < size:
        pieces.append(await client.read())
    return b"".join(pieces)


def sendfile_that(fails: int, *, after: int = 0) -> Callable[[int, int, int, int], int]:
    """`os.sendfile`, but to a socket it fails after some calls."""
    calls = 0
    real = os.sendfile

    def send(out: int, of: int, offset: int, count: int) -> int:
        nonlocal calls
        if stat.S_ISSOCK(os.fstat(out).st_mode):
            calls += 1
            if calls > after:
                raise OSError(fails, os.strerror(fails))
        return real(out, of, offset, count)

    return send


RANGES = [
    (0, READ_BYTES),
    (7, CHUNK_BYTES - 1),
    (CHUNK_BYTES, 2 * CHUNK_BYTES - 1),
    (CHUNK_BYTES - 1, 2 * CHUNK_BYTES),
    (5, len(WHOLE) - 1),
    (len(WHOLE) - 2 * READ_BYTES, len(WHOLE) + 5),
]


class TestPlain:
    def test_every_byte_goes_by_the_kernel(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files):
                response = await stage.get("/a")
                assert response.hit
                assert response.body == WHOLE
                assert (by_kernel(stage), by_hand(stage)) == (len(WHOLE), 0)
            assert stage.count("banish_response_body_bytes_total") == len(b"small") + len(WHOLE)

        play_on_both(scene)

    def test_a_range_goes_by_the_kernel(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files):
                for first, last in RANGES:
                    before = by_kernel(stage)
                    response = await stage.get("/a", f"Range: bytes={first}-{last}")
                    assert response.status == 206
                    assert response.body == WHOLE[first : last + 1]
                    assert by_kernel(stage) - before == len(response.body)

        play_on_both(scene)

    def test_little_is_read_and_goes_with_its_head(self, play: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files):
                assert (await stage.get("/a", "Range: bytes=100-199")).body == WHOLE[100:200]
                assert (await stage.get("/a", f"Range: bytes=-{READ_BYTES}")).body == WHOLE[-READ_BYTES:]
                assert (by_kernel(stage), by_hand(stage)) == (0, READ_BYTES + 100)

        play(scene)

    def test_what_needs_no_body_reads_none(self, play: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files):
                assert (await stage.ask("HEAD", "/a"))["content-length"] == str(len(WHOLE))
                assert (await stage.get("/a", 'If-None-Match: "1"')).status == 304
                assert (by_kernel(stage), by_hand(stage)) == (0, 0)

        play(scene)

    def test_pipelined_answers_keep_their_order(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            stage.origin.respond("/b", body=b"small", headers=[("Cache-Control", "max-age=60")])
            async with stored(stage, files), stage.client() as client:
                for _ in range(3):
                    await client.send(b"".join([request("GET", target) for target in ("/b", "/a", "/a", "/b")]))
                    bodies = [(await client.response()).body for _ in range(4)]
                    assert bodies == [b"small", WHOLE, WHOLE, b"small"]

        play_on_both(scene)

    def test_the_connection_is_afterwards_what_it_was_before(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files), stage.client() as client:
                await client.get("/a", "Range: bytes=0-9")
                (connection,) = stage.connections
                limits = connection._transport.get_write_buffer_limits()
                await client.get("/a")
                await stage.until(lambda: connection._stage == "idle")
                assert connection._transport.get_write_buffer_limits() == limits
                stage.tick(300)
                assert await client.closed()

        play_on_both(scene)

    def test_a_client_of_http_1_0_gets_all_of_it(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files), stage.client() as client:
                await client.send(b"GET /a HTTP/1.0\r\nHost: site.example\r\n\r\n")
                assert (await client.rest()).endswith(b"\r\n\r\n" + WHOLE)

        play_on_both(scene)

    def test_many_at_once_share_one_descriptor(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files, LARGE), contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(stage.client(receive_buffer_bytes=65536)) for _ in range(4)]
                await clients[0].send(request("GET", "/a"))
                await stage.until(lambda: by_kernel(stage) > 0)
                for client in clients[1:]:
                    await client.send(request("GET", "/a"))
                await stage.until(lambda: [each._stage for each in stage.connections] == ["write"] * 4)
                assert len([each for each in descriptors() if "bodies" in each]) == 1
                bodies = await asyncio.gather(*[all_of(client, len(LARGE)) for client in clients])
                assert bodies == [LARGE] * 4

        play_on_both(scene)


class TestClients:
    def test_one_that_does_not_read_is_cut(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files, LARGE), stage.client(receive_buffer_bytes=4096) as client:
                await client.send(request("GET", "/a"))
                await stalled(stage)
                stage.tick(5 + LATE)
                await stage.until(lambda: not stage.connections)
                assert stage.count("banish_client_timeouts_total", "write") == 1
                assert by_kernel(stage) < len(LARGE)
                with pytest.raises(ConnectionResetError):
                    await client.rest()

        play_on_both(scene, timeouts=tiny_timeouts(write_s=5))

    def test_one_that_reads_slowly_is_not_cut(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files, LARGE), stage.client(receive_buffer_bytes=65536) as client:
                await client.send(request("GET", "/a"))
                head = await client.head()
                got = b""
                while len(got) < len(LARGE):
                    for _ in range(32):
                        if len(got) < len(LARGE):
                            got += await client.read()
                    stage.tick(1)
                assert head.status == 200
                assert got == LARGE
            assert stage.count("banish_client_timeouts_total", "write") == 0

        play_on_both(scene, timeouts=tiny_timeouts(write_s=5))

    @pytest.mark.parametrize("how", ["leave", "reset", "shut and leave", "shut and reset"])
    def test_one_that_leaves_midway_ends_it(self, how: str, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files, LARGE), stage.client(receive_buffer_bytes=4096) as client:
                await client.send(request("GET", "/a"))
                await stalled(stage)
                if "shut" in how:
                    client.shut()
                    await stage.until(lambda: stage.connections[0]._ended)
                (client.reset if "reset" in how else client.leave)()
                await stage.until(lambda: not stage.connections)
                assert stage.count("banish_responses_total", "aborted") == 1

        play_on_both(scene)

    def test_one_that_has_said_all_it_will_gets_all_of_it(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files), stage.client(receive_buffer_bytes=4096) as client:
                await client.send(request("GET", "/a"))
                await stalled(stage)
                client.shut()
                await stage.until(lambda: stage.connections[0]._ended)
                assert await all_of(client, len(WHOLE)) == WHOLE

        play_on_both(scene)

    def test_the_edge_stops_in_the_midst_of_it(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files, LARGE), stage.client(receive_buffer_bytes=4096) as client:
                await client.send(request("GET", "/a"))
                await stalled(stage)
                await stage.edge.stop()
                assert not (await client.response()).whole

        play_on_both(scene)


class TestOtherwise:
    """Where the kernel cannot do it, the bytes are read and written: the same ones."""

    def test_over_tls(self, play_on_both: Play, files: Path, tmp_path: Path) -> None:
        authority = trustme.CA()
        pem = str(tmp_path / "site.pem")
        authority.issue_cert("site.example").private_key_and_cert_chain_pem.write_to_path(pem)
        certificate = Certificate(certificate=pem, key=pem)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)

        async def scene(stage: Stage) -> None:
            async with stored(stage, files, scheme="https"):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", stage.edge.ports[1], ssl=trusting, server_hostname="site.example"
                )
                writer.write(request("GET", "/a"))
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(len(WHOLE)) == WHOLE
                writer.close()
                await writer.wait_closed()
                assert (by_kernel(stage), by_hand(stage)) == (0, len(WHOLE))

        play_on_both(
            scene, listen=(Listener(address="127.0.0.1:0"), Listener(address="127.0.0.1:0", tls=(certificate,)))
        )

    def test_where_no_descriptor_is_to_be_had(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files):
                with mock.patch.object(os, "dup", side_effect=OSError(errno.EMFILE, "too many")):
                    assert (await stage.get("/a")).body == WHOLE
                assert (by_kernel(stage), by_hand(stage)) == (0, len(WHOLE))

        play_on_both(scene)

    @pytest.mark.parametrize("calls", [0, 1, 3])
    def test_where_the_file_system_cannot(self, calls: int, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files):
                cannot = sendfile_that(errno.EINVAL, after=calls)
                with mock.patch.object(os, "sendfile", cannot):
                    response = await stage.get("/a")
                assert response.body == WHOLE
                assert by_kernel(stage) + by_hand(stage) == len(WHOLE)
                assert by_hand(stage) > 0

        play_on_both(scene)

    def test_to_who_reads_slowly(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files), stage.client(receive_buffer_bytes=4096) as client:
                with mock.patch.object(sendfile.FileSender, "of", return_value=None):
                    await client.send(request("GET", "/a"))
                    await stalled(stage)
                    assert await all_of(client, len(WHOLE)) == WHOLE
                assert by_kernel(stage) == 0

        play_on_both(scene)


class TestDamage:
    """Not one wrong byte goes out; the next request is a miss, and after it all is well again."""

    @staticmethod
    async def _is_fetched_anew(stage: Stage, damage: str) -> None:
        """Once, by the request that met the damage or, if that broke off, by the next."""
        assert stage.count("banish_body_files_damaged_total", damage) == 1
        await stage.settled()
        assert (await stage.get("/a")).body == WHOLE
        await stage.settled()
        assert (await stage.get("/a")).hit
        assert len(stage.origin.requests) == 2

    @staticmethod
    async def _broken(stage: Stage) -> bytes:
        """What comes of a body that cannot be finished: its beginning; or all of it, from the origin."""
        response = await stage.get("/a")
        assert response.whole != response.hit
        assert WHOLE.startswith(response.body)
        return response.body

    @pytest.mark.parametrize("at", [0, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 17, len(WHOLE) - 1])
    def test_a_flipped_byte(self, at: int, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files) as file:
                with path_of(file).open("r+b") as raw:
                    raw.seek(at)
                    raw.write(bytes([WHOLE[at] ^ 1]))
                got = await self._broken(stage)
                assert len(got) <= at // CHUNK_BYTES * CHUNK_BYTES or len(got) == len(WHOLE)
                await self._is_fetched_anew(stage, "checksum")

        play_on_both(scene)

    @pytest.mark.parametrize("size", [0, 17, CHUNK_BYTES, len(WHOLE) - 1])
    def test_a_file_cut_off(self, size: int, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files) as file:
                os.truncate(path_of(file), size)
                await self._broken(stage)
                await self._is_fetched_anew(stage, "short")

        play_on_both(scene)

    def test_a_file_cut_off_while_it_is_sent(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files) as file, stage.client(receive_buffer_bytes=4096) as client:
                await asyncio.to_thread(file.verify)
                await client.send(request("GET", "/a"))
                await stalled(stage)
                os.truncate(path_of(file), 0)
                assert not (await client.response()).whole
                await self._is_fetched_anew(stage, "short")

        play_on_both(scene)

    def test_a_file_that_has_vanished(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files) as file:
                path_of(file).unlink()
                await self._broken(stage)
                await self._is_fetched_anew(stage, "missing")

        play_on_both(scene)

    def test_a_file_deleted_while_it_is_sent_is_sent_to_its_end(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files) as file, stage.client(receive_buffer_bytes=4096) as client:
                await client.send(request("GET", "/a"))
                await stalled(stage)
                path_of(file).unlink()
                assert await all_of(client, len(WHOLE)) == WHOLE

        play_on_both(scene)

    def test_a_body_that_ends_too_soon_is_not_followed_by_another_answer(self, play: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files), stage.client() as client:
                with (
                    mock.patch.object(FileReader, "span", return_value=None),
                    mock.patch.object(FileReader, "read", return_value=b""),
                ):
                    await client.send(request("GET", "/a") * 2)
                    assert not (await client.response()).whole
            assert stage.count("banish_responses_broken_total", "store") == 1

        play(scene)

    def test_a_disk_that_fails_while_the_kernel_reads(self, play_on_both: Play, files: Path) -> None:
        async def scene(stage: Stage) -> None:
            async with stored(stage, files):
                fails = sendfile_that(errno.EIO, after=2)
                with mock.patch.object(os, "sendfile", fails):
                    assert len(await self._broken(stage)) < len(WHOLE)
                await self._is_fetched_anew(stage, "unreadable")

        play_on_both(scene)


def path_of(file: StoredFile) -> Path:
    return file.files.path(file.gen, file.serial)
