"""The results of a run as one page for people and one document for programs."""

import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from bench.hit.measure import Case, Sample
from bench.hit.servers import NGINX, ROOT

YARDSTICK: Final = "nginx"


class Results(NamedTuple):
    """All that was measured. `samples[case][server]` holds one sample a round."""

    method: dict[str, str]
    samples: dict[Case, dict[str, list[Sample]]]
    calls: dict[Case, dict[str, dict[str, float]]]


def machine() -> dict[str, str]:
    """What the figures depend on."""
    model = [line.partition(":")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    packages = [f"{name} {importlib.metadata.version(name)}" for name in ("uvloop", "httptools")]
    return {
        "CPU": f"{model[0].strip() if model else platform.machine()}, {os.cpu_count()} CPUs",
        "system": f"{platform.system()} {platform.release()}",
        "TCP congestion control": congestion.read_text().strip() if congestion.exists() else "unknown",
        "Python": ", ".join([platform.python_version(), *packages]),
        "nginx": _says([NGINX, "-v"]) if NGINX else "not installed",
        "strace": _says(["strace", "--version"]) if shutil.which("strace") else "not installed",
        "compiler": _says(["cc", "--version"]),
        "commit": _says(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]),
        "load average at the end": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }


def _says(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else "unknown"


def ratios(rows: dict[str, list[Sample]], name: str) -> list[float]:
    """CPU per request over nginx's, round by round; empty without nginx."""
    return [ours.cpu_us / theirs.cpu_us for ours, theirs in zip(rows[name], rows.get(YARDSTICK, []), strict=False)]


def table(rows: dict[str, list[Sample]]) -> str:
    """One case as a Markdown table: medians over the rounds."""
    lines = [
        "| server | CPU µs a hit | × nginx | × nginx, each round | hits/s | p50 µs | p99 µs | load's CPU |",
        "|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    for name, samples in rows.items():
        found = ratios(rows, name)
        each = " ".join(f"{ratio:.2f}" for ratio in found)
        overall = f"{median(found):.2f}" if found else ""
        middle = [median(sample[at] for sample in samples) for at in range(len(Sample._fields))]
        _, cpu_us, rate, p50_us, p99_us, load_share = middle
        lines.append(
            f"| {name} | {cpu_us:.2f} | {overall} | {each} | {rate:,.0f} | {p50_us:.0f} | {p99_us:.0f} "
            f"| {load_share:.0%} |"
        )
    return "\n".join(lines)


def calls_table(rows: dict[str, dict[str, float]]) -> str:
    """System calls per hit as a Markdown table; those below one in a hundred hits are left out."""
    lines = ["| server | in all | by name |", "|---|---:|---|"]
    for name, calls in rows.items():
        shown = sorted(((count, call) for call, count in calls.items() if count >= 0.01), reverse=True)
        by_name = ", ".join(f"{call} {count:.2f}" for count, call in shown)
        lines.append(f"| {name} | {sum(calls.values()):.2f} | {by_name} |")
    return "\n".join(lines)


def page(date: str, results: Results) -> str:
    """The whole result for people."""
    parts = [f"# What a hit costs, {date}", "Method: [README](../README.md). Medians over the rounds."]
    facts = {**machine(), **results.method}
    parts.append("\n".join(f"- {name}: {value}" for name, value in facts.items()))
    for case, rows in results.samples.items():
        parts += [f"## {case}", table(rows)]
        if calls := results.calls.get(case):
            parts += ["System calls per hit:", calls_table(calls)]
    return "\n\n".join(parts) + "\n"


def document(date: str, results: Results) -> str:
    """The whole result for programs."""
    cases = [
        {
            "size_bytes": case.size,
            "browser_fields": case.fields,
            "rounds": {name: [sample._asdict() for sample in samples] for name, samples in rows.items()},
            "cpu_ratio_to_nginx": {name: ratios(rows, name) for name in rows},
            "system_calls_per_hit": results.calls.get(case, {}),
        }
        for case, rows in results.samples.items()
    ]
    whole = {"date": date, "machine": machine(), "method": results.method, "cases": cases}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


UNWANTED: Final = {"strace", "TCP congestion control", "compiler"}
"""Facts that say nothing where no system calls are counted and nothing is compiled."""


def write_part(
    name: str, title: str, results: Path | None, facts: dict[str, str], found: Any, lines: list[str]
) -> None:
    """The result of one part of a benchmark: a page for people, which is printed too, and a document for programs."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    told = [f"- {fact}: {value}" for fact, value in facts.items() if fact not in UNWANTED]
    method = f"Method: [README](../README.md#{name})."
    text = "\n".join([f"# {title}, {date}", "", method, "", *lines, "", *told, ""])
    print(text, flush=True)
    if results is not None:
        results.mkdir(parents=True, exist_ok=True)
        (results / f"{date}-{name}.md").write_text(text)
        (results / f"{date}-{name}.json").write_text(json.dumps({**found, "facts": facts}, indent=1) + "\n")
