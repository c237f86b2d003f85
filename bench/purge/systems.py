"""The systems under test: how each is started, ended and killed, and how each is asked to purge.

Every system is one process tree with plain HTTP/1.1 on loopback and its access log off. Varnish and nginx come from
Debian's packages (varnish, varnish-modules, nginx, libnginx-mod-http-cache-purge); what is not installed is left out.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import string
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.hit import objects
from bench.hit.servers import NGINX, ROOT, Server, free_port

HERE: Final = Path(__file__).resolve().parent
START_S_MAX: Final = 60.0
STOP_S_MAX: Final = 60.0
MODULE: Final = Path("/usr/lib/nginx/modules/ngx_http_cache_purge_module.so")
XKEY: Final = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/varnish/vmods/libvmod_xkey.so")
VARNISHD: Final = shutil.which("varnishd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Target(NamedTuple):
    """What to purge: a kind and its value. URLs and prefixes come without their scheme."""

    kind: str
    value: str = ""


class System:
    """One system that caches and can be purged; started with `start`."""

    name = ""
    hit = ""
    """What the head of a response contains if it was a hit."""

    kinds: frozenset[str] = frozenset()
    """What can be purged."""

    def __init__(self, data: Path, origin_port: int, *, cpu: int | None = None) -> None:
        self.data = data
        self.origin_port = origin_port
        self.port = free_port()
        self.purge_port = self.port
        self.process: subprocess.Popen[bytes] | None = None
        self._cpu = cpu
        self._started = False

    def command(self) -> list[str]:
        """The command line."""
        raise NotImplementedError

    def request(self, targets: Iterable[Target], key: str = "") -> bytes:
        """The HTTP request that purges these, to `purge_port`; `key` makes it one that may be repeated."""
        raise NotImplementedError

    def server(self) -> Server:
        """As `bench/hit` knows it."""
        assert self.process is not None
        return Server(self.name, self.port, self.process, self.hit)

    def launch(self) -> None:
        """Start the process and return at once."""
        self.data.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
        cpu = self._cpu
        with (self.data.parent / f"{self.name}.log").open("ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path},
                process_group=0,  # and no session of its own, which would not have the priority of this one
                preexec_fn=None if cpu is None else lambda: os.sched_setaffinity(0, {cpu}),
            )

    def start(self) -> None:
        """Start, and wait until it takes connections. Raises RuntimeError if it does not."""
        self.launch()
        wait_until_listening(self)

    def kill(self) -> None:
        """SIGKILL to all its processes at once."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it in good order."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()


