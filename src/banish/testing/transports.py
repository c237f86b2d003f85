"""What any transport has to do: one body of checks, run on each of them.

    class Zenoh(Bed): …                          # makes transports of one mesh, and lets time pass
    @pytest.mark.parametrize("check", CHECKS)
    def test_it_is_a_transport(check): asyncio.run(check(Zenoh()))

A transport may lose, double, delay and reorder; over a network where nothing goes wrong, and once an edge was told of
a link, it does none of that but double. That is what is checked here, and that what cannot be done ends.

Not here: what a transport does of its own when things go wrong (its own tests).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from banish.mesh.members import Member
from banish.mesh.transport import Receiver, Transport

ASK_S = 5.0


class Bed(Protocol):
    """Makes transports of one mesh, and lets time pass."""

    def members(self, count: int) -> Sequence[Member]:
        """So many, of whom each has an endpoint of its own."""
        ...

    def transport(self, me: Member) -> Transport:
        """One that is not started."""
        ...

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until it holds. Raises TimeoutError if that takes too long."""
        ...


class Node:
    """An edge that remembers what it hears, and answers what it is told to."""

    def __init__(self, me: Member, transport: Transport) -> None:
        self.me = me
        self.transport = transport
        self.records: list[bytes] = []
        self.digests: list[bytes] = []
        self.acks: list[bytes] = []
        self.linked: set[str] = set()
        self.told: list[tuple[str, bool]] = []
        self.asked: list[bytes] = []
        self.parts: tuple[bytes, ...] | Exception = ()
        """What it answers to whoever pulls."""

    async def start(self, members: Sequence[Member]) -> None:
        """Take part."""
        await self.transport.start(members, self.receiver)

    @property
    def receiver(self) -> Receiver:
        """Its ears."""
        return Receiver(
            on_record=self.records.append,
            on_digest=self.digests.append,
            on_ack=self.acks.append,
            on_link=self._on_link,
            on_pull=self._on_pull,
            on_counts=self._on_counts,
        )

    def _on_link(self, edge: str, up: bool) -> None:
        self.told.append((edge, up))
        (self.linked.add if up else self.linked.discard)(edge)

    async def _on_pull(self, data: bytes) -> Sequence[bytes]:
        self.asked.append(data)
        if isinstance(self.parts, Exception):
            raise self.parts
        return self.parts

    async def _on_counts(self, data: bytes) -> bytes:
        self.asked.append(data)
        return b"counts of " + data


class Mesh:
    """Edges that were all started, and hear each other. As a context: all are stopped at its end."""

    def __init__(self, bed: Bed, count: int) -> None:
        self.bed = bed
        self.members = tuple(bed.members(count))
        self.nodes = [Node(me, bed.transport(me)) for me in self.members]

    async def __aenter__(self) -> "Mesh":
        for node in self.nodes:
            await node.start(self.members)
        await self.bed.until(lambda: all(len(node.linked) == len(self.nodes) - 1 for node in self.nodes))
        return self

    async def __aexit__(self, *error: object) -> None:
        for node in self.nodes:
            await node.transport.stop()


async def check_records_reach_all_others_in_order(bed: Bed) -> None:
    """What one edge publishes, all others hear, in order; it does not hear itself."""
    async with Mesh(bed, 3) as mesh:
        sent = {node.me.edge: [f"{node.me.edge}:{n}".encode() for n in range(100)] for node in mesh.nodes}
        for n in range(100):
            for node in mesh.nodes:
                assert node.transport.publish_record(sent[node.me.edge][n])
        await bed.until(lambda: all(len(set(node.records)) == 200 for node in mesh.nodes))
        for node in mesh.nodes:
            heard = list(dict.fromkeys(node.records))
            for other in mesh.nodes:
                if other is not node:
                    assert [one for one in heard if one.startswith(other.me.edge.encode())] == sent[other.me.edge]


async def check_digests_are_told_from_records(bed: Bed) -> None:
    """Each kind comes to its own ear; a digest does not overtake the records that were published before it."""
    async with Mesh(bed, 2) as mesh:
        speaker, hearer = mesh.nodes
        for n in range(50):
            speaker.transport.publish_record(b"record %d" % n)
        speaker.transport.publish_digest(b"digest")
        await bed.until(lambda: bool(hearer.digests))
        assert set(hearer.digests) == {b"digest"}
        assert len(set(hearer.records)) == 50


async def check_an_ack_reaches_the_one_it_is_for(bed: Bed) -> None:
    """And nobody else."""
    async with Mesh(bed, 3) as mesh:
        one, other, third = mesh.nodes
        assert one.transport.send_ack(other.me.edge, b"ack")
        assert one.transport.publish_digest(b"after it")
        await bed.until(lambda: bool(other.acks and other.digests and third.digests))
        assert set(other.acks) == {b"ack"}
        assert not third.acks
        assert not one.acks


async def check_an_answer_has_all_its_parts(bed: Bed) -> None:
    """In order; several questions at once do not get in each other's way."""
    async with Mesh(bed, 3) as mesh:
        one, other, third = mesh.nodes
        other.parts = tuple(b"%d " % n + bytes(1000) for n in range(100))
        third.parts = (b"single",)
        assert tuple(await one.transport.pull(other.me.edge, b"what", ASK_S)) == other.parts
        assert tuple(await one.transport.pull(third.me.edge, b"else", ASK_S)) == third.parts
        assert other.asked == [b"what"]
        assert await one.transport.counts(other.me.edge, b"id", ASK_S) == b"counts of id"


