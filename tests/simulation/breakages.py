"""Breakages: guarantees taken out of the core one at a time, each of which the simulator must find.

Not here: looking for them (`test_breakages.py`, `run.py --break NAME`).
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest.mock import patch

from banish.mesh import hearing
from banish.mesh.catchup import CatchUp
from banish.mesh.frontier import Frontier
from banish.mesh.gaps import Gaps
from banish.mesh.heard import Heard
from banish.mesh.intake import Intake
from banish.mesh.knowledge import Knowledge
from banish.mesh.peers import Peer
from banish.mesh.pulling import Pulling
from banish.mesh.replica import Replica
from banish.purge.records import read_header
from tests.simulation.process import Process

Change = Callable[[], Iterator[None]]


class Breakage(NamedTuple):
    """One guarantee taken out while `broken` holds."""

    broken: Callable[[], contextlib.AbstractContextManager[None]]
    seed: int
    """One that found it once: where to begin looking."""


BREAKAGES: dict[str, Breakage] = {}


def breakage(seed: int = 0) -> Callable[[Change], Change]:
    """Enter a breakage under its name, which says what it does."""

    def entered(change: Change) -> Change:
        name = change.__name__.strip("_").replace("_", "-")
        BREAKAGES[name] = Breakage(contextlib.contextmanager(change), seed)
        return change

    return entered


@contextlib.contextmanager
def _instead(owner: Any, name: str, value: Any) -> Iterator[None]:
    with patch.object(owner, name, value):
        yield


@breakage()
def _records_are_taken_as_often_as_they_come() -> Iterator[None]:
    """Rule 20: once."""
    with _instead(Intake, "_is_double", lambda *_: False):
        yield


@breakage()
def _nobody_asks_for_what_is_missing() -> Iterator[None]:
    """Guarantee 3: every edge applies every purge."""
    with _instead(Pulling, "ask", lambda self, unlogged, now: []):
        yield


@breakage(80)
def _gaps_do_not_count_as_being_behind() -> Iterator[None]:
    """Rule 22: behind is also who has an old gap."""
    with _instead(Gaps, "oldest", property(lambda self: float("inf"))):
        yield


@breakage()
def _silence_does_not_count_as_being_behind() -> Iterator[None]:
    """Rule 22: behind is who has not heard a member within the lease."""
    with _instead(Heard, "earliest", property(lambda self: float("inf"))):
        yield


@breakage(33)
def _whatever_arrives_counts_as_heard() -> Iterator[None]:
    """Rule 22: heard is what echoes a digest of ours sent less than a lease ago."""
    take_digest = Replica._take_digest

    def broken(self: Replica, peer: Any, digest: Any, now: float) -> None:
        take_digest(self, peer, digest, now)
        self._known.heard.echoed(peer.edge, now + self.settings.lease_s)

    with _instead(Replica, "_take_digest", broken):
        yield


@breakage()
def _digests_say_nothing_of_what_was_issued() -> Iterator[None]:
    """A lost last record is noticed by the next digest; until then its issuer does not count as heard."""

    with _instead(hearing, "learn", lambda *_: None):
        yield


@breakage()
def _what_is_in_effect_counts_as_held() -> Iterator[None]:
    """Others are told of what is durable."""
    apply = Intake._apply

    def broken(self: Intake, records: Any, now: float) -> Any:
        effects = apply(self, records, now)
        for header, _ in records:
            self._known.held.add(header.position)
        return effects

    with _instead(Intake, "_apply", broken):
        yield


@breakage()
def _the_frontier_is_not_kept_with_the_log() -> Iterator[None]:
    """A start knows what is in its log."""
    logged = Process._logged

    def broken(self: Process, *args: Any) -> None:
        kept = self.disk.frontier.copy()
        logged(self, *args)
        self.disk.frontier = kept

    with _instead(Process, "_logged", broken):
        yield


@breakage(7)
def _the_frontier_is_kept_before_the_log() -> Iterator[None]:
    """What a frontier says is in the log, or was."""
    apply = Process._apply

    def broken(self: Process, data: bytes) -> None:
        self.disk.frontier.add(read_header(data).position)
        apply(self, data)

    with _instead(Process, "_apply", broken):
        yield


@breakage(6)
def _a_start_serves_before_it_has_caught_up() -> Iterator[None]:
    """Rule 23: caught up is who has reached what others had; a start that has heard nobody is behind."""
    init = Knowledge._noted

    def broken(self: Knowledge, stream: Any, until: float) -> None:
        init(self, stream, max(until, 1e9))

    with _instead(CatchUp, "reached", lambda *_: True), _instead(Knowledge, "_noted", broken):
        yield


@breakage(300)
def _too_old_adopts_without_purging() -> Iterator[None]:
    """Rule 24: everything is purged in the place of what is nowhere any more."""

    def broken(self: Process, effect: Any) -> None:
        self._hold(effect.marks)
        self.do(self.replica.covered(effect.why, effect.marks, self.now))

    with _instead(Process, "_cover", broken):
        yield


@breakage()
def _epochs_fold_before_others_have_them() -> Iterator[None]:
    """Rule 1: an ended epoch folds when all members have confirmed its end."""
    with _instead(Knowledge, "is_complete", lambda *_: True), _instead(Peer, "held", lambda *_: 1 << 62):
        yield


@breakage()
def _nothing_folds() -> Iterator[None]:
    """Rule 1: what is told does not grow with each restart."""
    with _instead(Frontier, "fold", lambda *_: None):
        yield


@breakage()
def _the_end_of_the_epoch_before_is_not_looked_at() -> Iterator[None]:
    """Rule 1: the first record of an epoch states where the last one ended; and so do digests."""
    with _instead(Intake, "_opened", lambda *_: None):
        yield


@breakage(6)
def _purges_are_acknowledged_before_they_are_durable() -> Iterator[None]:
    """Guarantee 2: an acknowledged purge is on disk."""
    issue = Process._issue

    def broken(self: Process, *args: Any, **more: Any) -> Any:
        position = issue(self, *args, **more)
        self.world.judge.acknowledged(position)
        return position

    with _instead(Process, "_issue", broken):
        yield


@breakage(10)
def _forgotten_edges_are_not_told() -> Iterator[None]:
    """Rule 25: a forgotten edge learns it at contact."""
    with _instead(Replica, "_from_no_member", lambda *_: []):
        yield
