"""A mesh as its users run it: a process for each edge, made by the commands that make a mesh, and long ways between.

    with mesh_of(tmp_path, "ams", "ber", "cph", way=Way(delay_s=0.02)) as mesh:
        mesh.origin.script.respond("/", b"hello", fields=…)
        mesh["ams"].get("/")
        told = mesh["ber"].purge({"tag": "news"}, wait="all")
        mesh.part("ams")

Between each two edges lies a `Link` for each that may dial: the dialler's configuration says that it reaches the other
by way of it (`mesh.reach`).

Nothing here sleeps between tries: conditions are asked for until they hold, each question a round trip.
"""

import contextlib
import http.client
import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from banish.testing.link import Link, Way
from tests.processes import WAIT_S, EdgeProcess, OriginThread, edge_process, free_port, loop_thread, on_loop, spawn
from tests.processes import origin_thread as started_origin


def command(*arguments: str) -> str:
    """Run `banish` with these arguments; what it says. Raises AssertionError if it fails."""
    process = spawn(*arguments)
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, f"banish {' '.join(arguments)}: {process.returncode}\n{out}\n{err}"
    return out


def call(
    port: int, method: str, target: str, form: Mapping[str, Any] | None = None, *, timeout_s: float = WAIT_S
) -> tuple[int, Any]:
    """Ask something of an admin listener: status and JSON."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)) as connection:
        body = json.dumps(form) if form is not None else None
        connection.request(method, target, body, {"Content-Type": "application/json"} if form is not None else {})
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None


class MeshEdge:
    """One edge of the mesh, running or not."""

    def __init__(self, name: str, directory: Path, settings: str) -> None:
        self.name = name
        self.directory = directory
        self.data = directory / "data"
        self.port, self.admin_port, self.mesh_port = free_port(), free_port(), free_port()
        self.reach: dict[str, int] = {}
        """Name of another edge → the port by which this one reaches it."""
        self.module = "banish.cli.main"
        self._settings = settings
        self._running: contextlib.ExitStack | None = None
        self._process: EdgeProcess | None = None

    @property
    def endpoint(self) -> str:
        """Where it listens for others."""
        return f"tls/127.0.0.1:{self.mesh_port}"

    @property
    def process(self) -> EdgeProcess:
        """The running process."""
        assert self._process is not None, f"{self.name} does not run"
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it serves."""
        file = self.directory / "banish.toml"
        reach = [f"{name}=tls/127.0.0.1:{port}" for name, port in self.reach.items()]
        file.write_text(
            f'node = "{self.name}"\nlisten = "127.0.0.1:{self.port}"\nlog.access = "off"\n'
            f"mesh.reach = {json.dumps(reach)}\n{self._settings}"
        )
        running = contextlib.ExitStack()
        self._process = running.enter_context(
            edge_process(
                self.data, "--config", str(file), port=self.port, admin_port=self.admin_port, module=self.module
            )
        )
        self._running = running

    def stop(self) -> None:
        """End it cleanly."""
        self.process.signal(signal.SIGTERM)
        self.process.exit_code()
        self._let_go()

    def kill(self) -> None:
        """kill -9."""
        self.process.process.kill()
        self._let_go()

    def pause(self) -> None:
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.signal(signal.SIGCONT)

    def _let_go(self) -> None:
        if self._running is not None:
            self._running.close()
        self._running = self._process = None

    def close(self) -> None:
        """End it, whatever it is at."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.resume()
        self._let_go()

    # --- asking

    def ask(self, method: str, target: str, form: Mapping[str, Any] | None = None, **more: Any) -> Any:
        """Ask something of the admin listener that it must not refuse."""
        status, told = call(self.admin_port, method, target, form, **more)
        assert status in (200, 202), f"{method} {target} at {self.name}: {status} {told}"
        return told

    def purge(self, *targets: Mapping[str, Any], query: str = "", **more: Any) -> Any:
        """Purge here; the answer."""
        return self.ask("POST", f"/purges{query}", {"targets": list(targets), **more})

    def get(self, target: str, fields: Mapping[str, str] | None = None) -> Any:
        """One GET of a client."""
        return self.process.get(target, fields)

    def is_hit(self, target: str) -> bool:
        """Whether it answers this from what is stored."""
        return "; hit" in self.get(target).fields.get("cache-status", "")

    def knows(self, purge: str) -> bool:
        """Whether it has this purge, durably."""
        return call(self.admin_port, "GET", f"/purges/{purge}")[0] == 200

    def status(self) -> Any:
        return self.ask("GET", "/status")


class Mesh:
    """All edges, the ways between them, and their origin."""

    def __init__(self, origin: OriginThread, edges: dict[str, MeshEdge], links: dict[tuple[str, str], Link]) -> None:
        self.origin = origin
        self.edges = edges
        self.links = links
        """(who dials, who is dialled) → the way."""

    def __getitem__(self, name: str) -> MeshEdge:
        return self.edges[name]

    def __iter__(self) -> Iterator[MeshEdge]:
        return iter(self.edges.values())

    def part(self, *names: str) -> None:
        """Let nothing pass between these edges and the others."""
        for pair, link in self.links.items():
            if (pair[0] in names) is not (pair[1] in names):
                link.part()

    def heal(self) -> None:
        """Let everything pass."""
        for link in self.links.values():
            link.heal()

    def until_all_hear(self, *names: str) -> None:
        """Wait until each of these edges (all that run) hears every other one of them."""
        wanted = [self[name] for name in names] or [edge for edge in self if edge.running]
        for edge in wanted:
            until_hears(edge, {other.name for other in wanted if other is not edge})


def heard_by(edge: MeshEdge) -> set[str]:
    """The names of the members that an edge hears."""
    return {member["name"] for member in edge.status()["members"] if member["heard"]}


def until_hears(edge: MeshEdge, others: set[str]) -> None:
    """Wait until an edge hears these."""
    until(lambda: others <= heard_by(edge), f"{edge.name} hears {sorted(others)}")


def until(holds: Callable[[], bool], what: str, *, within_s: float = WAIT_S) -> float:
    """Ask until something holds; how long that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.005)  # the questions go to processes that need the CPU
    return time.monotonic() - began


