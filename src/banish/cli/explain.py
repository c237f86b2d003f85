"""`banish explain URL`: ask a running edge what it would do with a request, and why.

Not here: the answer itself (`admin/explain.py`).
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from banish.cli.report import aligned

ASK_S = 10.0
_STYLES = {"hit": "green", "stale": "yellow", "revalidate": "yellow"}


class CannotAsk(Exception):
    """The edge gave no answer; says why and what to do."""


def ask(admin: str, url: str, headers: list[str], token: str | None) -> dict[str, Any]:
    """The edge's answer. Raises CannotAsk."""
    query = urllib.parse.urlencode([("url", url), *[("header", header) for header in headers]])
    where = admin if "://" in admin else f"http://{admin}"
    request = urllib.request.Request(f"{where.rstrip('/')}/explain?{query}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    # No proxy from the environment: the admin listener is on this machine or in its network.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=ASK_S) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        hint = {401: "; give it with --token or BANISH_TOKEN", 404: "; is that its --admin?"}.get(error.code, "")
        raise CannotAsk(f"{admin} refused ({error.code}): {_reason(error)}{hint}") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise CannotAsk(f"no edge answers on {admin} ({why}); is that its --admin?") from error


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return error.reason


def show(answer: dict[str, Any], out: Console) -> None:
    """The answer, for people."""
    verdict = answer["answer"]
    out.print(Text.assemble((verdict, f"bold {_STYLES.get(verdict, 'red')}"), f"  {answer['why']}"))
    rows = [("url", answer["url"])]
    if answer.get("site") is not None:
        rows += [("site", answer["site"]), ("key", answer["key"])]
    if answer.get("hooks"):
        rows.append(("note", "the site has hooks; they were not run"))
    if not answer["stored"] and answer["answer"] == "forward":
        rows.append(("hint", "if it stays so: `detail` in the Cache-Status of its response says why"))
    out.print(aligned(rows))
    for variant in answer["variants"]:
        fresh = "fresh" if variant["fresh"] else "soft-purged" if variant["soft_purged"] else "stale"
        mark, style = ("▸ ", "bold") if variant["chosen"] else ("  ", "")
        out.print(Text(f"\n{mark}stored {variant['status']}, {fresh}", style=style))
        out.print(aligned(_variant_rows(variant), indent="    "))


def _variant_rows(variant: dict[str, Any]) -> Iterator[tuple[str, str]]:
    heuristic = " (heuristic)" if variant["lifetime_is_heuristic"] else ""
    yield "age", f"{variant['age_s']:g} s of {variant['lifetime_s']:g} s{heuristic}"
    yield "ttl", f"{variant['ttl_s']:g} s"
    yield "body", f"{variant['body_bytes']} bytes{' (a part)' if variant['partial'] else ''}"
    for name, value in variant["vary"].items():
        yield "varies on", f"{name}: {value if value is not None else '(absent)'}"
    for label in ("tags", "groups"):
        if variant[label]:
            yield label, ", ".join(variant[label])
    for label in ("etag", "last_modified", "content_type", "cache_control"):
        if variant[label]:
            yield label.replace("_", "-"), variant[label]
