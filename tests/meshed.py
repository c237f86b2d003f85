"""Meshes over zenoh for tests: members, certificates, transports, on loopback."""

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from banish.mesh.authority import Authority
from banish.mesh.members import Member
from banish.mesh.zenoh_config import Credentials, Topology
from banish.mesh.zenoh_transport import ZenohTransport
from banish.tables import Accounts
from tests.processes import free_port

WAIT_S = 15.0
"""How long anything may take before it is said not to happen."""

CITIES = ("berlin", "cairo", "delhi", "lima", "oslo", "paris", "quito", "rome")


class ZenohBed:
    """Transports of one mesh; with a directory for certificates, over TLS."""

    def __init__(self, directory: Path | None = None, topology: Topology = Topology.MESH) -> None:
        self.topology = topology
        self.directory = directory
        self.authority = Authority.create("test mesh", time.time()) if directory is not None else None

    def member(self, name: str, *, listens: bool = True, relay: bool = False) -> Member:
        protocol = "tls" if self.directory else "tcp"
        endpoints = (f"{protocol}/127.0.0.1:{free_port()}",) if listens else ()
        return Member(secrets.token_hex(8), name, secrets.token_bytes(32), endpoints, relay)

    def members(self, count: int) -> list[Member]:
        return [self.member(name) for name in CITIES[:count]]

    def credentials(self, me: Member) -> Credentials | None:
        """Files with a certificate of this member; new ones each time."""
        if self.directory is None or self.authority is None:
            return None
        home = self.directory / me.edge
        home.mkdir(exist_ok=True)
        files = Credentials(home / "ca.pem", home / "edge.pem", home / "edge.key")
        certified = self.authority.certify(me.edge, me.name, me.endpoints, time.time())
        files.authority.write_bytes(self.authority.certificate)
        files.certificate.write_bytes(certified.certificate)
        files.key.write_bytes(certified.key)
        return files

    def transport(self, me: Member, accounts: Accounts | None = None) -> ZenohTransport:
        return ZenohTransport(me, topology=self.topology, credentials=self.credentials(me), accounts=accounts)

    async def until(self, condition: Callable[[], bool]) -> None:
        await until(condition)


async def until(condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Wait for what threads and other machines do."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def figures(accounts: Accounts) -> dict[str, dict[tuple[str, ...], float]]:
    """What was counted."""
    return {metric.name: samples for metric, samples in accounts.collect()}
