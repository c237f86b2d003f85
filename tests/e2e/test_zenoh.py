"""What the mesh leans on zenoh for, a test each; and the six ways in which it loses messages, and what is told of them.

    subscriber restart   what is published while an edge is down is lost to it: both sides are told of the link
    full queue           the outbox takes no more: `publish_record` says so, and it is counted
    DROP                 an edge that does not read loses what comes, and holds nobody up
    denied               what access rules forbid vanishes: no error on either side; a pull comes back empty at once
    deaf link            a link is told of though nothing comes of it, and opening anew mends it
    partition            TCP delivers what was under way; past the lease the link is told as gone, and comes back

That the log makes up for each of them is shown with whole edges (test_mesh.py) and in the simulation.
"""

import asyncio
import contextlib
import json
import secrets
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from tests.looped import looped
from tests.meshed import ZenohBed, figures, until
from tests.processes import ROOT, environment

from banish.mesh import handover, zenoh_transport
from banish.mesh.authority import Authority
from banish.mesh.invitations import kept
from banish.mesh.members import Member
from banish.mesh.zenoh_config import LEASE_MS, Topology
from banish.mesh.zenoh_transport import ZenohTransport
from banish.tables import Accounts
from banish.testing.link import Link
from banish.testing.transports import Mesh, Node

ANSWER_S = 2.0


def ranked(members: list[Member]) -> list[Member]:
    """The same with ids in the order of the list: each dials those before it."""
    return [msgspec.structs.replace(one, edge=f"{at:016x}") for at, one in enumerate(members, 1)]


@contextlib.asynccontextmanager
async def started(bed: ZenohBed, members: list[Member], *, among: list[Member]) -> AsyncIterator[list[Node]]:
    """Edges for `members`, of a mesh of `among`."""
    nodes = [Node(me, bed.transport(me)) for me in members]
    try:
        for node in nodes:
            await node.start(among)
        yield nodes
    finally:
        for node in nodes:
            await node.transport.stop()


