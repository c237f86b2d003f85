"""Invitations and renewals: what they hold, and what is refused."""

import secrets
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from banish.errors import ClientError, ConfigError, LimitExceeded
from banish.mesh import invitations
from banish.mesh.authority import Authority, Certified, check
from banish.mesh.invitations import Invitation, Renewal, decode, encode, invitation, renewal
from banish.mesh.members import Member, Members
from banish.mesh.zenoh_config import RELAYS_MAX, Topology

NOW = time.time()
AUTHORITY = Authority.create("a mesh", NOW)


def members(*names: str, relay: bool = False) -> Members:
    return Members(
        [
            Member(secrets.token_hex(8), name, secrets.token_bytes(32), (f"tls/{name}.example:7447",), relay)
            for name in names
        ]
    )


def invite(belong: Members, name: str = "berlin", **how: Any) -> tuple[Invitation, Member]:
    told: dict[str, Any] = {"relay": False, "topology": Topology.MESH, "now": NOW, **how}
    authority, endpoints = told.pop("authority", AUTHORITY), told.pop("endpoints", ("tls/berlin.example:7447",))
    return invitation(authority, belong, name, endpoints, **told)


def test_it_has_all_that_an_edge_needs() -> None:
    belong = members("paris")
    invited, member = invite(belong)
    assert invited.me == member
    assert {one.name for one in invited.members} == {"paris", "berlin"}
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(invited.key))
    assert key.public_key().public_bytes_raw() == member.key
    certified = Certified(invited.certificate.encode(), invited.certificate_key.encode())
    assert check(certified, invited.authority.encode(), invited.edge, member.endpoints, NOW) > NOW
    assert len(belong) == 1, "who belongs is for others to say"


def test_it_is_read_as_it_was_written() -> None:
    invited, _ = invite(members("paris"))
    assert decode(encode(invited), Invitation) == invited


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[1]", b"\xff", b'{"banish_mesh":"renewal"}', b'{"banish_mesh":"invitation","format":1}'],
)
def test_what_is_none_is_said(data: bytes) -> None:
    with pytest.raises(ConfigError, match="no invitation"):
        decode(data, Invitation)


def test_one_of_a_later_release_is_said() -> None:
    invited, _ = invite(members("paris"))
    with pytest.raises(ConfigError, match="later release"):
        decode(encode(invited).replace(b'"format": 1', b'"format": 9'), Invitation)


@pytest.mark.parametrize("name", ["", "Paris", "a b", "-a", "a/b", "a*", "x" * 65, "ä"])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(ClientError, match="no name for an edge") as caught:
        invite(members("paris"), name)
    assert caught.value.status == 400


def test_a_name_is_given_once() -> None:
    with pytest.raises(ClientError, match="already") as caught:
        invite(members("paris"), "paris")
    assert caught.value.status == 409


@pytest.mark.parametrize(
    ("endpoint", "authority", "what"),
    [
        ("tls/berlin.example", AUTHORITY, "no endpoint"),
        ("udp/berlin.example:1", AUTHORITY, "no endpoint"),
        ("tls/berlin.example:0", AUTHORITY, "no endpoint"),
        ("tls/berlin.example:65536", AUTHORITY, "no endpoint"),
        ("tcp/127.0.0.1:7447", AUTHORITY, "has certificates"),
        ("tls/berlin.example:7447", None, "in the clear"),
        ("tcp/192.0.2.1:7447", None, "not on loopback"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_refused(endpoint: str, authority: Authority | None, what: str) -> None:
    with pytest.raises(ClientError, match=what):
        invite(members("paris"), endpoints=(endpoint,), authority=authority)


def test_there_is_no_end_of_neither_members_nor_relays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invitations, "MEMBERS_MAX", 2)
    with pytest.raises(LimitExceeded):
        invite(members("paris", "rome"))
    monkeypatch.undo()
    relays = members(*[f"relay-{at}" for at in range(RELAYS_MAX)], relay=True)
    with pytest.raises(LimitExceeded):
        invite(relays, relay=True, topology=Topology.RELAY)


@pytest.mark.parametrize(
    ("topology", "endpoints"), [(Topology.MESH, ("tls/berlin.example:7447",)), (Topology.RELAY, ())]
)
def test_a_relay_listens_and_is_in_a_mesh_that_has_relays(topology: Topology, endpoints: tuple[str, ...]) -> None:
    with pytest.raises(ClientError):
        invite(members("paris"), relay=True, topology=topology, endpoints=endpoints)


def test_a_renewal_is_for_the_same_edge() -> None:
    belong = members("paris")
    renewed, moved = renewal(AUTHORITY, belong, "paris", None, NOW)
    me = belong.named("paris")
    assert me is not None
    assert moved is None
    certified = Certified(renewed.certificate.encode(), renewed.certificate_key.encode())
    assert check(certified, renewed.authority.encode(), me.edge, me.endpoints, NOW) > NOW
    assert decode(encode(renewed), Renewal) == renewed


def test_an_edge_that_moves_is_known_by_a_higher_revision() -> None:
    belong = members("paris")
    renewed, moved = renewal(AUTHORITY, belong, "paris", ("tls/new.example:1",), NOW)
    assert moved is not None
    assert renewed.endpoints == moved.endpoints == ("tls/new.example:1",)
    assert belong.join(moved)


def test_nobody_is_renewed_who_is_not_there() -> None:
    with pytest.raises(ClientError) as caught:
        renewal(AUTHORITY, members("paris"), "rome", None, NOW)
    assert caught.value.status == 404
