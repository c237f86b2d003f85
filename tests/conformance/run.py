"""Score an edge with http-cache-tests, and refuse a score below the recorded one.

    run.py npm        the npm edition, pinned in npm/package-lock.json and installed into .conformance/
    run.py current    a checkout of the current suite, named by CACHE_TESTS_DIR, its npm packages installed

    --record             write what is seen into score.json; a lower score only with --lower
    --store-set-cookie   have the edge store responses with Set-Cookie; scored under a name of its own
    --test ID            run this test, and those it needs, and say how it went (repeatable); nothing is compared
    --base URL           score what listens there, rather than an edge started here

A test passes, fails, or comes to no verdict: because one it needs did not pass, its set-up went wrong, or the
edge repeated a request. Only passes count. Required tests are what RFC 9111 demands, optimal ones what a good
cache does, checks only say how it behaves.

Exit: 0 at or above the recorded score, or nothing to run it with; 1 below it; 2 could not run.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SCORES = HERE / "score.json"
KINDS = ("required", "optimal", "check")
GATED = KINDS[:2]
DECLINED_MAX = 3
UP_S_MAX = 15
RUN_S_MAX = 600
NEEDS = "needs "
"""How a verdict begins that another test's failure has brought about."""

Tests = dict[str, dict[str, Any]]
Verdicts = dict[str, str]
"""Test id → "pass", or why not."""


def main() -> int:
    options = _options()
    if shutil.which("node") is None or (options.edition == "npm" and shutil.which("npm") is None):
        print("conformance: SKIPPED: node and npm are not installed, and the suite is written for them")
        return 0
    suite = _npm_edition() if options.edition == "npm" else _checkout()
    tests: Tests = {test["id"]: test for test in _engine(suite, "list") if not test["for_browsers"]}
    for name in options.test:
        if name not in tests:
            _cannot(f"there is no test {name}")
    verdicts = _score(suite, tests, options)
    if options.test:
        print("\n".join(f"{name}: {verdicts[name]}" for name in options.test))
        return 0
    under = options.edition + ("+set-cookie" if options.store_set_cookie else "")
    return _compare(under, tests, verdicts, options)


def _options() -> argparse.Namespace:
    ask = argparse.ArgumentParser(description="Score an edge with http-cache-tests.")
    ask.add_argument("edition", choices=("npm", "current"))
    ask.add_argument("--record", action="store_true", help="write the score into score.json")
    ask.add_argument("--lower", action="store_true", help="with --record: even if it is lower than before")
    ask.add_argument("--store-set-cookie", action="store_true", help="have Set-Cookie responses stored")
    ask.add_argument("--test", action="append", default=[], metavar="ID", help="run this test alone; repeatable")
    ask.add_argument("--base", metavar="URL", help="score what listens there")
    ask.add_argument("--origin-port", type=int, metavar="PORT", help="with --base: where the origin shall listen")
    return ask.parse_args()


def _cannot(why: str) -> NoReturn:
    print(f"conformance: {why}", file=sys.stderr)
    sys.exit(2)


# The suite


def _npm_edition() -> Path:
    """The pinned edition, installed anew when the pin has changed."""
    home = ROOT / ".conformance"
    lock = "package-lock.json"
    suite = home / "node_modules" / "http-cache-tests"
    if not suite.exists() or (home / lock).read_bytes() != (HERE / "npm" / lock).read_bytes():
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(HERE / "npm", home)
        install = ["npm", "ci", "--prefix", str(home), "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(install, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            shutil.rmtree(home, ignore_errors=True)
            _cannot(f"npm could not install the suite: {done.stderr.strip()[-600:]}")
    return suite


def _checkout() -> Path:
    named = os.environ.get("CACHE_TESTS_DIR", "")
    suite = Path(named).resolve()
    if not named or not (suite / "test-engine" / "cli.mjs").is_file():
        _cannot("CACHE_TESTS_DIR must name a checkout of the suite, with its npm packages installed")
    return suite


def _engine(suite: Path, *args: str) -> Any:
    """What engine.mjs prints, as a value."""
    command = ["node", "--no-warnings", str(HERE / "engine.mjs"), str(suite), *args]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=RUN_S_MAX)
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        _cannot(f"the suite did not end within {RUN_S_MAX} s")
    except ValueError:
        _cannot(f"the suite gave no results: {(done.stderr or done.stdout).strip()[-600:]}")


