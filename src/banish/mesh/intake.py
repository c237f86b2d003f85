"""Intake: records that arrive, whichever way; which of them are to be put into effect.

    live     signed by a member: taken
    pulled   a run: its chain holds and its last is signed by its issuer, member or forgotten; else one by one
    twice    dropped, unless its bytes differ: a fork, which is applied too, with an alarm (PURGE rule 8)

Not here: putting it into effect (`edge/purging.py`); asking (`pulling.py`).
Invariant: what is taken is in the received frontier, and never taken again.
"""

from collections.abc import Sequence

from banish.errors import ClientError, RecordError
from banish.mesh.effects import Alarm, Apply, Effect, Raise
from banish.mesh.knowledge import Knowledge
from banish.mesh.messages import Verify
from banish.mesh.prints import Prints
from banish.mesh.strangers import Strangers
from banish.purge.positions import Position, parse_position
from banish.purge.records import (
    RECORD_VERSION,
    Header,
    RecordKind,
    chain_holds,
    decode,
    read_header,
    signature_holds,
)
from banish.tables import Accounts, Metric

RECORDS = Metric(
    "banish_mesh_records_total",
    "counter",
    "Records that arrived from other edges: taken, duplicate, fork, stranger (of no member), wrong (not signed by its "
    "issuer, or damaged), full (too many above a gap: asked for again).",
    ("what",),
)


class Intake:
    """Takes records."""

    def __init__(self, known: Knowledge, verify: Verify, accounts: Accounts) -> None:
        self.unlogged: set[Position] = set()
        """In effect, and not reported durable yet."""
        self.strangers = Strangers()
        self._known = known
        self._verify = verify
        self._prints = Prints()
        self._records = accounts.tally(RECORDS)

    def live(self, data: bytes, now: float) -> list[Effect]:
        """A record was published."""
        try:
            header = read_header(data)
        except RecordError:
            return self.wrong("a record that cannot be read", now)
        edge = header.position.edge
        if (edge, header.position.epoch) == self._known.own:
            return []
        if edge != self._known.edge and edge not in self._known.members:
            self._records.add("stranger")
            alarm = self.strangers.spoke(edge, now, data) and not self._known.members.is_forgotten(edge)
            return [Raise(Alarm.STRANGER, f"records of {edge}, which is no member")] if alarm else []
        if self._is_double(header, data):
            return []
        if not self._signed(edge, data):
            return self.wrong(f"a record of {edge} that it has not signed", now)
        issuer = self._known.peers.get(edge)
        if issuer is not None:
            issuer.published(header.position.epoch, header.position.seq, now)
        return self._apply([(header, data)], now)

    def run(self, records: Sequence[bytes], now: float) -> list[Effect] | None:
        """Records were pulled; None if nothing of it can be trusted."""
        try:
            headers = [read_header(data) for data in records]
        except RecordError:
            return None
        issuer = headers[0].position.edge
        whole = chain_holds(records) and self._signed(issuer, records[-1])
        if not whole and self._breaks_within(headers):
            return None
        pairs = list(zip(headers, records, strict=True))
        if not whole:
            pairs = [(header, data) for header, data in pairs if self._signed(header.position.edge, data)]
            if not pairs:
                return None
        effects = self._apply([pair for pair in pairs if not self._is_double(*pair)], now)
        return effects if whole else [*effects, Raise(Alarm.FORK, f"the log of {issuer} that others keep is no chain")]

    def _breaks_within(self, headers: Sequence[Header]) -> bool:
        first = headers[0].position
        stream = first.edge, first.epoch
        return any((header.position.edge, header.position.epoch) != stream for header in headers)

    def _signed(self, edge: str, data: bytes) -> bool:
        return signature_holds(data, lambda signature, payload: self._verify(edge, signature, payload))

    def _is_double(self, header: Header, data: bytes) -> bool:
        """Whether it is in effect already, byte for byte as far as is remembered."""
        double = self._known.received.has(header.position) and not self._prints.differs(header.position, data)
        if double:
            self._records.add("duplicate")
        return double

    def _apply(self, records: Sequence[tuple[Header, bytes]], now: float) -> list[Effect]:
        taken, alarms = [], []
        for header, data in records:
            position = header.position
            stream = position.edge, position.epoch
            if self._known.received.has(position):
                self._records.add("fork")
                self._prints.forked(data)
                alarms.append(Raise(Alarm.FORK, f"two records have the position {position}"))
                taken.append(data)
            elif self._take(header, data, now):
                taken.append(data)
                if self._prints.breaks(stream, position.seq, header.previous):
                    alarms.append(Raise(Alarm.FORK, f"another record than ours comes before {position}"))
        return [Apply(tuple(taken)), *alarms] if taken else []

    def _take(self, header: Header, data: bytes, now: float) -> bool:
        known, position = self._known, header.position
        stream = position.edge, position.epoch
        if not known.received.add(position):
            self._records.add("full")
            known.learn(stream, position.seq, position.edge, now)
            return False
        self._records.add("taken")
        self.unlogged.add(position)
        self._prints.note(position, data)
        if position.seq > known.received.mark(stream):
            known.learn(stream, position.seq - 1, position.edge, now)
        else:
            known.gaps.settle(stream)
        known.present(stream, now)
        if header.kind == RecordKind.OPEN and header.version == RECORD_VERSION:
            self._opened(data, now)
        return True

    def _opened(self, data: bytes, now: float) -> None:
        """A start says where the epoch before it has ended."""
        try:
            about = decode(data).about
            last = parse_position(about) if about else None
        except (RecordError, ClientError):
            return
        if last is not None:
            self._known.learn((last.edge, last.epoch), last.seq, last.edge, now)

    def wrong(self, what: str, now: float) -> list[Effect]:
        """Something came that cannot be what it says."""
        self._records.add("wrong")
        return [Raise(Alarm.STRANGER, what)] if self.strangers.alarming(now) else []
