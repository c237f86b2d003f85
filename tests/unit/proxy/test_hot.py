"""The lane against its rules: what it takes, what it leaves to the pipeline, and what it says.

Here heads are fed to it as bytes, and memos are published by hand. That it says what the pipeline would is shown in
tests/e2e/test_hot_table.py, on sockets.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from unittest import mock

import httptools
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from banish.errors import ClientError
from banish.http.fields import Fields
from banish.http.gate import check_request_head
from banish.http.messages import RequestHead
from banish.mesh.lease import Lease
from banish.proxy import hot
from banish.proxy.exchange import ConnectionInfo
from banish.proxy.hot import LOOKED_AT_MAX, HotTable, MemoKey
from banish.purge.stamps import PurgeTable
from banish.purge.targets import tag_target
from banish.store.records import StoredResponse
from banish.testing.clock import FakeClock
from tests.stored import name_of, stored_response, url_of
from tests.written import Written

INFO = ConnectionInfo("192.0.2.1", "http", "l1")
ETAG = '"1"'
KNOWN = b'If-None-Match: "1"'


class Table:
    """A hot table with a clock and stamps of its own; heads are `status key`."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.stamps = PurgeTable()
        self.made: list[tuple[str, int]] = []
        self.weighed: dict[str, int] = {}
        self.touched: list[str] = []
        self.hits = 0
        self.lease = Lease(self.clock.monotonic, self.clock.now)
        self.hot = HotTable(
            self.stamps, self.clock, node="banish", lease=self.lease, make_head=self._make_head, weighed=self._weigh,
            touch=self._touch,
        )  # fmt: skip

    def _make_head(self, record: StoredResponse, now: float, status: int) -> bytes:
        self.made.append((name_of(record), status))
        return f"{status} {name_of(record)} {int(now - self.clock_began)}\r\n\r\n".encode()

    clock_began = FakeClock().now()

    def _weigh(self, record: StoredResponse, n_bytes: int) -> None:
        self.weighed[name_of(record)] = n_bytes

    def _touch(self, record: StoredResponse, hits: int) -> None:
        self.touched.append(name_of(record))
        self.hits += hits

    def publish(
        self,
        key: str = "a",
        *,
        target: bytes = b"/a",
        host: bytes = b"x",
        selecting: tuple[bytes, ...] = (),
        values: tuple[bytes | None, ...] = (),
        record: StoredResponse | None = None,
        for_s: float = 60,
        listener: str = "l1",
    ) -> StoredResponse:
        record = record or tagged(key)
        memo = MemoKey(listener, host, target, selecting, values)
        self.hot.publish(memo, record, self.clock.now() + for_s)
        return record

    def answer(self, data: bytes, listener: str = "l1") -> bytes | None:
        """What the lane writes for these bytes; None if it leaves them."""
        transport = Written()
        taken = self.hot.lane(listener).answer(data, transport, INFO)
        assert taken == bool(transport.data)
        assert len(transport.calls) == taken, "one hit is one write"
        return transport.data if taken else None

    def takes(self, *lines: bytes, target: bytes = b"/a") -> bool:
        return self.answer(head(*lines, target=target)) is not None


def tagged(key: str = "a", body: bytes = b"hello", *, status: int = 200) -> StoredResponse:
    """A record with an entity tag."""
    record = stored_response(key, body=body)
    record.meta = msgspec.structs.replace(record.meta, etag=ETAG, status=status)
    return record


def head(*lines: bytes, target: bytes = b"/a", method: bytes = b"GET", host: bytes = b"Host: x") -> bytes:
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), *([host] if host else []), *lines, b"", b""])


@pytest.fixture
def table() -> Table:
    """A hot table that knows /a."""
    table = Table()
    table.publish()
    return table


# --- what is asked


def test_a_head_that_a_memo_covers_is_answered(table: Table) -> None:
    assert table.answer(head()) == b"200 a 0\r\n\r\nhello"
    lane = table.hot.lane("l1")
    assert (lane.hits, lane.hit_bytes) == (1, 5)


