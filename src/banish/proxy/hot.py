"""The hot table: what the pipeline has decided, answered again without thinking.

The pipeline *publishes* a hit as a memo. The lane in front of the full parser reads a request head, and when
a memo covers it, writes the answer: no await, no `Request`, hardly an allocation. Whatever is in doubt goes
to the pipeline, which is complete by itself.

    head bytes ──llhttp──▶ names, target ──▶ route (host, target) ──▶ variant (selecting values)
                                                                        ├─ valid? (moment, purges)
                                                                        └─ wire form of this second

What keeps a memo true:

- The lane takes one whole head, without body, that ends its read; anything else is the pipeline's.
- Fields are inert (cannot change the answer), selecting (named by the route) or guards (the pipeline's).
  A name never seen is sorted once, without regard to case, and its spelling remembered.
- llhttp's callback is a dictionary's own `setdefault`: names and values arrive without running Python. A
  repeated name would be lost there, so the dictionary's size is compared with the number of lines.
- Where a site does not serve while purges may be missing, the lease is compared at each hit.
- An answer is given only before `valid_until`, and only when no purge since the record was last found clean
  matches it: two compares of integers, unless a purge has named something that is hot.

Not here: what may be published (`pipeline.py`). Units: seconds since the epoch; ages are whole seconds.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol

import httptools
import msgspec

from banish.clock import Clock
from banish.mesh.lease import Lease
from banish.proxy.exchange import ConnectionInfo
from banish.purge.names import Names
from banish.purge.presence import Presence
from banish.purge.stamps import PurgeTable, Verdict
from banish.store.records import StoredResponse

ROUTES_MAX = 200_000
"""Routes kept for each listener; past it the oldest goes."""
ROUTES_PER_RESPONSE_MAX = 8
"""Spellings of one URL that may lead to one response."""
VARIANTS_PER_ROUTE_MAX = 64
"""Combinations of selecting values that one route remembers."""
KEY_BYTES_MAX = 4096
"""What one key may cost; requests with longer hosts, targets or selecting values are the pipeline's every time."""
HOSTS_MAX = 10_000
"""Hosts of which one object is shared."""
LOOKED_AT_MAX = 2048
"""Targets of new purges looked at one by one, a quarter of a microsecond each: about as many as one purge may have."""
RESPONSE_BYTES, ROUTE_BYTES, CHOICE_BYTES = 660, 280, 250
"""What a memo costs in memory: its response, each key that leads there, and the choice where fields select."""
SPELLINGS_MAX = 4096
"""Spellings of inert field names remembered."""
HEAD_BYTES_MAX = 8192
"""Longer heads are left to the pipeline."""
JOINED_BODY_BYTES_MAX = 262_144
"""Bodies up to this size are joined to the head for one write; larger ones go beside it (`writev`). Measured at
64 KiB: joined 17.6 µs, writev 18.5, two writes 22.0, since a write is a system call and a packet at once."""

TURN = 1 << 40
"""More seconds than any response gets old."""

_GUARDS = frozenset({
    b"authorization", b"banish-tier", b"cache-control", b"content-length", b"expect", b"host", b"http2-settings",
    b"if-match", b"if-range", b"if-unmodified-since", b"max-forwards", b"pragma", b"proxy-authorization",
    b"proxy-connection", b"range", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"x-http-method",
    b"x-http-method-override", b"x-method-override",
})  # fmt: skip
"""Names that send a request to the pipeline."""

_READ_HERE = frozenset({b"connection", b"if-modified-since", b"if-none-match", b"via"})
"""Names that the lane itself understands. What varies on one of them is the pipeline's."""

_COMMON = (
    b"Host", b"User-Agent", b"Accept", b"Accept-Language", b"Accept-Encoding",
    b"Cookie", b"Referer", b"Origin", b"DNT", b"Sec-GPC", b"Sec-Fetch-Dest", b"Sec-Fetch-Mode", b"Sec-Fetch-Site",
    b"Sec-Fetch-User", b"Upgrade-Insecure-Requests", b"Priority",
)  # fmt: skip
"""Inert or selecting names known from the start, as written here and in lower case."""

_G = ord("G")


class HotResponse(msgspec.Struct, gc=False):
    """One stored response, ready to be written. `head` and `head_304` hold for `second`, and are made on demand.

    Seconds are counted from `born`, the moment at which its age was zero: Age turns over there, not with the clock's.
    """

    record: StoredResponse
    names: Names
    body: bytes
    etag: bytes | None
    valid_until: float
    born: float
    second: int = -1
    head: bytes = b""
    head_304: bytes = b""
    leased: bool = False
    """Whether it may answer only while no purge can be missing."""
    routes: tuple["MemoKey", ...] = ()
    memory_bytes: int = 0
    hits: int = 0


