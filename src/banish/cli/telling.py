"""Purges on a terminal: one in full, many in a line each, what a dry run found.

The same words in the same order whether anybody looks or a file does; only colours go where they can be seen.

Not here: asking the edge (`api.py`), the purge that grows while it is waited for (`waiting.py`).
Units: moments are shown by this machine's clock and zone.
"""

import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from banish.cli.report import aligned

STYLES = {"scheduled": "cyan", "applied": "yellow", "swept": "green", "undone": "magenta", "cancelled": "magenta"}
"""Colour of each state."""

MEANINGS = {
    "scheduled": "without effect until it is due",
    "applied": "in effect; what it matched is being deleted",
    "swept": "in effect; all that it matched is gone",
    "undone": "taken back",
    "cancelled": "taken back before it was due",
}
_SOFT_MEANINGS = {
    "applied": "in effect: what it matched is stale; it can be undone for a while",
    "swept": "in effect: all that it matched is marked as stale",
}
_KINDS = ("url", "prefix", "host", "tag", "group", "pattern", "regex", "everything")


EDGE_STYLES = {"swept": "green", "applied": "green", "joined-clean": "cyan", "behind": "yellow", "unreachable": "red"}
"""Colour of each state of an edge."""


def out() -> Console:
    """Standard output. Text is printed as it is: nothing is taken for markup, and long lines run on."""
    return Console(markup=False, highlight=False, soft_wrap=True)


def target_text(target: dict[str, Any]) -> str:
    """`tag news`, `prefix https://h/blog (whole segments)`."""
    kind = next((name for name in _KINDS if name in target), "?")
    text = kind if kind == "everything" else f"{kind} {target.get(kind, '')}"
    beside = [f"{name}: {value}" for name, value in target.get("headers", {}).items()]
    if target.get("boundary"):
        beside.append("whole segments")
    if "mode" in target:
        beside.append(target["mode"])
    return f"{text} ({', '.join(beside)})" if beside else text


def show_purge(purge: dict[str, Any], to: Console) -> None:
    """One purge: what state it is in, and everything about it."""
    state = purge["state"]
    kind = "" if purge["kind"] == "purge" else f"{purge['kind']}, "
    to.print(Text.assemble((state, f"bold {STYLES.get(state, '')}"), f"  {kind}{meaning(purge)}"))
    to.print(aligned(_rows(purge)))


def meaning(purge: dict[str, Any]) -> str:
    """What its state says of what it matched."""
    if purge["kind"] in ("undo", "cancel", "join", "forget"):
        return "in effect"
    state = purge["state"]
    return _SOFT_MEANINGS.get(state, MEANINGS[state]) if purge["mode"] == "soft" else MEANINGS[state]


def _rows(purge: dict[str, Any]) -> Iterator[tuple[str, str]]:
    state = purge["state"]
    yield "id", purge["id"]
    yield "mode", purge["mode"]
    if purge["sites"]:
        yield "sites", ", ".join(purge["sites"])
    for at, target in enumerate(purge["targets"]):
        yield "targets" if at == 0 else "", target_text(target) + _count(target)
    if "matched" in purge and len(purge["targets"]) != 1:
        yield "matched", counted(purge)
    yield "at", moment(purge["at"])
    for label in ("due", "swept_at"):
        if purge.get(label):
            yield label.replace("_", " "), moment(purge[label])
    if purge.get("actor"):
        yield "by", _who(purge)
    if purge.get("copies"):
        yield "durable on", f"{purge['copies']} edge{'' if purge['copies'] == 1 else 's'} when it was answered"
    for at, edge in enumerate(purge.get("edges", ())):
        yield "edges" if at == 0 else "", f"{edge['name']}: {edge_text(edge)}"
    for label in ("reason", "about", "followed_by"):
        if purge.get(label):
            yield label.replace("_", " "), purge[label]
    for text in purge.get("widened", ()):
        yield "widened", text
    if state == "scheduled" or (state == "applied" and purge["kind"] == "purge" and purge["mode"] == "soft"):
        yield "undo", f"banish purges undo {purge['id']}"


def edge_text(edge: dict[str, Any]) -> str:
    """How far one edge is: `applied, 12.3 ms`."""
    lag = f", {edge['lag_ms']:.1f} ms" if edge.get("lag_ms") else ""
    matched = f", {counted(edge)}" if "matched" in edge else ""
    return f"{edge['state']}{lag}{matched}"


def _count(target: dict[str, Any]) -> str:
    return f"   {counted(target)}" if "matched" in target else ""


def counted(matched: dict[str, Any]) -> str:
    """`12 responses, 3.4 MiB`."""
    number = matched["matched"]
    return f"{number} response{'' if number == 1 else 's'}, {size(matched['bytes'])}"


def line(purge: dict[str, Any]) -> Text:
    """A purge in one line: when, how far, what, who, why, and by which id to ask for more."""
    state, targets = purge["state"], purge["targets"]
    kind = "" if purge["kind"] == "purge" else f"{purge['kind']} "
    what = target_text(targets[0]) if targets else purge.get("about", "")
    more = f" and {len(targets) - 1} more" if len(targets) > 1 else ""
    where = f" of {', '.join(purge['sites'])}" if purge["sites"] else ""
    who = f"  by {_who(purge)}" if purge.get("actor") else ""
    why = f"  “{purge['reason']}”" if purge.get("reason") else ""
    return Text.assemble(
        (moment(purge["at"]), "dim"),
        "  ",
        (f"{state:<9}", STYLES.get(state, "")),
        f"  {purge['mode']:<4}  {kind}{what}{more}{where}{who}{why}  ",
        (purge["id"], "dim"),
    )


def _who(purge: dict[str, Any]) -> str:
    return f"{purge['actor']} from {purge['source']}" if purge.get("source") else str(purge["actor"])


def show_dry_run(run: dict[str, Any], to: Console) -> None:
    """What would be purged."""
    at_least = "" if run["complete"] else "at least "
    to.print(Text.assemble(("dry run", "bold cyan"), f"  nothing was purged; {at_least}{counted(run)} would be"))
    rows = [("mode", run["mode"])]
    rows += [("sites", ", ".join(run["sites"]))] if run["sites"] else []
    rows += [
        ("targets" if at == 0 else "", target_text(target) + _count(target)) for at, target in enumerate(run["targets"])
    ]
    per_s, per_min = run["origin_requests_first_second"], run["origin_requests_first_minute"]
    rows.append(("origin", f"about {per_s:.3g} more requests in the first second, {per_min:.3g} in the first minute"))
    rows += [
        ("such as" if at == 0 else "", f"{sample['url']}   {size(sample['bytes'])}, {sample['hits_per_s']:.3g} hits/s")
        for at, sample in enumerate(run["samples"])
    ]
    rows += [("widened", text) for text in run["widened"]]
    to.print(aligned(rows))


def moment(at: float) -> str:
    """A moment on this machine's clock."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def size(count: float) -> str:
    """Bytes, for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1024
    return f"{count:.3g} TiB"
