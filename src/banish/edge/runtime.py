"""Sites at work: each site of a configuration with its origin group and its hooks.

Not here: matching hosts and merging rules (`sites.py`), what a request does with all this (`proxy/`).
Lifetime: a reload makes new runtimes; the old ones are closed once the requests that hold them are over.
"""

import msgspec

from banish.caching.policy import CachePolicy
from banish.clock import Clock
from banish.edge.config import Config, Parent, Tier
from banish.edge.config import OriginTls as TlsSettings
from banish.edge.hooks import Hooks
from banish.edge.refill import Refill
from banish.edge.sites import Site, Sites
from banish.http.targets import Target
from banish.origin.client import OriginGroup
from banish.origin.connect import OriginTls
from banish.tables import Accounts


class ParentRuntime:
    """Another edge that is asked in place of the origin. Until `avoided_until`, by the monotonic clock, it is not.
    `failures` counts those in a row."""

    def __init__(self, parent: Parent, group: OriginGroup) -> None:
        self.name = parent.name
        self.group = group
        self.avoided_until = 0.0
        self.failures = 0


class SiteRuntime:
    """One site, ready to serve. `origin` is the way to its content, `parents` are asked before it, `refill` is what
    keeps that way open after a purge, `hooks` its program, if it has one."""

    def __init__(self, site: Site, *, tier: Tier, accounts: Accounts, clock: Clock) -> None:
        config = site.config
        self.site = site
        self.config = config
        self.name = site.name
        self.key_name = site.key_name
        self.origin = OriginGroup(
            config.origin,
            accounts=accounts,
            clock=clock,
            timeouts=config.origin_timeouts,
            limits=config.origin_limits,
            tls=_tls(config.origin_tls),
            lenient=config.lenient,
        )
        first_byte_s = min(tier.first_byte_s, config.origin_timeouts.first_byte_s)
        self.parents = {
            parent.name: ParentRuntime(
                parent,
                OriginGroup(
                    [parent.url],
                    accounts=accounts,
                    clock=clock,
                    timeouts=msgspec.structs.replace(config.origin_timeouts, first_byte_s=first_byte_s),
                    limits=config.origin_limits,
                    tls=_tls(config.parent_tls),
                ),
            )
            for parent in config.parent
        }
        self.refill = Refill(
            site.name, concurrency=config.refill_concurrency, wait_s=config.refill_wait_s, accounts=accounts
        )
        self.hooks = (
            Hooks.load(site.name, config.hooks, accounts=accounts, clock=clock) if config.hooks is not None else None
        )

    def policy(self, path: str) -> CachePolicy:
        """The caching policy of a normalised path."""
        return self.site.policy(path)

    def host_header(self, target: Target) -> str:
        """What the origin is told as Host."""
        match self.config.host_header:
            case "preserve":
                return target.host
            case "origin":
                address = self.origin.addresses[0]
                if address.scheme == "unix":
                    return target.host
                host = f"[{address.host}]" if ":" in address.host else address.host
                usual = {"http": 80, "https": 443}[address.scheme]
                return host if address.port == usual else f"{host}:{address.port}"
            case literal:
                return literal


class Runtimes:
    """All sites of one configuration, at work."""

    def __init__(self, config: Config, *, accounts: Accounts, clock: Clock) -> None:
        self.sites = Sites(config)
        self._accounts = accounts
        self._books = accounts.part()
        try:
            self._by_name = {
                site.name: SiteRuntime(site, tier=config.tier, accounts=self._books, clock=clock)
                for site in self.sites.all
            }
        except BaseException:
            accounts.close_part(self._books)
            raise

    def match(self, host: str) -> SiteRuntime | None:
        """The site that answers a host; None if none does."""
        site = self.sites.match(host)
        return None if site is None else self._by_name[site.name]

    async def close(self) -> None:
        """Close every connection to every origin and parent."""
        for runtime in self._by_name.values():
            for group in (runtime.origin, *[parent.group for parent in runtime.parents.values()]):
                await group.close()
        self._accounts.close_part(self._books)


def _tls(settings: TlsSettings) -> OriginTls:
    return OriginTls(verify=settings.verify, ca_file=settings.ca, server_name=settings.server_name)