class Peer:
    """A process that is an edge."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.lines.append(line.decode().strip())

    def said(self, line: str) -> Callable[[], bool]:
        return lambda: line in self.lines

    def publish(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self._reading


@contextlib.asynccontextmanager
async def peer(bed: ZenohBed, me: Member, members: list[Member], directory: Path) -> AsyncIterator[Peer]:
    """Run an edge in a process of its own."""
    told = {
        "name": me.name,
        "members": [msgspec.to_builtins(kept(one)) for one in members],
        "topology": bed.topology,
        "credentials": [str(file) for file in files] if (files := bed.credentials(me)) is not None else None,
    }
    file = directory / f"{secrets.token_hex(4)}.json"
    file.write_text(json.dumps(told))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.zenoh_peer",
        str(file),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
    )
    running = Peer(process)
    try:
        yield running
    finally:
        await running.end()


# --- what is leaned on


@looped
async def test_a_full_mesh_delivers_everything_to_everybody() -> None:
    async with Mesh(ZenohBed(None), 6) as mesh:
        for n in range(30):
            for node in mesh.nodes:
                node.transport.publish_record(f"{node.me.name} {n}".encode())
        await until(lambda: all(len(node.records) == 5 * 30 for node in mesh.nodes))
        assert all(len(set(node.records)) == 5 * 30 for node in mesh.nodes), "nothing comes twice"


@pytest.mark.slow
@pytest.mark.parametrize("restarted", [0, 1], ids=["who is dialled", "who dials"])
def test_an_edge_that_was_killed_is_linked_again_and_what_it_missed_is_lost(restarted: int, tmp_path: Path) -> None:
    @looped
    async def run() -> None:
        bed = ZenohBed(tmp_path)
        members = ranked(bed.members(2))
        gone, stays = members[restarted], members[1 - restarted]
        async with started(bed, [stays], among=members) as (node,):
            async with peer(bed, gone, members, tmp_path) as first:
                await until(lambda: gone.edge in node.linked and f"linked {stays.name}" in first.lines)
                first.process.send_signal(signal.SIGKILL)
                await until(lambda: gone.edge not in node.linked)
            node.transport.publish_record(b"meanwhile")
            async with peer(bed, gone, members, tmp_path) as second:
                await until(lambda: gone.edge in node.linked and f"linked {stays.name}" in second.lines)
                node.transport.publish_record(b"afterwards")
                second.publish("i am back")
                await until(lambda: "record afterwards" in second.lines and b"i am back" in node.records)
                assert "record meanwhile" not in second.lines
                assert await node.transport.pull(gone.edge, b"?", ANSWER_S) == [b"from " + gone.name.encode(), b"?"]

    run()


@looped
async def _forges(directory: Path) -> None:
    async with Mesh(ZenohBed(directory), 3) as mesh:
        victim, hearer, forger = mesh.nodes
        opening = transport_of(forger)._opening
        assert opening is not None
        opening.put(f"purge/{victim.me.edge}", b"forged")
        opening.put(f"digest/{victim.me.edge}", b"forged")
        opening.put(f"ack/{hearer.me.edge}/{victim.me.edge}", b"forged")
        for say in (forger.transport.publish_record, forger.transport.publish_digest):
            say(b"own")
        forger.transport.send_ack(hearer.me.edge, b"own")
        await until(lambda: bool(hearer.records and hearer.digests and hearer.acks))
        assert (hearer.records, hearer.digests, hearer.acks) == ([b"own"], [b"own"], [b"own"])


def transport_of(node: Node) -> ZenohTransport:
    assert isinstance(node.transport, ZenohTransport)
    return node.transport


def test_what_an_edge_says_under_another_ones_name_is_dropped(tmp_path: Path) -> None:
    _forges(tmp_path)


def test_a_certificate_of_another_authority_is_not_let_in(tmp_path: Path) -> None:
    @looped
    async def run() -> None:
        bed = ZenohBed(tmp_path)
        members = ranked(bed.members(2))
        async with started(bed, members[:1], among=members) as (node,), door(members[0]) as link:
            bed.authority = Authority.create("another mesh", time.time())
            files = bed.credentials(members[1])
            stranger = ZenohTransport(members[1], credentials=files, reach=through(members[0], link))
            assert files is not None
            other = Node(members[1], stranger)
            await other.start(members)
            await until(lambda: link.dialled >= 2)  # it was turned away, and tries again
            assert not node.told
            assert not other.told
            await stranger.stop()

    run()


def test_a_good_certificate_of_no_member_hears_and_says_nothing(tmp_path: Path) -> None:
    @looped
    async def run() -> None:
        bed = ZenohBed(tmp_path)
        members = ranked(bed.members(3))
        accounts = Accounts()
        node = Node(members[0], bed.transport(members[0], accounts))
        await node.start(members[:2])
        async with started(bed, members[1:], among=members) as (fellow, stranger):
            await until(lambda: fellow.me.edge in node.linked and stranger.linked == {node.me.edge, fellow.me.edge})
            stranger.transport.publish_record(b"let me in")
            node.transport.publish_record(b"secret")
            assert await stranger.transport.pull(node.me.edge, b"all of it", ANSWER_S) == []
            await until(lambda: bool(fellow.records))
            assert not node.records
            assert not node.asked
            assert stranger.records == []
            assert figures(accounts)["banish_mesh_strangers_total"][()] >= 1
        await node.transport.stop()

    run()


def test_an_edge_that_was_forgotten_can_be_told_so_and_nothing_else(tmp_path: Path) -> None:
    @looped
    async def run() -> None:
        bed = ZenohBed(tmp_path)
        members = ranked(bed.members(2))
        stays, gone = members
        transport = ZenohTransport(stays, credentials=bed.credentials(stays), forgotten=lambda: [gone.edge])
        node = Node(stays, transport)
        await node.start([stays])
        async with started(bed, [gone], among=members) as (other,):
            await until(lambda: stays.edge in other.linked)
            other.transport.publish_record(b"purge all")
            other.transport.publish_digest(b"here i am")
            await until(lambda: node.digests == [b"here i am"])
            transport.publish_record(b"secret")
            transport.send_ack(gone.edge, b"you are forgotten")
            await until(lambda: other.acks == [b"you are forgotten"])
            assert (node.records, other.records, other.digests) == ([], [], [])
            assert not node.told
        await transport.stop()

    run()


def test_a_new_certificate_is_shown_once_the_links_are_opened_anew(tmp_path: Path) -> None:
    @looped
    async def run() -> None:
        bed = ZenohBed(tmp_path)
        async with Mesh(bed, 2) as mesh:
            one, other = mesh.nodes
            assert await shown(bed, one.me, other.me) == serial(bed, one.me)
            before = serial(bed, one.me)
            bed.credentials(one.me)  # a new one, in the same files
            assert serial(bed, one.me) != before
            assert await shown(bed, one.me, other.me) == before, "until then the old one is shown"
            await one.transport.reopen()
            assert await shown(bed, one.me, other.me) == serial(bed, one.me)
            await until(lambda: one.me.edge in other.linked and other.me.edge in one.linked)
            one.transport.publish_record(b"still here")
            await until(lambda: bool(other.records))

    run()


def serial(bed: ZenohBed, me: Member) -> int:
    """Of the certificate in the file."""
    assert bed.directory is not None
    return x509.load_pem_x509_certificate((bed.directory / me.edge / "edge.pem").read_bytes()).serial_number


async def shown(bed: ZenohBed, me: Member, to: Member) -> int:
    """Of the certificate that an edge shows to another one."""
    assert bed.directory is not None
    files = bed.directory / to.edge
    context = ssl.create_default_context(cafile=str(files / "ca.pem"))
    context.load_cert_chain(files / "edge.pem", files / "edge.key")
    host, _, port = me.endpoints[0].removeprefix("tls/").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return x509.load_der_x509_certificate(certificate).serial_number


@pytest.mark.slow
def test_a_link_ends_with_the_certificate(tmp_path: Path) -> None:
    @looped
    async def run() -> None:
        bed = ZenohBed(tmp_path)
        members = bed.members(2)
        stays, ends = ranked(members)
        files = bed.credentials(ends)
        assert files is not None
        assert bed.authority is not None
        short = bed.authority.certify(ends.edge, ends.name, ends.endpoints, time.time() - 86400 + 3, days=1)
        files.certificate.write_bytes(short.certificate)
        files.key.write_bytes(short.key)
        other = Node(ends, ZenohTransport(ends, credentials=files))
        async with started(bed, [stays], among=[stays, ends]) as (node,):
            await other.start([stays, ends])
            await until(lambda: ends.edge in node.linked)
            await until(lambda: ends.edge not in node.linked)
            await other.transport.stop()

    run()


@pytest.mark.slow
def test_an_edge_that_is_stopped_holds_up_nobody(tmp_path: Path) -> None:
    @looped
    async def run() -> None:
        bed = ZenohBed(tmp_path)
        members = ranked(bed.members(3))
        accounts = Accounts()
        sender = Node(members[0], bed.transport(members[0], accounts))
        await sender.start(members)
        try:
            async with (
                started(bed, [members[1]], among=members) as (healthy,),
                peer(bed, members[2], members, tmp_path) as stopped,
            ):
                await until(lambda: len(sender.linked) == 2 and len(healthy.linked) == 2)
                sender.transport.publish_record(b"before")
                await until(stopped.said("record before"))
                stopped.process.send_signal(signal.SIGSTOP)
                count = 4000
                for n in range(count):  # 16 MB: more than sockets and queues of that link hold
                    sender.transport.publish_record(b"%d".ljust(4096, b"\0") % n)
                    if n % 50 == 0:
                        await asyncio.sleep(0.02)
                await sends_until(sender, b"through", lambda: b"through" in healthy.records)
                blocked_s = figures(accounts)["banish_mesh_put_seconds_max"][()]
                assert blocked_s < LEASE_MS / 1000, "it waited until the stopped one was given up"
                stopped.process.send_signal(signal.SIGCONT)
                await until(lambda: members[2].edge in sender.linked)
                await sends_until(sender, b"afterwards", stopped.said("record afterwards"))
                heard = sum(line.startswith("record") for line in stopped.lines)
                assert heard < count, "what it could not take is lost to it, unsaid"
        finally:
            await sender.transport.stop()

    run()


async def sends_until(node: Node, data: bytes, heard: Callable[[], bool]) -> None:
    """Publish it again and again, as digests are, until it is heard."""
    async with asyncio.timeout(60):
        while not heard():
            node.transport.publish_record(data)
            await asyncio.sleep(0.1)


# --- what is lost, and what is told of it


@looped
async def test_past_its_bound_the_outbox_says_so_and_counts() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handover, "OUTBOX_MAX", 5)
        bed = ZenohBed(None)
        members = bed.members(1)
        accounts = Accounts()
        node = Node(members[0], bed.transport(members[0], accounts))
        await node.start(members)
        outbox = transport_of(node)._outbox
        assert outbox.hold(ANSWER_S)
        assert [node.transport.publish_record(b"x") for _ in range(7)] == [True] * 5 + [False] * 2
        counted = figures(accounts)
        assert counted["banish_mesh_dropped_total"][("out",)] == 2
        assert counted["banish_mesh_waiting"][("out",)] == 5
        outbox.release()
        await until(lambda: figures(accounts)["banish_mesh_waiting"][("out",)] == 0)
        await node.transport.stop()


@pytest.mark.parametrize("both", [False, True], ids=["one dials", "both dial"])
@looped
async def test_whoever_is_dialled_by_nobody_dials(both: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zenoh_transport, "LONELY_S", 0.1)
        bed = ZenohBed(None)
        members = ranked(bed.members(2))
        accounts = [Accounts(), Accounts()]
        nodes = [Node(me, bed.transport(me, books)) for me, books in zip(members, accounts, strict=True)]
        await nodes[0].start(members)  # it would wait to be dialled
        if both:
            await until(lambda: figures(accounts[0])["banish_mesh_reopened_total"].get(("lonely",)) == 1)
            await nodes[1].start(members)
        else:
            await nodes[1].start(members[1:])  # it does not know the other, and does not dial it
        await until(lambda: bool(nodes[0].linked))
        if both:
            await until(lambda: bool(nodes[1].linked))
            for node in nodes:
                node.transport.publish_record(b"once")
                node.transport.publish_digest(b"behind it")
            await until(lambda: all(node.digests for node in nodes))
            assert [node.records for node in nodes] == [[b"once"], [b"once"]]
        for node in nodes:
            await node.transport.stop()


@pytest.mark.slow
def test_a_deaf_link_is_told_of_and_opening_anew_mends_it(tmp_path: Path) -> None:
    @looped
    async def run() -> None:
        bed = ZenohBed(tmp_path)
        members = ranked(bed.members(2))
        async with (
            started(bed, members[:1], among=members[:1]) as (deaf,),
            started(bed, members[1:], among=members) as (node,),
        ):
            await until(lambda: node.linked == {deaf.me.edge})  # there is a link, and nothing comes of it
            assert not deaf.linked
            await deaf.transport.reform(members)
            await until(lambda: (deaf.me.edge, False) in node.told)
            await node.transport.reopen()
            await until(lambda: bool(node.linked and deaf.linked))
            deaf.transport.publish_record(b"at last")
            await until(lambda: node.records == [b"at last"])

    run()


@contextlib.asynccontextmanager
async def door(member: Member) -> AsyncIterator["Door"]:
    """A way to a member that can be parted."""
    port = int(member.endpoints[0].rpartition(":")[2])
    async with Door(("127.0.0.1", port)) as link:
        yield link


class Door(Link):
    """Counts who comes."""

    dialled = 0

    def _connected(self, *ends: Any) -> None:
        self.dialled += 1
        super()._connected(*ends)


def through(member: Member, link: Link) -> dict[str, tuple[str, ...]]:
    protocol = member.endpoints[0].partition("/")[0]
    return {member.name: (f"{protocol}/127.0.0.1:{link.port}",)}


@pytest.mark.slow
@pytest.mark.parametrize("long", [False, True], ids=["short", "past the lease"])
def test_a_partition(long: bool, tmp_path: Path) -> None:
    @looped
    async def run() -> None:
        bed = ZenohBed(tmp_path)
        members = ranked(bed.members(2))
        async with started(bed, members[:1], among=members) as (one,), door(members[0]) as link:
            reach = through(members[0], link)
            other = Node(members[1], ZenohTransport(members[1], credentials=bed.credentials(members[1]), reach=reach))
            await other.start(members)
            await until(lambda: bool(one.linked and other.linked))
            link.part()
            one.transport.publish_record(b"under way")
            if long:
                await until(lambda: not one.linked and not other.linked)
                link.break_off()
            link.heal()
            await until(lambda: bool(one.linked and other.linked))
            one.transport.publish_record(b"afterwards")
            await until(lambda: b"afterwards" in other.records)
            assert other.records == ([b"afterwards"] if long else [b"under way", b"afterwards"])
            assert one.told.count((other.me.edge, False)) == int(long)
            await other.transport.stop()

    run()


# --- relays


@contextlib.asynccontextmanager
async def relayed(bed: ZenohBed, count: int) -> AsyncIterator[tuple[list[Node], list[Node], dict[str, Accounts]]]:
    """Two relays and so many others, all of whom hear each other."""
    members = [bed.member(f"relay-{at}", relay=True) for at in range(2)]
    members += [bed.member(f"edge-{at}", listens=False) for at in range(count)]
    accounts = {one.name: Accounts() for one in members}
    nodes = [Node(one, bed.transport(one, accounts[one.name])) for one in members]
    try:
        for node in nodes:
            await node.start(members)
        await until(lambda: all(len(node.linked) == count + 1 for node in nodes[:2]))
        await until(lambda: all(len(node.linked) == 2 for node in nodes[2:]))
        yield nodes[:2], nodes[2:], accounts
    finally:
        for node in nodes:
            await node.transport.stop()


@pytest.mark.parametrize("secured", [False, True], ids=["tcp", "tls"])
def test_relays_pass_on_everything_to_everybody_once(secured: bool, tmp_path: Path) -> None:
    @looped
    async def run() -> None:
        async with relayed(ZenohBed(tmp_path if secured else None, Topology.RELAY), 4) as (relays, others, accounts):
            nodes = [*relays, *others]
            for n in range(20):
                for node in nodes:
                    node.transport.publish_record(f"{node.me.name} {n}".encode())
            await until(lambda: all(len(node.records) == 5 * 20 for node in nodes))
            assert all(len(set(node.records)) == 5 * 20 for node in nodes), "what comes twice is told once"
            await until(lambda: figures(accounts["edge-0"])["banish_mesh_doubled_total"][()] >= 3 * 20)
            for one in nodes:
                one.parts = (one.me.name.encode(), b"more")
            for one in nodes:
                for other in nodes:
                    if one is not other:
                        answer = await one.transport.pull(other.me.edge, b"?", ANSWER_S)
                        assert answer == [other.me.name.encode(), b"more"]
            others[0].transport.send_ack(others[1].me.edge, b"for one")
            others[0].transport.publish_digest(b"for all")
            await until(lambda: all(node.digests for node in nodes if node is not others[0]))
            await until(lambda: others[1].acks == [b"for one"])
            assert not any(node.acks for node in nodes if node is not others[1])

    run()


def test_a_relay_drops_what_an_edge_says_under_another_ones_name(tmp_path: Path) -> None:
    @looped
    async def run() -> None:
        async with relayed(ZenohBed(tmp_path, Topology.RELAY), 3) as (relays, (victim, hearer, forger), _):
            opening = transport_of(forger)._opening
            assert opening is not None
            opening.put(f"purge/{victim.me.edge}", b"forged")
            forger.transport.publish_record(b"own")
            await until(lambda: all(node.records for node in (*relays, victim, hearer)))
            assert [node.records for node in (*relays, victim, hearer)] == [[b"own"]] * 4

    run()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_nothing_is_lost_with_a_relay(how: signal.Signals, tmp_path: Path) -> None:
    @looped
    async def run() -> None:
        bed = ZenohBed(tmp_path, Topology.RELAY)
        members = [bed.member(f"relay-{at}", relay=True) for at in range(2)]
        members += [bed.member(f"edge-{at}", listens=False) for at in range(3)]
        async with (
            peer(bed, members[0], members, tmp_path) as relay,
            started(bed, members[1:], among=members) as (_, *others),
        ):
            await until(lambda: all(len(node.linked) == 2 for node in others))
            for n in range(500):
                others[0].transport.publish_record(b"%d" % n)
                if n == 100:
                    relay.process.send_signal(how)
                await asyncio.sleep(0.002)
            for node in others[1:]:
                await until(lambda node=node: len(set(node.records)) == 500)  # type: ignore[misc]

    run()
