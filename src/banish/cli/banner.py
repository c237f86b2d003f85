"""What an edge says when it starts: where it listens, what it serves, and what to try."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

import banish
from banish.cli.report import aligned
from banish.edge.config import Config
from banish.edge.units import Address, format_bytes, parse_address


def show_banner(config: Config, ports: list[int], out: Console) -> None:
    """A few lines that a newcomer needs and an operator finds again in the log of a start.

    `ports` are those in use: the configuration may have asked for 0, any free one.
    """
    addresses = [
        parse_address(listener.address)._replace(port=port) for listener, port in zip(config.listen, ports, strict=True)
    ]
    out.print(Text.assemble(("banish", "bold"), f" {banish.__version__}"))
    out.print(aligned(_rows(config, addresses)))


def _rows(config: Config, addresses: list[Address]) -> Iterator[tuple[str, str]]:
    for listener, address in zip(config.listen, addresses, strict=True):
        scheme = "https" if listener.tls else "http"
        suffix = "  (redirects to https)" if listener.redirect_to_https else ""
        yield "listening", url(scheme, address) + suffix
    for site in config.sites:
        yield f"site {site.name}", f"{', '.join(site.hosts)} → {', '.join(site.origin)}"
    yield "memory", f"{format_bytes(config.memory.budget_bytes)}, spool {_spool(config)}"
    if config.admin.listen != "off":
        where = url("http", parse_address(config.admin.listen))
        yield "admin", f"{where}  (/metrics, /objects, /explain)"
    yield "try", f"curl -i {_first_url(config, addresses)}"


def url(scheme: str, address: Address) -> str:
    """An address as something to click on."""
    host = address.host
    if host is None or host in ("0.0.0.0", "::"):
        host = "localhost"
    shown = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{shown}/" if address.port == usual else f"{scheme}://{shown}:{address.port}/"


def _spool(config: Config) -> str:
    where = config.data if config.data is not None else "the temporary directory"
    return f"{format_bytes(config.memory.spool_bytes)} in {where}"


def _first_url(config: Config, addresses: list[Address]) -> str:
    """A request that will work: one with the Host of the first site that has a host of its own."""
    listeners = list(zip(config.listen, addresses, strict=True))
    listener, address = next((one for one in listeners if not one[0].redirect_to_https), listeners[0])
    where = url("https" if listener.tls else "http", address)
    hosts = [host for site in config.sites for host in site.hosts]
    named = next((host for host in hosts if "*" not in host), None)
    return where if "*" in hosts or named is None else f"-H 'Host: {named}' {where}"