class Choice(msgspec.Struct, gc=False):
    """Where a (host, target) leads if fields select: by their raw values. Names are in lower case."""

    selecting: tuple[bytes, ...]
    variants: dict[tuple[bytes | None, ...], HotResponse]


class MemoKey(NamedTuple):
    """What a memo is for: listener, raw Host and target, and the raw values of the selecting fields, whose names
    are in lower case."""

    listener: str
    host: bytes
    target: bytes
    selecting: tuple[bytes, ...] = ()
    values: tuple[bytes | None, ...] = ()

    @property
    def memory_bytes(self) -> int:
        """About what it costs to remember this key and its way to a response (CPython 3.11, measured)."""
        selected = sum([len(value or b"") + 40 for value in self.values])
        return ROUTE_BYTES + len(self.target) + (CHOICE_BYTES + selected if self.selecting else 0)


class HitLog(Protocol):
    """Told of each hot hit when access logging is on."""

    def __call__(
        self, info: ConnectionInfo, site: str, fields: dict[bytes, bytes], target: bytes, status: int, sent_bytes: int
    ) -> None: ...


class HotTable:
    """All memos of one edge, a lane for each listener.

    `make_head` gives the head of a hit, with status 200 or 304, as it is at a moment. `weighed` is told how
    much memory a record's memos take in all, so that the store's budget covers it. `touch` is told, at most
    once a second for each response, that it is being asked for, and how often it was since.
    """

    def __init__(
        self,
        stamps: PurgeTable,
        clock: Clock,
        *,
        node: str,
        lease: Lease,
        make_head: Callable[[StoredResponse, float, int], bytes],
        weighed: Callable[[StoredResponse, int], None] = lambda record, n_bytes: None,
        touch: Callable[[StoredResponse, int], None] = lambda record, hits: None,
    ) -> None:
        self.stamps = stamps
        self.clock = clock
        self.node = node
        self.lease = lease
        self.turn = 0
        """Heads made in another turn are made anew."""
        self.make_head = make_head
        self.touch = touch
        self._weighed = weighed
        self.log: HitLog | None = None
        self.closed = False
        """Nothing is to be published."""

        self.head_bytes_max = HEAD_BYTES_MAX
        self.fields_max = 100
        self.seen = 0
        """Purges up to this apply index were looked at."""

        self.named = 0
        """None of those after this one can match what is hot: who was found clean up to here is clean up to `seen`."""
        self._lanes: dict[str, Lane] = {}
        self._responses: dict[int, HotResponse] = {}
        self._present = Presence()
        self._hosts: dict[bytes, bytes] = {}

    def lane(self, listener: str) -> "Lane":
        """The lane for connections of this listener."""
        if listener not in self._lanes:
            self._lanes[listener] = Lane(self)
        return self._lanes[listener]

    def bound(self, *, head_bytes_max: int, fields_max: int) -> None:
        """Leave heads beyond these limits to the pipeline, which says what is wrong with them."""
        self.head_bytes_max = min(head_bytes_max, HEAD_BYTES_MAX)
        self.fields_max = fields_max

    def lanes(self) -> list["Lane"]:
        """Every lane: they carry the counts."""
        return list(self._lanes.values())

    def publish(self, key: MemoKey, record: StoredResponse, valid_until: float, *, leased: bool = False) -> None:
        """Remember that requests under this key get this record, until that moment or a purge; `leased`: and only
        while the lease holds."""
        if self.closed:
            return
        data, meta = record.body.data, record.meta
        assert data is not None, "only what is whole in memory can be hot"
        if key.memory_bytes > KEY_BYTES_MAX or not _READ_HERE.isdisjoint(key.selecting):
            return
        response = self._responses.get(id(record))
        if response is None:
            names = record.names
            if not self.still_clean(record, names):
                return  # `look` has not seen it among what is hot
            etag = meta.etag.encode("latin-1") if meta.etag is not None and meta.status == 200 else None
            head_bytes = sum([len(name) + len(value) + 4 for name, value in meta.fields])
            response = HotResponse(
                record,
                names,
                data,
                etag,
                valid_until,
                meta.received_at - meta.initial_age,
                leased=leased,
                memory_bytes=RESPONSE_BYTES + head_bytes,
            )
            self._responses[id(record)] = response
            self._present.add(names)
        elif key in response.routes or len(response.routes) >= ROUTES_PER_RESPONSE_MAX:
            return
        self._lead(key._replace(host=self._shared_host(key.host)), response)
        response.memory_bytes += key.memory_bytes
        self._weighed(record, response.memory_bytes)  # may evict, this very record too: then it is unpublished by now

    def _lead(self, key: MemoKey, response: HotResponse) -> None:
        """Make a key lead to a response, in the place of whatever it led to."""
        routes, place = self.lane(key.listener).routes, (key.host, key.target)
        if not key.selecting:
            routes[place] = response
        else:
            choice = routes.get(place)
            if not isinstance(choice, Choice) or choice.selecting != key.selecting:
                choice = routes[place] = Choice(key.selecting, {})
            if len(choice.variants) >= VARIANTS_PER_ROUTE_MAX:
                oldest = next(iter(choice.variants))
                _unlead(choice.variants.pop(oldest), key._replace(values=oldest))
            choice.variants[key.values] = response
        response.routes = (*response.routes, key)
        if len(routes) > ROUTES_MAX:
            self._drop_oldest(key.listener)

    def _drop_oldest(self, listener: str) -> None:
        routes = self.lane(listener).routes
        place = next(iter(routes))
        found = routes.pop(place)
        if isinstance(found, Choice):
            for values, response in found.variants.items():
                _unlead(response, MemoKey(listener, *place, found.selecting, values))
        else:
            _unlead(found, MemoKey(listener, *place))

    def _shared_host(self, host: bytes) -> bytes:
        """One object for equal hosts: every memo of a site has the same."""
        if len(self._hosts) >= HOSTS_MAX:
            self._hosts.clear()
        return self._hosts.setdefault(host, host)

    def unpublish(self, record: StoredResponse) -> None:
        """Forget whatever leads to this record: it was evicted, replaced or purged."""
        response = self._responses.pop(id(record), None)
        if response is None:
            return
        self._present.remove(response.names)
        for key in response.routes:
            routes, place = self.lane(key.listener).routes, (key.host, key.target)
            found = routes.get(place)
            if isinstance(found, Choice):
                if found.variants.get(key.values) is response:
                    del found.variants[key.values]
                if not found.variants:
                    del routes[place]
            elif found is response:
                del routes[place]

    def renew_heads(self) -> None:
        """Have every head made anew: what it says of the edge's state is no longer so."""
        self.turn += TURN

    def clear(self) -> None:
        """Forget everything: rules, hooks or state of the edge have changed."""
        for lane in self._lanes.values():
            lane.routes.clear()
        self._present = Presence()
        forgotten, self._responses = self._responses, {}
        for response in forgotten.values():
            self._weighed(response.record, 0)

    def look(self) -> None:
        """Look at the purges that came since: whether they name anything that is hot."""
        stamps = self.stamps
        came = stamps.newer(self.seen, LOOKED_AT_MAX)
        if came is None or any(map(self._present.may_hit, came)):
            self.named = stamps.index
        self.seen = stamps.index

    def still_clean(self, record: StoredResponse, names: Names) -> bool:
        """Match a record, whose names these are, against the purges since it was last found clean."""
        index = self.stamps.index
        if record.clean_at != index:
            if self.stamps.verdict(names, record.clean_at) is not Verdict.CLEAN:
                return False
            record.clean_at = index
        return True

    def __len__(self) -> int:
        return len(self._responses)


