"""Every setting of an edge: its name, unit, range, default and meaning, each declared once.

A configuration is a TOML file, overlaid by environment variables, overlaid by flags. `load` makes a `Config`
of them or raises ConfigError with every problem found. `docs/reference/configuration.md` is generated from
here.

Not here: how values are read and problems worded (`reading.py`), rules that join settings (`checks.py`),
which site answers a host (`sites.py`). The caching rules of a site are declared where they are obeyed
(`caching/policy.py`), and so are the waits on an origin and its bounds (`origin/timeouts.py`,
`origin/limits.py`).
Units: the last word of a name. Paths are taken from the directory of the file that names them.
"""

import functools
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from banish.caching.policy import CachePolicy
from banish.edge.checks import check
from banish.edge.reading import Places, Reader, Setting, did_you_mean, settings
from banish.edge.tomllines import Path as KeyPath
from banish.edge.tomllines import key_lines
from banish.errors import ConfigError, Problem
from banish.origin.limits import Limits as OriginLimits
from banish.origin.timeouts import Timeouts

DEFAULT_LISTEN = "127.0.0.1:8080"
DEFAULT_ADMIN = "127.0.0.1:8081"

_NAME = Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="(letters, digits, `.`, `_`, `-`; 64 at most)")
_NODE = Meta(pattern="^[A-Za-z][A-Za-z0-9._-]{0,63}$", description="(letters, digits, `.`, `_`, `-`; a letter first)")
_SOME = Meta(min_length=1, description="(one at least)")

_NEEDS_RESTART = (
    "node",
    "listen",
    "admin.listen",
    "data",
    "disk",
    "memory",
    "purge",
    "mesh",
    "log.access",
    "log.format",
)
"""What a reload cannot change, since it is held open or sized at start."""

