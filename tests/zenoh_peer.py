"""An edge's transport in a process of its own, to be killed and stopped: `python -m tests.zenoh_peer FILE`.

FILE says in JSON who it is, with whom, over what. It says on standard output, a line each: `linked NAME`, `unlinked
NAME`, `record TEXT`. What it reads from standard input it publishes as a record.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from banish.mesh.invitations import KeptMember
from banish.mesh.transport import Receiver
from banish.mesh.zenoh_config import Credentials, Topology
from banish.mesh.zenoh_transport import ZenohTransport


def say(*words: str) -> None:
    print(*words, flush=True)  # noqa: T201


async def main(told: dict[str, Any]) -> None:
    members = [KeptMember(**one).member for one in told["members"]]
    names = {member.edge: member.name for member in members}
    me = next(member for member in members if member.name == told["name"])
    files = told["credentials"]
    credentials = Credentials(*[Path(file) for file in files]) if isinstance(files, list) else None
    transport = ZenohTransport(me, topology=Topology(told["topology"]), credentials=credentials)

    async def on_pull(data: bytes) -> Sequence[bytes]:
        return (b"from " + me.name.encode(), data)

    async def on_counts(data: bytes) -> bytes:
        return data

    receiver = Receiver(
        on_record=lambda data: say("record", data[:64].decode().strip("\0")),
        on_digest=lambda data: None,
        on_ack=lambda data: None,
        on_link=lambda edge, up: say("linked" if up else "unlinked", names[edge]),
        on_pull=on_pull,
        on_counts=on_counts,
    )
    await transport.start(members, receiver)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        transport.publish_record(line.strip())
    await transport.stop()


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
