"""How messages travel: the seam between the mesh and what carries it.

Two implementations: `zenoh_transport.py`, over the network; `testing/network.py`, in one process, with any fault drawn
from a seed. A transport may lose, double, delay and reorder whatever it is given; it never changes it unnoticed
(everything is signed), and never blocks whoever calls it.

Not here: what is said and when (`replica.py`).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from banish.mesh.members import Member


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who is told. All are called on the event loop, in the order in which things arrived from each edge."""

    on_record: Callable[[bytes], None]
    """A record was published."""
    on_digest: Callable[[bytes], None]
    on_ack: Callable[[bytes], None]
    on_link: Callable[[str, bool], None]
    """A link with the edge of this id has come up, or gone down."""
    on_pull: Callable[[bytes], Awaitable[Sequence[bytes]]]
    """Somebody asks: the parts of the answer. An exception is no answer, and counted."""
    on_counts: Callable[[bytes], Awaitable[bytes]]
    """The same for what a purge matched here."""


class Transport(Protocol):
    """Carries messages between the members of a mesh."""

    async def start(self, members: Sequence[Member], receiver: Receiver) -> None:
        """Listen and dial. Raises ConfigError (an address that cannot be had, a certificate that does not fit)."""
        ...

    async def stop(self) -> None:
        """End all links. Bounded, whatever a peer does."""
        ...

    async def reform(self, members: Sequence[Member]) -> None:
        """Others belong now: dial and admit those alone. Links may break off and come back; nothing is said twice."""
        ...

    def publish_record(self, data: bytes) -> bool:
        """Send a record of this edge's own to all. False: too much waits, and it is dropped (and counted)."""
        ...

    def publish_digest(self, data: bytes) -> bool:
        """The same for a digest."""
        ...

    def send_ack(self, edge: str, data: bytes) -> bool:
        """Send an ack to one edge."""
        ...

    async def pull(self, edge: str, data: bytes, timeout_s: float) -> list[bytes]:
        """Ask one edge for records; the parts of its answer. Empty: it did not answer in time, or is not there."""
        ...

    async def counts(self, edge: str, data: bytes, timeout_s: float) -> bytes | None:
        """Ask one edge what a purge matched there. None: no answer."""
        ...

    async def reopen(self) -> None:
        """End all links and dial anew: some are deaf, or certificates were exchanged."""
        ...
