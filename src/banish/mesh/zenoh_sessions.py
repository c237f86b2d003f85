"""Sessions of zenoh: one opening of the transport, from opening to closing. All of it blocks, and belongs on threads.

An opening has one session or more (`zenoh_config.py`). A session's own id says whose it is:

    1hhhhhhhhhhhhhhh 0123456789abcdef        15 random digits, since an id that is kept makes a quick restart collide
                     └ edge id

so that a link tells which edge is at its other end; over TLS the certificate has to say the same.

Not here: the event loop, and when to open anew (`zenoh_transport.py`).
Units: seconds. Invariant: what came from one edge is told in the order in which it came.
"""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeVar

import zenoh
from zenoh.handlers import Callback

from banish.errors import ConfigError
from banish.mesh.endpoints import parse_endpoint
from banish.mesh.leftovers import cut
from banish.mesh.zenoh_config import Session, Wiring, as_json

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""Of one answer, all its parts together; what is beyond it is left out."""

FIRST_S = 0.5
"""How long an opening waits for relays; then it goes on, and they are dialled behind it."""

DIAL_PAUSE_S = 0.3
"""Between two dials to a relay that is not there, doubled each time up to `DIAL_PAUSE_MAX_S`."""
DIAL_PAUSE_MAX_S = 4.0

CLOSE_FAILED_S = 5.0
"""How long what could not be opened whole is waited for."""

GREETING = "hello"
"""What an edge is asked to find out that it listens; the last word of the key."""
GREETED_S = 2.0
"""How long it may take to answer."""

T = TypeVar("T")


class Heard(StrEnum):
    """What was published; the first word of its key."""

    RECORD = "purge"
    DIGEST = "digest"
    ACK = "ack"


class Asked(StrEnum):
    """What is asked of an edge; the last word of its key."""

    LOG = "log"
    COUNTS = "counts"


class Link(NamedTuple):
    """One connection. Two are the same if all of this is."""

    edge: str
    """At its other end; empty if it does not say, or its certificate says otherwise."""
    session: int
    zid: str
    here: str
    there: str


class Question:
    """What another edge asks. To be answered once, whatever comes of it."""

    def __init__(self, query: zenoh.Query, key: str) -> None:
        self._query = query
        self._key = key
        self.data = query.payload.to_bytes() if query.payload is not None else b""

    def answer(self, parts: Sequence[bytes]) -> None:
        """Blocks while the one who asked does not read."""
        with self._query, contextlib.suppress(zenoh.ZError):
            for part in parts:
                self._query.reply(self._key, part)


class Ears(NamedTuple):
    """Who is told. All are called on threads of zenoh's, and may not block."""

    heard: Callable[[Heard, bytes], None]
    link: Callable[[Link, bool], None]
    listens: Callable[[str, bool], None]
    """The edge of this id has answered, or is not there any more."""
    asked: Callable[[Asked, Question], None]