_NOT_OURS = re.compile(r"BANISH_(CONFIG|TOKEN|SERVICE_.*|PORT(_.*)?)")
"""For the command line; and what Kubernetes sets in every pod beside a service named banish."""


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate and its key. Of several, the name that the client asks for decides (SNI)."""

    certificate: Annotated[str, Meta(extra={"path": "file"})]
    """PEM file: the certificate, then its chain."""
    key: Annotated[str, Meta(extra={"path": "file"})]
    """PEM file: the private key, without a password."""


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """One address that clients connect to."""

    address: str
    """HOST:PORT to listen on; `:PORT` for all addresses, IPv4 and IPv6."""
    tls: tuple[Certificate, ...] = ()
    """Certificates; with one or more the listener speaks TLS. The first is the default."""
    redirect_to_https: bool = False
    """Answer every request with a 308 redirect to https on the same host and target."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """Who may call the admin listener, and for what. Callers send `Authorization: Bearer TOKEN`."""

    name: Annotated[str, _NAME]
    """Name of the holder: what the history of purges says."""
    sha256: Annotated[str, Meta(extra={"secret": True})]
    """SHA-256 of the token, in hex: `printf %s TOKEN | sha256sum`."""
    sites: Annotated[tuple[str, ...], _SOME] = ("*",)
    """Names of the sites it may purge and look at; `*` for all."""
    rights: tuple[Literal["read", "purge"], ...] = ("read", "purge")
    """What it may do. purge: purge, undo, and follow its own purges. read: everything that only looks."""


class Admin(msgspec.Struct, frozen=True, kw_only=True):
    """The listener for operators: purges, metrics, health, explain, objects. Never for clients."""

    listen: str = DEFAULT_ADMIN
    """HOST:PORT to listen on, or "off". Loopback only, unless tokens are asked for."""
    token_sha256: Annotated[str | None, Meta(extra={"secret": True})] = None
    """SHA-256, in hex, of a token with all rights on all sites. With this or `tokens` set, everything but
    /healthz and /readyz asks for a token.
    """
    tokens: tuple[Token, ...] = ()

    @property
    def guarded(self) -> bool:
        """Whether callers must show a token."""
        return self.token_sha256 is not None or bool(self.tokens)


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """How much memory and spool space the cache takes."""

    budget_bytes: Annotated[int, Meta(ge=1024**2)] = 256 * 1024**2
    """Memory for stored responses, their bookkeeping included. Past it, eviction."""
    body_memory_bytes: Annotated[int, Meta(ge=4096)] = 1024**2
    """The part of one body that is held in memory; the rest goes to a spool file."""
    spool_bytes: Annotated[int, Meta(ge=0)] = 1024**3
    """Disk for spool files, all together. Past it a fetch goes at the pace of its fastest reader."""


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """What the cache keeps on disk, below `data`: found again after a restart."""

    budget_bytes: Annotated[int, Meta(ge=0)] = 10 * 1024**3
    """Disk for stored responses, their index included. Past it, eviction. 0: keep nothing on disk."""


class Purge(msgspec.Struct, frozen=True, kw_only=True):
    """How purges are kept, and for how long they can be told of and taken back."""

    undo_window_s: Annotated[float, Meta(ge=0)] = 60.0
    """How long a soft purge can be undone."""
    at_grace_s: Annotated[float, Meta(gt=0)] = 10.0
    """How long after its moment a purge scheduled on another edge may be missing before this one carries it out."""
    stamp_min_age_s: Annotated[float, Meta(ge=0)] = 60.0
    """How long a purge is remembered at least for the sake of fetches that began before it. What takes longer
    is passed on, but not stored, if any purge was forgotten meanwhile.
    """
    retention_s: Annotated[float, Meta(gt=0)] = 7 * 86400.0
    """How long the log of purges goes back."""
    retention_bytes: Annotated[int, Meta(ge=1024**2)] = 1024**3
    """How large the log of purges may get: past it the oldest go early."""
    copies: Annotated[int, Meta(ge=1)] = 2
    """On how many edges a purge is durable before it is answered, as far as so many are heard. This one counts."""
    copies_wait_s: Annotated[float, Meta(ge=0)] = 1.0
    """How long an answer waits for that. Past it, it says how many there are."""


class Mesh(msgspec.Struct, frozen=True, kw_only=True):
    """How the edges of a mesh hear of each other. Which mesh this edge belongs to is in its data directory: see
    `banish mesh init` and `banish join`.
    """

    period_s: Annotated[float, Meta(gt=0)] = 2.0
    """Between two digests, in which each edge says how far it is."""
    lease_s: Annotated[float, Meta(gt=0)] = 10.0
    """How long a member may not be heard before this edge may be missing purges, and `sites.on_partition` holds. Two
    periods at least.
    """
    gap_limit_s: Annotated[float, Meta(gt=0)] = 60.0
    """How long a record that every reachable edge says is lost is waited for. Past it everything is purged here."""
    catchup_wait_s: Annotated[float, Meta(ge=0)] = 5.0
    """How long a start waits to have all purges that the others hold. Past it `sites.on_partition` holds."""
    canary_s: Annotated[float, Meta(ge=0)] = 30.0
    """Between two purges of a small response of this edge's own, by which every edge shows that purges arrive and
    work. 0: none are made.
    """
    reach: tuple[str, ...] = ()
    """Where this edge reaches a member, if not where that one says that it listens: `NAME=tls/HOST:PORT`."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What clients may send, and how much at once. Past a limit comes a clear error, never a cut."""

    request_head_bytes: Annotated[int, Meta(ge=1024, le=1024**2)] = 32768
    """Request line and fields. Past it: 431."""
    request_fields: Annotated[int, Meta(ge=10, le=10_000)] = 100
    """Field lines of a request. Past it: 431."""
    request_target_bytes: Annotated[int, Meta(ge=256, le=1024**2)] = 8192
    """Request target (path and query). Past it: 414."""
    request_body_bytes: Annotated[int, Meta(ge=0)] = 1024**3
    """Request body. Past it: 413."""
    connections: Annotated[int, Meta(ge=1)] = 10_000
    """Client connections open at once, all listeners together. Past it: closed at once."""
    pipelined_requests: Annotated[int, Meta(ge=1, le=1000)] = 16
    """Requests of one connection waiting their turn. Past it: reading pauses."""


class ClientTimeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long a client may keep the edge waiting, stage by stage."""

    handshake_s: Annotated[float, Meta(gt=0)] = 10.0
    """TLS handshake, from the first byte."""
    head_s: Annotated[float, Meta(gt=0)] = 10.0
    """Request head, from its first byte to its last."""
    body_s: Annotated[float, Meta(gt=0)] = 30.0
    """Request body: between two pieces of it."""
    write_s: Annotated[float, Meta(gt=0)] = 60.0
    """Response: without the client taking a byte."""
    idle_s: Annotated[float, Meta(gt=0)] = 60.0
    """Connection without a request."""
    drain_s: Annotated[float, Meta(ge=0)] = 30.0
    """After SIGTERM: time for requests under way, before connections are cut."""


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What is written down, and where."""

    access: Annotated[str, Meta(extra={"path": "any"})] = "-"
    """Access log: a file, "-" for standard output, or "off"."""
    format: Literal["combined", "json"] = "combined"
    """Form of access log lines: the usual combined form, or JSON."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that the edge's own log shows."""
    format_app: Literal["auto", "console", "json"] = "auto"
    """Form of the edge's own log, on standard error. auto: console on a terminal, else JSON."""


class OriginTls(msgspec.Struct, frozen=True, kw_only=True):
    """How an https origin proves who it is."""

    verify: bool = True
    """Refuse an origin whose certificate does not check out. Off is for tests only."""
    ca: Annotated[str | None, Meta(extra={"path": "file"})] = None
    """PEM file of authorities to trust, instead of the system's."""
    server_name: str | None = None
    """Name to ask for (SNI) and to find in the certificate, if not the origin's host."""


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """An edge of the mesh that is asked in place of the origin."""

    url: str
    """Where it takes requests: `http://host:port`, `https://host`."""
    member: str = ""
    """Its name in the mesh. If not given: the first part of the host in `url`."""

    @property
    def name(self) -> str:
        """Its name in the mesh."""
        return self.member or (urlsplit(self.url).hostname or "").partition(".")[0]


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """How edges deal with those below and above them (see the tiers guide)."""

    catchup_wait_s: Annotated[float, Meta(ge=0)] = 1.0
    """How long a request of a child may wait for purges that are in effect there and not here. Past it, it is passed
    on, and nothing is stored.
    """
    header_limit_bytes: Annotated[int, Meta(ge=512, le=16384)] = 4096
    """What edges say to each other beside a request. Past it the origin is asked.
    """
    first_byte_s: Annotated[float, Meta(gt=0)] = 10.0
    """How long a parent may take to answer. Past it the next one is asked, or the origin.
    """


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What is different for some paths of a site. Every rule that matches applies; of two, the later wins."""

    path: Annotated[tuple[str, ...], _SOME]
    """Paths it is for. `*` stands for anything, `/` included; `?` for one character."""
    bypass: bool | None = None
    """Pass to the origin: store nothing, reuse nothing."""
    override_ttl_s: Annotated[float, Meta(ge=0)] | None = None
    """Freshness lifetime, whatever the response says."""
    default_ttl_s: Annotated[float, Meta(ge=0)] | None = None
    """Freshness lifetime of responses that say nothing."""
    stale_when_unreachable_s: Annotated[float, Meta(ge=0)] | None = None
    """Past freshness, how long to serve while the origin cannot be reached."""
    stale_while_revalidate_s: Annotated[float, Meta(ge=0)] | None = None
    """Past freshness, how long to serve at once and revalidate behind."""
    stale_if_error_s: Annotated[float, Meta(ge=0)] | None = None
    """Past freshness, how long to serve when the origin answers 5xx."""
    store_set_cookie: bool | None = None
    """Store responses that set cookies. Every client then gets the same cookie."""
    ignore_cookies: bool | None = None
    """Cookies have no say: Cookie selects no variant, and Set-Cookie is left out of what is stored."""
    vary_on: tuple[str, ...] | None = None
    """Request fields to keep variants by, beside what Vary names."""
    vary_ignore: tuple[str, ...] | None = None
    """Request fields to keep no variants by, though Vary names them."""
    query_sort: bool | None = None
    """Sort query parameters by name in the cache key."""
    query_drop: tuple[str, ...] | None = None
    """Query parameters to leave out of the cache key; `*` at will, such as `utm_*`."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What one origin serves: its hosts, where it is, and how its responses are cached."""

    name: Annotated[str, _NAME] = "default"
    """Name in keys, logs and metrics. Changing it empties the site's cache, as a change of `origin`,
    `host_header`, `cache`, `rules` or hooks does; `stale_…` windows aside.
    """
    hosts: Annotated[tuple[str, ...], _SOME] = ("*",)
    """Hosts it answers: exact, `*.example.com` for all names below, `*` for any. Exact wins over wildcard,
    the longer wildcard over the shorter.
    """
    origin: Annotated[tuple[str, ...], _SOME]
    """Where the content comes from: `http://host:port`, `https://host`, `unix:/path/to/socket`. Several are
    addresses of the same content.
    """
    parent: tuple[Parent, ...] = ()
    """Edges of the mesh to ask before the origin, each for its share of the URLs. They need the same site under the
    same rules.
    """
    parent_tls: OriginTls = msgspec.field(default_factory=OriginTls)
    on_partition: Literal["serve", "revalidate", "bypass"] = "serve"
    """What to do with stored responses while some edge of the mesh has not been heard of for `mesh.lease_s`, so that
    purges may be missing: serve them, have each one confirmed by the origin first, or pass. The last two cost the cache
    when an edge crashes, until it is back or forgotten.
    """
    host_header: str = "preserve"
    """Host sent to the origin: `preserve` the client's, that of the `origin`, or a name given here."""
    trust_forwarded: bool = False
    """Believe Forwarded and X-Forwarded-* of clients. Only behind a proxy that sets them itself."""
    lenient: bool = False
    """Take bare LF and equal duplicate Content-Length from this origin."""
    websocket: bool = True
    """Let WebSocket upgrades through."""
    invalidation: Literal["edge", "mesh"] = "edge"
    """Who forgets what a successful POST, PUT, PATCH or DELETE has changed (RFC 9111 section 4.4): the edge that
    passed it on, or all of the mesh.
    """
    refill_concurrency: Annotated[int, Meta(ge=0)] = 0
    """Fetches at once of what a purge has removed; others wait, hottest first. 0: no bound, except after a
    purge of everything, when it is 64.
    """
    refill_wait_s: Annotated[float, Meta(gt=0)] = 10.0
    """How long a request may wait for such a fetch to begin. Past it: 503."""
    hooks: Annotated[str | None, Meta(extra={"path": "file"})] = None
    """Python file with on_request and on_response (see the hooks guide)."""
    origin_timeouts: Timeouts = msgspec.field(default_factory=Timeouts)
    origin_limits: OriginLimits = msgspec.field(default_factory=OriginLimits)
    origin_tls: OriginTls = msgspec.field(default_factory=OriginTls)
    cache: CachePolicy = msgspec.field(default_factory=CachePolicy)
    rules: tuple[Rule, ...] = ()


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All that an edge needs to know to start."""

    node: Annotated[str, _NODE] = "banish"
    """What this edge calls itself in Via and Cache-Status."""
    listen: tuple[Listener, ...] = (Listener(address=DEFAULT_LISTEN),)
    data: Annotated[str | None, Meta(extra={"path": "directory"})] = None
    """Directory of this edge's files, made if missing: stored responses, the log of purges, the edge's identity.
    None: nothing outlives the process, and spool files go to the system's temporary directory.
    """
    admin: Admin = Admin()
    memory: Memory = Memory()
    disk: Disk = Disk()
    purge: Purge = Purge()
    mesh: Mesh = Mesh()
    tier: Tier = Tier()
    limits: Limits = Limits()
    timeouts: ClientTimeouts = ClientTimeouts()
    log: Log = Log()
    sites: tuple[Site, ...] = ()


_FLAGS = ("origin", "listen", "data")
"""Settings with a flag of their own; any other is given as `--set NAME=VALUE`."""

SHORTHANDS: Mapping[type, str] = {Listener: "address", Parent: "url", Rule: "path", Site: "origin"}
"""Where a lone text may stand for a table: `listen = ":8080"` says `listen = [{address = ":8080"}]`."""


def load(
    path: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration that file, environment and flags add up to; a flag wins over the environment over the
    file.

    `flags` maps dotted names ("admin.listen") to values; `origin` is short for the origin of the only site.
    Raises ConfigError with every problem found.
    """
    text, raw = _read_file(Path(path)) if path is not None else ("", {})
    overlaid: dict[KeyPath, str] = {}
    places = Places(str(path) if path is not None else "flags", key_lines(text), overlaid)
    problems = _overlay(raw, _from_env(env or {}), overlaid)
    given = {name: value for name, value in (flags or {}).items() if value not in (None, (), [])}
    problems += _overlay(raw, [(name, value, _flag(name)) for name, value in given.items()], overlaid)
    problems += _unknown_variables(env or {})
    reader = Reader(places, Path(path).parent.absolute() if path is not None else Path.cwd(), SHORTHANDS)
    config: Config = reader.struct(Config, raw)
    problems += reader.problems.values()
    if not reader.incomplete:
        problems += [places.problem(*found) for found in check(config) if not _touches(found[0], reader.problems)]
    if problems:
        raise ConfigError(*sorted(problems, key=lambda problem: problem.line or sys.maxsize))
    return config


