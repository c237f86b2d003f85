"""What a single setting's type cannot say: rules that join settings, and names that must exist outside.

Not here: types and ranges (`reading.py`); opening anything for good (a check looks, and lets go).
"""

import contextlib
import math
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from banish.caching.policy import CachePolicy
from banish.edge.tomllines import Path as KeyPath
from banish.edge.units import Address, format_bytes, parse_address
from banish.errors import ConfigError
from banish.http.targets import parse_host
from banish.mesh.endpoints import parse_endpoint
from banish.origin.addresses import parse_address as parse_origin

if TYPE_CHECKING:
    from banish.edge.config import Certificate, Config, Listener, Site


Found = Iterator[tuple[KeyPath, str, str]]
"""Where, what is wrong, what would be right."""


def check(config: "Config") -> Found:
    """Every problem of a configuration whose parts are each well formed."""
    yield from _check_listeners(config)
    yield from _check_admin(config)
    yield from _check_memory(config)
    yield from _check_sites(config)
    if config.mesh.lease_s < 2 * config.mesh.period_s:
        yield ("mesh", "lease_s"), "is shorter than two periods", f"give {2 * config.mesh.period_s:g} s at least"
    for at, text in enumerate(config.mesh.reach):
        name, equals, endpoint = text.partition("=")
        try:
            if not (name and equals):
                raise ConfigError("there is no name")
            parse_endpoint(endpoint)
        except ConfigError as error:
            yield ("mesh", "reach", at), f'"{text}" cannot be used: {error}', "write NAME=tls/HOST:PORT"
    access = config.log.access
    if access not in ("-", "off") and not Path(access).parent.is_dir():
        yield ("log", "access"), f'"{access}" would be in a directory that is not there', "make it"
    if config.data is not None and Path(config.data).exists() and not Path(config.data).is_dir():
        yield ("data",), f'"{config.data}" is not a directory', "name a directory; it is made if missing"


def _check_listeners(config: "Config") -> Found:
    if not config.listen:
        yield ("listen",), "is empty", 'give at least one address, such as ":8080"'
    taken: list[tuple[Address, str]] = []
    for at, listener in enumerate(config.listen):
        path: KeyPath = ("listen", at)
        try:
            address = parse_address(listener.address)
        except ValueError as error:
            yield (*path, "address"), f'"{listener.address}" is not an address', str(error)
            continue
        yield from _check_overlap(address, listener.address, taken, (*path, "address"))
        taken.append((address, f"listen[{at}]"))
        yield from _check_tls(listener, path)
    with contextlib.suppress(ValueError):  # said where the admin listener is looked at
        if (admin := config.admin.listen) != "off":
            yield from _check_overlap(parse_address(admin), admin, taken, ("admin", "listen"))


def _check_overlap(address: Address, written: str, taken: list[tuple[Address, str]], path: KeyPath) -> Found:
    for other, name in taken:
        if address.overlaps(other):
            yield path, f'"{written}" is listened on twice', f"see {name}"
            return


def _check_tls(listener: "Listener", path: KeyPath) -> Found:
    if listener.tls and listener.redirect_to_https:
        yield (
            (*path, "redirect_to_https"),
            "is set on a listener that speaks TLS already",
            "set it on the plain one (port 80)",
        )
    for at, certificate in enumerate(listener.tls):
        yield from _check_certificate(certificate, (*path, "tls", at))


def _check_certificate(certificate: "Certificate", path: KeyPath) -> Found:
    missing = list(_check_file(certificate.certificate, (*path, "certificate")))
    missing += _check_file(certificate.key, (*path, "key"))
    if missing:
        yield from missing
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key, password=_no_password)
    except _Encrypted:
        yield (*path, "key"), "has a password", "write it without one: openssl pkey -in KEY -out NEW"
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            yield (
                (*path, "key"),
                "does not belong to the certificate",
                "give the pair",
            )
        else:
            yield (
                (*path, "certificate"),
                f"cannot be used, or its key cannot ({error.reason or error})",
                "both are PEM files, beginning with -----BEGIN …",
            )


class _Encrypted(Exception):
    """The key asks for a password, and nobody is there to type it."""


def _no_password() -> str:
    raise _Encrypted


def _check_file(name: str, path: KeyPath) -> Found:
    try:
        with open(name, "rb"):
            pass
    except OSError as error:
        right = "paths start from the configuration file's directory"
        if isinstance(error, PermissionError):
            right = "the user that runs banish must be able to read it"
        yield path, f'"{name}" cannot be read ({error.strerror})', right


def _check_admin(config: "Config") -> Found:
    listen = config.admin.listen
    yield from _check_tokens(config)
    if listen == "off":
        return
    try:
        address = parse_address(listen)
    except ValueError as error:
        yield ("admin", "listen"), f'"{listen}" is not an address', f'{error}; or "off"'
        return
    if not address.loopback and not config.admin.guarded:
        yield (
            ("admin", "listen"),
            f'"{listen}" can be reached from other machines, and nothing asks who calls',
            "set admin.token_sha256 or admin.tokens, or listen on 127.0.0.1",
        )