class Banish(System):
    """The edge, with default settings but for the access log."""

    name = "banish"
    hit = "banish; hit"
    kinds = frozenset({"url", "tag", "prefix", "host", "pattern", "everything"})

    def __init__(self, data: Path, origin_port: int, *, cpu: int | None = None, settings: tuple[str, ...] = ()) -> None:
        super().__init__(data, origin_port, cpu=cpu)
        self.purge_port = free_port()
        self._settings = settings

    def command(self) -> list[str]:
        where = ["--origin", f"http://127.0.0.1:{self.origin_port}", "--listen", f"127.0.0.1:{self.port}"]
        where += ["--admin", f"127.0.0.1:{self.purge_port}", "--data", str(self.data)]
        for setting in ("log.access=off", *self._settings):
            where += ["--set", setting]
        return [sys.executable, "-m", "banish.cli.main", "serve", *where]

    def request(self, targets: Iterable[Target], key: str = "") -> bytes:
        body = json.dumps({"targets": [_told(target) for target in targets]}).encode()
        repeated = f"Idempotency-Key: {key}\r\n" if key else ""
        return (
            f"POST /purges HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{repeated}"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body


def _told(target: Target) -> dict[str, object]:
    if target.kind == "everything":
        return {"everything": True}
    scheme = "http://" if target.kind in ("url", "prefix") else ""
    return {target.kind: scheme + target.value}


class VarnishXkey(System):
    """Varnish, purged by URL with `purge` and by tag with xkey: objects are found and removed at once."""

    name = "varnish_xkey"
    hit = "X-Cache: HIT"
    kinds = frozenset({"url", "tag"})

    def command(self) -> list[str]:
        assert VARNISHD is not None
        program = self.data.parent / f"{self.name}.vcl"
        program.write_text((HERE / "varnish.vcl").read_text().replace("$ORIGIN", str(self.origin_port)))
        where = ["-a", f"127.0.0.1:{self.port}", "-f", str(program), "-n", str(self.data)]
        return [VARNISHD, "-F", "-j", "none", *where, "-s", "malloc,6g"]

    def request(self, targets: Iterable[Target], key: str = "") -> bytes:
        (target,) = targets
        if target.kind == "url":
            host, _, path = target.value.partition("/")
            return f"PURGE /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        return f"PURGE / HTTP/1.1\r\nHost: x\r\nxkey-purge: {target.value}\r\n\r\n".encode()


class VarnishBans(VarnishXkey):
    """Varnish, purged by bans: expressions that every object is held against before it is used again."""

    name = "varnish_bans"
    kinds = frozenset({"url", "tag", "prefix", "host", "pattern", "everything"})

    def request(self, targets: Iterable[Target], key: str = "") -> bytes:
        (target,) = targets
        host, _, path = target.value.partition("/")
        match target.kind:
            case "url":
                ban = f"obj.http.x-host == {host} && obj.http.x-url == /{path}"
            case "tag":
                ban = rf"obj.http.xkey ~ (^|\s){target.value}(\s|$)"
            case "prefix":
                ban = f"obj.http.x-host == {host} && obj.http.x-url ~ ^/{path}"
            case "host":
                ban = f"obj.http.x-host == {host}"
            case "pattern":  # "*/s1/*"
                ban = f"obj.http.x-url ~ ^{target.value.removeprefix('*').removesuffix('*')}"
            case _:
                ban = "obj.http.x-url ~ ."
        return f"BAN / HTTP/1.1\r\nHost: x\r\nban: {ban}\r\n\r\n".encode()


class Nginx(System):
    """nginx with ngx_cache_purge, which deletes the file of one URL."""

    name = "nginx"
    hit = "X-Cache-Status: HIT"
    kinds = frozenset({"url"})

    def command(self) -> list[str]:
        assert NGINX is not None
        configuration = self.data / "nginx.conf"
        values = {"PORT": self.port, "ORIGIN": self.origin_port, "DATA": self.data, "MODULE": MODULE}
        configuration.write_text(string.Template((HERE / "nginx.conf").read_text()).safe_substitute(values))
        return [NGINX, "-c", str(configuration)]

    def launch(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        for parent in (self.data, self.data.parent):
            parent.chmod(0o755)  # its worker gives up root
        super().launch()

    def request(self, targets: Iterable[Target], key: str = "") -> bytes:
        (target,) = targets
        host, _, path = target.value.partition("/")
        return f"GET /purge/{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


SYSTEMS: Final[dict[str, type[System]]] = {kind.name: kind for kind in (Banish, VarnishXkey, VarnishBans, Nginx)}


def available(names: Iterable[str]) -> list[str]:
    """The systems of these that this machine has; says which it has not."""
    found = []
    for name in names:
        if name.startswith("varnish") and (VARNISHD is None or not XKEY.exists()):
            print(f"{name} is left out (Debian: apt install varnish varnish-modules)")
        elif name.startswith("nginx") and (NGINX is None or not MODULE.exists()):
            print(f"{name} is left out (Debian: apt install nginx libnginx-mod-http-cache-purge)")
        else:
            found.append(name)
    return found


def versions() -> dict[str, str]:
    """What is installed."""
    wanted = ["varnish", "varnish-modules", "nginx", "libnginx-mod-http-cache-purge"]
    shown = "${Package} ${Version}\n"
    done = subprocess.run(["dpkg-query", "-W", "-f", shown, *wanted], capture_output=True, text=True, check=False)
    return dict([line.split(" ", 1) for line in done.stdout.splitlines() if " " in line])


@contextlib.contextmanager
def running(system: System) -> Iterator[System]:
    """Started, until the block ends."""
    try:
        system.start()
        yield system
    finally:
        system.stop()


class Origin(System):
    """nginx that makes up the objects: fast enough for the fill."""

    name = "origin"

    def __init__(self, data: Path, *, cpu: int | None = None) -> None:
        super().__init__(data, 0, cpu=cpu)

    def command(self) -> list[str]:
        assert NGINX is not None
        configuration = self.data / "origin.conf"
        padding = "." * (objects.SIZES[0] - len(objects.path(objects.SIZES[0], 0)) - 1)
        values = {"PORT": self.port, "DATA": self.data, "PADDING": padding}
        configuration.write_text(string.Template((HERE / "origin.conf").read_text()).safe_substitute(values))
        return [NGINX, "-c", str(configuration)]


def wait_until_listening(system: System) -> None:
    """Wait until a system takes connections on its ports. Raises RuntimeError if it does not."""
    deadline = time.monotonic() + START_S_MAX
    waiting = {system.port, system.purge_port}
    while waiting:
        assert system.process is not None
        if time.monotonic() > deadline or system.process.poll() is not None:
            said = (system.data.parent / f"{system.name}.log").read_text()[-2000:]
            raise RuntimeError(f"{system.name} does not listen on {waiting}; it said:\n{said}")
        port = next(iter(waiting))
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            waiting.discard(port)
            continue
        time.sleep(0.005)