async def check_no_answer_ends(bed: Bed) -> None:
    """A handler that fails, one that has nothing, an edge that is not there: no parts, in time."""
    async with Mesh(bed, 2) as mesh:
        one, other = mesh.nodes
        other.parts = ValueError("no")
        assert await one.transport.pull(other.me.edge, b"what", ASK_S) == []
        other.parts = ()
        assert await one.transport.pull(other.me.edge, b"what", ASK_S) == []
        assert await one.transport.pull("0" * 15 + "f", b"what", ASK_S) == []
        assert await one.transport.counts("0" * 15 + "f", b"what", ASK_S) is None


async def check_links_are_told(bed: Bed) -> None:
    """Of each member, up and down by turns."""
    async with Mesh(bed, 3) as mesh:
        one, other, third = mesh.nodes
        await third.transport.stop()
        await bed.until(lambda: third.me.edge not in one.linked | other.linked)
        assert one.told.count((third.me.edge, False)) == 1
        assert other.me.edge in one.linked


async def check_what_is_published_as_soon_as_a_link_is_told_arrives(bed: Bed) -> None:
    """So the digest that is said at a link event is worth saying."""
    async with Mesh(bed, 2) as mesh:
        one, me = mesh.nodes[0], mesh.members[1]
        for _ in range(3):
            await mesh.nodes[1].transport.stop()
            await bed.until(lambda: me.edge not in one.linked)
            mesh.nodes[1] = Node(me, bed.transport(me))
            greeted = _greets(one, me.edge, b"hello")
            await mesh.nodes[1].start(mesh.members)
            await bed.until(lambda: bool(mesh.nodes[1].digests))
            assert greeted == [me.edge]


def _greets(node: Node, edge: str, data: bytes) -> list[str]:
    """Have a digest published in the step in which a link is told."""
    greeted: list[str] = []

    class Linked(set[str]):
        def add(self, told: str) -> None:
            super().add(told)
            if told == edge and not greeted:
                greeted.append(told)
                node.transport.publish_digest(data)

    node.linked = Linked(node.linked)
    return greeted


async def check_a_newcomer_is_admitted(bed: Bed) -> None:
    """Once it belongs on both sides, both hear each other."""
    members = bed.members(3)
    nodes = [Node(me, bed.transport(me)) for me in members]
    try:
        for node in nodes[:2]:
            await node.start(members[:2])
        await bed.until(lambda: all(len(node.linked) == 1 for node in nodes[:2]))
        await nodes[2].start(members)
        for node in nodes[:2]:
            await node.transport.reform(members)
        await bed.until(lambda: all(len(node.linked) == 2 for node in nodes))
        nodes[2].transport.publish_record(b"hello")
        nodes[0].transport.publish_record(b"welcome")
        await bed.until(lambda: all(node.records for node in nodes))
    finally:
        for node in nodes:
            await node.transport.stop()


async def check_a_forgotten_edge_is_not_heard(bed: Bed) -> None:
    """By those that have forgotten it; nor does it hear them."""
    async with Mesh(bed, 3) as mesh:
        one, other, gone = mesh.nodes
        for node in (one, other):
            await node.transport.reform(mesh.members[:2])
        await bed.until(lambda: one.linked == {other.me.edge} and other.linked == {one.me.edge})
        gone.transport.publish_record(b"forged")
        one.transport.publish_record(b"secret")
        await bed.until(lambda: bool(other.records))
        assert set(other.records) == {b"secret"}
        assert not one.records
        assert not gone.records
        assert await gone.transport.pull(one.me.edge, b"all", 0.5) == []
        assert not one.asked


async def check_it_opens_anew(bed: Bed) -> None:
    """All links end and come back; what is published meanwhile arrives."""
    async with Mesh(bed, 3) as mesh:
        one = mesh.nodes[1]
        before = one.linked.copy()
        reopening = one.transport.reopen()
        one.transport.publish_record(b"meanwhile")
        await reopening
        one.transport.publish_record(b"after")
        others = [node for node in mesh.nodes if node is not one]
        await bed.until(lambda: all({b"meanwhile", b"after"} <= set(node.records) for node in others))
        assert one.linked == before


async def check_a_stop_can_be_repeated_and_says_the_last_word(bed: Bed) -> None:
    """What was published before it arrives; afterwards nothing is taken."""
    async with Mesh(bed, 2) as mesh:
        one, other = mesh.nodes
        one.transport.publish_digest(b"goodbye")
        await one.transport.stop()
        await one.transport.stop()
        await bed.until(lambda: bool(other.digests))
        assert not one.transport.publish_record(b"late")
        assert await one.transport.pull(other.me.edge, b"late", ASK_S) == []


CHECKS = (
    check_records_reach_all_others_in_order,
    check_digests_are_told_from_records,
    check_an_ack_reaches_the_one_it_is_for,
    check_an_answer_has_all_its_parts,
    check_no_answer_ends,
    check_links_are_told,
    check_what_is_published_as_soon_as_a_link_is_told_arrives,
    check_a_newcomer_is_admitted,
    check_a_forgotten_edge_is_not_heard,
    check_it_opens_anew,
    check_a_stop_can_be_repeated_and_says_the_last_word,
)