def _check_tokens(config: "Config") -> Found:
    digests: list[tuple[KeyPath, str | None]] = [(("admin", "token_sha256"), config.admin.token_sha256)]
    names = [site.name for site in config.sites]
    for at, token in enumerate(config.admin.tokens):
        path: KeyPath = ("admin", "tokens", at)
        digests.append(((*path, "sha256"), token.sha256))
        for site in token.sites:
            if site != "*" and site not in names:
                yield (*path, "sites"), f'"{site}" is no site here', f'sites: {", ".join(names)}; or "*"'
        if token.name in ("admin", "local"):
            yield (*path, "name"), f'"{token.name}" is what the history calls holders of no named token', "another name"
        if token.name in [other.name for other in config.admin.tokens[:at]]:
            yield (*path, "name"), f'"{token.name}" is named twice', "the history of purges tells holders apart by it"
    for path, digest in digests:
        if digest is not None and (len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef")):
            yield path, "is not a SHA-256 in hex (64 digits)", "printf %s TOKEN | sha256sum makes one"


def _check_memory(config: "Config") -> Found:
    memory = config.memory
    if memory.body_memory_bytes * 4 > memory.budget_bytes:
        yield (
            ("memory", "body_memory_bytes"),
            f"{format_bytes(memory.body_memory_bytes)} is more than a quarter of memory.budget_bytes "
            f"({format_bytes(memory.budget_bytes)}): a few bodies would push out everything else",
            f"at most {format_bytes(memory.budget_bytes // 4)}",
        )


def _check_sites(config: "Config") -> Found:
    if not config.sites:
        yield (
            ("sites",),
            "is empty: no site is configured",
            "say where content comes from: --origin URL, or [[sites]] origin = …",
        )
    names: dict[str, int] = {}
    hosts: dict[str, int] = {}
    for at, site in enumerate(config.sites):
        if site.name in names:
            yield (
                ("sites", at, "name"),
                f'"{site.name}" is also the name of sites[{names[site.name]}]',
                "name each site",
            )
        names.setdefault(site.name, at)
        for nth, host in enumerate(site.hosts):
            known = hosts.setdefault(host.lower(), at)
            if known != at:
                yield ("sites", at, "hosts", nth), f'"{host}" is answered by sites[{known}] already', ""
        yield from _check_site(site, ("sites", at))


def _check_site(site: "Site", path: KeyPath) -> Found:
    for nth, host in enumerate(site.hosts):
        if not _is_host_pattern(host):
            yield (
                (*path, "hosts", nth),
                f'"{host}" is not a host',
                'write a name without scheme and port, "*.example.com", or "*"',
            )
    for nth, origin in enumerate(site.origin):
        try:
            parse_origin(origin)
        except ConfigError as error:
            yield (*path, "origin", nth), str(error).removeprefix("origin "), _with_scheme(origin)
    yield from _check_parents(site, path)
    if site.host_header not in ("preserve", "origin") and not _is_host(site.host_header):
        yield (*path, "host_header"), f'"{site.host_header}" is not a host', '"preserve", "origin", or a name'
    for nth, rule in enumerate(site.rules):
        for glob in rule.path:
            if not glob.startswith(("/", "*")):
                yield (
                    (*path, "rules", nth, "path"),
                    f'"{glob}" matches no path',
                    f'paths begin with "/": "/{glob}"',
                )
    yield from _check_policy(site.cache, (*path, "cache"))
    yield from _check_above_zero(site.origin_timeouts, (*path, "origin_timeouts"))
    yield from _check_above_zero(site.origin_limits, (*path, "origin_limits"))
    if site.hooks is not None:
        yield from _check_file(site.hooks, (*path, "hooks"))
    if site.origin_tls.ca is not None:
        yield from _check_file(site.origin_tls.ca, (*path, "origin_tls", "ca"))


def _check_parents(site: "Site", path: KeyPath) -> Found:
    names: list[str] = []
    for nth, parent in enumerate(site.parent):
        place: KeyPath = (*path, "parent", nth)
        try:
            address = parse_origin(parent.url)
        except ConfigError as error:
            yield (*place, "url"), str(error).removeprefix("origin "), _with_scheme(parent.url)
            continue
        if address.scheme == "unix":
            yield (*place, "url"), f'"{parent.url}" is no URL of another edge', "http://host:port or https://host"
        elif not parent.member and (":" in address.host or address.host.replace(".", "").isdecimal()):
            yield (*place, "member"), "is missing", "an address does not tell the edge's name in the mesh: give it"
        elif parent.name in names:
            yield (*place, "member"), f'"{parent.name}" is named twice', "each edge is asked for its own share"
        names.append(parent.name)
    if site.parent_tls.ca is not None:
        yield from _check_file(site.parent_tls.ca, (*path, "parent_tls", "ca"))


def _with_scheme(origin: str) -> str:
    """What an origin without a scheme may have been meant to be."""
    if "://" in origin or origin.startswith("unix:"):
        return ""
    with contextlib.suppress(ConfigError):
        parse_origin(f"http://{origin}")
        return f'did you mean "http://{origin}"?'
    return ""


def _check_policy(policy: CachePolicy, path: KeyPath) -> Found:
    for field in msgspec.structs.fields(policy):
        value = getattr(policy, field.name)
        if isinstance(value, float) and not 0 <= value < math.inf:
            yield (*path, field.encode_name), f"{value} is not 0 or more", ""
    if policy.heuristic_fraction > 1:
        what = f"{policy.heuristic_fraction} is not from 0 to 1"
        yield (*path, "heuristic_fraction"), what, "RFC 9111 suggests 0.1"


def _check_above_zero(settings: msgspec.Struct, path: KeyPath) -> Found:
    """Waits and bounds of nothing would refuse everything; a wait without end is written `inf`."""
    for field in msgspec.structs.fields(settings):
        value = getattr(settings, field.name)
        if not value > 0:
            yield (*path, field.encode_name), f"{value} is not above 0", ""


def _is_host(host: str) -> bool:
    try:
        parse_host(host)
    except ValueError:
        return False
    return True


def _is_host_pattern(host: str) -> bool:
    if host == "*":
        return True
    name = host.removeprefix("*.")
    return _is_host(name) and "*" not in name and ":" not in name.rpartition("]")[2]
