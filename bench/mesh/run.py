"""Measure the mesh with real processes: `make bench-mesh`, or one part: `python bench/mesh/run.py --parts overhead`.

    overhead    from a purge sent to one edge until it is in effect at the others, less the delay between them
    intake      targets a second through all edges; how fast an edge catches up that was away

Each part writes a page of its own. Exit status 1: a part is not as it should be.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.hit.report import machine, write_part
from bench.mesh import intake, overhead

HERE: Final = Path(__file__).resolve().parent
PARTS: Final[dict[str, tuple[ModuleType, str]]] = {
    "overhead": (overhead, "A purge across the mesh, above the one-way delay"),
    "intake": (intake, "Targets a second through the mesh"),
}


def main() -> int:
    """Run; returns the exit status."""
    options = _options()
    failed = []
    for name in options.parts.split(","):
        part, title = PARTS[name]
        with tempfile.TemporaryDirectory(prefix="bench-mesh-", dir=options.directory) as scratch:
            found = part.measure(options, Path(scratch))
        if not options.smoke and not part.passes(found):
            failed.append(name)
        write_part(name, title, options.results, _facts(name, options.note), found, part.page(found))
    if failed:
        print(f"not as it should be: {', '.join(failed)}")
    return int(bool(failed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="which, separated by commas (%(default)s)")
    parser.add_argument("--purges", type=int, default=500, help="of which the effects are timed (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="of intake (%(default)s)")
    parser.add_argument("--missed", type=int, default=500_000, help="targets to catch up on (%(default)s)")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where files go (%(default)s)")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="directory of the result files")
    parser.add_argument("--note", default="", help="what else the results should say of the machine")
    parser.add_argument("--smoke", action="store_true", help="the smallest run that goes everywhere; writes no file")
    options = parser.parse_args()
    if options.smoke:
        options.purges, options.seconds, options.missed, options.results = 5, 0.4, 1000, None
    return options


def _facts(name: str, note: str) -> dict[str, str]:
    """What the figures depend on."""
    facts = {fact: value for fact, value in machine().items() if fact != "nginx"}
    facts["command"] = f"python bench/mesh/run.py --parts {name}"
    return {**facts, "note": note} if note else facts


if __name__ == "__main__":
    sys.exit(main())
