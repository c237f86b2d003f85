"""What an edge says when it starts: where it listens, what it serves, and what to try."""

from collections.abc import Iterator

import structlog
from rich.console import Console
from rich.text import Text

import banish
from banish.cli.report import aligned
from banish.edge.config import Config
from banish.edge.logs import writes_json
from banish.edge.units import Address, format_bytes, parse_address

log = structlog.get_logger(__name__)


def announce(config: Config, ports: list[int], out: Console) -> None:
    """Say that the edge serves: to people as a banner, to a log in JSON as one event of it."""
    if not writes_json(config.log, out.file):
        show_banner(config, ports, out)
        return
    addresses = _addresses(config, ports)
    log.info(
        "serving",
        version=banish.__version__,
        listening=[
            url("https" if listener.tls else "http", address)
            for listener, address in zip(config.listen, addresses, strict=True)
        ],
        admin=config.admin.listen,
        sites={site.name: list(site.origin) for site in config.sites},
        memory=format_bytes(config.memory.budget_bytes),
        disk=_disk(config),
        spool=_spool(config),
        **{"try": _first_request(config, addresses)},
    )


def show_banner(config: Config, ports: list[int], out: Console) -> None:
    """A few lines that a newcomer needs and an operator finds again in the log of a start.

    `ports` are those in use: the configuration may have asked for 0, any free one.
    """
    addresses = _addresses(config, ports)
    out.print(Text.assemble(("banish", "bold"), f" {banish.__version__}"))
    out.print(aligned(_rows(config, addresses)))


def _addresses(config: Config, ports: list[int]) -> list[Address]:
    return [
        parse_address(listener.address)._replace(port=port) for listener, port in zip(config.listen, ports, strict=True)
    ]


def _rows(config: Config, addresses: list[Address]) -> Iterator[tuple[str, str]]:
    for listener, address in zip(config.listen, addresses, strict=True):
        scheme = "https" if listener.tls else "http"
        suffix = "  (redirects to https)" if listener.redirect_to_https else ""
        yield "listening", url(scheme, address) + suffix
    for site in config.sites:
        ways = [site.hosts, [parent.name for parent in site.parent], site.origin]
        yield f"site {site.name}", " → ".join([", ".join(way) for way in ways if way])
    yield "memory", f"{format_bytes(config.memory.budget_bytes)}, spool {_spool(config)}"
    yield "disk", _disk(config)
    if config.admin.listen != "off":
        where = url("http", parse_address(config.admin.listen))
        yield "admin", f"{where}  (/purges, /metrics, /explain, …)"
    yield "try", _first_request(config, addresses)


def url(scheme: str, address: Address) -> str:
    """An address as something to click on."""
    host = address.host
    if host is None or host in ("0.0.0.0", "::"):
        host = "localhost"
    shown = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{shown}/" if address.port == usual else f"{scheme}://{shown}:{address.port}/"


def _disk(config: Config) -> str:
    if config.data is None or not config.disk.budget_bytes:
        return "nothing is kept over a restart" + ("" if config.data is not None else " (give a directory: --data DIR)")
    return f"{format_bytes(config.disk.budget_bytes)} in {config.data}"


def _spool(config: Config) -> str:
    where = config.data if config.data is not None else "the temporary directory"
    return f"{format_bytes(config.memory.spool_bytes)} in {where}"


def _first_request(config: Config, addresses: list[Address]) -> str:
    """A request that will work: one for the first host that is named, where not any host is served.

    Over TLS the name is in the handshake too, so curl must be told where that name is to be found.
    """
    listeners = list(zip(config.listen, addresses, strict=True))
    listener, address = next((one for one in listeners if not one[0].redirect_to_https), listeners[0])
    where = url("https" if listener.tls else "http", address)
    hosts = [host for site in config.sites for host in site.hosts]
    named = next((host for host in hosts if "*" not in host), None)
    if "*" in hosts or named is None:
        return f"curl -i {where}"
    if not listener.tls:
        return f"curl -i -H 'Host: {named}' {where}"
    host = {None: "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host or "")
    at = f"[{host}]" if ":" in host else host
    return f"curl -i --resolve {named}:{address.port}:{at} {url('https', address._replace(host=named))}"
