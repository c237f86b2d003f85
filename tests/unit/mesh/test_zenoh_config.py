"""Whom an edge dials and whom it lets in, for what; and that zenoh understands it."""

import secrets
from pathlib import Path

import msgspec
import pytest
import zenoh

from banish.errors import ConfigError
from banish.mesh.members import Member
from banish.mesh.zenoh_config import RELAYS_MAX, Credentials, Topology, Wiring, as_json

FILES = Credentials(Path("ca.pem"), Path("edge.pem"), Path("edge.key"))


def edge(number: int, *, listens: bool = True, relay: bool = False) -> Member:
    endpoints = (f"tls/edge-{number}.example:7447",) if listens else ()
    return Member(f"{number:016x}", f"edge-{number}", secrets.token_bytes(32), endpoints, relay)


def wiring(me: Member, *members: Member, topology: Topology = Topology.MESH) -> Wiring:
    return Wiring(me, members, topology, FILES)


def dials(wired: Wiring) -> list[list[str]]:
    return [[one.name for one in session.dials] for session in wired.sessions()]


class TestWhom:
    def test_of_each_pair_one_dials(self) -> None:
        members = [edge(at) for at in range(1, 5)]
        dialled = {(me.name, name) for me in members for name in dials(wiring(me, *members))[0]}
        pairs = {frozenset(pair) for pair in dialled}
        assert len(pairs) == len(dialled) == 6

    def test_who_does_not_listen_dials_all(self) -> None:
        quiet = edge(2, listens=False)
        assert dials(wiring(quiet, edge(1), quiet, edge(3))) == [["edge-1", "edge-3"]]

    def test_who_is_dialled_by_nobody_dials_all(self) -> None:
        lowest = Wiring(edge(1), (edge(2), edge(3)), credentials=FILES, dials_all=True)
        assert dials(lowest) == [["edge-2", "edge-3"]]

    def test_an_edge_has_a_session_with_each_relay(self) -> None:
        members = [edge(1, relay=True), edge(2, relay=True), edge(3), edge(4, listens=False)]
        wired = wiring(members[3], *members, topology=Topology.RELAY)
        assert dials(wired) == [["edge-1"], ["edge-2"]]
        assert [session.config("1")["listen/endpoints"] for session in wired.sessions()] == [[], []]

    def test_a_relay_is_a_client_of_the_others_and_dials_nobody_as_a_router(self) -> None:
        members = [edge(1, relay=True), edge(2, relay=True), edge(3)]
        wired = wiring(members[0], *members, topology=Topology.RELAY)
        assert [session.mode for session in wired.sessions()] == ["router", "client"]
        assert dials(wired) == [[], ["edge-2"]]

    def test_relays_have_a_bound(self) -> None:
        members = [edge(at, relay=True) for at in range(1, 10)]
        assert len(wiring(edge(99), *members, topology=Topology.RELAY).sessions()) == RELAYS_MAX

    def test_an_endpoint_of_another_that_cannot_be_used_is_not_dialled(self) -> None:
        odd = msgspec.structs.replace(edge(1), endpoints=("tcp/192.0.2.1:1", "tls/ok.example:1", "?"))
        (session,) = wiring(edge(2), odd).sessions()
        assert session.config("1")["connect/endpoints"] == ["tls/ok.example:1"]

    @pytest.mark.parametrize("endpoint", ["tcp/192.0.2.1:1", "tcp/127.0.0.1:1", "nonsense"])
    def test_an_endpoint_of_its_own_that_cannot_be_used_is_said(self, endpoint: str) -> None:
        with pytest.raises(ConfigError):
            wiring(msgspec.structs.replace(edge(1), endpoints=(endpoint,)))

    def test_off_loopback_there_is_nothing_in_the_clear(self) -> None:
        with pytest.raises(ConfigError, match="not on loopback"):
            Wiring(msgspec.structs.replace(edge(1), endpoints=("tcp/192.0.2.1:1",)), ())
        with pytest.raises(ConfigError, match="needs certificates"):
            Wiring(edge(1), ())

    def test_what_others_dial_may_be_no_address_of_this_machine(self) -> None:
        assert wiring(edge(1)).listening == ("tls/[::]:7447",)
        at_home = msgspec.structs.replace(edge(1), endpoints=("tls/127.0.0.1:7447", "tls/192.0.2.1:7448"))
        assert wiring(at_home).listening == ("tls/127.0.0.1:7447", "tls/0.0.0.0:7448")


class TestWhat:
    def rules(self, wired: Wiring, number: int = 0) -> dict[str, set[str]]:
        """Common name → keys on which it may put something in."""
        told = wired.sessions()[number].access_control()
        assert told["default_permission"] == "deny"
        keys = {one["id"]: one["key_exprs"] for one in told["rules"] if one["flows"] == ["ingress"]}
        names = {one["id"]: one["cert_common_names"] for one in told["subjects"]}
        found: dict[str, set[str]] = {}
        for policy in told["policies"]:
            for subject in policy["subjects"]:
                for name in names[subject]:
                    found.setdefault(name, set()).update(*(keys.get(rule, ()) for rule in policy["rules"]))
        return found

    def test_each_may_say_what_is_its_own(self) -> None:
        one, two, three = edge(1), edge(2), edge(3)
        assert self.rules(wiring(one, one, two, three)) == {
            other.edge: {f"purge/{other.edge}", f"digest/{other.edge}", f"ack/{one.edge}/{other.edge}"}
            for other in (two, three)
        }

    def test_a_relay_takes_acks_to_all_and_nothing_under_another_name(self) -> None:
        relay, other, more = edge(1, relay=True), edge(2, relay=True), edge(3)
        found = self.rules(wiring(relay, relay, other, more, topology=Topology.RELAY))
        assert found == {
            one.edge: {f"purge/{one.edge}", f"digest/{one.edge}", f"ack/*/{one.edge}"} for one in (other, more)
        }

    def test_a_client_hears_all_of_its_relay_and_of_nobody_else(self) -> None:
        relay, me = edge(1, relay=True), edge(2)
        found = self.rules(wiring(me, relay, me, edge(3), topology=Topology.RELAY))
        assert found == {relay.edge: {"purge/**", "digest/**", f"ack/{me.edge}/**"}}

    def test_alone_it_lets_nobody_in(self) -> None:
        told = wiring(edge(1)).sessions()[0].access_control()
        assert told["subjects"] == told["policies"] == []


@pytest.mark.parametrize("topology", list(Topology))
def test_zenoh_takes_all_of_it_and_gives_it_back(topology: Topology) -> None:
    members = [edge(1, relay=True), edge(2, relay=True), edge(3)]
    for me in members:
        wired = Wiring(me, tuple(members), topology, FILES, forgotten=("f" * 16,))
        for session in wired.sessions():
            config = zenoh.Config()
            for path, value in as_json(session.config("1" + me.edge)).items():
                config.insert_json5(path, value)
                if path in ("mode", "transport/link/tx/lease", "connect/endpoints"):
                    assert msgspec.json.decode(config.get_json(path)) == msgspec.json.decode(value)
