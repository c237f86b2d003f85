"""Hooks: the programmable part of a site, one Python file.

    def on_request(request):            # before the cache is asked; may answer, change, bypass
    def on_response(request, response): # before a response of the origin is stored; may change what is stored

Both are plain functions on the event loop: while one runs, nothing else does. Its time is counted, and one
that takes longer than SLOW_S is named in the log. An exception is logged with its traceback and counted, and
the request goes on as if there were no hook: whatever the hook had changed by then is dropped.

Not here: what the views offer (`hook_views.py`); when they are made and obeyed (`proxy/pipeline.py`).
"""

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import structlog

from banish.clock import Clock
from banish.edge.complaints import Complaints
from banish.edge.hook_views import HookAnswer, HookFields, HookRequest, HookResponse
from banish.errors import ConfigError, Problem
from banish.http.messages import RequestHead, ResponseHead
from banish.http.targets import Target
from banish.tables import Accounts, Metric

SLOW_S = 0.005
"""A hook that runs longer than this delays every other request by as much."""

HOOK_RUNS = Metric("banish_hook_runs_total", "counter", "Times a hook was run.", ("site", "hook"))
HOOK_SECONDS = Metric("banish_hook_seconds_total", "counter", "Time spent in hooks.", ("site", "hook"))
HOOK_ERRORS = Metric(
    "banish_hook_errors_total",
    "counter",
    "Hook runs that raised; the request went on.",
    ("site", "hook"),
)
HOOK_SLOW = Metric("banish_hook_slow_total", "counter", "Hook runs of more than 5 ms.", ("site", "hook"))

HookName = Literal["on_request", "on_response"]
_PARAMETERS = {"on_request": 1, "on_response": 2}

log = structlog.get_logger(__name__)


class Hooks:
    """The hooks of one site. `has_request` and `has_response` say which there are."""

    def __init__(
        self,
        site: str,
        on_request: Callable[[HookRequest], Any] | None,
        on_response: Callable[[HookRequest, HookResponse], Any] | None,
        *,
        accounts: Accounts,
        clock: Clock,
    ) -> None:
        self._site = site
        self._on_request = on_request
        self._on_response = on_response
        self.has_request = on_request is not None
        self.has_response = on_response is not None
        self._clock = clock
        self._runs = accounts.tally(HOOK_RUNS)
        self._seconds = accounts.tally(HOOK_SECONDS)
        self._errors = accounts.tally(HOOK_ERRORS)
        self._slow = accounts.tally(HOOK_SLOW)
        self._complaints = Complaints(log, clock)

    @classmethod
    def load(cls, site: str, path: str, *, accounts: Accounts, clock: Clock) -> "Hooks":
        """Run the file and take its hooks. Raises ConfigError with the line at fault."""
        module = load_module(site, path)
        return cls(
            site,
            getattr(module, "on_request", None),
            getattr(module, "on_response", None),
            accounts=accounts,
            clock=clock,
        )

    def request(self, head: RequestHead, target: Target, *, peer: str) -> HookRequest:
        """Run `on_request` on a request. The view says what it decided, and what it read to decide so."""
        view = HookRequest(head, target, peer=peer)
        if self._on_request is None or self._run("on_request", self._on_request, view):
            return view
        untouched = HookRequest(head, target, peer=peer)
        untouched.volatile()  # that it failed may depend on anything
        return untouched

    def response(self, request: HookRequest, head: ResponseHead) -> HookResponse:
        """Run `on_response` on a response of the origin, given the view that `request` returned."""
        view = HookResponse(head)
        if self._on_response is None or self._run("on_response", self._on_response, request, view):
            return view
        return HookResponse(head)

    def _run(self, name: HookName, hook: Callable[..., Any], *views: HookRequest | HookResponse) -> bool:
        """Did it end without an exception?"""
        started = self._clock.monotonic()
        try:
            hook(*views)
        except Exception:
            self._errors.add(self._site, name)
            told = traceback.format_exc()
            self._complaints.make("hook failed", name, site=self._site, hook=name, traceback=told, url=_url(views))
            return False
        finally:
            took_s = self._clock.monotonic() - started
            self._runs.add(self._site, name)
            self._seconds.add(self._site, name, n=took_s)
            if took_s > SLOW_S:
                self._slow.add(self._site, name)
                took_ms = round(took_s * 1000, 1)
                self._complaints.make(
                    "hook is slow", name, site=self._site, hook=name, took_ms=took_ms, url=_url(views)
                )
        return True


def _url(views: tuple[HookRequest | HookResponse, ...]) -> str:
    return views[0].received_url if isinstance(views[0], HookRequest) else ""


def load_module(site: str, path: str) -> ModuleType:
    """Run a hooks file as a module of its own; raises ConfigError. Nothing is cached: a reload sees every
    edit.
    """
    module = ModuleType(f"banish_hooks_{site}")
    module.__file__ = path
    try:
        source = Path(path).read_bytes()
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)
    except OSError as error:
        raise ConfigError(Problem(path, None, "", f"cannot be read: {error.strerror}")) from error
    except SyntaxError as error:
        raise ConfigError(Problem(path, error.lineno, "", f"is not Python: {error.msg}")) from error
    except Exception as error:
        at = next((frame.lineno for frame in reversed(_frames(error)) if frame.filename == path), None)
        raise ConfigError(Problem(path, at, "", f"{type(error).__name__}: {error}")) from error
    problems = [problem for name in _PARAMETERS if (problem := _unfit(module, name, path)) is not None]
    if not any(hasattr(module, name) for name in _PARAMETERS):
        right = "def on_request(request): … or def on_response(request, response): …"
        problems.append(Problem(path, None, "", "defines no hook", right))
    if problems:
        raise ConfigError(*problems)
    return module


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    return list(traceback.extract_tb(error.__traceback__))


def _unfit(module: ModuleType, name: str, path: str) -> Problem | None:
    """What is wrong with the function of that name, if it is there."""
    hook = getattr(module, name, None)
    if hook is None:
        return None
    line = getattr(getattr(hook, "__code__", None), "co_firstlineno", None)
    if not callable(hook):
        return Problem(path, line, name, "is not a function")
    if inspect.iscoroutinefunction(hook) or inspect.isgeneratorfunction(hook):
        return Problem(path, line, name, "must be a plain function", f"write `def {name}`, without async or yield")
    try:
        inspect.signature(hook).bind(*range(_PARAMETERS[name]))
    except TypeError:
        wanted = "(request)" if name == "on_request" else "(request, response)"
        return Problem(path, line, name, "takes the wrong parameters", f"write `def {name}{wanted}`")
    return None


__all__ = ["HookAnswer", "HookFields", "HookRequest", "HookResponse", "Hooks", "load_module"]
