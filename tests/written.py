"""A transport that only remembers what was written to it."""

import asyncio
from collections.abc import Iterable


class Written(asyncio.WriteTransport):
    """`data` is all that was written; `calls` how it was."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.calls: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.calls.append("write")
        self.data += data

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.calls.append("writelines")
        self.data += b"".join(list_of_data)