def _touches(path: KeyPath, wrong: Iterable[KeyPath]) -> bool:
    """Is anything at, above or below `path` known to be wrong already?"""
    return any(path[: len(other)] == other[: len(path)] for other in wrong)


def needs_restart(old: Config, new: Config) -> list[str]:
    """Names of the settings that differ and that a reload cannot change."""
    return [name for name in _NEEDS_RESTART if attrgetter(name)(old) != attrgetter(name)(new)]


def in_force(old: Config, new: Config) -> Config:
    """The new configuration as far as a reload can put it in force: the rest stays as it is."""
    kept: dict[str, Any] = {}
    for name in needs_restart(old, new):
        top, _, below = name.partition(".")
        value = getattr(old, top)
        if below:
            value = msgspec.structs.replace(kept.get(top, getattr(new, top)), **{below: getattr(value, below)})
        kept[top] = value
    return msgspec.structs.replace(new, **kept)


def redacted(config: Config) -> dict[str, Any]:
    """The configuration as plain data, secrets replaced by `***`."""
    plain: dict[str, Any] = msgspec.to_builtins(config)
    for setting in _every_setting():
        if setting.extra.get("secret"):
            _blank(plain, setting.path)
    return plain


def _blank(table: dict[str, Any], path: tuple[str, ...]) -> None:
    """Replace a setting's value by `***`, in each member of a list on the way."""
    name, *below = path
    if name.endswith("[]"):
        for member in table[name[:-2]]:
            _blank(member, tuple(below))
    elif below:
        _blank(table[name], tuple(below))
    elif table[name] is not None:
        table[name] = "***"


