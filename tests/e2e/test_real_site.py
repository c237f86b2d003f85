"""A real site, served by a real server and fetched with curl: what comes through the edge is byte for byte what the
server gives, the first time and out of the cache.
"""

import contextlib
import functools
import gzip
import itertools
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.processes import WAIT_S, EdgeProcess, edge_process, free_port

CURL = shutil.which("curl")
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

pytestmark = [
    pytest.mark.skipif(CURL is None, reason="curl is not installed (Debian: apt install curl)"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="nginx is set up for Linux"),
]
CHANGED_AT = 1_704_067_200
"""When every file of the site was changed, 2024-01-01: long enough ago to be stored though nothing says so."""

PATHS = {
    "/": "index.html",
    "/style.css": "style.css",
    "/data.json": "data.json",
    "/picture.bin": "picture.bin",
    "/large.bin": "large.bin",
    "/empty.txt": "empty.txt",
    "/a%20file%20with%20spaces.txt": "a file with spaces.txt",
    "/gr%C3%B6%C3%9Fe/%E6%97%A5%E6%9C%AC.html": "größe/日本.html",
    "/gr%c3%b6%c3%9fe/%e6%97%a5%e6%9c%ac.html": "größe/日本.html",
    "/100%25.txt": "100%.txt",
    "/plus+and;semi,colon~tilde.txt": "plus+and;semi,colon~tilde.txt",
    "/docs/": "docs/index.html",
    "/docs/../style.css": "style.css",
}
"""URL path → file."""

