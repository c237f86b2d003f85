"""Purging over HTTP, one request after the other on a connection that stays open, and how long each took."""

import http.client
import json
import time
from typing import Any, Final

WAIT_S: Final = 60.0


class Admin:
    """The admin listener of one edge, on one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2 * WAIT_S)

    def close(self) -> None:
        self._connection.close()

    def purge(self, *targets: dict[str, Any]) -> tuple[float, str]:
        """Purge; how many seconds until that was acknowledged, and its id."""
        body = json.dumps({"targets": list(targets)})
        began = time.perf_counter()
        self._connection.request("POST", "/purges", body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        told = response.read()
        took_s = time.perf_counter() - began
        if response.status != 202:
            raise RuntimeError(f"POST /purges: {response.status} {told.decode()}")
        return took_s, str(json.loads(told)["id"])

    def swept(self, id_: str) -> dict[str, Any]:
        """The purge, once all that it matched is gone."""
        while True:
            state = self.get(f"/purges/{id_}?wait=swept&timeout={WAIT_S:g}")
            if state["state"] == "swept":
                return state

    def get(self, target: str) -> dict[str, Any]:
        """What is at a path."""
        self._connection.request("GET", target)
        response = self._connection.getresponse()
        told = response.read()
        if response.status != 200:
            raise RuntimeError(f"GET {target}: {response.status} {told.decode()}")
        found: dict[str, Any] = json.loads(told)
        return found
