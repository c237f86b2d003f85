"""Edges whose admin listener asks for a token."""

import hashlib

import msgspec

from banish.edge.config import Token
from banish.edge.sites import Sites
from tests.unit.admin.subject import FakeEdge

TOKEN = "open sesame"


def guarded(
    name: str = "ci",
    *,
    sites: tuple[str, ...] = ("*",),
    rights: tuple[str, ...] = ("read", "purge"),
    site_names: tuple[str, ...] = (),
) -> FakeEdge:
    """An edge that lets the holder of TOKEN in; with `site_names` it has these sites, each for NAME.example."""
    edge = FakeEdge()
    token = msgspec.convert({"name": name, "sha256": digest(), "sites": sites, "rights": rights}, Token)
    admin = msgspec.structs.replace(edge.config.admin, tokens=(token,))
    edge.config = msgspec.structs.replace(edge.config, admin=admin)
    if site_names:
        (site,) = edge.config.sites
        named = [msgspec.structs.replace(site, name=name, hosts=(f"{name}.example",)) for name in site_names]
        edge.config = msgspec.structs.replace(edge.config, sites=tuple(named))
        edge.sites = Sites(edge.config)
    return edge


def digest(token: str = TOKEN) -> str:
    """As it stands in a configuration."""
    return hashlib.sha256(token.encode()).hexdigest()


def bearer(token: str = TOKEN) -> dict[str, str]:
    """The field that shows a token."""
    return {"authorization": f"Bearer {token}"}