ENTITY_FIELDS = ("content-type", "content-encoding", "content-range", "etag", "last-modified", "location", "vary")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files."""
    root = tmp_path_factory.mktemp("site")
    words = " ".join(f"word{number}" for number in range(2000)).encode()
    for name, content in {
        "index.html": b'<!doctype html><link rel="stylesheet" href="style.css"><p>' + words,
        "style.css": b"p { margin: 0 }\n" * 500,
        "style.css.gz": gzip.compress(b"p { margin: 0 }\n" * 500, mtime=CHANGED_AT),
        "data.json": b'{"words": "' + words + b'"}',
        "picture.bin": random.Random(1).randbytes(300_000),
        "large.bin": random.Random(2).randbytes(3_000_000),
        "empty.txt": b"",
        "a file with spaces.txt": b"spaces",
        "größe/日本.html": "<p>größe 日本".encode(),
        "100%.txt": b"per cent",
        "plus+and;semi,colon~tilde.txt": b"plus",
        "docs/index.html": b"<p>docs",
    }.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (CHANGED_AT, CHANGED_AT))
    return root


NGINX_CONF = """
daemon off;
master_process off;
{user}
pid {scratch}/nginx.pid;
error_log stderr warn;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    types {{ text/html html; text/css css; application/json json; text/plain txt; }}
    charset utf-8;
    gzip on;
    gzip_static on;
    gzip_vary on;
    gzip_proxied any;
    gzip_types application/json;
    absolute_redirect off;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        location = /moved {{ return 302 /docs?from=moved; }}
        location = /gone {{ return 410; }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(site: Path, scratch: Path) -> Iterator[int]:
    """nginx with the site; its port."""
    assert NGINX is not None
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    conf = scratch / "nginx.conf"
    conf.write_text(NGINX_CONF.format(user=user, scratch=scratch, port=port, root=site))
    process = subprocess.Popen([NGINX, "-p", str(scratch), "-e", "stderr", "-c", str(conf)], stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        end = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < end
        yield port
    finally:
        process.kill()
        process.wait(WAIT_S)
        process.stderr.close()


class Quiet(SimpleHTTPRequestHandler):
    """Python's own file server, in HTTP/1.1 and without its log."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer, without a date in the body."""
        body = HTTPStatus(code).phrase.encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")


@contextlib.contextmanager
def python_server(site: Path) -> Iterator[int]:
    """Python's http.server with the site; its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Fetched:
    """What curl got: for each response its status and fields, and the last body, byte for byte."""

    statuses: tuple[int, ...]
    fields: dict[str, str]
    body: bytes

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")


@dataclass(frozen=True)
class Pair:
    """A server and the edge in front of it."""

    server_port: int
    edge: EdgeProcess
    scratch: Path
    serial: "itertools.count[int]"

    def curl(self, port: int, path: str, *options: str) -> Fetched:
        head, body = self.scratch / "curl.head", self.scratch / "curl.body"
        body.write_bytes(b"")
        assert CURL is not None
        command = [CURL, "--silent", "--show-error", "--path-as-is", "--max-time", str(WAIT_S)]
        files = ["--dump-header", str(head), "--output", str(body)]
        done = subprocess.run(
            [*command, *files, *options, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        blocks = head.read_bytes().decode("latin-1").removesuffix("\r\n\r\n").split("\r\n\r\n")
        statuses = tuple(int(block.split(None, 2)[1]) for block in blocks)
        lines = [line.partition(":") for line in blocks[-1].split("\r\n")[1:]]
        content = b"" if "--head" in options else body.read_bytes()
        return Fetched(statuses, {name.lower(): value.strip() for name, _, value in lines}, content)

    def direct(self, path: str, *options: str) -> Fetched:
        return self.curl(self.server_port, path, *options)

    def through(self, path: str, *options: str) -> Fetched:
        return self.curl(self.edge.port, path, *options)

    def unseen(self, path: str) -> str:
        """The same resource under a URL that the edge has not yet heard of."""
        return f"{path}?unseen={next(self.serial)}"


@contextlib.contextmanager
def edge_before(port: int, scratch: Path) -> Iterator[Pair]:
    with edge_process(scratch / "edge", "--origin", f"http://127.0.0.1:{port}") as edge:
        yield Pair(port, edge, scratch, itertools.count())


@pytest.fixture(scope="module")
def nginx_pair(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """With ranges, entity tags and content codings."""
    if NGINX is None:
        pytest.skip("nginx is not installed (Debian: apt install nginx); only Python's http.server was tested with")
    scratch = tmp_path_factory.mktemp("nginx")
    with nginx(site, scratch) as port, edge_before(port, scratch) as running:
        yield running


@pytest.fixture(scope="module")
def python_pair(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """With Last-Modified alone."""
    with python_server(site) as port, edge_before(port, tmp_path_factory.mktemp("python")) as running:
        yield running


@pytest.fixture(params=["nginx", "python"])
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.getfixturevalue(f"{request.param}_pair")
    return found


def assert_same(got: Fetched, wanted: Fetched) -> None:
    """Status, body and all that describes it."""
    assert got.statuses == wanted.statuses
    if got.statuses[-1] == 416:  # what else it says is up to whoever says it
        assert got["content-range"] == wanted["content-range"]
        return
    assert got.body == wanted.body
    for name in ENTITY_FIELDS:
        assert got[name] == wanted[name], name
    if "content-length" in wanted.fields:  # the edge may know the length where the server did not yet
        assert got["content-length"] == wanted["content-length"]


def hit(got: Fetched) -> bool:
    return "; hit" in got["cache-status"]


@pytest.mark.parametrize(("path", "name"), PATHS.items())
def test_a_file_is_the_same_twice_and_its_head_too(pair: Pair, site: Path, path: str, name: str) -> None:
    url = pair.unseen(path)
    wanted = pair.direct(url)
    assert wanted.body == (site / name).read_bytes()
    first, second = pair.through(url), pair.through(url)
    assert_same(first, wanted)
    assert_same(second, wanted)
    assert (hit(first), hit(second)) == (False, True)
    head = pair.through(url, "--head")
    assert_same(head, pair.direct(url, "--head"))
    assert hit(head)


@pytest.mark.parametrize("path", PATHS)
def test_a_head_that_comes_first_is_the_same(pair: Pair, path: str) -> None:
    url = pair.unseen(path)
    assert_same(pair.through(url, "--head"), pair.direct(url, "--head"))


@pytest.mark.parametrize("path", ["/none", "/gr%C3%B6%C3%9Fe/none", "/docs/none.html"])
def test_what_is_missing_is_missing_alike(pair: Pair, path: str) -> None:
    assert pair.direct(path).statuses == (404,)
    for _ in range(2):
        assert_same(pair.through(path), pair.direct(path))


def test_a_directory_redirects_alike_and_the_redirect_can_be_followed(pair: Pair, site: Path) -> None:
    url = pair.unseen("/docs")
    wanted = pair.direct(url)
    assert wanted.statuses == (301,)
    for _ in range(2):
        assert_same(pair.through(url), wanted)
        followed = pair.through(url, "--location")
        assert followed.statuses == (301, 200)
        assert followed.body == (site / "docs/index.html").read_bytes()


def test_redirects_and_refusals_of_the_server_pass(nginx_pair: Pair, site: Path) -> None:
    for _ in range(2):
        assert_same(nginx_pair.through("/moved"), nginx_pair.direct("/moved"))
        assert_same(nginx_pair.through("/gone"), nginx_pair.direct("/gone"))
        followed = nginx_pair.through("/moved", "--location")
        assert followed.statuses == (302, 301, 200)
        assert followed.body == (site / "docs/index.html").read_bytes()


RANGES = {
    "first": "0-99",
    "first byte": "0-0",
    "middle": "1000-1999",
    "to the end": "7000-",
    "suffix": "-100",
    "suffix longer than all": "-99999999",
    "beyond the end": "7000-99999999",
    "past the end": "99999999-",
}


@pytest.mark.parametrize(
    ("path", "byte_range"),
    [
        *itertools.product(["/style.css", "/picture.bin", "/large.bin"], RANGES.values()),
        *[("/empty.txt", RANGES[name]) for name in ("first", "suffix")],
    ],
)
@pytest.mark.parametrize("stored", [False, True], ids=["unseen", "stored"])
def test_a_range_is_the_same(nginx_pair: Pair, path: str, byte_range: str, stored: bool) -> None:
    url = nginx_pair.unseen(path)
    wanted = nginx_pair.direct(url, "--range", byte_range)
    if stored:
        whole = nginx_pair.through(url)
    for _ in range(2):
        got = nginx_pair.through(url, "--range", byte_range)
        assert_same(got, wanted)
        assert hit(got) or not stored
    if not stored:  # what a part left behind may not pass for the whole
        whole = nginx_pair.through(url)
    assert_same(whole, nginx_pair.direct(url))


@pytest.mark.parametrize("validator", ["etag", "last-modified"])
@pytest.mark.parametrize("current", [True, False])
def test_if_range_is_obeyed_alike(nginx_pair: Pair, validator: str, current: bool) -> None:
    url = nginx_pair.unseen("/picture.bin")
    value = nginx_pair.through(url)[validator]
    if not current:
        value = '"other"' if validator == "etag" else "Sun, 31 Dec 2023 00:00:00 GMT"
    options = ("--range", "10-19", "--header", f"If-Range: {value}")
    for _ in range(2):
        got = nginx_pair.through(url, *options)
        assert_same(got, nginx_pair.direct(url, *options))
        assert got.statuses == ((206,) if current else (200,))


@pytest.mark.parametrize("path", ["/style.css", "/data.json", "/picture.bin", "/"])
@pytest.mark.parametrize(
    "options",
    [("--compressed",), ("--header", "Accept-Encoding: gzip"), ("--header", "Accept-Encoding: identity")],
    ids=["compressed", "gzip", "identity"],
)
@pytest.mark.parametrize("first", ["coded", "plain"])
def test_content_codings_are_the_same(nginx_pair: Pair, path: str, options: tuple[str, ...], first: str) -> None:
    url = nginx_pair.unseen(path)
    wanted, plain = nginx_pair.direct(url, *options), nginx_pair.direct(url)
    assert (wanted["content-encoding"] == "gzip") == ("identity" not in options[-1] and not path.endswith(".bin"))
    order = [(options, wanted), ((), plain)]  # both variants beside each other, whichever came first
    for _ in range(2):
        for asked, expected in order if first == "coded" else reversed(order):
            got = nginx_pair.through(url, *asked)
            assert_same(got, expected)
    assert hit(got)


@pytest.mark.parametrize("path", ["/", "/style.css", "/data.json", "/empty.txt", "/large.bin"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("stored", [False, True], ids=["unseen", "stored"])
def test_conditions_on_the_etag_give_the_same(nginx_pair: Pair, path: str, coding: str, stored: bool) -> None:
    url = nginx_pair.unseen(path)
    encoding = ("--header", f"Accept-Encoding: {coding}")
    etag = nginx_pair.direct(url, *encoding)["etag"]
    if stored:
        nginx_pair.through(url, *encoding)
    for value, status in (
        (etag, 304),
        (f'"x", {etag}', 304),
        ("*", 304),
        (etag.removeprefix("W/").join(["W/", ""]), 304),
        ('"x"', 200),
    ):
        options = (*encoding, "--header", f"If-None-Match: {value}")
        wanted = nginx_pair.direct(url, *options)
        assert wanted.statuses == (status,), value
        for _ in range(2):
            got = nginx_pair.through(url, *options)
            assert got.statuses == wanted.statuses
            if got.statuses == (304,):
                # nginx compares before it compresses, and forgets to weaken the tag.
                assert got.body == b""
                assert got["etag"].removeprefix("W/") == wanted["etag"].removeprefix("W/")
            else:
                assert_same(got, wanted)


@pytest.mark.parametrize("path", ["/", "/style.css", "/empty.txt"])
@pytest.mark.parametrize("stored", [False, True], ids=["unseen", "stored"])
def test_conditions_on_the_date_give_the_same(pair: Pair, path: str, stored: bool) -> None:
    url = pair.unseen(path)
    since = pair.direct(url)["last-modified"]
    if stored:
        pair.through(url)
    for value, status in ((since, 304), ("Sun, 31 Dec 2023 00:00:00 GMT", 200), ("yesterday", 200)):
        options = ("--header", f"If-Modified-Since: {value}")
        wanted = pair.direct(url, *options)
        assert wanted.statuses == (status,), value
        for _ in range(2):
            got = pair.through(url, *options)
            assert (got.statuses, got.body) == (wanted.statuses, wanted.body)


def test_a_whole_page_comes_over_one_connection(pair: Pair, site: Path) -> None:
    number = next(pair.serial)
    urls = [f"http://127.0.0.1:{pair.edge.port}{path}?page={number}" for path in PATHS]
    for _ in range(2):
        before = pair.edge.metrics().get('banish_client_connections_total{result="accepted"}', 0)
        done = subprocess.run(
            [CURL or "", "--silent", "--fail", "--path-as-is", *urls], capture_output=True, check=True
        )
        assert done.stdout == b"".join((site / name).read_bytes() for name in PATHS.values())
        assert pair.edge.metrics().get('banish_client_connections_total{result="accepted"}', 0) == before + 1


def test_a_file_that_changed_is_fetched_anew_once_it_is_validated(pair: Pair, site: Path) -> None:
    path = site / "news.html"
    for edition in (1, 2):
        path.write_bytes(b"<p>edition %d" % edition)
        os.utime(path, (CHANGED_AT + edition, CHANGED_AT + edition))
        for _ in range(2):
            options = ("--header", "Cache-Control: no-cache")
            assert_same(pair.through("/news.html", *options), pair.direct("/news.html"))
        assert hit(pair.through("/news.html"))