def _unlead(response: HotResponse, key: MemoKey) -> None:
    response.routes = tuple([known for known in response.routes if known != key])


class Lane:
    """Reads heads and answers those that a memo covers. One parser serves all connections: it only ever sees
    whole messages, so it stands between messages whenever it is used."""

    def __init__(self, table: HotTable) -> None:
        self.routes: dict[tuple[bytes, bytes], HotResponse | Choice] = {}
        self.hits = 0
        self.hit_bytes = 0
        self._table = table
        self._fields: dict[bytes, bytes] = {}
        self._targets: list[bytes] = []
        self._known: set[bytes] = {b"Connection", b"If-None-Match"}
        self._node = table.node.encode().lower()
        self._spellings: dict[bytes, list[bytes]] = {}
        for name in _COMMON:
            for spelling in (name, name.lower()):
                self._know(spelling, name.lower())
        self._fresh_parser()

    def _fresh_parser(self) -> None:
        self._fields.clear()
        self._targets.clear()
        self._parser = httptools.HttpRequestParser(_Collect(self._fields, self._targets))

    def answer(self, data: bytes, transport: asyncio.WriteTransport, info: ConnectionInfo) -> bool:
        """Write the answer to this head if a memo covers it; say whether that was so."""
        if not self.routes or data[0] != _G or data[-4:] != b"\r\n\r\n" or len(data) > self._table.head_bytes_max:
            return False
        self._fields.clear()
        self._targets.clear()
        try:
            self._parser.feed_data(data)
            response = self._find(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            response = None
        if response is None:
            self._fresh_parser()  # the old one may stand in the middle of a message
            return False
        fields = self._fields
        validator = fields.get(b"If-None-Match") or fields.get(b"if-none-match")
        if validator is None:
            return self._write(response, transport, info, 0)
        return validator == response.etag and self._write(response, transport, info, 304)

    def _find(self, data: bytes) -> HotResponse | None:
        """The memo that covers the head just parsed, if every condition of one holds."""
        fields, targets = self._fields, self._targets
        # A request line, one line a name, and the blank line: nothing came twice, nothing was folded.
        if len(targets) != 1 or data.count(b"\n") != len(fields) + 2 or len(fields) > self._table.fields_max:
            return None
        target = targets[0]
        if not data.startswith(b"GET %b HTTP/1.1\r\n" % target):
            return None
        host = fields.get(b"Host")
        if host is None:
            host = fields.get(b"host", b"")
        elif b"host" in fields:
            return None
        found = self.routes.get((host, target))
        if found is None or fields.get(b"Connection", b"keep-alive") != b"keep-alive":
            return None
        if not fields.keys() <= self._known and not self._sort(fields):
            return None
        if isinstance(found, HotResponse):
            return found
        values = self._select(found.selecting)
        return None if values is None else found.variants.get(values)

    def _sort(self, fields: dict[bytes, bytes]) -> bool:
        """Sort the spellings not known: remember the inert ones; False if any field is for the pipeline."""
        for name in fields.keys() - self._known:
            lower = name.lower()
            if lower in _GUARDS or len(self._known) >= SPELLINGS_MAX:
                return False
            match lower:
                case b"connection":
                    inert = fields[name].lower() == b"keep-alive"
                case b"if-none-match":
                    inert = name == lower and b"If-None-Match" not in fields
                case b"if-modified-since":  # ignored beside If-None-Match (RFC 9110 section 13.1.3)
                    inert = b"If-None-Match" in fields or b"if-none-match" in fields
                case b"via":
                    inert = self._node not in fields[name].lower()
                case _:
                    inert = True
                    self._know(name, lower)
            if not inert:
                return False
        return True

    def _know(self, name: bytes, lower: bytes) -> None:
        self._known.add(name)
        self._spellings.setdefault(lower, []).append(name)

    def _select(self, names: tuple[bytes, ...]) -> tuple[bytes | None, ...] | None:
        """The raw values of the selecting fields; None if one came in two spellings."""
        fields = self._fields
        values: list[bytes | None] = []
        for name in names:
            found = [fields[spelling] for spelling in self._spellings.get(name, ()) if spelling in fields]
            if len(found) > 1:
                return None
            values.append(found[0] if found else None)
        return tuple(values)

    def _write(
        self, response: HotResponse, transport: asyncio.WriteTransport, info: ConnectionInfo, status: int
    ) -> bool:
        table = self._table
        now = table.clock.now()
        if now >= response.valid_until:
            return False
        record = response.record
        if record.soft_at:
            return False
        if table.seen != table.stamps.index:
            table.look()
        if record.clean_at < table.named and not self._still_clean(response):
            return False
        if response.leased and table.lease.past():
            return False
        second = int(now - response.born) + table.turn
        if response.second != second:
            response.second, response.head, response.head_304 = second, b"", b""
            table.touch(record, response.hits)
            response.hits = 0
        body = response.body
        sent = 0 if status else len(body)
        if status:
            if not response.head_304:
                response.head_304 = table.make_head(record, now, 304)
            transport.write(response.head_304)
        else:
            if not response.head:
                response.head = table.make_head(record, now, 200)
            if sent <= JOINED_BODY_BYTES_MAX:
                transport.write(response.head + body)
            else:
                transport.writelines((response.head, body))
        self.hits += 1
        self.hit_bytes += sent
        response.hits += 1
        if table.log is not None:
            table.log(info, response.names.site, self._fields, self._targets[0], status or record.meta.status, sent)
        return True

    def _still_clean(self, response: HotResponse) -> bool:
        """Whether no purge has matched it meanwhile."""
        return self._table.still_clean(response.record, response.names)


class _Collect:
    """What httptools calls back: two methods of built-in containers."""

    def __init__(self, fields: dict[bytes, bytes], targets: list[bytes]) -> None:
        self.on_header = fields.setdefault
        self.on_url = targets.append
