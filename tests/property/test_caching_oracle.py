"""The caching rules against an oracle: for any exchange, both say the same.

The oracle below is RFC 9111 told as slowly and plainly as possible, for a shared cache with default settings. It
shares no code with the rules. It works on a model of the exchange, in which a date is a number and a directive
a pair; the rules see the same exchange as field lines. Time is counted in whole seconds here.
"""

from dataclasses import dataclass, field
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from banish.caching.policy import CachePolicy
from banish.caching.reuse import Forward, Hit, Stale, Unsatisfiable, Validate, decide, stale_on_error
from banish.caching.stored import age
from banish.caching.storing import decide_storing, make_metadata
from banish.http.dates import format_http_date
from banish.http.fields import Fields
from banish.http.messages import RequestHead, ResponseHead

SENT = 1_800_000_000
DAMAGED = "damaged"
DAY = 86400


@dataclass(frozen=True)
class Directive:
    """A directive as (name, argument); an argument that is no number is kept as text."""

    name: str
    argument: int | str | None = None

    def __str__(self) -> str:
        return self.name if self.argument is None else f"{self.name}={self.argument}"


@dataclass(frozen=True)
class Exchange:
    """A GET, its response, and a second request for the same URL some time later."""

    status: int
    directives: list[Directive]
    expires_in: int | str | None
    date_offset: int | None
    age: int | str | None
    modified_ago: int | None
    etag: bool
    set_cookie: bool
    authorization: bool
    vary: list[str]
    transit: int
    elapsed: int
    method: str
    wanted: list[Directive]
    first_values: dict[str, str] = field(default_factory=dict)
    second_values: dict[str, str] = field(default_factory=dict)

    # How the rules see it

    @property
    def received(self) -> int:
        return SENT + self.transit

    @property
    def now(self) -> int:
        return self.received + self.elapsed

    def first(self) -> RequestHead:
        lines = list(self.first_values.items())
        if self.authorization:
            lines.append(("Authorization", "x"))
        return RequestHead("GET", "/", Fields.of(lines))

    def second(self) -> RequestHead:
        lines = list(self.second_values.items())
        lines += [("Cache-Control", str(directive)) for directive in self.wanted]
        return RequestHead(self.method, "/", Fields.of(lines))

    def response(self) -> ResponseHead:
        lines = [("Cache-Control", str(directive)) for directive in self.directives]
        if self.date_offset is not None:
            lines.append(("Date", format_http_date(self.received + self.date_offset)))
        if isinstance(self.expires_in, int):
            lines.append(("Expires", format_http_date(self.received + self.expires_in)))
        elif self.expires_in is not None:
            lines.append(("Expires", "0"))
        if self.age is not None:
            lines.append(("Age", str(self.age)))
        if self.modified_ago is not None:
            lines.append(("Last-Modified", format_http_date(self.received - self.modified_ago)))
        if self.etag:
            lines.append(("ETag", '"a"'))
        if self.set_cookie:
            lines.append(("Set-Cookie", "a=b"))
        if self.vary:
            lines.append(("Vary", ", ".join(self.vary)))
        return ResponseHead(self.status, Fields.of(lines))

    # What the oracle asks of it

    def says(self, name: str) -> bool:
        return any(directive.name == name for directive in self.directives)

    def lifetime_in(self, name: str) -> int | None:
        """Damaged lifetimes are 0; of several, the shortest."""
        found = [directive.argument for directive in self.directives if directive.name == name]
        return min([value if isinstance(value, int) else 0 for value in found], default=None)

    def window_in(self, name: str) -> int | None:
        found = [directive.argument for directive in self.directives if directive.name == name]
        return min([value for value in found if isinstance(value, int)], default=None)

    def wants(self, name: str) -> bool:
        return any(directive.name == name for directive in self.wanted)

    def numbers_wanted(self, name: str) -> list[int | str | None]:
        return [directive.argument for directive in self.wanted if directive.name == name]


# The oracle


def oracle_date(exchange: Exchange) -> int:
    """RFC 9110 section 6.6.1: without Date, the moment of receipt."""
    return exchange.received + (exchange.date_offset or 0)


def oracle_explicit_lifetime(exchange: Exchange) -> int | None:
    """Section 4.2.1, its first three cases."""
    if exchange.says("s-maxage"):
        return exchange.lifetime_in("s-maxage")
    if exchange.says("max-age"):
        return exchange.lifetime_in("max-age")
    if exchange.expires_in is None:
        return None
    if not isinstance(exchange.expires_in, int):
        return 0
    return exchange.received + exchange.expires_in - oracle_date(exchange)


