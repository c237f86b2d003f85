"""`banish`, told to bring stored bodies to its clients in another way than it does: python edge.py WAY serve …

sendfile   as it is: runs are verified and in the page cache, then the kernel sends them
runs       no sendfile, as over TLS: runs of 1 MiB read into memory, the next one ahead, then written
short      no read-ahead either: 64 KiB read and written, one after the other
pages      the same, by 4 KiB
"""

import os
import sys

from banish.cli.main import app
from banish.store import readers

WAYS = ("sendfile", "runs", "short", "pages")
PAGE_BYTES = 4096


def main() -> None:
    """Change what the way asks for, and go on as the command line does."""
    way = WAYS.index(sys.argv.pop(1))
    if way >= WAYS.index("runs"):
        del os.sendfile
    if way >= WAYS.index("short"):
        readers.HELD_RUNS_MAX = 0
    if way >= WAYS.index("pages"):
        readers.READ_BYTES = PAGE_BYTES
    app()


if __name__ == "__main__":
    main()
