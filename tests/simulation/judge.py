"""The judge: what must hold at every step of a simulated mesh, and what must come about once its faults have ended.

    at each step      no record comes into effect twice in one start; what an edge says it holds is logged or covered
                      there, and that never goes back; no epoch folds over something that others hold
    at each answer    nothing that a purge in effect here matched; if the edge says that it is not behind, nothing that
                      any purge matched, of an edge that counts here, that was acknowledged longer ago than a lease
    at each crash     what was acknowledged is in the log of its issuer
    receipts          who is said to have applied a purge has it on its disk
    in the end        everybody who belongs holds all that anybody does, knows the same members, and is not behind

Not here: how it comes about (`world.py`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from banish.mesh.frontier import Stream, fold_of, is_fold, start_of
from banish.mesh.replica import Stage, Standing
from banish.purge.positions import Position
from tests.simulation.disk import Disk, Stored
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

SLACK_S = 0.05
"""Clocks run at rates that differ by a ten-thousandth."""


class Wrong(AssertionError):
    """Something that must hold does not."""


@dataclass
class Purge:
    """A purge, as its caller knows it."""

    tag: str
    """Empty: it purges everything elsewhere, or nothing at all."""
    issued_at: float
    acknowledged_at: float = float("inf")


class Judge:
    """Watches one world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.purges: dict[Position, Purge] = {}
        self.confirmed: list[Position] = []
        """Those that were acknowledged."""
        self.answers = self.judged = 0
        self._by_tag: dict[str, list[tuple[Position, Purge]]] = {}
        self._marks: dict[Process, dict[Stream, int]] = {}

    # --- what callers know

    def issued(self, position: Position, tag: str, at: float) -> None:
        """A record was issued; its purge of a tag, if it is one, is not acknowledged yet."""
        purge = self.purges[position] = Purge(tag, at)
        if tag:
            self._by_tag.setdefault(tag, []).append((position, purge))

    def acknowledged(self, position: Position) -> None:
        """Its caller was told that it is done here."""
        self.purges[position].acknowledged_at = self.world.now
        self.confirmed.append(position)

    # --- at each step

    def applies(self, process: Process, position: Position) -> None:
        """A record is put into effect."""
        if self.world.disks[position.edge].restored:
            return  # what folds say of an edge that counts its starts anew is not believed: it is pulled again
        if position in process.applied and position not in process.disk.log:
            raise Wrong(f"{process.name} applies {position} twice")
        if position in process.applied and not process.disk.restored:
            raise Wrong(f"{process.name} applies {position}, which it has logged")

    def look(self, process: Process) -> None:
        """A process has done something."""
        before = self._marks.setdefault(process, {})
        truth = process.disk.truth
        marks = process.replica.held.marks
        for stream, mark in marks.items():
            if mark == before.get(stream):
                continue
            if mark < before.get(stream, 0):
                raise Wrong(f"{process.name} held {stream} up to {before[stream]}, and now {mark}")
            before[stream] = mark
            if is_fold(stream):
                self._folds(process, stream)
            elif mark > truth.mark(stream):
                raise Wrong(f"{process.name} says it holds {stream} up to {mark}, and does up to {truth.mark(stream)}")
        if len(before) > len(marks):
            for stream in [stream for stream in before if stream not in marks]:
                if not process.replica.held.is_folded(stream) and fold_of(stream[0], 0) != stream:
                    raise Wrong(f"{process.name} has lost its mark of {stream}")
                del before[stream]

    def _folds(self, process: Process, fold: Stream) -> None:
        """Nothing may fold of which somebody who counts has more than this edge."""
        if self.world.disks[fold[0]].restored:
            return  # it counts its starts anew: the epoch that it runs in is opened once it is heard
        if process.disk.restored or process.replica.members.is_forgotten(fold[0]):
            return  # of one that is forgotten more may turn up: then the fold is opened again
        for disk in (disk for disk in self.world.member_disks() if disk.edge in process.replica.counted):
            for stream, mark in disk.truth.marks.items():
                folded = stream[0] == fold[0] and not is_fold(stream) and start_of(stream) <= start_of(fold)
                if folded and mark > process.disk.truth.mark(stream) and self._matters(process, stream, mark):
                    raise Wrong(f"{process.name} folds {stream} and lacks what {disk.edge} holds of it, up to {mark}")

    def _matters(self, process: Process, stream: Stream, mark: int) -> bool:
        """Whether something of a stream was issued after this edge had come to the mesh."""
        purge = self.purges.get(Position(*stream, mark))
        return mark > 0 and (purge is None or purge.issued_at > process.disk.born)

    # --- at each answer

    def serves(self, process: Process, stored: Stored) -> None:
        """A client is answered from what is stored."""
        self.answers += 1
        vouches = process.replica.stage is Stage.CAUGHT_UP and not process.replica.behind(process.now)
        self.judged += vouches
        for tag in stored.names.tags:
            for position, purge in reversed(self._by_tag.get(tag, [])):
                if purge.issued_at <= stored.fetched_at:
                    break
                if position in process.applied:
                    raise Wrong(f"{process.name} answers from what {position} has purged here")
                if vouches and self._is_late(process, position, purge):
                    raise Wrong(
                        f"{process.name} says that it is not behind, and answers from what {position} purged: "
                        f"acknowledged {self.world.now - purge.acknowledged_at:.2f} s ago"
                    )

    def _is_late(self, process: Process, position: Position, purge: Purge) -> bool:
        if position.edge != process.disk.edge:
            since = process.counted_since.get(position.edge)
            if since is None or self.world.is_undone(position):
                return False
        else:
            since = 0.0
            if position.epoch != process.epoch:
                return False  # its own, of before: lost with its disk, and others have it or nobody
        return self.world.now > max(purge.acknowledged_at, since) + self.world.settings.lease_s + SLACK_S

    # --- crashes and receipts

    def crashed(self, disk: Disk) -> None:
        """What was acknowledged is on the disk."""
        for position, purge in self.purges.items():
            if position.edge == disk.edge and purge.acknowledged_at <= self.world.now and not disk.restored:
                trimmed = disk.trimmed.get((position.edge, position.epoch), 0)
                if position not in disk.log and position.seq > trimmed:
                    raise Wrong(f"{position} was acknowledged, and is not in the log of its issuer")

    def receipts(self, process: Process, position: Position) -> None:
        """Who is said to have applied a purge has it on its disk. Of one who was forgotten, folds vouch for what others
        held of it when they were made, and nobody asks.
        """
        if process.replica.members.is_forgotten(position.edge):
            return
        for receipt in process.replica.receipts(position, process.now):
            disk = self.world.disks.get(receipt.edge)
            issuer = self.world.disks[position.edge]
            if disk is None or disk.restored or issuer.restored or issuer.edge in self.world.forgotten:
                continue
            if receipt.standing in (Standing.APPLIED, Standing.SWEPT) and not disk.truth.has(position):
                raise Wrong(f"{process.name} has a receipt of {receipt.edge} for {position}, which it lacks")
        if self.world.disks[position.edge].edge in self.world.forgotten:
            return
        copies = sum(disk.truth.has(position) for disk in self.world.disks.values())
        if process.replica.copies(position) > copies and not any(d.restored for d in self.world.disks.values()):
            raise Wrong(f"{process.name} counts {process.replica.copies(position)} copies of {position}, not {copies}")

    # --- in the end

    def end(self) -> None:
        """All faults have ended a while ago."""
        self.world.agree_who_is_forgotten()
        if self.world.is_torn():
            return
        living = self.world.members()
        for process in living:
            self._settled(process, len(living))
        for one in living:
            for other in living:
                self._same(one, other)
        for process in self.world.processes.values():
            if process.alive and process.disk.edge in self.world.forgotten and process.replica.stage.over is False:
                raise Wrong(f"{process.name} was forgotten, and does not know it")

    def _settled(self, process: Process, count: int) -> None:
        replica = process.replica
        if replica.stage is not Stage.CAUGHT_UP:
            raise Wrong(f"{process.name} is {replica.stage} in the end")
        if replica.behind(process.now):
            known = replica._known
            silent = [edge for edge, until in known.heard._until.items() if until <= process.now]
            raise Wrong(f"{process.name} is behind in the end: missing {list(known.gaps.streams)}, silent {silent}")
        if not all(replica.held.mark(stream) >= mark for stream, mark in replica._known.received.marks.items()):
            raise Wrong(f"{process.name} has something in effect in the end that is not logged")
        if len(replica.counted) != len(self.world.members()) - 1:
            raise Wrong(f"{process.name} counts {len(replica.counted)} others in the end, of {count - 1}")
        streams = len(replica.held.marks)
        all_count = len(replica.counted) == len(replica.members) - 1
        if all_count and streams > 2 * (count + len(self.world.forgotten)) + 2:
            raise Wrong(f"{process.name} tells of {streams} streams in the end: nothing folds")

    def _same(self, one: Process, other: Process) -> None:
        logged: dict[Stream, int] = {}
        for position in other.disk.log:
            stream = position.edge, position.epoch
            if position.seq <= other.disk.truth.mark(stream):
                logged[stream] = max(position.seq, logged.get(stream, 0))
        for stream, mark in logged.items():
            if not self._matters(one, stream, mark):
                continue
            if one.disk.truth.mark(stream) < mark:
                mine = one.disk.truth.mark(stream)
                raise Wrong(f"{one.name} lacks {stream} from {mine + 1} on, {other.name} holds it up to {mark}")
        if one.replica.members.version != other.replica.members.version:
            raise Wrong(f"{one.name} and {other.name} know other members in the end")
