from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from banish.edge.hook_views import HookRequest, HookResponse
from banish.edge.hooks import HOOK_ERRORS, HOOK_RUNS, HOOK_SECONDS, HOOK_SLOW, Hooks, load_module
from banish.errors import ConfigError
from banish.http.fields import Fields
from banish.http.messages import RequestHead, ResponseHead
from banish.http.targets import Target
from banish.tables import Accounts
from banish.testing.clock import FakeClock

HEAD = RequestHead("GET", "/a", Fields.of([("Host", "shop.example")]))
TARGET = Target("http", "shop.example", "/a")
RESPONSE = ResponseHead(200, Fields())
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "hooks.py"


class Run:
    """Hooks with books and a clock to look at."""

    def __init__(
        self,
        on_request: Callable[[HookRequest], object] | None = None,
        on_response: Callable[[HookRequest, HookResponse], object] | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.accounts = Accounts()
        self.hooks = Hooks("shop", on_request, on_response, accounts=self.accounts, clock=self.clock)

    def request(self, head: RequestHead = HEAD, target: Target = TARGET) -> HookRequest:
        return self.hooks.request(head, target, peer="192.0.2.1")

    def count(self, name: str, hook: str = "on_request") -> float:
        books = {metric.name: samples for metric, samples in self.accounts.collect()}
        return books[name].get(("shop", hook), 0)


def test_what_a_hook_decides_is_in_the_view() -> None:
    run = Run(lambda request: request.respond(204))
    answer = run.request().answer
    assert answer is not None
    assert answer.status == 204
    assert run.count(HOOK_RUNS.name) == 1


def test_a_hook_that_raises_leaves_the_request_as_it_was() -> None:
    def on_request(request: HookRequest) -> None:
        request.path = "/changed"
        request.bypass()
        raise RuntimeError("on purpose")

    run = Run(on_request)
    with capture_logs() as logged:
        view = run.request()
    assert (view.path, view.bypassed, view.answer) == ("/a", False, None)
    assert view.read_outside  # so that the failure is not remembered
    assert run.count(HOOK_ERRORS.name) == 1
    assert "on purpose" in logged[0]["traceback"]
    assert logged[0]["url"] == "http://shop.example/a"


def test_a_response_hook_that_raises_leaves_the_response_as_it_was() -> None:
    def on_response(request: HookRequest, response: HookResponse) -> None:
        response.status = 500
        response.fields["No Token"] = "x"

    run = Run(None, on_response)
    assert run.hooks.response(run.request(), RESPONSE).head() == RESPONSE
    assert run.count(HOOK_ERRORS.name, "on_response") == 1


def test_a_hook_that_always_fails_is_not_logged_every_time() -> None:
    run = Run(lambda request: request.fields["absent"])
    with capture_logs() as logged:
        for _ in range(5):
            run.request()
        run.clock.advance(2)
        run.request()
    assert [entry["unsaid"] for entry in logged] == [0, 4]
    assert run.count(HOOK_ERRORS.name) == 6


def test_a_slow_hook_is_counted_and_named() -> None:
    run = Run(lambda request: run.clock.advance(0.02))
    with capture_logs() as logged:
        run.request()
    assert run.count(HOOK_SLOW.name) == 1
    assert run.count(HOOK_SECONDS.name) == pytest.approx(0.02, abs=1e-3)
    assert logged[0]["event"] == "hook is slow"
    assert logged[0]["took_ms"] == pytest.approx(20, abs=1)


def test_without_hooks_nothing_is_run() -> None:
    run = Run()
    assert not run.hooks.has_request
    assert not run.hooks.has_response
    assert run.request().head() == HEAD
    assert run.count(HOOK_RUNS.name) == 0


def load(tmp_path: Path, source: str) -> None:
    path = tmp_path / "hooks.py"
    path.write_text(source, encoding="utf-8")
    load_module("shop", str(path))


@pytest.mark.parametrize(
    ("source", "line", "what"),
    [
        ("x = 1\ndef on_request(request:\n", 2, "is not Python"),
        ("\nimport absent_module\n", 2, "ModuleNotFoundError"),
        ("x = 1\n", None, "defines no hook"),
        ("\n\nasync def on_request(request): ...\n", 3, "plain function"),
        ("def on_request(): ...\n", 1, "wrong parameters"),
        ("def on_response(response): ...\n", 1, "wrong parameters"),
        ("on_request = 3\n", None, "is not a function"),
    ],
)
def test_a_file_that_cannot_work_is_refused_with_its_line(
    tmp_path: Path, source: str, line: int | None, what: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, source)
    (problem,) = caught.value.problems
    assert (problem.where, problem.line) == (str(tmp_path / "hooks.py"), line)
    assert what in problem.what


def test_an_edit_is_seen_at_once(tmp_path: Path) -> None:
    load(tmp_path, "def on_request(request): return 1\n")
    path = str(tmp_path / "hooks.py")
    assert load_module("shop", path).on_request(None) == 1
    load(tmp_path, "def on_request(request): return 2\n")
    assert load_module("shop", path).on_request(None) == 2


def example() -> Hooks:
    return Hooks.load("shop", str(EXAMPLE), accounts=Accounts(), clock=FakeClock())


def asked(path: str, *lines: tuple[str, str]) -> HookRequest:
    head = RequestHead("GET", path, Fields.of([("Host", "shop.example"), *lines]))
    return example().request(head, Target("http", "shop.example", path), peer="192.0.2.1")


def test_the_example_in_the_docs_does_what_it_says() -> None:
    gone = asked("/wp-login.php").answer
    assert gone is not None
    assert gone.status == 404
    assert asked("/basket", ("Cookie", "session=1")).bypassed
    assert not asked("/about", ("Cookie", "session=1")).bypassed
    assert asked("/", ("Cookie", "plan=gold")).key_extra == ("gold",)
    assert asked("/").key_extra == ("free",)
    assert not asked("/").read_outside
    view = example().response(asked("/products/17"), ResponseHead(200, Fields.of([("Server", "x")])))
    assert view.tags == ("product-17",)
    assert "server" not in view.head().fields
    missing = example().response(asked("/a"), ResponseHead(404, Fields()))
    assert missing.ttl_s == 30