@pytest.mark.parametrize(
    "lines",
    [
        (b"User-Agent: x", b"Accept: */*", b"Cookie: a=b"),
        (b"X-Never: 1",),
        (b"x-NEVER: 1", b"X-never: 2"),
        (b"Connection: keep-alive",),
        (b"connection: Keep-Alive",),
        (b"CONNECTION: keep-alive",),
        (b"Keep-Alive: 300",),
        (b"Via: 1.1 elsewhere, 1.0 other (x)",),
        (b"Empty:",),
        (b"X-Forwarded-For: 192.0.2.7",),
        (b"High: \xff\x80",),
    ],
    ids=repr,
)  # fmt: skip
def test_inert_fields_change_nothing(table: Table, lines: tuple[bytes, ...]) -> None:
    for _ in range(3):
        assert table.takes(*lines)
        assert table.takes()


GUARDS = [
    "Authorization", "Cache-Control", "Content-Length", "Expect", "HTTP2-Settings", "If-Match", "If-Range",
    "If-Unmodified-Since", "Max-Forwards", "Pragma", "Proxy-Authorization", "Proxy-Connection", "Range", "TE",
    "Trailer", "Transfer-Encoding", "Upgrade", "X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override",
    "If-Modified-Since",
]  # fmt: skip


@pytest.mark.parametrize("name", GUARDS)
def test_guards_send_a_request_to_the_pipeline_in_any_spelling(table: Table, name: str) -> None:
    value = {"Content-Length": "0", "Transfer-Encoding": "chunked"}.get(name, "x")
    for spelling in (name, name.lower(), name.upper(), name.swapcase()):
        for _ in range(2):  # nor is it taken for inert the second time
            assert not table.takes(f"{spelling}: {value}".encode())
        assert table.takes()


@pytest.mark.parametrize(
    "lines",
    [
        (b"X: 1", b"X: 2"),
        (b"Cookie: a", b"Cookie: b"),
        (b"X: a\r\n b",),
        (b"X: a\r\n\tHost: b",),
        (b"Connection: close",),
        (b"connection: close",),
        (b"Connection: keep-alive", b"connection: close"),
        (b"Connection: keep-alive, X",),
        (b"Connection: X-Hop", b"X-Hop: 1"),
        (b"Connection: Upgrade", b"Upgrade: websocket"),
        (b"Via: 1.1 banish",),
        (b"via: 1.1 x, 1.1 BANISH (again)",),
        (b"X : 1",),
        (b"X: a\0b",),
        (b"no colon",),
    ],
    ids=repr,
)  # fmt: skip
def test_what_might_matter_is_left_to_the_pipeline(table: Table, lines: tuple[bytes, ...]) -> None:
    for _ in range(2):
        assert not table.takes(*lines)
        assert table.takes()  # and nothing of it clings to the parser


