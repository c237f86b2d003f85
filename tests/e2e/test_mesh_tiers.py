"""Processes above one another, and a mesh between them in which news takes longer than a refill.

HTTP between the edges takes no time; what the mesh says takes `WAY`. So each refill after a purge finds a parent that
has not heard of it.
"""

import contextlib
import http.client
from collections.abc import Iterator

import pytest
from tests.meshes import Mesh, MeshEdge, mesh_of, until, ways_here

from banish.testing.link import Link, Way

WAY = Way(delay_s=0.15)
SETTINGS = "mesh.lease_s = 3\nmesh.period_s = 0.5\nmesh.catchup_wait_s = 2\npurge.copies = 1"
FRESH = [("Cache-Control", "max-age=600"), ("Surrogate-Key", "t")]
ROUNDS = 8
HOST = "site.example"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@contextlib.contextmanager
def ways_below_ams(edges: dict[str, MeshEdge]) -> Iterator[dict[tuple[str, str], Link]]:
    """Long ways; and all edges but ams have ams for a parent."""
    for name, edge in edges.items():
        if name != "ams":
            edge._settings += f'parent = {{ member = "ams", url = "http://127.0.0.1:{edges["ams"].port}" }}\n'
    with ways_here(WAY)(edges) as links:
        yield links


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    directory = tmp_path_factory.mktemp("tiers")
    with mesh_of(directory, "ams", "ber", "cph", settings=SETTINGS, ways=ways_below_ams) as made:
        yield made


def counted(edge: MeshEdge, metric: str, outcome: str) -> float:
    """A figure of an edge."""
    samples = edge.process.metrics()
    return sum(n for sample, n in samples.items() if sample.startswith(metric) and f'outcome="{outcome}"' in sample)


def get(edge: MeshEdge, path: str) -> tuple[bytes, list[str], list[str]]:
    """One GET for the same host at any edge: body, members of Cache-Status, names of fields."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", edge.port, timeout=20)) as connection:
        connection.request("GET", path, headers={"Host": HOST})
        response = connection.getresponse()
        members = [
            member.strip() for line in response.headers.get_all("cache-status", []) for member in line.split(",")
        ]
        return response.read(), members, [name.lower() for name in response.headers]


def until_stored(edge: MeshEdge, path: str) -> None:
    """Have an edge store a page, by whatever way."""
    until(lambda: get(edge, path)[1][-1].startswith(f"{edge.name}; hit"), f"{edge.name} has stored {path}")


def says(mesh: Mesh, path: str, body: str) -> None:
    mesh.origin.script.respond(path, headers=FRESH, body=body.encode())


def test_what_was_purged_a_moment_ago_does_not_come_back_from_a_parent_that_has_not_heard_of_it(mesh: Mesh) -> None:
    says(mesh, "/raced", "0")
    for number in range(1, ROUNDS + 1):
        until_stored(mesh["ber"], "/raced")
        until_stored(mesh["cph"], "/raced")
        says(mesh, "/raced", str(number))
        at = ("ber", "cph")[number % 2]
        mesh[at].purge({"tag": "t"})
        assert get(mesh[at], "/raced")[0] == str(number).encode()
        mesh["ams"].purge({"tag": "t"}, query="?wait=all&timeout=20")  # and now at all, for the next round
    assert counted(mesh["ams"], "banish_tier_answered_total", "caught_up") > 0
    assert counted(mesh["ams"], "banish_tier_answered_total", "refused") == 0
    assert counted(mesh["ber"], "banish_tier_asked_total", "unproved") == 0


def test_every_tier_says_what_it_did(mesh: Mesh) -> None:
    says(mesh, "/told", "told")
    until_stored(mesh["ams"], "/told")
    _, members, names = get(mesh["ber"], "/told")
    assert [member.partition(";")[0] for member in members] == ["ams", "ber"]
    assert members[0].startswith("ams; hit")
    assert "banish-tier" not in names


def test_a_parent_that_is_parted_from_the_mesh_passes(mesh: Mesh) -> None:
    mesh.until_all_hear()
    says(mesh, "/parted", "old")
    until_stored(mesh["ber"], "/parted")
    mesh.part("ams")
    try:
        says(mesh, "/parted", "new")
        mesh["ber"].purge({"url": f"http://{HOST}/parted"})
        assert get(mesh["ber"], "/parted")[0] == b"new"
        assert counted(mesh["ber"], "banish_tier_asked_total", "passed") > 0
    finally:
        mesh.heal()
    mesh.until_all_hear()


def test_a_parent_that_is_killed_is_passed_over_and_used_again_when_it_is_back(mesh: Mesh) -> None:
    says(mesh, "/killed", "killed")
    mesh["ams"].kill()
    assert get(mesh["ber"], "/killed")[0] == b"killed"
    assert counted(mesh["ber"], "banish_tier_asked_total", "unreachable") > 0
    mesh["ams"].start()
    mesh.until_all_hear()
    says(mesh, "/back", "back")

    def through_ams() -> bool:
        mesh["cph"].purge({"url": f"http://{HOST}/back"})
        return get(mesh["cph"], "/back")[1][0].startswith("ams; ")

    until(through_ams, "cph asks ams again")
