"""The operator: asks the admin listener without a pause, for /metrics and for every page of /objects in turn.

Run: python scrape.py PORT LIMIT. Goes on until it is told to end (SIGTERM); then prints what it got, as JSON.
"""

import http.client
import json
import os
import signal
import sys
from collections import Counter
from types import FrameType
from typing import NoReturn

got: Counter[str] = Counter()


def ask(connection: http.client.HTTPConnection, target: str) -> bytes:
    """One GET that must succeed."""
    connection.request("GET", target)
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise RuntimeError(f"{target}: {response.status}")
    return content


def work(port: int, limit: int) -> NoReturn:
    """A scrape, then a page, then a scrape …; after the last page the first again."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    after = 0
    while True:
        got["scrapes"] += len(ask(connection, "/metrics")) > 0
        page = ask(connection, f"/objects?after={after}&limit={limit}")
        got["pages"] += 1
        got["listed"] += page.count(b'"key":')
        # Not parsed: that would take the load's processor for milliseconds at a time.
        following = page.rpartition(b'"next":')[2].strip(b"}\n")
        after = 0 if following == b"null" else int(following)


def end(number: int, frame: FrameType | None) -> NoReturn:
    """Tell what was got, and stop in the middle of whatever is being asked."""
    os.write(1, json.dumps(got).encode())
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    os.nice(19)  # it shares the load's processor: the load is to be on time
    work(int(sys.argv[1]), int(sys.argv[2]))