def _read_file(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise ConfigError(Problem(str(path), None, "", f"cannot be read: {os.strerror(error.errno or 0)}")) from error
    except UnicodeDecodeError as error:
        raise ConfigError(Problem(str(path), None, "", "is not UTF-8 text", "TOML files are UTF-8")) from error
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        what = f"is not TOML: {str(error).split(' (at')[0].lower()}"
        right = 'text stands in quotes, as in "10 minutes"' if "invalid value" in what else ""
        raise ConfigError(Problem(str(path), int(at[1]) if at else None, "", what, right)) from error


@functools.cache
def _every_setting() -> tuple[Setting, ...]:
    """The rows of the schema, made once, without their descriptions."""
    return tuple(settings(Config, described=False))


def _variables() -> dict[str, str]:
    """Environment variable → dotted name of the setting."""
    found = {setting.env: setting.name for setting in _every_setting() if setting.env is not None}
    return {**found, "BANISH_LISTEN": "listen", "BANISH_ORIGIN": "origin", "BANISH_ADMIN": "admin.listen"}


def _from_env(env: Mapping[str, str]) -> list[tuple[str, Any, str]]:
    """What the environment sets: (dotted name, value, variable). Commas separate members of a list."""
    return [
        (name, env[variable].split(",") if name in ("listen", "origin") else env[variable], variable)
        for variable, name in _variables().items()
        if variable in env
    ]


def _unknown_variables(env: Mapping[str, str]) -> list[Problem]:
    known = list(_variables())
    return [
        Problem(name, None, name, "is not a setting", did_you_mean(name, known))
        for name in env
        if name.startswith("BANISH_") and name not in known and not _NOT_OURS.fullmatch(name)
    ]


def _flag(name: str) -> str:
    return {"admin.listen": "--admin"}.get(name, f"--{name}" if name in _FLAGS else f"--set {name}")


def _overlay(
    raw: dict[str, Any], values: Iterable[tuple[str, Any, str]], overlaid: dict[KeyPath, str]
) -> list[Problem]:
    """Write `values` over the document, remembering where each came from."""
    problems: list[Problem] = []
    known = [*(setting.name for setting in _every_setting() if setting.env is not None), "listen"]
    for name, value, source in values:
        if name == "origin":
            problems += _overlay_origin(raw, value, source, overlaid)
            continue
        if name not in known:
            problems.append(Problem(source, None, name, "is not a setting", did_you_mean(name, known)))
            continue
        *above, last = name.split(".")
        table = raw
        for part in above:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                break  # the file has something else there; reading will say so
            table = inner
        else:
            table[last] = value
            overlaid[tuple(name.split("."))] = source
    return problems


def _overlay_origin(raw: dict[str, Any], value: Any, source: str, overlaid: dict[KeyPath, str]) -> list[Problem]:
    """`--origin` gives the only site its origin, and makes that site if there is none.

    A site made so sends the origin's own Host: the newcomer's edge has no name that the origin would know.
    """
    sites = raw.setdefault("sites", [])
    if isinstance(sites, dict):
        raw["sites"] = sites = [sites]
    if not sites:
        sites.append({"host_header": "origin"})
    if len(sites) > 1:
        what = f"names an origin, but the file has {len(sites)} sites"
        return [Problem(source, None, source, what, "set `origin` of each site in the file")]
    if isinstance(sites[0], dict):
        sites[0]["origin"] = value
        overlaid[("sites", 0, "origin")] = source
    return []


__all__ = [
    "Admin",
    "Certificate",
    "ClientTimeouts",
    "Config",
    "Disk",
    "Limits",
    "Listener",
    "Log",
    "Memory",
    "Mesh",
    "OriginTls",
    "Parent",
    "Purge",
    "Rule",
    "Setting",
    "Site",
    "Tier",
    "Token",
    "in_force",
    "load",
    "needs_restart",
    "redacted",
]
