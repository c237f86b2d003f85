"""Measure what purging does: `make bench-purge`, or one part of it: `python bench/purge/run.py --part effect`.

    restart   seconds from the start of the process to the first hit
    effect    how long until a purge is in effect, and until it is swept
    hits      what a hit costs after many purges
    intake    targets a second, and what hits lose meanwhile
    rivals    the same beside Varnish and nginx

Each part writes a page of its own. Exit status 1: a part is not as it should be. The race is race.py.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from banish.edge.config import Log
from banish.edge.logs import configure_logging
from bench.hit.report import machine, write_part
from bench.purge import effect, hits, intake, restart, rivals
from bench.purge.systems import versions

HERE: Final = Path(__file__).resolve().parent
PARTS: Final[dict[str, tuple[ModuleType, str]]] = {
    "restart": (restart, "Restart with many stored responses"),
    "effect": (effect, "How long until a purge is in effect"),
    "hits": (hits, "Hits after many purges"),
    "intake": (intake, "How many targets a second"),
    "rivals": (rivals, "Purging beside Varnish and nginx"),
}


def main() -> int:
    """Run; returns the exit status."""
    options = _options()
    if not sys.platform.startswith("linux") or shutil.which("cc") is None:
        print("bench/purge needs Linux (epoll, processor affinity) and a C compiler called cc")
        return 2
    configure_logging(Log(level="error"))
    failed = []
    for name in options.parts.split(","):
        part, title = PARTS[name]
        with tempfile.TemporaryDirectory(prefix="bench-purge-", dir=options.directory) as scratch:
            Path(scratch).chmod(0o755)  # nginx's worker gives up root
            found = part.measure(options, Path(scratch), options.cpus[0], options.cpus[-1])
        if not options.smoke and not part.passes(found):
            failed.append(name)
        write_part(name, title, options.results, _facts(name, options.note), found, part.page(found))
    if failed:
        print(f"not as it should be: {', '.join(failed)}")
    return int(bool(failed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="which, separated by commas (%(default)s)")
    parser.add_argument("--sizes", type=_numbers, default=[1000, 1_000_000], help="stored responses (1000,1000000)")
    parser.add_argument("--purges", type=int, default=400, help="of which the effect is timed (%(default)s)")
    parser.add_argument("--earlier", type=_numbers, default=[0, 10_000, 1_000_000], help="purges (0,10000,1000000)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3, help="length of one measurement (%(default)s)")
    parser.add_argument("--starts", type=int, default=5, help="of each kind (%(default)s)")
    parser.add_argument("--urls", type=int, default=1000, help="that are asked for (%(default)s)")
    parser.add_argument("--rival-sizes", type=_numbers, default=[1000, 100_000], help="(1000,100000)")
    parser.add_argument("--bans", type=int, default=10_000, help="before hits beside others (%(default)s)")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where files go (%(default)s)")
    parser.add_argument("--keep", type=Path, help="where filled stores are found and left for another run")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="directory of the result files")
    parser.add_argument("--note", default="", help="what else the results should say of the machine")
    parser.add_argument("--smoke", action="store_true", help="the smallest run that goes everywhere; writes no file")
    options = parser.parse_args()
    options.cpus = sorted(os.sched_getaffinity(0))
    if options.smoke:
        options.sizes, options.earlier, options.purges, options.starts = [200, 400], [0, 100, 1000], 8, 1
        options.rounds, options.seconds, options.urls, options.results = 1, 0.2, 20, None
        options.rival_sizes, options.bans = [200, 400], 20
    return options


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _facts(name: str, note: str) -> dict[str, str]:
    """What the figures depend on."""
    facts = {**machine(), **versions(), "command": f"python bench/purge/run.py --parts {name}"}
    return {**facts, "note": note} if note else facts


if __name__ == "__main__":
    sys.exit(main())