Ways = Callable[[dict[str, MeshEdge]], "contextlib.AbstractContextManager[dict[tuple[str, str], Link]]"]
"""Lays ways between edges, and has each know the ports by which it reaches the others (`MeshEdge.reach`)."""


def ways_here(way: Way | None = None, *, seed: int = 0) -> Ways:
    """Ways in this process, to be parted and healed."""

    @contextlib.contextmanager
    def laid(edges: dict[str, MeshEdge]) -> Iterator[dict[tuple[str, str], Link]]:
        with contextlib.ExitStack() as stack:
            loop = stack.enter_context(loop_thread())
            links: dict[tuple[str, str], Link] = {}
            for dialler, dialled in itertools.permutations(edges, 2):
                link = Link(("127.0.0.1", edges[dialled].mesh_port), way, seed=seed)
                links[dialler, dialled] = stack.enter_context(on_loop(loop, link))
                edges[dialler].reach[dialled] = link.port
            yield links

    return laid


@contextlib.contextmanager
def mesh_of(
    directory: Path, *names: str, way: Way | None = None, settings: str = "", site: str = "", ways: Ways | None = None
) -> Iterator[Mesh]:
    """A mesh at work until the block ends. `settings` and `site` are lines of every edge's configuration."""
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(started_origin())
        edges: dict[str, MeshEdge] = {}
        text = f'{settings}\n[[sites]]\nname = "site"\norigin = "{origin.url}"\n{site}\n'
        for name in names:
            (directory / name).mkdir(parents=True)
            edges[name] = MeshEdge(name, directory / name, text)
        mesh = Mesh(origin, edges, stack.enter_context((ways or ways_here(way))(edges)))
        for name in names:
            stack.callback(edges[name].close)
            admit(mesh, name, by=names[0])
            edges[name].start()
        mesh.until_all_hear()
        yield mesh


def admit(mesh: Mesh, name: str, *, by: str) -> None:
    """Make an edge a member: the first of a mesh, or one that a running edge invites."""
    edge = mesh[name]
    if name == by:
        command("mesh", "init", "--data", str(edge.data), "--name", name, "--listen", edge.endpoint)
        return
    invitation = str(edge.directory / "invitation")
    admin = f"127.0.0.1:{mesh[by].admin_port}"
    command("mesh", "invite", name, "--listen", edge.endpoint, "--out", invitation, "--admin", admin)
    command("join", invitation, "--data", str(edge.data))
