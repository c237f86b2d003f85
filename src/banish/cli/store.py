"""`banish store`: look after what an edge keeps on disk, while the edge is stopped.

Not here: the checks themselves (`banish.store.check`).
"""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def store() -> None:
    """Look after what an edge keeps on disk."""


@app.command()
def check(
    data: Annotated[Path, typer.Argument(metavar="DATA_DIR", help="The edge's `data`. The edge must be stopped.")],
) -> None:
    """Check."""
