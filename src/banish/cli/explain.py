"""`banish explain URL`: ask a running edge what it would do with a request, and why.

Not here: the answer itself (`admin/explain.py`).
"""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from banish.cli.api import Api
from banish.cli.report import aligned
from banish.cli.telling import moment, target_text

_STYLES = {"hit": "green", "stale": "yellow", "revalidate": "yellow"}


def ask(admin: str, url: str, headers: list[str], token: str | None) -> dict[str, Any]:
    """The edge's answer. Raises CannotAsk."""
    query = [("url", url), *[("header", header) for header in headers]]
    answer: dict[str, Any] = Api(admin, token).get("/explain", query)
    return answer


def show(answer: dict[str, Any], out: Console) -> None:
    """The answer, for people."""
    verdict = answer["answer"]
    out.print(Text.assemble((verdict, f"bold {_STYLES.get(verdict, 'red')}"), f"  {answer['why']}"))
    rows = [("url", answer["url"])]
    if answer.get("site") is not None:
        rows += [("site", answer["site"]), ("key", answer["key"])]
    if answer.get("hooks"):
        rows.append(("note", "the site has hooks; they were not run"))
    if (by := answer.get("purged_by")) is not None:
        rows += _purge_rows("purged", by)
    elif not answer["stored"] and answer["answer"] == "forward":
        rows.append(("hint", "if it stays so: `detail` in the Cache-Status of its response says why"))
    out.print(aligned(rows))
    for variant in answer["variants"]:
        fresh = "fresh" if variant["fresh"] else "soft-purged" if variant["soft_purged"] else "stale"
        mark, style = ("▸ ", "bold") if variant["chosen"] else ("  ", "")
        out.print(Text(f"\n{mark}stored {variant['status']}, {fresh}", style=style))
        out.print(aligned(_variant_rows(variant), indent="    "))


def _purge_rows(label: str, by: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Which purge it was, who asked for it, when and why."""
    if by["id"] is None:
        yield label, f"by purge number {by['index']} of this edge; its log does not go back that far"
        return
    who = f" by {by['actor']} from {by['source']}" if by["actor"] else ""
    kind = f"{by['mode']} purge" if by["kind"] == "purge" else by["kind"]
    yield label, f"{moment(by['at'])}{who}, {kind} {by['id']}"
    more = by["targets_in_all"] - len(by["targets"])
    shown = ", ".join([target_text(target) for target in by["targets"]])
    yield "of", shown + (f" and {more} more" if more else "")
    if by["reason"]:
        yield "reason", by["reason"]


def _variant_rows(variant: dict[str, Any]) -> Iterator[tuple[str, str]]:
    heuristic = " (heuristic)" if variant["lifetime_is_heuristic"] else ""
    yield "age", f"{variant['age_s']:g} s of {variant['lifetime_s']:g} s{heuristic}"
    yield "ttl", f"{variant['ttl_s']:g} s"
    if variant["soft_purged_by"] is not None:
        yield from _purge_rows("purged", variant["soft_purged_by"])
    yield "body", f"{variant['body_bytes']} bytes{' (a part)' if variant['partial'] else ''}"
    for name, value in variant["vary"].items():
        yield "varies on", f"{name}: {value if value is not None else '(absent)'}"
    for label in ("tags", "groups"):
        if variant[label]:
            yield label, ", ".join(variant[label])
    for label in ("etag", "last_modified", "content_type", "cache_control"):
        if variant[label]:
            yield label.replace("_", "-"), variant[label]