@contextlib.contextmanager
def _origin(suite: Path, port: int) -> Iterator[int]:
    """The suite's origin, on a loopback port: the one given, or a free one for 0."""
    command = ["node", "--no-warnings", str(HERE / "engine.mjs"), str(suite), "origin", str(port)]
    with _running(command, cwd=suite, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.strip():
            _cannot("the suite's origin did not start")
        yield int(line)


# The edge


@contextlib.contextmanager
def _edge(origin_port: int, store_set_cookie: bool) -> Iterator[str]:
    """An edge of its own before that origin, with default settings but for the one named; gives its URL."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="banish-conformance-") as scratch:
        settings = [
            f'listen = "127.0.0.1:{port}"',
            f"data = {json.dumps(scratch)}",
            'admin.listen = "off"',
            'log.access = "off"',
            "[[sites]]",
            f'origin = "http://127.0.0.1:{origin_port}"',
            f"cache.store_set_cookie = {str(store_set_cookie).lower()}",
        ]
        config = Path(scratch, "banish.toml")
        config.write_text("\n".join(settings))
        command = [sys.executable, "-m", "banish.cli.main", "serve", "--config", str(config)]
        output = Path(scratch, "edge.log")
        with output.open("wb") as log, _running(command, cwd=ROOT, stdout=log, stderr=log) as process:
            if not _is_up(process, port):
                _cannot(f"the edge did not start: {output.read_text()}")
            yield f"http://127.0.0.1:{port}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _is_up(process: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + UP_S_MAX
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def _running(command: list[str], **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


# The score


def _score(suite: Path, tests: Tests, options: argparse.Namespace) -> Verdicts:
    """Run the tests asked for (and those they need) and judge them."""
    wanted = _with_needs(options.test, tests)
    with contextlib.ExitStack() as stack:
        origin_port = stack.enter_context(_origin(suite, options.origin_port or 0))
        base = options.base or stack.enter_context(_edge(origin_port, options.store_set_cookie))
        results = _engine(suite, "run", base, *wanted)
    return _judge(tests, results)


def _with_needs(names: list[str], tests: Tests) -> list[str]:
    wanted: list[str] = []
    left = list(names)
    while left:
        name = left.pop()
        if name not in wanted:
            wanted.append(name)
            left.extend(tests[name]["needs"])
    return wanted


def _judge(tests: Tests, results: dict[str, Any]) -> Verdicts:
    verdicts: Verdicts = {}

    def judge(name: str) -> str:
        if name not in verdicts:
            verdicts[name] = work_out(name)
        return verdicts[name]

    def work_out(name: str) -> str:
        result = results.get(name)
        if result is None:
            return "not run"
        lacking = [need for need in tests[name]["needs"] if need in tests and judge(need) != "pass"]
        if lacking:
            return f"{NEEDS}{lacking[0]}"
        if result is True:
            return "pass"
        sort, message = [*result, ""][:2] if isinstance(result, list) else ("Error", str(result))
        return f"{sort}: {message}"

    for name in tests:
        judge(name)
    return verdicts


def _compare(under: str, tests: Tests, verdicts: Verdicts, options: argparse.Namespace) -> int:
    """Print what did not pass and the score; hold it against the record; with --record, make it the record."""
    scores: dict[str, Any] = json.loads(SCORES.read_text()) if SCORES.exists() else {}
    declined = _declined(options)
    before = scores.get(under, {})
    failing = {name: why for name, why in verdicts.items() if why != "pass" and tests[name]["kind"] in GATED}
    reasons = {name: f"declined: {why}" for name, why in declined.items()}
    _tell(tests, failing, _lists()["explained"] | reasons, before.get("failing", failing))
    passed, total = Counter[str](), Counter[str]()
    for name, test in tests.items():
        total[test["kind"]] += 1
        passed[test["kind"]] += verdicts[name] == "pass"
    print(f"{under}: " + ", ".join(f"{kind} {passed[kind]} of {total[kind]}" for kind in KINDS))
    refused = _gate(passed, before.get("passed", {}), declined, verdicts)
    if options.record and not (refused and not options.lower):
        scores[under] = {"passed": passed, "total": total, "failing": failing}
        SCORES.write_text(json.dumps(scores, indent=2, sort_keys=True) + "\n")
        return 0
    return refused


def _tell(tests: Tests, failing: Verdicts, reasons: dict[str, str], known: Container[str]) -> None:
    """One line for each test that did not pass of itself; those held up by another are only counted."""
    held_up = {name for name, why in failing.items() if why.startswith(NEEDS) and name not in reasons}
    for name, why in failing.items():
        if name not in held_up:
            news = "" if name in known else " (new)"
            print(f"{tests[name]['kind']:8} {name}: {reasons.get(name, why)}{news}")
    if held_up:
        print(f"         and {len(held_up)} that need one of these")


def _declined(options: argparse.Namespace) -> dict[str, str]:
    """The tests not meant to pass in this edition, with the reason of each."""
    lists = _lists()
    if len(lists["declined"]) > DECLINED_MAX:
        _cannot(f"more than {DECLINED_MAX} tests are declined")
    if options.store_set_cookie:
        return {}
    return lists["declined"] | lists.get(options.edition, {})


def _lists() -> dict[str, dict[str, str]]:
    return tomllib.loads((HERE / "declined.toml").read_text())


def _gate(passed: dict[str, int], floor: dict[str, int], declined: dict[str, str], verdicts: Verdicts) -> int:
    """Complain of whatever is worse than recorded, or not as declined.toml has it."""
    fallen = [kind for kind in GATED if passed[kind] < floor.get(kind, 0)]
    complaints = [f"{kind} fell from {floor[kind]} to {passed[kind]}" for kind in fallen]
    complaints += [f"{name} is declined, but passes" for name in declined if verdicts.get(name) == "pass"]
    for complaint in complaints:
        print(f"conformance: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