def oracle_may_guess(exchange: Exchange) -> bool:
    """Section 4.2.2."""
    guessable = exchange.status in (200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501)
    return guessable or exchange.says("public")


def oracle_lifetime(exchange: Exchange) -> int:
    explicit = oracle_explicit_lifetime(exchange)
    if explicit is not None:
        return max(explicit, 0)
    if not oracle_may_guess(exchange) or exchange.modified_ago is None:
        return 0
    unchanged_for = oracle_date(exchange) - (exchange.received - exchange.modified_ago)
    return max(0, min(unchanged_for // 10, DAY))


def oracle_stores(exchange: Exchange) -> bool:
    """Section 3, requirement by requirement, then our own: it must be of some use."""
    understood = exchange.status in (200, 203, 204, 301, 302, 404, 410, 500)
    if exchange.status in (304, 416):
        return False
    if exchange.says("must-understand") and not understood:
        return False
    if exchange.says("no-store") and not exchange.says("must-understand"):
        return False
    if exchange.says("private"):
        return False
    shared = exchange.says("public") or exchange.says("must-revalidate") or exchange.says("s-maxage")
    if exchange.authorization and not shared:
        return False
    if exchange.set_cookie or "*" in exchange.vary:
        return False
    if oracle_explicit_lifetime(exchange) is None and not oracle_may_guess(exchange):
        return False
    if exchange.etag or exchange.modified_ago is not None:
        return True
    if exchange.says("no-cache"):
        return False
    windows = [exchange.window_in("stale-while-revalidate"), exchange.window_in("stale-if-error")]
    return oracle_lifetime(exchange) > 0 or oracle_first(windows) > 0


def oracle_first(windows: list[int | None]) -> int:
    return next((window for window in windows if window), 0)


def oracle_age(exchange: Exchange) -> int:
    """Section 4.2.3, with the names used there."""
    age_value = exchange.age if isinstance(exchange.age, int) and exchange.age >= 0 else 0
    apparent_age = max(0, exchange.received - oracle_date(exchange))
    response_delay = exchange.received - SENT
    corrected_age_value = age_value + response_delay
    corrected_initial_age = max(apparent_age, corrected_age_value)
    resident_time = exchange.now - exchange.received
    return corrected_initial_age + resident_time


def oracle_forbids_stale(exchange: Exchange, *, window_given: bool) -> bool:
    """Section 4.2.4; a window in the response itself outweighs what s-maxage implies."""
    for name in ("no-cache", "must-revalidate", "proxy-revalidate"):
        if exchange.says(name):
            return True
    return exchange.says("s-maxage") and not window_given


def oracle_decides(exchange: Exchange) -> str:
    """Sections 4 and 5.2.1."""
    found = oracle_without_only_if_cached(exchange)
    if exchange.wants("only-if-cached") and found in ("forward", "validate"):
        return "unsatisfiable"
    return found


def oracle_without_only_if_cached(exchange: Exchange) -> str:
    if exchange.wants("no-store"):
        return "forward"
    if oracle_is_of_another_variant(exchange):
        return "forward"
    if exchange.says("no-cache") or exchange.wants("no-cache"):
        return "validate"
    current_age, lifetime = oracle_age(exchange), oracle_lifetime(exchange)
    fresh = lifetime > current_age
    for number in exchange.numbers_wanted("min-fresh"):
        if isinstance(number, int) and lifetime - current_age < number:
            return "validate"
    if not (exchange.says("immutable") and fresh):
        for number in exchange.numbers_wanted("max-age"):
            if current_age > (number if isinstance(number, int) else 0):
                return "validate"
    if fresh:
        return "hit"
    return oracle_stale_use(exchange, current_age - lifetime)


def oracle_is_of_another_variant(exchange: Exchange) -> bool:
    """Section 4.1."""
    return any(exchange.first_values.get(name) != exchange.second_values.get(name) for name in exchange.vary)


def oracle_stale_use(exchange: Exchange, stale_for: int) -> str:
    accepted = exchange.numbers_wanted("max-stale")
    limits = [limit for limit in accepted if isinstance(limit, int)]
    takes_stale = None in accepted or bool(limits)
    within_limits = all(stale_for <= limit for limit in limits)
    if takes_stale and within_limits and not oracle_forbids_stale(exchange, window_given=False):
        return "hit"
    window = exchange.window_in("stale-while-revalidate")
    if window and stale_for <= window and not oracle_forbids_stale(exchange, window_given=True):
        return "stale"
    return "validate"


def oracle_stands_in(exchange: Exchange, error: str | int) -> bool:
    """Section 4.2.4 and RFC 5861 section 4, with a day as our default where nothing is said."""
    if exchange.wants("no-cache") or oracle_is_of_another_variant(exchange):
        return False
    window = exchange.window_in("stale-if-error")
    if oracle_forbids_stale(exchange, window_given=window is not None):
        return False
    stale_for = oracle_age(exchange) - oracle_lifetime(exchange)
    if window is None:
        return error == "unreachable" and stale_for <= DAY
    return window > 0 and stale_for <= window


# Exchanges

SECONDS = st.one_of(st.integers(0, 12), st.sampled_from([60, 3600, DAY, 2**31]))
FLAGS = st.sampled_from(
    [
        *("no-store", "no-cache", "private", "public", "must-revalidate", "proxy-revalidate"),
        *("must-understand", "immutable", "no-transform", "foo"),
    ]
).map(Directive)
NUMBERED = st.builds(
    Directive,
    st.sampled_from(["max-age", "max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"]),
    st.one_of(SECONDS, st.sampled_from([DAMAGED, "1.5", "-3"])),
)
WANTED = st.one_of(
    st.sampled_from(["no-cache", "no-store", "only-if-cached", "max-stale", "foo"]).map(Directive),
    st.builds(
        Directive,
        st.sampled_from(["max-age", "min-fresh", "max-stale"]),
        st.one_of(SECONDS, st.just(DAMAGED)),
    ),
)
VALUES = st.dictionaries(st.sampled_from(["foo", "bar"]), st.sampled_from(["1", "2"]))

EXCHANGES = st.builds(
    Exchange,
    status=st.sampled_from([200, 200, 200, 203, 204, 299, 301, 302, 304, 404, 410, 416, 500, 599]),
    directives=st.lists(st.one_of(NUMBERED, NUMBERED, FLAGS), max_size=4),
    expires_in=st.one_of(st.none(), st.none(), st.integers(-20, 40), st.just(DAMAGED)),
    date_offset=st.one_of(st.none(), st.just(0), st.integers(-10, 10)),
    age=st.one_of(st.none(), st.integers(0, 20), st.sampled_from([-5, DAMAGED])),
    modified_ago=st.one_of(st.none(), st.integers(-10, 300), st.just(20 * DAY)),
    etag=st.booleans(),
    set_cookie=st.sampled_from([False, False, False, True]),
    authorization=st.sampled_from([False, False, True]),
    vary=st.lists(st.sampled_from(["foo", "foo", "bar", "*"]), max_size=2, unique=True),
    transit=st.integers(0, 3),
    elapsed=st.one_of(st.integers(0, 30), st.sampled_from([3599, 3600, DAY, DAY + 60])),
    method=st.sampled_from(["GET", "GET", "HEAD"]),
    wanted=st.lists(WANTED, max_size=2),
    first_values=VALUES,
    second_values=VALUES,
)

POLICY = CachePolicy()
FAILURES: tuple[Literal["unreachable"] | int, ...] = ("unreachable", 503)
NAMES = {Hit: "hit", Stale: "stale", Validate: "validate", Forward: "forward", Unsatisfiable: "unsatisfiable"}


@given(EXCHANGES)
@settings(max_examples=250)
def test_the_rules_store_what_the_oracle_stores(exchange: Exchange) -> None:
    received_at = exchange.received
    reason = decide_storing(exchange.first(), exchange.response(), POLICY, received_at=received_at)
    assert reason.storable == oracle_stores(exchange)


@given(EXCHANGES.filter(oracle_stores))
@settings(max_examples=250)
def test_the_rules_reuse_what_the_oracle_reuses(exchange: Exchange) -> None:
    meta = make_metadata(
        "key",
        exchange.first(),
        exchange.response(),
        POLICY,
        requested_at=SENT,
        received_at=exchange.received,
    )
    assert age(meta, exchange.now) == oracle_age(exchange)
    assert meta.lifetime == oracle_lifetime(exchange)
    found = decide(exchange.second(), [meta], exchange.now, POLICY)
    assert NAMES[type(found)] == oracle_decides(exchange)
    for error in FAILURES:
        stands_in = stale_on_error(meta, exchange.now, POLICY, exchange.second(), error)
        assert stands_in == oracle_stands_in(exchange, error)


@given(EXCHANGES.filter(oracle_stores), st.integers(0, DAY))
@settings(max_examples=100)
def test_age_never_falls_as_time_passes(exchange: Exchange, later: int) -> None:
    meta = make_metadata(
        "key",
        exchange.first(),
        exchange.response(),
        POLICY,
        requested_at=SENT,
        received_at=exchange.received,
    )
    assert 0 <= age(meta, exchange.now) <= age(meta, exchange.now + later)
