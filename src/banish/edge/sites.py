"""Which site answers a host, and under which caching policy a path of it stands.

Not here: what the policy means (`caching/policy.py`); opening the origin or the hooks (composition root). A
host is matched without its port. Exact names win over wildcards, the longer wildcard over the shorter, and
`*` comes last. `*.example.com` is every name below example.com, at any depth, and not example.com itself.
"""

import contextlib
import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec

from banish.caching.policy import CachePolicy
from banish.edge.config import Config, Rule
from banish.edge.config import Site as SiteConfig
from banish.http.targets import parse_host

MERGED_POLICIES_MAX = 1024
"""Merged policies kept for a site. More different sets of matching rules than this are merged anew each time.
"""

_OVERRIDES = tuple(field.name for field in msgspec.structs.fields(Rule) if field.name != "path")


class Site:
    """One site as the request path uses it. It holds no state but a memo.

    `key_name` stands for the site in cache keys: its name and a digest of all that decides what is stored under
    which key. When that changes, what was stored under the former rules is not found any more (PURGE rule 6).
    `rules_digest` is that of the rules alone: edges may reach one origin in different ways.
    """

    __slots__ = ("_base", "_merged", "_rules", "config", "key_name", "name", "rules_digest")

    def __init__(self, config: SiteConfig) -> None:
        self.config = config
        self.name = config.name
        self.key_name = f"{config.name}#{_key_rules_digest(config, config.origin, config.host_header)}"
        self.rules_digest = bytes.fromhex(_key_rules_digest(config, config.name))
        self._base = _lowered(config.cache)
        self._rules = [(_glob(rule.path), rule) for rule in config.rules]
        self._merged: dict[tuple[int, ...], CachePolicy] = {(): self._base}

    @property
    def invalidates_all(self) -> bool:
        """Whether every edge of the mesh is to forget what an unsafe request here made invalid."""
        return self.config.invalidation == "mesh"

    def policy(self, path: str) -> CachePolicy:
        """The caching policy of a normalised path: the site's, changed by every rule that matches it."""
        if not self._rules:
            return self._base
        matching = tuple([at for at, (glob, _) in enumerate(self._rules) if glob.match(path) is not None])
        found = self._merged.get(matching)
        if found is None:
            found = self._merge(matching)
            if len(self._merged) < MERGED_POLICIES_MAX:
                self._merged[matching] = found
        return found

    def _merge(self, matching: tuple[int, ...]) -> CachePolicy:
        changes = {
            name: value
            for at in matching
            for name in _OVERRIDES
            if (value := getattr(self._rules[at][1], name)) is not None
        }
        return _lowered(msgspec.structs.replace(self._base, **changes))

    def __repr__(self) -> str:
        return f"<Site {self.name}: {', '.join(self.config.hosts)}>"


class Sites:
    """All sites of one configuration. A reload makes a new one."""

    def __init__(self, config: Config) -> None:
        self.all = tuple(Site(site) for site in config.sites)
        self._exact: dict[str, Site] = {}
        self._below: dict[str, Site] = {}
        self._any: Site | None = None
        for site in self.all:
            for pattern in site.config.hosts:
                self._add(pattern, site)

    def _add(self, pattern: str, site: Site) -> None:
        if pattern == "*":
            self._any = site
        elif pattern.startswith("*."):
            self._below[parse_host(pattern[2:])] = site
        else:
            self._exact[parse_host(pattern)] = site

    def match(self, host: str) -> Site | None:
        """The site that answers a host (lower case, with or without a port); None if no site does."""
        site = self._exact.get(host)
        if site is not None:
            return site
        name = _without_port(host)
        if name is not host and (site := self._exact.get(name)) is not None:
            return site
        if self._below:
            rest = name
            while (dot := rest.find(".")) >= 0:
                rest = rest[dot + 1 :]
                if (site := self._below.get(rest)) is not None:
                    return site
        return self._any

    def named(self, name: str) -> Site | None:
        """The site of that name."""
        return next((site for site in self.all if site.name == name), None)


def _key_rules_digest(config: SiteConfig, *where: object) -> str:
    rules: dict[str, Any] = msgspec.to_builtins(config)
    deciding = [
        {name: value for name, value in part.items() if value is not None and not name.startswith("stale_")}
        for part in (rules["cache"], *rules["rules"])
    ]  # stale windows decide on reuse alone, and so does a rule that sets nothing else
    deciding = [part for part in deciding if part.keys() != {"path"}]
    source = b""
    if config.hooks is not None:
        with contextlib.suppress(OSError):  # loading the hooks says what is wrong
            source = Path(config.hooks).read_bytes()
    told = msgspec.json.encode((*where, deciding), order="deterministic")
    return hashlib.blake2b(told + source, digest_size=4).hexdigest()


def _lowered(policy: CachePolicy) -> CachePolicy:
    """Field names as the rules compare them: in lower case, however the operator writes them."""
    lists = ("targeted_fields", "tag_fields", "vary_on", "vary_ignore")
    changes = {name: tuple(field.lower() for field in getattr(policy, name)) for name in lists}
    return msgspec.structs.replace(policy, **changes)


def _without_port(host: str) -> str:
    colon = host.rfind(":")
    return host if colon < 0 or host.endswith("]") else host[:colon]


def _glob(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for several globs. `*` is any text, `/` included; `?` any one character."""
    return re.compile("|".join(f"(?:{_expression(pattern)})" for pattern in patterns), re.DOTALL)


def _expression(pattern: str) -> str:
    """Each `*` takes the shortest text up to the next fixed piece and keeps it (an atomic group), which is
    always right for globs and keeps a hostile path from costing more than its length times the pattern's.
    """
    first, *rest = [re.escape(piece).replace(r"\?", ".") for piece in re.split(r"\*+", pattern)]
    if not rest:
        return first + r"\Z"
    middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1])
    return f"{first}{middle}.*{rest[-1]}\\Z"