class Opening:
    """Sessions that were opened together. Its methods may be called on any thread."""

    def __init__(self, wiring: Wiring, ears: Ears) -> None:
        self.wiring = wiring
        self._me = wiring.me.edge
        self._ears = ears
        self._lock = threading.Lock()
        """Of what sessions there are, and whether there may be more."""
        self._sessions: dict[int, zenoh.Session] = {}
        self._ended = threading.Event()
        self._ports: set[int] = set()
        self._dialling: list[threading.Thread] = []
        self._publishers: dict[tuple[int, str], zenoh.Publisher] = {}
        self._queriers: list[zenoh.Querier] = []

    def open(self) -> None:
        """Listen, and begin to dial. Raises ConfigError, with nothing left open."""
        plans = dict(enumerate(self.wiring.sessions()))
        clients = {number: plan for number, plan in plans.items() if plan.mode == "client"}
        if len(clients) < len(plans):
            self._ports = {parse_endpoint(text).port for text in self.wiring.listening}
        try:
            for number in plans.keys() - clients.keys():
                self._begin(number, plans[number])
        except zenoh.ZError as error:
            self.close(CLOSE_FAILED_S)
            raise ConfigError(f"the mesh cannot be opened: {_first_line(error)}") from error
        until = time.monotonic() + FIRST_S
        self._dialling = [_started(self._dial, number, plan) for number, plan in clients.items()]
        for thread in self._dialling:
            thread.join(max(0.0, until - time.monotonic()))

    def close(self, timeout_s: float) -> bool:
        """End all links; False if that takes longer, and goes on by itself (a dial to an edge that hangs)."""
        with self._lock:
            self._ended.set()
        threads = [*self._dialling, *(_started(_close, session) for session in self._sessions.values())]
        until = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        cut(self._ports)
        return not any(thread.is_alive() for thread in threads)

    def _dial(self, number: int, plan: Session) -> None:
        """Open a session to a relay. That works only while the relay is there (afterwards zenoh dials it again by
        itself, for ever), so it is tried until it does.
        """
        pause_s = DIAL_PAUSE_S
        while not self._ended.is_set():
            try:
                self._begin(number, plan)
                return
            except zenoh.ZError:
                self._ended.wait(pause_s)
                pause_s = min(2 * pause_s, DIAL_PAUSE_MAX_S)

    def _begin(self, number: int, plan: Session) -> None:
        config = zenoh.Config()
        for path, value in as_json(plan.config(f"1{secrets.token_hex(8)[1:]}{self._me}")).items():
            config.insert_json5(path, value)
        session = zenoh.open(config)
        with self._lock:
            ended = self._ended.is_set()
            if not ended:
                self._sessions[number] = session
        if ended:
            _close(session)
            return
        self._declare(number, session, plan)

    # --- saying

    def put(self, key: str, data: bytes) -> None:
        """Publish. Waits `WAIT_BEFORE_DROP_US` at most, once, for a peer that does not read. Raises zenoh.ZError."""
        with self._lock:
            sessions = list(self._sessions.items())
        for number, session in sessions:
            publisher = self._publishers.get((number, key))
            if publisher is None:
                publisher = self._publish(number, session, key)
            publisher.put(data)

    def _publish(self, number: int, session: zenoh.Session, key: str) -> zenoh.Publisher:
        publisher = self._publishers[number, key] = session.declare_publisher(
            key,
            congestion_control=zenoh.CongestionControl.DROP,
            priority=zenoh.Priority.REAL_TIME,
            express=True,
            allowed_destination=zenoh.Locality.REMOTE,
        )
        return publisher

    def ask(self, key: str, data: bytes, timeout_s: float) -> list[bytes]:
        """The parts of an answer: by the first session that gives one. Raises zenoh.ZError."""
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            if parts := _ask(session, key, data, timeout_s / len(sessions)):
                return parts
        return []

    # --- hearing

    def _declare(self, number: int, session: zenoh.Session, plan: Session) -> None:
        for heard in Heard:
            keys = f"{heard}/{self._me}/*" if heard is Heard.ACK else f"{heard}/*"
            session.declare_subscriber(keys, _direct(self._hear(heard)), allowed_origin=zenoh.Locality.REMOTE)
        for asked in Asked:
            key = f"sync/{self._me}/{asked}"
            session.declare_queryable(
                key, _direct(self._answer(asked, key)), complete=True, allowed_origin=zenoh.Locality.REMOTE
            )
        session.declare_queryable(
            f"sync/{self._me}/{GREETING}",
            _direct(self._greeted),
            complete=True,
            allowed_origin=zenoh.Locality.REMOTE,
        )
        for heard in (Heard.RECORD, Heard.DIGEST):
            self._publish(number, session, f"{heard}/{self._me}")
        for other in plan.near:
            self._follow(session, other.edge)
        session.info.declare_link_events_listener(_direct(self._watch(number)), history=True)

    def _follow(self, session: zenoh.Session, edge: str) -> None:
        """Tell when an edge listens: when it has answered.

        What it listens to is told to this edge message by message, in any order, and what is published meanwhile is
        lost. But its answer comes behind all of them.
        """
        querier = session.declare_querier(
            f"sync/{edge}/{GREETING}", timeout=GREETED_S, allowed_destination=zenoh.Locality.REMOTE
        )

        def greet() -> None:
            with contextlib.suppress(zenoh.ZError):
                if any(reply.ok is not None for reply in querier.get()):
                    self._ears.listens(edge, True)

        def told(status: zenoh.MatchingStatus) -> None:
            if status.matching:
                _started(greet)
            else:
                self._ears.listens(edge, False)

        querier.declare_matching_listener(_direct(told))
        self._queriers.append(querier)
        if querier.matching_status:
            _started(greet)

    def _greeted(self, query: zenoh.Query) -> None:
        with query, contextlib.suppress(zenoh.ZError):
            query.reply(f"sync/{self._me}/{GREETING}", b"")

    def _hear(self, heard: Heard) -> Callable[[zenoh.Sample], None]:
        own = f"/{self._me}"

        def hear(sample: zenoh.Sample) -> None:
            if not str(sample.key_expr).endswith(own):  # said by this edge, and come back through a relay
                self._ears.heard(heard, sample.payload.to_bytes())

        return hear

    def _answer(self, asked: Asked, key: str) -> Callable[[zenoh.Query], None]:
        return lambda query: self._ears.asked(asked, Question(query, key))

    def _watch(self, number: int) -> Callable[[zenoh.LinkEvent], None]:
        secured = self.wiring.credentials is not None

        def watch(event: zenoh.LinkEvent) -> None:
            link, zid = event.link, str(event.link.zid)
            edge = zid[-16:] if len(zid) == 32 else ""
            if secured and link.auth_identifier != edge:
                edge = ""
            self._ears.link(Link(edge, number, zid, link.src, link.dst), event.kind == zenoh.SampleKind.PUT)

        return watch


def _direct(call: Callable[[T], None]) -> "Callback[T]":
    """Called on the thread that reads from the network: in the order of arrival, and with no thread between."""
    return Callback(call, indirect=False)


def _ask(session: zenoh.Session, key: str, data: bytes, timeout_s: float) -> list[bytes]:
    replies = session.get(
        key,
        payload=data,
        timeout=timeout_s,
        consolidation=zenoh.ConsolidationMode.NONE,  # the default keeps one reply of many with one key
        congestion_control=zenoh.CongestionControl.BLOCK,
        allowed_destination=zenoh.Locality.REMOTE,
    )
    parts, size = [], 0
    for reply in replies:
        if reply.ok is not None and size + len(reply.ok.payload) <= ANSWER_BYTES_MAX:
            parts.append(reply.ok.payload.to_bytes())
            size += len(parts[-1])
    return parts


def _started(work: Callable[..., None], *arguments: object) -> threading.Thread:
    """A thread that does it, and that a process does not wait for at its end."""
    thread = threading.Thread(target=work, args=arguments, name="mesh-work", daemon=True)
    thread.start()
    return thread


def _close(session: zenoh.Session) -> None:
    with contextlib.suppress(zenoh.ZError):
        session.close()  # type: ignore[no-untyped-call]


def _first_line(error: Exception) -> str:
    """What zenoh says without the paths of its own source."""
    return str(error).split(" at /")[0].splitlines()[0]