@pytest.mark.parametrize(
    "data",
    [
        head(method=b"HEAD"),
        head(method=b"POST"),
        head(method=b"GETX"),
        head(method=b"get"),
        head(method=b"PURGE"),
        head().replace(b"1.1", b"1.0"),
        head().replace(b"1.1", b"1.2"),
        head().replace(b"HTTP/1.1", b"http/1.1"),
        head(host=b""),
        head(host=b"Host:"),
        head(host=b"HOST: x"),
        head(host=b"hoSt: x"),
        head(host=b"Host: X"),
        head(host=b"Host: x "),
        head(host=b"Host: x:80"),
        head(host=b"Host: y"),
        head(b"Host: x"),
        head(b"host: x"),
        head(b"HOST: x"),
        head(b"host: y"),
        head(target=b"/b"),
        head(target=b"/a?"),
        head(target=b"/a?x"),
        head(target=b"/a#x"),
        head(target=b"/%61"),
        head(target=b"//a"),
        head(target=b"http://x/a"),
        head(target=b" /a"),
        head(target=b"/a "),
        b"\r\n" + head(),
        head() + head(),
        head() + b"\r\n",
        head() + b"\r\n\r\n",
        head() + b"x",
        head()[:-2],
        head()[:-1],
        head()[:20],
        head()[:1],
        head().replace(b"\r\n", b"\n"),
        b"GET /a HTTP/1.1\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\nX: 1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX: 1\n\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\rX: 1\r\n\r\n",
        b"GET /a\r\n\r\n",
        head(b"Content-Length: 4") + b"\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ],
    ids=lambda data: repr(data)[2:60],
)  # fmt: skip
def test_other_messages_are_left_to_the_pipeline(table: Table, data: bytes) -> None:
    for _ in range(2):
        assert table.answer(data) is None
        assert table.takes()


def test_a_host_in_lower_case_is_a_host(table: Table) -> None:
    assert table.answer(head(host=b"host: x")) is not None
    assert table.answer(head(host=b"host:x")) is not None


def test_the_rest_of_a_head_cut_in_two_is_no_head(table: Table) -> None:
    data = head(b"X: 1")
    for at in range(1, len(data)):
        assert table.answer(data[:at]) is None or data[:at] == data
        assert table.answer(data[at:]) is None
    assert table.takes()


def test_longer_heads_and_more_fields_than_the_limits_allow_are_left_to_the_pipeline(table: Table) -> None:
    bare = len(head(b"X: "))
    assert table.takes(b"X: " + b"a" * (hot.HEAD_BYTES_MAX - bare))
    assert not table.takes(b"X: " + b"a" * (hot.HEAD_BYTES_MAX - bare + 1))
    table.hot.bound(head_bytes_max=200, fields_max=3)
    assert table.takes(b"X: 1", b"Y: 1")
    assert not table.takes(b"X: 1", b"Y: 1", b"Z: 1")
    assert table.takes(b"X: " + b"a" * (200 - bare))
    assert not table.takes(b"X: " + b"a" * (201 - bare))
    table.hot.bound(head_bytes_max=1 << 20, fields_max=3)  # ours holds all the same
    assert not table.takes(b"X: " + b"a" * hot.HEAD_BYTES_MAX)


def test_a_listener_answers_only_what_was_published_for_it(table: Table) -> None:
    assert table.answer(head(), listener="l2") is None
    table.publish("b", listener="l2")
    assert table.answer(head(), listener="l2") == b"200 b 0\r\n\r\nhello"
    assert table.answer(head()) == b"200 a 0\r\n\r\nhello"


# --- conditions


@pytest.mark.parametrize(
    ("lines", "answered"),
    [
        ((KNOWN,), 304),
        ((b'if-none-match: "1"',), 304),
        ((b'If-None-Match:"1"',), 304),
        ((KNOWN, b"If-Modified-Since: x"), 304),
        ((b'if-none-match: "1"', b"if-modified-since: x"), 304),
        ((b"If-None-Match:",), 200),
        ((b'If-None-Match: "2"',), None),
        ((b'If-None-Match: W/"1"',), None),
        ((b'If-None-Match: "1", "2"',), None),
        ((b"If-None-Match: *",), None),
        ((b'If-None-Match: "1" ',), None),
        ((b'IF-NONE-MATCH: "1"',), None),
        ((KNOWN, b'if-none-match: "2"'), None),
        ((KNOWN, b'IF-NONE-MATCH: "2"'), None),
        ((KNOWN, KNOWN), None),
        ((b"If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT",), None),
        ((b'If-None-Match: "2"', b"If-Modified-Since: x"), None),
    ],
    ids=repr,
)  # fmt: skip
def test_conditions(table: Table, lines: tuple[bytes, ...], answered: int | None) -> None:
    for _ in range(2):
        written = table.answer(head(*lines))
        assert (None if written is None else int(written[:3])) == answered
        assert written is None or written.endswith(b"hello" if answered == 200 else b"\r\n\r\n")
        assert table.takes()


def test_without_an_entity_tag_no_condition_is_met() -> None:
    table = Table()
    table.publish(record=stored_response("a"))
    assert not table.takes(KNOWN)
    assert table.takes(b"If-None-Match:")


def test_a_tag_of_anything_but_a_200_meets_no_condition() -> None:
    table = Table()
    table.publish(record=tagged(status=404))
    assert not table.takes(KNOWN)


# --- variants


def test_selecting_fields_are_compared_as_they_came_in_any_spelling() -> None:
    table = Table()
    for key, values in (("gzip", (b"gzip", None)), ("none", (None, None)), ("both", (b"gzip", b"1"))):
        table.publish(key, selecting=(b"accept-encoding", b"x-custom"), values=values)
    assert table.answer(head()) == b"200 none 0\r\n\r\nhello"
    for spelling in (b"Accept-Encoding", b"accept-encoding", b"ACCEPT-encoding"):
        assert table.answer(head(spelling + b": gzip")) == b"200 gzip 0\r\n\r\nhello"
        assert table.answer(head(spelling + b": gzip", b"x-CUSTOM: 1")) == b"200 both 0\r\n\r\nhello"
        for other in (b": br", b": GZIP", b": gzip, br", b":", b": gzip "):
            assert table.answer(head(spelling + other)) is None
    for lines in ((b"X-Custom: 1",), (b"Accept-Encoding: gzip", b"accept-encoding: gzip"),
                  (b"x-custom: 1", b"Accept-Encoding: gzip", b"X-CUSTOM: 1")):  # fmt: skip
        assert table.answer(head(*lines)) is None


def test_a_route_selects_by_the_names_it_was_last_published_with() -> None:
    table = Table()
    table.publish("plain")
    table.publish("one", selecting=(b"x-one",), values=(b"1",))
    assert table.answer(head()) is None
    assert table.answer(head(b"X-One: 1")) is not None
    table.publish("two", selecting=(b"x-two",), values=(b"1",))
    assert table.answer(head(b"X-One: 1")) is None
    table.publish("plain again")
    assert table.answer(head(b"X-One: 1", b"X-Two: 1")) == b"200 plain again 0\r\n\r\nhello"


@pytest.mark.parametrize("name", [b"via", b"connection", b"if-none-match", b"if-modified-since"])
def test_what_varies_on_a_field_that_the_lane_reads_itself_is_not_published(name: bytes) -> None:
    table = Table()
    table.publish(selecting=(name,), values=(None,))
    assert len(table.hot) == 0
    assert not table.takes()


def test_varying_on_a_guard_leaves_only_requests_without_it() -> None:
    table = Table()
    table.publish(selecting=(b"range",), values=(None,))
    assert table.takes()
    assert not table.takes(b"Range: bytes=0-1")


# --- what keeps a memo true


def test_an_answer_is_given_until_its_moment_and_no_longer(table: Table) -> None:
    table.clock.advance(59.999)
    assert table.takes()
    table.clock.advance(0.001)
    assert not table.takes()
    assert not table.takes(KNOWN)


def test_heads_are_made_once_a_second_and_only_those_asked_for(table: Table) -> None:
    for _ in range(3):
        assert table.takes()
    assert (table.made, table.touched) == ([("a", 200)], ["a"])
    assert table.takes(KNOWN)
    assert table.takes(KNOWN)
    assert (table.made, table.touched) == ([("a", 200), ("a", 304)], ["a"])
    table.clock.advance(1)
    assert table.answer(head()) == b"200 a 1\r\n\r\nhello"
    assert table.made[2:] == [("a", 200)]
    assert table.answer(head(KNOWN)) == b"304 a 1\r\n\r\n"
    assert (table.touched, table.hits) == (["a", "a"], 5)


def test_a_purge_is_seen_by_the_next_head(table: Table) -> None:
    record = table.publish("a2", target=b"/a2")
    assert table.takes()
    table.stamps.apply([url_of("a")])
    for _ in range(3):
        assert not table.takes()
        assert not table.takes(KNOWN)
    assert table.takes(target=b"/a2"), "another URL was purged"
    assert record.clean_at == 1


def count_verdicts() -> AbstractContextManager[mock.MagicMock]:
    return mock.patch.object(PurgeTable, "verdict", autospec=True, side_effect=PurgeTable.verdict)


def test_after_a_purge_of_what_is_not_hot_nothing_is_matched(table: Table) -> None:
    table.publish("b", target=b"/b")
    with count_verdicts() as verdict:
        for _ in range(3):
            table.stamps.apply([url_of("z"), tag_target("", "elsewhere")])
            assert table.takes(target=b"/b")
    assert verdict.call_count == 0


def test_a_purge_that_may_be_about_something_hot_has_each_matched_once(table: Table) -> None:
    record = table.publish("b", target=b"/b")
    table.stamps.apply([url_of("a")])
    with count_verdicts() as verdict:
        for _ in range(3):
            assert table.takes(target=b"/b")
    assert verdict.call_count == 1
    assert record.clean_at == table.stamps.index == 1


def test_purges_too_many_to_be_looked_at_have_all_matched(table: Table) -> None:
    record = table.publish("b", target=b"/b")
    table.stamps.apply([tag_target("", f"{number}") for number in range(LOOKED_AT_MAX + 1)])
    assert table.takes(target=b"/b")
    assert record.clean_at == 1


def test_what_becomes_hot_after_a_purge_was_looked_at_is_matched_then(table: Table) -> None:
    late, purged = stored_response("late"), stored_response("purged")
    table.stamps.apply([url_of("purged")])
    assert table.takes(), "the purge has been looked at"
    table.publish("late", target=b"/late", record=late)
    table.publish("purged", target=b"/purged", record=purged)
    assert table.takes(target=b"/late")
    assert late.clean_at == 1
    assert not table.takes(target=b"/purged")


def test_what_is_no_longer_hot_is_not_looked_for(table: Table) -> None:
    record = table.publish("b", target=b"/b")
    table.publish("c", target=b"/c")
    table.hot.unpublish(record)
    table.stamps.apply([url_of("b")])
    with count_verdicts() as verdict:
        assert table.takes(target=b"/c")
    assert verdict.call_count == 0


def test_a_soft_purge_leaves_the_answer_to_the_pipeline_whoever_saw_it_first(table: Table) -> None:
    record = table.publish("b", target=b"/b")
    table.stamps.apply(soft=[url_of("b")])
    assert not table.takes(target=b"/b")
    record.soft_at, record.clean_at = 1, table.stamps.index  # as a look-up in the store leaves it
    assert not table.takes(target=b"/b")


def test_stamps_forgotten_make_a_memo_useless(table: Table) -> None:
    table.stamps.apply([url_of("z")])
    table.stamps.apply([url_of("z")])
    table.stamps.prune(1)
    assert not table.takes()


def test_what_is_unpublished_is_forgotten_under_all_its_spellings() -> None:
    table = Table()
    record = tagged()
    for host in (b"x", b"X", b"x:80"):
        table.publish(record=record, host=host)
    table.publish(record=record, selecting=(b"x-one",), values=(b"1",), target=b"/b")
    table.publish(record=record, selecting=(b"x-one",), values=(b"2",), target=b"/b")
    other = table.publish("other", selecting=(b"x-one",), values=(b"3",), target=b"/b")
    table.hot.unpublish(record)
    table.hot.unpublish(record)
    for host in (b"x", b"X", b"x:80"):
        assert table.answer(head(host=b"Host: " + host)) is None
    for value, taken in ((b"1", False), (b"2", False), (b"3", True)):
        assert table.takes(b"X-One: " + value, target=b"/b") == taken
    table.hot.unpublish(other)
    assert (len(table.hot), len(table.hot.lane("l1").routes)) == (0, 0)


def test_who_took_a_place_keeps_it_when_the_former_goes() -> None:
    table = Table()
    former = table.publish("former")
    table.publish("latter")
    table.hot.unpublish(former)
    assert table.answer(head()) == b"200 latter 0\r\n\r\nhello"


def test_clearing_forgets_everything_and_gives_back_the_memory(table: Table) -> None:
    table.publish("b", selecting=(b"x-one",), values=(b"1",), target=b"/b")
    assert all(weight > 0 for weight in table.weighed.values())
    table.hot.clear()
    assert not table.takes()
    assert len(table.hot) == 0
    assert table.weighed == {"a": 0, "b": 0}


# --- limits


def test_one_response_is_known_under_a_few_spellings_only() -> None:
    table = Table()
    record = tagged()
    hosts = [b"x%d" % at for at in range(hot.ROUTES_PER_RESPONSE_MAX + 3)]
    for host in (*hosts, *hosts):
        table.publish(record=record, host=host)
    taken = [table.answer(head(host=b"Host: " + host)) is not None for host in hosts]
    assert sum(taken) == hot.ROUTES_PER_RESPONSE_MAX


def test_past_the_variants_of_a_route_the_oldest_goes() -> None:
    table = Table()
    records = [
        table.publish(f"{at}", selecting=(b"x",), values=(b"%d" % at,)) for at in range(hot.VARIANTS_PER_ROUTE_MAX + 2)
    ]
    taken = [table.takes(b"X: %d" % at) for at in range(len(records))]
    assert taken == [False, False, *[True] * hot.VARIANTS_PER_ROUTE_MAX]
    for record in records:
        table.hot.unpublish(record)
    assert len(table.hot.lane("l1").routes) == 0


def test_past_all_routes_the_oldest_goes_and_may_come_back() -> None:
    table = Table()
    with mock.patch.object(hot, "ROUTES_MAX", 3):
        records = [table.publish(f"{at}", target=b"/%d" % at) for at in range(5)]
        assert [table.takes(target=b"/%d" % at) for at in range(5)] == [False, False, True, True, True]
        table.publish(record=records[0], target=b"/0")
        assert [table.takes(target=b"/%d" % at) for at in range(5)] == [True, False, False, True, True]


def test_no_more_spellings_of_names_are_remembered_than_the_limit(table: Table) -> None:
    lane = table.hot.lane("l1")
    with mock.patch.object(hot, "SPELLINGS_MAX", len(lane._known) + 2):
        assert [table.takes(b"X-%d: 1" % at) for at in range(4)] == [True, True, False, False]
        assert table.takes(b"X-0: 1", b"User-Agent: x")


def test_a_key_too_long_to_remember_is_not_published() -> None:
    table = Table()
    table.publish(selecting=(b"x",), values=(b"1" * hot.KEY_BYTES_MAX,))
    assert len(table.hot) == 0


def test_large_bodies_go_beside_the_head_in_one_call() -> None:
    table = Table()
    for size in (hot.JOINED_BODY_BYTES_MAX, hot.JOINED_BODY_BYTES_MAX + 1):
        table.publish(record=tagged(f"{size}", b"x" * size))
        transport = Written()
        assert table.hot.lane("l1").answer(head(), transport, INFO)
        assert transport.calls == ["write" if size == hot.JOINED_BODY_BYTES_MAX else "writelines"]
        assert transport.data == f"200 {size} 0\r\n\r\n".encode() + b"x" * size


def test_each_hit_is_logged_as_it_was_asked(table: Table) -> None:
    logged: list[tuple[str, bytes, int, int]] = []
    table.hot.log = lambda info, site, fields, target, status, sent_bytes: logged.append(
        (f"{info.peer} {site} {fields[b'Host'].decode()}", target, status, sent_bytes)
    )
    table.takes()
    table.takes(KNOWN)
    table.takes(b"Range: x")
    assert logged == [("192.0.2.1 shop x", b"/a", 200, 5), ("192.0.2.1 shop x", b"/a", 304, 0)]


# --- any head at all: a slow restatement of the rules


class Parsed:
    """A message as llhttp reads it, every line kept."""

    def __init__(self, data: bytes) -> None:
        self.target = b""
        self.lines: list[tuple[bytes, bytes]] = []
        self.messages = 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self.lines.append((name, value))

    def on_message_complete(self) -> None:
        self.messages += 1

    def values(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.lines if known.lower() == name]


def restated(data: bytes) -> tuple[str, int] | None:
    """Key and status that the rules allow for these bytes, given what `published` knows."""
    try:
        parsed = Parsed(data)
        head = RequestHead(
            parsed.parser.get_method().decode(), parsed.target.decode("latin-1"), Fields.decode(parsed.lines)
        )
        check_request_head(head, parsed.parser.get_http_version())
    except (httptools.HttpParserError, httptools.HttpParserUpgrade, ClientError, UnicodeDecodeError):
        return None
    alone = parsed.messages == 1 and data.count(b"\r\n\r\n") == 1 and data.endswith(b"\r\n\r\n")
    if head.method != "GET" or parsed.parser.get_http_version() != "1.1" or not alone:
        return None
    if any(parsed.values(name.lower().encode()) for name in GUARDS if name != "If-Modified-Since"):
        return None
    if parsed.values(b"host") != [b"x"] or any(v.lower() != b"keep-alive" for v in parsed.values(b"connection")):
        return None
    if any(b"banish" in value.lower() for value in parsed.values(b"via")):
        return None
    if parsed.target == b"/v":
        chosen = (tuple(parsed.values(b"accept-encoding")), tuple(parsed.values(b"x-custom")))
        key = {((b"gzip",), ()): "gzip", ((), ()): "none", ((b"br",), (b"1",)): "br1"}.get(chosen)
    else:
        key = {b"/a": "a", b"/untagged": "untagged"}.get(parsed.target)
    tags = parsed.values(b"if-none-match")
    if key is None or len(tags) > 1 or (parsed.values(b"if-modified-since") and not tags):
        return None
    if not tags or tags == [b""]:
        return key, 200
    return (key, 304) if tags == [ETAG.encode()] and key != "untagged" else None


def published() -> Table:
    table = Table()
    table.publish("a")
    table.publish("untagged", target=b"/untagged", record=stored_response("untagged"))
    for key, values in (("gzip", (b"gzip", None)), ("none", (None, None)), ("br1", (b"br", b"1"))):
        table.publish(key, target=b"/v", selecting=(b"accept-encoding", b"x-custom"), values=values)
    return table


NAMES = [
    b"Accept-Encoding", b"X-Custom", b"If-None-Match", b"If-Modified-Since", b"Via", b"Connection", b"Host", b"X-Other",
    b"User-Agent", b"Cookie", *[name.encode() for name in GUARDS],
]  # fmt: skip
VALUES = [b"gzip", b"br", b"1", b"", b'"1"', b'"2"', b"keep-alive", b"Keep-Alive", b"close", b"1.1 banish", b"x", b"y",
          b"0", b"Upgrade", b"a\tb", b"\xe9", b"\x01", b"\x7f", b"a b"]  # fmt: skip
RIGHT = {b"Accept-Encoding": b"gzip", b"X-Custom": b"1", b"If-None-Match": b'"1"', b"Connection": b"keep-alive"}
LIKELY = [b"Accept-Encoding", b"X-Custom", b"If-None-Match", b"If-Modified-Since", b"Via", b"Connection", b"X-Other"]


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Heads that are mostly sound, and mostly about what is published."""
    odd = st.integers(0, 11).map(lambda chance: chance == 0)
    as_it_is: Callable[[bytes], bytes] = bytes
    spell = st.sampled_from([as_it_is, as_it_is, bytes.lower, bytes.upper, bytes.swapcase])
    lines = [b"Host: x"]
    for name in draw(st.lists(st.sampled_from(LIKELY + NAMES), max_size=4)):
        value = RIGHT.get(name, b"x") if not draw(odd) else draw(st.sampled_from(VALUES))
        colon = draw(st.sampled_from([b": ", b": ", b": ", b":", b":  ", b" : "])) if draw(odd) else b": "
        lines.append(draw(spell)(name) + colon + value + (b" " if draw(odd) else b""))
    lines = draw(st.permutations(lines))
    target = draw(st.sampled_from([b"/a", b"/v", b"/v", b"/untagged", b"/b"]))
    first = b"GET " + target + b" HTTP/1.1"
    if draw(odd):
        first = draw(st.sampled_from([b"HEAD ", b"POST ", b"GET  ", b"GETX "])) + target + b" HTTP/1.1"
    elif draw(odd):
        first = (
            b"GET " + target + draw(st.sampled_from([b" HTTP/1.0", b" HTTP/1.1 ", b"", b" HTTP/1.2", b"  HTTP/1.1"]))
        )
    ends = [b"\r\n"] * (len(lines) + 2)
    if draw(odd):
        ends[draw(st.integers(0, len(ends) - 1))] = draw(
            st.sampled_from([b"\n", b"\r", b"\r\n ", b"\r\n\t", b"\r\r\n", b"\0"])
        )
    data = b"".join([text + end for text, end in zip([first, *lines, b""], ends, strict=True)])
    if draw(odd):
        data += draw(st.sampled_from([b"\r\n", b"\r\n\r\n", b"x", data]))
    elif draw(odd):
        data = data[: draw(st.integers(1, len(data)))]
    return data


@settings(max_examples=200)
@given(sequence=st.lists(heads(), min_size=1, max_size=6))
@example(sequence=[b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", head()])
def test_any_head_is_left_alone_or_answered_as_the_rules_allow(sequence: Sequence[bytes]) -> None:
    table = published()
    for data in sequence:
        written = table.answer(data)
        if written is not None:
            status, key, _ = written.split(b" ", 2)
            assert restated(data) == (key.decode(), int(status)), data
        assert table.answer(head()) is not None, "the parser was left in the middle of something"


@given(data=heads())
def test_what_is_allowed_and_plainly_written_is_answered(data: bytes) -> None:
    """Left to the pipeline without need: names that come twice or in rare spellings, and odd spaces and lines."""
    allowed, table = restated(data), published()
    lines = [line.partition(b": ") for line in data.split(b"\r\n")[1:-2]]
    twice = len({name.lower() for name, _, _ in lines}) < len(lines)
    rare = any(
        name.lower() in (b"host", b"if-none-match")
        and name not in (b"Host", b"host", b"If-None-Match", b"if-none-match")
        for name, _, _ in lines
    )
    odd = b"  " in data or b" \r\n" in data or b"Connection: Keep-Alive" in data or data.endswith(b"\r\n" * 3)
    if allowed is not None and not (twice or rare or odd):
        assert table.answer(data) is not None
